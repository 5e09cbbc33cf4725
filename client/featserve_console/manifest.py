"""A manifest as the page shows it: any key may be absent, or be of another kind than the exporter writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .source import Description, Signature, SourceError

#: The signature that takes image files, and its variants with one layer alone, `encoded/LAYER`.
ENCODED = "encoded"


def section(manifest: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    """Returns an object within a manifest; an empty one if there is none."""
    found = (manifest or {}).get(key)
    return found if isinstance(found, dict) else {}


def class_names(manifest: Mapping[str, Any] | None) -> Mapping[str, Sequence[str]]:
    """Returns the names of the classes, for each output that has classes."""
    return {
        str(output): [str(name) for name in names]
        for output, names in section(manifest, "labels").items()
        if isinstance(names, list)
    }


def layers(description: Description) -> list[str]:
    """Returns the outputs of the model for image files, in the order of the network where that is known."""
    signature = description.signatures.get(ENCODED)
    order = list(section(description.manifest, "layers"))
    return sorted(
        signature.outputs if signature else (),
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )


def image_input(description: Description) -> str:
    """Returns the input that takes image files.

    Raises:
        SourceError: the model takes no photos; the text has its signatures.
    """
    signature = description.signatures.get(ENCODED)
    if signature is not None and _takes_files(signature) and signature.outputs:
        return next(iter(signature.inputs))
    names = ", ".join(sorted(description.signatures)) or "no signatures"
    raise SourceError(
        f"this model has no signature {ENCODED!r} that takes image files: it was not exported by featserve-export. It "
        f"has {names}, and is called with predict",
        400,
    )


def default_layer(description: Description) -> str | None:
    """Returns the layer that the page shows first: the last that names no classes, or else the last."""
    named = class_names(description.manifest)
    found = layers(description)
    return next((name for name in reversed(found) if name not in named), found[-1] if found else None)


def classifier(description: Description, layer: str) -> str | None:
    """Returns the output that names classes: the layer itself, or the last that does; None if none does."""
    named = class_names(description.manifest)
    if layer in named:
        return layer
    return next((name for name in reversed(layers(description)) if name in named), None)


def _takes_files(signature: Signature) -> bool:
    return len(signature.inputs) == 1 and all(tensor.dtype == "string" for tensor in signature.inputs.values())
