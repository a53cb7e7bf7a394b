"""Where the tokens of a family lie: in memory, in files, or in a NATS bucket.

A store is changed by compare-and-swap alone. It imports `record` and `errors`. Start with `store`.
"""

from heirloom_client.stores.file import FileStore
from heirloom_client.stores.kv import KvStore
from heirloom_client.stores.memory import MemoryStore
from heirloom_client.stores.store import Store

__all__ = ["FileStore", "KvStore", "MemoryStore", "Store"]
