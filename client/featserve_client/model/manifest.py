"""The manifest of an exported model, typed.

Keys that this client does not know are passed over, and all may be absent, as in the manifests of older exporters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the model wants its pixels: `height` x `width` after a resize as in Keras' `load_img`."""

    height: int
    width: int
    interpolation: str
    crop_to_aspect_ratio: bool
    max_pixels: int
    #: JPEGs are turned as their EXIF orientation says.
    apply_orientation: bool = False
    #: The color is taken away before the resize.
    gray: bool = False


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the weights came from."""

    source: str | None = None
    name: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The exporter's description of a model."""

    model: str | None = None
    version: int | None = None
    precision: str = "float32"
    weights: Weights = Weights()
    #: Shapes without the batch dimension, in the order of the network.
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    # A value that the client shows and does not act on is absent, too, where it is of another kind.
    #: Image formats that the graph decodes.
    formats: tuple[str, ...] | None = None
    #: Width multiplier of a MobileNet.
    alpha: float | None = None
    #: Where in the network each output comes from, by its name.
    sources: Mapping[str, str] = field(default_factory=dict)
    #: How close the exported graph came to the live model.
    closeness: Mapping[str, Any] | None = None
    #: Names of the classes, in the order of an output's values, for each output that has classes.
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Manifest:
        """Returns the manifest that a JSON object holds.

        Raises:
            ValueError: a value that the client acts on is of another kind than its key has; the text names the key.
        """
        weights = _object(data, "weights") or {}
        return cls(
            model=_text(data, "model"),
            version=_of(data, "version", int),
            precision=_text(data, "precision") or "float32",
            weights=Weights(**{key: _text(weights, key) for key in ("source", "name", "sha256")}),
            layers={name: _shape(layer, name) for name, layer in (_object(data, "layers") or {}).items()},
            preprocessing=_preprocessing(_object(data, "preprocessing")),
            formats=_texts(data.get("formats")),
            alpha=data["alpha"] if isinstance(data.get("alpha"), int | float) else None,
            sources={
                name: layer["source"]
                for name, layer in (_object(data, "layers") or {}).items()
                if isinstance(layer.get("source"), str)
            },
            closeness=_object_or_none(data.get("closeness")),
            labels=_labels(data.get("labels")),
        )


def parse_json(text: bytes | str) -> dict[str, Any]:
    """Returns a manifest's JSON text as an object that `Manifest.parse` takes.

    Raises:
        ValueError: the text is no JSON, or the JSON is no object that `Manifest.parse` takes.
    """
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, received {type(data).__name__}")
    Manifest.parse(data)
    return data


def _of(data: Mapping[str, Any], key: str, kind: type) -> Any:
    value = data.get(key)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{key!r} is {value!r}")
    return value


def _text(data: Mapping[str, Any], key: str) -> str | None:
    found: str | None = _of(data, key, str)
    return found


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list) else None


def _labels(value: Any) -> Mapping[str, tuple[str, ...]]:
    found = value if isinstance(value, dict) else {}
    return {str(output): names for output, value in found.items() if (names := _texts(value)) is not None}


def _object_or_none(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = _of(data, key, dict)
    return found


def _shape(layer: Any, name: str) -> tuple[int, ...]:
    if not isinstance(layer, dict) or not all(isinstance(size, int) for size in layer.get("shape", ())):
        raise ValueError(f"layer {name!r} is {layer!r}")
    return tuple(layer.get("shape", ()))


def _preprocessing(data: Mapping[str, Any] | None) -> Preprocessing | None:
    if data is None:
        return None
    try:
        height, width = data["image_size"]
        return Preprocessing(
            height=int(height),
            width=int(width),
            interpolation=str(data["interpolation"]),
            crop_to_aspect_ratio=bool(data["crop_to_aspect_ratio"]),
            max_pixels=int(data["max_pixels"]),
            apply_orientation=bool(data.get("apply_orientation", False)),
            gray=bool(data.get("gray", False)),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"'preprocessing' lacks {exc}") from exc
