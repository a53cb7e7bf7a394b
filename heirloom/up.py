"""`heirloom up`: the service on this machine, with a broker of its own or on yours (CONTRACT §7)."""

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from events import bus
from heirloom import credentials, nats_server
from heirloom.child import Child, ChildFailed
from heirloom.credentials import Credentials
from notary import key as notary_files
from service import keyring
from service.keyring import write_private

RUNNING = "up.json"
READ_MODEL = "read-model.db"
DRAIN_SECONDS = 15


class CannotStart(Exception):
    """One line for a person: what is in the way, and what to do."""


class Options(NamedTuple):
    """`port` 0 takes any free one. `nats` is the URL of a broker of your own, with the service's credentials.

    `metrics` is where metrics and health are told, host and port.
    """

    data: Path
    port: int = 4222
    nats: str | None = None
    replicas: int = 1
    sync: str = "always"
    notary: bool = True
    metrics: tuple[str, int] | None = None


class Running(msgspec.Struct, frozen=True):
    """What `up.json` tells other commands: where the broker is, and whether it knows the credentials made here.

    `metrics` is where metrics and health are told, if they are.
    """

    host: str
    pid: int
    ours: bool
    metrics: str | None = None


@contextlib.asynccontextmanager
async def running(options: Options, progress: Callable[[str], None] = lambda _: None) -> AsyncIterator[Running]:
    """The whole service, ready; ended in order when the block ends. Raises `CannotStart`."""
    data = options.data.resolve()
    prepare(data)
    with _locked(data):
        try:
            where, children = await (_on_own_broker(data, options) if options.nats is None else _on(data, options))
        except keyring.KeyringError as error:
            raise CannotStart(str(error)) from error
        started: list[Child] = []
        async with _observed(options.metrics, started) as metrics:
            try:
                for child in children:
                    progress(f"starting {child.name}")
                    started.append(child)
                    await child.start()
                where = msgspec.structs.replace(where, metrics=metrics)
                (data / RUNNING).write_bytes(msgspec.json.encode(where))
                yield where
            except ChildFailed as error:
                raise CannotStart(str(error)) from error
            finally:
                (data / RUNNING).unlink(missing_ok=True)
                await _stop(started)


@contextlib.asynccontextmanager
async def _observed(address: tuple[str, int] | None, children: list[Child]) -> AsyncIterator[str | None]:
    """Tell metrics and health there, from the start on; gives the address. Raises `CannotStart`."""
    if address is None:
        yield None
        return
    from heirloom.observed import CannotListen, observed  # takes a while to import, and only who wants it should pay

    try:
        async with observed(*address, children) as listening:
            yield listening
    except CannotListen as error:
        raise CannotStart(str(error)) from error


async def _on_own_broker(data: Path, options: Options) -> tuple[Running, list[Child]]:
    known = credentials.ensure(data)
    port = await _port(data, options.port)
    where = Running(f"{nats_server.HOST}:{port}", os.getpid(), ours=True)
    processes = _processes(data, known.url("service", where.host), options, ours=True)
    return where, [_broker(data, port, known, options.sync), *processes]


async def _on(data: Path, options: Options) -> tuple[Running, list[Child]]:
    """On a broker somebody else runs: with the credentials in its URL, or else with those of `broker-config`."""
    url = options.nats or ""
    ours = urlsplit(url).username is None and (data / credentials.FILE).exists()
    if ours:
        url = credentials.ensure(data).url("service", _host_of(url))
    await _reachable(url)
    return Running(_host_of(url), os.getpid(), ours), _processes(data, url, options, ours=ours)


async def _stop(started: list[Child]) -> None:
    """Those who answer end first, all at once; the broker, if it is ours, last."""
    answering = [child for child in started if child.name != "the broker"]
    await asyncio.gather(*(child.stop(DRAIN_SECONDS) for child in answering))
    for child in started:
        if child.name == "the broker":
            await child.stop(DRAIN_SECONDS)


def _broker(data: Path, port: int, known: Credentials, sync: str) -> Child:
    config = data / "nats.conf"
    config.unlink(missing_ok=True)
    write_private(
        config, nats_server.configuration(f"{nats_server.HOST}:{port}", data / "jetstream", known, sync).encode()
    )

    async def answers() -> bool:
        try:
            connection = await bus.connect(known.url("service", f"{nats_server.HOST}:{port}"), "up", patient=False)
            await connection.jetstream().account_info()
        except Exception:  # whatever it is, it is not ready yet; the process itself is watched
            return False
        await connection.close()
        return True

    return Child(
        "the broker",
        [nats_server.binary(), "--config", str(config)],
        dict(os.environ),
        is_ready=answers,
        pid_file=data / "nats.pid",
        errors=data / "nats.log",
        reports=False,
    )


def _processes(data: Path, url: str, options: Options, *, ours: bool) -> list[Child]:
    env = os.environ | {
        "HEIRLOOM_NATS_URL": url,
        "HEIRLOOM_KEYRING": str(data / "keyring.json"),
        "HEIRLOOM_READ_MODEL": str(data / READ_MODEL),
        "HEIRLOOM_NOTARY_KEY": str(data / notary_files.KEY),
        "HEIRLOOM_NOTARY_STATE": str(data / notary_files.STATE),
        "HEIRLOOM_PARENT": "1",
    }
    if ours:
        env["HEIRLOOM_DATA"] = str(data)

    def as_role(role: str) -> dict[str, str]:
        return env | {"HEIRLOOM_NATS_URL": credentials.load(data).url(role, _host_of(url))} if ours else env

    python = [sys.executable, "-m"]
    children = [
        Child(f"replica {number}", [*python, "heirloom.replica"], env, errors=data / f"replica-{number}.log")
        for number in range(1, options.replicas + 1)
    ]
    projector = Child(
        "the projector", [*python, "heirloom.projector"], as_role("projector"), errors=data / "projector.log"
    )
    children.append(projector)
    if options.notary:  # nobody waits for it: it vouches for what has happened
        notary = Child(
            "the notary",
            [*python, "heirloom.notary"],
            as_role("notary"),
            errors=data / "notary.log",
            is_ready=_at_once,
        )
        children.append(notary)
    return children


async def _at_once() -> bool:
    return True


@contextlib.contextmanager
def _locked(data: Path) -> "contextlib.Generator[None]":  # type: ignore[name-defined]
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CannotStart(f"another heirloom up runs on {data}; choose another --data, or stop it") from error
    finally:
        os.close(descriptor)


def prepare(data: Path) -> None:
    """Make the data directory and its keyring, where they are not there yet. Raises `CannotStart`."""
    path = data / "keyring.json"
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists() and (data / "jetstream").exists():
            raise CannotStart(
                f"{data} has a log but no keyring: its tokens would all be void. Restore {path} from your backup"
            )
        keyring.create(path)
    except keyring.KeyringError as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise CannotStart(f"cannot use the data directory {data}: {error.strerror}") from error


async def _port(data: Path, wanted: int) -> int:
    nats_server.end_orphan(data / "nats.pid")
    if wanted == 0:
        return nats_server.free_port()
    if not await nats_server.wait_until_free(wanted, 3):
        raise CannotStart(f"port {wanted} is in use; choose another with --port, or 0 for any")
    return wanted


async def _reachable(url: str) -> None:
    try:
        connection = await bus.connect(url, "up", patient=False)
    except Exception as error:
        raise CannotStart(f"no broker answers at {_host_of(url)}: {_reason(error)}") from error
    await connection.close()


def _reason(error: Exception) -> str:
    return str(error).removeprefix("nats: ") or type(error).__name__


def _host_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 4222}"
