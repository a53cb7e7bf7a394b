"""The probes: every subject of `heirloom.broker.roles`, which no stranger may touch.

Whoever may publish where the service publishes or listens can impersonate it; whoever may subscribe there receives what
was meant for it. So each subject of the table is tested both ways, and a new one is included automatically.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, REGISTRY, STREAM
from events.log.books import stream_of
from heirloom.broker.roles import (
    API,
    BESIDE,
    BOOKS,
    GUESSES,
    LOG_API,
    REACTOR,
    ROLES,
    WAITING,
    Role,
    inbox,
    is_of_books,
)
from projections.queries.requests import QUEUE as AUDIT_QUEUE
from service.admin.operations import OPERATIONS
from service.admin.operations import QUEUE as ADMIN_QUEUE
from service.connections import auth_callout
from service.endpoints.endpoint_table import endpoints
from service.replicas import appended
from service.server import QUEUE

FOR_EVERYBODY = "oauth.*.public.>"
"""Requests that anybody may send; another caller's request is still not for everybody to read."""
NAMED = "doors"
"""Replaces each name that a pattern leaves open, and names an unknown queue group: nothing has that name."""
NO_STREAM = "heirloom-doors"
"""No stream has that name, on anybody's broker."""
A_BOOK = (STREAM, stream_of(2))
"""Of the log's later books, one."""
OURS = (*A_BOOK, CHECKPOINTS, *BESIDE, WAITING, GUESSES)
OF_A_STREAM = ("CREATE", "UPDATE", "INFO", "PURGE", "SNAPSHOT", "RESTORE", "MSG.GET", "MSG.DELETE")
OF_CONSUMERS = ("CREATE.{0}", "CREATE.{0}.>", "DURABLE.CREATE.{0}.*", "MSG.NEXT.{0}.*", "INFO.{0}.*", "PAUSE.{0}.*")
OF_THE_REACTOR = ("DURABLE.CREATE", "MSG.NEXT", "INFO", "PAUSE")
"""Orders that JetStream refuses where they are malformed, so that they can be tested with a real name."""
OBEYED = (
    *(f"STREAM.{order}.{NO_STREAM}" for order in ("DELETE", "LEADER.STEPDOWN", "PEER.REMOVE", "CANCEL_MOVE")),
    *(f"CONSUMER.{order}.{NO_STREAM}.{NAMED}" for order in ("DELETE", "LEADER.STEPDOWN", "RESET", "UNPIN")),
)
"""Orders that are obeyed without a request: they are tested with names that nothing has."""
JETSTREAM = (
    *(f"{API}.STREAM.{order}.{name}" for name in OURS for order in OF_A_STREAM),
    *(f"{API}.DIRECT.GET.{name}{subjects}" for name in OURS for subjects in ("", ".>")),
    *(f"{API}.CONSUMER.{order.format(name)}" for name in OURS for order in OF_CONSUMERS),
    *(f"{API}.CONSUMER.{order}.{STREAM}.{REACTOR}" for order in OF_THE_REACTOR),
    *(f"{API}.{order}" for order in (*OBEYED, "STREAM.NAMES", "META.LEADER.STEPDOWN")),
    f"{API}.DIRECT.GET.{STREAM}.tokens.*.>",
    f"{API}.CONSUMER.CREATE.{STREAM}.*.tokens.*.>",
)
AUDIT_QUERIES = (
    *("family", "families", "revocations", "incidents", "token", "as_of", "diff", "subject", "blast_radius"),
    *("activity", "search", "what_if", "position"),
)
"""The queries below `audit.<tenant>`, repeated here since importing the audit takes a quarter second."""
DEEPER = (
    "tokens.*.family.*.live",
    "tokens.*.family.*.revoked",
    *REGISTRY,
    CHECKPOINT,
    "admin.*.*.*",
    *(f"admin.*.{order}" for order in OPERATIONS),
    *(row.subject for row in endpoints().values()),
    *(f"audit.*.{query}" for query in AUDIT_QUERIES),
    f"{appended.SUBJECT}.*.*.*",
    "heirloom.applied.*",
    "heirloom.replica.*",
    "_INBOX.*.>",
    "_INBOX.*.*.>",
    "_R_.>",
)
"""Subjects below the table's own that are of use to a thief: a right to one of them alone is one too many as well."""
QUEUES = {"oauth.": QUEUE, "admin.": ADMIN_QUEUE, "audit.": AUDIT_QUEUE, auth_callout.SUBJECT: auth_callout.QUEUE}
"""The queue groups in which the service listens, by the beginning of a subject: a broker may allow one group only."""
KINDS = {
    CHECKPOINT: f"{CHECKPOINT}, what vouches for the log",
    "tokens.": "tokens.>, the log",
    "revoked.": "revoked.>, what replicas are told of revocations",
    "admin.": "admin.>, an operator's orders",
    "oauth.": "oauth.>, everybody's requests",
    "audit.": "audit.>, an auditor's questions",
    "heirloom.": "heirloom.>, what replicas tell each other",
    "$KV.": "$KV.heirloom-assertions.*, which assertions were used",
    "$JS.API.CONSUMER.": "$JS.API.CONSUMER.>, which makes consumers",
    "$JS.API.DIRECT.": "$JS.API.DIRECT.>, which reads streams",
    "$JS.API.STREAM.": "$JS.API.STREAM.>, which makes, reads and deletes streams",
    "$JS.API.": "$JS.API.>",
    f"{LOG_API}.": f"{LOG_API}.>, the log's stream",
    "$SYS.REQ.SERVER.": "$SYS.REQ.SERVER.>, the servers themselves",
    "_INBOX.": "another's inbox",
}
"""Maps the beginning of a subject to words for what it is; the first match counts."""
OF_A_TENANT = re.compile(r"(?:^|\.)(?:oauth|admin|audit|tokens|revoked|_INBOX)\.(?=\*)")
"""A tenant's name follows it, and then perhaps a client's."""
MAX_NAMES = 4
"""How many names are tested, each with a hundred subjects: a right may be restricted to one tenant or client."""


class Name(NamedTuple):
    """A tenant and one of its clients."""

    tenant: str = NAMED
    client: str = NAMED


class Probe(NamedTuple):
    """One right to test, in a queue group or in none; `what` names it for people."""

    publishes: bool
    subject: str
    what: str
    queue: str = ""


def _unobeyed(subject: str) -> str:
    """The subject; for an order that is obeyed whatever its body is, that of a stream that nobody has."""
    order, deletes, _ = subject.partition(".STREAM.DELETE.")
    return f"{order}{deletes}{NO_STREAM}" if deletes else subject


def probes(roles: Mapping[str, Role] = ROLES, names: Collection[Name] = ()) -> list[Probe]:
    """All probes, each once: with names that nothing has, and with these."""
    own = [subject for role in roles.values() for subject in (*role.publish, *role.subscribe)]
    own += [subject.replace(BOOKS, name, 1) for subject in own if is_of_books(subject) for name in A_BOOK]
    here = [subject.replace(LOG_API, API) for subject in own]  # the name of its stream inside the log's own account
    trusted = dict.fromkeys([*DEEPER, *own, *here, *(f"{inbox(name)}.>" for name in roles)])
    found: dict[tuple[bool, str, str], Probe] = {}
    for pattern in [*trusted, *JETSTREAM]:
        nobodys, theirs = list(_examples(pattern)), [each for name in names for each in _named(pattern, name)]
        ways = [(True, _unobeyed(subject), "") for subject in (*nobodys, *theirs) if not may((FOR_EVERYBODY,), subject)]
        if pattern in trusted:
            queued = [] if pattern.startswith("$JS.") else nobodys
            ways += [(False, subject, "") for subject in (pattern, *nobodys)]
            ways += [(False, subject, _queue(subject) or NAMED) for subject in queued]
            ways += [(False, subject, _queue(subject)) for subject in theirs]  # a subscriber may also join a queue
        for publishes, subject, queue in ways:
            probe = Probe(publishes, subject, _in_words(publishes, pattern), queue)
            found.setdefault((publishes, subject, queue), probe)
    return list(found.values())


def some_names(clients: Mapping[str, Collection[str]]) -> list[Name]:
    """Some of the clients, given by tenant: at most `MAX_NAMES`, of as many tenants as possible."""
    each = max(1, MAX_NAMES // max(1, len(clients)))
    some = (Name(tenant, client) for tenant, known in clients.items() for client in islice(known or (NAMED,), each))
    return list(islice(some, MAX_NAMES))


def may(patterns: Iterable[str], subject: str) -> bool:
    """Whether one of the patterns covers all of that subject, which may be a pattern itself."""
    return any(_is_about(pattern.split("."), subject.split(".")) for pattern in patterns)


def _examples(pattern: str) -> Iterator[str]:
    """Subjects without wildcards that the pattern covers: with as few names as possible, and with more."""
    subject = pattern.replace("*", NAMED)
    yield subject.replace(">", NAMED)
    if subject.endswith(">"):
        yield subject.replace(">", ".".join([NAMED] * 3))


def _named(pattern: str, name: Name) -> Iterator[str]:
    """A subject with that name, if the pattern covers any."""
    if (begin := OF_A_TENANT.search(pattern)) is not None:
        names = pattern[begin.end() :].replace("*", name.tenant, 1).replace("*", name.client, 1)
        yield next(_examples(pattern[: begin.end()] + names))


def _queue(subject: str) -> str:
    """The service's queue group on that subject; empty for none."""
    return next((queue for begin, queue in QUEUES.items() if subject.startswith(begin)), "")


def _in_words(publishes: bool, pattern: str) -> str:
    kind = next((words for begin, words in KINDS.items() if pattern.startswith(begin)), pattern)
    return f"{'publish' if publishes else 'subscribe'} to {kind}"


def _is_about(pattern: list[str], subject: list[str]) -> bool:
    if subject[-1] == ">" and pattern[-1] != ">":
        return False
    head = pattern[:-1] if pattern[-1] == ">" else pattern
    long_enough = len(subject) > len(head) if pattern[-1] == ">" else len(subject) == len(head)
    return long_enough and all(part in ("*", given) for part, given in zip(head, subject, strict=False))
