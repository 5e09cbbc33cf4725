"""The manifest: what an exported version is, as JSON beside the graph and inside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST_FILE = "assets.extra/manifest.json"
INPUTS = {
    "serving_default": ("images", "uint8"),
    "encoded": ("image_bytes", "string"),
    "float_images": ("images", "float32"),
}


def layer_sets(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Signature name suffix to the layers that it outputs: all of them, and each alone where there are several."""
    alone = {f"/{layer}": (layer,) for layer in layers} if len(layers) > 1 else {}
    return {"": tuple(layers), **alone}


def describe_signatures(layers: Sequence[str], image_size: tuple[int, int]) -> dict[str, Any]:
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


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Writes `manifest` into a version's directory."""
    path = directory / MANIFEST_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump_manifest(manifest) + "\n", encoding="utf-8")


def read_manifest(directory: Path) -> dict[str, Any]:
    """Reads the manifest of a version's directory."""
    manifest: dict[str, Any] = json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))
    return manifest


def dump_manifest(manifest: Mapping[str, Any]) -> str:
    """The manifest's JSON text."""
    return json.dumps(manifest, indent=1, ensure_ascii=False)
