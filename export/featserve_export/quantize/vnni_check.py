"""A check inside the graph that this CPU's eight-bit sums are right.

Without VNNI oneDNN adds products in pairs that saturate at 16 bits: no error, other features. So the graph computes one
sum that saturates there, and fails with a sentence where it comes out wrong.
"""

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from .rounding import WEIGHT_LEVELS
from .writer import GraphWriter

GUARD = "int8/guard"
SENTENCE = (
    "this model computes in eight bits and needs a CPU with VNNI (AVX512_VNNI, AVX_VNNI or AMX); this CPU, or "
    "ONEDNN_MAX_CPU_ISA, gives wrong sums: export with --precision float32"
)
_CHANNELS = 16
_MOST = 255


def add_guard(writer: GraphWriter, images: str) -> str:
    """Adds the check and returns the node to wait for.

    Args:
        writer: of the graph.
        images: the placeholder. The sum depends on how many images there are, or else it would be computed once, on
            another machine, when the graph is optimised.
    """
    one = writer.constant(f"{GUARD}/1", [1], tf.int32)
    none = writer.constant(f"{GUARD}/0", [0], tf.int32)
    shape = writer.add(f"{GUARD}/shape", "Shape", [images], T=tf.float32, out_type=tf.int32)
    count = writer.add(f"{GUARD}/count", "StridedSlice", [shape, none, one, one], T=tf.int32, Index=tf.int32)
    single = writer.add(f"{GUARD}/single", "Minimum", [count, one], T=tf.int32)
    rest = writer.constant(f"{GUARD}/rest", [1, 1, _CHANNELS], tf.int32)
    axis = writer.constant(f"{GUARD}/axis", 0, tf.int32)
    size = writer.add(f"{GUARD}/size", "ConcatV2", [single, rest, axis], N=2, T=tf.int32, Tidx=tf.int32)
    most = writer.constant(f"{GUARD}/most", _MOST, tf.uint8)
    pixels = writer.add(f"{GUARD}/pixels", "Fill", [size, most], T=tf.uint8, index_type=tf.int32)
    eight = writer.add(f"{GUARD}/eight", "Bitcast", [pixels], T=tf.uint8, type=tf.quint8)
    kernel = writer.constant(f"{GUARD}/kernel", np.full((1, 1, _CHANNELS, _CHANNELS), WEIGHT_LEVELS), tf.qint8)
    bias = writer.constant(f"{GUARD}/bias", np.zeros(_CHANNELS), tf.float32)
    magnitude = writer.constant(f"{GUARD}/magnitude", np.ones(_CHANNELS), tf.float32)
    bounds = [*writer.bounds(), magnitude, magnitude, *writer.bounds(float(_CHANNELS))]
    product = writer.convolve(f"{GUARD}/sum", [eight, kernel, bias], bounds)
    sums = writer.add(f"{GUARD}/sums", "Bitcast", [product], T=tf.quint8, type=tf.uint8)
    equal = writer.add(f"{GUARD}/equal", "Equal", [sums, most], T=tf.uint8)
    axes = writer.constant(f"{GUARD}/axes", np.arange(4), tf.int32)
    right = writer.add(f"{GUARD}/right", "All", [equal, axes], Tidx=tf.int32, keep_dims=False)
    sentence = writer.constant(f"{GUARD}/sentence", np.array(SENTENCE, object), tf.string)
    return writer.add(GUARD, "Assert", [right, sentence], T=[tf.string.as_datatype_enum], summarize=1)


def computes_eight_bits() -> bool:
    """Whether this machine's oneDNN gets eight-bit sums right: asked of its own kernel, not of the CPU's flags."""
    writer = GraphWriter(graph_pb2.GraphDef())
    images = writer.add("images", "Placeholder", [], dtype=tf.float32)
    add_guard(writer, images)
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(writer.graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        try:
            session.run(graph.get_operation_by_name(GUARD), {f"{images}:0": np.zeros((1, 1), np.float32)})
        except (tf.errors.InvalidArgumentError, tf.errors.AbortedError, tf.errors.NotFoundError):
            return False
    return True
