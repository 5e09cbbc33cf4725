"""Exports a backbone: live Keras model in, a proven version directory out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ._batching import Batching, default_batching
from ._classifier import load_classifier
from ._errors import InvalidOptionError
from ._frozen import DEVICES, FrozenGraph, freeze
from ._golden import Closeness, Golden, closeness_report, make_golden, verify
from ._grouped import replace_grouped_convolutions
from ._manifest import FORMAT, describe_signatures, dump_manifest, package_versions, write_manifest
from ._models import load_live_model
from ._precision import PRECISIONS, check_precision, choose_precision
from ._progress import Progress, silent
from ._saved_model import rewrite
from ._signatures import Pixels, write_saved_model
from ._version_directory import check_free, staged
from ._warmup import write_warmup
from .pixels.resize import INTERPOLATIONS
from .quantize import held_out_photos, read_photos

DEFAULT_MAX_PIXELS = 50_000_000
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the version's directory.
        manifest: the content of its manifest.
        closeness: each layer's distance from the live Keras model.
    """

    path: Path
    manifest: dict[str, Any]
    closeness: dict[str, Closeness]


def export_backbone(
    backbone: str,
    *,
    layers: Sequence[str] | None = None,
    pooling: str = "none",
    weights: str = "imagenet",
    alpha: float | None = None,
    image_size: tuple[int, int] | None = None,
    interpolation: str | None = None,
    crop_to_aspect_ratio: bool = False,
    precision: str = "float32",
    batching: Batching | None = None,
    model_name: str | None = None,
    model_root: str | Path = "build/models",
    version: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    preprocess: str | None = None,
    calibrate: str | Path | None = None,
    calibration_images: int = 64,
    device: str = "cpu",
    progress: Progress = silent,
) -> ExportReport:
    """Writes `<model_root>/<model_name>/<version>` and proves that it gives the live Keras model's activations.

    Args:
        backbone: a name of `list_backbones`, or the path of a `.keras` or `.h5` model.
        layers: the layers to output; None for the last feature map.
        pooling: `none`, `avg` or `max` over height and width of 4-D outputs.
        weights: `imagenet`, `random` (seeded) or the path of a `.weights.h5`, `.h5` or `.keras` file.
        alpha: width multiplier of the MobileNets.
        image_size: the network's `(height, width)` in pixels; None for its own.
        interpolation: how images are resized to it, as `keras.utils.load_img` does; None for the backbone's own.
        crop_to_aspect_ratio: crop to the aspect ratio first, as `load_img(keep_aspect_ratio=True)`.
        precision: `float32`, `bfloat16`, `int8` or `auto`, which measures.
        batching: the queue's parameters.
        model_name: the servable's name; None for the backbone's.
        model_root: the directory of all models.
        version: None for the next free one.
        max_pixels: images with more are refused before they are decoded.
        preprocess: for a model file: whose `preprocess_input` it wants, or `none`.
        calibrate: for `int8`, and for `auto` to try it: a directory or glob of photos like those to be served.
        calibration_images: how many of them are used.
        device: `cpu`, for which servers then optimise the backbone, or `any`, which lets a GPU take it.
        progress: called with each stage's name, the steps done and the steps in all (0 where it has none).

    Returns:
        The path, the manifest and the measured closeness.

    Raises:
        InvalidOptionError: an option's value; nothing was written.
        WeightsError: the weights are missing or of another architecture; nothing was written.
        VerificationError: the export differs from the live model; nothing is left behind.
        ExportError: the model root cannot be written; nothing is left behind.
    """
    _check_options(interpolation, precision, calibrate, model_name, version, max_pixels, image_size, device)
    if version is not None and model_name is not None:
        check_free(Path(model_root) / model_name / str(version))
    progress(f"building {backbone}", 0, 0)
    live = load_live_model(
        backbone,
        layers=layers,
        pooling=pooling,
        weights=weights,
        alpha=alpha,
        image_size=image_size,
        preprocess=preprocess,
    )
    name = model_name or live.name
    _check_model_name(name)
    model_directory = Path(model_root) / name
    if version is not None:
        check_free(model_directory / str(version))
    pixels = Pixels(
        image_size=live.image_size,
        interpolation=interpolation or live.interpolation,
        crop_to_aspect_ratio=crop_to_aspect_ratio,
        max_pixels=max_pixels,
    )
    progress("running the live model", 0, 0)
    golden = make_golden(live, pixels)
    progress("freezing the graph", 0, 0)
    frozen = freeze(replace_grouped_convolutions(live.model), live.layers, live.preprocess, live.image_size)
    photos = (
        read_photos(
            calibrate,
            live.image_size,
            count=calibration_images,
            interpolation=pixels.interpolation,
            crop_to_aspect_ratio=crop_to_aspect_ratio,
        )
        if calibrate is not None
        else None
    )
    classifier = partial(load_classifier, backbone, live.layers[-1], pooling, weights, alpha, live.image_size)
    chosen = choose_precision(precision, frozen, golden, photos, classifier, progress)
    manifest = {
        "format": FORMAT,
        "model": name,
        "version": version,
        "backbone": live.name,
        "family": live.family,
        "weights": live.weights,
        "layers": {
            layer: {"shape": [int(side) for side in golden.expected["encoded"][layer].shape[1:]]}
            for layer in live.layers
        },
        "signatures": describe_signatures(live.layers, live.image_size),
        "preprocessing": {
            "image_size": list(pixels.image_size),
            "interpolation": pixels.interpolation,
            "crop_to_aspect_ratio": pixels.crop_to_aspect_ratio,
            "max_pixels": pixels.max_pixels,
            "function": live.preprocessing,
        },
        "pooling": pooling,
        "precision": chosen.precision,
        "device": device,
        "batching": (batching or default_batching()).as_dict(),
        "versions": package_versions(),
        **chosen.notes,
    }
    if chosen.precision == "int8" and photos is not None:
        # Eight bits are calibrated for such photos, not for noise.
        golden = make_golden(live, pixels, held_out_photos(photos.images))
    path, closeness = _write(
        model_directory, chosen.graphs, pixels, batching or default_batching(), manifest, golden, progress
    )
    return ExportReport(path=path, manifest=manifest, closeness=closeness)


def _check_model_name(name: str) -> None:
    if not _MODEL_NAME.fullmatch(name):
        raise InvalidOptionError(
            f"expected a model name of letters, digits, '.', '_' and '-', received {name!r}; "
            "choose one with --model-name"
        )


def _check_options(
    interpolation: str | None,
    precision: str,
    calibrate: str | Path | None,
    model_name: str | None,
    version: int | None,
    max_pixels: int,
    image_size: tuple[int, int] | None,
    device: str,
) -> None:
    if device not in DEVICES:
        raise InvalidOptionError(f"expected device {' or '.join(DEVICES)}, received {device!r}")
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise InvalidOptionError(f"expected interpolation {', '.join(INTERPOLATIONS)}, received {interpolation!r}")
    if precision not in PRECISIONS:
        raise InvalidOptionError(f"expected precision {', '.join(PRECISIONS)}, received {precision!r}")
    check_precision(precision, calibrate)
    if model_name is not None:
        _check_model_name(model_name)
    if version is not None and not 1 <= version < 2**63:
        raise InvalidOptionError(f"expected a version from 1, received {version}")
    if not 1 <= max_pixels < 2**63:
        raise InvalidOptionError(f"expected --max-pixels from 1 to {2**63 - 1}, received {max_pixels}")
    if image_size is not None and min(image_size) < 1:
        raise InvalidOptionError(f"expected an image size of at least 1x1, received {image_size[0]}x{image_size[1]}")


def _write(
    model_directory: Path,
    graphs: Sequence[FrozenGraph],
    pixels: Pixels,
    batching: Batching,
    manifest: dict[str, Any],
    golden: Golden,
    progress: Progress,
) -> tuple[Path, dict[str, Closeness]]:
    with staged(model_directory, manifest["version"]) as (staging, directory):
        progress("writing and proving the SavedModel", 0, 0)
        manifest["version"] = int(directory.name)
        prefix = f"{manifest['model']}/{manifest['version']}"
        write_saved_model(staging, graphs, pixels, batching, dump_manifest(manifest), prefix, manifest["device"])
        closeness = verify(staging, golden, manifest["precision"])
        manifest["closeness"] = closeness_report(closeness)
        rewrite(staging, dump_manifest(manifest), batching, prefix)
        write_manifest(staging, manifest)
        golden.save(staging)
        write_warmup(staging, manifest)
    return directory, closeness
