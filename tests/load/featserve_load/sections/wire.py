"""Ways to send an image."""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np

from .. import photos
from ..errors import LoadError
from ..networks import DEFAULT, exported
from ..payload import PREDICT, Input, describe, make, network_size
from ..server import ServerProcess
from ..turns import Figures, medians, turns

UNLIMITED = [("grpc.max_receive_message_length", -1)]


def wire(options: argparse.Namespace) -> list[str]:
    """Ways to send an image: bytes, latency, throughput."""
    base_path = exported(options, DEFAULT)
    lines = [
        f"{DEFAULT}, photos of {min(photos.SIDES)} to {max(photos.SIDES)} pixels; pixels are sent in the network's "
        "size. Ready-made requests from one process; answers are read, not parsed. The answer is the last feature map.",
        "",
        "| | request, bytes | answer, bytes | one caller, p50 ms | 8 callers, images/s |",
        "|---|--:|--:|--:|--:|",
    ]
    with ServerProcess(base_path, DEFAULT) as server, contextlib.ExitStack() as stack:
        metadata = describe(server.target, DEFAULT)
        files = photos.files()
        images = photos.pixels(files, network_size(metadata))
        channel = stack.enter_context(grpc.insecure_channel(server.target, UNLIMITED))
        call = channel.unary_unary(PREDICT)
        grpc_kinds: dict[str, Input] = {"gRPC encoded": "encoded", "gRPC uint8": "uint8", "gRPC float": "float"}
        ways: dict[str, tuple[Callable[[], Callable[[bytes], int]], list[bytes]]] = {
            what: (lambda: lambda body: len(call(body, timeout=120)), make(metadata, DEFAULT, input=kind).requests)
            for what, kind in grpc_kinds.items()
        }
        b64 = [{"instances": [{"b64": base64.b64encode(data).decode()}], "signature_name": "encoded"} for data in files]
        raw = [{"instances": [image.tolist()], "signature_name": "serving_default"} for image in images]
        for what, bodies in (("REST b64", b64), ("REST JSON pixels", raw)):
            ways[what] = (
                lambda: _poster(server.rest, f"/v1/models/{DEFAULT}:predict"),
                [json.dumps(body, separators=(",", ":")).encode() for body in bodies],
            )
        cases = {
            what: one_and_eight_callers(opener, bodies, options.seconds) for what, (opener, bodies) in ways.items()
        }
        rows = turns(options.rounds, cases)
    for what in ways:
        request = round(float(np.mean([len(body) for body in ways[what][1]])))
        if what not in rows:
            lines.append(f"| {what} | {request:,} | not measured | | |")
            continue
        answer, p50, speed = medians(rows[what])
        lines.append(f"| {what} | {request:,} | {answer:,.0f} | {p50:.1f} | {speed:.1f} |")
    return lines


def one_and_eight_callers(
    opener: Callable[[], Callable[[bytes], int]], bodies: Sequence[bytes], seconds: float
) -> Callable[[], Figures]:
    """Measures the bytes of an answer, the p50 of one caller in ms, and the images/s of eight."""

    def call_until(end: float, index: int, times: list[float], sizes: list[int], errors: list[Exception]) -> None:
        try:
            send = opener()
            while (began := time.monotonic()) < end:
                sizes.append(send(bodies[index % len(bodies)]))
                times.append(time.monotonic() - began)
                index += 1
        except Exception as exc:
            errors.append(exc)

    def team(callers: int) -> tuple[list[float], list[int], float]:
        times: list[float] = []
        sizes: list[int] = []
        errors: list[Exception] = []
        began = time.monotonic()
        threads = [
            threading.Thread(target=call_until, args=(began + seconds, index, times, sizes, errors))
            for index in range(callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise LoadError(f"a request failed: {errors[0]}")
        return times, sizes, time.monotonic() - began

    def once() -> Figures:
        opener()(bodies[0])
        times, sizes, _ = team(1)
        many, _, took = team(8)
        return statistics.mean(sizes), 1e3 * statistics.median(times), len(many) / took

    return once


def _poster(rest: str, path: str) -> Callable[[bytes], int]:
    connection = http.client.HTTPConnection(rest, timeout=120)

    def send(body: bytes) -> int:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise LoadError(f"REST answered {answer.status}: {data[:300]!r}")
        return len(data)

    return send
