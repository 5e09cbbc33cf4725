"""How many servers a load needs, from a capacity report: replicas, headroom, cost, and a kustomize component."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import charts
from ..deployment import say
from ..errors import LoadError
from ..generator import Stage
from . import capacity_report, patch, pictures, sizing
from .autoscaler import Autoscaler
from .capacity_report import CapacityReport

#: Where the report's server ran already, as RESULTS.md has a cold start.
START_S = 15.0


def main(argv: Sequence[str]) -> int:
    """Prints the plan, and writes its files; returns 0."""
    options = _parser().parse_args(argv)
    for name in ("qps", "slo_ms", "price"):
        value = getattr(options, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise LoadError(f"{_knob(name)} is a number above 0, not {value:g}")
    for name in ("zones", "most", "clients"):
        if getattr(options, name) < 1:
            raise LoadError(f"{_knob(name)} is at least 1, not {getattr(options, name)}")
    path = options.report or capacity_report.newest()
    report = capacity_report.read(path, options.model)
    say(f"{report.path}: {report.model} on {report.cpu}; simulating")
    sizing.check_budget(report, options.slo_ms)
    report, trust = sizing.calibrated(report)
    plan = _plan(report, trust, options)
    options.out.mkdir(parents=True, exist_ok=True)
    written = patch.write(options.out, plan.pop("component"), _why(plan))
    (options.out / "plan.json").write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    picture = options.out / "plan.png"
    charts.poster(_pictures(report, plan, options), _lead(plan)).savefig(picture, dpi=80)
    if options.json:
        print(json.dumps(plan, indent=1))
    else:
        print(f"{_text(plan)}\n\n{written}  {picture}  {options.out / 'plan.json'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="plan", description=__doc__)
    parser.add_argument("--qps", type=float, required=True, metavar="R", help="requests per second, at the peak")
    parser.add_argument("--slo-ms", type=float, required=True, metavar="MS", help="budget of p99")
    parser.add_argument("--price", type=float, metavar="P", help="of a replica for an hour, in any currency")
    parser.add_argument("--zones", type=int, default=3, metavar="N", help="one of which may be lost (default: 3)")
    parser.add_argument("--report", type=Path, metavar="JSON", help="of `capacity` (default: the newest in build/load)")
    parser.add_argument("--model", help="the report must be of this model")
    parser.add_argument("--clients", type=int, default=100, metavar="N", help="that balance (default: %(default)s)")
    parser.add_argument("--most", type=int, default=sizing.MAX_SERVERS, metavar="N", help="replicas (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--out", type=Path, default=Path("build/load/plan"), metavar="DIR", help="(default: %(default)s)"
    )
    return parser


def _knob(name: str) -> str:
    return {"qps": "QPS", "slo_ms": "SLO_MS", "price": "PRICE", "zones": "ZONES"}.get(name, f"--{name}")


def _plan(report: CapacityReport, trust: float, options: argparse.Namespace) -> dict[str, Any]:
    images_per_s = options.qps * report.images_per_request
    each = sizing.per_server(report, options.slo_ms)
    servers = sizing.size(images_per_s, each, options.zones, options.most)
    load = images_per_s / servers.replicas
    at_plan = _simulated(report, servers.replicas, load, options.clients)
    survivors = servers.replicas - math.ceil(servers.replicas / options.zones) if options.zones > 1 else servers.load
    at_loss = _simulated(report, survivors, images_per_s / survivors, options.clients)
    at_limit = _simulated(report, 1, each, options.clients)
    mib = patch.memory_mib(report.memory, report.settings.threads, report.settings.largest)
    most = min(max(servers.room, 2 * servers.replicas), options.most)
    utilization = at_plan["utilization"]
    return {
        "report": str(report.path),
        "model": report.model,
        "cpu": report.cpu,
        "qps": options.qps,
        "images_per_s": images_per_s,
        "slo_ms": options.slo_ms,
        "zones": options.zones,
        "per_server": {"images_per_s": each, "trust": trust},
        "measured": {"images_per_s": report.images_per_s, "budget_ms": report.budget_ms},
        "servers": asdict(servers),
        "planned": at_plan,
        "zone_lost": {"servers": survivors, **at_loss},
        "hpa": {"min": servers.replicas, "max": most, "utilization": utilization, "queue_s": at_limit["queue_p95_s"]},
        "resources": {"cpu": report.times.cores, "memory_mib": mib},
        "per_million": None
        if options.price is None
        else sizing.per_million(options.price, servers.replicas, images_per_s),
        "price": options.price,
        "component": patch.component(
            replicas=servers.replicas,
            most=most,
            utilization=utilization,
            queue_s=at_limit["queue_p95_s"],
            cores=report.times.cores,
            mib=mib,
        ),
    }


def _simulated(report: CapacityReport, servers: int, load: float, clients: int) -> dict[str, float]:
    """Returns the figures of a fleet at a load of each server, by eight of them at most."""
    fleet = sizing.fleet_of(report, servers=servers, clients=clients, balancing="round_robin", sampled=8)
    found = fleet.run(Stage(rate=load * servers / report.images_per_request, duration_s=60, warmup_s=5))
    return {
        "load": load,
        "p99_ms": found.percentile_ms(99),
        "refused": found.error_share,
        "utilization": found.server["utilization"],
        "queue_p95_s": found.server["queue_p95_s"],
    }


def _pictures(report: CapacityReport, plan: dict[str, Any], options: argparse.Namespace) -> list[charts.Chart]:
    top = plan["per_server"]["images_per_s"]
    loads = [round(part * top, 3) for part in np.linspace(0.3, 1.15, 8)]
    planned, servers, slo_ms = plan["planned"]["load"], plan["servers"]["replicas"], options.slo_ms
    counts = sorted({1, servers})
    found = [
        pictures.curve(
            f"{count} server{'s' * (count != 1)}",
            sizing.fleet_of(report, servers=count, clients=options.clients, balancing="round_robin", sampled=2),
            loads,
        )
        for count in counts
    ]
    rules = Autoscaler(
        target=plan["hpa"]["utilization"],
        least=servers,
        most=plan["hpa"]["max"],
        start_s=report.start_s or START_S,
    )
    before, after = plan["images_per_s"], 2 * plan["images_per_s"]
    step = pictures.step(sizing.fleet_of(report), before, after, rules)
    plan_step = f"Twice the load that was planned, with the autoscaler: {step.over_s(slo_ms):.0f} s over the budget"
    return [
        pictures.curves("p99 against load", found, slo_ms, planned),
        _headroom(plan),
        pictures.steps(plan_step, step, slo_ms),
    ]


def _headroom(plan: dict[str, Any]) -> charts.Chart:
    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        names = ("for the load", "one to spare", f"a zone of {plan['zones']} lost", "while a version rolls out")
        values = [plan["servers"][key] for key in ("load", "spare", "zone", "room")]
        axes.bar_label(axes.barh(names, values, color="#2b6cb0"), padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("servers")

    return charts.Chart(title="What the servers are for", draw=draw)


def _lead(plan: dict[str, Any]) -> str:
    return (
        f"{plan['model']}: {plan['servers']['replicas']} replicas for {plan['qps']:g} requests/s within p99 "
        f"{plan['slo_ms']:g} ms"
    )


def _text(plan: dict[str, Any]) -> str:
    servers, each, lost = plan["servers"], plan["per_server"], plan["zone_lost"]
    rows = [
        ("one server bears", f"{each['images_per_s']:.1f} images/s", _trust(plan)),
        ("for the load", f"{servers['load']}", f"{plan['images_per_s']:g} images/s"),
        ("with one to spare", f"{servers['spare']}", "one may fail or drain"),
    ]
    if plan["zones"] > 1:
        rows.append(
            (
                f"with a zone of {plan['zones']} lost",
                f"{servers['zone']}",
                f"{lost['servers']} are left, p99 {lost['p99_ms']:.0f} ms",
            )
        )
    rows += [
        ("replicas", f"{servers['replicas']}", f"p99 {plan['planned']['p99_ms']:.0f} ms, cores {_percent(plan)} busy"),
        ("room for", f"{servers['room']}", "one more while a version rolls out (maxSurge)"),
        ("autoscaler", f"{plan['hpa']['min']} to {plan['hpa']['max']}", f"at {_percent(plan)} CPU"),
        ("a replica", f"{plan['resources']['cpu']} CPU", _memory(plan)),
    ]
    if plan["per_million"] is not None:
        cost = f"{plan['per_million']:.4g}"
        rows.append(("a million images", cost, f"at {plan['price']:g} a replica-hour, steady at the peak"))
    return _lead(plan) + "\n\n" + "\n".join(f"  {what:24} {value:>14}  {note}" for what, value, note in rows)


def _trust(plan: dict[str, Any]) -> str:
    each, measured = plan["per_server"], plan["measured"]
    said = f"{measured['images_per_s']:.1f} measured within {measured['budget_ms']:.0f} ms"
    if abs(each["trust"] - 1) > 0.1:
        said += f", {each['trust']:.0%} of what is simulated"
        said += ": the simulation is slowed to it" if each["trust"] < 1 else ": the plan counts on the simulated"
    return said


def _percent(plan: dict[str, Any]) -> str:
    return f"{plan['hpa']['utilization']:.0%}"


def _memory(plan: dict[str, Any]) -> str:
    mib = plan["resources"]["memory_mib"]
    return f"{mib} MiB, three versions of this model" if mib else "memory as in the kit: the manifest does not tell"


def _why(plan: dict[str, Any]) -> str:
    return (
        f"{_lead(plan)}.\nMade by `make plan` from {plan['report']}. In a kustomization beside overlays/cpu:\n"
        "components: [this directory]"
    )
