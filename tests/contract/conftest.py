"""The server under test: the embedded one, or any by `--server HOST:PORT --rest HOST:PORT`."""

import warnings
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--server", help="HOST:PORT of the gRPC API of a running server of the tiny model")
    parser.addoption("--rest", help="HOST:PORT of its REST API")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Two versions of the model that the transcripts were recorded with."""
    import tensorflow as tf

    class Tiny(tf.Module):
        def __init__(self, version):
            super().__init__()
            self.half = tf.Variable(0.5)
            self.version = float(version)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def halve(self, x):
            return {"y": x * self.half + 1.0 + self.version}

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
        def channel_mean(self, images):
            return {"mean": tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def length(self, image_bytes):
            return {"length": tf.strings.length(image_bytes)}

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def two(self, x):
            return {"a": x + 1.0, "b": tf.reduce_sum(x, axis=1)}

    base_path = tmp_path_factory.mktemp("models") / "tiny"
    for version in (1, 2):
        module = Tiny(version)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tf.saved_model.save(
                module,
                str(base_path / str(version)),
                signatures={
                    "serving_default": module.halve,
                    "channel_mean": module.channel_mean,
                    "length": module.length,
                    "two": module.two,
                },
            )
    return base_path


@pytest.fixture(scope="session")
def servers(request, tiny_model, tmp_path_factory):
    """`(gRPC address, REST address, base path of the model in the server)`."""
    given, rest = request.config.getoption("--server"), request.config.getoption("--rest")
    if given:
        yield given, rest, "/models/tiny"
        return
    from featserve_serving import create_server

    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{
            name: "tiny" base_path: "{tiny_model}" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
        }} }}"""
    )
    with create_server(model_config_file=config, rest_address="127.0.0.1:0") as server:
        yield f"127.0.0.1:{server.port}", f"127.0.0.1:{server.rest_port}", str(tiny_model)
