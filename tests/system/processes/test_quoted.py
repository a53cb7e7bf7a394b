"""User-chosen text, above all paths, is one string in the broker's configuration, whatever it holds."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heirloom.broker import credentials, nats_server
from heirloom.broker.cluster import Node, cluster_configuration
from heirloom.broker.nats_server import binary
from heirloom.broker.tls import Tls
from tests.system.commands.test_commands import heirloom
from tests.system.service import Service

BYTES = st.binary(min_size=1, max_size=20).map(lambda name: os.fsdecode(name.replace(b"\0", b"")))
TELLING = st.sampled_from(['"', "\\", '"\nport: 1\nx: "', "\\x", "$HOME", "\n", "#", "\N{SNOWMAN}", "' }", "\udcff"])
PATHS = st.lists(BYTES | TELLING, min_size=1, max_size=4).map(lambda parts: "/nowhere/x" + "".join(parts))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(store=PATHS, certificate=PATHS, password=PATHS)
def test_the_broker_reads_the_same_paths(tmp_path: Path, store: str, certificate: str, password: str) -> None:
    """nats-server itself accepts the configuration, and names the missing certificate by the same bytes."""
    known = credentials.ensure(tmp_path)
    known = msgspec.structs.replace(known, passwords=known.passwords | {"operator": password})
    node = Node("nats-1", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    assert _refusal(tmp_path, nats_server.configuration(node.listen, Path(store), known)) is None
    assert _refusal(tmp_path, cluster_configuration(node, [node], Path(store), known)) is None
    named = _refusal(tmp_path, Tls(certificate, certificate, certificate).configuration())
    assert named is not None and b"open " + os.fsencode(certificate) + b": no such file" in named


def _refusal(directory: Path, text: str) -> bytes | None:
    file = directory / "nats.conf"
    file.write_bytes(text.encode())
    done = subprocess.run([binary(), "-t", "--config", file], capture_output=True, check=False)
    return None if done.returncode == 0 else done.stderr


def test_a_data_directory_of_any_name(tmp_path: Path) -> None:
    """The service runs there, with its log in it."""
    data = tmp_path / 'quo"te\\back#slash?%2f'
    service = Service(data)
    service.start()
    try:
        assert (data / "jetstream").is_dir()
        assert heirloom("url", "--data", data, "--client", "acme/web").startswith("nats://acme.web:")
    finally:
        assert service.stop() == 0


@pytest.mark.parametrize("name", ['a"b', "a b", "../a", "a:1", "", "a@b"])
def test_a_node_must_be_a_host_name(tmp_path: Path, name: str) -> None:
    """Its configuration is named after it, and other nodes connect to it by it."""
    nodes = "--node", name, "--node", "b", "--node", "c"
    said = heirloom("broker-config", "--data", tmp_path / "data", *nodes, status=2)
    assert "--node" in said and "name of a host" in said and not (tmp_path / "data").exists()
