"""Tokens by computation: what is minted is recognised, and nothing else is."""

import base64
import json
import string
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import base62
from service.connections.admission import _claimed_issuer
from service.keys import keyring
from service.keys.keyring import Keyring, KeyringError
from service.keys.mac_tokens import MacTokens, new_id, new_seed, short_digest
from service.keys.signing_key import SigningKey, kid_of

KEYS = Keyring({1: b"a" * 32, 2: b"b" * 32})
URL_SAFE = f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}-_".encode()


def _tokens() -> MacTokens:
    """New each time: it remembers what it has derived."""
    return MacTokens(KEYS, "acme", "refresh")


@given(st.binary(min_size=1, max_size=60))
def test_base62_gives_back_every_byte_string(data: bytes) -> None:
    """Whatever is encoded is decoded to the same bytes, in a fixed number of characters."""
    text = base62.encode(data)
    assert len(text) == base62.length(len(data))
    assert base62.decode_int(text) == int.from_bytes(data)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_a_minted_token_is_recognised_and_always_the_same(generation: int, key: int) -> None:
    """Minting twice gives one token; recognising it gives back what it was minted for."""
    family, seed = new_id(), new_seed()
    token = _tokens().mint(key, family, generation, seed)
    presented = _tokens().recognise(token)
    assert token == _tokens().mint(key, family, generation, seed)
    assert presented is not None
    assert (presented.key, presented.family_id, presented.number) == (key, family, generation)
    assert _tokens().is_minted_for(presented, seed)


def test_a_token_has_the_form_that_leak_scanners_know() -> None:
    """`hrt_`, a base62 body, six base62 characters of CRC-32 over what precedes them (CONTRACT §1)."""
    token = _tokens().mint(1, new_id(), 0, new_seed())
    body, checksum = token[:-6], token[-6:]
    assert token.startswith("hrt_") and token[4:].isalnum()
    assert checksum == base62.encode_int(zlib.crc32(body.encode()), 6)


@given(st.data())
def test_no_altered_token_is_recognised(data: st.DataObject) -> None:
    """Any one character changed, with the checksum mended, fails at a tag before anything is read."""
    seed = new_seed()
    token = _tokens().mint(1, new_id(), 3, seed)
    place = data.draw(st.integers(4, len(token) - 7))
    other = data.draw(st.sampled_from([c for c in base62.ALPHABET if c != token[place]]))
    altered = token[:place] + other + token[place + 1 : -6]
    altered += base62.encode_int(zlib.crc32(altered.encode()), 6)
    presented = _tokens().recognise(altered)
    assert presented is None or not _tokens().is_minted_for(presented, seed)


def test_a_jwt_altered_where_nothing_is_encoded_is_not_that_token() -> None:
    """A signature's last character has bits to spare, and padding could follow: neither is the token (RFC 7515 §2)."""
    key = SigningKey(KEYS, "acme", KEYS.first, 1, "ES256")
    header, payload, signature = key.sign({"iss": "https://acme.example"}).encode().split(b".")
    assert key.verify(header, payload, signature) == {"iss": "https://acme.example"}
    last = URL_SAFE.index(signature[-1:])
    spare = [URL_SAFE[other : other + 1] for other in range(last - last % 16, last - last % 16 + 16) if other != last]
    for altered in (*(signature[:-1] + other for other in spare), signature + b"=", signature + b"=="):
        assert key.verify(header, payload, altered) is None


def test_nested_json_is_no_token() -> None:
    """However deep: it is not the service that fails."""
    key = SigningKey(KEYS, "acme", KEYS.first, 1, "ES256")
    header, _, signature = key.sign({"iss": "https://acme.example"}).encode().split(b".")
    deep = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 5999)
    with pytest.raises((RecursionError, msgspec.DecodeError)):  # some Pythons allow more depth
        msgspec.json.decode(base64.urlsafe_b64decode(deep))
    assert kid_of(deep) is None
    assert key.verify(header, deep, signature) is None
    assert _claimed_issuer(f"x.{deep.decode()}.x") is None


def _mended(text: str) -> str:
    """With the checksum that belongs to it."""
    return text + base62.encode_int(zlib.crc32(text.encode()), 6)


def test_what_is_longer_or_not_ascii_is_no_token_whatever_its_checksum_and_short_tag() -> None:
    """Tags are compared in constant time, which only ASCII can be: refused before, and not by an error."""
    token = _tokens().mint(1, new_id(), 3, new_seed())
    assert _tokens().recognise(_mended(token[:-6])) is not None
    for altered in (token[:-6] + "0", token[:-7] + "\u00e9", token[:40] + "\u00e9" + token[41:-6]):
        assert _tokens().recognise(_mended(altered)) is None


@pytest.mark.parametrize("claimed", [("01", "00000-"), ("0-", "000000"), ("09", "000000")])
def test_without_a_key_that_is_there_and_a_number_nothing_is_recognised(claimed: tuple[str, str]) -> None:
    """Though the short tag be right, as that of a key that is gone may be."""
    key, number = claimed
    tokens = _tokens()
    claim = f"hrt_{key}{new_id()}{number}"
    assert tokens.recognise(_mended(claim + tokens._short_tag(1, claim) + "0" * 22)) is None


def test_what_is_derived_is_remembered_within_a_bound() -> None:
    """Whoever may open families makes as many seeds as he likes."""
    tokens = _tokens()
    assert (tokens._short_mac.cache_parameters()["maxsize"], tokens._long_mac.cache_parameters()["maxsize"]) == (
        256,
        4096,
    )


def test_ids_seeds_and_digests_have_the_length_that_the_bounds_count_on() -> None:
    """22 characters each; a digest is 128 bits of SHA-256, and tells one request from another."""
    assert {len(made()) for made in (new_id, new_seed) for _ in range(20)} == {22}
    assert short_digest(b"abc") == base62.encode(bytes.fromhex("ba7816bf8f01cfea414140de5dae2223"))
    assert len(short_digest(b"")) == 22


def test_keyring_alone_cannot_mint() -> None:
    """Whoever has the keys but not the family's seed makes tokens whose long tag fails."""
    presented = _tokens().recognise(_tokens().mint(1, new_id(), 1, new_seed()))
    assert presented is not None and not _tokens().is_minted_for(presented, new_seed())


@pytest.mark.parametrize(
    "others",
    [MacTokens(KEYS, "globex", "refresh"), MacTokens(Keyring({1: b"c" * 32}), "acme", "refresh")],
    ids=["another tenant", "another keyring"],
)
def test_other_keys_recognise_nothing(others: MacTokens) -> None:
    """A token is good under its own tenant's key only."""
    assert others.recognise(_tokens().mint(1, new_id(), 0, new_seed())) is None


@given(st.text(max_size=120))
def test_garbage_is_not_recognised(text: str) -> None:
    """Arbitrary text, also non-ASCII, is refused without an error."""
    assert _tokens().recognise(text) is None
    assert _tokens().recognise("hrt_" + text) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b'{"version": 1, "secrets": []}',
        b'{"version": 2, "secrets": [{"id": 1, "secret": "' + b"YWFh" * 11 + b'"}]}',
        b'{"version": 1, "secrets": [{"id": 1, "secret": "c2hvcnQ="}]}',
        b'{"version": 1, "secrets": [{"id": 1, "secret": "%%%%"}]}',
    ],
)
def test_a_corrupt_keyring_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """The message says which file, and holds nothing of its content."""
    path = tmp_path / "keyring.json"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(KeyringError, match=r"keyring\.json"):
        keyring.load(path)


def test_a_keyring_is_made_private_and_kept(tmp_path: Path) -> None:
    """Mode 0600; a second start uses the same secrets; one that others can read is refused."""
    path = tmp_path / "keyring.json"
    first = keyring.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyring.create(path).derive(1, "x") == first.derive(1, "x")
    assert json.loads(path.read_text())["secrets"][0]["secret"] not in repr(first)
    path.chmod(0o640)
    with pytest.raises(KeyringError, match="chmod 600"):
        keyring.load(path)
