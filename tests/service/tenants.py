"""A log on a real broker with a tenant in it, for the tests of what is decided about tenants."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from events import bus, stream, subjects
from events import tenant as tenant_events
from events.log import Log
from events.settings import TenantSettings
from service.aggregates import change
from tests.broker import Broker


@asynccontextmanager
async def log_of_acme(broker: Broker) -> AsyncIterator[tuple[bus.Connection, Log]]:
    """The tenant `acme`, by its defaults, and no more."""
    connection = await bus.connect(broker.url, "test")
    await stream.ensure(connection, stream.Required())
    log = Log(connection)
    await log.start()
    configured = (tenant_events.TenantConfigured(TenantSettings()),)
    aggregate = subjects.tenant("acme")
    await change(log, aggregate, tenant_events.codec, tenant_events.evolve, lambda _: configured, "operator")
    yield connection, log
    await connection.close()
