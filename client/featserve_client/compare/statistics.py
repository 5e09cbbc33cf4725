"""Numbers that describe many photos, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Resamples of the bootstrap, and what starts its random numbers.
RESAMPLES = 2000
SEED = 0

#: What reports say of the intervals.
INTERVALS = (
    f"± gives 95 % intervals: bootstrap over queries ({RESAMPLES:,} resamples, seed {SEED}), "
    "never narrower than the rule of three (3 ÷ queries) at 0 and 1"
)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Where the values of all photos lie."""

    minimum: float
    first_percent: float
    median: float
    mean: float

    @classmethod
    def of(cls, values: npt.NDArray[np.float64]) -> Distribution:
        """Return the distribution of at least one value."""
        first, median = np.quantile(values, (0.01, 0.5))
        return cls(
            minimum=float(values.min()), first_percent=float(first), median=float(median), mean=float(values.mean())
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean of values in 0..1, and the interval that holds the true one in 95 of 100 samples."""

    value: float
    low: float
    high: float
    count: int

    @property
    def margin(self) -> float:
        """The larger distance to an end of the interval."""
        return max(self.value - self.low, self.high - self.value)

    def __str__(self) -> str:
        """Return value and margin as in `0.998 ± 0.002`."""
        digits = 3 if self.margin >= 0.001 else 5
        return f"{self.value:.{digits}f} ± {self.margin:.{digits}f}"


def estimate(values: npt.NDArray[np.float64]) -> Estimate:
    """Return the mean of values `(N,)` in 0..1 with its interval.

    Example:
        >>> str(estimate(np.ones(1000)))
        '1.000 ± 0.003'
    """
    count = len(values)
    # Few values occur, so that a resample is a draw of how often each does.
    kinds, times = np.unique(values, return_counts=True)
    draws = np.random.default_rng(SEED).multinomial(count, times / count, RESAMPLES)
    low, high = np.quantile(draws @ kinds / count, (0.025, 0.975))
    # Where all values are equal, a bootstrap is sure of what it has not seen.
    return Estimate(
        value=float(values.mean()),
        low=float(max(min(low, 1 - 3 / count), 0)),
        high=float(min(max(high, 3 / count), 1)),
        count=count,
    )
