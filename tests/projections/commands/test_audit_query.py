"""`heirloom audit …` in tables, JSON and CSV, against a projector."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Awaitable
from typing import cast

import msgspec
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from nats.aio.client import Client
from nats.aio.msg import Msg

from events.bus.connection import Connection
from events.fairness.request_gate import GateKey
from heirloom.cli.audit.audit_query import query_in_full
from heirloom.cli.main import main
from heirloom.cli.tables import ACTIVITY_COUNTS
from projections import pagination
from projections.queries.server import Audit
from projections.tables.activity import COUNTS
from tests.broker import Broker, broker
from tests.projections.projector.test_projector import LOG, projector, publish
from tests.projections.queries.local_audit import LocalAudit

IN_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
"""In the loop of the projector that these tests share."""


async def audit(server: Broker, *arguments: str, text: str | bytes | None = None, tenant: str = "acme") -> Result:
    """Run `heirloom audit` with these arguments."""
    command = ["audit", *arguments, "--tenant", tenant, "--nats", server.url]
    return await asyncio.to_thread(CliRunner().invoke, main, command, input=text)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A projector that has applied the eventful log; no test adds to it."""
    directory = tmp_path_factory.mktemp("commands")
    with broker(directory / "broker") as server:
        await publish(server, LOG)
        async with projector(server, directory / "model"):
            yield server


def test_the_counts_of_an_hour_are_those_of_the_read_model() -> None:
    """The command line repeats their names."""
    assert ACTIVITY_COUNTS == COUNTS


@IN_ONE_LOOP
async def test_every_query_has_a_command(running: Broker) -> None:
    """A table, JSON and CSV for each; a refusal is one line and exit code 1, never a traceback."""
    for question, expected in {
        ("token", "--jti", "f2-1"): "FamilyRevoked",
        ("token", "--family", "f2", "--generation", "0"): "rotated",
        ("as-of", "20", "--sub", "user1"): "f1",
        ("as-of", "2026-11-20T12:00:20Z", "--family", "f2"): "live",
        ("diff", "0", "20"): "begun",
        ("subject", "user0"): "Laptop lost",
        ("blast-radius", "f2"): "exposed",
        ("activity",): "2026-11-20",
        ("search", "laptop", "café"): "SubjectBlocked",
        ("family", "f2"): "TokenReuseDetected",
        ("incidents",): "f4",
    }.items():
        for form in ((), ("--json",), ("--csv",)):
            result = await audit(running, *question, *form)
            assert (result.exit_code, result.exception) == (0, None), result.output
            if form != ("--csv",):
                assert expected in result.output
            if form == ("--json",):
                msgspec.json.decode(result.stdout)
    lines = list(csv.DictReader(io.StringIO((await audit(running, "families", "--csv")).stdout)))
    assert [line["family_id"] for line in lines] == [f"f{number}" for number in range(7, -1, -1)]
    picture = (await audit(running, "family", "f2", "--picture")).stdout
    assert [word in picture for word in ("generation 3", "shown again by", "the end: reuse_detected")] == [True] * 3
    assert "generation 0 shown again by app" in picture
    refused = await audit(running, "token", "-", text="hrt_secret\n")
    assert (refused.exit_code, refused.output) == (1, "Error: that is no token\n")
    garbage = await audit(running, "token", "-", text=b"\xff\xfe\0")
    assert (garbage.exit_code, garbage.output) == (1, "Error: that is no token\n")
    for wrong in (
        ["diff", "9", "1"],
        ["subject", "\udcff"],
        ["diff", "0", "9" * 30],
        ["as-of", "9" * 30],
        ["as-of", "2099-01-01T00:00:00Z"],
        ["token"],
        ["blast-radius", "' OR 1=1"],
    ):
        refused = await audit(running, *wrong)
        assert (refused.exit_code, refused.output.startswith("Error: ")) == (1, True)


@IN_ONE_LOOP
async def test_an_empty_list_has_the_same_csv_header(running: Broker) -> None:
    """So that a program reading it needs no special case for a day without rows."""
    for question, without in {
        ("families",): ("--sub", "nobody"),
        ("revocations",): ("--sub", "nobody"),
        ("incidents",): ("--sub", "nobody"),
        ("as-of", "20"): ("--sub", "nobody"),
        ("activity",): ("--until", "2020-01-01"),
        ("search", "user0"): ("--until", "2020-01-01"),
        ("search", "reuse"): ("--until", "2020-01-01"),
    }.items():
        full, empty = [(await audit(running, *question, *more, "--csv")).stdout for more in ((), without)]
        assert full.startswith(empty) and empty.count("\n") == 1, (question, full, empty)
    for found, none in {("subject", "user0"): ("subject", "nobody"), ("diff", "0", "20"): ("diff", "20", "20")}.items():
        full, empty = [(await audit(running, *question, "--csv")).stdout for question in (found, none)]
        assert full.startswith(empty) and empty.count("\n") == 1, (found, full, empty)


@IN_ONE_LOOP
async def test_what_if_without_affected_families_prints_its_totals(running: Broker) -> None:
    """As CSV: one row with the numbers of the table."""
    question = "what-if", "--grace", "1", "--client", "nobody", "--csv"
    (totals,) = csv.DictReader(io.StringIO((await audit(running, *question)).stdout))
    assert (totals["families"], totals["same"], totals["would_have_died"]) == ("0", "0", "0")


@IN_ONE_LOOP
async def test_incidents_name_the_presented_credential(running: Broker) -> None:
    """A reused code has no generation and a forged one was never issued: in tables and in pictures."""
    code, forged = "code shown again", "generation 9, never issued, shown"
    late = "generation 0 sent again, late"
    assert code in (listed := (await audit(running, "incidents", tenant="initech")).stdout) and " 0 " not in listed
    assert forged in (await audit(running, "incidents")).stdout
    assert late in (await audit(running, "incidents", "--reason", "late_duplicate")).stdout
    assert "sent again, late, by app at generation 4 · late_duplicate" in (await audit(running, "family", "f0")).stdout
    assert f"{late} by app" in (await audit(running, "family", "f0", "--picture")).stdout
    for question in (("family", "c1"), ("family", "c1", "--picture"), ("blast-radius", "c1")):
        told = (await audit(running, *question, tenant="initech")).stdout
        assert code in told and "generation" not in told, told
    assert f"{forged} by app" in (await audit(running, "family", "f4", "--picture")).stdout
    assert "never issued, shown by app at generation 3" in (await audit(running, "family", "f4")).stdout
    assert forged in (await audit(running, "blast-radius", "f4")).stdout


class _Wire:
    """The audit's replies without a bus between."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def unless_denied(self, asking: Awaitable[Msg]) -> Msg:
        return await asking

    async def request(self, subject: str, body: bytes, **_: object) -> Msg:
        reply, _headers = await self._audit.answer(subject, body, GateKey.of(subject, ""))
        return Msg(_client=Client(), data=reply)


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_a_page_is_filled_however_rare_its_items_are(
    ask: LocalAudit, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Each reply looks at one row only; the command still returns the full page, and the cursor of the rest."""
    question = {"status": "live", "client_id": "web"}
    whole = (await ask("families", **question))["items"]
    monkeypatch.setattr(pagination, "MAX_ROWS_READ", 1)
    wire = cast("Connection", _Wire(ask.audit))
    first = await query_in_full(wire, "audit.acme.families", question | {"limit": limit})
    assert first["items"] == whole[:limit]
    if limit < len(whole):
        rest = question | {"limit": 100, "cursor": first["cursor"]}
        assert (await query_in_full(wire, "audit.acme.families", rest))["items"] == whole[limit:]


@pytest.mark.parametrize(
    ("question", "more"),
    [
        (("families", "--since", "9000d"), "--since"),
        (("revocations", "--since", "9000d", "--until", "0s"), "--since"),
        (("incidents", "--until", "0s"), "--until"),
        (("search", "reuse", "--since", "9000d"), "--since"),
        (("as-of", "0s"), "as-of"),
    ],
)
@IN_ONE_LOOP
async def test_a_page_asked_for_by_relative_time_has_a_next_one(
    running: Broker, question: tuple[str, ...], more: str
) -> None:
    """Its hint holds absolute times, so that the next page answers the same query; JSON holds them too."""
    first = await audit(running, *question, "--limit", "1")
    hint = first.stdout.splitlines()[-1].removeprefix("more: ").split(" ")
    assert hint[0] == more
    command = hint if more == "as-of" else [*question, *hint]
    second = await audit(running, *command, "--limit", "1")
    assert second.exit_code == 0, second.output
    assert second.stdout.splitlines()[1] != first.stdout.splitlines()[1]
    told = msgspec.json.decode((await audit(running, *question, "--limit", "1", "--json")).stdout)
    assert told["asked"] and all(time.endswith("Z") for time in told["asked"].values())
