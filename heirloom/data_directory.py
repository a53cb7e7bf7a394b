"""The files of a data directory, in which `heirloom up` keeps the log, the keys and the read model (contract §7)."""

from pathlib import Path
from typing import NamedTuple

from notary import file_names

KEYRING = "keyring.json"
CREDENTIALS = "bus.json"
NOTARY_KEY, NOTARY_PUBLIC_KEY, NOTARY_STATE = file_names.KEY, file_names.PUBLIC_KEY, file_names.STATE
READ_MODEL = "read-model.db"

CLUSTER_SIZE = 3


class BrokerDirectory(NamedTuple):
    """The files of one broker: the data directory itself, or a directory in it for each broker of a cluster."""

    path: Path

    @property
    def store(self) -> Path:
        """The directory in which nats-server keeps its streams, the log among them."""
        return self.path / "jetstream"

    @property
    def configuration(self) -> Path:
        """The broker's configuration, written at each start."""
        return self.path / "nats.conf"

    @property
    def log_file(self) -> Path:
        """What the broker logs."""
        return self.path / "nats.log"

    @property
    def pid_file(self) -> Path:
        """The broker's process id, while it runs."""
        return self.path / "nats.pid"


class DataDirectory(NamedTuple):
    """The files of the data directory at `path`."""

    path: Path

    @property
    def keyring(self) -> Path:
        """The secrets from which all tokens and signing keys are derived."""
        return self.path / KEYRING

    @property
    def credentials(self) -> Path:
        """The credentials of the embedded broker."""
        return self.path / CREDENTIALS

    @property
    def read_model(self) -> Path:
        """The SQLite file that answers audit queries."""
        return self.path / READ_MODEL

    @property
    def notary_key(self) -> Path:
        """The notary's private key."""
        return self.path / NOTARY_KEY

    @property
    def notary_public_key(self) -> Path:
        """The notary's public keys, which the notary writes beside its private key."""
        return self.path / NOTARY_PUBLIC_KEY

    @property
    def notary_state(self) -> Path:
        """The tree that the notary signed last."""
        return self.path / NOTARY_STATE

    @property
    def run_file(self) -> Path:
        """Where the running service is (`heirloom.broker.run_file`)."""
        return self.path / "up.json"

    @property
    def lock(self) -> Path:
        """Locked while a service runs on the directory."""
        return self.path / "lock"

    @property
    def restore_draft(self) -> Path:
        """A directory that exists during a restore, or after one that was killed."""
        return self.path / ".restoring"

    @property
    def broker(self) -> BrokerDirectory:
        """The files of the broker that is alone."""
        return BrokerDirectory(self.path)

    def node(self, name: str) -> BrokerDirectory:
        """The files of a cluster's broker."""
        return BrokerDirectory(self.path / name)

    @property
    def logs(self) -> tuple[Path, ...]:
        """The directories that exist where the log of one broker or of a cluster is."""
        return (self.broker.store, *(self.node(name).path for name in node_names(CLUSTER_SIZE)))

    def process_log(self, process: str) -> Path:
        """The log file of a service process, such as `replica-1`."""
        return self.path / f"{process}.log"


def node_names(count: int) -> list[str]:
    """The names of a cluster's brokers, and of their directories."""
    return [f"nats-{number}" for number in range(1, count + 1)]
