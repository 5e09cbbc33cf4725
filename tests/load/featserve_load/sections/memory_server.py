"""What a model adds to the embedded server, beside `model.export()`'s in the same server."""

from __future__ import annotations

import argparse
import collections
import functools
import itertools
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire.tensors import encode_predict_request, encode_strings, encode_tensor

from .. import photos
from ..bare import Values
from ..deployment import say
from ..errors import LoadError
from ..networks import exported_by_keras, exported_in
from ..payload import PREDICT, describe
from ..server import ServerProcess
from ..turns import Figures, medians, row, turns
from .memory import SIZES

_CALLERS = 8
_KINDS = {"float32": "float", "uint8": "uint8", "string": "encoded"}
_KERAS = "model.export()"
#: Of a slow model's request behind those of the other callers.
_TIMEOUT_S = 300.0
#: Name, its input's name, and the kind of images.
_Signature = tuple[str, str, str]


def in_the_server(options: argparse.Namespace) -> list[str]:
    """What a model adds to the embedded server."""
    lines = [
        "The embedded server. After loading, every signature of one input is called with "
        f"{', '.join(map(str, SIZES))} images, then {options.memory_requests} mixed requests come from {_CALLERS} "
        "callers, all by gRPC; MiB above the same server with a model that adds one. Loading this export calls its "
        "signatures, to warm up; `model.export()` has two of float pixels, no such records, and no queue, so that "
        "each call computes alone. All of a model took turns, each in a server of its own; MiB are medians of the "
        "rounds. ÷ is this export by model.export() in float32, the median of the rounds' ratios: of what they add to "
        "the server (in brackets the rounds' range of used), and of the whole process.",
        "",
        "| model | written by | rounds | loaded | warm | used | peak | ÷ warm | ÷ used | ÷ peak | whole ÷ warm "
        "| ÷ used | ÷ peak |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    nothing = _served(options, _adder(options), "adder")
    lines.append(f"| none | | 1 | {' | '.join(f'{mib:,.0f}' for mib in nothing)} | | | | | | |")
    for model in options.memory_models.split(","):
        with row(lines, f"| {model} |", 12):
            cases = {_KERAS: functools.partial(_served, options, exported_by_keras(options, model), "plain")}
            for precision in options.precisions.split(","):
                with row(lines, f"| {model} | {precision} |", 11):
                    name, base_path = exported_in(options, model, precision)
                    cases[f"this export, {precision}"] = functools.partial(_served, options, base_path, name)
            found = turns(options.rounds, cases)
            lines += [_row(model, written_by, found, nothing) for written_by in found]
    return lines


def _row(model: str, written_by: str, found: Mapping[str, Sequence[Figures]], nothing: Figures) -> str:
    rounds = found[written_by]
    added = [_above(stages, nothing) for stages in rounds]
    cells = [model, written_by, str(len(rounds)), *(f"{mib:,.0f}" for mib in medians(added))]
    if written_by == _KERAS or _KERAS not in found:
        return f"| {' | '.join(cells)} |" + " |" * 6
    theirs = found[_KERAS]
    ratios = [_over(ours, _above(stages, nothing)) for ours, stages in zip(added, theirs, strict=True)]
    whole = medians([_over(ours, stages) for ours, stages in zip(rounds, theirs, strict=True)])
    warm, used, peak, *of_whole = (f"{ratio:.2f}" for ratio in (*medians(ratios), *whole))
    used += f" ({min(ratio[1] for ratio in ratios):.2f}–{max(ratio[1] for ratio in ratios):.2f})"
    return f"| {' | '.join([*cells, warm, used, peak, *of_whole])} |"


def _adder(options: argparse.Namespace) -> Path:
    import tensorflow as tf

    base_path: Path = options.model_root / "adder"
    module = tf.Module()
    module.add = tf.function(lambda x: {"y": x + 1.0}, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(base_path / "1"), signatures=module.add)
    return base_path


def _served(options: argparse.Namespace, base_path: Path, name: str) -> Figures:
    """MiB when the model is loaded, when it is warm, and used, and at the peak."""
    say(f"memory of the embedded server with {base_path}")
    with ServerProcess(base_path, name) as server:
        loaded = _status(server.pid)["VmRSS"]
        requests = _Requests(server)
        every = list(itertools.product(requests.signatures, SIZES))
        _send(server, requests, every, callers=1)
        warm = _status(server.pid)["VmRSS"]
        if every:
            _send(server, requests, random.Random(0).choices(every, k=options.memory_requests), callers=_CALLERS)
        after = _status(server.pid)
    return loaded, warm, after["VmRSS"], after["VmHWM"]


class _Requests:
    """Requests of the signatures that take images and nothing else."""

    def __init__(self, server: ServerProcess) -> None:
        self._model = server.model
        self.signatures: list[_Signature] = []
        size: Sequence[Any] = ()
        for signature, specs in sorted(describe(server.target, server.model).signatures.items()):
            for name, spec in specs.inputs.items():
                if spec.dtype == "string" or len(spec.shape or ()) == 4:
                    self.signatures.append((signature, name, _KINDS[spec.dtype]))
                if spec.dtype == "float32":
                    size = (spec.shape or ())[1:3]
        self._values = Values([path.read_bytes() for path in photos.paths()], size)

    def make(self, signature: _Signature, images: int, turn: int) -> bytes:
        """One request."""
        key, name, kind = signature
        value = self._values.of(kind, images, turn)
        tensor = encode_strings(value, (images,)) if kind == "encoded" else encode_tensor(value)
        return encode_predict_request(wire.ModelSpec(name=self._model, signature_name=key), {name: tensor})


def _send(
    server: ServerProcess, requests: _Requests, wanted: Sequence[tuple[_Signature, int]], *, callers: int
) -> None:
    """Sends one request after another, as many at once as there are callers, and drops the answers."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, unlimited) as channel, ThreadPoolExecutor(callers) as pool:
        call = channel.unary_unary(PREDICT)

        def send(turn: int) -> None:
            call(requests.make(*wanted[turn], turn), timeout=_TIMEOUT_S)

        try:
            collections.deque(pool.map(send, range(len(wanted))), maxlen=0)
        except grpc.RpcError as exc:
            raise LoadError(f"a request of {server.model} failed: {exc.code().name} {exc.details()}") from exc


def _status(pid: int) -> dict[str, float]:
    """Resident and peak MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}


def _above(stages: Figures, nothing: Figures) -> Figures:
    """What a model adds at each stage."""
    return tuple(mib - base for mib, base in zip(stages, nothing, strict=True))


def _over(stages: Figures, theirs: Figures) -> Figures:
    """Ratios of all stages but the first: of what is only loaded, one is warm already."""
    return tuple(ours / mib for ours, mib in zip(stages[1:], theirs[1:], strict=True))
