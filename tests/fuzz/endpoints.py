"""Arbitrary requests to every endpoint of a running service, many at once."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import NamedTuple

from nats.aio.client import Client

from projections.queries.server import QUERIES
from service.admin.operations import OPERATIONS
from tests.fuzz.mutation import mutants
from tests.fuzz.parsers import JWT, QUESTIONS, REQUESTS
from tests.fuzz.run import Crash
from tests.system.service import Caller, Service

AT_ONCE = 64
ANSWER_SECONDS = 30
STATUSES = {"400", "401", "403", "429", "503"}
PROVED = ("token", "issue", "authorize", "device_authorization", "revoke", "introspect")
LISTS = ("family", "families", "revocations", "incidents", "position")
ORDERS = [
    b'{"client_id": "fuzz", "scope": "read", "grant_types": ["refresh_token"], "redirect_uris": ["https://a.example"]}',
    b'{"client_id": "fuzz", "access_token_ttl": 300, "jwks": {"keys": []}, "required_acr": ["1"]}',
    b'{"client_id": "fuzz", "generate_secret": true}',
    b'{"client_id": "nobody", "reason": "lost"}',
    b'{"sub": "nobody", "reason": "lost"}',
    b'{"family_id": "nothing"}',
    b'{"issuer": "https://fuzz.example", "refresh_token_ttl": 60, "access_token_format": "opaque"}',
]
AT_ONCE_ANSWERED = [question for question in QUESTIONS if b"min_seq" not in question]
"""The others wait for a sequence that may never come, as they should."""
PER_FAMILY = 5
"""Commits that presentations of one family's tokens can cause without a successful reply (CONTRACT §3.5)."""


class Target(NamedTuple):
    """A connection, a subject, and well-formed requests for it."""

    connection: Client
    subject: str
    originals: Sequence[bytes]


class Figures(NamedTuple):
    """Requests sent, their outcomes (`ok` or an error code), and the number of commits they caused."""

    requests: int
    outcomes: Counter[str]
    commits: int


async def fuzz_endpoints(service: Service, inputs: int, seed: int) -> Figures:
    """Send that many requests; each must get a well-formed reply in time. Raises `Crash` for anything else."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(service.client())
        callers = {
            name: await stack.enter_async_context(service.role(name)) for name in ("edge", "operator", "auditor")
        }
        tokens = [(await client.issue(f"fuzz{number}"))["refresh_token"] for number in range(20)]
        before = await _log_ends_at(callers["auditor"])
        asked = await _send_all(_by_clients(client, callers["edge"], tokens), inputs * 3 // 4, f"{seed}/clients")
        commits = await _log_ends_at(callers["auditor"]) - before
        allowed = asked["ok"] + PER_FAMILY * len(tokens)
        if commits > allowed:
            raise Crash(f"the log grew by {commits}, though {asked['ok']} requests succeeded ({allowed} allowed)")
        asked += await _send_all(_by_people(callers["operator"], callers["auditor"]), inputs // 4, f"{seed}/people")
    return Figures(asked.total(), asked, commits)


def _by_clients(client: Caller, edge: Caller, tokens: Sequence[str]) -> list[Target]:
    originals = [
        *REQUESTS,
        *(request.replace(b"hrt_x", token.encode()) for request, token in zip(REQUESTS * 4, tokens, strict=False)),
        b'{"token": "%s"}' % JWT,
    ]
    named = [b'{"client_id": "app", ' + request[1:] for request in originals]
    named.append(b'{"client_id": "web", "client_secret": "guess", ' + REQUESTS[0][1:])
    return [
        *(Target(client.connection, f"oauth.acme.client.web.{endpoint}", originals) for endpoint in PROVED),
        *(Target(edge.connection, f"oauth.acme.edge.{endpoint}", named) for endpoint in PROVED),
        *(Target(edge.connection, f"oauth.nobody.edge.{endpoint}", named) for endpoint in PROVED[:2]),
        *(Target(edge.connection, f"oauth.acme.public.{endpoint}", originals) for endpoint in ("jwks", "metadata")),
    ]


def _by_people(operator: Caller, auditor: Caller) -> list[Target]:
    questions = dict.fromkeys((*LISTS, *QUERIES))
    return [
        *(Target(auditor.connection, f"audit.acme.{question}", AT_ONCE_ANSWERED) for question in questions),
        *(
            Target(operator.connection, f"admin.globex.{order}", ORDERS)
            for order in OPERATIONS
            if order != "key.rotate"
        ),
    ]


async def _send_all(targets: Sequence[Target], inputs: int, seed: str) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    queue = _requests(targets, inputs, seed)

    async def send_some() -> None:
        for target, body, key in queue:
            outcomes[await _send(target, body, key)] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send_some())
    return outcomes


def _requests(targets: Sequence[Target], inputs: int, seed: str) -> Iterator[tuple[Target, bytes, str]]:
    """Requests to the targets in turn, with printable text for headers: other bytes would break the protocol."""
    streams = [mutants(target.originals, f"{seed}/{target.subject}") for target in targets]
    for number in range(inputs):
        target, stream = targets[number % len(targets)], streams[number % len(targets)]
        body, noise = islice(stream, 2)
        yield target, body, "".join(character for character in noise.decode("latin1") if character.isprintable())


async def _send(target: Target, body: bytes, noise: str) -> str:
    """The reply's outcome, `ok` or an error code. Raises `Crash`."""
    headers = {"Idempotency-Key": noise[:300], "Authorization": f"Basic {noise[:40]}"} if len(noise) % 3 == 0 else None
    try:
        reply = await target.connection.request(target.subject, body, timeout=ANSWER_SECONDS, headers=headers)
        answer = json.loads(reply.data)
    except Exception as error:
        raise Crash(f"{target.subject}: {type(error).__name__} for {body!r}, {headers}") from error
    told = reply.headers or {}
    code = answer.get("error", "ok") if isinstance(answer, dict) else "no object"
    well_formed = code == "ok" or (
        told.get("Nats-Service-Error-Code") in STATUSES and told["Nats-Service-Error"] == code
    )
    if code in ("server_error", "no object") or not well_formed:
        raise Crash(f"{target.subject}: {code} with {told} for {body!r}, {headers}")
    return str(code)


async def _log_ends_at(auditor: Caller) -> int:
    return int((await auditor.ask("audit.acme.position", {}))["log_seq"])
