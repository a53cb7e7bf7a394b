"""The child's side of `events.worker.parent`. It imports no connection, which would take longer than all else."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

import msgspec

from events.log.stored_commit import Stored

LENGTH_BYTES = 4
"""In front of every batch and every answer."""
SWITCH_SECONDS = 0.0005
"""How soon the thread that receives gets its turn: a pipe holds a fraction of a batch."""

_decoder = msgspec.msgpack.Decoder(list[Stored])


def serve(handle: Callable[[list[Stored]], bytes]) -> None:
    """Answer every batch with `handle`, until there are no more or nobody hears it."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # the parent decides when it is time, and closes our input
    gc.disable()  # commits hold no cycles, and looking for some in every batch costs a tenth of the time
    sys.setswitchinterval(SWITCH_SECONDS)
    arrived: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(arrived,), daemon=True).start()
    sink = sys.stdout.buffer
    while batch := arrived.get():
        answer = handle(_decoder.decode(batch))
        try:
            sink.write(len(answer).to_bytes(LENGTH_BYTES) + answer)
            sink.flush()
        except BrokenPipeError:  # the parent is gone, and its end is no fault of ours
            os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())  # takes what is flushed at the end
            return


def _receive(arrived: "SimpleQueue[bytes]") -> None:
    """Take in batches as they come, at most `AHEAD`; nothing for the end of the input, or a batch cut short by it."""
    source = sys.stdin.buffer
    try:
        while header := source.read(LENGTH_BYTES):
            batch = source.read(int.from_bytes(header))
            if len(batch) < int.from_bytes(header):
                break
            arrived.put(batch)
    finally:
        arrived.put(b"")  # whatever ended this: nobody may wait for more
