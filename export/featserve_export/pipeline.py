"""Exports a network: live Keras model in, a proven version directory out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .batching import Batching, default_batching
from .errors import ExportError, InvalidOptionError
from .graph.freeze import FrozenGraph, freeze
from .graph.grouped_convolutions import plain_grouped_convolutions
from .graph.winograd import with_winograd
from .labels import name_outputs
from .manifest import FORMAT, FORMATS, Manifest, describe_signatures, dump_manifest, package_versions, write_manifest
from .memory import estimate
from .options import ExportOptions
from .pixels.spec import Pixels
from .precision import Chosen, check_precision, choose_precision
from .progress import Progress, silent
from .proof.closeness import Closeness, closeness_report
from .proof.first_layer import FirstLayer, degenerate_features, measure_first_layer
from .proof.golden import Golden, make_golden, verify
from .quantize import CalibrationPhotos, held_out_photos, read_photos
from .saved_model.signatures import write_saved_model
from .saved_model.version_directory import staged
from .saved_model.warmup import write_warmup
from .saved_model.writer import rewrite
from .sources.classifier import load_classifier
from .sources.keras_file import explain
from .sources.live_model import LiveModel
from .sources.load import load_live_model


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The report of an export.

    Attributes:
        path: the version's directory.
        manifest: the content of its manifest.
        closeness: each layer's distance from the live Keras model.

    Example:
        >>> report = export_backbone(small)
        >>> report.manifest["layers"]
        {'conv_pw_13_relu': {'shape': [1, 1, 256], 'source': 'output 0'}}
        >>> report.closeness["conv_pw_13_relu"].cosine > 0.9999
        True
    """

    path: Path
    manifest: Manifest
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
        >>> options = ExportOptions(
        ...     "mobilenet", alpha=0.25, weights="random", image_size=(32, 32), model_root=folder / "models"
        ... )
        >>> export_backbone(options).path.name
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
        apply_orientation=options.apply_orientation,
        gray=live.input.channels == 1,
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
    if options.convolutions == "winograd":
        frozen = with_winograd(frozen)
    chosen = choose_precision(options.precision, frozen, golden, photos, classifier, progress)
    manifest = _manifest(options, live, pixels, golden, first_layer, labels, chosen)
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
    options: ExportOptions,
    live: LiveModel,
    pixels: Pixels,
    golden: Golden,
    first_layer: FirstLayer | None,
    labels: dict[str, list[str]],
    chosen: Chosen,
) -> Manifest:
    signatures = describe_signatures(live.layers, live.image_size)
    expected = golden.expected["encoded"]
    return {
        "format": FORMAT,
        "model": options.servable_name,
        "version": options.version or 0,
        "backbone": live.name,
        "family": live.family,
        "alpha": options.alpha,
        "weights": live.weights,
        "layers": {
            layer: {"shape": [int(side) for side in expected[layer].shape[1:]], "source": source}
            for layer, source in live.sources().items()
        },
        "labels": labels,
        "signatures": signatures,
        "formats": list(FORMATS),
        "preprocessing": {
            "image_size": list(pixels.image_size),
            "interpolation": pixels.interpolation,
            "crop_to_aspect_ratio": pixels.crop_to_aspect_ratio,
            "max_pixels": pixels.max_pixels,
            "apply_orientation": pixels.apply_orientation,
            "gray": pixels.gray,
            "function": live.preprocessing,
        },
        "first_layer": first_layer.as_dict() if first_layer else None,
        "pooling": options.pooling,
        "precision": chosen.precision,
        "device": options.device,
        "convolutions": options.convolutions,
        "batching": (options.batching or default_batching()).as_dict(),
        "memory": estimate(chosen.graphs, chosen.precision, len(signatures)),
        "versions": package_versions(),
        "warnings": [*(first_layer.warnings if first_layer else ()), *degenerate_features(live, expected)],
        "closeness": {},
        **chosen.notes,
    }


def _write(
    model_directory: Path,
    graphs: Sequence[FrozenGraph],
    pixels: Pixels,
    batching: Batching,
    manifest: Manifest,
    golden: Golden,
    progress: Progress,
) -> tuple[Path, dict[str, Closeness]]:
    with staged(model_directory, manifest["version"] or None) as (staging, directory):
        progress("writing and proving the SavedModel", 0, 0)
        manifest["version"] = int(directory.name)
        prefix = f"{manifest['model']}/{manifest['version']}"
        write_saved_model(
            staging,
            graphs,
            pixels,
            batching,
            dump_manifest(manifest),
            golden.carried(),
            prefix,
            manifest["device"],
        )
        closeness = verify(staging, golden, manifest["precision"])
        manifest["closeness"] = closeness_report(closeness)
        rewrite(staging, dump_manifest(manifest), batching, prefix)
        write_manifest(staging, manifest)
        golden.save(staging)
        write_warmup(staging, manifest)
    return directory, closeness
