"""The model that the transcripts were recorded with, to serve it anywhere.

    python tests/contract/tiny_model.py /models/tiny > models.config
    tensorflow_model_server --port=8500 --rest_api_port=8501 --model_config_file=models.config \\
        --monitoring_config_file=serving/configs/monitoring.config --allow_version_labels_for_unavailable_models
    pytest tests/contract --server localhost:8500 --rest localhost:8501 --model-path /models/tiny
"""

import sys
import warnings
from pathlib import Path

CONFIG = """model_config_list {{ config {{
  name: "tiny" base_path: "{base_path}" model_platform: "tensorflow"
  model_version_policy {{ all {{}} }}
  version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
}} }}
"""


def save(base_path: Path) -> None:
    """Writes versions 1 and 2."""
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


if __name__ == "__main__":
    save(Path(sys.argv[1]))
    print(CONFIG.format(base_path=Path(sys.argv[1]).absolute()))
