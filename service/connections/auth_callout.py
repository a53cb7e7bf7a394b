"""NATS auth callout: the broker asks whether a connection is allowed, and with which permissions.

The response is a user JWT. It allows the client's own subjects and inbox, so that everywhere else in this service a
subject proves its caller. It expires with the access token, if one opened the connection. Every refusal is the same.
"""

import asyncio
import logging
from typing import Any

import msgspec
import nkeys
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from events import base64url
from events.bus.connection import Connection
from events.fairness.fair_queue import Limits, NoRoom, Turns
from events.log.jetstream_api import Unavailable
from events.task_set import TaskSet
from service import clock
from service.connections.admission import Admission, Admitted, ConnectOptions
from service.connections.connection_counts import ConnectionCounts
from service.connections.token_connections import TokenConnections
from service.errors import OAuthError
from service.keys.mac_tokens import new_id
from service.registry.broker_accounts import CLIENTS_ACCOUNT, PERSONS_ACCOUNT, PERSONS_ENDPOINTS
from service.registry.named_role import below

log = logging.getLogger("heirloom.callout")

SUBJECT = "$SYS.REQ.USER.AUTH"
QUEUE = "heirloom"
REFUSED = "Authorization Violation"
LIMITS = Limits(
    at_once=128, of_tenant=32, of_client=32, waiting=2_000, waiting_of_tenant=1_000, waiting_of_client=1_000
)
"""Connections that are decided on, and that wait for it: in all, and of one host."""
ANSWER_WITHIN_SECONDS = 2.5
"""A little less than the broker's time limit. A connection that gets no response tries again after that."""

UNLIMITED = {"subs": -1, "data": -1, "payload": -1}
"""nats-server ignores the limits of such a JWT; the account has limits (`heirloom.broker.accounts`)."""


class _ServerId(msgspec.Struct):
    id: str


class _ClientInfo(msgspec.Struct):
    host: str = ""


class _AuthorizationRequest(msgspec.Struct):
    server_id: _ServerId
    user_nkey: str
    connect_opts: ConnectOptions
    client_info: _ClientInfo


class _Claims(msgspec.Struct):
    nats: _AuthorizationRequest


_decoder = msgspec.json.Decoder(_Claims)


class Callout:
    """Decides on the broker's authorization requests. `issuer_seed` signs the responses.

    `token_connections` is called with each connection that an access token opens; `counts` bounds connections.
    """

    def __init__(
        self, admission: Admission, token_connections: TokenConnections, counts: ConnectionCounts, issuer_seed: str
    ) -> None:
        self._admission = admission
        self._token_connections = token_connections
        self._counts = counts
        self._issuer = nkeys.from_seed(issuer_seed.encode())
        self._issuer_id = self._issuer.public_key.decode()
        self._turns = Turns(LIMITS)
        self._tasks = TaskSet()
        self._subscription: Subscription | None = None

    async def start(self, connection: Connection) -> None:
        """Subscribe to the broker's requests; any replica may receive one."""
        self._subscription = await connection.subscribe(SUBJECT, queue=QUEUE, cb=self._receive)
        await connection.flush()

    async def drain(self) -> None:
        """Receive no more requests, and answer those that are here."""
        if self._subscription is not None:
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # as nats-py has it
        await self._tasks.settled()

    async def _receive(self, message: Msg) -> None:
        # the broker signed the JWT, and in its account only this service may publish
        payload = message.data.split(b".")[1]
        request = _decoder.decode(base64url.decode(payload)).nats
        # an unknown client is looked up in the log, and no other request should wait for that
        self._tasks.start(self._answer_in_turn(message, request))

    async def _answer_in_turn(self, message: Msg, request: _AuthorizationRequest) -> None:
        """Decide in the host's turn, so that a host that floods does not keep other hosts' clients out."""
        loop = asyncio.get_running_loop()
        came_at, host = loop.time(), request.client_info.host
        try:
            async with self._turns.of((host, "")):
                in_time = loop.time() - came_at < ANSWER_WITHIN_SECONDS
                admitted = await self._admit(message, request) if in_time else None
        except NoRoom:
            log.info("a connection is not decided on: too many of its host wait", extra={"host": host})
            return
        if admitted is not None:  # outside of the turn, since it may wait for a count of its connections
            await self._allow(message, request, admitted)

    async def _admit(self, message: Msg, request: _AuthorizationRequest) -> Admitted | None:
        """The admitted connection; None if it was refused."""
        try:
            return await self._admission.admit(request.connect_opts)
        except Exception as error:
            await self._refuse(message, request, error)
            return None

    async def _allow(self, message: Msg, request: _AuthorizationRequest, admitted: Admitted) -> None:
        try:
            if not self._counts.try_take(admitted.tenant, admitted.counted):
                await self._wait_for_room(request.connect_opts, admitted)
            if admitted.token_connection is not None:
                self._token_connections.opened(admitted.token_connection)
            answer = {"jwt": self._user_jwt(request.user_nkey, admitted)}
        except Exception as error:
            await self._refuse(message, request, error)
        else:
            await self._respond(message, request, answer)

    async def _wait_for_room(self, options: ConnectOptions, admitted: Admitted) -> None:
        """Wait for a later count, and check the connection again. Raises `slow_down`, and as `Admission.confirm`."""
        if not await self._counts.try_take_later(admitted.tenant, admitted.counted):
            raise OAuthError("slow_down", "it has as many connections as it may (max_connections)")
        await self._admission.confirm(options, admitted)

    async def _refuse(self, message: Msg, request: _AuthorizationRequest, error: Exception) -> None:
        if isinstance(error, OAuthError | Unavailable):
            log.info("a connection was refused", extra={"why": str(error)})
        else:
            log.error("a connection was refused for a reason nobody foresaw", exc_info=error)
        await self._respond(message, request, {"error": REFUSED})

    async def _respond(self, message: Msg, request: _AuthorizationRequest, answer: dict[str, str]) -> None:
        claims = {
            "aud": request.server_id.id,
            "sub": request.user_nkey,
            "nats": answer | _kind("authorization_response"),
        }
        try:
            await message.respond(self._sign(claims).encode())
        except NatsError as error:
            log.info("the broker could not be answered: %s", type(error).__name__)

    def _user_jwt(self, user: str, admitted: Admitted) -> str:
        tenant, client_id, token_connection, inboxes, role, _ = admitted
        if role is not None:
            rights = {"pub": {"allow": role.publish()}, "sub": {"allow": role.subscribe()}} | UNLIMITED | _kind("user")
            return self._sign({"aud": role.account, "sub": user, "name": role.user, "nats": rights})
        own, inbox = f"oauth.{tenant}.client.{client_id}", f"_INBOX.{tenant}.{client_id}"
        own_inboxes = [f"{inbox}.{name}" for name in inboxes] or [inbox]
        requests = [f"{own}.{endpoint}" for endpoint in PERSONS_ENDPOINTS] if inboxes else [f"{own}.>"]
        permissions = {
            "pub": {"allow": [*requests, f"oauth.{tenant}.public.>"]},
            "sub": {"allow": [subject for own in own_inboxes for subject in below(own)]},
        }
        ends = {} if token_connection is None else {"exp": token_connection.until}
        name = f"{tenant}/{client_id}" if token_connection is None else token_connection.user
        account = PERSONS_ACCOUNT if inboxes else CLIENTS_ACCOUNT
        rights = permissions | UNLIMITED | _kind("user")
        return self._sign({"aud": account, "sub": user, "name": name, "nats": rights} | ends)

    def _sign(self, claims: dict[str, Any]) -> str:
        header = base64url.encode(b'{"typ":"JWT","alg":"ed25519-nkey"}')
        stamped = {"iss": self._issuer_id, "iat": int(clock.now().timestamp()), "jti": new_id()} | claims
        signing_input = header + b"." + base64url.encode(msgspec.json.encode(stamped))
        return (signing_input + b"." + base64url.encode(self._issuer.sign(signing_input))).decode()


def _kind(kind: str) -> dict[str, Any]:
    return {"type": kind, "version": 2}
