"""A tenant in the log, for tests of decisions about tenants."""

from events.aggregates import aggregate_names
from events.aggregates.settings import TenantConfigured, TenantSettings
from events.log.log import Log
from service.registry.change_aggregate import change


async def configure_acme(log: Log) -> None:
    """Append the tenant `acme` with default settings."""
    configured = (TenantConfigured(TenantSettings()),)
    await change(log, aggregate_names.tenant("acme"), lambda _: configured)
