"""Every parser of untrusted input and of files: real inputs, the function, and the errors it may raise."""

import base64
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from msgspec.structs import replace

from events.aggregates import client, family_commit, key, settings, subject
from events.aggregates.commit import Codec, UnreadableCommit
from events.log.grammar import Foreign
from events.verification.verifier import Verifier
from heirloom.backup.manifest import MANIFEST, UnusableBackup, read_manifest
from heirloom.broker import credentials
from heirloom.data_directory import CREDENTIALS
from heirloom.seed import read_seed
from notary.checkpoint import read_checkpoint
from notary.key_files import NoKey, NotaryState, read_state, write_state
from notary.signed_note import MalformedNote, Signer, parse_key, parse_signer
from projections.decoded_commit import Unprojectable, read_commit
from projections.pagination import BadCursor, PageQuery, cursor_after, cursor_position
from projections.queries import requests as audit_request
from projections.queries.server import QUERIES
from projections.queries.token_parser import NoToken, claim_of
from service.clients.assertion import read as read_assertion
from service.clients.authentication import client_proof
from service.decide.scope import parse_resources, parse_scope
from service.endpoints import authorize, device_authorization, introspect, issue, revoke
from service.endpoints.grants import token_request
from service.errors import OAuthError
from service.keys import keyring
from service.keys.keyring import Keyring, KeyringError
from service.keys.mac_tokens import MacTokens
from service.keys.user_code import family_of, new_user_code
from service.request import decode, idempotency_key
from tests.notary.log.logs import checkpoints_of
from tests.projections.logs import eventful_log
from tests.system.service import SEED

RING = Keyring({1: b"k" * 32})
LOG = eventful_log()
CODECS: dict[str, Codec[Any, Any]] = {
    "family": family_commit.codec,
    "client": client.codec,
    "tenant": settings.codec,
    "key": key.codec,
    "subject": subject.codec,
}
PAGE = PageQuery("families", "acme", limit=10)
JWT = b"eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJqdGkiOiJhYmMiLCJzaWQiOiJkZWYifQ." + b"s" * 86
REQUESTS = [
    b'{"grant_type": "refresh_token", "refresh_token": "hrt_x", "scope": "read", "resource": ["https://api.example"]}',
    b'{"grant_type":"authorization_code","code":"hac_x","redirect_uri":"https://app.example/cb","code_verifier":"v"}',
    b'{"sub": "alice", "scope": "read offline_access", "acr": "1", "amr": ["pwd"], "auth_time": 1, "nonce": "n"}',
    b'{"client_id":"app","sub":"a","scope":"read","code_challenge":"c","code_challenge_method":"S256"}',
    b'{"user_code": "WDJB-MJHT", "sub": "alice", "approved": true}',
    b'{"token": "hrt_x", "token_type_hint": "refresh_token"}',
]
QUESTIONS = [
    b'{"family_id": "f1"}',
    b'{"sub": "user1", "client_id": "web", "status": "live", "since": "2026-11-20T12:00:00Z", "limit": 5}',
    b'{"reason": "reuse_detected", "min_seq": 3}',
    b'{"token": "hrt_x", "at": "2026-11-20T12:00:00Z"}',
    b'{"text": "laptop", "cursor": "abc", "until": "2026-11-20T12:00:00.5+01:00"}',
]


class Parser(NamedTuple):
    """`parse` takes any bytes, and raises only `refusals`."""

    originals: Sequence[bytes]
    parse: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = ()


def parsers(scratch: Path) -> dict[str, Parser]:
    """All parsers by name. Those that read a file write it in `scratch`."""
    return _of_tokens() | _of_requests() | _of_log() | _of_files(scratch)


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """A parser of text that JSON has decoded, so that any character may be in it."""
    return lambda data: parse(data.decode("utf-8", "replace"))


def _of_tokens() -> dict[str, Parser]:
    kinds = ("refresh", "code", "device", "access")
    made = {kind: MacTokens(RING, "acme", kind) for kind in kinds}  # type: ignore[arg-type]  # a literal each
    texts = [tokens.mint(1, "f" * 22, number, "seed").encode() for tokens in made.values() for number in (0, 7, 123456)]
    found = {f"{kind} token": Parser(texts, _text(made[kind].recognise)) for kind in kinds}
    return found | {
        "token in an audit": Parser([*texts, JWT], _text(claim_of), (NoToken,)),
        "user code": Parser(
            [new_user_code().encode() for _ in range(5)], _text(lambda text: family_of(RING, "acme", text))
        ),
        "client assertion": Parser([JWT, b"eyJhbGciOiJFUzI1NiJ9.e30.AAAA"], _text(read_assertion)),
    }


def _of_requests() -> dict[str, Parser]:
    decoders: dict[str, msgspec.json.Decoder[Any]] = {
        "token": token_request.decoder,
        "issue": issue._decoder,
        "authorize": authorize._decoder,
        "device_authorization": device_authorization._decoder,
        "revoke": revoke._decoder,
        "introspect": introspect._decoder,
    }
    found = {f"request: {name}": _request(decoder) for name, decoder in decoders.items()}
    found |= {f"audit: {name}": _question(query.request) for name, query in QUERIES.items()}
    cursors = [cursor_after(PAGE, (12, 34)).encode(), cursor_after(PAGE, (0,)).encode()]
    basic = [b"Basic " + base64.b64encode(text) for text in (b"web:secret", b"a%3Ab:%2B+x", b"web", b":")]
    return found | {
        "scope": Parser([b"read write openid", b"read"], _text(parse_scope), (OAuthError,)),
        "resource": Parser([b"https://api.example/a?b", b"urn:x:y"], _text(parse_resources), (OAuthError,)),
        "idempotency key": Parser(
            [b"7f3a", b"x" * 255], _text(lambda text: idempotency_key({"Idempotency-Key": text})), (OAuthError,)
        ),
        "HTTP Basic": Parser(
            basic, _text(lambda text: client_proof("token", {"Authorization": text}, {})), (OAuthError,)
        ),
        "client authentication": Parser(
            [
                b'{"client_id": "web", "client_secret": "s"}',
                b'{"client_assertion": "e.e.e", "client_assertion_type": "x"}',
            ],
            lambda data: client_proof("token", {}, decode(data, msgspec.json.Decoder(dict[str, Any]))),
            (OAuthError,),
        ),
        "cursor": Parser(cursors, _text(lambda text: cursor_position(PAGE._replace(cursor=text), 2)), (BadCursor,)),
    }


def _request(decoder: msgspec.json.Decoder[Any]) -> Parser:
    return Parser(REQUESTS, lambda data: decode(data, decoder), (OAuthError,))


def _question(question: type[audit_request.AuditRequest]) -> Parser:
    return Parser(QUESTIONS, lambda data: audit_request.decode(data, question), (audit_request.QueryRefused,))


def _of_log() -> dict[str, Parser]:
    bodies = [stored.body for stored in LOG]
    found = {f"commit: {kind}": Parser(bodies, codec.decode, (UnreadableCommit,)) for kind, codec in CODECS.items()}
    return found | {
        "verification": Parser(bodies, _verify),
        "projection": Parser(bodies, _project, (Unprojectable,)),
    }


def _project(data: bytes) -> object:
    """The projected commit, or None for a foreign message."""
    read = read_commit(replace(LOG[1], body=data))
    return None if isinstance(read, Foreign) else read


def _verify(data: bytes) -> None:
    """A fault in the log is reported, never raised."""
    verifier = Verifier()
    verifier.check(LOG[0])
    verifier.check(replace(LOG[1], body=data))
    verifier.report()


def _of_files(scratch: Path) -> dict[str, Parser]:
    signer = Signer.fresh("heirloom/0011223344556677")
    notes = [checkpoint.signed.encode() for checkpoint in checkpoints_of(LOG, signer, 3, 7)]
    ring, seed, backup = scratch / "keyring.json", scratch / "seed.toml", scratch / MANIFEST
    keyring.create(ring)
    part = {"name": "x", "size": 1, "sha256": "0"}
    state = {"messages": 1, "bytes": 1, "first_seq": 1, "last_seq": 1}
    manifest = {
        "version": 1,
        "made_at": "2026-11-20T12:00:00Z",
        "heirloom": "0.1.0",
        "broker": "2.15.1",
        "streams": [{"config": {"name": "TOKENS"}, "state": state, "part": part}],
        "files": [part],
    }
    bus, state_file = scratch / CREDENTIALS, scratch / "notary.state"
    credentials.ensure(scratch)
    write_state(state_file, NotaryState(signer.key.name, 2, (b"x" * 32,), b"y" * 32, notes[0].decode()))
    return {
        "credentials": Parser(
            [bus.read_bytes()], _in_file(bus, lambda path: credentials.load(path.parent)), (KeyringError,)
        ),
        "notary's state": Parser([state_file.read_bytes()], _in_file(state_file, read_state), (NoKey,)),
        "checkpoint": Parser(notes, read_checkpoint, (MalformedNote,)),
        "notary's public key": Parser([str(signer.key).encode()], _text(parse_key), (MalformedNote,)),
        "notary's key": Parser([signer.export().encode()], _text(parse_signer), (MalformedNote,)),
        "keyring": Parser([ring.read_bytes()], _in_file(ring, keyring.load), (KeyringError,)),
        "seed file": Parser([SEED.encode()], _in_file(seed, read_seed), (click.ClickException,)),
        "backup": Parser(
            [msgspec.json.encode(manifest)],
            _in_file(backup, lambda path: read_manifest(path.parent)),
            (UnusableBackup,),
        ),
    }


def _in_file(path: Path, parse: Callable[[Path], object]) -> Callable[[bytes], object]:
    def parse_file(data: bytes) -> object:
        path.write_bytes(data)
        return parse(path)

    return parse_file


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A temporary directory, in memory if possible, for a file is written for every input."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
