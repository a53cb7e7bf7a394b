"""What a test can tell a process of the service to do to itself: a file, read when SIGUSR1 comes."""

import os
import signal
from pathlib import Path
from typing import Any

import msgspec

FILE = "HEIRLOOM_TEST_ORDERS"
BUG = "HEIRLOOM_TEST_BUG"


class Orders(msgspec.Struct, omit_defaults=True):
    """What a replica does to itself.

    `clock` is how many seconds its clock is wrong, `deafness` the share of acknowledgements that it loses; `die` makes
    it exit after its next append, before it replies.
    """

    clock: float = 0.0
    deafness: float = 0.0
    die: bool = False


orders = Orders()


def obey() -> None:
    """Take orders from now on."""
    file = Path(os.environ[FILE])

    def read(_signum: int, _frame: object) -> None:
        given = msgspec.json.decode(file.read_bytes(), type=Orders)
        orders.clock, orders.deafness, orders.die = given.clock, given.deafness, given.die

    signal.signal(signal.SIGUSR1, read)


def put(owner: Any, name: str, instead: object) -> None:
    """In this process, that attribute of a module or class of the product is now the test's."""
    assert hasattr(owner, name)
    setattr(owner, name, instead)
