"""What one stage showed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from . import rate
from .worker import NOT_SENT, name_of

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
#: Of the histogram: 1 µs to 2 minutes, to 3 digits.
LOWEST_US, HIGHEST_US, DIGITS = 1, 120_000_000, 3


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Requests of one stage, warm-up left out. Latency counts from when a request was due."""

    mode: str
    #: Requests per second asked for (open loop), or callers (closed loop).
    load: float
    images_per_request: int
    duration_s: float
    #: Those that were due within the stage.
    samples: npt.NDArray[Any]
    #: When answers came within the stage, ascending, also to what was due before it.
    answered: npt.NDArray[np.float64]
    #: CPU seconds of all client processes within the stage.
    client_cpu_s: float
    processes: int
    server: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> npt.NDArray[Any]:
        """The answered requests."""
        good: npt.NDArray[Any] = self.samples[self.samples["code"] == 0]
        return good

    @property
    def images_per_s(self) -> float:
        """Images answered within the stage's time, whenever they were due."""
        return len(self.answered) * self.images_per_request / self.duration_s

    @property
    def steady_images_per_s(self) -> float:
        """The same for a closed loop, undisturbed by where in a batch the stage began and ended."""
        return rate.steady(self.answered) * self.images_per_request

    @property
    def latencies_s(self) -> npt.NDArray[np.float64]:
        """Seconds from due to done, of answered requests."""
        latencies: npt.NDArray[np.float64] = self.ok["done"] - self.ok["due"]
        return latencies

    @property
    def lag_p99_s(self) -> float:
        """How late the generator itself was, 99th percentile."""
        late = self.samples["sent"] - self.samples["due"]
        return float(np.percentile(late, 99)) if len(late) else 0.0

    @property
    def errors(self) -> dict[str, int]:
        """Failed requests by code."""
        return {name_of(code): n for code, n in sorted(Counter(self.samples["code"].tolist()).items()) if code != 0}

    @property
    def error_share(self) -> float:
        """Failed requests by all requests; 1 if there were none."""
        return sum(self.errors.values()) / len(self.samples) if len(self.samples) else 1.0

    @property
    def client_cores(self) -> float:
        """Cores that one generator process used, mean."""
        return self.client_cpu_s / self.processes / self.duration_s

    def percentile_ms(self, percentile: float) -> float:
        """A percentile of the answered requests' latency."""
        found = self.latencies_s
        return float(np.percentile(found, percentile)) * 1e3 if len(found) else math.nan

    def limits(self) -> list[str]:
        """Signs that the client, not the server, was measured."""
        signs = []
        if self.client_cores > 0.85:
            signs.append(f"each generator process used {self.client_cores:.0%} of a core: raise --processes")
        if self.mode != "closed":
            if unsent := int(np.count_nonzero(self.samples["code"] == NOT_SENT)):
                signs.append(
                    f"the generator could not send {unsent:,} of {len(self.samples):,} requests: lower the rate, or "
                    "raise --processes"
                )
            if self.lag_p99_s > max(0.010, 0.2 * self.percentile_ms(50) / 1e3):
                signs.append(
                    f"requests left up to {self.lag_p99_s * 1e3:.0f} ms late (p99): the rate is more than the "
                    "generator's machine can send beside what else it runs"
                )
        return signs

    def histogram(self) -> HdrHistogram:
        """The answered requests' latency in microseconds."""
        histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        for value in np.clip(self.latencies_s * 1e6, LOWEST_US, HIGHEST_US).astype(int).tolist():
            histogram.record_value(value)
        return histogram

    def over_time(self, step_s: float = 0.5) -> list[dict[str, float | None]]:
        """Rate, percentiles and errors per slice of time, by when requests were due."""
        slices = []
        for index in range(math.ceil(self.duration_s / step_s)):
            low = index * step_s
            part = self.samples[(self.samples["due"] >= low) & (self.samples["due"] < low + step_s)]
            good = part[part["code"] == 0]
            took = (good["done"] - good["due"]) * 1e3
            p50, p99 = np.percentile(took, [50, 99]).tolist() if len(took) else (None, None)
            slices.append(
                {
                    "t_s": round(low, 3),
                    "images_per_s": len(good) * self.images_per_request / step_s,
                    "p50_ms": p50,
                    "p99_ms": p99,
                    "errors": len(part) - len(good),
                }
            )
        return slices

    def as_dict(self) -> dict[str, Any]:
        """Everything but the samples, as JSON values."""
        took = self.latencies_s * 1e3
        return {
            "mode": self.mode,
            "load": self.load,
            "images_per_request": self.images_per_request,
            "duration_s": round(self.duration_s, 3),
            "requests": len(self.samples),
            "due_per_s": round(len(self.samples) / self.duration_s, 3),
            "images_per_s": round(self.images_per_s, 3),
            "mean_ms": round(float(took.mean()), 3) if len(took) else None,
            "max_ms": round(float(took.max()), 3) if len(took) else None,
            **{f"p{p:g}_ms": round(self.percentile_ms(p), 3) if len(took) else None for p in PERCENTILES},
            "errors": self.errors,
            "lag_p99_ms": round(self.lag_p99_s * 1e3, 3),
            "client_cores": round(self.client_cores * self.processes, 3),
            "limits": self.limits(),
            "server": self.server,
            "over_time": self.over_time(),
            "hdr_microseconds": self.histogram().encode().decode(),
        }
