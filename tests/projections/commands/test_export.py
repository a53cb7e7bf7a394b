"""`heirloom audit export`: which fields are exported, in which formats, and resuming after an interruption."""

import asyncio
import csv
import io
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from click.testing import CliRunner, Result

from events.aggregates import aggregate_names
from events.log.stored_message import StoredMessage
from heirloom.cli.main import main
from heirloom.export import parquet
from heirloom.export.csv_cell import cell
from heirloom.export.line_formats import FORMS
from heirloom.export.records import COLUMNS, COMMIT, EVENTS, RENAMED, WITHHELD, records
from tests.broker import Broker
from tests.events.aggregates.test_golden import GOLDEN
from tests.projections.logs import LogMaker
from tests.projections.projector.test_projector import LOG, PATIENCE_SECONDS, publish
from tests.system.service import HEIRLOOM


def export(broker: Broker, *options: str) -> Result:
    """Run `heirloom audit export` with these options."""
    return CliRunner().invoke(main, ["audit", "export", "--nats", broker.url, *options])


STATES: dict[str, dict[str, Any]] = {
    kind: msgspec.json.decode((GOLDEN / f"{kind}.commit.json").read_bytes())["state"]
    for kind in ("family", "client", "tenant", "subject", "key", "role", "book")
}


def place(kind: str, event: dict[str, Any]) -> str:
    """The subject of a commit with that event."""
    if kind == "family":
        ends = event["type"] in ("FamilyRevoked", "TokenRevoked", "TokenReuseDetected", "ForgeryDetected")
        return aggregate_names.family("acme", "x").revoked if ends else aggregate_names.family("acme", "x").live
    if kind == "subject":
        return aggregate_names.subject("acme", STATES["subject"]["sub"]).live
    if kind == "book":
        return aggregate_names.book().live
    return "tokens.acme.tenant" if kind == "tenant" else f"tokens.acme.{kind}.x"


def committed(subject: str, *events: dict[str, Any]) -> StoredMessage:
    """A stored commit with these events."""
    state = STATES[subject.split(".")[2]]
    body = {"v": 1, "id": "c1", "at": "2026-11-20T12:00:00.5Z", "actor": "client:web", "prev": None, "prev_seq": 0}
    return StoredMessage(7, subject, msgspec.json.encode(body | {"events": events, "state": state}))


def test_every_event_field_is_exported_or_withheld() -> None:
    """A new field must be one of both; no field shadows a commit's own columns."""
    fields = {f"{name}.{field}" for name, event in EVENTS.items() for field in event.__struct_fields__}
    assert set(WITHHELD) <= fields
    told = {field.split(".")[1] for field in fields - set(WITHHELD)}
    columns = {RENAMED.get(field, field) for field in told}
    assert set(COLUMNS) == columns | set(COMMIT)
    assert len(columns) == len(told)
    assert columns.isdisjoint(COMMIT)


def test_a_records_time_is_its_commits() -> None:
    """Also where the event holds a time of its own, which has another column."""
    event = {"type": "ClientDisabled", "reason": "lost", "at": "2026-11-20T11:59:58Z"}
    (record,) = records(committed("tokens.acme.client.web", event))
    assert record["at"] == datetime(2026, 11, 20, 12, 0, 0, 500_000, UTC)
    assert record["void_until"] == datetime(2026, 11, 20, 11, 59, 58, tzinfo=UTC)


@pytest.mark.parametrize("file", sorted(set(GOLDEN.glob("*.json")) - set(GOLDEN.glob("*.commit*.json"))), ids=str)
def test_no_record_holds_a_withheld_field(file: Path) -> None:
    """No secret of any golden event is in any format; all other known fields are."""
    event = msgspec.json.decode(file.read_bytes())
    kind, name = file.name.split(".")[:2]
    (record,) = records(committed(place(kind, event), event))
    told = msgspec.json.decode(msgspec.json.encode(record))
    for field, value in event.items():
        if f"{name}.{field}" in WITHHELD:
            secrets = re.findall(r"[^\W_]{6,}", str(value)) if field != "secret" else []
            assert field not in told
            assert not any(secret in form.encode([record]).decode() for form in FORMS.values() for secret in secrets)
        elif field == "expires_in":  # how it is written; the time itself leaves
            assert datetime.fromisoformat(told["expires_at"]) > datetime.fromisoformat(told["at"])
        elif value not in (None, []):
            assert told[RENAMED.get(field, field)] == value


def test_cloud_events_follow_their_specification() -> None:
    """CloudEvents 1.0 §3: the required attributes, non-empty; names of lower-case letters and digits, at most 20."""
    ids = set()
    for stored in LOG:
        for record in records(stored):
            event = msgspec.json.decode(FORMS["cloudevents"].encode([record]))
            assert all(isinstance(event[name], str) and event[name] for name in ("id", "source", "specversion", "type"))
            assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)
            assert all(isinstance(value, str) for name, value in event.items() if name != "data")
            assert event["specversion"] == "1.0"
            assert re.fullmatch(r"urn:heirloom:[a-z0-9-]+", event["source"])
            assert re.fullmatch(r"dev\.heirloom\.[A-Z][A-Za-z]+", event["type"])
            assert datetime.fromisoformat(event["time"]).tzinfo is not None
            assert event["datacontenttype"] == "application/json" and isinstance(event["data"], dict)
            ids.add((event["source"], event["id"]))
    assert len(ids) == sum(len(records(stored)) for stored in LOG)


@pytest.mark.parametrize("begin", "=+-@\t\r")
def test_no_cell_is_a_formula(begin: str) -> None:
    """Spreadsheets execute such cells (OWASP, CSV injection); a number stays a number, and a record one line."""
    assert cell(f"{begin}1").startswith("'")
    assert cell([f"{begin}1", "x"]).startswith("'")
    assert (cell(-1), cell("a-b"), cell("a\r\nb")) == (-1, "a-b", "a\\r\\nb")


async def test_an_interrupted_export_resumes_anywhere(nats_server: Broker, tmp_path: Path) -> None:
    """With --resume any prefix of the file becomes the same file as without an interruption."""
    await publish(nats_server, LOG)
    for form in FORMS:
        whole = tmp_path / f"whole.{form}"
        assert (await asyncio.to_thread(export, nats_server, "--format", form, "--into", str(whole))).exit_code == 0
        content = whole.read_bytes()
        assert content.count(b"\n") == sum(len(records(stored)) for stored in LOG) + (form == "csv")
        for length in (0, 1, *range(301, len(content), len(content) // 8), len(content) - 1, len(content)):
            part = tmp_path / "part"
            part.write_bytes(content[:length])
            result = await asyncio.to_thread(export, nats_server, "--format", form, "--into", str(part), "--resume")
            assert (result.exit_code, part.read_bytes() == content) == (0, True), (form, length, result.output)


async def test_parquet_resumes_after_its_last_part(
    nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of whole commits, typed columns; with an unfinished part at the end no row is missing or twice."""
    monkeypatch.setattr(parquet, "ROWS", 20)
    monkeypatch.setattr("events.log.direct_reader.REQUEST_SIZE", 8)
    await publish(nats_server, LOG)
    into = tmp_path / "parts"
    options = "--format", "parquet", "--into", str(into)
    assert (await asyncio.to_thread(export, nats_server, *options)).exit_code == 0
    parts = sorted(into.iterdir())
    assert len(parts) > 2
    parts[-1].rename(parts[-1].with_suffix(".unfinished"))
    assert (await asyncio.to_thread(export, nats_server, *options, "--resume")).exit_code == 0
    rows = [row for part in sorted(into.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    expected = [record for stored in LOG for record in records(stored)]
    assert [(row["seq"], row["index"]) for row in rows] == [(record["seq"], record["index"]) for record in expected]
    for row, record in zip(rows, expected, strict=True):
        shown = {name: value for name, value in row.items() if value is not None}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}
        assert shown.keys() == listed.keys()
        assert all(shown[name] == listed[name] for name in listed if name not in ("settings", "jwk"))


async def test_filters_and_refused_files(nats_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tenant, family, sequence, time; a file of another log, format or filter stays as it is."""
    await publish(nats_server, LOG)

    async def told(*options: str) -> list[dict[str, Any]]:
        result = await asyncio.to_thread(export, nats_server, *options)
        assert result.exit_code == 0, result.output
        return [msgspec.json.decode(line) for line in result.stdout.splitlines()]

    assert {record["tenant"] for record in await told("--tenant", "globex")} == {"globex"}
    unknown = await asyncio.to_thread(export, nats_server, "--tenant", "nosuch")
    assert (unknown.exit_code, unknown.output) == (1, "Error: the log has no tenant nosuch\n")
    monkeypatch.setenv("HEIRLOOM_TENANT", "globex")
    assert {record["tenant"] for record in await told()} == {"globex"}
    monkeypatch.delenv("HEIRLOOM_TENANT")
    assert {record["aggregate_id"] for record in await told("--family", "f2")} == {"f2"}
    assert {record["seq"] for record in await told("--since", "5", "--until", "6")} == {5, 6}
    then = "2026-11-20T12:00:10Z"
    assert {record["at"] for record in await told("--since", then, "--until", then)} == {then}
    rows = list(csv.DictReader(io.StringIO((await asyncio.to_thread(export, nats_server, "--format", "csv")).stdout)))
    assert [row["type"] for row in rows if row["reason"] == "reuse_detected"] == ["FamilyRevoked"] * 2
    file = tmp_path / "file"
    other = LogMaker()
    for number in range(3):
        other.open(f"g{number}")
    lines = FORMS["jsonl"].encode([record for stored in other.log for record in records(stored)])
    for content, wrong, why in (
        (lines.replace(b':"commit', b':"other'), (), "of another log"),
        (lines, ("--tenant", "globex"), "of something else"),
        (b"no export\n", (), "no export of this format"),
        (b"the only copy of a list", (), "does not begin as this export does"),
        (b"the only copy of a list", ("--format", "csv"), "does not begin as this export does"),
        (FORMS["csv"].header + b"seven", ("--format", "csv"), "does not begin as this export does"),
        (FORMS["jsonl"].encode(records(LOG[1]))[:20], (), "does not begin as this export does"),
        (lines, ("--format", "csv"), "no export of this format"),
    ):
        file.write_bytes(content)
        refused = await asyncio.to_thread(export, nats_server, "--into", str(file), "--resume", *wrong)
        assert (refused.exit_code, why in refused.output, file.read_bytes() == content) == (1, True, True)
        assert "--into" in refused.output
    refused = await asyncio.to_thread(export, nats_server, "--into", str(file))
    assert (refused.exit_code, "exists already" in refused.output) == (1, True)
    inverted = "--since", "4", "--until", "3"
    names = ("--tenant", "Not A Tenant"), ("--family", "f.*")
    for usage in (("--follow", "--until", "3"), ("--format", "parquet"), ("--resume",), inverted, *names):
        assert (await asyncio.to_thread(export, nats_server, *usage)).exit_code == 2


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nats_server: Broker) -> None:
    """One line that names the package to install."""
    asyncio.run(publish(nats_server, LOG[:1]))
    monkeypatch.delitem(sys.modules, "heirloom.export.parquet", raising=False)
    monkeypatch.delattr("heirloom.export.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = export(nats_server, "--format", "parquet", "--into", str(tmp_path / "parts"))
    assert refused.output == "Error: Parquet needs pyarrow: install heirloom-oauth[parquet]\n"


async def test_it_follows_until_sigterm(nats_server: Broker) -> None:
    """Commits are printed as they arrive; SIGTERM ends it with status 0."""
    await publish(nats_server, LOG[:20])
    command = [str(HEIRLOOM), "audit", "export", "--follow", "--format", "cloudevents", "--nats", nats_server.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen: list[int] = []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for begun, end in ((0, 20), (20, 30)):
                await publish(nats_server, LOG[begun:end] if begun else [])
                while not seen or seen[-1] < end:
                    seen.append(msgspec.json.decode(await process.stdout.readline())["data"]["seq"])
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert sorted(set(seen)) == list(range(1, 31))
