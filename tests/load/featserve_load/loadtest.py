"""Throughput and latency at several loads, closed and open loop, in rounds whose spread is the noise."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import deployment, report
from .compare import compare, summarize
from .deployment import say
from .errors import LoadError
from .generator import Generator, Interrupted, Stage
from .measurement import Measurement
from .payload import Payload

CALLERS = (1, 4, 16, 32)
#: Of the highest closed-loop throughput. The last is meant to be more than the server can do.
FRACTIONS = (0.5, 0.7, 0.85, 1.1)
FORMAT = 1


def main(argv: Sequence[str]) -> int:
    """Runs a load test and writes its report; returns 1 if no result can be trusted, 130 after Ctrl-C."""
    options = _parser().parse_args(argv)
    if options.rounds < 1:
        raise LoadError(f"--rounds is at least 1, not {options.rounds}")
    old = _read(options.compare) if options.compare else None
    if old and (options.rate is not None or options.callers is not None):
        raise LoadError("--compare measures the loads of the earlier result: --rate and --callers cannot be given")
    with deployment.opened(options) as server:
        payload = deployment.payload_of(options, server.metadata)
        deployment.check_answers(server, payload)
        with Generator(server.targets, payload, processes=options.processes, live=sys.stderr.isatty()) as generator:
            result: dict[str, Any] = {
                "format": FORMAT,
                **server.description,
                "input": payload.input,
                "signature": payload.signature,
                "request_bytes": round(payload.mean_bytes),
                "images_per_request": payload.images_per_request,
                "processes": options.processes,
                "timeout_s": options.timeout,
                "stages": {},
            }
            complete = _measure(generator, server, payload, options, result, old)
    result["complete"] = complete
    result["summary"] = summarize(result["stages"])
    comparison = compare(old, result) if old else None
    options.out.mkdir(parents=True, exist_ok=True)
    data = options.out / "loadtest.json"
    data.write_text(json.dumps(result, indent=1))
    pages = report.write(options.out / "loadtest", result, old, comparison)
    print(report.text(result, comparison))
    print(f"\n{data}  {'  '.join(map(str, pages))}")
    if not complete:
        return 130
    trusted = [name for name, row in result["summary"].items() if not row["limits"]]
    return 0 if trusted else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest", description=__doc__)
    deployment.add_arguments(parser)
    parser.add_argument("--rate", type=float, metavar="R", help="measure only this open-loop rate, requests per second")
    parser.add_argument("--callers", type=int, metavar="N", help="measure only this closed loop")
    parser.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="of open loops")
    parser.add_argument("--duration", type=float, default=3.0, metavar="S", help="of a load (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, metavar="N", help="of all loads (default: %(default)s)")
    deployment.add_budget(parser)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="of a request (default: %(default)s)")
    parser.add_argument("--compare", type=Path, metavar="JSON", help="an earlier result: its loads are measured again")
    parser.add_argument("--out", type=Path, default=Path("build/load"), metavar="DIR", help="(default: %(default)s)")
    return parser


def _measure(
    generator: Generator,
    server: deployment.Deployment,
    payload: Payload,
    options: argparse.Namespace,
    result: dict[str, Any],
    old: dict[str, Any] | None,
) -> bool:
    """Fills `result`; returns whether all was measured."""
    running: tuple[Stage, int] | None = None
    try:
        result["single_ms"] = round(deployment.single_latency_ms(generator), 3)
        result["budget_ms"] = round(deployment.budget_ms(options.slo_ms, result["single_ms"]), 3)
        say(f"one request alone {result['single_ms']:.1f} ms, budget of p99 {result['budget_ms']:.0f} ms")
        stages = _stages_of(old) if old else _stages(generator, options)
        for turn in range(options.rounds):
            say(f"round {turn + 1} of {options.rounds}")
            for stage in stages:
                running = stage, turn
                _add(result, *running, generator.run(dataclasses.replace(stage, seed=turn), server.watch.look))
    except KeyboardInterrupt as exc:
        say("\ninterrupted: reporting what was measured")
        if running and isinstance(exc, Interrupted) and exc.measured is not None and len(exc.measured.samples):
            _add(result, *running, exc.measured)
        return False
    return True


def _add(result: dict[str, Any], stage: Stage, turn: int, measured: Measurement) -> None:
    row = {**measured.as_dict(), "round": turn, "began": time.strftime("%H:%M:%S")}
    result["stages"].setdefault(stage.name, []).append(row)
    say(
        f"{stage.name:>18}  {measured.images_per_s:7.1f} images/s  p50 {measured.percentile_ms(50):6.1f} ms  "
        f"p99 {measured.percentile_ms(99):6.1f} ms  errors {measured.errors or 0}"
    )


def _stages_of(old: dict[str, Any]) -> list[Stage]:
    """Returns the loads of an earlier result: rates that follow the server would hide a change."""
    stages = []
    for parts in old["stages"].values():
        duration_s = max(part["duration_s"] for part in parts)
        timeout_s = old.get("timeout_s", 10.0)
        if parts[0]["mode"] == "closed":
            stages.append(Stage(callers=round(parts[0]["load"]), duration_s=duration_s, timeout_s=timeout_s))
        else:
            rate, arrivals = parts[0]["load"], parts[0]["mode"]
            stages.append(Stage(rate=rate, arrivals=arrivals, duration_s=duration_s, timeout_s=timeout_s))
    return stages


def _stages(generator: Generator, options: argparse.Namespace) -> list[Stage]:
    common = {"duration_s": options.duration, "timeout_s": options.timeout}
    if options.rate is not None or options.callers is not None:
        chosen = []
        if options.rate is not None:
            chosen.append(Stage(rate=options.rate, arrivals=options.arrivals, **common))
        if options.callers is not None:
            chosen.append(Stage(callers=options.callers, **common))
        return chosen
    closed = [Stage(callers=callers, **common) for callers in CALLERS]
    best = max(
        generator.run(dataclasses.replace(stage, duration_s=2.0)).images_per_s / options.images_per_request
        for stage in closed[1:]
    )
    rates = [round(best * fraction, 1 if best * fraction < 20 else None) for fraction in FRACTIONS]
    return closed + [Stage(rate=rate, arrivals=options.arrivals, **common) for rate in rates if rate > 0]


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise LoadError(f"cannot read the earlier result {path}: {exc}") from exc
    if not isinstance(found, dict) or found.get("format") != FORMAT or not found.get("stages"):
        raise LoadError(f"{path} is no loadtest.json of this version")
    return found
