"""`heirloom audit …`: a token's validity, earlier states, a person, a theft's reach, activity, words."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from heirloom.cli.audit.audit_query import SINCE, UNTIL, paged, query, query_once, show
from heirloom.cli.audit.csv_columns import COLUMNS
from heirloom.cli.tables import ACTIVITY_COUNTS, Answer, Row, newest, plain, print_facts, print_page, shown, when
from heirloom.cli.time_param import MomentParam, TimeParam
from heirloom.time_text import FORMS

_TOKEN_HELP = """Was this token valid, and which commit decided it?

`-` reads it from standard input, so that it is in no shell history. That the token is genuine is not checked:
introspection does that.
"""


@click.command(help=_TOKEN_HELP)
@query
@click.argument("text", metavar="[TOKEN|-]", required=False)
@click.option("--jti", metavar="JTI", help="The id of an access token, instead of the token.")
@click.option(
    "--family", "family_id", metavar="FAMILY_ID", help="With --generation: a refresh token, instead of the token."
)
@click.option("--generation", type=click.IntRange(0), help="0 is the first of its family.")
@click.option("--at", type=TimeParam(), help=f"A day (its beginning), a time, or how long ago: {FORMS}; otherwise now.")
def token(data: Path, nats: str | None, tenant: str, form: str | None, text: str | None, **about: Any) -> None:
    """Print whether a token was valid, and the commit that decided it."""
    about["token"] = sys.stdin.buffer.read().decode(errors="replace").strip() if text == "-" else text
    show(query_once(data, nats, f"audit.{tenant}.token", about), form, _print_token)


@click.command("as-of")
@paged
@click.argument("moment", type=MomentParam(), metavar="SEQ|TIME")
@click.option("--family", "family_id", metavar="FAMILY_ID", help="This family alone.")
@click.option("--sub", metavar="SUB", help="The families of this person.")
def as_of(data: Path, nats: str | None, tenant: str, form: str | None, moment: int | datetime, **about: Any) -> None:
    """A family, a person's families or a tenant's, as they were.

    A day is its beginning.
    """
    about["seq" if isinstance(moment, int) else "at"] = moment
    if about["family_id"] is not None:
        about["limit"] = None
    show(query_once(data, nats, f"audit.{tenant}.as_of", about), form, _print_states, COLUMNS["as_of"])


@click.command()
@paged
@click.argument("from_seq", type=click.IntRange(0), metavar="SEQ1")
@click.argument("to_seq", type=click.IntRange(0), metavar="SEQ2")
def diff(data: Path, nats: str | None, tenant: str, form: str | None, **about: Any) -> None:
    """The families that changed after SEQ1, up to SEQ2."""
    columns = "seq", "family", "client", "subject", "what", "before", "after"
    answer = query_once(data, nats, f"audit.{tenant}.diff", about)
    show(answer, form, lambda a: print_page(a, columns, _change_row), COLUMNS["diff"])


@click.command()
@paged
@click.argument("sub")
def subject(data: Path, nats: str | None, tenant: str, form: str | None, **about: Any) -> None:
    """Everything ever issued for a person."""
    show(query_once(data, nats, f"audit.{tenant}.subject", about), form, _print_person, COLUMNS["subject"])


@click.command("blast-radius")
@query
@click.argument("family_id", metavar="FAMILY_ID")
def blast_radius(data: Path, nats: str | None, tenant: str, form: str | None, family_id: str) -> None:
    """What a theft could reach, and for how long.

    The tokens that were alive when the thief struck, and who presented which generation when.
    """
    answer = query_once(data, nats, f"audit.{tenant}.blast_radius", {"family_id": family_id})
    show(answer, form, _print_reach)


@click.command()
@paged
@SINCE
@UNTIL
def activity(data: Path, nats: str | None, tenant: str, form: str | None, **period: Any) -> None:
    """How much happened in each hour, newest first.

    An hour is counted as a whole, also the one in which --since or --until lies.
    """
    columns = "hour", *(count.replace("_", " ") for count in ACTIVITY_COUNTS)
    answer = query_once(data, nats, f"audit.{tenant}.activity", period)
    show(answer, form, lambda a: print_page(a, columns, _hour_row), COLUMNS["activity"])


@click.command()
@paged
@SINCE
@UNTIL
@click.argument("words", nargs=-1, required=True)
def search(data: Path, nats: str | None, tenant: str, form: str | None, words: tuple[str, ...], **period: Any) -> None:
    """Find words in reasons, causes and actors.

    Revocations, incidents and cut-offs with all these words, newest first.
    """
    columns = "when", "seq", "family", "client", "subject", "what", "reason", "who", "cause"
    answer = query_once(data, nats, f"audit.{tenant}.search", {"text": " ".join(words), **period})
    show(answer, form, lambda a: print_page(a, columns, _found_row), COLUMNS["search"])


def _print_token(answer: Answer) -> None:
    by = answer["decided_by"]
    verdict = plain(answer["verdict"].replace("_", " "), "green" if answer["valid"] else "red")
    decided = f"{by['type']}, sequence {by['seq']}, {when(by['at'])}"
    facts = {"at": when(answer["at"]), "it was": verdict, "decided by": decided, "family": answer["family_id"]}
    facts |= {name: answer.get(name) for name in ("kind", "jti", "generation")}
    facts |= {"client": answer["client_id"], "subject": answer["sub"], "scope": answer["scope"]}
    print_facts(facts | {"issued": when(answer["issued_at"]), "expires": when(answer["expires_at"])})


def _print_states(answer: Answer) -> None:
    columns = "began", "family", "client", "subject", "status", "gen", "ends", "scope"
    print_page(answer if "items" in answer else {"items": [answer], "cursor": None}, columns, _state_row)


def _print_person(answer: Answer) -> None:
    for order in answer["cut_offs"]:
        reason = "" if order["reason"] is None else f": {order['reason']}"
        click.echo(plain(f"{when(order['at'])} {order['type']} by {order['actor']}{reason}").plain)
    columns = "when", "seq", "family", "client", "gen", "what", "scope", "jti"
    print_page(answer, columns, _issued_row)


def _print_reach(answer: Answer) -> None:
    facts = {"family": answer["family_id"], "client": answer["client_id"], "subject": answer["sub"]}
    reason = answer["incident"]
    facts |= {"incident": shown(reason, answer["generation"]), "by": answer["presented_by"]}
    facts |= {"newest": newest(reason, answer["current_generation"]) or None}
    moments = "copied_after", "branched_at", "struck_at", "ended_at"
    facts |= {name.replace("_", " "): when(answer[name]) or None for name in moments}
    facts |= {"exposed for": _seconds(answer["exposed_seconds"]), "ended after": _seconds(answer["seconds_to_end"])}
    print_facts(facts | {"scope": answer["scope"], "audience": " ".join(answer["audience"])})
    click.echo()
    print_page({"items": answer["alive"], "cursor": None}, ("alive", "id", "scope", "ends", "seconds left"), _alive_row)
    if (more := answer["alive_count"] - len(answer["alive"])) > 0:
        click.echo(f"and {more:,} older ones")
    click.echo()
    columns = "when", "seq", "gen", "presented by", "outcome"
    print_page({"items": answer["presentations"], "cursor": None}, columns, _presented_row)


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:,.3f} s"


def _state_row(item: Answer) -> Row:
    status = item["status"] if item["reason"] is None else f"{item['status']} ({item['reason']})"
    who = _text(item, "family_id", "client_id", "sub")
    return (
        when(item["opened_at"]),
        *who,
        plain(status),
        *_text(item, "generation"),
        when(item["expires_at"]),
        *_text(item, "scope"),
    )


def _change_row(item: Answer) -> Row:
    states = ("" if state is None else _brief(state) for state in (item["before"], item["after"]))
    return *_text(item, "seq", "family_id", "client_id", "sub"), plain(", ".join(item["changes"])), *states


def _brief(state: Answer) -> str:
    return state["status"] if state["generation"] is None else f"{state['status']}, generation {state['generation']}"


def _issued_row(item: Answer) -> Row:
    who = _text(item, "seq", "family_id", "client_id", "generation")
    return when(item["at"]), *who, plain(", ".join(item["types"])), *_text(item, "scope", "jti")


def _alive_row(item: Answer) -> Row:
    return (
        item["kind"],
        *_text({"id": item.get("jti", item.get("generation"))} | item, "id", "scope"),
        when(item["expires_at"]),
        f"{item['seconds_left']:.0f}",
    )


def _presented_row(item: Answer) -> Row:
    is_code = item["credential"] != "refresh_token"
    accepted = "redeemed" if is_code else "rotated"
    outcome = plain(accepted, "green") if item["accepted"] else plain("refused", "red")
    facts = item | {"generation": "code" if is_code else item["generation"]}
    return when(item["at"]), *_text(facts, "seq", "generation", "by"), outcome


def _hour_row(item: Answer) -> Row:
    return when(item["hour"])[:16], *_text(item, *ACTIVITY_COUNTS)


def _found_row(item: Answer) -> Row:
    who = _text(item, "seq", "family_id", "client_id", "sub", "type", "reason", "actor", "cause")
    return when(item["at"]), *who


def _text(item: Answer, *names: str) -> Row:
    return tuple(plain("" if item.get(name) is None else str(item[name])) for name in names)
