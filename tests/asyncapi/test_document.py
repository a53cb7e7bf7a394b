"""The AsyncAPI document: valid, whole, and the one that is served."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator, Draft202012Validator

from events.aggregates.aggregate_names import AggregateName
from events.aggregates.family_commit import codec
from events.aggregates.family_events import TokenRevoked
from heirloom.asyncapi.document import document, encoded
from heirloom.asyncapi.subjects import subjects
from heirloom.cli.main import main
from projections.queries.server import QUERIES
from service.admin.operations import OPERATIONS
from service.endpoints.discovery import ASYNCAPI
from service.endpoints.endpoint_table import endpoints
from service.request_handler import MAX_REPLY_BYTES
from service.revocations.entries import entry_of
from tests.projections.logs import LogMaker

DOCUMENT: dict[str, Any] = json.loads(encoded())
SPECIFICATION = json.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_text())


def valid(kind: str, value: Any) -> list[str]:
    """Why the value is not what the document's schema of that name says."""
    schema = {"$ref": f"#/components/schemas/{kind}", "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(value)]


def test_the_document_is_valid() -> None:
    """By the specification's own JSON Schema, which finds a mistake."""
    assert [error.message for error in Draft7Validator(SPECIFICATION).iter_errors(DOCUMENT)] == []
    wrong = DOCUMENT | {"operations": {"token": {"action": "answer", "channel": {"$ref": "#/channels/token"}}}}
    assert list(Draft7Validator(SPECIFICATION).iter_errors(wrong))


def test_every_reference_leads_somewhere() -> None:
    """And every schema is a JSON Schema."""
    for reference in _references(DOCUMENT):
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from [part] if name == "$ref" else _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def test_every_subject_is_in_it() -> None:
    """Each with a summary of its own; names of parameters stand for wildcards."""
    addresses = {re.sub(r"{\w+}", "*", channel["address"] or "") for channel in DOCUMENT["channels"].values()}
    served = {row.subject for row in endpoints().values()} | {f"admin.*.{name}" for name in OPERATIONS}
    audit = {f"audit.*.{name}" for name in (*QUERIES, "position", "what_if")}
    entries = {"revocations.*", "revocations.*.*", "revocations.*.client.*", "keys.*"}
    assert addresses - {""} == served | audit | entries | {"tokens.*.family.*.revoked"}
    assert [subject.name for subject in subjects() if not subject.summary.endswith(".")] == []


def test_it_fits_into_a_reply() -> None:
    """The broker's largest message in the accounts of callers."""
    assert len(encoded()) < MAX_REPLY_BYTES


def test_the_command_prints_it() -> None:
    """For `asyncapi generate`, or a page of it."""
    assert CliRunner().invoke(main, ["asyncapi"]).stdout_bytes == ASYNCAPI.read_bytes()


def test_what_the_feed_has_is_as_described() -> None:
    """An entry for the end of a family, and one for that of a token."""
    made = LogMaker()
    made.open("f")
    made.commit("f", TokenRevoked("f-0", made.now + timedelta(minutes=4)))
    made.reuse("f")
    for stored, kind in zip(made.log[1:], ("TokenEnded", "FamilyEnded"), strict=True):
        entry = entry_of(AggregateName.parse(stored.subject), stored.seq, codec.decode(stored.body), 900)
        assert valid(kind, json.loads(msgspec.json.encode(entry))) == []
        assert valid(kind, {"type": "token"}) != []


@pytest.mark.parametrize(
    ("kind", "value", "is_valid"),
    [
        ("TokenRequest", {"grant_type": "refresh_token", "refresh_token": "hrt_"}, True),
        ("TokenRequest", {"grant_type": 1}, False),
        ("TokenResponse", {"access_token": "a", "token_type": "Bearer", "expires_in": 300, "scope": ""}, True),
        ("TokenResponse", {"access_token": "a"}, False),
        ("ClientPutRequest", {"client_id": "web", "grant_types": ["refresh_token"], "may_issue": True}, True),
        ("ClientPutRequest", {"grant_types": ["refresh_token"]}, False),
        ("ErrorResponse", {"error": "invalid_grant", "error_description": "why"}, True),
        ("ErrorResponse", {"error": "no_code", "error_description": "why"}, False),
    ],
)
def test_a_schema_tells_good_from_bad(kind: str, value: dict[str, Any], is_valid: bool) -> None:
    assert (valid(kind, value) == []) is is_valid


def test_the_document_has_no_names_of_private_types() -> None:
    assert not [name for name in document()["components"]["schemas"] if name.startswith("_")]
