"""The documents agree with the program and with each other."""

import asyncio
import re
import shlex
from pathlib import Path

import click
import pytest

from heirloom.asyncapi.document import encoded
from heirloom.cli.main import main
from projections.queries.server import QUERIES
from service.endpoints.discovery import ASYNCAPI
from service.request_handler import READS, WRITES
from tests.operations.http import metrics
from tests.system.service import Service

TOP = Path(__file__).parents[2]
TEXT = (TOP / "docs" / "operations.md").read_text()
SECURITY = (TOP / "docs" / "security.md").read_text()
CONTRACT = (TOP / "docs" / "contract.md").read_text()
DOCUMENTS = [TOP / "README.md", TOP / "CHANGELOG.md", *sorted((TOP / "docs").rglob("*.md"))]
COMMANDS = sorted(set(re.findall(r"(?:^    |`)(heirloom [^`#>\n]+)", TEXT, re.M)))
MAKES = re.compile(r"_(?:bucket|count|sum)$")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_docs_exists(command: str) -> None:
    """With its options and arguments."""
    _, *words = shlex.split(command)
    found: click.Command | None = main
    while isinstance(found, click.Group):
        found = found.get_command(click.Context(found), words.pop(0))
    assert found is not None
    given, rest, _ = found.make_parser(click.Context(found)).parse_args(words)
    assert not rest
    needed = {
        parameter.name for parameter in found.params if isinstance(parameter, click.Argument) and parameter.required
    }
    assert all(given.get(name or "") for name in needed)


@pytest.mark.parametrize("row", [row for row in SECURITY.splitlines() if "`tests/" in row])
def test_every_test_in_the_security_page_exists(row: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", row)
    assert named and all((TOP / file).is_file() for file in named)


def test_a_link_to_a_decision_has_its_number() -> None:
    """A label with a number names the same number as its file."""
    links = [
        (document.name, int(label), int(file))
        for document in DOCUMENTS
        for label, file in re.findall(r"\[(?:ADR )?(\d+)\]\((?:docs/)?(?:adr/)?(\d{4})-", document.read_text())
    ]
    assert len(links) > 20
    assert [link for link in links if link[1] != link[2]] == []


def test_the_bounds_of_requests_are_those_of_the_code() -> None:
    """In docs/security.md those of either kind of request, in the table of metrics their sums."""
    security, metrics_table = " ".join(SECURITY.split()), TEXT
    assert (
        f"of one client {WRITES.of_client} requests are worked on at once ({READS.of_client} that only read;"
        f" {READS.alone} for a client that is alone), of a tenant {WRITES.of_tenant} ({READS.of_tenant}),"
        f" in all {WRITES.at_once} ({READS.at_once}); of either kind {READS.waiting_of_client:,} of a client wait,"
        f" {READS.waiting_of_tenant:,} of a tenant, {READS.waiting:,} in all"
    ) in security
    assert READS[3:6] == WRITES[3:6], "the bounds of waiting requests"
    assert f"of at most {WRITES.at_once + READS.alone} a replica" in metrics_table
    waiting = [2 * bound for bound in (READS.waiting, READS.waiting_of_tenant, READS.waiting_of_client)]
    assert "of about {:,} a replica, {:,} a tenant, {:,} a client".format(*waiting) in metrics_table


def test_every_audit_query_is_in_the_contract() -> None:
    """In the table of section 5, also those that do not use the read model."""
    section = CONTRACT.partition("\n## 5. ")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `audit\.<tenant>\.(\w+)`", section, re.M)) == {*QUERIES, "what_if", "position"}


def test_the_asyncapi_document_is_of_these_tables() -> None:
    """`make asyncapi` writes it after a change of an endpoint; it is served, and the same file is in `docs/`."""
    assert ASYNCAPI.read_bytes() == encoded(), "run `make asyncapi`"
    assert (TOP / "docs" / "asyncapi.json").resolve() == ASYNCAPI.resolve()


async def test_every_metric_is_documented(service: Service) -> None:
    """The table lists all metrics; the alerts use no others."""
    async with service.client() as web:
        await web.issue()
    async with asyncio.timeout(20):
        while "heirloom_checkpoint_age_seconds" not in (told := await metrics(service)):
            await asyncio.sleep(0.05)  # the notary starts later than the rest
    nameless = {name for name, family in told.items() for sample in family.samples if "process" not in sample.labels}
    assert [f"`{name}`" for name in nameless] == re.findall(r"label `process`, but for (`\w+`)", TEXT)
    there = {f"{name}_total" if family.type == "counter" else name for name, family in told.items()}
    _, alerts, _ = re.split(r"```(?:promql)?\n", TEXT)
    table = TEXT.partition("Alerts worth having")[0]
    assert set(re.findall(r"`(heirloom_\w+)`", table)) == there
    assert {MAKES.sub("", name) for name in re.findall(r"heirloom_\w+", alerts)} <= there
