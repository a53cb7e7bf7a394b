"""Arbitrary inputs that pass the first check: real ones, damaged a little or a lot, reproducible by a seed."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

MORSELS = (
    *(b"", b"\0", b"\r\n", b"\\u0000", b"\\ud800", b"\xff", b"\xc0\x80", "\u202e".encode(), "é".encode()),
    *(b"null", b"true", b"[]", b"{}", b'""', b"NaN", b"-1", b"1e999", b"9" * 40, b"0.5", b"-0"),
    *(
        b"[" * 2000,
        b'{"a":' * 500,
        b"A" * 20_000,
        b'"',
        b"\\",
        b",",
        b":",
        b".",
        b"%",
        b"%zz",
        b"+",
        b"*",
        b">",
        b"=" * 3,
    ),
    *(b'"a":1,"a":2', b"; DROP TABLE families", b"../../etc/passwd", b"$JS.API.STREAM.DELETE.TOKENS", b"hrt_", b"eyJ"),
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 63,
    1e308,
    "",
    " ",
    "a" * 5000,
    "\ud800",
    "\0",
    [],
    [[]],
    ["a"] * 999,
    {},
    {"a": {}},
    "https://[",
)


def mutants(originals: Sequence[bytes], seed: str) -> Iterator[bytes]:
    """Endless: one in a hundred unchanged, one in a hundred pure noise, the others in between."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(originals))
        kind = chance.random()
        if kind > 0.6 and data[:1] == b"{":
            data = _rearranged(data, chance.choice(originals), chance)
        elif kind < 0.01:
            data = bytearray(chance.randbytes(chance.randrange(200)))
        elif kind < 0.99:
            for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
                _damage(data, originals, chance)
        yield bytes(data)


def _rearranged(data: bytearray, other: bytes, chance: random.Random) -> bytearray:
    """Still JSON: a member removed, renamed, or with a value of another kind, member or original."""
    members: dict[str, Any] = json.loads(data)
    foreign = json.loads(other) if other[:1] == b"{" else {}
    name = chance.choice(list(members) or ["a"])
    match chance.randrange(5):
        case 0:
            members.pop(name, None)
        case 1:
            members[chance.choice(list(foreign) or ["b"])] = members.pop(name, None)
        case 2:
            members[name] = chance.choice([*members.values(), *foreign.values(), None])
        case 3:
            members |= foreign
        case _:
            members[name] = chance.choice(VALUES)
    return bytearray(json.dumps(members).encode())


def _damage(data: bytearray, originals: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    end = min(start + chance.choice((1, 1, 2, 4, 16, 64)), len(data))
    match chance.randrange(7):
        case 0 if data:
            data[start % len(data)] ^= 1 << chance.randrange(8)
        case 1 if data:
            data[start % len(data)] = chance.choice(b'abcXYZ019 "{}[]:,.-_\\/+=%')
        case 2:
            del data[start:end]
        case 3:
            data[start:start] = data[start:end] * chance.choice((1, 2, 50))
        case 4:
            data[start:end] = chance.choice(MORSELS)
        case 5:
            other = chance.choice(originals)
            data[start:] = other[chance.randrange(len(other) + 1) :]
        case _:
            data[start:start] = data[end : end + 16]
