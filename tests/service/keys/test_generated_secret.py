"""Client secrets: only a digest is stored, and verifying is fast."""

import re

from service.keys.generated_secret import digest, matches, new_secret


def test_a_secret_has_256_random_bits() -> None:
    """RFC 6749 §10.10: too many to guess, however fast one is verified."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", new_secret())
    assert len({new_secret() for _ in range(100)}) == 100


def test_only_the_secret_matches_its_digest() -> None:
    """No other secret, no part or extension, and not the digest itself."""
    secret = new_secret()
    kept = digest(secret)
    assert matches(kept, secret) and secret not in kept
    for wrong in (new_secret(), secret[:-1], secret + "A", "", kept, "é" * 43):
        assert not matches(kept, wrong)
    assert matches(digest("s é"), "s é")


def test_without_a_usable_digest_no_secret_matches() -> None:
    """An argon2 digest of an earlier version is unusable: its client needs a new secret."""
    assert not matches(None, "") and not matches(None, "A" * 43)
    older = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"
    assert not matches(older, "s3cret") and not matches(older, older) and not matches("é", "é")
