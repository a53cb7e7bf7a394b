"""Foreign messages in a running service's log, written with the appender's own credentials (ADR 0024).

Only the appender can write them; should it ever be turned, the service goes on, and the evidence names them.
"""

import base64
import itertools
import json
import re
import subprocess
from pathlib import Path

from tests.system.service import HEIRLOOM, Service, running

FOREIGN = {
    "tokens.public.jwks": b"{}",
    "tokens.acme.tenant": b"{}",
    "tokens.acme.client.web": b"\xff\x00",
    "tokens.acme.client.nobody": b'{"v":1}',
    "tokens.acme.key.unknown": b"{}",
    "tokens.acme.family.unknown.live": b"{}",
    "tokens.acme.family.unknown.revoked": b"[]",
    "tokens.acme.family.a\x0bb.live": b"{}",
    "tokens.acme.something.else": b"{}",
}


def _heirloom(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HEIRLOOM, *arguments, "--data", service.data], capture_output=True, text=True, check=False, timeout=60
    )


async def _write(service: Service, family_id: str) -> list[int]:
    """Write the foreign messages, two of them into a live family; their sequences."""
    subjects = FOREIGN | {f"tokens.acme.family.{family_id}.{end}": b"{}" for end in ("live", "revoked")}
    connection = await service.own()
    written = []
    headers = itertools.cycle(({}, {"Status": "503"}, {"Status": "404"}, {"A": "b" * 9000}))
    for subject, body in subjects.items():
        reply = await connection.request(subject, body, timeout=5, headers=next(headers))
        written.append(json.loads(reply.data)["seq"])
    await connection.close()
    return written


async def test_the_service_goes_on_and_its_evidence_names_them(tmp_path: Path) -> None:
    """Refresh, block, disable and restart work; `verify` exits with 1, a backup is restored with their sequences."""
    with running(tmp_path / "data") as service:
        async with service.client() as web, service.client("other") as other:
            first, second = await web.issue("alice"), await other.issue("bob", "read offline_access")
        foreign = await _write(service, json.loads(_claims(first["access_token"]))["sid"])
        assert service.stop() == 0
        service.start()
        async with service.client() as web, service.role("operator") as operator, service.client("api") as api:
            renewed = await web.refresh(first["refresh_token"])
            assert await api.active(renewed["refresh_token"]) and await api.active(second["refresh_token"])
            blocked = await operator.ask("admin.acme.subject.block", {"sub": "alice"})
            assert blocked["revoked_families"] == 1
            disabled = await operator.ask("admin.acme.client.disable", {"client_id": "other"})
            assert disabled["revoked_families"] == 1
            for token in (renewed["refresh_token"], renewed["access_token"], second["refresh_token"]):
                assert not await api.active(token)
        for shown in (("url", "--client", "acme/web"), ("audit", "export", "--into", str(tmp_path / "exported"))):
            assert _heirloom(service, *shown).returncode == 0, _heirloom(service, *shown)
        verified = _heirloom(service, "audit", "verify")
        assert verified.returncode == 1
        counted = json.loads(_heirloom(service, "audit", "verify", "--json").stdout)
        assert counted["messages"] - counted["commits"] == counted["foreign_count"] == len(foreign)
        assert f"read {counted['commits']:,} commits of " in verified.stdout, verified
        assert f"; foreign messages: {len(foreign)} (" in verified.stdout, verified
        for seq in foreign:
            assert re.search(rf"\b{seq}\b", verified.stdout + verified.stderr), verified
        backed_up = _heirloom(service, "backup", str(tmp_path / "backup"))
        assert backed_up.returncode == 1 and "--accept-foreign" in backed_up.stdout + backed_up.stderr
    into = tmp_path / "restored"
    restore = [str(HEIRLOOM), "restore", "--data", str(into), str(tmp_path / "backup")]
    refused = subprocess.run(restore, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and not into.exists()
    accepting = [part for seq in foreign for part in ("--accept-foreign", str(seq))]
    restored = subprocess.run([*restore, *accepting], capture_output=True, text=True, check=False)
    assert restored.returncode == 0, restored.stderr


def _claims(token: str) -> bytes:
    payload = token.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
