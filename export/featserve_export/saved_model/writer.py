"""Writes a SavedModel, and edits one in place: the manifest that it answers and the parameters of its queues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from ..batching import Batching

MANIFEST_NODE = "manifest_json"
REQUEST_LIMIT_NODE = "most_images_of_a_request"
Signatures = dict[str, tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]]


def write(directory: Path, session: tf.compat.v1.Session, signatures: Signatures) -> None:
    """Writes the session's graph and variables.

    Args:
        directory: empty.
        session: its variables have their values.
        signatures: name to inputs and outputs, each a tensor by its key.
    """
    definitions = {
        name: meta_graph_pb2.SignatureDef(
            inputs=_tensor_infos(inputs), outputs=_tensor_infos(outputs), method_name="tensorflow/serving/predict"
        )
        for name, (inputs, outputs) in signatures.items()
    }
    builder = tf.compat.v1.saved_model.Builder(str(directory))
    builder.add_meta_graph_and_variables(session, ["serve"], definitions, strip_default_attrs=True)
    builder.save()


def _tensor_infos(tensors: dict[str, tf.Tensor]) -> dict[str, meta_graph_pb2.TensorInfo]:
    return {
        key: meta_graph_pb2.TensorInfo(
            name=tensor.name, dtype=tensor.dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto()
        )
        for key, tensor in tensors.items()
    }


def rewrite(directory: Path, manifest: str, batching: Batching, queue_prefix: str) -> None:
    """Gives a SavedModel another manifest and other queue parameters, without weights or a trace.

    Args:
        directory: holds `saved_model.pb`.
        manifest: JSON text that the signature `manifest` answers from now on.
        batching: the queues' parameters.
        queue_prefix: the model's name and version; every queue keeps its own name behind it.
    """
    path = directory / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for node in _nodes(saved_model):
        if node.op == "BatchFunction":
            _set_queue(node, batching, queue_prefix)
        elif node.name == MANIFEST_NODE:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(manifest))
        elif node.name == REQUEST_LIMIT_NODE:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(batching.max_request_images))
    path.write_bytes(saved_model.SerializeToString(deterministic=True))


def _nodes(saved_model: saved_model_pb2.SavedModel) -> Iterator[node_def_pb2.NodeDef]:
    for meta_graph in saved_model.meta_graphs:
        yield from meta_graph.graph_def.node
        for function in meta_graph.graph_def.library.function:
            yield from function.node_def


def _set_queue(node: node_def_pb2.NodeDef, batching: Batching, queue_prefix: str) -> None:
    """Writes a queue's parameters into its `BatchFunction` node.

    A queue is found by its name within a server: the function that it feeds is part of the name, for two functions
    behind one queue would swap answers.
    """
    node.attr["shared_name"].s = f"{queue_prefix}/{node.attr['f'].func.name}".encode()
    node.attr["num_batch_threads"].i = batching.num_batch_threads
    node.attr["batch_timeout_micros"].i = batching.batch_timeout_micros
    node.attr["max_enqueued_batches"].i = batching.max_enqueued_batches
    node.attr["allowed_batch_sizes"].list.i[:] = batching.allowed_batch_sizes
