"""The administration's subjects on the bus."""

from collections.abc import Awaitable, Callable

from events.broker import Broker, Handle, serve
from service.admin import client, consent, family, key, role, subject, tenant
from service.context import Context
from service.server import refusal_of

Operation = Callable[[Context, str, bytes], Awaitable[bytes]]

OPERATIONS: dict[str, Operation] = {
    "tenant.put": tenant.put,
    "client.put": client.put,
    "client.disable": client.disable,
    "client.enable": client.enable,
    "subject.block": subject.block,
    "subject.unblock": subject.unblock,
    "subject.revoke": subject.revoke,
    "consent.revoke": consent.revoke,
    "family.revoke": family.revoke_family,
    "key.rotate": key.rotate,
    "role.add": role.add,
    "role.list": role.listed,
    "role.revoke": role.revoke,
}
QUEUE = "heirloom-admin"


def serve_admin(broker: Broker, context: Context) -> None:
    """Answer `admin.<tenant>.<operation>`."""
    for name, operation in OPERATIONS.items():
        serve(broker, f"admin.*.{name}", _handle(context, operation), queue=QUEUE)


def _handle(context: Context, operation: Operation) -> Handle:
    async def handle(subject: str, body: bytes) -> tuple[bytes, dict[str, str]]:
        try:
            context.skew.require()
            return await operation(context, subject.split(".")[1], body), {}
        except Exception as error:
            refusal = refusal_of(error)
            return refusal.body(), refusal.headers()

    return handle
