"""The memory that a version needs in a server: an estimate for the manifest, and the rule that limits follow from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from .graph.freeze import INPUT_NAME, FrozenGraph
from .manifest import Manifest

#: TensorFlow Serving without a model.
SERVER_MIB = 350
#: The embedded server without a model.
EMBEDDED_SERVER_MIB = 400
#: Two that serve and a third that is loaded before the oldest goes.
VERSIONS_DURING_SWAP = 3
# Measured (tests/load/RESULTS.md): a version's session, and the optimised graph and kernels of each signature that was
# called.
_SESSION_MIB = 100
_SIGNATURE_MIB = 30
# A kernel's scratch space beside its operands.
_SCRATCH = 1.5
_MIB = 1 << 20


def estimate(graphs: Sequence[FrozenGraph], precision: str, signatures: int) -> dict[str, float]:
    """Estimates what a version needs, for the manifest's entry `memory`.

    Args:
        graphs: all of the version; weights of the same name are the same.
        precision: `float32`, `bfloat16` or `int8`.
        signatures: how many it has.

    Returns:
        `version_mib`, what a loaded version takes, and `image_mib`, what each image of a running batch takes.
    """
    weights = {name: value.nbytes for graph in graphs for name, value in graph.weights.items()}
    # Eight-bit kernels keep their weights rearranged, for each signature that was called.
    copies = 1 + signatures if precision == "int8" else 1
    return {
        "version_mib": math.ceil(sum(weights.values()) * copies / _MIB + _SESSION_MIB + _SIGNATURE_MIB * signatures),
        "image_mib": round(_SCRATCH * max(map(_working_set, graphs)) / _MIB, 1),
    }


def needed_mib(manifest: Manifest, *, server: int = SERVER_MIB, versions: int = VERSIONS_DURING_SWAP) -> int:
    """The memory that a server of one model needs: itself, its versions and the batches that run at once.

    Args:
        manifest: of the version.
        server: without a model, in MiB.
        versions: that are loaded at once.

    Returns:
        MiB.
    """
    memory, batching = manifest["memory"], manifest["batching"]
    images = batching["num_batch_threads"] * batching["max_batch_size"]
    return int(math.ceil(server + versions * memory["version_mib"] + images * memory["image_mib"]))


def describe_memory(manifest: Manifest) -> str:
    """The rule with this version's figures, for people."""
    memory, batching = manifest["memory"], manifest["batching"]
    images = batching["num_batch_threads"] * batching["max_batch_size"]
    return (
        f"memory: about {memory['version_mib']} MiB a version and {math.ceil(images * memory['image_mib'])} MiB for "
        f"{images} images in batches; a server of {VERSIONS_DURING_SWAP} versions during a swap needs "
        f"{needed_mib(manifest)} MiB ({needed_mib(manifest, server=EMBEDDED_SERVER_MIB)} MiB embedded)"
    )


def _working_set(graph: FrozenGraph) -> int:
    """Bytes of the operation whose inputs and outputs are largest, for one image."""
    with tf.Graph().as_default() as imported:
        images = tf.compat.v1.placeholder(tf.float32, (1, *graph.image_size, 3))
        tf.graph_util.import_graph_def(graph.graph_def, input_map={f"{INPUT_NAME}:0": images}, name="")
    return max(
        sum(_bytes(tensor) for tensor in (*operation.inputs, *operation.outputs) if _is_activation(tensor, graph))
        for operation in imported.get_operations()
    )


def _is_activation(tensor: tf.Tensor, graph: FrozenGraph) -> bool:
    return tensor.op.type != "Const" and tensor.op.name not in graph.weights


def _bytes(tensor: tf.Tensor) -> int:
    elements = tensor.shape.num_elements()
    return 0 if elements is None else int(elements) * int(tensor.dtype.size)
