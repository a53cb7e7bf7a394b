"""How long answers took, by their outcome."""

from nats.micro.service import EndpointStats

from events.histogram import Histogram

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The upper bounds of the histograms' buckets, in seconds."""


class AnswerTimes:
    """The answer times of one endpoint: a histogram for each outcome, which is `ok` or an error's code."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Histogram] = {"ok": Histogram(SECONDS)}

    def record(self, seconds: float, outcome: str) -> None:
        """Count a request that was answered after so many seconds."""
        times = self.outcomes.get(outcome)
        if times is None:
            times = self.outcomes[outcome] = Histogram(SECONDS)
        times.observe(seconds)

    def report_to(self, stats: EndpointStats) -> dict[str, float]:
        """Fill in `stats` for `nats micro stats`, and return the same figures under this service's own names."""
        answered = sum(times.count for times in self.outcomes.values())
        seconds = sum(times.sum for times in self.outcomes.values())
        mean = seconds / answered if answered else 0.0
        refused = answered - self.outcomes["ok"].count
        stats.num_requests, stats.num_errors = answered, refused
        stats.processing_time, stats.average_processing_time = round(seconds * 1e9), round(mean * 1e9)
        return {"answered": answered, "refused": refused, "mean_ms": round(mean * 1000, 3)}
