"""What the README shows is what happens."""

import json
import re
from typing import Any

from tests.system.conftest import README
from tests.system.service import Service

STEP = re.compile(r"→ (\S+)(?: +Idempotency-Key: (\S+))?\n(\{.*\})\n← (\{.*\})")
PLACEHOLDER = re.compile(r'"((?:eyJ|hrt_)…\d)"')


async def test_the_session(alone: Service) -> None:
    """After the seed, each request is sent as shown, each answer is as shown; `…` stands for a token."""
    (session,) = re.findall(r"```session\n(.*?)```", README.read_text(), re.DOTALL)
    steps = STEP.findall(session)
    assert len(steps) == session.count("→") >= 5
    seen: dict[str, str] = {}
    async with alone.client() as web:
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
