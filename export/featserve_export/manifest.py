"""The manifest: what an exported version is, as JSON beside the graph and inside it.

This is the contract with everything that reads a version. `tests/contract/manifest.schema.json` states it for others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

FORMAT = 1
MANIFEST_FILE = "assets.extra/manifest.json"
#: What the signature `encoded` decodes.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
#: The base signatures, each with the name and the dtype of its input.
INPUTS = {
    "serving_default": ("images", "uint8"),
    "encoded": ("image_bytes", "string"),
    "float_images": ("images", "float32"),
}


class WeightsOrigin(TypedDict):
    """Where weights come from."""

    source: str | None
    name: str | None
    sha256: str | None


class Layer(TypedDict):
    """One output: its shape without the batch, and where in the network it comes from."""

    shape: list[int]
    source: str


class Signature(TypedDict):
    """One signature: the name, dtype and shape of its input (null for any size), and the outputs' names."""

    input: str
    dtype: str
    shape: list[int | None]
    layers: list[str]


class Preprocessing(TypedDict):
    """How an image of any size becomes the network's input."""

    image_size: list[int]
    interpolation: str
    crop_to_aspect_ratio: bool
    max_pixels: int
    apply_orientation: bool
    gray: bool
    function: str


class Measured(TypedDict, total=False):
    """The measurements by which a precision was chosen."""

    #: How fast and how close each precision is, where `auto` measured.
    precision_measured: dict[str, Any]
    #: Why `auto` left int8 out.
    int8_refused: str
    #: The report of int8.
    quantization: dict[str, Any]


class Manifest(Measured):
    """The description of an exported version."""

    format: int
    model: str
    version: int
    backbone: str
    family: str
    alpha: float | None
    weights: WeightsOrigin
    layers: dict[str, Layer]
    #: The names of an output's classes, in order, for outputs that are probabilities.
    labels: dict[str, list[str]]
    signatures: dict[str, Signature]
    formats: list[str]
    preprocessing: Preprocessing
    #: The input of the first layer with a kernel: its name, low, high.
    first_layer: dict[str, Any] | None
    pooling: str
    precision: str
    device: str
    #: How convolutions are computed: `direct` or `winograd`.
    convolutions: str
    batching: dict[str, Any]
    memory: dict[str, float]
    versions: dict[str, str]
    warnings: list[str]
    #: Each output's distance from the live model.
    closeness: dict[str, dict[str, float]]


def layer_sets(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Signature name suffix to the layers that it outputs: all of them, and each alone where there are several."""
    alone = {f"/{layer}": (layer,) for layer in layers} if len(layers) > 1 else {}
    return {"": tuple(layers), **alone}


def describe_signatures(layers: Sequence[str], image_size: tuple[int, int]) -> dict[str, Signature]:
    """Every signature's input and layers; None stands for any size."""
    shapes: Mapping[str, list[int | None]] = {
        "serving_default": [None, None, None, 3],
        "encoded": [None],
        "float_images": [None, *image_size, 3],
    }
    return {
        f"{base}{suffix}": {"input": name, "dtype": dtype, "shape": shapes[base], "layers": list(names)}
        for suffix, names in layer_sets(layers).items()
        for base, (name, dtype) in INPUTS.items()
    }


def package_versions() -> dict[str, str]:
    """The releases that the export ran with."""
    return {package: version(package) for package in ("featserve", "tensorflow", "keras", "numpy", "pillow")}


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes `manifest` into a version's directory."""
    path = directory / MANIFEST_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump_manifest(manifest) + "\n", encoding="utf-8")


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of a version's directory."""
    manifest: Manifest = json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))
    return manifest


def dump_manifest(manifest: Manifest) -> str:
    """The manifest's JSON text."""
    return json.dumps(manifest, indent=1, ensure_ascii=False)
