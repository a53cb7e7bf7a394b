"""The notary's files: created at the first start, and checked at every other start."""

import stat
from pathlib import Path

import pytest

from notary.file_names import KEY, PUBLIC_KEY, STATE
from notary.key_files import (
    START_AGAIN,
    NoKey,
    NotaryState,
    known_keys,
    open_key,
    parse_keys,
    read_state,
    write_state,
)
from notary.merkle_tree import Tree, leaf_hash
from notary.signed_note import MalformedNote, Signer, parse_signer


def mode(path: Path) -> int:
    """The file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_start_makes_a_key_and_an_empty_state(tmp_path: Path) -> None:
    """A unique origin; the public key beside it, readable for everybody. The second start writes nothing."""
    key, state = tmp_path / KEY, tmp_path / STATE
    signer = open_key(key, state)
    prefix, _, random = signer.key.name.partition("/")
    assert prefix == "heirloom" and len(bytes.fromhex(random)) == 8
    assert (
        read_state(state)
        == NotaryState(signer.key.name)
        == NotaryState(signer.key.name, size=0, edge=(), last_leaf=b"", signed="")
    )
    assert key.read_text() == signer.export() + "\n" and parse_signer(signer.export()).key == signer.key
    assert [mode(path) for path in (key, state, tmp_path / PUBLIC_KEY)] == [0o600, 0o600, 0o644]
    assert (tmp_path / PUBLIC_KEY).read_text() == f"{signer.key}\n"
    written = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert open_key(key, state).key == signer.key
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == written
    assert open_key(tmp_path / "other.key", tmp_path / "other.state").key.name != signer.key.name


def test_earlier_public_keys_are_kept(tmp_path: Path) -> None:
    """So that their signatures can still be checked."""
    key, state = tmp_path / KEY, tmp_path / STATE
    first = open_key(key, state)
    for path in (key, state):
        path.unlink()
    second = open_key(key, state)
    assert (tmp_path / PUBLIC_KEY).read_text() == f"{first.key}\n{second.key}\n"
    assert known_keys(tmp_path / PUBLIC_KEY) == [first.key, second.key]
    assert parse_keys(f" {first.key}\n\n{second.key} ") == [first.key, second.key] and parse_keys("") == []
    with pytest.raises(MalformedNote):
        parse_keys("x")


@pytest.mark.parametrize(("size", "begins"), [(0, True), (1, False)])
def test_a_state_without_its_key_is_kept_if_anything_was_signed(tmp_path: Path, size: int, begins: bool) -> None:
    """The key may be found again."""
    key, state = tmp_path / KEY, tmp_path / STATE
    write_state(state, NotaryState("heirloom/before", size))
    if begins:
        assert read_state(state).origin == "heirloom/before" != open_key(key, state).key.name
        return
    told = f"^{state} is of a key that is not in {key}; restore that, or put the state away as well{START_AGAIN}$"
    with pytest.raises(NoKey, match=told):
        open_key(key, state)
    assert not key.exists() and read_state(state) == NotaryState("heirloom/before", size)


@pytest.mark.parametrize("readable", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, readable: int) -> None:
    """It may have been copied; the error says what to do."""
    key, state = tmp_path / KEY, tmp_path / STATE
    open_key(key, state)
    key.chmod(readable)
    with pytest.raises(NoKey, match=f"^the notary's key {key} is readable by others; run: chmod 600 {key}$"):
        open_key(key, state)
    key.chmod(0o400)
    open_key(key, state)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\xff", str(Signer.fresh("a").key).encode()],
    ids=["nothing", "no key", "no text", "a public one"],
)
def test_an_unreadable_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """No other key is made in its place."""
    key, state = tmp_path / KEY, tmp_path / STATE
    key.write_bytes(content)
    key.chmod(0o600)
    with pytest.raises(NoKey, match=f"^the notary's key {key} cannot be read: "):
        open_key(key, state)
    assert key.read_bytes() == content and not (tmp_path / PUBLIC_KEY).exists()


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With the tree, so that a notary can go on from it."""
    tree = Tree().add(leaf_hash(b"one"), leaf_hash(b"two"), leaf_hash(b"three"))
    state = NotaryState("heirloom/1", tree.size, tree.edge, last_leaf=leaf_hash(b"three"), signed="signed")
    write_state(tmp_path / "state", state)
    assert read_state(tmp_path / "state") == state and state.tree == tree
    assert mode(tmp_path / "state") == 0o600


def test_a_missing_or_unreadable_state_is_refused(tmp_path: Path) -> None:
    """The error says what the operator can do."""
    path = tmp_path / "state"
    with pytest.raises(NoKey) as lost:
        read_state(path)
    told = f"{path} is missing: what was signed last is not known; restore it, or put {KEY} away as well{START_AGAIN}"
    assert str(lost.value) == told
    for content in (b"{}", b"\xff", b"[" * 5000):
        path.write_bytes(content)
        with pytest.raises(NoKey) as unreadable:
            read_state(path)
        message = str(unreadable.value)
        assert message.startswith(f"{path} cannot be read: ")
        assert message.endswith(f"; restore it, or put it and {KEY} away{START_AGAIN}")
