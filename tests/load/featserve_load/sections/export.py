"""This export against `model.export()`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from featserve_client.wire import serving_pb2 as wire_pb2
from featserve_client.wire.tensors import encode_predict_request, encode_tensor

from .. import photos
from ..deployment import say
from ..errors import LoadError
from ..generator import Generator
from ..networks import exported_by_keras, exported_in
from ..payload import Payload, describe, network_size
from ..server import ServerProcess
from ..turns import CALLERS, RATIO, Figures, closed_loop, pair_of, plural, row, turns_or_none


def export(options: argparse.Namespace) -> list[str]:
    """Our export against `model.export()`: embedded servers, float pixels, taking turns."""
    lines = [
        "Float pixels of the network's size by gRPC, the same weights and preprocessing, each export in an embedded "
        f"server of its own, all of a model taking turns; images/s. {RATIO}",
        "",
        "| model | precision | load | model.export() | this export | ÷ | rounds |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for model in options.export_models.split(","):
        with row(lines, f"| {model} |", 6):
            _compare_exports(options, model, lines)
    return lines


def _compare_exports(options: argparse.Namespace, model: str, lines: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        servers: dict[str, ServerProcess] = {}
        rows: dict[str, list[str]] = {}
        for precision in options.precisions.split(","):
            try:
                name, base_path = exported_in(options, model, precision)
            except LoadError as exc:  # a precision that the export refuses costs no other its rows
                say(f"{model}, {precision}: {exc}")
                rows[precision] = [f"| {model} | {precision} | refused by the export | | | | |"]
                continue
            rows[precision] = []
            servers[precision] = stack.enter_context(ServerProcess(base_path, name))
        theirs = stack.enter_context(ServerProcess(exported_by_keras(options, model), "plain"))
        size = network_size(describe(theirs.target, "plain"))
        for callers, count in ((1, 1), (CALLERS, 1), (1, 16)):
            load = f"{plural(callers, 'caller')}, {plural(count, 'image')}"
            say(f"{model}, {load}")
            with contextlib.ExitStack() as generators:
                cases: dict[str, Callable[[], Figures]] = {}
                for name, server, signature in (
                    ("model.export()", theirs, "serving_default"),
                    *((precision, server, "float_images") for precision, server in servers.items()),
                ):
                    payload = floats(server, signature, size, count)
                    generator = generators.enter_context(Generator([server.target], payload, processes=1))
                    cases[name] = closed_loop(generator, options, callers)
                found = turns_or_none(options.rounds, cases)
            for precision in servers:
                with row(rows[precision], f"| {model} | {precision} | {load} |", 4):
                    text = pair_of(found, "model.export()", precision).text
                    rows[precision].append(f"| {model} | {precision} | {load} | {text} |")
    lines += [row for each in rows.values() for row in each]


def floats(server: ServerProcess, signature: str, size: tuple[int, int], count: int) -> Payload:
    metadata = describe(server.target, server.model)
    if signature not in metadata.signatures:
        raise LoadError(f"{server.model} has no {signature}; it has {', '.join(metadata.signatures)}")
    [name] = metadata.signatures[signature].inputs
    images = [image.astype(np.float32) for image in photos.pixels(photos.files(), size)][:8]
    spec = wire_pb2.ModelSpec(name=server.model, signature_name=signature)
    requests = []
    for start in range(len(images)):
        stacked: Any = np.stack([images[(start + offset) % len(images)] for offset in range(count)])
        requests.append(encode_predict_request(spec, {name: encode_tensor(stacked)}, []))
    return Payload(model=server.model, signature=signature, input="float", images_per_request=count, requests=requests)
