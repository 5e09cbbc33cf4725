"""Parts of a graph that a server builds when they are first needed."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Optimizing such a part would take most of the first call that needs it, and gain nothing later.
_AS_IT_STANDS = tf.compat.v1.ConfigProto()
_AS_IT_STANDS.graph_options.rewrite_options.disable_meta_optimizer = True


def apart(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Makes a function of the graph that is never inlined, nor optimized.

    A server keeps some 5 KiB for each operation of each signature, and as much again is left over from optimising it.
    Such a function is built when it is first called, once for all its calls in a signature; until then it is one
    operation.

    Args:
        function: its arguments are tensors, and Python values that it is traced for; its result is one tensor.

    Returns:
        The same, to be called while a graph is traced.
    """
    traced = tf.function(function, autograph=False, experimental_attributes={"_noinline": True})

    @functools.wraps(function)
    def call(*arguments: Any) -> tf.Tensor:
        tensors = [argument for argument in arguments if tf.is_tensor(argument)]
        specifications = [
            tf.TensorSpec(argument.shape, argument.dtype) if tf.is_tensor(argument) else argument
            for argument in arguments
        ]
        concrete = traced.get_concrete_function(*specifications)
        [output] = concrete.outputs
        [result] = tf.raw_ops.StatefulPartitionedCall(
            args=tensors, Tout=[output.dtype], f=concrete, config_proto=_AS_IT_STANDS.SerializeToString()
        )
        return tf.ensure_shape(result, output.shape)

    return call
