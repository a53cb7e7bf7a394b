"""One ES256 signature of a typical access token: the minimum cost of a JWT, and a probe of the machine's speed."""

from statistics import median
from time import process_time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from bench.machine import Figure

ROUNDS, SIGNATURES = 9, 1000
BESIDE = "beside refreshes"
"""The beginning of `when` for a signature measured between refreshes, at the same speed of the machine."""


class Signature(Figure, tag="signature"):
    """The CPU µs of one `joserfc.jwt.encode`: the median of some rounds in one thread."""

    when: str
    cpu_us: float


def measure(when: str) -> Signature:
    """Measure signatures; `when` names the point in the run."""
    key = ECKey.generate_key("P-256", {"kid": "2lMjCoCEfOWbdxo6z/ooovXB6IbKjwWd13HUk5iNBLk"})
    header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    claims: dict[str, Any] = {
        "iss": "https://acme.example",
        "sub": "user-000001",
        "aud": "https://acme.example",
        "client_id": "web",
        "iat": 1795213873,
        "exp": 1795214173,
        "jti": "0jnk50FzU6ZAQx8mYkyEKr",
        "sid": "0Rrp8DbBjpFPtOdMdBdS0j",
        "scope": "read write offline_access",
    }
    rounds = []
    for _ in range(ROUNDS):
        started = process_time()
        for _ in range(SIGNATURES):
            jwt.encode(header, claims, key, algorithms=["ES256"])
        rounds.append((process_time() - started) / SIGNATURES * 1e6)
    return Signature(when, median(rounds))
