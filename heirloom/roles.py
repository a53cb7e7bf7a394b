"""Who may say what on the bus: the table from which the broker's configuration is made (docs/security.md).

An account is a world of its own: what its members publish, and the reply subjects they choose, stay in it, save for
what it imports. The log's account is the service's; whoever only asks lives in another.
"""

from typing import NamedTuple

from events.stream import REVOKED, REVOKED_STORED

LOG_ACCOUNT = "HEIRLOOM"
"""Holds JetStream and the log."""
CLIENTS_ACCOUNT = "USERS"
"""Registered clients, each with a user JWT that the service signs."""

API = "$JS.API"
LOG_API = "$JS.HEIRLOOM.API"
"""Under what name other accounts reach the log's stream: to NATS tools, the JetStream domain HEIRLOOM."""

SYSTEM = ("$SYS.REQ.SERVER.*.KICK", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.JSZ")
"""What the service asks of the servers themselves: to end a connection, who is connected, what is in their stores."""
STREAMS = ("TOKENS", "CHECKPOINTS")
"""The log, and what vouches for it."""
ENDINGS = ("DELETE", "PURGE", "MSG.DELETE")
"""How a stream, or what is in it, is destroyed."""


class Role(NamedTuple):
    """What a role may publish, and subscribe to besides its own inbox.

    `answers`: it may also reply to whoever asks it, once. `denied` is taken out of `publish`.
    """

    account: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    answers: bool = False


def _reads(stream: str) -> tuple[str, ...]:
    """Asking for what is in a stream: of its leader, or of any replica."""
    return f"{API}.STREAM.INFO.{stream}", f"{API}.STREAM.MSG.GET.{stream}", f"{API}.DIRECT.GET.{stream}"


def _consumes(stream: str) -> tuple[str, ...]:
    """Having it delivered, by a consumer of one's own."""
    return (
        f"{API}.CONSUMER.CREATE.{stream}.>",
        f"{API}.CONSUMER.MSG.NEXT.{stream}.*",
        f"{API}.CONSUMER.DELETE.{stream}.*",
    )


ROLES: dict[str, Role] = {
    # processes of the service
    "service": Role(
        LOG_ACCOUNT,
        publish=("tokens.>", "heirloom.>", "audit.>", "$JS.>", "$KV.>", "_INBOX.>", "_R_.>", "$SYS._INBOX.>", *SYSTEM),
        subscribe=("oauth.>", "admin.>", "heirloom.>", REVOKED_STORED, "$SRV.>", "$SYS.REQ.USER.AUTH", "_INBOX.>"),
        denied=tuple(f"{API}.STREAM.{what}.{log}" for what in ENDINGS for log in STREAMS),
    ),
    "projector": Role(
        LOG_ACCOUNT,
        publish=(*_reads("TOKENS"), *_consumes("TOKENS")),
        subscribe=("audit.>",),
        answers=True,
    ),
    "notary": Role(
        LOG_ACCOUNT,
        publish=(*_reads("TOKENS"), *_reads("CHECKPOINTS"), "tokens.checkpoint"),
    ),
    # who is shown a URL
    "operator": Role("OPERATORS", publish=("admin.>", "oauth.*.public.>")),
    "auditor": Role(
        "AUDITORS",
        publish=(
            "audit.>",
            "oauth.*.public.>",
            *(f"{LOG_API}.STREAM.INFO.{stream}" for stream in STREAMS),
            *(f"{LOG_API}.DIRECT.GET.{stream}" for stream in STREAMS),
            *(f"{LOG_API}.DIRECT.GET.{stream}.>" for stream in STREAMS),
        ),
    ),
    "edge": Role("EDGES", publish=("oauth.*.edge.>", "oauth.*.public.>")),
    "resource": Role(
        "RESOURCES",
        publish=("oauth.*.edge.introspect", "oauth.*.public.>", f"{LOG_API}.DIRECT.GET.TOKENS.{REVOKED}"),
        subscribe=(REVOKED,),
    ),
}

SHOWN = ("operator", "auditor", "edge", "resource")
"""The roles of people and programs outside: `heirloom url --role` (CONTRACT §7)."""

CLIENT_IMPORTS = ("oauth.*.client.>", "oauth.*.public.>")


def inbox(role: str) -> str:
    """The prefix of a role's inbox: replies carry tokens, so nobody else may listen there."""
    return "_INBOX" if role == "service" else f"_INBOX.role.{role}"
