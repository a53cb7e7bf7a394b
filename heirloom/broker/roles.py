"""Who may publish and receive what on the bus: the table from which the broker's configuration is made.

Accounts are isolated: what members publish, and the reply subjects they choose, stay in their account except for its
imports. The log's account belongs to the service. Callers, and readers of the log, live in other accounts, because the
broker publishes a requested message on any reply subject, the log's own included. Inside the log's account, a
connection that receives from strangers may publish replies and nothing else (docs/security.md, ADR 0020, ADR 0037).
"""

from typing import NamedTuple

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, EVERYTHING, STREAM
from events.log.stream import REVOKED, REVOKED_STORED
from service.registry.broker_accounts import CLIENTS_ACCOUNT, PERSONS_ACCOUNT, PERSONS_ENDPOINTS, ROLE_ACCOUNTS
from service.revocations.stream import HEARD, PROGRESS, STORED
from service.revocations.stream import STREAM as REVOCATIONS

LOG_ACCOUNT = "HEIRLOOM"
"""The account of JetStream and the log."""
PROJECTORS_ACCOUNT, NOTARIES_ACCOUNT, PUBLISHERS_ACCOUNT = "PROJECTORS", "NOTARIES", "PUBLISHERS"
"""The accounts of the projector's, the notary's and the publisher's connections to the log.

Each is alone in its account: of two readers in one account, one could make the other lose replies (ADR 0036).
"""

API = "$JS.API"
LOG_API = "$JS.HEIRLOOM.API"
"""The name by which other accounts reach the log's stream: to NATS tools, the JetStream domain HEIRLOOM."""

KICK, CONNZ, JSZ = "$SYS.REQ.SERVER.*.KICK", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.JSZ"
SYSTEM = (KICK, CONNZ, JSZ)
"""Requests to the servers themselves: close a connection, list connections, report on the stores."""
STREAMS = (STREAM, CHECKPOINTS)
"""The log's first book, and its signed checkpoints."""
BOOKS = "*"
"""In the place of a stream's name: every book of the log. Other streams of ours are denied (`Role.denied`)."""
BESIDE = ("REPLICAS", "KV_heirloom-assertions")
"""The streams that the service keeps beside the log, and whose messages expire."""
WAITING, GUESSES = "DEVICES", "GUESSES"
"""The streams in memory of waiting devices, and of wrong user codes."""
NOT_BOOKS = (CHECKPOINTS, *BESIDE, WAITING, GUESSES, REVOCATIONS)
"""All streams of the log's account that are no books."""
OF_BOOKS = ("INFO", "CREATE", "UPDATE", "GET", "NEXT", "DELETE", "NAMES", "SNAPSHOT", "RESTORE")
"""The last parts of requests before the name of a stream."""
REACTOR = "reactor"
"""The durable consumer of each book that all replicas share."""
INBOXES = "_INBOX.>"
"""Where the members of an account receive replies."""
CALLOUT_REPLIES = "$SYS._INBOX.>"
"""Where the broker receives the answers to its auth callout."""


class Role(NamedTuple):
    """What a role may publish, and subscribe to besides its own inbox."""

    account: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()

    @property
    def denied(self) -> tuple[str, ...]:
        """What it may not publish: requests about a stream that is no book, unless it may by the stream's name."""
        of_books = [subject for subject in self.publish if is_of_books(subject)]
        named = (subject.replace(BOOKS, name, 1) for subject in of_books for name in NOT_BOOKS)
        return tuple(subject for subject in named if subject not in self.publish)


def inbox(role: str) -> str:
    """The prefix of a role's inbox. Replies contain tokens, so only the role itself may subscribe there."""
    return f"_INBOX.role.{role}"


def is_of_books(subject: str) -> bool:
    """Whether a right is one to a request about any book."""
    operation, star, _ = subject.partition(f".{BOOKS}")
    return bool(star) and subject.startswith("$JS.") and operation.rpartition(".")[2] in OF_BOOKS


def _stream(name: str, *operations: str) -> tuple[str, ...]:
    return tuple(f"{API}.STREAM.{operation}.{name}" for operation in operations)


def _reads(name: str, api: str = API) -> tuple[str, ...]:
    """The subjects to read a stream: from its leader, or from any replica."""
    return tuple(f"{api}.{operation}.{name}" for operation in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"))


def _consumes(name: str) -> tuple[str, ...]:
    """The subjects to receive a stream by a consumer of one's own.

    A consumer's creator can make the broker publish the stream's messages anywhere, so this is only for roles that may
    append.
    """
    return (
        f"{API}.CONSUMER.CREATE.{name}.>",
        f"{API}.CONSUMER.MSG.NEXT.{name}.*",
        f"{API}.CONSUMER.DELETE.{name}.*",
    )


BACKED_UP = (BOOKS, CHECKPOINTS, *BESIDE)
_APPENDS = (EVERYTHING, *_reads(BOOKS), *_consumes(BOOKS))

OWN: dict[str, Role] = {
    # a replica's connections: to the log and the other replicas; to callers; to the read model
    "service": Role(
        LOG_ACCOUNT,
        publish=(
            *_APPENDS,
            *(subject for name in (BOOKS, CHECKPOINTS) for subject in _stream(name, "INFO", "CREATE", "UPDATE")),
            *(subject for name in BESIDE for subject in _stream(name, "INFO", "CREATE", "UPDATE", "PURGE")),
            *_stream(WAITING, "INFO", "CREATE", "UPDATE", "PURGE", "MSG.GET"),
            *_stream(GUESSES, "INFO", "CREATE", "UPDATE", "MSG.DELETE"),
            *_stream(REVOCATIONS, "CREATE", "UPDATE"),
            *_reads(REVOCATIONS),
            f"{API}.INFO",
            f"{API}.STREAM.LIST",
            f"{API}.CONSUMER.DURABLE.CREATE.{BOOKS}.{REACTOR}",
            f"{API}.CONSUMER.INFO.{BOOKS}.{REACTOR}",
            f"$JS.ACK.{BOOKS}.{REACTOR}.>",
            "$KV.heirloom-assertions.*",
            "heirloom.>",
            KICK,
            CONNZ,
            JSZ,
            f"{inbox('service')}.>",  # requests between replicas
        ),
        subscribe=("heirloom.>", REVOKED_STORED),
    ),
    "callout": Role(LOG_ACCOUNT, publish=(CALLOUT_REPLIES,), subscribe=("$SYS.REQ.USER.AUTH",)),
    "inquiry": Role(LOG_ACCOUNT, publish=("audit.>",)),
    # the projector's: to the log, and to callers
    "projector": Role(PROJECTORS_ACCOUNT, publish=_reads(BOOKS, LOG_API)),
    "audit": Role(LOG_ACCOUNT, publish=(f"{inbox('inquiry')}.>",), subscribe=("audit.>",)),
    "audit-auditors": Role(ROLE_ACCOUNTS["auditor"], publish=(INBOXES,), subscribe=("audit.>",)),
    "notary": Role(NOTARIES_ACCOUNT, publish=(*_reads(BOOKS, LOG_API), *_reads(CHECKPOINTS, LOG_API), CHECKPOINT)),
    # the publisher of the revocation feed: it may append to that and remove it, and not append to the log
    "publisher": Role(
        PUBLISHERS_ACCOUNT,
        publish=(
            *_reads(BOOKS, LOG_API),
            *_reads(REVOCATIONS, LOG_API),
            f"{LOG_API}.STREAM.DELETE.{REVOCATIONS}",
            *(STORED, PROGRESS, *HEARD),
        ),
        subscribe=(REVOKED,),
    ),
    # `heirloom up` itself, for its brokers; `heirloom backup` and `heirloom restore`
    "keeper": Role(LOG_ACCOUNT, publish=(f"{API}.INFO", JSZ)),
    "backup": Role(
        LOG_ACCOUNT,
        publish=(
            *_APPENDS,
            *(subject for name in BACKED_UP for subject in _stream(name, "SNAPSHOT", "RESTORE")),
            *(subject for name in (CHECKPOINTS, *BESIDE) for subject in _reads(name)),
            *_stream(REVOCATIONS, "INFO"),
            *(f"{API}.CONSUMER.NAMES.{name}" for name in BACKED_UP),
            *(f"{API}.CONSUMER.DELETE.{name}.*" for name in BACKED_UP),
            "$JS.SNAPSHOT.>",
        ),
    ),
}
"""The service's own connections and commands."""

SHOWN: dict[str, Role] = {
    "operator": Role(ROLE_ACCOUNTS["operator"], publish=("admin.>", "oauth.*.public.>")),
    "auditor": Role(
        ROLE_ACCOUNTS["auditor"],
        publish=(
            "audit.>",
            "oauth.*.public.>",
            *(f"{LOG_API}.STREAM.INFO.{stream}" for stream in (BOOKS, CHECKPOINTS)),
            *(f"{LOG_API}.DIRECT.GET.{stream}" for stream in (BOOKS, CHECKPOINTS)),
            *(f"{LOG_API}.DIRECT.GET.{stream}.>" for stream in (BOOKS, CHECKPOINTS)),
        ),
    ),
    "edge": Role(ROLE_ACCOUNTS["edge"], publish=("oauth.*.edge.>", "oauth.*.public.>")),
    "resource": Role(
        ROLE_ACCOUNTS["resource"],
        publish=("oauth.*.edge.introspect", "oauth.*.resource.revocations", "oauth.*.public.>"),
        subscribe=(REVOKED, *HEARD),
    ),
}
"""The roles of people and programs outside: `heirloom url --role` (contract §7)."""

CLIENTS_ASK = ("oauth.*.client.>", "oauth.*.public.>")
"""The requests of the clients' account; a client's own permissions name its tenant and itself."""
PERSONS_ASK = (*(f"oauth.*.client.*.{endpoint}" for endpoint in PERSONS_ENDPOINTS), "oauth.*.public.>")
"""The requests of the persons' account, by which the broker itself shows that the client did not send them."""


ASKING = tuple(dict.fromkeys([CLIENTS_ACCOUNT, PERSONS_ACCOUNT, *(role.account for role in SHOWN.values())]))
"""The accounts of callers (`service.accounts`)."""


def answering(account: str) -> str:
    """The role of a replica's connection that answers the callers of an account, inside it."""
    return f"endpoints-{account.lower()}"


def _requests_of(account: str) -> tuple[str, ...]:
    if account in (CLIENTS_ACCOUNT, PERSONS_ACCOUNT):
        return CLIENTS_ASK if account == CLIENTS_ACCOUNT else PERSONS_ASK
    requests = (subject for role in SHOWN.values() if role.account == account for subject in role.publish)
    return tuple(subject for subject in requests if subject.startswith(("oauth.", "admin.")))


ANSWERING = {
    answering(account): Role(account, publish=(INBOXES,), subscribe=(*_requests_of(account), "$SRV.>"))
    for account in ASKING
}
"""A replica's connections to callers: each may publish replies in that account, and nothing else."""

OWN |= ANSWERING
ROLES = OWN | SHOWN
