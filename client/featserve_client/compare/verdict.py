"""Whether vectors may be mixed: in a sentence, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from ..exceptions import ConfigError
from .comparison import NEIGHBORS, LayerComparison
from .statistics import TAIL, Estimate

Status = Literal["mix", "again", "unknown"]

#: Photos among which a search at random finds a tenth of the nearest neighbors.
_FEWEST = 10 * NEIGHBORS + 1


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The least values with which vectors may be mixed."""

    #: Of layers whose vectors are searched: the least recall of B's queries in an index of A.
    recall_1: float = 0.95
    recall_10: float = 0.95
    #: Of classifiers: the least share of photos with the same top class.
    same_class: float = 0.95
    #: The cosine that 99 % of the photos must have; None if any will do.
    cosine: float | None = None

    def __post_init__(self) -> None:
        """Refuses thresholds that decide nothing.

        Raises:
            ConfigError: a threshold is not between 0 and 1.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < 1:
                name = field.name.replace("_", "-")
                raise ConfigError(f"--min-{name} must be above 0 and below 1, not {value}")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The advice about vectors, and the sentence that says why."""

    status: Status
    sentence: str


def judge(layers: Sequence[LayerComparison], thresholds: Thresholds) -> Verdict:
    """Returns the verdict on all layers: that of the worst one."""
    verdicts = [_judge_layer(layer, thresholds) for layer in layers]
    openings: dict[Status, str] = {
        "again": "compute them again",
        "unknown": "no statement",
        "mix": "vectors may be mixed",
    }
    status: Status = next(kind for kind in openings if any(verdict.status == kind for verdict in verdicts))
    reasons = "; ".join(verdict.sentence for verdict in verdicts if verdict.status == status)
    return Verdict(status=status, sentence=f"{openings[status]}: {reasons}")


def _judge_layer(layer: LayerComparison, thresholds: Thresholds) -> Verdict:
    name = layer.name
    if layer.size_a != layer.size_b:
        text = f"{name}: vectors of {layer.size_a} and of {layer.size_b} numbers never mix"
        if layer.separate is not None:
            text += f"; each searched by itself, {layer.separate.at_10} of the {NEIGHBORS} nearest are the same"
        return Verdict(status="again", sentence=text)
    if layer.broken:
        counts = " and ".join(f"{count:,} in {side} alone" for side, count in layer.broken.items())
        return Verdict(status="again", sentence=f"{name}: vectors with NaN or infinity, {counts}")
    if layer.identical:
        return Verdict(status="mix", sentence=f"{name}: all {layer.photos:,} vectors are identical, bit for bit")
    if thresholds.cosine is not None and layer.cosine and layer.cosine.first_percent < thresholds.cosine:
        lowest = layer.cosine.first_percent
        return Verdict(
            status="again", sentence=f"{name}: 1 % of the cosines are below {lowest:.4f}, under {thresholds.cosine}"
        )
    criteria = list(_criteria(layer, thresholds))
    for what, found, least in criteria:
        if found.high < least:
            return Verdict(status="again", sentence=f"{name}: {what} {found} is below {least}")
    needed = max(math.ceil(math.log(TAIL) / math.log(least)) for least in _least(layer, thresholds))
    if layer.same_class is None:
        needed = max(needed, _FEWEST)
    if layer.photos < needed:
        text = f"{name}: {layer.photos:,} photos are too few, at least {needed:,} are needed"
        return Verdict(status="unknown", sentence=text)
    for what, found, least in criteria:
        if found.low < least:
            return Verdict(
                status="unknown", sentence=f"{name}: {what} {found} is too near to {least}{_more(found, least)}"
            )
    text = f"{name}: {', '.join(f'{what} {found}' for what, found, _ in criteria)}"
    if layer.other_lengths:
        text += " (brought to length 1: their lengths differ)"
    elif layer.same:
        text += f" (the vectors differ by rounding alone, at most by {layer.largest_distance:.1e} of their length)"
    return Verdict(status="mix", sentence=text)


def _criteria(layer: LayerComparison, thresholds: Thresholds) -> Iterator[tuple[str, Estimate, float]]:
    if layer.same_class is not None:
        yield "the same top class", layer.same_class, thresholds.same_class
    elif layer.mixed is not None:
        yield "recall@10", layer.mixed.at_10, thresholds.recall_10
        yield "recall@1", layer.mixed.at_1, thresholds.recall_1


def _least(layer: LayerComparison, thresholds: Thresholds) -> Sequence[float]:
    if layer.same_class is not None:
        return [thresholds.same_class]
    return [thresholds.recall_10, thresholds.recall_1]


def _more(found: Estimate, least: float) -> str:
    distance = abs(found.value - least)
    if distance < 1e-4:
        return ": choose another threshold"
    margin = found.value - found.low if found.value > least else found.high - found.value
    needed = math.ceil(found.count * (margin / distance) ** 2)
    return f" with {found.count:,} photos: about {needed:,} are needed"
