"""Whole models that Keras 2 wrote as .h5: they load, and predict what they predicted there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from featserve_export import ExportOptions, WeightsError
from featserve_export.sources.keras_file import load_keras_file
from featserve_export.sources.load import load_live_model

WRITE = """
import sys
import numpy as np, tensorflow as tf, tf_keras as keras
from tf_keras import applications, layers

folder = sys.argv[1]

def write(name, model):
    model.save(f"{folder}/{name}.h5")
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)
    np.savez(f"{folder}/{name}.npz", images=images, expected=model.predict(images, verbose=0))

def base(**options):
    return applications.MobileNetV2(alpha=0.35, weights=None, input_shape=(32, 32, 3), include_top=False, **options)

def pixels():
    return keras.Input((32, 32, 3))

write("mobilenet", applications.MobileNet(alpha=0.25, weights=None, input_shape=(32, 32, 3), classes=5))
write("mobilenet_v3", applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3), classes=5))
write("xception", applications.Xception(weights=None, input_shape=(71, 71, 3), include_top=False))
scaled = layers.Rescaling(1 / 255, input_shape=(32, 32, 3))
write("sequential", keras.Sequential([scaled, base(pooling="avg"), layers.Dense(3)]))
images = pixels()
x = base()(applications.mobilenet_v2.preprocess_input(layers.RandomFlip()(images)), training=False)
write("transfer", keras.Model(images, layers.Dense(3)(layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x)))))
images = pixels()
x = applications.resnet50.preprocess_input(images)
write("reversed_channels", keras.Model(images, layers.Conv2D(4, 3)(x)))
images = pixels()
x = layers.Conv2D(4, 3, name="a/b")(images)
y = 2.0 - tf.nn.relu6(x) * x
mean = tf.reduce_mean(tf.concat([x, y], axis=-1), axis=[1, 2])
write("operations", keras.Model(images, tf.nn.l2_normalize(mean, axis=-1)))
keras.Model(images, tf.io.encode_base64(tf.strings.as_string(x))).save(f"{folder}/hostile.h5")
"""
NAMES = ["mobilenet", "mobilenet_v3", "xception", "sequential", "transfer", "reversed_channels", "operations"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pytest.importorskip("tf_keras")
    folder = tmp_path_factory.mktemp("keras2")
    script = folder / "write.py"
    script.write_text(WRITE)
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_what_it_predicted_in_keras_2(written, name):
    model = load_keras_file(written / f"{name}.h5")
    recorded = np.load(written / f"{name}.npz")
    received = model.predict(recorded["images"], verbose=0)
    scale = np.abs(recorded["expected"]).max()
    np.testing.assert_allclose(received, recorded["expected"], rtol=1e-4, atol=1e-5 * scale)


def test_it_is_loaded_as_a_network_of_ones_own(written):
    live = load_live_model(ExportOptions(str(written / "transfer.h5"), preprocess="none"))
    assert live.layers == ("dense_1",) or live.layers[0].startswith("dense")


def test_its_weights_serve_the_backbone(written):
    options = ExportOptions("mobilenet", alpha=0.25, image_size=(32, 32), weights=str(written / "mobilenet.h5"))
    whole = load_keras_file(written / "mobilenet.h5").get_weights()
    for received, expected in zip(load_live_model(options).model.get_weights(), whole, strict=False):
        np.testing.assert_array_equal(received, expected)


def test_an_operation_that_may_do_anything_is_not_called(written):
    with pytest.raises(WeightsError, match=r"tf\.\S+, which no file may call here"):
        load_keras_file(Path(written) / "hostile.h5")
