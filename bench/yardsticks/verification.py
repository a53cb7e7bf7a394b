"""Verification of an access token by the client library, beside joserfc's own; and what a large revoked set takes.

`python -m bench.yardsticks.verification` prints the memory of the set, which is measured in a process of its own.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from bench.machine import Figure
from heirloom_client.verification.access_token import Expected, KeySet, claims_of
from heirloom_client.verification.revoked import Revoked

ROUNDS, VERIFICATIONS = 9, 500
FAMILIES = 1_000_000
ISSUER, AUDIENCE = "https://acme.example", "https://api.example"
LIFETIME_SECONDS = 1200


class Verification(Figure, tag="verification"):
    """The CPU µs of one verification: joserfc's, ours, and ours with so many `families` revoked; and their memory."""

    joserfc_us: float
    cpu_us: float
    crowded_us: float
    families: int
    memory_mb: float


def measure() -> Verification:
    """Measure all three in turns, so that a slower machine affects each."""
    key = ECKey.generate_key("P-256", {"kid": "2lMjCoCEfOWbdxo6z/ooovXB6IbKjwWd13HUk5iNBLk"})
    token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, _claims(), key, algorithms=["ES256"])
    public = ECKey.import_key(key.as_dict(private=False))
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    )
    keys = KeySet([public.as_dict(private=False) | {"kid": key.kid, "alg": "ES256", "use": "sig"}])
    expected = Expected(ISSUER, AUDIENCE, 30.0)

    def by_joserfc() -> None:
        registry.validate(jwt.decode(token, public, algorithms=["ES256"]).claims)

    def ours_with(revoked: Revoked) -> Callable[[], None]:
        def verify() -> None:
            assert not revoked.holds(claims_of(keys.signed(token), expected, time.time()))

        return verify

    ways = by_joserfc, ours_with(Revoked()), ours_with(filled(FAMILIES))
    rounds = [[_round(verify) for verify in ways] for _ in range(ROUNDS)]
    joserfc_us, cpu_us, crowded_us = (median(one) for one in zip(*rounds, strict=True))
    return Verification(joserfc_us, cpu_us, crowded_us, FAMILIES, _memory_mb())


def filled(families: int) -> Revoked:
    """A set with so many families, over a lifetime of tokens."""
    revoked, now = Revoked(), int(time.time())
    for number in range(families):
        revoked.add(secrets.token_urlsafe(17)[:22], now + LIFETIME_SECONDS * number // families)
    return revoked


def _claims() -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "sub": "user-000001",
        "aud": AUDIENCE,
        "client_id": "web",
        "iat": now,
        "exp": now + 86_400,
        "jti": "0jnk50FzU6ZAQx8mYkyEKr",
        "sid": "0Rrp8DbBjpFPtOdMdBdS0j",
        "scope": "read write offline_access",
    }


def _round(verify: Callable[[], None]) -> float:
    started = process_time()
    for _ in range(VERIFICATIONS):
        verify()
    return (process_time() - started) / VERIFICATIONS * 1e6


def _memory_mb() -> float:
    command = [sys.executable, "-m", "bench.yardsticks.verification"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    before = _resident_mb()
    held = filled(FAMILIES)
    print(_resident_mb() - before)
