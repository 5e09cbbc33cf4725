"""The findings of a watch as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..extras import require
from .watch import Watch

_LABELS = ("server", "model", "version")
_FACTS = ("weights", "precision", "featserve", "tensorflow")


def serve_metrics(watch: Watch, host: str, port: int) -> int:
    """Serves the metrics page of a watch from a thread that ends with the process; returns its port.

    Args:
        watch: the watch that is shown.
        host: the address that the page listens on.
        port: its port; 0 takes a free one.

    Raises:
        MissingExtraError: prometheus-client is not installed.
        OSError: the address cannot be listened on.
    """
    prometheus = require("prometheus_client", "prometheus", "the metrics page")
    registry = prometheus.CollectorRegistry()
    registry.register(Collector(watch))
    prometheus.ProcessCollector(registry=registry)
    server, _ = prometheus.start_http_server(port, addr=host, registry=registry)
    return int(server.server_port)


class Collector:
    """Makes the metrics anew for each scrape, so that what is gone has no series."""

    def __init__(self, watch: Watch) -> None:
        """Takes the watch that is shown."""
        self._watch = watch

    def collect(self) -> Iterator[Any]:
        """Yields the metric families."""
        core = require("prometheus_client.core", "prometheus", "the metrics page")

        def gauge(name: str, text: str, labels: tuple[str, ...] = _LABELS) -> Any:
            return core.GaugeMetricFamily(f"featserve_watch_{name}", text, labels=labels)

        result = gauge("last_result", "1 if the version answered as it must when it was last looked at, else 0.")
        success = gauge("last_success_timestamp_seconds", "When the version last answered as it must.")
        cosine = gauge(
            "lowest_cosine", "The lowest cosine of any picture with what is expected of it.", (*_LABELS, "layer")
        )
        latency = gauge("latency_seconds", "Seconds in which a caller had the answer to the canary photo.")
        info = gauge("model_info", "What is served, by its manifest; always 1.", (*_LABELS, *_FACTS, "against"))
        for finding in self._watch.findings():
            found = finding.result
            labels = [finding.server, found.model, "" if found.version is None else str(found.version)]
            result.add_metric(labels, float(found.passed))
            if finding.last_success is not None:
                success.add_metric(labels, finding.last_success)
            for layer, value in found.cosines.items():
                cosine.add_metric([*labels, layer], value)
            if found.latency_s is not None:
                latency.add_metric(labels, found.latency_s)
            if found.facts:
                facts = [found.facts.get(fact, "unknown") for fact in _FACTS]
                info.add_metric([*labels, *facts, found.against], 1)
        asked = core.CounterMetricFamily(
            "featserve_watch_asked_seconds", "Seconds in which the watch asked a server.", labels=["server"]
        )
        interval = gauge("interval_seconds", "Seconds from one look at a server to the next.", ("server",))
        for address, cost in self._watch.costs().items():
            asked.add_metric([address], cost.asked_s)
            interval.add_metric([address], cost.interval_s)
        yield from (result, success, cosine, latency, info, asked, interval)
