"""Figures of serving, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "armlift_serve"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Upper bounds of the histograms of times."""
SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Upper bounds of the histogram of batches."""


class ServeFigures:
    """Counts what one API does; `registry` is where Prometheus finds it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", says, labels, registry=registry)

        def histogram(name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", says, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests", "Requests answered, by route and status.", "route", "status")
        self.seconds = histogram("request_seconds", "Seconds to an answer, by route.", SECONDS, "route")
        self.slates = counter("slates", "Slates by experiment and arm.", "experiment", "arm")
        self.fallbacks = counter(
            "fallbacks", "Slates of the fallback arm, by arm and reason.", "arm", "reason"
        )
        self.unexposed = counter("unexposed", "Answers that expose nobody, by the rule.", "rule")
        self.filtered = counter("filtered_items", "Items that a rule took from slates.", "rule")
        self.short = counter("short_slates", "Slates of fewer items than were asked for.", "arm")
        self.unknown = counter("unknown_units", "Answers without what the database knows of the unit.")
        self.batches = histogram("batch_size", "Requests an arm answered together.", SIZES, "arm")
        self.arm_seconds = histogram("arm_seconds", "Seconds of an arm's batch.", SECONDS, "arm")
        self.events = counter("events", "Events accepted, by type.", "type")
        self.refused = counter("refused_events", "Events of batches that were refused, by code.", "code")
        self._gauges: dict[str, Gauge] = {}

    def gauge(self, name: str, says: str, value: float) -> None:
        """Set a figure that is looked up when Prometheus asks."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"{PREFIX}_{name}", says, registry=self.registry)
        self._gauges[name].set(value)
