"""The whole service as its users run it: `heirloom up` as a process, callers with their own credentials."""

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from events.bus.connect import connect
from events.bus.connection import Connection
from heirloom.broker import credentials
from heirloom.broker.batch_staging import staged_at
from heirloom.broker.own_connection import connect_as
from heirloom.broker.roles import ASKING
from heirloom.data_directory import DataDirectory
from tests import leaks
from tests.seed import client, seed, tenant

HEIRLOOM = Path(sys.executable).with_name("heirloom")
PATIENCE_SECONDS = 30
WAITED_TOO_LONG = "too many requests are under way; try again"
SENT_AGAIN = 5

SEED = seed(
    tenant("acme", issuer="https://acme.example"),
    client(
        "web",
        grant_types=["refresh_token"],
        scope="openid profile read write offline_access",
        may_issue=True,
    ),
    client("other", grant_types=["refresh_token", "client_credentials"], scope="read offline_access", may_issue=True),
    client("api", may_introspect=True),
    tenant("globex"),
    client("web", "globex", scope="read offline_access", may_issue=True),
)


def without_waiting(printed: str) -> str:
    """What a command printed, but for lines about what starts slowly on a busy machine."""
    return "".join(line for line in printed.splitlines(keepends=True) if "is not ready yet: " not in line)


class Service:
    """A running `heirloom up`. `secrets` are those that nothing of what it has written may hold when it has ended."""

    def __init__(self, data: Path, *options: str, seed: str = SEED) -> None:
        self.data = data
        self.secrets: list[str] = []
        file = data.parent / f"{data.name}.toml"
        file.write_text(seed)
        self._output = data.parent / f"{data.name}.out"
        self._near = "[::1]" if "::1" in options else "127.0.0.1"
        self._command = [str(HEIRLOOM), "up", "--data", str(data), "--port", "0", "--seed", str(file), *options]

    def start(self) -> None:
        """Start, and come back when it says that it is ready."""
        with self._output.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith((f"ready nats://{self._near}:", f"ready tls://{self._near}:")):
            self.kill()
            raise AssertionError(f"{line!r}; it said:\n{self.said()}")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(PATIENCE_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    def kill(self) -> None:
        """Kill the parent alone, as the system's out-of-memory killer would."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def said(self) -> str:
        """What went to standard error, and the children's last lines: what a failed test shows."""
        logs = [self._output, *sorted(self.data.glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in logs if log.exists())

    @property
    def host(self) -> str:
        """The broker's host and port."""
        host: str = json.loads(DataDirectory(self.data).run_file.read_text())["host"]
        return host

    @property
    def pid(self) -> int:
        """Of `heirloom up` itself."""
        return self._process.pid

    def pids(self, what: str) -> list[int]:
        """The processes of this service whose command line holds `what`."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        return [int(pid) for pid, parent, args in rows if int(parent) == self._process.pid and what in args]

    def served(self) -> int:
        """How often a replica has begun to serve."""
        return sum(log.read_text().count('"event":"serving"') for log in self.data.glob("replica-*.log"))

    def kill_child(self, what: str) -> None:
        """Kill -9 of one child."""
        os.kill(self.pids(what)[0], signal.SIGKILL)

    async def own(self, role: str = "service") -> Connection:
        """A connection as one of the service's own roles."""
        return await connect_as(role, "test", f"nats://{self.host}", credentials.load(self.data))

    async def url(self, client_id: str = "web", tenant: str = "acme") -> str:
        """What `heirloom url` shows of a client now: after a disabling there is another password."""
        command = str(HEIRLOOM), "url", "--data", str(self.data), "--client", f"{tenant}/{client_id}"
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode().strip()

    @contextlib.asynccontextmanager
    async def client(
        self, client_id: str = "web", tenant: str = "acme", url: str | None = None
    ) -> AsyncIterator["Caller"]:
        """Connected as a client, with that client's inbox, and the credentials it has before it is ever disabled."""
        url = url or credentials.load(self.data).client_url(tenant, client_id, self.host)
        again = functools.partial(connect, url, client_id, inbox_prefix=f"_INBOX.{tenant}.{client_id}")
        caller = Caller(await again(), f"oauth.{tenant}.client.{client_id}", again)
        try:
            yield caller
        finally:
            await caller.connection.close()

    @contextlib.asynccontextmanager
    async def role(self, role: str) -> AsyncIterator["Caller"]:
        """Connected as a role; subjects are given whole."""
        url = credentials.load(self.data).url(role, self.host)
        connection = await connect(url, role, inbox_prefix=f"_INBOX.role.{role}")
        try:
            yield Caller(connection, "")
        finally:
            await connection.close()


def overstepped(data: Path) -> list[str]:
    """What the broker has refused to our own connections: what a role lacks is a wait without an answer."""
    said = (data / "nats.log").read_text() if (data / "nats.log").exists() else ""
    ours = (line for line in said.splitlines() if " Violation - " in line and ":heirloom " in line)
    answering = tuple(f":heirloom {account.lower()}" for account in ASKING)
    return [line for line in ours if '"HEIRLOOM/' in line or any(name in line for name in answering)]


class Caller:
    """Asks under one subject prefix."""

    def __init__(self, connection: Client, prefix: str, again: Callable[[], Awaitable[Client]] | None = None) -> None:
        self.connection = connection
        self._prefix = prefix
        self._again = again

    async def come_back(self) -> None:
        """Connect anew where the connection was closed for good.

        nats-py does that when a broker refuses it twice. A broker that was killed may be back before the replicas are
        that tell it who may connect.
        """
        if self.connection.is_closed and self._again is not None:
            self.connection = await self._again()

    async def ask(
        self,
        what: str,
        request: dict[str, Any] | bytes,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 10,
    ) -> dict[str, Any]:
        """The reply's body. The error headers agree with the body, or the assertion fails.

        On a busy machine a request may wait too long for its turn. It has written nothing then, and is sent again, as
        a client would (CONTRACT §2).
        """
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        if key is not None:
            headers = {"Idempotency-Key": key} | (headers or {})
        subject = f"{self._prefix}.{what}" if self._prefix else what
        for _ in range(SENT_AGAIN):
            reply = await self.connection.request(subject, body, timeout=seconds, headers=headers)
            answer: dict[str, Any] = json.loads(reply.data)
            if answer.get("error_description") != WAITED_TOO_LONG:
                break
        told = reply.headers or {}
        assert told.get("Nats-Service-Error") == answer.get("error")
        assert ("error" in answer) == (told.get("Nats-Service-Error-Code") in ("400", "401", "403", "429", "503"))
        return answer

    async def raw(self, what: str, request: dict[str, Any]) -> Msg:
        """The reply as it is, with its headers."""
        return await self.connection.request(f"{self._prefix}.{what}", json.dumps(request).encode(), timeout=10)

    async def issue(self, sub: str = "alice", scope: str = "read write offline_access") -> dict[str, Any]:
        """Tokens of a new family."""
        return await self.succeed("issue", {"sub": sub, "scope": scope})

    async def succeed(self, what: str, request: dict[str, Any], *, seconds: float = 10) -> dict[str, Any]:
        """The answer to a request that must succeed, and may be sent twice: unavailable is not for ever."""
        for _ in range(SENT_AGAIN):
            answer = await self.ask(what, request, seconds=seconds)
            if answer.get("error") != "temporarily_unavailable":
                break
        assert "error" not in answer, answer
        return answer

    async def refresh(self, token: str, *, key: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Present a refresh token."""
        request = {"grant_type": "refresh_token", "refresh_token": token} | parameters
        return await self.ask("token", request, key=key)

    async def active(self, token: str) -> bool:
        """Whether introspection calls the token active."""
        answer: bool = (await self.succeed("introspect", {"token": token}))["active"]
        return answer


@contextlib.contextmanager
def running(data: Path, *options: str, seed: str = SEED) -> Iterator[Service]:
    """A service, ended whatever happens; whatever was asked of it, it has written no token and no secret anywhere."""
    service = Service(data, *options, seed=seed)
    service.start()
    try:
        yield service
    except BaseException:
        print(service.said())  # a failed test shows it
        raise
    finally:
        service.stop()
    assert not staged_at(data / "jetstream").is_symlink(), "what was in memory is still there"
    assert overstepped(data) == [], "the broker refused one of the service's own connections something"
    assert not leaks.tokens(leaks.files(data))
    assert not leaks.values(leaks.files(data), service.secrets)
    assert [path.name for path in leaks.files(data) if path.stat().st_mode & 0o077] == [], "others may read these"
