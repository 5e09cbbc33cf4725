"""How cost grows."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Mapping

from .. import photos
from ..deployment import say
from ..generator import Generator
from ..networks import DEFAULT, exported
from ..payload import describe, make
from ..server import ServerProcess
from ..turns import Figures, closed_loop, medians, turns_or_none

COUNTS = (1, 2, 4, 8, 16, 32, 64)


SIDES = (64, 128, 256, 512, 1024, 2048)


TEAMS = (1, 4, 16, 64, 256)


def growth(options: argparse.Namespace) -> list[str]:
    """How cost grows with images per request, image side, callers and cores."""
    base_path = exported(options, DEFAULT)
    lines = [f"{DEFAULT}, encoded photos. The rows of a group took turns.", ""]
    with ServerProcess(base_path, DEFAULT, flags=(f"--max_queued_requests={max(TEAMS)}",)) as server:
        metadata = describe(server.target, DEFAULT)
        with contextlib.ExitStack() as stack:
            cases = {}
            for count in COUNTS:
                payload = make(metadata, DEFAULT, images_per_request=count)
                generator = stack.enter_context(Generator([server.target], payload, processes=1))
                cases[str(count)] = closed_loop(generator, options, 1)
            lines += _speeds("images a request, 1 caller", options.rounds, cases)
        with contextlib.ExitStack() as stack:
            cases = {}
            for side in SIDES:
                files = [photos.jpeg(photos.sized(photo, side)) for photo in photos.packaged()]
                payload = make(metadata, DEFAULT, encoded=files)
                generator = stack.enter_context(Generator([server.target], payload, processes=1))
                cases[str(side)] = closed_loop(generator, options, 4)
            lines += _speeds("longer side of the JPEG in pixels, 4 callers", options.rounds, cases)
        with Generator([server.target], make(metadata, DEFAULT)) as generator:
            cases = {str(callers): closed_loop(generator, options, callers) for callers in TEAMS}
            lines += _speeds("callers, one image each", options.rounds, cases)
    with contextlib.ExitStack() as stack:
        cases = {}
        available = sorted(os.sched_getaffinity(0))
        for cores in range(1, len(available) + 1):
            server = stack.enter_context(ServerProcess(base_path, DEFAULT, cores=available[:cores]))
            generator = stack.enter_context(Generator([server.target], make(metadata, DEFAULT)))
            cases[str(cores)] = closed_loop(generator, options, 16)
        lines += _speeds("cores of the server, 16 callers", options.rounds, cases)
    return lines


def _speeds(what: str, rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> list[str]:
    say(what)
    found = turns_or_none(rounds, cases)
    lines = [f"| {what} | images/s | p50 ms | p99 ms |", "|--:|--:|--:|--:|"]
    for name in cases:
        cells = [f"{figure:.1f}" for figure in medians(found[name])[:3]] if name in found else ["not measured", "", ""]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]
