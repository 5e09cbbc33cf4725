"""This client against tensorflow-serving-api."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from ..errors import LoadError
from ..server import ROOT


def client(options: argparse.Namespace) -> list[str]:
    """The clients' own work, without a server."""
    command = [sys.executable, str(ROOT / "tests/load/bench_client.py"), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300)
    if done.returncode:
        raise LoadError("tests/load/bench_client.py failed; its errors are above")
    lines = ["| | this client | tensorflow-serving-api | ÷ |", "|---|--:|--:|--:|"]
    for what, row in json.loads(done.stdout).items():
        if "seconds" in row:
            continue
        ours, theirs = row["featserve_client"], row["tensorflow-serving-api"]
        lines.append(f"| {what} | {ours} | {theirs} | {theirs / ours:.1f} |")
    imports = {what.removeprefix("import "): row for what, row in json.loads(done.stdout).items() if "seconds" in row}
    ours, theirs = imports["featserve_client"], imports["tensorflow-serving-api"]
    for key, what in (("seconds", "import, s"), ("rss_mb", "memory after import, MB")):
        lines.append(f"| {what} | {ours[key]} | {theirs[key]} | {theirs[key] / ours[key]:.1f} |")
    return lines
