"""Where a reply may go: below the asker's own inbox, by a subject without wildcards (ADR 0036).

The broker lets everybody name any reply subject, and the service may publish below every inbox of the account.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

OwnInbox: TypeAlias = Callable[[str, str], bool]
"""`(subject, reply)`: whether who may publish that request may have that reply subject."""

MAX_REPLY = 512
"""Characters of a reply subject."""
_INBOX = re.compile(r"_INBOX(?:\.[^.*> \t\r\n]+)+")
"""No wildcard, no empty token, and nothing that ends a subject; otherwise any byte, as the broker has it."""


def of_anybody(_subject: str, reply: str) -> bool:
    """On a broker of which nothing more is known: an inbox."""
    return len(reply) <= MAX_REPLY and _INBOX.fullmatch(reply) is not None


def of_client(subject: str, reply: str) -> bool:
    """The inbox of the client that the subject names; where it names none, of a client of that tenant."""
    fields = subject.split(".", 4)
    named = f"{fields[3]}." if fields[2] == "client" else ""
    return reply.startswith(f"_INBOX.{fields[1]}.{named}") and of_anybody(subject, reply)


def of_person(subject: str, reply: str) -> bool:
    """An inbox below a client's: each token has one, and nothing that arrives says which of them asks."""
    return reply.count(".") > 3 and of_client(subject, reply)


def of_role(role: str) -> OwnInbox:
    """The inbox of a role, or of a name of the subject's tenant."""
    of_all = f"_INBOX.role.{role}."

    def is_own(subject: str, reply: str) -> bool:
        mine = (of_all, f"_INBOX.{subject.split('.', 2)[1]}.role.")
        return reply.startswith(mine) and of_anybody(subject, reply)

    return is_own
