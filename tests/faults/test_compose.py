"""compose.yaml agrees with the tested product: the same configuration and options, and consistent names."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import yaml  # type: ignore[import-untyped]  # ships no types
from click.testing import CliRunner

from heirloom.broker.cluster import Node, cluster_configuration
from heirloom.broker.credentials import load
from heirloom.broker.nats_server import binary
from heirloom.cli.commands.up import up
from heirloom.cli.main import main

COMPOSE = Path(__file__).parents[2] / "compose.yaml"
NODES = ("nats-1", "nats-2", "nats-3")


def _compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return read


def test_its_names_are_consistent() -> None:
    """Every service has an image or is built; its dependencies, volumes and secrets exist."""
    compose = _compose()
    services, named = compose["services"], re.compile(r"[a-z]")
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        assert set(service.get("depends_on", {})) <= services.keys()
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in compose["volumes"] or not named.match(source), mount
        assert {secret["source"] for secret in service.get("secrets", [])} <= compose["secrets"].keys()
        assert "healthcheck" in service or "init" in service["profiles"], name
    stores = [services[node]["volumes"] for node in NODES]
    assert len({tuple(store) for store in stores}) == len(NODES), "two brokers share a store"
    assert services["heirloom"]["depends_on"].keys() == set(NODES)


def test_its_brokers_are_configured_as_the_tested_ones(tmp_path: Path) -> None:
    """`init` makes every secret that the services name; the configurations are those of `up --cluster 3`."""
    compose = _compose()
    command, _, _ = compose["services"]["init"]["command"][0].partition("&&")
    arguments = [part.replace("/secrets", str(tmp_path)) for part in shlex.split(command)[1:]]
    made = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert made.exit_code == 0, made.output
    for secret in compose["secrets"].values():
        file = tmp_path / Path(secret["file"]).name
        assert file.stat().st_mode & 0o777 == 0o600, file
    known = load(tmp_path)
    nodes = [Node(name, "0.0.0.0:4222", "0.0.0.0:6222", f"{name}:6222") for name in NODES]
    for node in nodes:
        file = tmp_path / f"{node.name}.conf"
        others = [other for other in nodes if other is not node]
        monitoring = 'http: "127.0.0.1:8222"\n'
        assert file.read_text() == cluster_configuration(node, others, Path("/log"), known) + monitoring
        checked = subprocess.run([binary(), "-t", "--config", file], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_its_brokers_are_not_reachable_from_outside() -> None:
    """Monitoring lists users and inboxes: it listens on the loopback interface, and no port is published."""
    compose = _compose()
    for service in compose["services"].values():
        assert "ports" not in service and service.get("network_mode") != "host"
        assert not {"--http_port", "-m", "--https_port", "-ms"} & {str(word) for word in service.get("command", [])}
    for node in NODES:
        assert "http://127.0.0.1:8222/healthz" in " ".join(compose["services"][node]["healthcheck"]["test"])


def test_its_service_has_valid_options() -> None:
    """Three named brokers, two replicas, and brokers of the pinned version."""
    compose = _compose()
    _, *arguments = compose["services"]["heirloom"]["command"]
    options = up.make_context("up", arguments, resilient_parsing=False).params
    assert (options["cluster"], options["replicas"]) == ("3", 2)
    assert options["nats"] == ",".join(f"nats://{node}:4222" for node in NODES)
    version = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    ours = version.split("v")[-1].strip()
    assert {compose["services"][node]["image"] for node in NODES} == {f"nats:{ours}-alpine"}


def test_the_docker_context_holds_the_copied_files() -> None:
    """.dockerignore excludes everything else."""
    copied = re.findall(r"^COPY (.+) \S+$", (COMPOSE.parent / "Dockerfile").read_text(), re.MULTILINE)
    let_in = (COMPOSE.parent / ".dockerignore").read_text().split()
    assert let_in[0] == "*"
    assert {source for line in copied for source in line.split()} == {name.removeprefix("!") for name in let_in[1:]}


def test_a_cluster_of_two_is_refused(tmp_path: Path) -> None:
    """Neither of two brokers could go on without the other."""
    result = CliRunner().invoke(main, ["broker-config", "--data", str(tmp_path), "--node", "a", "--node", "b"])
    assert result.exit_code == click.UsageError.exit_code and "three" in result.output
