"""The brokers that `heirloom up` runs itself: one, or three that hold the log in three copies (ADR 0012)."""

import base64
import hashlib
import hmac
import os
from pathlib import Path
from typing import NamedTuple

from events import files
from heirloom.broker import broker_log, memory_limit, nats_server
from heirloom.broker.broker_log import BrokerLog
from heirloom.broker.credentials import Credentials
from heirloom.broker.own_connection import connect_as
from heirloom.broker.quoted import quoted
from heirloom.broker.run_file import address
from heirloom.broker.tls import Tls
from heirloom.data_directory import BrokerDirectory, DataDirectory, node_names
from heirloom.process.child_process import Child, IsReady, Program
from heirloom.process.log_file import DEFAULT_LIMITS, LogLimits

ROUTES_USER = "route"


class Node(NamedTuple):
    """One server of a cluster: where it listens for clients and for routes, and how the others reach its routes."""

    name: str
    listen: str
    routes: str
    reached: str


class BrokerOptions(NamedTuple):
    """How the embedded brokers run. `sync`: fsync each write (`always`), or after such a time (`2m`).

    `memory`: bytes that each of them aims to stay below; None derives them (`heirloom.broker.memory_limit`).
    """

    sync: str = "always"
    host: str = nats_server.HOST
    tls: Tls | None = None
    logs: LogLimits = DEFAULT_LIMITS
    memory: int | None = None


def cluster_configuration(
    node: Node, others: list[Node], store: Path, known: Credentials, sync: str = "always", tls: Tls | None = None
) -> str:
    """The configuration of one server of a cluster.

    The servers authenticate each other. They do not advertise each other to clients, which know all servers from their
    URL, and may reach them by addresses that the servers do not know.
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


def brokers(data: DataDirectory, ports: list[int], known: Credentials, options: BrokerOptions) -> list[Child]:
    """One process for each port. More than one form a cluster, and must be started together."""
    sync, tls = options.sync, options.tls
    env = memory_limit.environment(os.environ, memory_limit.machine_bytes(), len(ports), options.memory)
    listens = [address(options.host, port) for port in ports]
    if len(ports) == 1:
        text = nats_server.configuration(listens[0], data.broker.store, known, sync, tls)
        return [_broker("the broker", data.broker, text, _answers(listens[0], known), options.logs, env)]
    routes = [f"{nats_server.HOST}:{port}" for port in nats_server.free_ports(len(ports))]
    names = node_names(len(ports))
    nodes = [Node(name, listen, route, route) for name, listen, route in zip(names, listens, routes, strict=True)]
    children = []
    for node in nodes:
        directory = data.node(node.name)
        directory.path.mkdir(mode=0o700, exist_ok=True)
        others = [other for other in nodes if other is not node]
        text = cluster_configuration(node, others, directory.store, known, sync, tls)
        answers = _answers(node.listen, known)
        children.append(_broker(f"broker {node.name}", directory, text, answers, options.logs, env))
    return children


def _broker(
    name: str, directory: BrokerDirectory, configuration: str, is_ready: IsReady, logs: LogLimits, env: dict[str, str]
) -> Child:
    files.replace(directory.configuration, (configuration + broker_log.CONFIGURATION).encode())
    command = [nats_server.binary(), "--config", str(directory.configuration)]
    program = Program("broker", name, command, env, directory.log_file, directory.pid_file)
    record = BrokerLog(directory.log_file, logs, memory_limit.heading(env)).record
    return Child(program, is_ready=is_ready, reports=False, record=record)


def _answers(listen: str, known: Credentials) -> IsReady:
    """Tests whether the broker on that address answers, its JetStream included."""

    async def answers() -> bool:
        try:
            connection = await connect_as("keeper", "up", f"nats://{listen}", known, patient=False)
            await connection.jetstream().account_info()
        except Exception:  # any error: the broker is not ready yet; its process is watched elsewhere
            return False
        await connection.close()
        return True

    return answers


def _routes_password(known: Credentials) -> str:
    """Derived from the clients' key; no client's password is a MAC over this text."""
    key = base64.b64decode(known.client_key)
    return hmac.new(key, b"routes between the servers of the cluster", hashlib.sha256).hexdigest()
