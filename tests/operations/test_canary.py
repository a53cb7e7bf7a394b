"""A canary of each kind of secret, searched afterwards in everything that the service wrote or shows."""

import base64
import json
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client

from heirloom.broker import credentials
from heirloom.broker.roles import BESIDE, STREAMS
from tests import leaks
from tests.operations.collector import Collector
from tests.operations.http import get
from tests.system.service import Caller, Service
from tests.system.workspace import CHALLENGE, REDIRECT, poll, redemption

IDEMPOTENCY_KEY = "canary-9f8e7d6c5b4a39281706f5e4d3c2b1a0"


async def sing(service: Service) -> dict[str, str]:
    """Issue one secret of each kind, use it, reuse it, misuse it; the secrets by name."""
    canaries: dict[str, str] = {"idempotency key": IDEMPOTENCY_KEY}
    async with service.client() as web, service.client("opaque") as login, service.client("tv") as tv:
        first = await web.issue(scope="openid read offline_access")
        canaries |= {"refresh token": first["refresh_token"], "id token": first["id_token"]}
        second = await web.refresh(first["refresh_token"], key=IDEMPOTENCY_KEY)
        canaries |= {"its successor": second["refresh_token"], "access token": second["access_token"]}
        canaries["opaque access token"] = (await login.issue(scope="read"))["access_token"]
        async with service.client("app") as app:
            request = {
                "client_id": "app",
                "sub": "alice",
                "scope": "read offline_access",
                "redirect_uri": REDIRECT,
                "code_challenge": CHALLENGE,
                "code_challenge_method": "S256",
            }
            canaries["code"] = (await login.ask("authorize", request))["code"]
            for _ in range(2):  # the second time counts as a theft
                await app.ask("token", redemption(canaries["code"]))
        started = await tv.ask("device_authorization", {})
        canaries |= {"device code": started["device_code"], "user code": started["user_code"]}
        await tv.ask("token", poll(canaries["device code"]))
        await login.ask("authorize", {"user_code": canaries["user code"], "sub": "alice", "approved": True})
        await tv.ask("token", poll(canaries["device code"]))
        canaries["client secret"] = await use_a_secret(service, canaries)
        for what in ("token", "introspect", "revoke", "issue", "nothing"):
            for text in canaries.values():
                await misuse(web, what, text)
        await web.refresh(first["refresh_token"])  # a theft
    return canaries


async def use_a_secret(service: Service, canaries: dict[str, str]) -> str:
    """A confidential client's secret at the edge: right, wrong, and a token in its place."""
    async with service.role("operator") as operator, service.role("edge") as edge:
        settings = {"client_id": "confidential", "grant_types": ["client_credentials"], "scope": "read"}
        made = await operator.ask("admin.acme.client.put", settings | {"generate_secret": True}, seconds=30)
        secret: str = made["client_secret"]
        for password in (secret, secret + "x", canaries["refresh token"]):
            basic = "Basic " + base64.b64encode(f"confidential:{password}".encode()).decode()
            await edge.ask(
                "oauth.acme.edge.token", {"grant_type": "client_credentials"}, headers={"Authorization": basic}
            )
        return secret


async def misuse(web: Caller, what: str, secret: str) -> None:
    """Send a secret where none belongs: in every parameter, as a key, as half of a JSON document."""
    for body in (
        {
            "token": secret,
            "grant_type": secret,
            "refresh_token": secret,
            "scope": secret,
            "sub": secret,
            secret: secret,
        },
        f'{{"token": "{secret}'.encode(),
        secret.encode(),
    ):
        if what != "nothing":
            await web.ask(what, body)
    await web.connection.publish(f"oauth.acme.client.web.{secret}", secret.encode())  # there is no such endpoint


def hidden(service: Service) -> dict[str, str]:
    """Secrets that only the service itself knows."""
    keyring = json.loads((service.data / "keyring.json").read_text())
    known = credentials.load(service.data)
    return {
        "keyring": keyring["secrets"][0]["secret"],
        "keyring, raw": base64.b64decode(keyring["secrets"][0]["secret"]).decode("latin1"),
        "client key": known.client_key,
        "issuer seed": known.issuer_seed,
        "notary's key": (service.data / "notary.key").read_text().strip(),
    } | {f"password of {role}": password for role, password in known.passwords.items()}


async def messages(connection: Client) -> AsyncIterator[bytes]:
    """Every message of every stream, with subject and headers: the files on the disk are compressed."""
    for name in (*STREAMS, *BESIDE):
        seq = 1
        while True:
            request = msgspec.json.encode({"seq": seq, "next_by_subj": ">"})
            found = json.loads((await connection.request(f"$JS.API.STREAM.MSG.GET.{name}", request, timeout=5)).data)
            if "message" not in found:
                break
            message = found["message"]
            headers, data = (base64.b64decode(message.get(field, "")) for field in ("hdrs", "data"))
            yield b"\n".join((message["subject"].encode(), headers, data))
            seq = message["seq"] + 1


def rows(path: Path) -> bytes:
    """A database as text; its file may hold a long value in pieces."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return "\n".join(database.iterdump()).encode()


async def test_no_canary_is_found(service: Service, collector: Collector) -> None:
    """In no stream, file, read model, log, metric or trace, nor in the output of `ps`."""
    canaries = await sing(service) | hidden(service)
    async with service.role("auditor") as auditor:
        position = await auditor.ask("audit.acme.position", {})
        await auditor.ask("audit.acme.revocations", {"min_seq": position["log_seq"]})
    written = {str(path.relative_to(service.data)): path.read_bytes() for path in leaks.files(service.data)}
    assert {"read-model.db", "replica-1.log", "notary.log", "nats.log"} <= written.keys()
    written["standard error"] = (service.data.parent / f"{service.data.name}.out").read_bytes()
    written["rows"] = rows(service.data / "read-model.db")
    written["metrics"] = (await get(service, "/metrics")).body.encode()
    written["ps"] = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
    connection = await service.own("backup")
    written["streams"] = b"\n".join([message async for message in messages(connection)])
    await connection.close()
    written["traces"] = b"\n".join(collector.bodies)
    assert b"oauth token" in written["traces"]
    assert b"TokenReuseDetected" in written["streams"]
    assert b"family" in written["rows"]
    found = [
        f"{kind} in {where}"
        for kind, canary in canaries.items()
        for where, content in written.items()
        if any(piece in content for piece in pieces(canary))
    ]
    assert not found


def pieces(secret: str) -> list[bytes]:
    """The secret, and the part of a token that is secret by itself: a JWT's signature, or our tag."""
    if secret.startswith("eyJ"):  # not for raw bytes, which may hold a point, with nothing after it
        return [secret.encode(), secret.rpartition(".")[2].encode()]
    tag = [secret[-30:].encode()] if secret.startswith(("hrt_", "hac_", "hdc_", "hat_")) else []
    return [secret.encode("latin1"), *tag]


@pytest.mark.parametrize("kind", ["hrt_" + "a" * 60, "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9." + "s" * 86])
def test_a_leak_is_found(tmp_path: Path, kind: str) -> None:
    """The search finds tokens, and leaves out the files that are meant for secrets."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "some.log").write_text(f"refused {kind}!")
    (tmp_path / "keyring.json").write_text(kind)
    assert leaks.tokens(leaks.files(tmp_path)) == [f"some.log: {kind[:4]}…"]
