"""Exports a network: live Keras model in, a proven version directory out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ._batching import Batching, default_batching
from ._frozen import FrozenGraph, freeze
from ._golden import Closeness, Golden, closeness_report, make_golden, verify
from ._manifest import FORMAT, describe_signatures, dump_manifest, package_versions, write_manifest
from ._precision import check_precision, choose_precision
from ._saved_model import rewrite
from ._signatures import Pixels, write_saved_model
from ._warmup import write_warmup
from .errors import ExportError, InvalidOptionError
from .grouped_convolutions import plain_grouped_convolutions
from .labels import name_outputs
from .options import ExportOptions
from .progress import Progress, silent
from .proof.first_layer import FirstLayer, degenerate_features, measure_first_layer
from .quantize import CalibrationPhotos, held_out_photos, read_photos
from .sources.classifier import load_classifier
from .sources.keras_file import explain
from .sources.live_model import LiveModel
from .sources.load import load_live_model
from .version_directory import staged


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


def export_backbone(options: ExportOptions, *, progress: Progress = silent) -> ExportReport:
    """Writes `<model_root>/<model_name>/<version>` and proves that it gives the live Keras model's activations.

    Args:
        options: what to export.
        progress: called with each stage's name, the steps done and the steps in all (0 where it has none).

    Returns:
        The path, the manifest and the measured closeness.

    Raises:
        InvalidOptionError: an option's value; nothing was written.
        WeightsError: the weights are missing or of another architecture; nothing was written.
        VerificationError: the export differs from the live model; nothing is left behind.
        ExportError: the model root cannot be written; nothing is left behind.

    Example:
        >>> report = export_backbone(ExportOptions("mobilenet", alpha=0.25, weights="random", model_root=folder))
        >>> report.path.name
        '1'
    """
    options.check_version_is_free()
    check_precision(options.precision, options.calibrate)
    progress(f"building {options.backbone}", 0, 0)
    live = load_live_model(options)
    pixels = Pixels(
        image_size=live.image_size,
        interpolation=options.interpolation or live.interpolation,
        crop_to_aspect_ratio=options.crop_to_aspect_ratio,
        max_pixels=options.max_pixels,
    )
    golden, first_layer, frozen = _run(live, pixels, options.backbone, progress)
    shapes = {layer: array.shape[1:] for layer, array in golden.expected["encoded"].items()}
    labels = name_outputs(shapes, options.backbone, options.weights, options.labels)
    photos = _calibration_photos(options, pixels)
    classifier = partial(
        load_classifier,
        options.backbone,
        live.layers[-1],
        options.pooling,
        options.weights,
        options.alpha,
        live.image_size,
    )
    chosen = choose_precision(options.precision, frozen, golden, photos, classifier, progress)
    manifest = {
        **_manifest(options, live, pixels, golden, first_layer),
        "labels": labels,
        "precision": chosen.precision,
        **chosen.notes,
    }
    if chosen.precision == "int8" and photos is not None:
        # Eight bits are calibrated for such photos, not for noise.
        golden = make_golden(live, pixels, held_out_photos(photos.images))
    batching = options.batching or default_batching()
    path, closeness = _write(options.model_directory, chosen.graphs, pixels, batching, manifest, golden, progress)
    return ExportReport(path=path, manifest=manifest, closeness=closeness)


def _run(
    live: LiveModel, pixels: Pixels, name: str, progress: Progress
) -> tuple[Golden, FirstLayer | None, FrozenGraph]:
    """Records what the network answers before anything is done to it, then traces it."""
    try:
        progress("running the live model", 0, 0)
        golden = make_golden(live, pixels)
        first_layer = measure_first_layer(live, golden.float_images)
        progress("freezing the graph", 0, 0)
        with plain_grouped_convolutions():
            frozen = freeze(live.activations, live.layers, live.image_size)
    except ExportError:
        raise
    except Exception as error:  # whatever a network of the user's own raises
        raise InvalidOptionError(f"{name} cannot be run: {explain(error)}") from error
    return golden, first_layer, frozen


def _calibration_photos(options: ExportOptions, pixels: Pixels) -> CalibrationPhotos | None:
    if options.calibrate is None:
        return None
    return read_photos(
        options.calibrate,
        pixels.image_size,
        count=options.calibration_images,
        interpolation=pixels.interpolation,
        crop_to_aspect_ratio=pixels.crop_to_aspect_ratio,
    )


def _manifest(
    options: ExportOptions, live: LiveModel, pixels: Pixels, golden: Golden, first_layer: FirstLayer | None
) -> dict[str, Any]:
    expected = golden.expected["encoded"]
    return {
        "format": FORMAT,
        "model": options.servable_name,
        "version": options.version,
        "backbone": live.name,
        "family": live.family,
        "alpha": options.alpha,
        "weights": live.weights,
        "layers": {
            layer: {"shape": [int(side) for side in expected[layer].shape[1:]], "source": source}
            for layer, source in live.sources().items()
        },
        "signatures": describe_signatures(live.layers, live.image_size),
        "preprocessing": {
            "image_size": list(pixels.image_size),
            "interpolation": pixels.interpolation,
            "crop_to_aspect_ratio": pixels.crop_to_aspect_ratio,
            "max_pixels": pixels.max_pixels,
            "function": live.preprocessing,
        },
        "first_layer": first_layer.as_dict() if first_layer else None,
        "pooling": options.pooling,
        "device": options.device,
        "batching": (options.batching or default_batching()).as_dict(),
        "versions": package_versions(),
        "warnings": [*(first_layer.warnings if first_layer else ()), *degenerate_features(live, expected)],
    }


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
