"""Strict JSON: one object, each key once, the right types; and refusals that repeat nothing of what was sent.

What was sent may be a token in the wrong place. And msgspec takes the last of two equal keys: where two readers
disagree on a request, an attacker chooses.
"""

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")

MAX_BODY = 16 * 1024
MAX_PAYLOAD = 65_536
"""Bytes of a message in the broker's accounts of those who ask for tokens, either way, headers included."""
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
    """Why a body is not what it must be, for whoever sent it."""


class Twice(ValueError):
    """An object has a key twice, and readers differ on which one counts."""


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode an object that `check` has passed. Raises `Malformed`."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        _refuse(error)


def check(body: bytes) -> dict[str, Any]:
    """The object, whatever the types of its values. Raises `Malformed`."""
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
    """Wherever in this JSON. Raises `Twice`."""
    json.loads(content, object_pairs_hook=_no_duplicates)


def reason(error: msgspec.ValidationError, what: str) -> str:
    """What is wrong with `what`, or with the part of it that is at fault, without the value."""
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
    """Quickly, whether no key is given twice; False for "look closely".

    Without escapes, every string has two quotation marks. With strings for values, as many as there are keys and values
    left: any more betray a key that was dropped.
    """
    if b"\\" in body or body.count(b'"') != 4 * len(found):
        return False
    return all(isinstance(value, str) for value in found.values())


def _no_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Twice("it holds a JSON key twice, and readers differ on which one counts")
