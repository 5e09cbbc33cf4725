"""A SavedModel in a process that holds TensorFlow's C library and nothing else: what a model itself needs.

Reads one JSON job from standard input and prints one JSON object: mebibytes at each stage, and the CPU time of the
requests.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_STRING = 7
_DTYPES = {"float32": 1, "uint8": 4}
_STRING_BYTES = 24
#: An allocator that gives memory back does so a while later.
_RETURN_S = 3


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


_C = ctypes.CDLL(None)
_C.mallinfo2.restype = _MallInfo


class Library:
    """TensorFlow's C API out of the wheel, without importing the package."""

    def __init__(self) -> None:
        spec = find_spec("tensorflow")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("TensorFlow is not installed; pip install 'featserve[serving]'")
        folder = Path(spec.origin).parent
        ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
        self.c = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)
        for name, result, arguments in (
            ("TF_NewStatus", c_void_p, []),
            ("TF_DeleteStatus", None, [c_void_p]),
            ("TF_GetCode", c_int, [c_void_p]),
            ("TF_Message", c_char_p, [c_void_p]),
            ("TF_NewGraph", c_void_p, []),
            ("TF_DeleteGraph", None, [c_void_p]),
            ("TF_NewSessionOptions", c_void_p, []),
            ("TF_DeleteSessionOptions", None, [c_void_p]),
            ("TF_NewSession", c_void_p, [c_void_p] * 3),
            ("TF_CloseSession", None, [c_void_p] * 2),
            ("TF_DeleteSession", None, [c_void_p] * 2),
            ("TF_NewOperation", c_void_p, [c_void_p, c_char_p, c_char_p]),
            ("TF_FinishOperation", c_void_p, [c_void_p] * 2),
            ("TF_GraphOperationByName", c_void_p, [c_void_p, c_char_p]),
            ("TF_AllocateTensor", c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
            ("TF_TensorData", c_void_p, [c_void_p]),
            ("TF_DeleteTensor", None, [c_void_p]),
            ("TF_StringInit", None, [c_void_p]),
            ("TF_StringCopy", None, [c_void_p, c_char_p, c_size_t]),
            (
                "TF_LoadSessionFromSavedModel",
                c_void_p,
                [c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, c_void_p, c_void_p],
            ),
            (
                "TF_SessionRun",
                None,
                [c_void_p, c_void_p]
                + [POINTER(_Output), POINTER(c_void_p), c_int] * 2
                + [POINTER(c_void_p), c_int, c_void_p, c_void_p],
            ),
        ):
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments

    def check(self, status: c_void_p) -> None:
        """Raises what a status says."""
        if self.c.TF_GetCode(status):
            raise RuntimeError(self.c.TF_Message(status).decode(errors="replace"))

    def start(self) -> None:
        """Runs an empty graph, which makes the devices and their threads."""
        status = c_void_p(self.c.TF_NewStatus())
        graph = c_void_p(self.c.TF_NewGraph())
        options = c_void_p(self.c.TF_NewSessionOptions())
        session = c_void_p(self.c.TF_NewSession(graph, options, status))
        self.check(status)
        nothing = self.c.TF_FinishOperation(self.c.TF_NewOperation(graph, b"NoOp", b"nothing"), status)
        self.check(status)
        targets = (c_void_p * 1)(nothing)
        self.c.TF_SessionRun(session, None, None, None, 0, None, None, 0, targets, 1, None, status)
        self.check(status)
        self.c.TF_DeleteSession(session, status)
        self.c.TF_DeleteGraph(graph)


class Model:
    """A loaded SavedModel."""

    def __init__(self, library: Library, directory: str) -> None:
        self._library, self._c = library, library.c
        self._status = c_void_p(self._c.TF_NewStatus())
        self._graph = c_void_p(self._c.TF_NewGraph())
        options = c_void_p(self._c.TF_NewSessionOptions())
        self._session = c_void_p(
            self._c.TF_LoadSessionFromSavedModel(
                options, None, directory.encode(), (c_char_p * 1)(b"serve"), 1, self._graph, None, self._status
            )
        )
        library.check(self._status)
        self._c.TF_DeleteSessionOptions(options)

    def run(self, feed: str, value: Any, fetches: Sequence[str]) -> None:
        """Runs one request and drops the answer."""
        status = c_void_p(self._c.TF_NewStatus())
        inputs, outputs = (_Output * 1)(self._output(feed)), (_Output * len(fetches))(*map(self._output, fetches))
        fed = (c_void_p * 1)(self._tensor(value))
        received = (c_void_p * len(fetches))()
        self._c.TF_SessionRun(
            self._session, None, inputs, fed, 1, outputs, received, len(fetches), None, 0, None, status
        )
        self._c.TF_DeleteTensor(fed[0])
        self._library.check(status)
        for tensor in received:
            self._c.TF_DeleteTensor(tensor)
        self._c.TF_DeleteStatus(status)

    def close(self) -> None:
        """Frees the session and its graph."""
        self._c.TF_CloseSession(self._session, self._status)
        self._c.TF_DeleteSession(self._session, self._status)
        self._c.TF_DeleteGraph(self._graph)
        self._library.check(self._status)

    def _output(self, name: str) -> _Output:
        node, _, index = name.partition(":")
        operation = self._c.TF_GraphOperationByName(self._graph, node.encode())
        if not operation:
            raise LookupError(f"the graph has no node {node}")
        return _Output(operation, int(index or 0))

    def _tensor(self, value: Any) -> Any:
        if isinstance(value, list):
            tensor = self._c.TF_AllocateTensor(_STRING, (c_int64 * 1)(len(value)), 1, len(value) * _STRING_BYTES)
            data = self._c.TF_TensorData(tensor)
            for index, item in enumerate(value):
                self._c.TF_StringInit(data + index * _STRING_BYTES)
                self._c.TF_StringCopy(data + index * _STRING_BYTES, item, len(item))
            return tensor
        shape = (c_int64 * value.ndim)(*value.shape)
        tensor = self._c.TF_AllocateTensor(_DTYPES[str(value.dtype)], shape, value.ndim, value.nbytes)
        ctypes.memmove(self._c.TF_TensorData(tensor), value.ctypes.data, value.nbytes)
        return tensor


class Values:
    """What is sent: nothing of a request is like the one before.

    Args:
        files: encoded photos.
        size: the network's `(height, width)`.
    """

    def __init__(self, files: Sequence[bytes], size: Sequence[int]) -> None:
        self._files, self._size = files, size

    def of(self, kind: str, count: int, turn: int) -> Any:
        """The images of a request: `count` of a kind, `float`, `uint8` or `encoded`."""
        if kind == "encoded":
            return [self._files[(turn + index) % len(self._files)] for index in range(count)]
        if kind == "uint8":
            return np.full((count, 300 + turn % 300, 400, 3), turn % 256, np.uint8)
        return np.full((count, *self._size, 3), float(turn % 256), np.float32)


def memory() -> dict[str, float]:
    """This process's resident and peak mebibytes, and what the C library counts as held and keeps free."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {key: int(lines[name].split()[0]) / 1024 for key, name in (("resident", "VmRSS"), ("peak", "VmHWM"))}
    counted = _C.mallinfo2()
    return found | {"held": (counted.uordblks + counted.hblkhd) / 2**20, "free": counted.fordblks / 2**20}


def main(job: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Loads `directories` one after another, warms each up, sends mixed requests, unloads.

    Args:
        job: `directories`; `calls`, each `{"feed", "fetches", "input"}` with an input `float`, `uint8` or `encoded`;
            `size`, the network's `[height, width]`; `photos`, the files to send; `sizes` of batches; `requests`, the
            numbers of them after which the memory is looked at, and `callers` that send them; `trim`, whether the C
            library hands back what it keeps before anything is unloaded.
    """
    library = Library()
    library.start()
    stages = {"baseline": memory()}
    values = Values([Path(path).read_bytes() for path in job["photos"]], job["size"])
    models = []
    for directory in job["directories"]:
        models.append(Model(library, directory))
        stages.setdefault("loaded", memory())
        for call in job["calls"]:
            for count in job["sizes"]:
                models[-1].run(call["feed"], values.of(call["input"], count, 0), call["fetches"])
        stages.setdefault("warm", memory())
    if len(models) > 1:
        stages[f"{len(models)} warm"] = memory()

    def send(caller: int, first: int, last: int) -> None:
        chance = random.Random(first + caller)
        for turn in range(first // job["callers"], last // job["callers"]):
            call = chance.choice(job["calls"])
            count = chance.choice(job["sizes"])
            chance.choice(models).run(call["feed"], values.of(call["input"], count, turn), call["fetches"])

    began = time.process_time()
    for first, last in itertools.pairwise((0, *job["requests"])):
        threads = [threading.Thread(target=send, args=(caller, first, last)) for caller in range(job["callers"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stages[f"{last} requests"] = stages["used"] = memory() | {"cpu_s": time.process_time() - began}
    if job["trim"]:
        _C.malloc_trim(0)
        stages["trimmed"] = memory()
    while models:
        models.pop().close()
        time.sleep(_RETURN_S)
        stages[f"{len(models)} left"] = memory()
    return stages


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
