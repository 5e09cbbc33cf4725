"""The classes that a classifier gives images, by the names in the model's manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..exceptions import ConfigError, ResponseError
from ..images.inputs import ImageLike
from ..model.manifest import Manifest
from ..model.metadata import ModelMetadata
from .extraction import Extractor
from .metadata import MetadataCache
from .steps import Operation


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """A class of an image.

    Example:
        >>> classifier.classify("cat.jpg", top=1)[0][0].label
        'Egyptian cat'
    """

    #: The class's place among the values of the classifier's output, from 0.
    index: int
    label: str
    #: The value itself: a probability where the model ends in a softmax.
    score: float


def classify(
    extractor: Extractor,
    cache: MetadataCache,
    images: ImageLike | Iterable[ImageLike],
    top: int,
    layer: str | None,
    timeout_s: float | None,
    concurrency: int,
) -> Operation[list[list[ClassScore]]]:
    """Returns each image's classes, the highest score first.

    Raises:
        ConfigError: no output of the model has names of classes, or `top` is below 1.
        ResponseError: the output has another shape than its names say.
    """
    if not hasattr(top, "__index__") or top < 1:
        raise ConfigError(f"top must be at least 1, a whole number, not {top!r}")
    chosen, names = find_classifier((yield from cache.with_manifest(timeout_s)), layer)
    scores = (yield from extractor.extract(images, chosen, timeout_s, concurrency))[chosen]
    if scores.shape[1:] != (len(names),):
        raise ResponseError(
            f"output {chosen!r} came with shape {scores.shape}; its manifest names {len(names)} classes"
        )
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [ClassScore(index=int(index), label=names[index], score=float(row[index])) for index in indices]
        for row, indices in zip(scores, best, strict=True)
    ]


def find_classifier(model: ModelMetadata, layer: str | None) -> tuple[str, Sequence[str]]:
    """Returns the output that names classes, and their names.

    Args:
        model: the model as the server describes it.
        layer: the output asked for; the last that has names, if None.

    Raises:
        ConfigError: no output, or not the one asked for, has names; the text says how to export them.
    """
    labels = Manifest.parse(model.manifest or {}).labels
    named = [name for name in model.layers if name in labels]
    chosen = layer or (named[-1] if named else None)
    if chosen is not None and chosen in labels:
        return chosen, labels[chosen]
    backbone = str((model.manifest or {}).get("backbone") or "BACKBONE")
    wanted = dict.fromkeys([*model.layers, "predictions"])
    what = f"output {layer!r} has no names of classes" if layer else "no output has names of classes"
    raise ConfigError(
        f"model {model.model!r}: {what} (it outputs {', '.join(model.layers) or 'no layers'}). Export a backbone with "
        f"its classifier, `featserve-export {backbone} --layers {','.join(wanted)}`, or a model of your own with "
        "--labels FILE, a name a line"
    )
