"""The command `featserve-export`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

# What imports TensorFlow, which takes seconds, is imported where it is needed.
from ..backbones import find_backbone, list_backbones
from ..batching import read_batching
from ..errors import ExportError, InvalidOptionError
from ..options import CONVOLUTIONS, DEVICES, POOLINGS, PRECISIONS, ExportOptions
from .existing import check_same
from .listing import describe_backbones, describe_layers
from .output import ends_quietly
from .quiet_tensorflow import import_tensorflow

#: What `--version` gives without a number; a model's versions begin at 1.
PROGRAM = object()
EPILOG = """\
BACKBONE is a name from --list, or, together with --preprocess, a model of your own: the path of a .keras or .h5 file,
or of a SavedModel's directory. A layer `inner` of a nested model `outer` is outer/inner, the second call of a layer
that is called several times is layer#2.
The version's directory is printed on stdout; it appears there only when it is complete and proven.
"""


@ends_quietly()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, or 2 for a mistake in what was asked for."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.version is PROGRAM:
        print(f"featserve-export {metadata.version('featserve')}")
        return 0
    if options.rebatch and options.backbone is not None:
        parser.error(f"--rebatch copies the version {options.rebatch}, which has its backbone: leave BACKBONE out")
    if options.list:
        return _list(options)
    if options.measure:
        parser.error("--measure goes with --list")
    try:
        # What can be refused at once is refused before TensorFlow is imported.
        asked = None if options.show_layers or options.rebatch else _export_options(parser, options)
        if asked is not None and (there := _there(parser, options, asked)) is not None:
            print(f"{there} is there, as asked for; nothing was written", file=sys.stderr)
            print(there)
            return 0
        if asked is not None:
            asked.check_files()
    except ExportError as error:
        print(f"featserve-export: {error}", file=sys.stderr)
        return 2
    try:
        tf = import_tensorflow()
    except ModuleNotFoundError:
        parser.error("TensorFlow is not installed; pip install 'featserve[export]'")
    tf.get_logger().setLevel("ERROR")
    try:
        # Keras prints its downloads' progress to stdout, where the result belongs.
        with contextlib.redirect_stdout(sys.stderr):
            result = _describe_or_rebatch(parser, options) if asked is None else _export(asked)
    except ExportError as error:
        print(f"featserve-export: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("featserve-export: interrupted, nothing was written", file=sys.stderr)
        return 130
    print(result)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="featserve-export",
        description="Write a backbone and its preprocessing as a SavedModel that any TensorFlow Serving loads.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backbone", nargs="?", metavar="BACKBONE", help="what to export")
    parser.add_argument(
        "--layers",
        type=_names,
        metavar="A,B",
        help="layers to output (default: the last feature map; of a model of your own: all its outputs)",
    )
    parser.add_argument("--pooling", default=ExportOptions.pooling, choices=POOLINGS, help="pool 4-D outputs")
    parser.add_argument(
        "--weights",
        default=ExportOptions.weights,
        metavar="imagenet|random|PATH",
        help="the weights, or a .weights.h5, .h5 or .keras file (default: %(default)s)",
    )
    parser.add_argument("--alpha", type=float, metavar="A", help="width multiplier of the MobileNets")
    parser.add_argument("--image-size", type=_size, metavar="HxW|N", help="pixels (default: the network's own)")
    parser.add_argument(
        "--interpolation",
        metavar="NAME",
        help="resize as keras.utils.load_img does: nearest, bilinear, bicubic, lanczos, box or hamming "
        "(default: nearest; efficientnet_lite0: bicubic)",
    )
    parser.add_argument(
        "--crop-to-aspect-ratio", action="store_true", help="crop before resizing, as load_img(keep_aspect_ratio=True)"
    )
    parser.add_argument(
        "--apply-orientation",
        action="store_true",
        help="turn JPEGs as their EXIF orientation says (Keras does not)",
    )
    parser.add_argument(
        "--precision",
        default=ExportOptions.precision,
        metavar="|".join(PRECISIONS),
        help="what the backbone computes in; auto measures (default: %(default)s)",
    )
    parser.add_argument(
        "--calibrate", metavar="DIR|GLOB", help="photos like those to be served, for int8 (and for auto to try it)"
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=ExportOptions.calibration_images,
        metavar="N",
        help="how many of them (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        default=ExportOptions.device,
        metavar="|".join(DEVICES),
        help="where the backbone runs: cpu, for which servers then optimise it, or any, which lets a GPU take it "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--convolutions",
        default=ExportOptions.convolutions,
        metavar="|".join(CONVOLUTIONS),
        help="how float32 convolutions are computed: winograd makes VGGs a quarter faster, and their memory larger "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=ExportOptions.max_pixels,
        metavar="N",
        help="refuse larger images (default: %(default)s)",
    )
    parser.add_argument("--preprocess", metavar="NAME|none", help="for a model file: whose preprocess_input it wants")
    parser.add_argument(
        "--custom-objects",
        type=Path,
        metavar="FILE.py",
        help="for a model file: defines its custom layers and functions; the file's code runs",
    )
    parser.add_argument(
        "--allow-lambda",
        action="store_true",
        help="for a model file that you trust: load its Lambda layers; the code that it holds runs",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the classes, one a line, for outputs of as many (default: ImageNet's, for a backbone's own)",
    )
    parser.add_argument("--batching", type=Path, metavar="FILE", help="BatchingParameters text proto")
    parser.add_argument("--model-name", metavar="NAME", help="the servable's name (default: the backbone's)")
    parser.add_argument(
        "--model-root", type=Path, default=Path(ExportOptions.model_root), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--version",
        type=int,
        nargs="?",
        const=PROGRAM,
        metavar="N",
        help="(default: the next free one); without N: print the program's own",
    )
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="with --version: write nothing where the version is there and its manifest says what is asked for; refuse "
        "where it says another thing",
    )
    actions = parser.add_argument_group("instead of exporting")
    actions.add_argument("--list", action="store_true", help="list the backbones, or those of BACKBONE,BACKBONE")
    actions.add_argument(
        "--measure", action="store_true", help="with --list: time an image on this machine, seconds for each backbone"
    )
    actions.add_argument("--json", action="store_true", help="with --list: as JSON")
    actions.add_argument("--show-layers", metavar="BACKBONE", help="list all layers, nested ones included")
    actions.add_argument("--rebatch", type=Path, metavar="DIR", help="copy a version with the queues of --batching")
    return parser


def _list(options: argparse.Namespace) -> int:
    try:
        names = options.backbone.split(",") if options.backbone else ()
        chosen = [find_backbone(name) for name in names] or list_backbones()
    except InvalidOptionError as error:
        print(f"featserve-export: {error}", file=sys.stderr)
        return 2
    milliseconds: dict[str, float] = {}
    if options.measure:
        import_tensorflow()
        from ..progress import on_stderr
        from ..speed import measure_each

        with on_stderr() as progress:
            milliseconds.update(measure_each([backbone.name for backbone in chosen], progress=progress))
    print(describe_backbones(chosen, milliseconds, as_json=options.json))
    return 0


def _export_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> ExportOptions:
    if options.backbone is None:
        parser.error("expected a BACKBONE, for example vgg16; --list names them all")
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(ExportOptions)}
    values["batching"] = read_batching(options.batching) if options.batching else None
    return ExportOptions(**values)


def _there(parser: argparse.ArgumentParser, options: argparse.Namespace, asked: ExportOptions) -> Path | None:
    """The version's directory where it is there and may be; a version that may not be there is refused."""
    if not options.if_missing:
        asked.check_version_is_free()
        return None
    if asked.version is None:
        parser.error("--if-missing needs --version N")
    return check_same(asked)


def _describe_or_rebatch(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    from ..saved_model.rebatch import rebatch

    if options.show_layers:
        return describe_layers(
            options.show_layers,
            image_size=options.image_size,
            alpha=options.alpha,
            custom_objects=options.custom_objects,
            allow_lambda=options.allow_lambda,
        )
    if options.batching is None:
        parser.error("--rebatch needs --batching FILE")
    return str(rebatch(options.rebatch, read_batching(options.batching), options.version))


def _export(options: ExportOptions) -> str:
    from ..memory import describe_memory
    from ..pipeline import export_backbone
    from ..progress import on_stderr

    with on_stderr() as progress:
        report = export_backbone(options, progress=progress)
    for warning in report.manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if first := report.manifest["first_layer"]:
        print(f"pixels arrive at {first['name']} as {first['low']:.4g}…{first['high']:.4g}", file=sys.stderr)
    if measured := report.manifest.get("precision_measured"):
        print(f"measured {json.dumps(measured)}: keeping {report.manifest['precision']}", file=sys.stderr)
    if quantization := report.manifest.get("quantization"):
        for warning in quantization["warnings"]:
            print(f"warning: {warning}", file=sys.stderr)
        if quantization["skipped"]:
            print(f"{quantization['skipped']} calibration photos could not be decoded", file=sys.stderr)
    for layer, closeness in report.closeness.items():
        shape = "×".join(map(str, report.manifest["layers"][layer]["shape"]))
        print(
            f"{layer} {shape}: cosine {closeness.cosine:.7f}, largest relative difference "
            f"{closeness.max_relative_difference:.1e} from Keras",
            file=sys.stderr,
        )
    print(describe_memory(report.manifest), file=sys.stderr)
    return str(report.path)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected layer names separated by commas, received {text!r}")
    return names


def _size(text: str) -> tuple[int, int]:
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH or one number of pixels, received {text!r}")
    return sides[0], sides[-1]
