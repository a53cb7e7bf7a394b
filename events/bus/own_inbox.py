"""Which reply subjects a requester may use: those below its own inbox, without wildcards (ADR 0036).

The broker accepts any reply subject from anybody, and the service may publish below every inbox of the account.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

OwnInbox: TypeAlias = Callable[[str, str], bool]
"""`(subject, reply)`: whether the requester on that subject may have that reply subject."""

MAX_REPLY_CHARACTERS = 512
"""Characters of a reply subject."""
_INBOX = re.compile(r"_INBOX(?:\.[^.*> \t\r\n]+)+")
"""No wildcard, no empty token, and no byte that ends a subject; any other byte, as the broker accepts it."""


def of_anybody(_subject: str, reply: str) -> bool:
    """Accept any inbox, on a broker whose users have no inboxes of their own."""
    return len(reply) <= MAX_REPLY_CHARACTERS and _INBOX.fullmatch(reply) is not None


def of_client(subject: str, reply: str) -> bool:
    """Accept the inbox of the client in the subject; if it names no client, that of any client of its tenant."""
    fields = subject.split(".", 4)
    named = f"{fields[3]}." if fields[2] == "client" else ""
    return reply.startswith(f"_INBOX.{fields[1]}.{named}") and of_anybody(subject, reply)


def of_person(subject: str, reply: str) -> bool:
    """Accept any inbox below a client's. Each token has its own, and a request does not show which token sent it."""
    return reply.count(".") > 3 and of_client(subject, reply)


def of_role(role: str) -> OwnInbox:
    """Accept the inbox of the whole role, or of the role in the subject's tenant."""
    of_all = f"_INBOX.role.{role}."

    def is_own(subject: str, reply: str) -> bool:
        mine = (of_all, f"_INBOX.{subject.split('.', 2)[1]}.role.")
        return reply.startswith(mine) and of_anybody(subject, reply)

    return is_own
