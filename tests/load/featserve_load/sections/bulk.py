"""Bulk extraction against a Keras loop."""

from __future__ import annotations

import argparse
import importlib
import sys

from ..server import ROOT
from ..turns import row


def bulk(options: argparse.Namespace) -> list[str]:
    """`featserve extract` against the usual Keras loop."""
    sys.path.insert(0, str(ROOT / "tests/load"))
    bench_bulk = importlib.import_module("bench_bulk")
    lines: list[str] = bench_bulk.table([]).splitlines()
    for model in options.bulk_models.split(","):
        with row(lines, f"| {model} |", 6):
            images = min(options.bulk_images or bench_bulk.IMAGES, bench_bulk.NETWORKS[model].most)
            results = bench_bulk.measure([model], images=images, rounds=options.rounds)
            lines.append(bench_bulk.table(results).splitlines()[-1])
    return lines
