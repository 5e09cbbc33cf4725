"""The options of an export: one record, checked before anything expensive is imported or built."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from .backbones import find_backbone, is_backbone
from .batching import Batching
from .errors import InvalidOptionError, WeightsError
from .labels import read_labels

POOLINGS = ("none", "avg", "max")
#: Those of `keras.utils.load_img`.
INTERPOLATIONS = ("bicubic", "bilinear", "box", "hamming", "lanczos", "nearest")
PRECISIONS = ("float32", "bfloat16", "int8", "auto")
DEVICES = ("cpu", "any")
CONVOLUTIONS = ("direct", "winograd")
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
DEFAULT_MAX_PIXELS = 50_000_000
DEFAULT_CALIBRATION_IMAGES = 64
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ExportOptions:
    """One export.

    Attributes:
        backbone: a name of `list_backbones`, or the path of a `.keras` or `.h5` model or of a SavedModel's directory.
        layers: the activations to output; None for the last feature map, or for all outputs of a model file.
        pooling: `none`, `avg` or `max` over height and width of 4-D outputs.
        weights: `imagenet`, `random` (seeded) or the path of a `.weights.h5`, `.h5` or `.keras` file.
        alpha: width multiplier of the MobileNets.
        image_size: the network's `(height, width)` in pixels; None for its own.
        interpolation: how images are resized to it, as `keras.utils.load_img` does; None for the backbone's own.
        crop_to_aspect_ratio: crop to the aspect ratio first, as `load_img(keep_aspect_ratio=True)`.
        apply_orientation: turn JPEGs as their EXIF orientation says, as `PIL.ImageOps.exif_transpose`; Keras does not.
        precision: `float32`, `bfloat16`, `int8` or `auto`, which measures.
        convolutions: `direct`, or `winograd`, which is faster for VGG-like networks and takes more memory.
        batching: the queue's parameters; None for the default.
        model_name: the servable's name; None for the backbone's.
        model_root: the directory of all models.
        version: None for the next free one.
        max_pixels: images with more are refused before they are decoded.
        preprocess: for a model file: whose `preprocess_input` it wants, or `none`.
        custom_objects: for a model file: a Python file that defines its custom layers and functions. Its code runs.
        allow_lambda: for a model file: load Lambda layers. The code that the file holds runs.
        calibrate: for `int8`, and for `auto` to try it: a directory or glob of photos like those to be served.
        calibration_images: how many of them are used.
        labels: a file with the name of a class on each line, for outputs of as many classes; None for ImageNet's, for
            a backbone's own classifier.
        device: `cpu`, for which servers then optimise the backbone, or `any`, which lets a GPU take it.

    Example:
        >>> ExportOptions("vgg16", layers=("block4_pool", "block5_pool"), pooling="avg").servable_name
        'vgg16'
    """

    backbone: str
    layers: tuple[str, ...] | None = None
    pooling: str = "none"
    weights: str = "imagenet"
    alpha: float | None = None
    image_size: tuple[int, int] | None = None
    interpolation: str | None = None
    crop_to_aspect_ratio: bool = False
    apply_orientation: bool = False
    precision: str = "float32"
    batching: Batching | None = None
    model_name: str | None = None
    model_root: str | Path = "build/models"
    version: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    preprocess: str | None = None
    custom_objects: str | Path | None = None
    allow_lambda: bool = False
    calibrate: str | Path | None = None
    calibration_images: int = DEFAULT_CALIBRATION_IMAGES
    device: str = "cpu"
    labels: str | Path | None = None
    convolutions: str = "direct"

    def __post_init__(self) -> None:
        """Checks each value by itself, and those of them that contradict each other.

        Raises:
            InvalidOptionError: a value cannot be used.
        """
        _one_of("pooling", self.pooling, POOLINGS)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("device", self.device, DEVICES)
        _one_of("convolutions", self.convolutions, CONVOLUTIONS)
        if self.convolutions == "winograd" and (self.precision, self.device) != ("float32", "cpu"):
            raise InvalidOptionError(
                "expected --precision float32 and --device cpu with --convolutions winograd, received "
                f"{self.precision} and {self.device}: another precision or a GPU has faster convolutions of its own"
            )
        if self.interpolation is not None:
            _one_of("interpolation", self.interpolation, INTERPOLATIONS)
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))
        if len(set(self.layers or ())) != len(self.layers or ()):
            raise InvalidOptionError(f"expected each layer once, received {','.join(self.layers or ())}")
        if self.version is not None and not 1 <= self.version < 2**63:
            raise InvalidOptionError(f"expected a version from 1, received {self.version}")
        if not 1 <= self.max_pixels < 2**63:
            raise InvalidOptionError(f"expected --max-pixels from 1 to {2**63 - 1}, received {self.max_pixels}")
        if self.image_size is not None and min(self.image_size) < 1:
            height, width = self.image_size
            raise InvalidOptionError(f"expected an image size of at least 1x1, received {height}x{width}")
        if self.is_model_file:
            self._check_model_file()
        else:
            self._check_backbone()
        if not _MODEL_NAME.fullmatch(self.servable_name):
            raise InvalidOptionError(
                f"expected a model name of letters, digits, '.', '_' and '-', received {self.servable_name!r}; "
                "choose one with --model-name"
            )

    @property
    def is_model_file(self) -> bool:
        """Whether the network comes from a file or directory instead of the table."""
        path = Path(self.backbone)
        return path.suffix in MODEL_SUFFIXES or (path.exists() and not is_backbone(self.backbone))

    @property
    def servable_name(self) -> str:
        """The name under which the model is served."""
        if self.model_name is not None:
            return self.model_name
        return Path(self.backbone).stem if self.is_model_file else find_backbone(self.backbone).name

    @property
    def model_directory(self) -> Path:
        """The directory of the model's versions."""
        return Path(self.model_root) / self.servable_name

    def check_version_is_free(self) -> None:
        """Refuses a version that exists.

        Raises:
            InvalidOptionError: the version's directory is there.
        """
        if self.version is not None:
            check_free(self.model_directory / str(self.version))

    def check_files(self) -> None:
        """Refuses files that are not there, before the minutes that it takes to get to them.

        Raises:
            InvalidOptionError: the file of labels cannot be read, or there is no photo to calibrate with.
            WeightsError: the file of the weights is not there.
        """
        if self.weights not in ("imagenet", "random") and not Path(self.weights).exists():
            raise WeightsError(
                f"expected --weights imagenet, random or a file, received {self.weights!r}, which is not there"
            )
        if self.labels is not None:
            read_labels(self.labels)
        if self.calibrate is not None and not _has_files(self.calibrate):
            raise InvalidOptionError(
                f"expected a directory or glob of photos with --calibrate, {self.calibrate} has none; give about 64 "
                "photos like those that will be served"
            )

    def _check_backbone(self) -> None:
        backbone = find_backbone(self.backbone)
        if self.preprocess is not None:
            raise InvalidOptionError(
                f"--preprocess is for a model of your own; {backbone.name} comes with {backbone.preprocessing}"
            )
        if self.custom_objects is not None or self.allow_lambda:
            raise InvalidOptionError(
                f"--custom-objects and --allow-lambda are for a model of your own; {backbone.name} needs neither"
            )
        if self.alpha is not None and not backbone.has_alpha:
            raise InvalidOptionError(f"--alpha is for the MobileNets; {backbone.name} has one width")

    def _check_model_file(self) -> None:
        if self.weights != "imagenet" or self.alpha is not None:
            raise InvalidOptionError(f"--weights and --alpha are for backbones; {self.backbone} comes with its own")
        if self.preprocess is None:
            raise InvalidOptionError(
                f"expected --preprocess with {self.backbone}: the backbone whose preprocess_input it was trained with "
                "(efficientnet_lite0, mobilenet_v2, vgg16, …), or none where it preprocesses itself"
            )
        if self.preprocess != "none":
            find_backbone(self.preprocess)


def check_free(directory: Path) -> None:
    """Refuses a version that exists.

    Raises:
        InvalidOptionError: `directory` is there.
    """
    if directory.exists():
        raise InvalidOptionError(
            f"expected a version that does not exist, received {directory.name}, which is in {directory.parent}; "
            "leave --version out for the next free one, or delete that directory"
        )


def _has_files(source: str | Path) -> bool:
    """Whether there is anything in a directory, or fits a glob."""
    inside = Path(source).rglob("*") if Path(source).is_dir() else glob.iglob(str(source), recursive=True)
    return next(iter(inside), None) is not None


def _one_of(name: str, received: str, expected: tuple[str, ...]) -> None:
    if received not in expected:
        raise InvalidOptionError(f"expected {name} {', '.join(expected)}, received {received!r}")
