"""Weights: the same random ones in every process, and Keras' own from its cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from featserve_export import ExportOptions
from featserve_export.sources.load import load_live_model

KERAS_HOME = Path(os.environ.get("KERAS_HOME", Path(__file__).parents[4] / "shared" / "keras-home"))
FILES = ("mobilenet_2_5_224_tf.h5", "mobilenet_2_5_224_tf_no_top.h5")
HASH = (
    "from featserve_export import ExportOptions; from featserve_export.sources.load import load_live_model; "
    "options = ExportOptions('mobilenet', alpha=0.25, image_size=(32, 32), weights='random'); "
    "print(load_live_model(options).weights['sha256'])"
)
SERVED = """
import sys
import keras, numpy as np
from pathlib import Path
from featserve_export import ExportOptions, export_backbone

root = Path(sys.argv[1])
report = export_backbone(
    ExportOptions("mobilenet", alpha=0.25, layers=["conv_pw_13_relu", "predictions"], model_root=root)
)
assert report.manifest["weights"]["source"] == "imagenet"
assert report.manifest["layers"] == {
    "conv_pw_13_relu": {"shape": [7, 7, 256], "source": "layer conv_pw_13_relu"},
    "predictions": {"shape": [1000], "source": "layer predictions"},
}
assert report.manifest["alpha"] == 0.25 and not report.manifest["warnings"]
assert report.manifest["first_layer"] == {"name": "conv1", "low": -1.0, "high": 1.0}
assert all(closeness.cosine > 0.99999 for closeness in report.closeness.values())
golden = np.load(report.path / "assets.extra/golden.npz")
keras_model = keras.applications.MobileNet(alpha=0.25, weights="imagenet")
images = keras.applications.mobilenet.preprocess_input(golden["float_images"].copy())
expected = keras_model.predict(images, verbose=0)
np.testing.assert_allclose(golden["float_images:predictions"], expected, atol=1e-5)
assert expected[0].argmax() in range(281, 288), "a cat"
print("served")
"""


def run(script, *arguments, **environment):
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.split()[-1]


def test_random_weights_are_the_same_in_every_process():
    live = load_live_model(ExportOptions("mobilenet", alpha=0.25, image_size=(32, 32), weights="random"))
    assert run(HASH, PYTHONHASHSEED="1") == live.weights["sha256"]


@pytest.mark.skipif(
    not all((KERAS_HOME / "models" / name).is_file() for name in FILES), reason="no MobileNet weights in KERAS_HOME"
)
def test_mobilenet_with_real_weights_equals_keras(tmp_path):
    assert run(SERVED, str(tmp_path), KERAS_HOME=str(KERAS_HOME)) == "served"
