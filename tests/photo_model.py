"""A SavedModel that is small, takes image files, and names its classes, as an export does."""

import json
import warnings
from pathlib import Path
from typing import Any

NAMES = ["red", "green", "blue"]
MANIFEST: dict[str, Any] = {
    "schema": 1,
    "backbone": "thumbnail",
    "precision": "float32",
    "layers": {"grid": {"shape": [4, 4, 3], "dtype": "float32"}, "scores": {"shape": [3], "dtype": "float32"}},
    "preprocessing": {
        "image_size": [4, 4],
        "interpolation": "bilinear",
        "crop_to_aspect_ratio": False,
        "max_pixels": 50_000_000,
    },
    "labels": {"scores": NAMES},
}


def save_photo_model(path: Path, version: int = 1) -> Path:
    """Writes `path/VERSION`: layer `grid` is a thumbnail plus the version, layer `scores` the share of each color."""
    import tensorflow as tf

    class Thumbnail(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def encoded(self, image_bytes):
            def one(data):
                return tf.image.resize(tf.io.decode_jpeg(data, channels=3), (4, 4))

            grid = tf.ensure_shape(tf.map_fn(one, image_bytes, fn_output_signature=tf.float32), (None, 4, 4, 3))
            colors = tf.reduce_mean(grid, (1, 2)) + 1e-6
            return {"grid": grid + float(version), "scores": colors / tf.reduce_sum(colors, -1, keepdims=True)}

        @tf.function(input_signature=[])
        def manifest(self):
            return {"manifest": tf.constant(json.dumps(MANIFEST))}

    model = Thumbnail()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signatures = {"encoded": model.encoded, "manifest": model.manifest}
        tf.saved_model.save(model, str(path / str(version)), signatures=signatures)
    return path / str(version)
