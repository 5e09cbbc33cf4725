"""Runs an exported function as TensorFlow Serving does: from a SavedModel, optimised, with feeds of unchecked shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2


class SavedFunction:
    """One input, one output, through a SavedModel on disk and a session."""

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], spec: tf.TensorSpec, path: Path) -> None:
        module = tf.Module()
        module.serve = tf.function(lambda value: {"output": function(value)}, input_signature=[spec])
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        signature = loaded.signature_def["serving_default"]
        (feed,) = signature.inputs.values()
        (fetch,) = signature.outputs.values()
        self._run = self._session._make_callable_from_options(
            config_pb2.CallableOptions(feed=[feed.name], fetch=[fetch.name])
        )

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """The output, or whatever error the graph gives."""
        (output,) = self._run(value)
        return output

    def close(self) -> None:
        """Frees the session."""
        self._session.close()
