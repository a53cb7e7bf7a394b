"""An issuer in memory: its keys, its access tokens, and whatever somebody else might make of them."""

import base64
import hmac
import json
import time
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey

from heirloom_client.verification.access_token import KeySet

ISSUER, AUDIENCE = "https://acme.example", "https://api.example"


def segment(value: Any) -> str:
    """Base64url of JSON, or of bytes."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Issuer:
    """One key, by default of P-256."""

    def __init__(self, alg: str = "ES256", kid: str = "k1") -> None:
        self.alg, self.kid = alg, kid
        self.key: Key = ECKey.generate_key("P-256") if alg == "ES256" else OKPKey.generate_key("Ed25519")

    @property
    def pem(self) -> bytes:
        """The public key as PEM."""
        assert isinstance(self.key, ECKey | OKPKey)
        return self.key.as_pem(private=False)

    def jwk(self) -> dict[str, Any]:
        """The public JWK, as the service shows it."""
        public = {name: str(value) for name, value in self.key.as_dict(private=False).items()}
        return public | {"kid": self.kid, "use": "sig", "alg": self.alg}

    def keys(self) -> KeySet:
        """What a verifier has."""
        return KeySet([self.jwk()])

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Those of a good token; None leaves one out."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": "alice",
            "aud": AUDIENCE,
            "client_id": "web",
            "iat": now,
            "exp": now + 300,
            "jti": "t1",
            "sid": "f1",
            "scope": "read write",
        }
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """A signed token; `header` replaces parameters, and None leaves one out."""
        whole = {"alg": self.alg, "typ": "at+jwt", "kid": self.kid} | (header or {})
        shown = {name: value for name, value in whole.items() if value is not None}
        return self.signed(segment(shown), segment(self.claims(**changed)))

    def signed(self, header: str, payload: str) -> str:
        """These segments with a good signature."""
        algorithm = jws.JWSRegistry.algorithms[self.alg]
        return f"{header}.{payload}.{segment(algorithm.sign(f'{header}.{payload}'.encode(), self.key))}"

    def by_mac_of_the_public_key(self) -> str:
        """HS256, with the public key as the secret: what a verifier accepts that lets the token choose (RFC 8725)."""
        header = segment({"alg": "HS256", "typ": "at+jwt", "kid": self.kid})
        text = f"{header}.{segment(self.claims())}"
        return f"{text}.{segment(hmac.digest(self.pem, text.encode(), 'sha256'))}"
