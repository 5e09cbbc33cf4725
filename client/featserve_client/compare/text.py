"""A comparison as lines for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from .comparison import NEIGHBORS, Changed, LayerComparison, Recall
from .sides import Comparison
from .statistics import INTERVALS, Distribution


def to_json(comparison: Comparison) -> str:
    """Returns everything as a JSON object."""
    return json.dumps({"intervals": INTERVALS, **asdict(comparison)}, indent=2, allow_nan=False)


def to_lines(comparison: Comparison) -> Iterator[str]:
    """Yields the findings, a line at a time; the verdict is the last."""
    yield f"A       {describe_side(comparison.a)}"
    yield f"B       {describe_side(comparison.b)}"
    yield f"photos  {describe_photos(comparison)}"
    for side, names in comparison.other_layers.items():
        if names:
            yield f"        not compared, in {side} alone: {', '.join(names)}"
    for layer in comparison.layers:
        yield f"{layer.name}  {describe_sizes(layer)}"
        for name, text in describe_layer(layer):
            yield f"  {name:<16}  {text}"
        for changed in layer.changed[:3]:
            yield f"  {'changed most':<16}  {describe_change(changed)}  {changed.photo}"
    if any(layer.separate for layer in comparison.layers):
        yield INTERVALS
    yield comparison.verdict.sentence


def describe_side(side: Mapping[str, str]) -> str:
    """Returns a side's name and facts in one line."""
    facts = ", ".join(f"{key} {value}" for key, value in side.items() if key != "name")
    return f"{side['name']}" + (f"  ({facts})" if facts else "")


def describe_photos(comparison: Comparison) -> str:
    """Returns how many photos were compared, and why others were not."""
    text = f"{comparison.photos:,} compared"
    if comparison.left_out:
        text += "; left out: " + ", ".join(f"{count:,} {reason}" for reason, count in comparison.left_out.items())
    return text + (f" (the first: {comparison.first_error})" if comparison.first_error else "")


def describe_sizes(layer: LayerComparison) -> str:
    """Returns the sizes of a layer's vectors."""
    return str(layer.size_a) if layer.size_a == layer.size_b else f"{layer.size_a} ↔ {layer.size_b}"


def describe_change(changed: Changed) -> str:
    """Returns how much the vector of a photo changed."""
    notes = [] if changed.cosine is None else [f"cosine {changed.cosine:.4f}"]
    if changed.recall_at_10 is not None:
        notes.append(f"{changed.recall_at_10 * NEIGHBORS:.0f} of {NEIGHBORS} neighbors kept")
    return ", ".join(notes)


def describe_layer(layer: LayerComparison) -> Iterator[tuple[str, str]]:
    """Yields the name and the text of each thing that can be said of a layer."""
    yield "cosine", _distribution(layer.cosine) if layer.cosine else "none: the sizes differ"
    if layer.norm_ratio:
        yield "norm ratio B/A", _distribution(layer.norm_ratio)
    elif layer.size_a == layer.size_b:
        yield "norm ratio B/A", "unknown: a file's vectors were brought to length 1, or are all zero"
    if layer.other_lengths:
        yield "", "the lengths differ: mix only vectors brought to length 1"
    if layer.same_class:
        yield "same top class", str(layer.same_class)
    if layer.search is None or layer.separate is None:
        yield "neighbors", "too few photos"
        return
    yield "neighbors", f"{layer.search}; against A in A"
    yield "separate, B in B", _recall(layer.separate)
    yield "mixed, B in A", _recall(layer.mixed) if layer.mixed else "none: the sizes differ"


def _distribution(found: Distribution) -> str:
    form = ".2e" if 0 < abs(found.minimum) < 0.001 else ".5f"
    return (
        f"min {found.minimum:{form}}  1 % {found.first_percent:{form}}  median {found.median:{form}}  "
        f"mean {found.mean:{form}}"
    )


def _recall(found: Recall) -> str:
    return f"recall@1 {found.at_1}  recall@10 {found.at_10} (overlap of the 10 nearest)"
