"""A model that batches in its graph, as the exporter's do, and that can be kept busy."""

import warnings
from pathlib import Path

#: Signatures: `serving_default` adds the number of the version to `x`, `(N,)` float32; `heavy` computes for a while.
MAX_BATCH = 4


def save(directory: Path) -> None:
    """Writes a version; the directory's name is its number."""
    import tensorflow as tf

    class Small(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def add(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            @tf.nondifferentiable_batch_function(
                num_batch_threads=2, max_batch_size=MAX_BATCH, batch_timeout_micros=0, allowed_batch_sizes=[1, 2, 4]
            )
            def batched(y: tf.Tensor) -> tf.Tensor:
                return y + float(directory.name)

            return {"y": batched(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def heavy(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            y = tf.fill([500, 500], x[0])
            for _ in range(16):
                y = tf.linalg.matmul(y, y) * 1e-3
            return {"y": tf.reduce_sum(y)}

    module = Small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signatures = {"serving_default": module.add, "heavy": module.heavy}
        tf.saved_model.save(module, str(directory), signatures=signatures)
