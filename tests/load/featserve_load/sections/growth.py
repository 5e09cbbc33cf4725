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
#: Width and height of a camera's photo of 12 megapixels.
CAMERA = (4000, 3000)
TEAMS = (1, 4, 16, 64, 256, 1000)


def growth(options: argparse.Namespace) -> list[str]:
    """How cost grows with images per request, pixels, callers and cores."""
    lines = [f"{DEFAULT}, encoded photos. The rows of a group took turns.", ""]
    for group in (by_images, by_pixels, by_callers, by_cores):
        lines += group(options)
    return lines


def by_images(options: argparse.Namespace) -> list[str]:
    """Images in each request of one caller."""
    with _server(options) as server, contextlib.ExitStack() as stack:
        cases = {}
        for count in COUNTS:
            payload = make(describe(server.target, DEFAULT), DEFAULT, images_per_request=count)
            generator = stack.enter_context(Generator([server.target], payload, processes=1))
            cases[str(count)] = closed_loop(generator, options, 1)
        return _speeds("images a request, 1 caller", options.rounds, cases)


def by_pixels(options: argparse.Namespace) -> list[str]:
    """Sizes of the photos."""
    sizes = {str(side): [photos.sized(photo, side) for photo in photos.packaged()] for side in SIDES}
    sizes[" × ".join(map(str, CAMERA))] = [photo.resize(CAMERA) for photo in photos.packaged()]
    with _server(options) as server, contextlib.ExitStack() as stack:
        cases = {}
        for name, some in sizes.items():
            payload = make(describe(server.target, DEFAULT), DEFAULT, encoded=list(map(photos.jpeg, some)))
            generator = stack.enter_context(Generator([server.target], payload, processes=1))
            cases[name] = closed_loop(generator, options, 4)
        return _speeds("longer side of the JPEG in pixels, 4 callers", options.rounds, cases)


def by_callers(options: argparse.Namespace) -> list[str]:
    """Callers of one image each, whom the server's queue has room for."""
    with (
        _server(options, f"--max_queued_requests={max(TEAMS)}") as server,
        Generator([server.target], make(describe(server.target, DEFAULT), DEFAULT)) as generator,
    ):
        cases = {str(callers): closed_loop(generator, options, callers) for callers in TEAMS}
        return _speeds("callers, one image each", options.rounds, cases)


def by_cores(options: argparse.Namespace) -> list[str]:
    """Cores of the server."""
    base_path = exported(options, DEFAULT)
    with contextlib.ExitStack() as stack:
        cases = {}
        available = sorted(os.sched_getaffinity(0))
        for cores in range(1, len(available) + 1):
            server = stack.enter_context(ServerProcess(base_path, DEFAULT, cores=available[:cores]))
            generator = stack.enter_context(Generator([server.target], make(describe(server.target, DEFAULT), DEFAULT)))
            cases[str(cores)] = closed_loop(generator, options, 16)
        return _speeds("cores of the server, 16 callers", options.rounds, cases)


def _server(options: argparse.Namespace, *flags: str) -> ServerProcess:
    return ServerProcess(exported(options, DEFAULT), DEFAULT, flags=flags)


def _speeds(what: str, rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> list[str]:
    say(what)
    found = turns_or_none(rounds, cases)
    lines = [f"| {what} | images/s | p50 ms | p99 ms |", "|--:|--:|--:|--:|"]
    for name in cases:
        cells = [f"{figure:.1f}" for figure in medians(found[name])[:3]] if name in found else ["not measured", "", ""]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]
