"""Parts of a graph that a server builds when they are first needed."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import tensorflow as tf

_P = ParamSpec("_P")
_R = TypeVar("_R")


def apart(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes a function of the graph that is never inlined.

    A server keeps some 5 KiB for each operation of each signature, and as much again is left over from optimising it.
    Such a function is built when it is first called, once for all its calls in a signature; until then it is one
    operation.

    Args:
        function: its arguments are tensors, and Python values that it is traced for.

    Returns:
        The same, to be called while a graph is traced.
    """
    traced: Callable[_P, _R] = tf.function(function, autograph=False, experimental_attributes={"_noinline": True})
    return traced
