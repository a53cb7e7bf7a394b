"""What the README shows is what happens."""

import json
import re
from pathlib import Path
from typing import Any

from tests.system.service import running

README = (Path(__file__).parents[2] / "README.md").read_text()
STEP = re.compile(r"→ (\S+)(?: +Idempotency-Key: (\S+))?\n(\{.*\})\n← (\{.*\})")
PLACEHOLDER = re.compile(r'"((?:eyJ|hrt_)…\d)"')


async def test_the_session(tmp_path: Path) -> None:
    """The seed is applied, each request is sent as shown, each answer is as shown; `…` stands for a token."""
    (seed,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (session,) = re.findall(r"```session\n(.*?)```", README, re.DOTALL)
    steps = STEP.findall(session)
    assert len(steps) == session.count("→") >= 5
    seen: dict[str, str] = {}
    with running(tmp_path / "data", seed=seed) as service:
        async with service.client() as web:
            for subject, key, request, expected in steps:
                sent = PLACEHOLDER.sub(lambda match: f'"{seen[match[1]]}"', request)
                headers = {"Idempotency-Key": key} if key else None
                reply = await web.connection.request(subject, sent.encode(), headers=headers, timeout=5)
                _compare(json.loads(reply.data), json.loads(expected), seen)


def _compare(answer: dict[str, Any], expected: dict[str, Any], seen: dict[str, str]) -> None:
    """Equal but for placeholders: the first time one stands for a value, afterwards for that same value."""
    assert list(answer) == list(expected)
    for name, shown in expected.items():
        if isinstance(shown, str) and "…" in shown:
            assert answer[name].startswith(shown.partition("…")[0])
            assert seen.setdefault(shown, answer[name]) == answer[name]
        else:
            assert answer[name] == shown
    assert len(set(seen.values())) == len(seen), "two placeholders for one token"
