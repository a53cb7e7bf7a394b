"""The brokers that `heirloom up` runs itself: one, or three that hold the log in three copies (ADR 0012)."""

import base64
import hashlib
import hmac
import os
from pathlib import Path
from typing import NamedTuple

from events.files import write_private
from heirloom.broker import broker_log, nats_server
from heirloom.broker.broker_log import BrokerLog
from heirloom.broker.credentials import Credentials
from heirloom.broker.own_connection import connect_as
from heirloom.broker.quoted import quoted
from heirloom.broker.run_file import address
from heirloom.broker.tls import Tls
from heirloom.process.child_process import Child
from heirloom.process.log_file import DEFAULT_LIMITS, Limits

ROUTES_USER = "route"
BROKER_LOG = "nats.log"
"""The broker's own log, which also has what it says before it has read its configuration."""


class Node(NamedTuple):
    """One server of a cluster. `routes` is where it listens to the others, `reached` how they reach that."""

    name: str
    listen: str
    routes: str
    reached: str


def node_names(count: int) -> list[str]:
    """What the servers of the embedded cluster are called, and their directories in the data directory."""
    return [f"nats-{number}" for number in range(1, count + 1)]


def cluster_configuration(
    node: Node, others: list[Node], store: Path, known: Credentials, sync: str = "always", tls: Tls | None = None
) -> str:
    """The configuration of one server of a cluster.

    The servers prove themselves to each other. They do not tell clients of each other: clients know all of them from
    their URL, and reach them by addresses that the servers may not know.
    """
    password = _routes_password(known)
    routes = ", ".join(quoted(f"nats://{ROUTES_USER}:{password}@{other.reached}") for other in others)
    alone = nats_server.configuration(node.listen, store, known, sync, tls)
    return (
        alone.replace("server_name: heirloom\n", f"server_name: {quoted(node.name)}\n")
        + f"""\
cluster {{
  name: heirloom
  listen: {quoted(node.routes)}
  no_advertise: true
  authorization {{ user: {ROUTES_USER}, password: {quoted(password)}, timeout: 3 }}
  routes: [ {routes} ]
}}
"""
    )


def brokers(
    data: Path,
    ports: list[int],
    known: Credentials,
    sync: str,
    host: str = nats_server.HOST,
    tls: Tls | None = None,
    logs: Limits = DEFAULT_LIMITS,
) -> list[Child]:
    """One process for each port. More than one are a cluster, and must be started together."""
    listens = [address(host, port) for port in ports]
    if len(ports) == 1:
        text = nats_server.configuration(listens[0], data / "jetstream", known, sync, tls)
        text += broker_log.CONFIGURATION
        return [_broker("the broker", data, text, listens[0], known, logs)]
    routes = [f"{nats_server.HOST}:{port}" for port in nats_server.free_ports(len(ports))]
    names = node_names(len(ports))
    nodes = [Node(name, listen, route, route) for name, listen, route in zip(names, listens, routes, strict=True)]
    children = []
    for node in nodes:
        directory = data / node.name
        directory.mkdir(mode=0o700, exist_ok=True)
        others = [other for other in nodes if other is not node]
        text = cluster_configuration(node, others, directory / "jetstream", known, sync, tls)
        text += broker_log.CONFIGURATION
        children.append(_broker(f"broker {node.name}", directory, text, node.listen, known, logs))
    return children


def _broker(name: str, directory: Path, configuration: str, listen: str, known: Credentials, logs: Limits) -> Child:
    config = directory / nats_server.CONFIGURATION
    config.unlink(missing_ok=True)
    write_private(config, configuration.encode())

    async def answers() -> bool:
        try:
            connection = await connect_as("keeper", "up", f"nats://{listen}", known, patient=False)
            await connection.jetstream().account_info()
        except Exception:  # whatever it is, it is not ready yet; the process itself is watched
            return False
        await connection.close()
        return True

    return Child(
        name,
        [nats_server.binary(), "--config", str(config)],
        dict(os.environ),
        is_ready=answers,
        pid_file=directory / "nats.pid",
        errors=directory / BROKER_LOG,
        record=BrokerLog(directory / BROKER_LOG, logs).record,
        reports=False,
    )


def _routes_password(known: Credentials) -> str:
    """Made from what is kept already; no client's password is a MAC over this text."""
    key = base64.b64decode(known.client_key)
    return hmac.new(key, b"routes between the servers of the cluster", hashlib.sha256).hexdigest()
