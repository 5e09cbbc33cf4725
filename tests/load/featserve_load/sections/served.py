"""Served against in process."""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable

from ..deployment import say
from ..generator import Generator
from ..inprocess import InProcess
from ..networks import exported
from ..payload import SIGNATURES, Input, describe, make, network_size
from ..server import ServerProcess
from ..turns import CALLERS, RATIO, Figures, Length, closed_loop, medians, pair_of, row, turns

#: Images a call of the callers in process that need no queue: the largest batch of the export.
BATCH = 8


def served(options: argparse.Namespace) -> list[str]:
    """Served against in process, 32 callers of one image each."""
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"{CALLERS} callers, one image a request; images/s. In process: {CALLERS} threads call the same signature of "
        f"the same SavedModel. {RATIO} `its cores returned` adds the cores that the generator used to what served. The "
        f"last column has {cores} threads, each with {BATCH} images a call: batches that nobody had to wait for.",
        "",
        "| model | input | in process | served | ÷ | rounds | generator, cores | ÷, its cores returned "
        f"| in process, {BATCH} a call |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    kinds: tuple[Input, ...] = ("encoded", "uint8")
    for model in options.models.split(","):
        for kind in kinds:
            with row(lines, f"| {model} | {kind} |", 7):
                lines.append(f"| {model} | {kind} | {_served(options, model, kind, cores)} |")
    return lines


def _served(options: argparse.Namespace, model: str, kind: Input, cores: int) -> str:
    base_path = exported(options, model)
    say(f"{model}, {kind}: starting a server and the same model in process")
    with ServerProcess(base_path, model) as server:
        metadata = describe(server.target, model)
        with (
            InProcess(base_path / "1", SIGNATURES[kind], network_size(metadata)) as local,
            Generator([server.target], make(metadata, model, input=kind)) as generator,
        ):
            length = Length(options.seconds, CALLERS, 1, local.images_per_s(2.0, 1.0))

            def alone(callers: int, images: int) -> Callable[[], Figures]:
                return lambda: (local.images_per_s(length.seconds, length.warmup_s, callers=callers, images=images),)

            rows = turns(
                options.rounds,
                {
                    "in process": alone(CALLERS, 1),
                    "served": closed_loop(generator, options, CALLERS, length=length),
                    "in process, batches": alone(cores, BATCH),
                },
            )
    pair = pair_of(rows, "in process", "served")
    used = statistics.median(row[3] for row in rows["served"])
    batches = f"{medians(rows['in process, batches'])[0]:.1f}" if "in process, batches" in rows else "–"
    return f"{pair.text} | {used:.2f} | {pair.ratio / max(1 - used / cores, 0.01):.2f} | {batches}"
