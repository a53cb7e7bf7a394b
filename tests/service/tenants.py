"""A log on a real broker with one tenant."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from events.aggregates import subjects
from events.aggregates import tenant as tenant_events
from events.aggregates.settings import TenantSettings
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.log import Log
from service.registry.change_aggregate import change
from tests.broker import Broker


@asynccontextmanager
async def log_of_acme(broker: Broker) -> AsyncIterator[tuple[Connection, Log]]:
    """A log that contains only the tenant `acme` with default settings."""
    connection = await connect(broker.url, "test")
    await stream.ensure(connection, stream.Required())
    log = Log(connection)
    await log.start()
    configured = (tenant_events.TenantConfigured(TenantSettings()),)
    aggregate = subjects.tenant("acme")
    await change(log, aggregate, lambda _: configured)
    yield connection, log
    await connection.close()
