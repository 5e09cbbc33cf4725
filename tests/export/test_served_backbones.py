"""A photo through export, server and client gives what the Keras script gives."""

from pathlib import Path

import keras
import numpy as np
import pytest
import skimage
from featserve_client import FeatureClient
from featserve_export import ExportOptions, export_backbone
from featserve_export.sources.load import load_live_model
from featserve_serving import create_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
PHOTOS = Path(skimage.__file__).parent / "data"


@pytest.mark.parametrize(
    ("name", "side", "shape"),
    [
        ("vgg16", 224, (1, 7, 7, 512)),
        ("resnet50", 96, (1, 3, 3, 2048)),
        ("resnet50_v2", 96, (1, 3, 3, 2048)),
        ("inception_v3", 96, (1, 1, 1, 2048)),
        ("mobilenet_v2", 96, (1, 3, 3, 1280)),
        ("efficientnet_b0", 96, (1, 3, 3, 1280)),
        ("densenet121", 96, (1, 3, 3, 1024)),
        ("convnext_tiny", 96, (1, 3, 3, 768)),
        ("efficientnet_lite0", 96, (1, 3, 3, 1280)),
    ],
)
def test_a_served_backbone_equals_the_keras_script(tmp_path, name, side, shape):
    photo = PHOTOS / "chelsea.png"
    export_backbone(ExportOptions(name, weights="random", image_size=(side, side), model_root=tmp_path))
    live = load_live_model(ExportOptions(name, weights="random", image_size=(side, side)))
    image = keras.utils.load_img(photo, target_size=(side, side), interpolation=live.interpolation)
    expected = live.model.predict(np.asarray(live.preprocess(np.asarray(image, np.float32)[None])), verbose=0)
    server = create_server(model_root=tmp_path, warmup=False)
    with server, FeatureClient(f"127.0.0.1:{server.port}", model=name) as client:
        (received,) = client.extract(photo).values()
    assert received.shape == expected.shape == shape
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
