"""What must not be shared with a forked process is renewed in it."""

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something with connections, locks or tasks of its own."""

    def after_fork(self) -> None:
        """Called in the child: leave what is the parent's alone, and begin anew."""


def renew(instance: Forked) -> None:
    """Call the instance's `after_fork` in every process that is forked while it lives."""
    _known.add(instance)


_known: weakref.WeakSet[Forked] = weakref.WeakSet()


def _after_fork() -> None:
    for instance in list(_known):
        instance.after_fork()


os.register_at_fork(after_in_child=_after_fork)
