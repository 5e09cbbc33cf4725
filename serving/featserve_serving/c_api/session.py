"""A session: a graph, its resources, and the steps that run on them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from ctypes import c_char_p, c_void_p
from typing import Any

import numpy as np

from .library import checked, library
from .tensor import Tensor


class Session:
    """A `Session` of TensorFlow's C++, which TensorFlow Serving runs too.

    Thread-safe, but for `close`. The first session of a process decides how many threads all of them share.

    Args:
        config: a `ConfigProto`.
    """

    def __init__(self, config: Any) -> None:
        c = library()
        options = c_void_p(c.TF_NewSessionOptions())
        data = config.SerializeToString()
        try:
            with checked() as status:
                c.TF_SetConfig(options, data, len(data), status)
            with checked() as status:
                self._handle = c_void_p(c.TF_NewDeprecatedSession(options, status))
        finally:
            c.TF_DeleteSessionOptions(options)

    def extend(self, graph: Any) -> None:
        """Adds the nodes and functions of a `GraphDef`."""
        data = graph.SerializeToString()
        with checked() as status:
            library().TF_ExtendGraph(self._handle, data, len(data), status)

    def run(
        self, feeds: Mapping[str, np.ndarray[Any, Any]], fetches: Sequence[str], targets: Sequence[str] = ()
    ) -> list[np.ndarray[Any, Any]]:
        """Runs a step and returns the fetched values.

        Args:
            feeds: values by the name of the tensor in the graph.
            fetches: names of tensors.
            targets: names of operations to run besides.

        Raises:
            OpError: TensorFlow refuses the step, or an operation fails.
        """
        tensors = [Tensor.from_array(array) for array in feeds.values()]
        given = (c_void_p * len(tensors))(*[tensor.handle for tensor in tensors])
        received = (c_void_p * len(fetches))()
        with checked() as status:
            library().TF_Run(
                self._handle,
                None,
                _names(tuple(feeds)),
                given,
                len(tensors),
                _names(tuple(fetches)),
                received,
                len(fetches),
                _names(tuple(targets)),
                len(targets),
                None,
                status,
            )
        outputs = [Tensor(handle) for handle in received if handle is not None]
        return [output.array() for output in outputs]

    def close(self) -> None:
        """Gives the memory back. No step may be running."""
        c = library()
        for end in (c.TF_CloseDeprecatedSession, c.TF_DeleteDeprecatedSession):
            with checked() as status:
                end(self._handle, status)


@functools.lru_cache(256)
def _names(names: tuple[str, ...]) -> Any:
    return (c_char_p * len(names))(*[name.encode() for name in names])
