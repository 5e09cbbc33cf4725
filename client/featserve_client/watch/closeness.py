"""How close the answer for one picture comes to what was expected of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..analysis.golden import THRESHOLDS

#: How far the length may be off, which the cosine is blind to: the exporter's own limit.
_NORM = 0.05
#: A sample of a layer's values strays further than all of them.
_SAMPLED = 2.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A layer's values for one picture, `(K,)` float32.

    `positions`, `(K,)`, are their places in the flattened layer; None stands for all of it.
    """

    values: npt.NDArray[np.float32]
    positions: npt.NDArray[np.int32] | None

    def cosine_limit(self, precision: str) -> float:
        """Returns the least cosine that passes."""
        missing = 1 - THRESHOLDS[precision]
        return 1 - missing * (1 if self.positions is None else _SAMPLED)

    @property
    def norm_limit(self) -> float:
        """The most that the length's ratio may differ from 1."""
        return _NORM * (1 if self.positions is None else _SAMPLED)

    def compare(self, answer: npt.NDArray[Any] | None) -> tuple[float, float]:
        """Returns the cosine with a layer's answer for a picture, and `|ratio of lengths - 1|`; NaN for another shape.

        Args:
            answer: `(1, ...)`, or None where the layer is missing.
        """
        if answer is None or len(answer) != 1:
            return math.nan, math.nan
        flat = answer.reshape(-1)
        if self.positions is None and flat.size != self.values.size:
            return math.nan, math.nan
        if self.positions is not None:
            if not 0 <= int(self.positions[-1]) < flat.size:
                return math.nan, math.nan
            flat = flat[self.positions]
        a, b = flat.astype(np.float64), self.values.astype(np.float64)
        lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        if lengths[1] == 0:  # a blank layer has no direction: it is right if it is blank now
            blank = lengths[0] < 1e-6
            return (1.0, 0.0) if blank else (0.0, math.inf)
        cosine = float(a @ b) / (lengths[0] * lengths[1]) if lengths[0] else 0.0
        return cosine, abs(lengths[0] / lengths[1] - 1)


def sample_of(answer: npt.NDArray[Any], most: int = 1024) -> Sample:
    """Returns a sample of a layer's answer for one picture, `(1, ...)`."""
    flat = answer.reshape(-1)
    drawn = np.random.default_rng(0).choice(flat.size, min(flat.size, most), replace=False)
    positions = np.sort(drawn).astype(np.int32)
    return Sample(values=flat[positions].astype(np.float32), positions=positions)
