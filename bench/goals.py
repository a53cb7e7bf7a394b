"""Goals for the service's costs, as ratios to yardsticks of the same run, so that they hold on any machine."""

from collections.abc import Iterable
from statistics import median
from typing import Literal

from bench.machine import Figure
from bench.service import load
from bench.service.audit_queries import Fresh, QueryTime
from bench.service.edge import Edge
from bench.service.fairness import Fairness
from bench.service.long_log import GENERATIONS
from bench.service.readmodel import Lag, Rebuild
from bench.service.refresh import Refresh
from bench.service.revocation import Revocation
from bench.service.scale import Size
from bench.service.whole import Whole
from bench.yardsticks.appends import Appends
from bench.yardsticks.disk import Disk
from bench.yardsticks.signature import BESIDE, Signature
from bench.yardsticks.verification import Verification


class Goal(Figure, tag="goal"):
    """A goal: `value` should be at most or at least `bound`.

    `others` is the number of cores that other processes kept busy during the most disturbed of its measurements.
    """

    what: str
    value: float
    relation: Literal["≤", "≥"]
    bound: float
    unit: str
    others: float = 0.0

    @property
    def is_reached(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.bound if self.relation == "≤" else self.value >= self.bound


def goals(figures: Iterable[Figure]) -> list[Goal]:
    """Compute the goals from these figures. Of the bare appends, those with the largest, real bodies count."""
    signatures: list[Signature] = []
    refreshes: dict[str, Refresh] = {}
    appends: dict[str, Appends] = {}
    wholes: dict[str, list[Whole]] = {}
    query_times: list[QueryTime] = []
    found: list[Goal] = []
    for figure in figures:
        match figure:
            case Signature():
                signatures.append(figure)
            case Refresh(in_flight=load.FULL):
                refreshes[figure.sync] = figure
            case Appends(in_flight=load.FULL) if figure.sync not in appends or appends[figure.sync].size < figure.size:
                appends[figure.sync] = figure
            case Disk():
                what = f"log on disk per refresh, {figure.families:,} families in turn"
                found.append(Goal(what, figure.per_commit, "≤", 800, "bytes"))
            case Edge():
                ratio = figure.secret_us / figure.subject_us
                what = "service CPU, refresh by client_secret_basic ÷ by subject"
                found.append(Goal(what, ratio, "≤", 1.3, "", figure.others))
            case Fairness():
                ratio = figure.flooded_p99_ms / figure.idle_p99_ms
                found.append(Goal("p99 of a client at 10 requests/s, another floods ÷ alone", ratio, "≤", 3, ""))
            case Revocation():
                what = f"p99 from a revocation to its rejection by {figure.verifiers} verifiers"
                found.append(Goal(what, figure.p99_ms, "≤", 50, "ms"))
            case Verification():
                found += _verification(figure)
            case Rebuild():
                ratio = figure.per_second / figure.reading_per_second
                found.append(Goal("rebuild of the read model ÷ nats-py reading alone", ratio, "≥", 0.5, ""))
            case Lag():
                found.append(Goal("lag of the read model under full load, longest", figure.max_ms, "≤", 1000, "ms"))
            case Whole():
                wholes.setdefault(figure.what, []).append(figure)
            case QueryTime():
                query_times.append(figure)
            case Fresh():
                what = f"asking for a commit just acknowledged, {figure.per_second:,.0f} commits/s, longest"
                found.append(Goal(what, figure.max_ms, "≤", 250, "ms"))
            case Size():
                per_family = figure.per_commit * GENERATIONS
                found.append(Goal("read model on disk per family with ten generations", per_family, "≤", 1200, "bytes"))
            case _:
                pass
    found += [*_wholes(wholes), *_query_times(query_times)]
    return [*_cpu(signatures, refreshes, appends), *_rates(refreshes, appends), *found]


def _verification(figure: Verification) -> Iterable[Goal]:
    many = f"{figure.families:,} revoked families"
    yield Goal("verification of a token ÷ joserfc's own", figure.cpu_us / figure.joserfc_us, "≤", 1.15, "")
    yield Goal(f"the same, {many}", figure.crowded_us / figure.joserfc_us, "≤", 1.15, "")
    yield Goal(f"memory of {many}", figure.memory_mb, "≤", 200, "MB")


def _wholes(figures: dict[str, list[Whole]]) -> Iterable[Goal]:
    """Compare rates by their medians, and memory by its maximum."""
    rates = {what: median(figure.per_second for figure in some) for what, some in figures.items()}
    for what, bound in (("rebuild", 0.5), ("verify", 0.6)):
        if what in figures and "reading" in figures:
            others = max(figure.others for figure in (*figures[what], *figures["reading"]))
            long = f"of {figures[what][0].commits:,} commits"
            yield Goal(f"{what} {long} ÷ nats-py reading alone", rates[what] / rates["reading"], "≥", bound, "", others)
            flat = median(figure.last_tenth / figure.first_tenth for figure in figures[what])
            yield Goal(f"{what} {long}, rate of the last tenth ÷ the first", flat, "≥", 0.8, "", others)
            yield Goal(f"{what} {long}, memory", max(figure.peak_mib for figure in figures[what]), "≤", 300, "MiB")


def _query_times(figures: list[QueryTime]) -> Iterable[Goal]:
    if figures:
        slowest = max(figures, key=lambda figure: figure.p99_ms)
        what = f"p99 of the slowest audit query ({slowest.query}: {slowest.about})"
        yield Goal(what, slowest.p99_ms, "≤", 50, "ms")


def _cpu(signatures: list[Signature], refreshes: dict[str, Refresh], appends: dict[str, Appends]) -> Iterable[Goal]:
    if signatures and "default" in refreshes and "default" in appends:
        beside = [figure for figure in signatures if figure.when == f"{BESIDE}, sync default"]
        signature = median(figure.cpu_us for figure in beside or signatures)
        least = signature + appends["default"].load.cpu_us["client"]
        ratio = refreshes["default"].load.cpu_us["service"] / least
        others = max(refreshes["default"].load.others, appends["default"].load.others)
        yield Goal("service CPU per refresh ÷ (one signature + one bare append)", ratio, "≤", 2.0, "", others)


def _rates(refreshes: dict[str, Refresh], appends: dict[str, Appends]) -> Iterable[Goal]:
    for sync, bound in (("default", 0.2), ("always", 1.0)):
        if sync in refreshes and sync in appends:
            ours, bare = refreshes[sync].load, appends[sync].load
            what = f"refreshes/s ÷ bare single appends/s, {load.FULL} in flight, sync {sync}"
            yield Goal(what, ours.per_second / bare.per_second, "≥", bound, "", max(ours.others, bare.others))
