"""What is tried at a broker's doors: all that the role table trusts (`heirloom.roles`), and no stranger may touch.

Whoever may publish where the service publishes or listens can speak in its place; whoever may subscribe there hears
what was meant for it. So each subject of the table is tried both ways, and a new one is tried because it is there.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from events.subjects import CHECKPOINT, REGISTRY
from heirloom.roles import LOG_API, ROLES, Role, inbox
from service import news

FOR_EVERYBODY = "oauth.*.public.>"
"""What anybody may ask; another's question is still not for everybody's ears."""
DEEPER = (
    "tokens.*.family.*.live",
    "tokens.*.family.*.revoked",
    *REGISTRY,
    CHECKPOINT,
    "admin.*.*.*",
    f"{news.SUBJECT}.*.*.*",
    "heirloom.applied.*",
    "heirloom.replica.*",
    "$JS.API.STREAM.NAMES",
    "_INBOX.*.>",
    "_R_.>",
)
"""What is of use to a thief below the table's own subjects: a right to that alone is one too many as well."""
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
    "$JS.API.": "$JS.API.>",
    f"{LOG_API}.": f"{LOG_API}.>, the log's stream",
    "$SYS.REQ.SERVER.": "$SYS.REQ.SERVER.>, the servers themselves",
    "_INBOX.": "another's inbox",
}
"""By how a subject begins, what it is in words; the first that fits."""
NAMED = "doors"
"""For each name that a pattern leaves open: nothing is called so."""


class Probe(NamedTuple):
    """One right that is tried; `what` is it in words."""

    publishes: bool
    subject: str
    what: str


def probes(roles: Mapping[str, Role] = ROLES) -> list[Probe]:
    """What is tried as anybody, each once."""
    own = [subject for role in roles.values() for subject in (*role.publish, *role.subscribe)]
    trusted = dict.fromkeys([*DEEPER, *own, *(f"{inbox(name)}.>" for name in roles)])
    found: dict[tuple[bool, str], Probe] = {}
    for pattern in trusted:
        published = [(True, subject) for subject in _examples(pattern) if pattern != FOR_EVERYBODY]
        for way in [*published, *((False, subject) for subject in (pattern, *_examples(pattern)))]:
            found.setdefault(way, Probe(*way, _in_words(way[0], pattern)))
    return list(found.values())


def may(patterns: Iterable[str], subject: str) -> bool:
    """Whether one of the patterns is about all of that subject, which may be a pattern itself."""
    return any(_is_about(pattern.split("."), subject.split(".")) for pattern in patterns)


def _examples(pattern: str) -> Iterator[str]:
    """Subjects that it is about, without wildcards: of as few names as can be, and of some more."""
    subject = pattern.replace("*", NAMED)
    yield subject.replace(">", NAMED)
    if subject.endswith(">"):
        yield subject.replace(">", ".".join([NAMED] * 3))


def _in_words(publishes: bool, pattern: str) -> str:
    kind = next((words for begin, words in KINDS.items() if pattern.startswith(begin)), pattern)
    return f"{'publish' if publishes else 'subscribe'} to {kind}"


def _is_about(pattern: list[str], subject: list[str]) -> bool:
    if subject[-1] == ">" and pattern[-1] != ">":
        return False
    head = pattern[:-1] if pattern[-1] == ">" else pattern
    long_enough = len(subject) > len(head) if pattern[-1] == ">" else len(subject) == len(head)
    return long_enough and all(part in ("*", given) for part, given in zip(head, subject, strict=False))
