"""The shared library, its functions, and the errors that they report."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from ..errors import SetupError

_Function = tuple[Any, Sequence[Any]]

#: Functions that compute or read files. The GIL is free meanwhile.
_LONG: dict[str, _Function] = {
    "TF_NewDeprecatedSession": (c_void_p, [c_void_p, c_void_p]),
    "TF_CloseDeprecatedSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteDeprecatedSession": (None, [c_void_p, c_void_p]),
    "TF_ExtendGraph": (None, [c_void_p, c_char_p, c_size_t, c_void_p]),
    "TF_Run": (
        None,
        [c_void_p, c_void_p]
        + [POINTER(c_char_p), POINTER(c_void_p), c_int] * 2
        + [POINTER(c_char_p), c_int, c_void_p, c_void_p],
    ),
    "TF_TensorFromProto": (None, [c_void_p, c_void_p, c_void_p]),
}

#: Functions that take less time than letting go of the GIL, after which a busy server gets it back milliseconds later.
_SHORT: dict[str, _Function] = {
    "TF_NewStatus": (c_void_p, []),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_SetConfig": (None, [c_void_p, c_char_p, c_size_t, c_void_p]),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_TensorByteSize": (c_size_t, [c_void_p]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
}


class OpError(Exception):
    """TensorFlow refuses or fails.

    Attributes:
        code: number in `google.rpc.Code`.
        message: TensorFlow's own text.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Library:
    """The functions of the C API, as attributes.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
        SetupError: this TensorFlow has no such library.
    """

    def __init__(self) -> None:
        path = _path()
        for opened, functions in ((ctypes.CDLL(path), _LONG), (ctypes.PyDLL(path), _SHORT)):
            for name, (result, arguments) in functions.items():
                function = getattr(opened, name, None)
                if function is None:
                    raise SetupError(
                        f"{path}: expected the function {name}, which this TensorFlow does not have: "
                        "pip install --force-reinstall 'tensorflow>=2.21'"
                    )
                function.restype, function.argtypes = result, arguments
                setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the server calls no {name}")


@functools.cache
def library() -> Library:
    """Returns the library, which the first call loads."""
    return Library()


@contextlib.contextmanager
def checked() -> Iterator[c_void_p]:
    """Lends a status to a call of the library.

    Raises:
        OpError: the call has put an error into it.
    """
    c = library()
    status = c_void_p(c.TF_NewStatus())
    try:
        yield status
        if code := c.TF_GetCode(status):
            raise OpError(code, c.TF_Message(status).decode(errors="replace"))
    finally:
        c.TF_DeleteStatus(status)


def _path() -> str:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    folder = Path(spec.origin).parent
    found = sorted(folder.glob("libtensorflow_cc.*"))
    if not found:
        raise SetupError(
            f"{folder}: expected libtensorflow_cc, received a TensorFlow without it: "
            "pip install --force-reinstall 'tensorflow>=2.21'"
        )
    return str(found[0])
