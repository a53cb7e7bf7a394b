"""How a command reaches the service: by the data directory of a running `heirloom up`, or by a NATS URL."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import msgspec
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import Error as NatsError

from events.bus.connection import Connection, Denied
from events.log.jetstream_api import JetStreamMissing, NoLeader
from events.log.stream import last_sequence
from heirloom.broker import credentials
from heirloom.broker.credentials import Credentials
from heirloom.broker.own_connection import connect_as, obstacle
from heirloom.broker.roles import API, LOG_API
from heirloom.broker.run_file import Running, host_of
from heirloom.data_directory import DataDirectory
from service.keys.keyring import KeyringError

ORDER_TIMEOUT_SECONDS = 45
"""An order is acknowledged when it has effect everywhere; the service waits a little less, and then reports that."""


class RequestRefused(click.ClickException):
    """The service answered with an error; the message is its description.

    `is_for_now`: a repeated request may be answered (`temporarily_unavailable`, `slow_down`).
    """

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.is_for_now = error in ("temporarily_unavailable", "slow_down")


@contextlib.asynccontextmanager
async def open_bus(
    data: Path, nats: str | None, role: str, known: Credentials | None = None
) -> AsyncIterator[Connection]:
    """A connection as `role`, with the credentials of the data directory, of the URL, or the `known` ones.

    Raises `click.ClickException` with one clear line.
    """
    if nats is None:
        where = running_service(data, ", or name a broker with --nats")
        nats, known = where.url, _credentials(data) if where.ours else None
    try:
        connection = await connect_as(role, f"heirloom {role}", nats, known, patient=False)
    except Exception as error:
        raise click.ClickException(obstacle(error, host_of(nats), "this command")) from error
    try:
        yield connection
    except ConnectionClosedError as error:
        raise click.ClickException(f"the broker at {host_of(nats)} has ended the connection") from error
    except msgspec.DecodeError as error:
        raise click.ClickException(f"what answers at {host_of(nats)} is not this service") from error
    finally:
        await connection.close()


async def answer_to(
    connection: Connection, role: str, subject: str, request: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """The service's answer to a request of this role. Raises `RequestRefused`; without one `click.ClickException`."""
    try:
        body = msgspec.json.encode(request)
    except UnicodeEncodeError as error:
        raise click.ClickException("what is asked for holds bytes that are no text in UTF-8") from error
    try:
        reply = await connection.unless_denied(connection.request(subject, body, timeout=seconds))
    except Denied as denied:
        raise click.ClickException(_may(role, subject)) from denied
    except NoRespondersError as error:
        raise click.ClickException(f"no service answers on {subject}: start `heirloom up` on this broker") from error
    except NatsError as error:
        raise click.ClickException(f"the service does not answer on {subject}; repeat the command") from error
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if "error" in answer:
        raise RequestRefused(str(answer["error"]), str(answer["error_description"]))
    return answer


def _may(role: str, subject: str) -> str:
    tenant = subject.split(".")[1]
    return (
        f"these credentials may not ask that: it takes the role {role}, as `heirloom admin role add {role} NAME"
        f" --tenant {tenant}` gives it to one holder (`heirloom url --role {role}` shows what is for all tenants)"
    )


_NOT_THE_LOG = (
    "these credentials may not read the log, which is every tenant's; `heirloom url --role auditor` shows some that may"
)


async def reach_log(connection: Connection) -> int:
    """Find the log from the account of these credentials; returns its last sequence. Raises `JetStreamMissing`."""
    for connection.jetstream_api in (LOG_API, API):  # outside of its account; on a broker without accounts
        try:
            return await connection.unless_denied(last_sequence(connection))
        except Denied as denied:
            raise JetStreamMissing(_NOT_THE_LOG) from denied
        except NoLeader as silent:
            raise JetStreamMissing(
                "there is no answer about the log: its cluster has no leader, or these credentials may not read it;"
                " `heirloom url --role auditor` shows some that may"
            ) from silent
        except JetStreamMissing as missing:
            reason = missing
    raise reason


def own_service(data: Path) -> tuple[Running, Credentials]:
    """Where the service of this data directory runs, and its credentials. Raises `click.ClickException`."""
    where = running_service(data)
    if not where.ours:
        raise click.ClickException(
            f"the service on {data} uses a broker of your own, {where.host}: it gives its clients their credentials"
        )
    return where, _credentials(data)


def running_service(data: Path, elsewhere: str = "") -> Running:
    """Where the service of this data directory runs. Raises `click.ClickException` where none does.

    `elsewhere` is what else a person may do then.
    """
    directory = DataDirectory(data)
    try:
        where = msgspec.json.decode(directory.run_file.read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError) as error:
        raise _nothing_runs(data, elsewhere) from error
    if not where.is_alive(directory):
        raise _nothing_runs(data, elsewhere)
    where.pin_broker()
    return where


def _nothing_runs(data: Path, elsewhere: str) -> click.ClickException:
    return click.ClickException(f"no service runs on {data}: start one with `heirloom up --data {data}`{elsewhere}")


def _credentials(data: Path) -> Credentials:
    try:
        return credentials.load(data)
    except KeyringError as error:
        raise click.ClickException(str(error)) from error
