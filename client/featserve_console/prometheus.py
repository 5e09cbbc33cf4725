"""TensorFlow Serving's metrics, from its page or the embedded server's: what was counted since the server started."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from .source import SourceError

_PREFIX = ":tensorflow:serving:"
# The parser gives every counter the ending of OpenMetrics.
_REQUESTS = f"{_PREFIX}request_count_total"
_LATENCY = f"{_PREFIX}request_latency"
#: The sizes of executed batches: the embedded server's name, and TensorFlow Serving's.
_BATCHES = {"featserve_executed_batch_size": "model", f"{_PREFIX}batching:batch_size": "model_name"}
_DELAY = f"{_PREFIX}batching:batch_delay_us_v2"
_RUNNING, _WAITING = "featserve_in_flight", "featserve_queue_depth"
_STATE = "featserve_model_version_state"
_LOADED = ":tensorflow:cc:saved_model:load_attempt_count_total"


@dataclass
class ModelCounts:
    """The counts of one model."""

    #: Requests answered with OK within so many microseconds.
    latency: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    #: Requests refused, by code.
    errors: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    images: float = 0
    batches: float = 0
    #: Microseconds that batches waited in the queue, and how many did.
    delay: float = 0
    delayed: float = 0

    @property
    def answered(self) -> float:
        """Requests answered with OK."""
        return max(self.latency.values(), default=0)


@dataclass
class Counts:
    """The counts of a server."""

    models: dict[str, ModelCounts] = field(default_factory=lambda: defaultdict(ModelCounts))
    #: Requests that compute now, and that wait; None where the server does not say.
    running: float | None = None
    waiting: float | None = None


def parse(text: str) -> Counts:
    """Returns the counts of a metrics page.

    Raises:
        SourceError: the text is no such page.
    """
    counts = Counts()
    for sample in _samples(text):
        _add(counts, sample)
    return counts


def model_names(text: str) -> set[str]:
    """Returns the names that a metrics page gives models: those that were asked, loaded, or are served.

    Raises:
        SourceError: the text is no such page.
    """
    names = set()
    for sample in _samples(text):
        if sample.name in (_REQUESTS, f"{_LATENCY}_count"):
            names.add(sample.labels.get("model_name", ""))
        elif sample.name == _STATE:
            names.add(sample.labels.get("model", ""))
        elif sample.name == _LOADED:  # the path of a version: .../NAME/VERSION
            names.add(sample.labels.get("model_path", "").rstrip("/").rpartition("/")[0].rpartition("/")[2])
    return {name for name in names if name and not name.startswith("(")}


def quantile(share: float, before: Mapping[float, float], after: Mapping[float, float]) -> float | None:
    """Returns a quantile of what two states of a histogram have between them; None if that is nothing.

    Args:
        share: 0.5 for the median, 0.99 for p99.
        before: counts of values up to each bound, as Prometheus keeps them.
        after: the same, later.
    """
    bounds = sorted(after)
    grown = [after[bound] - before.get(bound, 0) for bound in bounds]
    if not grown or grown[-1] <= 0:
        return None
    wanted, below, low = share * grown[-1], 0.0, 0.0
    for bound, count in zip(bounds, grown, strict=True):
        if count >= wanted and count > below:
            return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (count - below)
        below, low = count, bound
    return low


def _samples(text: str) -> Iterator[Sample]:
    try:
        for family in text_string_to_metric_families(text):
            yield from family.samples
    except (ValueError, KeyError, IndexError) as exc:
        raise SourceError(f"the metrics page cannot be read: {exc}", 502) from exc


def _add(counts: Counts, sample: Sample) -> None:
    name, labels, value = sample.name, sample.labels, float(sample.value)
    model = labels.get("model_name") or labels.get("model") or ""
    if name == _RUNNING:
        counts.running = value
    elif name == _WAITING:
        counts.waiting = value
    elif name == _REQUESTS and model:
        if labels.get("status") != "OK":
            counts.models[model].errors[labels.get("status", "")] += value
    elif name == f"{_LATENCY}_bucket" and model and labels.get("API"):  # status requests of REST have no API
        counts.models[model].latency[float(labels.get("le", "inf"))] += value
    elif name == f"{_DELAY}_sum" and model:
        counts.models[model].delay += value
    elif name == f"{_DELAY}_count" and model:
        counts.models[model].delayed += value
    elif model and name.rpartition("_")[0] in _BATCHES:
        if name.endswith("_sum"):
            counts.models[model].images += value
        elif name.endswith("_count"):
            counts.models[model].batches += value
