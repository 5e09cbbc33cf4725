"""What one layer of several costs."""

from __future__ import annotations

import argparse

import grpc

from ..errors import LoadError
from ..networks import exported
from ..payload import PREDICT, describe, make
from ..server import ServerProcess
from ..turns import medians, row, turns
from .wire import UNLIMITED, one_and_eight_callers


def layers(options: argparse.Namespace) -> list[str]:
    """What a layer costs alone, and all of them together."""
    names = ("block1_pool", "block5_pool")
    base_path = exported(
        options, "vgg16", "vgg16_layers", ("--layers", ",".join(names), "--model-name", "vgg16_layers")
    )
    lines = [
        f"vgg16 with {' and '.join(names)}, encoded photos, one a request.",
        "",
        "| asked for | answer, bytes | one caller, p50 ms | 8 callers, images/s |",
        "|---|--:|--:|--:|",
    ]
    with (
        ServerProcess(base_path, "vgg16_layers") as server,
        grpc.insecure_channel(server.target, UNLIMITED) as channel,
    ):
        call = channel.unary_unary(PREDICT)
        metadata = describe(server.target, "vgg16_layers")
        cases = {
            layer or "both": one_and_eight_callers(
                lambda: lambda body: len(call(body, timeout=120)),
                make(metadata, "vgg16_layers", layer=layer).requests,
                options.seconds,
            )
            for layer in (*names, None)
        }
        found = turns(options.rounds, cases)
    for what in cases:
        with row(lines, f"| {what} |", 3):
            if what not in found:
                raise LoadError("its requests failed")
            answer, p50, speed = medians(found[what])
            lines.append(f"| {what} | {answer:,.0f} | {p50:.1f} | {speed:.1f} |")
    return lines
