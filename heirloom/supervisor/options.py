"""How `heirloom up` runs the service."""

from pathlib import Path
from typing import NamedTuple

from heirloom.broker import nats_server
from heirloom.broker.tls import Tls
from heirloom.process.log_file import DEFAULT_LIMITS, LogLimits
from service.families.cache import DEFAULT_BYTES
from service.replicas.book_keeper import BookLimits
from service.replicas.broker_clock import TOLERATED_SECONDS


class ServiceOptions(NamedTuple):
    """The options of one service.

    `port`: 0 takes any free port. `nats`: the URL of a broker of your own, with the service's credentials. `cluster`:
    how many brokers hold the log, on ports from `port` on; with `nats`, how many of yours must. `host`: where the
    embedded brokers listen. `metrics`: host and port of metrics and health. `insecure`: on a broker of your own, do not
    test what strangers may do there. `max_clock_skew`: seconds by which a replica's clock may differ from the broker's.
    `cache_bytes`: bytes of commits that each replica may hold in memory. `book_limits`: when the log's book is closed.
    `broker_memory`: bytes that each embedded broker aims to stay below; None derives them from the machine's memory.
    """

    data: Path
    port: int = 4222
    nats: str | None = None
    replicas: int = 1
    sync: str = "always"
    notary: bool = True
    metrics: tuple[str, int] | None = None
    cluster: int = 1
    host: str = nats_server.HOST
    tls: Tls | None = None
    insecure: bool = False
    max_clock_skew: int = TOLERATED_SECONDS
    logs: LogLimits = DEFAULT_LIMITS
    cache_bytes: int = DEFAULT_BYTES
    book_limits: BookLimits = BookLimits()
    broker_memory: int | None = None
