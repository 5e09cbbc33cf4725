"""Figures that help to choose a backbone: how well it classifies, and how much it computes.

Top-1 is the share of ImageNet's validation images that the network with its classifier names rightly, in percent, as
its makers evaluate it, with pixels resized in their way.

Reference:
    https://keras.io/api/applications for the networks of Keras; but for MobileNetV3, the table in the source of
    `keras.applications`; for ConvNeXt, "A ConvNet for the 2020s" (arXiv:2201.03545): tiny and small trained on
    ImageNet-1K, the others on ImageNet-22K before, all at 224 pixels; and for EfficientNet-Lite0, the README of
    tensorflow/tpu, models/official/efficientnet/lite.
"""

from __future__ import annotations

from typing import NamedTuple


class Figures(NamedTuple):
    """The figures of one backbone.

    Attributes:
        top1: of ImageNet, in percent.
        gflops: floating-point operations of the feature maps of one image, in 1e9; a multiplication and an addition are
            two. Counted by TensorFlow's profiler, at the default size.
    """

    top1: float
    gflops: float


FIGURES = {
    "efficientnet_lite0": Figures(75.1, 0.78),
    "convnext_base": Figures(85.8, 30.42),
    "convnext_large": Figures(86.6, 68.28),
    "convnext_small": Figures(83.1, 17.15),
    "convnext_tiny": Figures(82.1, 8.78),
    "convnext_xlarge": Figures(87.0, 121.25),
    "densenet121": Figures(75.0, 5.70),
    "densenet169": Figures(76.2, 6.76),
    "densenet201": Figures(77.3, 8.63),
    "efficientnet_b0": Figures(77.1, 0.80),
    "efficientnet_b1": Figures(79.1, 1.42),
    "efficientnet_b2": Figures(80.1, 2.05),
    "efficientnet_b3": Figures(81.6, 3.76),
    "efficientnet_b4": Figures(82.9, 9.02),
    "efficientnet_b5": Figures(83.6, 21.00),
    "efficientnet_b6": Figures(84.0, 38.92),
    "efficientnet_b7": Figures(84.3, 76.86),
    "efficientnet_v2_b0": Figures(78.7, 1.46),
    "efficientnet_v2_b1": Figures(79.8, 2.42),
    "efficientnet_v2_b2": Figures(80.5, 3.44),
    "efficientnet_v2_b3": Figures(82.0, 6.09),
    "efficientnet_v2_l": Figures(85.7, 112.87),
    "efficientnet_v2_m": Figures(85.3, 49.57),
    "efficientnet_v2_s": Figures(83.9, 16.89),
    "inception_resnet_v2": Figures(80.3, 26.38),
    "inception_v3": Figures(77.9, 11.46),
    "mobilenet": Figures(70.4, 1.15),
    "mobilenet_v2": Figures(71.3, 0.61),
    "mobilenet_v3_large": Figures(75.6, 0.44),
    "mobilenet_v3_small": Figures(68.1, 0.12),
    "nasnet_large": Figures(82.5, 47.79),
    "nasnet_mobile": Figures(74.4, 1.15),
    "resnet101": Figures(76.4, 15.19),
    "resnet101_v2": Figures(77.2, 14.43),
    "resnet152": Figures(76.6, 22.64),
    "resnet152_v2": Figures(78.0, 21.88),
    "resnet50": Figures(74.9, 7.75),
    "resnet50_v2": Figures(76.0, 6.99),
    "vgg16": Figures(71.3, 30.71),
    "vgg19": Figures(71.3, 39.04),
    "xception": Figures(79.0, 16.77),
}
