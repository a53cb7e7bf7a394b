"""A reply goes below the requester's own inbox, or nowhere (ADR 0036)."""

import pytest

from events.bus.own_inbox import MAX_REPLY_CHARACTERS, OwnInbox, of_anybody, of_client, of_person, of_role

WEB, PUBLIC, ORDER = "oauth.acme.client.web.token", "oauth.acme.public.jwks", "admin.acme.role.list"


@pytest.mark.parametrize(
    ("own_inbox", "subject", "reply"),
    [
        (of_client, WEB, "_INBOX.acme.web.x"),
        (of_client, WEB, "_INBOX.acme.web.x.1"),
        (of_client, PUBLIC, "_INBOX.acme.other.x"),
        (of_person, "oauth.acme.client.web.introspect", "_INBOX.acme.web.jti.x"),
        (of_person, PUBLIC, "_INBOX.acme.web.jti.x"),
        (of_role("operator"), ORDER, "_INBOX.role.operator.x"),
        (of_role("operator"), ORDER, "_INBOX.acme.role.me.x"),
        (of_anybody, WEB, "_INBOX.x"),
        (of_client, WEB, "_INBOX.acme.web.x\x0b\udcff"),
    ],
)
def test_a_reply_to_the_own_inbox_is_sent(own_inbox: OwnInbox, subject: str, reply: str) -> None:
    assert own_inbox(subject, reply)


@pytest.mark.parametrize(
    ("own_inbox", "subject", "reply"),
    [
        (of_client, WEB, "_INBOX.acme.other.x"),
        (of_client, WEB, "_INBOX.acme.web2.x"),
        (of_client, WEB, "_INBOX.globex.web.x"),
        (of_client, WEB, "_INBOX.acme.web"),
        (of_client, PUBLIC, "_INBOX.globex.web.x"),
        (of_person, "oauth.acme.client.web.introspect", "_INBOX.acme.web.x"),
        (of_person, "oauth.acme.client.web.introspect", "_INBOX.acme.other.jti.x"),
        (of_role("operator"), ORDER, "_INBOX.role.service.x"),
        (of_role("operator"), ORDER, "_INBOX.globex.role.me.x"),
        (of_role("auditor"), "audit.acme.position", "_INBOX.role.inquiry.x"),
        (of_anybody, WEB, "tokens.acme.tenant"),
        (of_anybody, WEB, "_INBOX"),
        (of_anybody, WEB, "_INBOX." + "x" * MAX_REPLY_CHARACTERS),
    ],
)
def test_a_reply_to_another_inbox_is_not_sent(own_inbox: OwnInbox, subject: str, reply: str) -> None:
    assert not own_inbox(subject, reply)


@pytest.mark.parametrize("end", ["*", ">", "x.>", "x.*", "*.x", "x*", "", "x.", "x y", "x\ty", "x\r\n", "x\n"])
def test_a_reply_needs_a_single_valid_subject(end: str) -> None:
    """Else the broker could deliver it to several inboxes, or read it as another subject."""
    for own_inbox, subject, inbox in (
        (of_anybody, WEB, "_INBOX"),
        (of_client, WEB, "_INBOX.acme.web"),
        (of_person, PUBLIC, "_INBOX.acme.web.jti"),
        (of_role("edge"), "oauth.acme.edge.token", "_INBOX.role.edge"),
    ):
        assert not own_inbox(subject, f"{inbox}.{end}")
