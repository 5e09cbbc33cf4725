"""Where the backbone runs, and that a server's optimiser then fuses it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export import ExportOptions, export_backbone
from featserve_export.errors import InvalidOptionError
from tensorflow.core.protobuf import config_pb2

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def executed(directory):
    """The operations that a request of one image runs."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        signature = loaded.signature_def["float_images"]
        (feed,), (fetch,) = signature.inputs.values(), signature.outputs.values()
        metadata = config_pb2.RunMetadata()
        session.run(
            fetch.name,
            {feed.name: np.zeros((1, 16, 16, 3), np.float32)},
            options=config_pb2.RunOptions(trace_level=config_pb2.RunOptions.SOFTWARE_TRACE),
            run_metadata=metadata,
        )
    nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
    return {node.timeline_label.partition("=")[2].partition("(")[0].strip() for node in nodes}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    images = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(4, 3, bias_initializer="ones", activation="relu", name="features")(images)
    path = tmp_path_factory.mktemp("device") / "small.keras"
    keras.Model(images, features).save(path)
    return path


@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("any", False)])
def test_activations_are_fused_on_a_cpu(model, tmp_path, device, fused):
    report = export_backbone(ExportOptions(str(model), preprocess="none", device=device, model_root=tmp_path))
    assert report.manifest["device"] == device
    assert ("Relu" not in executed(report.path)) == fused


def test_an_unknown_device(tmp_path):
    with pytest.raises(InvalidOptionError, match="expected device cpu, any, received 'gpu'"):
        export_backbone(ExportOptions("mobilenet", device="gpu", model_root=tmp_path))
    assert not list(tmp_path.iterdir())
