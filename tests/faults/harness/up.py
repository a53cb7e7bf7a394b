"""`heirloom up` with the test's replicas, projector and links: `python -m tests.faults.harness.up SETUP up …`."""

import sys
from typing import Any

import msgspec

from heirloom.broker.roles import ROLES
from heirloom.cli import main as cli
from heirloom.data_directory import DataDirectory
from heirloom.process.child_process import Child
from heirloom.supervisor import service_processes, supervisor
from tests.faults.harness.orders import BUG, FILE
from tests.witness import ANYTHING, WITNESS


class Setup(msgspec.Struct):
    """`links` maps a child's name to replacements of broker addresses: `{"127.0.0.1:4222": "127.0.0.1:5001"}`."""

    bug: str | None = None
    links: dict[str, dict[str, str]] = {}


def main() -> None:
    """Run `heirloom` with the arguments after SETUP."""
    setup = msgspec.json.decode(sys.argv.pop(1), type=Setup)
    ROLES[WITNESS] = ANYTHING
    processes = service_processes.processes

    def arranged(data: DataDirectory, *arguments: Any, **options: Any) -> list[Child]:
        children = processes(data, *arguments, **options)
        for child in children:
            *command, module = child.program.command
            if module in ("heirloom.replica", "heirloom.projector"):
                module = module.replace("heirloom.", "tests.faults.harness.")
            env = child.program.env | {FILE: str(data.path / f"{child.name.replace(' ', '-')}.orders")}
            if setup.bug is not None:
                env[BUG] = setup.bug
            for host, link in setup.links.get(child.name, {}).items():
                env["HEIRLOOM_NATS_URL"] = env["HEIRLOOM_NATS_URL"].replace(host, link)
            child.program = child.program._replace(command=[*command, module], env=env)
        return children

    vars(supervisor)["processes"] = arranged
    cli.main()


if __name__ == "__main__":
    main()
