"""Winograd's convolutions beside Conv2D's."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export import ExportOptions, InvalidOptionError, export_backbone
from featserve_export.graph.winograd import convolve, transformed

SIZE = 28


@pytest.mark.parametrize(
    ("size", "padding"),
    [((4, 4), "SAME"), ((5, 9), "SAME"), ((28, 30), "SAME"), ((3, 3), "SAME"), ((7, 1), "SAME")]
    + [((4, 4), "VALID"), ((5, 9), "VALID"), ((28, 30), "VALID"), ((3, 3), "VALID")],
)
def test_it_gives_what_conv2d_gives(size: tuple[int, int], padding: str) -> None:
    random = np.random.default_rng(0)
    images = random.normal(size=(3, *size, 16)).astype(np.float32)
    kernel = random.normal(size=(3, 3, 16, 8)).astype(np.float32)
    expected = tf.nn.conv2d(images, kernel, 1, padding).numpy()

    @tf.function(input_signature=[tf.TensorSpec((None, *size, 16))])
    def winograd(images: tf.Tensor) -> tf.Tensor:
        return convolve(images, tf.constant(transformed(kernel)), int(padding == "SAME"))

    for count in (0, 1, 3):
        received = winograd(tf.constant(images[:count])).numpy()
        np.testing.assert_allclose(received, expected[:count], rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def network(*layers: keras.layers.Layer, channels: int = 256) -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    tensor = keras.layers.Conv2D(channels, 1, activation="relu", name="wide")(images)
    for layer in layers:
        tensor = layer(tensor)
    return keras.Model(images, tensor)


def export(model: keras.Model, folder: Path, convolutions: str, **options: object) -> tuple[object, set[str]]:
    path = folder / "own.keras"
    model.save(path)
    report = export_backbone(
        ExportOptions(
            str(path),
            preprocess="none",
            model_root=folder / "models",
            convolutions=convolutions,
            **options,  # type: ignore[arg-type]
        )
    )
    saved = tf.saved_model.load(str(report.path))
    functions = saved.signatures["float_images"].graph.as_graph_def().library.function
    return report, {node.name for function in functions for node in function.node_def if "winograd" in node.name}


@pytest.mark.long
def test_an_export_computes_so_and_is_proven(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(256, 3, padding="same", activation="relu", name="taken"),
        keras.layers.Conv2D(64, 3, padding="same", name="narrow"),
    ]
    report, nodes = export(network(*layers), tmp_path, "winograd", layers=("taken", "narrow"))
    assert report.manifest["convolutions"] == "winograd"  # type: ignore[attr-defined]
    assert nodes and all("taken" in name for name in nodes), nodes
    assert report.closeness["narrow"].cosine > 0.9999999  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(256, 3, strides=2, padding="same"),
        keras.layers.Conv2D(256, 3, dilation_rate=2, padding="same"),
        keras.layers.Conv2D(256, 5, padding="same"),
        keras.layers.Conv2D(64, 3, padding="same"),
        keras.layers.DepthwiseConv2D(3, padding="same"),
    ],
    ids=["stride", "dilation", "five", "narrow", "depthwise"],
)
def test_a_network_without_such_convolutions_is_refused(tmp_path: Path, layer: keras.layers.Layer) -> None:
    with pytest.raises(InvalidOptionError, match="leave the option out"):
        export(network(layer), tmp_path, "winograd")
    assert not list((tmp_path / "models").rglob("*.pb"))


@pytest.mark.parametrize("other", [{"precision": "int8"}, {"precision": "auto"}, {"device": "any"}])
def test_another_precision_or_device_is_refused(other: dict[str, str]) -> None:
    with pytest.raises(InvalidOptionError, match="expected --precision float32 and --device cpu"):
        ExportOptions("vgg16", convolutions="winograd", **other)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="expected convolutions|direct"):
        ExportOptions("vgg16", convolutions="fft")
