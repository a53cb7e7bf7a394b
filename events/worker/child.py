"""The child's side of `events.worker.parent`. It imports no connection, which would make its start much longer."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

import msgspec

from events.log.stored_message import StoredMessage

LENGTH_BYTES = 4
"""The size of the length in front of every batch and every answer."""
SWITCH_SECONDS = 0.0005
"""Switch soon to the thread that receives: a pipe buffers only a fraction of a batch."""

_decoder = msgspec.msgpack.Decoder(list[StoredMessage])


def serve(handle: Callable[[list[StoredMessage]], bytes]) -> None:
    """Answer every batch with `handle`, until the input ends or the parent is gone."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # the parent decides when this ends, by closing our input
    gc.disable()  # commits contain no cycles, and searching for them costs a tenth of the time
    sys.setswitchinterval(SWITCH_SECONDS)
    arrived: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(arrived,), daemon=True).start()
    sink = sys.stdout.buffer
    while batch := arrived.get():
        answer = handle(_decoder.decode(batch))
        try:
            sink.write(len(answer).to_bytes(LENGTH_BYTES) + answer)
            sink.flush()
        except BrokenPipeError:  # the parent is gone, which is not an error here
            os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())  # for what Python flushes at the end
            return


def _receive(arrived: "SimpleQueue[bytes]") -> None:
    """Receive batches, at most `MAX_AHEAD`; then `b""` when the input ends, also in the middle of a batch."""
    source = sys.stdin.buffer
    try:
        while header := source.read(LENGTH_BYTES):
            batch = source.read(int.from_bytes(header))
            if len(batch) < int.from_bytes(header):
                break
            arrived.put(batch)
    finally:
        arrived.put(b"")  # whatever ended this, the other thread must not wait
