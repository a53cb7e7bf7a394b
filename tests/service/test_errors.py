"""The texts of refusals."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import service
from service.errors import OAuthError

ALLOWED = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")
"""RFC 6749 §5.2: `error_description`."""


def literals() -> Iterator[tuple[str, int, str]]:
    """Every string of the service's code that is no docstring: file, line, text."""
    for path in sorted(Path(service.__path__[0]).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
                yield path.name, node.lineno, node.value


def test_rfc6749_5_2_our_own_texts_need_no_replacement() -> None:
    """RFC 6749 §5.2: sentences, which may be descriptions, are ASCII without quotation mark and backslash."""
    sentences = [found for found in literals() if re.search(r"[a-z] [a-z]", found[2])]
    assert len(sentences) > 100
    assert [found for found in sentences if not ALLOWED.fullmatch(found[2].replace("\n", ""))] == []


@pytest.mark.parametrize("name", ['a "name"', "größe", "back\\slash", "line\nend", "§", "\ud800"])
def test_rfc6749_5_2_texts_of_others_are_reduced_to_the_permitted_characters(name: str) -> None:
    """RFC 6749 §5.2: for example the name of an unknown setting, which is repeated."""
    body = msgspec.json.decode(OAuthError("invalid_request", f"{name}: unknown setting").body())
    assert ALLOWED.fullmatch(body["error_description"])
    assert body["error_description"].endswith(": unknown setting") and body["error"] == "invalid_request"
