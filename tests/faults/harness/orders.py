"""Orders from a test to a process of the service: a file, which SIGUSR1 makes it read."""

import os
import signal
from pathlib import Path
from typing import Any

import msgspec

FILE = "HEIRLOOM_TEST_ORDERS"
BUG = "HEIRLOOM_TEST_BUG"


class Orders(msgspec.Struct, omit_defaults=True):
    """What a replica does to itself.

    `clock` is the error of its clock in seconds, `deafness` the share of acknowledgements that it loses; `die` makes it
    exit after its next append, before the reply.
    """

    clock: float = 0.0
    deafness: float = 0.0
    die: bool = False


orders = Orders()


def obey() -> None:
    """Follow orders from now on."""
    file = Path(os.environ[FILE])

    def read(_signum: int, _frame: object) -> None:
        given = msgspec.json.decode(file.read_bytes(), type=Orders)
        orders.clock, orders.deafness, orders.die = given.clock, given.deafness, given.die

    signal.signal(signal.SIGUSR1, read)


def put(owner: Any, name: str, instead: object) -> None:
    """Replace an attribute of a module or class of the product in this process."""
    assert hasattr(owner, name)
    setattr(owner, name, instead)
