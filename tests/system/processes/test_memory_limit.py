"""Each embedded broker is told how much memory it should stay below."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heirloom.broker.memory_limit import MIN_BYTES, cgroup_limits, environment, machine_bytes
from tests.system.service import Service

MIB = 1 << 20


@given(st.integers(0, 1 << 50), st.sampled_from([1, 3]))
def test_half_of_the_machine_is_shared_by_its_brokers(total: int, brokers: int) -> None:
    """Together never more, but for the least that each needs."""
    limit = int(environment({}, total, brokers, None)["GOMEMLIMIT"].removesuffix("MiB")) * MIB
    assert limit >= MIN_BYTES
    assert limit == MIN_BYTES or total // 2 - brokers * MIB < brokers * limit <= total // 2


def test_who_has_chosen_a_limit_has_that_one() -> None:
    """The option before what is derived, and the variable before the option; other variables stay."""
    assert environment({"A": "b"}, 4 << 30, 1, 300 * MIB) == {"A": "b", "GOMEMLIMIT": "300MiB"}
    assert environment({"GOMEMLIMIT": "off"}, 4 << 30, 1, 300 * MIB) == {"GOMEMLIMIT": "off"}
    assert environment({"A": "b"}, None, 3, None) == {"A": "b"}


def _cgroup(root: Path, path: str, name: str, limit: str) -> None:
    directory = root / path
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"{limit}\n")


def test_a_container_has_the_memory_that_it_is_given(tmp_path: Path) -> None:
    """Of control groups of either version: the process's own, and those above it."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("4:cpu,memory:/docker/1\n1:name=systemd:/a:b\n0::/user.slice/a:b.scope\n")
    assert list(cgroup_limits(own, root)) == []
    _cgroup(root, "user.slice/a:b.scope", "memory.max", "max")
    _cgroup(root, "user.slice", "memory.max", "3000")
    _cgroup(root, "user.slice/another", "memory.max", "1")
    assert list(cgroup_limits(own, root)) == [3000]
    _cgroup(root, "memory/docker/1", "memory.limit_in_bytes", "2000")
    _cgroup(root, "memory", "memory.limit_in_bytes", "9223372036854771712")
    assert sorted(cgroup_limits(own, root)) == [2000, 3000, 9223372036854771712]
    own.write_text("0::/not/to/be/seen/from/inside\n")
    _cgroup(root, "", "memory.max", "1000")
    assert list(cgroup_limits(own, root)) == [1000]
    assert list(cgroup_limits(tmp_path / "none", root)) == []


def test_the_memory_of_this_machine_is_known() -> None:
    """At least as much as these tests take."""
    assert (machine_bytes() or 0) > 256 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize(("chosen", "limit"), [(None, b"GOMEMLIMIT=300MiB"), ("200MiB", b"GOMEMLIMIT=200MiB")])
def test_the_broker_has_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, limit: bytes
) -> None:
    """In its environment, and it says so in its log; a GOMEMLIMIT of the user's stays."""
    if chosen is not None:
        monkeypatch.setenv("GOMEMLIMIT", chosen)
    service = Service(tmp_path / "data", "--broker-memory", "300", "--no-notary")
    service.start()
    try:
        (broker,) = service.pids("nats-server")
        assert limit in Path(f"/proc/{broker}/environ").read_bytes().split(b"\0")
        first = (service.data / "nats.log").read_text().partition("\n")[0]
        assert json.loads(first) == {"event": "a broker starts", "GOMEMLIMIT": limit.decode().partition("=")[2]}
    finally:
        service.stop()
