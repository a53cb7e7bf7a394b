"""What a verifier knew survives a restart; a file that cannot be trusted or read is refused, and says what to do."""

import json
import time
from pathlib import Path

import pytest

from heirloom_client import StoreError
from heirloom_client.verification import snapshot
from heirloom_client.verification.feed import Feed
from tests.client.verification.issuer import Issuer
from tests.client.verification.test_revoked import claims

FAR = 10**10


def known(issuer: Issuer) -> Feed:
    """A feed with a key and a revocation, as of ten seconds ago."""
    feed = Feed()
    feed.name, feed.n, feed.issuer, feed.as_of = "one", 7, "https://acme.example", time.monotonic() - 10
    feed.revoked.add("f2", FAR)
    feed.use_keys({issuer.kid: (3, issuer.jwk())})
    return feed


def test_all_of_it_is_back(tmp_path: Path) -> None:
    """But for what only a question can say: whether something was missed since."""
    issuer, path = Issuer(), tmp_path / "snapshot"
    feed = known(issuer)
    assert snapshot.read(path, "acme") is None
    snapshot.write(path, snapshot.encode(feed, "acme"))
    again = snapshot.read(path, "acme")
    assert again is not None and (again.name, again.n, again.issuer) == ("one", 7, "https://acme.example")
    assert again.keys.signed(issuer.token()) and again.revoked.holds(claims(sid="f2"))
    assert abs(again.as_of - feed.as_of) < 5 and not again.is_whole
    assert path.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [path]


def test_a_clock_that_was_set_makes_it_no_younger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot from the future is of now."""
    path = tmp_path / "snapshot"
    snapshot.write(path, snapshot.encode(known(Issuer()), "acme"))
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    again = snapshot.read(path, "acme")
    assert again is not None and again.as_of <= time.monotonic()


def test_unusable_files(tmp_path: Path) -> None:
    """Cut short, damaged, of a newer version, of another tenant, open to others, a link, a directory."""
    path = tmp_path / "snapshot"
    good = snapshot.encode(known(Issuer()), "acme")
    newer = json.dumps(json.loads(good) | {"v": 2}).encode()
    crowded = json.loads(good)
    crowded["keys"] = {f"k{n}": [1, {}] for n in range(1000)}
    for content, tenant, reason in (
        (good[:-20], "acme", "cut short or damaged: remove it"),
        (b"\xff", "acme", "cut short or damaged: remove it"),
        (json.dumps(crowded).encode(), "acme", "cut short or damaged: remove it"),
        (newer, "acme", "newer version of heirloom-client"),
        (good, "globex", "of another tenant, 'acme'"),
    ):
        snapshot.write(path, content)
        with pytest.raises(StoreError, match=reason):
            snapshot.read(path, tenant)
    snapshot.write(path, good)
    path.chmod(0o620)
    with pytest.raises(StoreError, match="can be written by others"):
        snapshot.read(path, "acme")
    (tmp_path / "link").symlink_to(path)
    for other in (tmp_path / "link", tmp_path):
        with pytest.raises(StoreError, match="cannot be read"):
            snapshot.read(other, "acme")


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    """What was there stays, and nothing is left beside it."""
    place = tmp_path / "a"
    place.mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        snapshot.write(tmp_path / "missing" / "snapshot", b"x")
    with pytest.raises(StoreError, match="cannot be written"):
        snapshot.write(place, b"x")
    assert list(tmp_path.iterdir()) == [place] and not any(place.iterdir())
