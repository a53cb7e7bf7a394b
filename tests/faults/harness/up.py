"""`heirloom up` with the test's own replicas, projector and links: `python -m tests.faults.harness.up SETUP up …`."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from heirloom.broker.roles import ROLES
from heirloom.cli import main as cli
from heirloom.process.child_process import Child
from heirloom.supervisor import supervisor
from tests.faults.harness.orders import BUG, FILE
from tests.witness import ANYTHING, WITNESS


class Setup(msgspec.Struct):
    """`links`: for a child's name, what takes the place of a broker's host: `{"127.0.0.1:4222": "127.0.0.1:5001"}`."""

    bug: str | None = None
    links: dict[str, dict[str, str]] = {}


def main() -> None:
    """The command line after SETUP is that of `heirloom`."""
    setup = msgspec.json.decode(sys.argv.pop(1), type=Setup)
    ROLES[WITNESS] = ANYTHING
    processes = supervisor._processes

    def arranged(data: Path, *arguments: Any, **options: Any) -> list[Child]:
        children = processes(data, *arguments, **options)
        for child in children:
            if child._command[-1] in ("heirloom.replica", "heirloom.projector"):
                child._command[-1] = child._command[-1].replace("heirloom.", "tests.faults.harness.")
            child._env = child._env | {FILE: str(data / f"{child.name.replace(' ', '-')}.orders")}
            if setup.bug is not None:
                child._env[BUG] = setup.bug
            for host, link in setup.links.get(child.name, {}).items():
                child._env["HEIRLOOM_NATS_URL"] = child._env["HEIRLOOM_NATS_URL"].replace(host, link)
        return children

    supervisor._processes = arranged
    cli.main()


if __name__ == "__main__":
    main()
