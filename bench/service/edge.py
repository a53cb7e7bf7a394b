"""Measures the cost of client authentication by a secret, compared with that by the subject."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import mean

import msgspec
import nats

from bench.machine import Figure
from bench.service.load import Load
from bench.service.refresh import Family, families, families_through, load_of
from bench.service.service import CLIENT, SEED, TENANT, Service
from heirloom.cli.service_connection import open_bus

TURNS = 3


class Edge(Figure, tag="edge"):
    """The service's CPU in µs per refresh, with the client proved by the subject and by `client_secret_basic`."""

    sync: str
    in_flight: int
    subject_us: float
    secret_us: float
    others: float
    errors: dict[str, int]


async def measure(service: Service, in_flight: int, seconds: float) -> Edge:
    """Refresh by `client_secret_basic` and by subject in turns, so that a slower machine affects both."""
    secret = await secret_of(service)
    by_subject: list[Load] = []
    by_secret: list[Load] = []
    async with families(service, in_flight) as proved, _edge_families(service, in_flight, secret) as proving:
        for _ in range(TURNS):
            by_subject.append(await load_of(service, proved, seconds))
            by_secret.append(await load_of(service, proving, seconds))
    loads = by_subject + by_secret
    errors = {reason: count for load in loads for reason, count in load.errors.items()}
    subject_us, secret_us = (mean(load.cpu_us["service"] for load in side) for side in (by_subject, by_secret))
    return Edge(service.sync, in_flight, subject_us, secret_us, max(load.others for load in loads), errors)


async def secret_of(service: Service) -> str:
    """Issue a secret for the client of all measurements."""
    tenant, client_id, settings = SEED.clients[0]
    request = msgspec.json.encode(settings | {"client_id": client_id, "rotate_secret": True})
    async with open_bus(service.data, None, "operator") as bus:
        reply = await bus.request(f"admin.{tenant}.client.put", request, timeout=10)
    secret: str = msgspec.json.decode(reply.data)["client_secret"]
    return secret


@asynccontextmanager
async def _edge_families(service: Service, count: int, secret: str) -> AsyncIterator[list[Family]]:
    """Open families as the HTTP edge does."""
    url = service.known.url("edge", service.host)
    connection = await nats.connect(url, inbox_prefix="_INBOX.role.edge")
    authorization = "Basic " + base64.b64encode(f"{CLIENT}:{secret}".encode()).decode()
    headers = {"Authorization": authorization}
    async with families_through(connection, count, f"oauth.{TENANT}.edge", headers) as opened:
        yield opened
