"""The operations of the administration, and their subjects on the bus."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from events.aggregates.settings import TenantSettings
from events.bus.faststream_broker import Broker, Handle, serve
from events.fairness.fair_queue import Limits, NoRoom, Turns
from events.fairness.request_gate import GateKey
from service.admin import client, consent, family, key, log, replies, role, subject, tenant
from service.context import AdminContext
from service.errors import OAuthError
from service.refusal import refusal_of

Handler = Callable[[AdminContext, str, bytes], Awaitable[bytes]]


class Operation(NamedTuple):
    """One operation: what answers it, and the types of its parameters and of its reply."""

    handle: Handler
    request: type[msgspec.Struct]
    reply: type[msgspec.Struct]


OPERATIONS: dict[str, Operation] = {
    "tenant.put": Operation(tenant.put, TenantSettings, replies.Put),
    "client.put": Operation(client.put, client.ClientPutRequest, replies.ClientPut),
    "client.disable": Operation(client.disable, client.ClientRequest, replies.CutOff),
    "client.enable": Operation(client.enable, client.ClientRequest, replies.CutOff),
    "subject.block": Operation(subject.block, subject.SubjectRequest, replies.CutOff),
    "subject.unblock": Operation(subject.unblock, subject.SubjectRequest, replies.CutOff),
    "subject.revoke": Operation(subject.revoke, subject.SubjectRequest, replies.CutOff),
    "consent.revoke": Operation(consent.revoke, consent.ConsentRequest, replies.CutOff),
    "family.revoke": Operation(family.revoke_family, family.FamilyRevokeRequest, replies.CutOff),
    "key.rotate": Operation(key.rotate, key.RotateRequest, replies.KeyRotated),
    "log.close": Operation(log.close, log.LogCloseRequest, replies.BookOpened),
    "role.add": Operation(role.add, role.RoleRequest, replies.RoleAdded),
    "role.list": Operation(role.listed, role.RoleRequest, replies.Roles),
    "role.revoke": Operation(role.revoke, role.RoleRequest, replies.Changed),
}
QUEUE = "heirloom-admin"
ORDERS_PER_SECOND = 200
"""Requests about one tenant that a replica takes a second. Each may append a commit, which the log keeps for ever."""
LIMITS = Limits(at_once=32, of_tenant=12, of_client=8, waiting=2_048, waiting_of_tenant=500, waiting_of_client=256)
"""Requests that are under way, and that wait: in all, of a tenant, and of one operation of a tenant.

A cut-off may take half a minute. Other operations of its tenant, and those of other tenants, go on meanwhile.
"""


def serve_admin(broker: Broker, context: AdminContext) -> None:
    """Answer the requests on `admin.<tenant>.<operation>`, once the broker is started."""
    turns = Turns(LIMITS)
    for name, operation in OPERATIONS.items():
        serve(broker, f"admin.*.{name}", _handle(context, turns, name, operation.handle), queue=QUEUE)


def _handle(context: AdminContext, turns: Turns, name: str, operation: Handler) -> Handle:
    async def handle(_subject: str, body: bytes, key: GateKey) -> tuple[bytes, dict[str, str]]:
        tenant = key.tenant
        try:
            context.skew.require()
            async with turns.of((tenant, name)):
                return await operation(context, tenant, body), {}
        except NoRoom:
            busy = OAuthError("temporarily_unavailable", "too many orders for this tenant are under way; try again")
            return busy.body(), busy.headers()
        except Exception as error:
            refusal = refusal_of(error)
            return refusal.body(), refusal.headers()

    return handle
