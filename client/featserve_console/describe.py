"""A version as the page shows it: what the manifest says, and what the signatures tell without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .manifest import class_names, default_layer, image_input, layers, section
from .source import Description, SourceError, Tensor


def describe(name: str, description: Description) -> dict[str, Any]:
    """Returns a version as JSON."""
    try:
        image_input(description)
        cannot_try = ""
    except SourceError as exc:
        cannot_try = str(exc)
    manifest = description.manifest
    preprocessing = section(manifest, "preprocessing")
    return {
        "name": name,
        "version": description.version,
        "has_manifest": manifest is not None,
        "cannot_try": cannot_try,
        "layer": default_layer(description),
        "facts": [[key, value] for key, value in _facts(manifest or {}) if value],
        "layers": [_layer(layer, description) for layer in layers(description)],
        "signatures": [
            {"name": key, "inputs": _tensors(signature.inputs), "outputs": _tensors(signature.outputs)}
            for key, signature in sorted(description.signatures.items())
        ],
        "image": {
            "size": _size(preprocessing),
            "crop": preprocessing.get("crop_to_aspect_ratio") is True,
            "turned": preprocessing.get("apply_orientation") is True,
        },
    }


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    backbone = manifest.get("backbone")
    alpha = manifest.get("alpha")
    yield "backbone", f"{backbone}{f' (alpha {alpha})' if alpha is not None else ''}" if backbone else ""
    yield "precision", _text(manifest.get("precision"))
    preprocessing = section(manifest, "preprocessing")
    if size := _size(preprocessing):
        crop = ", cropped to its shape" if preprocessing.get("crop_to_aspect_ratio") is True else ""
        gray = ", gray" if preprocessing.get("gray") is True else ""
        yield "input", f"{size[0]} × {size[1]} pixels, {_text(preprocessing.get('interpolation'))}{crop}{gray}"
    formats = manifest.get("formats")
    yield "files", ", ".join(map(str, formats)) if isinstance(formats, list) else ""
    weights = section(manifest, "weights")
    sha256 = _text(weights.get("sha256"))
    source = _text(weights.get("name")) or _text(weights.get("source"))
    yield "weights", f"{source}{f', sha256 {sha256[:12]}…' if sha256 else ''}" if source else ""
    yield "closeness to Keras", _closeness(section(manifest, "closeness"))
    batching = section(manifest, "batching")
    if "max_batch_size" in batching:
        threads = batching.get("num_batch_threads")
        yield "batches", f"of up to {batching['max_batch_size']} images, {threads} at a time"
    memory = section(manifest, "memory").get("version_mib")
    yield "memory", f"{memory} MiB a version" if memory is not None else ""
    versions = section(manifest, "versions")
    yield "exported with", ", ".join(f"{key} {value}" for key, value in versions.items())
    warnings = manifest.get("warnings")
    yield "warnings", "; ".join(map(str, warnings)) if isinstance(warnings, list) else ""


def _closeness(closeness: Mapping[str, Any]) -> str:
    cosines = [
        layer["cosine"] for layer in closeness.values() if isinstance(layer, dict) and _is_number(layer, "cosine")
    ]
    return f"cosine {min(cosines):.7f} or more" if cosines else ""


def _layer(name: str, description: Description) -> dict[str, Any]:
    stated = section(section(description.manifest, "layers"), name)
    tensor = description.signatures["encoded"].outputs[name]
    closeness = section(section(description.manifest, "closeness"), name)
    return {
        "name": name,
        "shape": list((tensor.shape or ())[1:]) or stated.get("shape") or [],
        "source": _text(stated.get("source")),
        "classes": len(class_names(description.manifest).get(name, ())),
        "cosine": closeness["cosine"] if _is_number(closeness, "cosine") else None,
    }


def _tensors(tensors: Mapping[str, Tensor]) -> list[str]:
    return [f"{name}: {_shape(tensor)}" for name, tensor in sorted(tensors.items())]


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return f"{tensor.dtype} of any shape"
    return f"{tensor.dtype} ({', '.join('?' if size is None else str(size) for size in tensor.shape)})"


def _size(preprocessing: Mapping[str, Any]) -> list[int] | None:
    size = preprocessing.get("image_size")
    return size if isinstance(size, list) and len(size) == 2 and all(isinstance(each, int) for each in size) else None


def _is_number(found: Mapping[str, Any], key: str) -> bool:
    return isinstance(found.get(key), int | float)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
