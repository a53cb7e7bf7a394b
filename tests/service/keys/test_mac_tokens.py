"""MAC tokens: exactly the minted ones are recognised."""

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
    """New ones without memory, for they remember what they derived."""
    return MacTokens(KEYS, "acme", "refresh")


@given(st.binary(min_size=1, max_size=60))
def test_base62_round_trips_every_byte_string(data: bytes) -> None:
    """The length of the text depends only on that of the bytes."""
    text = base62.encode(data)
    assert len(text) == base62.length(len(data))
    assert base62.decode_int(text) == int.from_bytes(data)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_a_minted_token_is_recognised_and_always_the_same_text(generation: int, key: int) -> None:
    """Recognising returns what it was minted for."""
    family, seed = new_id(), new_seed()
    token = _tokens().mint(key, family, generation, seed)
    presented = _tokens().recognise(token)
    assert token == _tokens().mint(key, family, generation, seed)
    assert presented is not None
    assert (presented.key, presented.family_id, presented.number) == (key, family, generation)
    assert _tokens().is_minted_for(presented, seed)


def test_a_token_has_the_documented_form() -> None:
    """CONTRACT §1: `hrt_`, a base62 body, and six base62 characters of the CRC-32 of all before."""
    token = _tokens().mint(1, new_id(), 0, new_seed())
    body, checksum = token[:-6], token[-6:]
    assert token.startswith("hrt_") and token[4:].isalnum()
    assert checksum == base62.encode_int(zlib.crc32(body.encode()), 6)


@given(st.data())
def test_no_altered_token_is_recognised(data: st.DataObject) -> None:
    """One other character with a correct checksum fails at a tag."""
    seed = new_seed()
    token = _tokens().mint(1, new_id(), 3, seed)
    place = data.draw(st.integers(4, len(token) - 7))
    other = data.draw(st.sampled_from([c for c in base62.ALPHABET if c != token[place]]))
    altered = token[:place] + other + token[place + 1 : -6]
    altered += base62.encode_int(zlib.crc32(altered.encode()), 6)
    presented = _tokens().recognise(altered)
    assert presented is None or not _tokens().is_minted_for(presented, seed)


def test_a_jwt_with_altered_spare_bits_is_not_the_token() -> None:
    """RFC 7515 §2: the signature's last character has spare bits, and padding could follow."""
    key = SigningKey(KEYS, "acme", KEYS.first, 1, "ES256")
    header, payload, signature = key.sign({"iss": "https://acme.example"}).encode().split(b".")
    assert key.verify(header, payload, signature) == {"iss": "https://acme.example"}
    last = URL_SAFE.index(signature[-1:])
    spare = [URL_SAFE[other : other + 1] for other in range(last - last % 16, last - last % 16 + 16) if other != last]
    for altered in (*(signature[:-1] + other for other in spare), signature + b"=", signature + b"=="):
        assert key.verify(header, payload, altered) is None


def test_deeply_nested_json_is_no_token() -> None:
    """Decoding it makes no error in the service."""
    key = SigningKey(KEYS, "acme", KEYS.first, 1, "ES256")
    header, _, signature = key.sign({"iss": "https://acme.example"}).encode().split(b".")
    deep = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 5999)
    with pytest.raises((RecursionError, msgspec.DecodeError)):  # some Pythons allow more depth
        msgspec.json.decode(base64.urlsafe_b64decode(deep))
    assert kid_of(deep) is None
    assert key.verify(header, deep, signature) is None
    assert _claimed_issuer(f"x.{deep.decode()}.x") is None


def _mended(text: str) -> str:
    """The text with its checksum."""
    return text + base62.encode_int(zlib.crc32(text.encode()), 6)


def test_a_longer_or_non_ascii_token_is_refused_despite_its_checksum_and_short_tag() -> None:
    """Only ASCII can be compared in constant time, so others are refused before, without an error."""
    token = _tokens().mint(1, new_id(), 3, new_seed())
    assert _tokens().recognise(_mended(token[:-6])) is not None
    for altered in (token[:-6] + "0", token[:-7] + "\u00e9", token[:40] + "\u00e9" + token[41:-6]):
        assert _tokens().recognise(_mended(altered)) is None


@pytest.mark.parametrize("claimed", [("01", "00000-"), ("0-", "000000"), ("09", "000000")])
def test_a_token_of_an_unknown_key_or_without_a_number_is_refused(claimed: tuple[str, str]) -> None:
    """Also with a correct short tag, as one of a removed key may have."""
    key, number = claimed
    tokens = _tokens()
    claim = f"hrt_{key}{new_id()}{number}"
    assert tokens.recognise(_mended(claim + tokens._short_tag(1, claim) + "0" * 22)) is None


def test_the_memory_of_derived_macs_is_bounded() -> None:
    """Clients that may open families create many seeds."""
    tokens = _tokens()
    assert (tokens._short_mac.cache_parameters()["maxsize"], tokens._long_mac.cache_parameters()["maxsize"]) == (
        256,
        4096,
    )


def test_ids_seeds_and_digests_have_their_fixed_length() -> None:
    """The sizes of tokens depend on it: 22 characters each. A digest is 128 bits of SHA-256."""
    assert {len(made()) for made in (new_id, new_seed) for _ in range(20)} == {22}
    assert short_digest(b"abc") == base62.encode(bytes.fromhex("ba7816bf8f01cfea414140de5dae2223"))
    assert len(short_digest(b"")) == 22


def test_the_keyring_alone_cannot_mint() -> None:
    """Without the family's seed the long tag is wrong."""
    presented = _tokens().recognise(_tokens().mint(1, new_id(), 1, new_seed()))
    assert presented is not None and not _tokens().is_minted_for(presented, new_seed())


@pytest.mark.parametrize(
    "others",
    [MacTokens(KEYS, "globex", "refresh"), MacTokens(Keyring({1: b"c" * 32}), "acme", "refresh")],
    ids=["another tenant", "another keyring"],
)
def test_other_keys_recognise_nothing(others: MacTokens) -> None:
    """A token is valid only under its own tenant's key."""
    assert others.recognise(_tokens().mint(1, new_id(), 0, new_seed())) is None


@given(st.text(max_size=120))
def test_garbage_is_not_recognised(text: str) -> None:
    """Any text is refused without an error."""
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
def test_a_corrupt_keyring_is_refused_with_its_file_name(tmp_path: Path, content: bytes) -> None:
    """The message has none of its content."""
    path = tmp_path / "keyring.json"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(KeyringError, match=r"keyring\.json"):
        keyring.load(path)


def test_a_keyring_is_created_private_and_kept(tmp_path: Path) -> None:
    """Its mode is 0600; a second start uses the same secrets; a file that others can read is refused."""
    path = tmp_path / "keyring.json"
    first = keyring.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyring.create(path).derive(1, "x") == first.derive(1, "x")
    assert json.loads(path.read_text())["secrets"][0]["secret"] not in repr(first)
    path.chmod(0o640)
    with pytest.raises(KeyringError, match="chmod 600"):
        keyring.load(path)
