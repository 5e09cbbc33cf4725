"""The look of a model at one photo: classes, activation maps, a vector, and where the time went."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from .manifest import ENCODED, class_names, classifier, default_layer, image_input, layers
from .maps import draw_maps, to_vector
from .source import Description, Source, SourceError

_TOP = 5


def look(
    source: Source, model: str, version: int | None, layer: str | None, channel: int | None, photo: bytes
) -> dict[str, Any]:
    """Returns the classes, maps and vector that a model finds in a photo, as JSON.

    Args:
        source: the server.
        model: the model's name.
        version: the version; None stands for the newest.
        layer: the layer whose activations are shown; None stands for the last that names no classes.
        channel: a channel whose map is wanted, strong or not.
        photo: an image file.

    Raises:
        SourceError: the server does not answer, or refuses the photo; the model takes no photos, or lacks the layer.
    """
    started = time.perf_counter()
    description = source.describe(model, version)
    field = image_input(description)
    shown = layer or default_layer(description) or ""
    if shown not in layers(description):
        raise SourceError(f"the model has no layer {shown!r}; it has {', '.join(layers(description))}", 400)
    named = classifier(description, shown)
    wanted = list(dict.fromkeys(name for name in (shown, named) if name))
    signature, outputs = ENCODED, wanted
    if len(wanted) == 1 and f"{ENCODED}/{shown}" in description.signatures:
        signature, outputs = f"{ENCODED}/{shown}", []
    asked = time.perf_counter()
    answer = source.predict(model, description.version, signature, {field: [photo]}, outputs)
    answered = time.perf_counter()
    activations = {name: _one(answer.outputs.get(name), name) for name in wanted}
    result = {
        "version": description.version,
        "layer": shown,
        "shape": list(activations[shown].shape),
        "classes": _classes(description, named, activations[named]) if named else None,
        "maps": draw_maps(activations[shown], channel),
        "vector": to_vector(activations[shown]),
    }
    done = time.perf_counter()
    call_ms = 1000 * (answered - asked)
    known_ms = (answer.waited_ms or 0) + (answer.computed_ms or 0)
    result["ms"] = {
        "describing": 1000 * (asked - started),
        "waiting for a thread": answer.waited_ms,
        "model": answer.computed_ms,
        "round trip" if answer.computed_ms is None else "rest of the call": max(0.0, call_ms - known_ms),
        "maps": 1000 * (done - answered),
    }
    return result


def _one(rows: npt.NDArray[Any] | None, name: str) -> npt.NDArray[np.float32]:
    if rows is None or rows.ndim < 1 or len(rows) != 1 or rows.dtype.kind not in "fiub":
        got = "nothing" if rows is None else f"{rows.dtype} {rows.shape}"
        raise SourceError(f"the server answered {got} for output {name!r}; expected numbers of one image", 502)
    row: npt.NDArray[np.float32] = rows[0].astype(np.float32)
    if not np.isfinite(row).all():
        raise SourceError(f"output {name!r} has values that are NaN or infinite: nothing can be drawn of it", 502)
    return row


def _classes(description: Description, output: str, scores: npt.NDArray[np.float32]) -> dict[str, Any]:
    names = class_names(description.manifest)[output]
    if scores.shape != (len(names),):
        raise SourceError(f"output {output!r} has shape {scores.shape}; its manifest names {len(names)} classes", 502)
    best = np.argsort(-scores, kind="stable")[:_TOP]
    return {
        "layer": output,
        "top": [{"index": int(index), "label": names[index], "score": float(scores[index])} for index in best],
    }
