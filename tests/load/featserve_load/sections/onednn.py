"""What oneDNN gains on this CPU: all runtimes turn it on, and TensorFlow itself does so where there is AVX512-VNNI."""

from __future__ import annotations

import argparse

from ..deployment import say
from ..generator import Generator
from ..networks import exported
from ..payload import describe, make
from ..server import ServerProcess
from ..turns import CALLERS, RATIO, plural, row, side_by_side

_SWITCH = "TF_ENABLE_ONEDNN_OPTS"


def on_and_off(options: argparse.Namespace) -> list[str]:
    """The same export in two servers, with and without."""
    lines = [
        f"uint8 pixels of the network's size by gRPC, the same export in two embedded servers, `{_SWITCH}` 0 and 1, in "
        f"turns; images/s. {RATIO}",
        "",
        "| model | callers | off | on | ÷ | rounds |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for model in options.models.split(","):
        with row(lines, f"| {model} |", 5):
            base_path = exported(options, model)
            say(f"{model}: starting two servers")
            with (
                ServerProcess(base_path, model, environment={_SWITCH: "0"}) as off,
                ServerProcess(base_path, model, environment={_SWITCH: "1"}) as on,
            ):
                payload = make(describe(on.target, model), model, input="uint8")
                with Generator([off.target], payload) as without, Generator([on.target], payload) as with_it:
                    for callers in (1, CALLERS):
                        say(f"{model}, {plural(callers, 'caller')}")
                        pair = side_by_side(options, {"off": without, "on": with_it}, callers)
                        lines.append(f"| {model} | {callers} | {pair.text} |")
    return lines
