"""A real nats-server for a test: on a free port, with JetStream in its own directory."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heirloom.broker.nats_server import free_port

BINARY = Path(sys.executable).with_name("nats-server")
PATIENCE_SECONDS = 15.0


class Broker:
    """A server that can be stopped, killed and started again, with the same port and data."""

    def __init__(self, directory: Path, *, sync_always: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self._output = directory / "nats-server.log"
        self._configuration = directory / "nats-server.conf"
        sync = "sync_interval: always" if sync_always else ""
        self._configuration.write_text(
            f'listen: "127.0.0.1:{self._port}"\njetstream {{ store_dir: "{directory / "data"}"\n{sync} }}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, text: str) -> None:
        """Add to its configuration, before the start."""
        with self._configuration.open("a") as file:
            file.write(text)

    @property
    def url(self) -> str:
        """Its address; no credentials are needed."""
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [BINARY, "-c", self._configuration], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nats-server did not start:\n{self._output.read_text()}")
            time.sleep(0.01)  # between two attempts to connect

    def stop(self) -> None:
        """Stop it cleanly; everything acknowledged is on disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, as in a crash."""
        self._end(signal.SIGKILL)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            try:
                self._process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False


@contextmanager
def broker(directory: Path, *, sync_always: bool = False) -> Iterator[Broker]:
    """A running server, killed at the end. `sync_always`: every acknowledgement is on disk."""
    server = Broker(directory, sync_always=sync_always)
    server.start()
    try:
        yield server
    finally:
        server.kill()
