"""Numbers that describe many photos, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Draws of an interval's ends, and what starts its random numbers.
DRAWS = 100_000
SEED = 0
#: What the ends leave out, each: together they hold 95 of 100.
TAIL = 0.025

#: What reports say of the intervals.
INTERVALS = (
    f"± gives 95 % intervals: Clopper-Pearson's for shares of photos, Gaffke's for means ({DRAWS:,} draws, seed {SEED})"
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
        """Returns the distribution of at least one value."""
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
        """Returns value and margin as in `0.998 ± 0.002`."""
        digits = 3 if self.margin >= 0.001 else 5
        return f"{self.value:.{digits}f} ± {self.margin:.{digits}f}"


def estimate(values: npt.NDArray[np.float64]) -> Estimate:
    """Returns the mean of values `(N,)` in 0..1 with its interval.

    Reference:
        Gaffke, Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable,
        2005; Learned-Miller and Thomas, A new confidence interval for the mean of a bounded random variable, 2019.

    Example:
        >>> str(estimate(np.ones(1000)))
        '1.000 ± 0.004'
    """
    kinds, times = np.unique(values, return_counts=True)
    weights = np.random.default_rng(SEED).standard_gamma([*times, 1], (DRAWS, len(times) + 1))
    weights /= weights.sum(axis=1, keepdims=True)
    # One more photo, as bad or as good as can be, stands for what has not been seen: where all values are 0 or 1, the
    # ends are Clopper's and Pearson's.
    low = np.quantile(weights @ [*kinds, 0.0], TAIL)
    high = np.quantile(weights @ [*kinds, 1.0], 1 - TAIL)
    value = float(values.mean())
    return Estimate(value=value, low=min(float(low), value), high=max(min(float(high), 1.0), value), count=len(values))
