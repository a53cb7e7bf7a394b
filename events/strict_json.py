"""Decodes strict JSON: one object, each key once, the right types. Error texts repeat nothing of the input.

The input may contain a token in the wrong place. And msgspec accepts the last of two equal keys: when two readers of a
request disagree, an attacker can choose which of them sees what.
"""

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")

MAX_BODY = 16 * 1024
MAX_PAYLOAD = 65_536
"""The largest message, in bytes and with headers, in the accounts of those who request tokens, either way."""
_any_decoder = msgspec.json.Decoder(dict[str, Any])
_VALUE = re.compile(r"Invalid enum value .*?(?= - at |$)", re.DOTALL)
_TYPES = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]+)`)?")
_NAMES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


class Malformed(ValueError):
    """The body is not as it must be. The text is meant for the sender."""


class Twice(ValueError):
    """An object contains a key twice, and readers differ on which of the two counts."""


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode an object that `check` has accepted. Raises `Malformed`."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        _refuse(error)


def check(body: bytes) -> dict[str, Any]:
    """Decode an object with values of any types. Raises `Malformed`."""
    if len(body) > MAX_BODY:
        raise Malformed(f"the request is larger than {MAX_BODY // 1024} KiB")
    try:
        found = _any_decoder.decode(body)
        if not _surely_without_duplicates(body, found):
            refuse_a_key_twice(body)
    except (ValueError, RecursionError) as error:
        _refuse(error)
    return found


def refuse_a_key_twice(content: bytes) -> None:
    """Raise `Twice` if any object in this JSON contains a key twice."""
    json.loads(content, object_pairs_hook=_no_duplicates)


def reason(error: msgspec.ValidationError, what: str) -> str:
    """Describe an error in `what`, or in a part of it, without repeating the value."""
    types = _TYPES.fullmatch(str(error))
    if types is None:
        return _VALUE.sub("unknown value", str(error))
    wanted = " or ".join(_NAMES.get(kind, kind) for kind in types[1].split(" | ") if kind != "null")
    return f"{types[3] or what} must be {wanted}, not {_NAMES.get(types[2], types[2])}"


def _refuse(error: Exception) -> NoReturn:
    match error:
        case msgspec.ValidationError():
            why = reason(error, "the request")
        case Twice():
            why = "a parameter is given twice"
        case _:
            why = "the request is not a JSON object"
    raise Malformed(why) from error


def _surely_without_duplicates(body: bytes, found: dict[str, Any]) -> bool:
    """Whether no key can be there twice; a quick check, which answers False if it cannot tell.

    Without escapes, every string has two quotation marks. If all values are strings, then every decoded pair has four:
    any more belong to a duplicate that the decoder dropped.
    """
    if b"\\" in body or body.count(b'"') != 4 * len(found):
        return False
    return all(isinstance(value, str) for value in found.values())


def _no_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Twice("it holds a JSON key twice, and readers differ on which one counts")
