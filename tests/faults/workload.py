"""Clients over a few busy families: refreshes, thefts, retries, revocations, and a check of every reply.

All choices come from one seed. Ended families are replaced, and still used for a while.
"""

import asyncio
import base64
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import family as aggregate_of
from events.aggregates.family_commit import codec
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from tests.faults.history import History, Operation, digest, generation_of

MIX = {"refresh": 50, "double": 15, "stale": 10, "retry": 5, "late": 5, "revoke": 5, "introspect": 10}
LATE = 2, 8
"""By how many generations a late duplicate is older than the newest token."""
FAMILIES = 24
REMEMBERED = 24
PATIENCE_SECONDS = 6.0
SCOPE = "read offline_access"


class Client(NamedTuple):
    """A connection of an OAuth client; `grace` if the client has a grace time."""

    connection: Connection
    prefix: str
    grace: bool


class Family:
    """A family as the clients know it: its tokens, and the keys used to get them."""

    def __init__(self, id: str, client: Client, token: str) -> None:
        self.id = id
        self.client = client
        self.tokens = {0: token}
        self.keys: dict[int, str] = {}
        self.ended = False

    @property
    def newest(self) -> int:
        return max(self.tokens)


class Workload:
    """Sends requests until it is stopped. `witness` reads the log from its leader, over an undisturbed connection."""

    def __init__(self, history: History, clients: Sequence[Client], witness: Log, seed: int, *, pause: float) -> None:
        self._history = history
        self._clients = clients
        self._witness = witness
        self._random = random.Random(seed)
        self._pause = pause
        self._families: list[Family] = []
        self._ended: deque[Family] = deque(maxlen=REMEMBERED)
        self._keys = 0
        self.stop = asyncio.Event()

    async def run(self, workers: int) -> None:
        """Run until `stop` is set and the last replies have come."""
        await asyncio.gather(*(self._work() for _ in range(workers)))

    async def _work(self) -> None:
        while not self.stop.is_set():
            await self._once()
            await asyncio.sleep(self._pause)

    async def _once(self) -> None:
        chance = self._random
        self._families = [family for family in self._families if not family.ended]
        if len(self._families) < FAMILIES:
            await self._issue()
        if not self._families:
            return
        what = chance.choices(list(MIX), list(MIX.values()))[0]
        family = chance.choice(self._families)
        if self._ended and chance.random() < 0.1:
            family = chance.choice(self._ended)
        newest = family.newest
        match what:
            case "refresh":
                await self._refresh(family, newest, what, self._new_key() if chance.random() < 0.5 else None)
            case "double":
                key = self._new_key() if chance.random() < 0.5 else None
                await asyncio.gather(*(self._refresh(family, newest, what, key) for _ in range(2)))
            case "stale":
                key = self._new_key() if chance.random() < 0.5 else None
                await self._refresh(family, chance.randrange(newest + 1), what, key)
            case "retry":
                again = newest - 1 if newest - 1 in family.keys else newest
                await self._refresh(family, again, what, family.keys.get(again) or self._new_key())
            case "late":
                await self._come_late(family)
            case "revoke":
                await self._revoke(family, newest)
            case "introspect":
                await self._introspect(family, newest, what)

    async def _issue(self) -> None:
        client = self._random.choice(self._clients)
        operation = self._history.invoke("issue", "issue", grace=client.grace)
        answer = await self._ask(client, "issue", {"sub": f"user{operation.id}", "scope": SCOPE}, operation)
        if answer is not None:
            self._read_tokens(operation, answer)
            self._families.append(Family(operation.family, client, answer["refresh_token"]))
            self._history.complete(operation, "ok")

    async def _refresh(self, family: Family, generation: int, why: str, key: str | None) -> None:
        """Present a generation; with a key, repeat it until there is a reply, as a client may."""
        while (operation := await self._present(family, generation, why, key)).outcome == "info":
            if key is None or self.stop.is_set() or family.ended:
                return
            why = "again"
        if operation.outcome == "fail":
            await self._look_back(family, 0.5)
        elif self._random.random() < 0.2:
            await self._look(family)

    async def _come_late(self, family: Family) -> None:
        """Send an older request once more, with its key: it is refused, and the family lives."""
        least, most = LATE
        known = [each for each in family.keys if least <= family.newest - each <= most]
        if known:
            generation = self._random.choice(known)
            await self._present(family, generation, "late", family.keys[generation])
            await self._refresh(family, family.newest, "after a late one", self._new_key())

    async def _present(self, family: Family, generation: int, why: str, key: str | None) -> Operation:
        client = self._same_registration(family)
        operation = self._history.invoke("refresh", why, family.id, grace=client.grace, generation=generation, key=key)
        request = {"grant_type": "refresh_token", "refresh_token": family.tokens[generation]}
        answer = await self._ask(client, "token", request, operation, key)
        if answer is not None:
            self._read_tokens(operation, answer)
            self._history.complete(operation, "ok")
            family.tokens.setdefault(operation.to, answer["refresh_token"])
            if key is not None:
                family.keys.setdefault(generation, key)
        return operation

    async def _revoke(self, family: Family, generation: int) -> None:
        operation = self._history.invoke("revoke", "revoke", family.id, generation=generation)
        request = {"token": family.tokens[generation]}
        if await self._ask(self._same_registration(family), "revoke", request, operation) is not None:
            self._history.complete(operation, "ok")
            await self._look_back(family, 1)

    async def _introspect(self, family: Family, generation: int, why: str) -> None:
        client = self._same_registration(family)
        operation = self._history.invoke("introspect", why, family.id, generation=generation)
        answer = await self._ask(client, "introspect", {"token": family.tokens[generation]}, operation)
        if answer is not None:
            operation.active = answer["active"]
            self._history.complete(operation, "ok")

    async def _look_back(self, family: Family, likely: float) -> None:
        """Check, after a reply that ended the family, that every replica agrees at once."""
        if not family.ended:
            family.ended = True
            self._ended.append(family)
        if self._random.random() < likely:
            await asyncio.gather(
                self._look(family), *(self._introspect(family, family.newest, "look") for _ in range(2))
            )
            await self._try_the_dead(family)

    async def _try_the_dead(self, family: Family) -> None:
        """Present its newest token again, or repeat its last request with the key."""
        if self.stop.is_set() or self._random.random() < 0.3:
            return
        retried = family.newest - 1
        key = family.keys.get(retried)
        if key is not None:
            await self._present(family, retried, "afterwards", key)
        else:
            await self._present(family, family.newest, "afterwards", None)

    async def _look(self, family: Family) -> None:
        """Read the family's last commit from the stream's leader."""
        operation = self._history.invoke("witness", "witness", family.id)
        try:
            stored = (await self._witness.head(aggregate_of("acme", family.id))).stored
        except (Unavailable, NatsError) as error:
            operation.error = type(error).__name__
            self._history.complete(operation, "info")
            return
        if stored is not None:
            state = codec.decode(stored.body).state
            operation.seq = stored.seq
            operation.to = -1 if state.generation is None else state.generation
            operation.revoked = state.revoked is not None
        self._history.complete(operation, "ok")

    async def _ask(
        self, client: Client, what: str, request: dict[str, str], operation: Operation, key: str | None = None
    ) -> dict[str, Any] | None:
        """The reply; None for a refusal (recorded as `fail`) and for no reply (`info`)."""
        headers = {"Idempotency-Key": key} if key is not None else None
        body = msgspec.json.encode(request)
        try:
            reply = await client.connection.request(
                f"{client.prefix}.{what}", body, timeout=PATIENCE_SECONDS, headers=headers
            )
        except (NatsError, OSError) as error:
            operation.error = type(error).__name__
            self._history.complete(operation, "info")
            await asyncio.sleep(0.05)
            return None
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if "error" not in answer:
            return answer
        operation.error = answer["error"]
        unknown = operation.error in ("temporarily_unavailable", "server_error")
        self._history.complete(operation, "info" if unknown else "fail")
        return None

    def _read_tokens(self, operation: Operation, answer: dict[str, Any]) -> None:
        operation.successor, operation.to = digest(answer["refresh_token"]), generation_of(answer["refresh_token"])
        payload = answer["access_token"].split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        operation.family, operation.commit = claims["sid"], claims["jti"]

    def _same_registration(self, family: Family) -> Client:
        """Any connection of the client that owns the family."""
        return self._random.choice([client for client in self._clients if client.prefix == family.client.prefix])

    def _new_key(self) -> str:
        self._keys += 1
        return f"key{self._keys}"
