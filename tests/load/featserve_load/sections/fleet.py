"""What breaks a budget when servers are many: balancing, the batch timeout, or the autoscaler's delay."""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from .. import charts
from ..deployment import say
from ..generator import Generator, Stage
from ..networks import DEFAULT, exported
from ..payload import describe, make
from ..plan import calibration, pictures
from ..plan.autoscaler import Autoscaler
from ..plan.fleet import Balancing, Fleet
from ..plan.service_times import measure
from ..plan.simulated_server import Settings
from ..server import ServerProcess

SERVERS = (1, 4, 16, 64, 1000)
TIMEOUTS_MS = (0, 1, 5, 20, 50)
#: Of the autoscaler's table: what the load is multiplied by.
STEPS = (1.5, 2.0, 4.0)
#: Pods before the step, and the part of their limit that they bear.
PODS, SHARE = 16, 0.6
#: What one server alone would take, by which the budget is set.
BUDGET = 6.0
PICTURE = "fleet.png"


def fleet(options: argparse.Namespace) -> list[str]:
    """Simulates fleets, from the service times of one server."""
    base_path = exported(options, DEFAULT)
    busy = psutil.cpu_percent(2.0) / 100 * (os.cpu_count() or 1)
    began = time.monotonic()
    with ServerProcess(base_path, DEFAULT) as server:
        start_s = time.monotonic() - began
        metadata = describe(server.target, DEFAULT)
        cores = int((metadata.manifest or {})["batching"]["num_batch_threads"])
        payload = make(metadata, DEFAULT)
        times = measure(server.target, metadata, payload, pid=server.pid, cores=cores)
        one = Fleet(times=times, settings=Settings.of((metadata.manifest or {})["batching"]))
        alone = one.run(Stage(callers=1, duration_s=20)).percentile_ms(50)
        with Generator([server.target], payload, processes=1) as generator:
            one = dataclasses.replace(one, times=calibration.among_others(one, generator.run))
    budget = float(round(BUDGET * alone, -1))
    top = bears(one, budget)
    say(f"  one alone {alone:.1f} ms, budget {budget:.0f} ms, one server bears {top:.1f} images/s")
    found: dict[str, float] = {}
    tables = [
        *_balancing(one, budget, found),
        "",
        *_timeouts(one, budget, found),
        "",
        *_steps(one, budget, top, start_s, found),
        "",
    ]
    lines = [
        f"{DEFAULT}, {cores} cores a server: by one caller, a batch of one takes {times.batch_ms[1]:.1f} core-ms, of 8 "
        f"{times.batch_ms[8]:.1f}, a request's own part {min(times.request_ms):.1f}–{max(times.request_ms):.1f}; it "
        f"starts in {start_s:.1f} s. At half load, what is less than a full batch takes "
        f"{one.times.batch_ms[1] / times.batch_ms[1]:.2f} times as long. All else is simulated. The budget of p99 is "
        f"{budget:.0f} ms, {BUDGET:g} times one image alone. Other programs kept {busy:.1f} of the machine's cores "
        "busy before it was timed.",
        "",
        _answer(found),
        "",
        *tables,
        f"![p99 against load, and a step of the traffic]({PICTURE})",
    ]
    _draw(one, budget, top, start_s, options.out.with_name(PICTURE))
    return lines


def bears(fleet: Fleet, budget_ms: float, duration_s: float = 60.0) -> float:
    """Returns the load of each server, in images/s, up to which p99 keeps the budget."""
    low, high = 0.0, 1.2e3 * fleet.times.cores / fleet.times.image_ms(fleet.images_per_request)
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        rate = middle * fleet.servers / fleet.images_per_request
        found = fleet.run(Stage(rate=rate, duration_s=duration_s, warmup_s=5))
        good = found.percentile_ms(99) <= budget_ms and found.error_share < 0.001
        low, high = (middle, high) if good else (low, middle)
    return low


def _balancing(one: Fleet, budget: float, found: dict[str, float]) -> Iterator[str]:
    yield "Load of each server within the budget, images/s, by who balances:"
    yield ""
    yield "| servers | one client (a gateway) | 100 clients | 10 clients a server, each pinned to one |"
    yield "|--:|--:|--:|--:|"
    for servers in SERVERS:
        cells = []
        ways: tuple[tuple[Balancing, int], ...] = (("round_robin", 1), ("round_robin", 100), ("pinned", 10 * servers))
        for balancing, clients in ways:
            # Pinned, some servers have more clients than others: few would not show the worst.
            sampled = 64 if balancing == "pinned" else 8
            many = dataclasses.replace(one, servers=servers, clients=clients, balancing=balancing, sampled=sampled)
            load = bears(many, budget, max(10.0, 60.0 / min(servers, 8)))
            cells.append(f"{load:.1f}")
            found[f"{balancing} {'one' if clients == 1 else 'many'} {servers}"] = load
        say(f"  {servers} servers: {cells}")
        yield f"| {servers:,} | {' | '.join(cells)} |"


def _timeouts(one: Fleet, budget: float, found: dict[str, float]) -> Iterator[str]:
    yield "Of one server, by the batch timeout:"
    yield ""
    yield "| batch timeout, ms | load within the budget, images/s | p99 at half of full load, ms |"
    yield "|--:|--:|--:|"
    half = 0.5e3 * one.times.cores / one.times.image_ms(1)
    for timeout_ms in TIMEOUTS_MS:
        waits = dataclasses.replace(one, settings=dataclasses.replace(one.settings, timeout_s=timeout_ms / 1e3))
        p99 = waits.run(Stage(rate=half, duration_s=60)).percentile_ms(99)
        found[f"timeout {timeout_ms}"] = bears(waits, budget)
        yield f"| {timeout_ms} | {found[f'timeout {timeout_ms}']:.1f} | {p99:.0f} |"


def _answer(found: dict[str, float]) -> str:
    """Returns which of the three breaks the budget, in sentences."""
    one = found["round_robin many 1"]
    pinned = 1 - min(found[f"pinned many {servers}"] for servers in SERVERS) / one
    gateway = max(found[f"round_robin one {servers}"] for servers in SERVERS) / one - 1
    turns = max(0.0, 1 - min(found[f"round_robin many {servers}"] for servers in SERVERS) / one)
    short, long = (max(0.0, 1 - found[f"timeout {ms}"] / found["timeout 0"]) for ms in (5, max(TIMEOUTS_MS)))
    return (
        f"**The client's balancing** costs at worst {turns:.0%} of what one server alone bears where each client takes "
        f"turns, {pinned:.0%} where clients are pinned to servers by their connections, and a single balancer gains up "
        f"to {gateway:.0%}, since it spreads arrivals evenly. **The batch timeout** of 5 ms costs {short:.0%}, of "
        f"{max(TIMEOUTS_MS)} ms {long:.0%}. **The autoscaler** comes too late for a step: at twice the load the budget "
        f"is broken for {found['step 2']:.0f} s, of which its own looks each 15 s are {found['step 2 0 0']:.0f} s, and "
        "the rest is the start of servers and the clients that have not met them yet. What must keep a budget through "
        "a step needs its servers before it: `minReplicas` of the plan."
    )


def _rules(one: Fleet, load: float, start_s: float, reconnect_s: float) -> Autoscaler:
    target = load * one.times.image_ms(1) / 1e3 / one.times.cores
    return Autoscaler(target=target, least=PODS, most=1000, start_s=start_s, reconnect_s=reconnect_s)


def _steps(one: Fleet, budget: float, top: float, start_s: float, found: dict[str, float]) -> Iterator[str]:
    ways = ((start_s, 60.0), (60.0, 60.0), (start_s, 5.0), (0.0, 0.0))
    yield f"{PODS} servers at {SHARE:.0%} of their limit, then a step: seconds over the budget, at the busiest pod:"
    yield ""
    names = [f"start {start:.0f} s, clients reconnect each {reconnect:.0f} s" for start, reconnect in ways]
    yield f"| step | {' | '.join(names)} |"
    yield f"|--:|{'--:|' * len(ways)}"
    load = SHARE * top
    for by in STEPS:
        cells = []
        for start, reconnect in ways:
            step = pictures.step(one, PODS * load, by * PODS * load, _rules(one, load, start, reconnect))
            over_s = step.over_s(budget)
            cells.append(f"{over_s:.0f}")
            found[f"step {by:g} {start:.0f} {reconnect:.0f}"] = over_s
            found.setdefault(f"step {by:g}", over_s)
        say(f"  step {by:g}: {cells}")
        yield f"| × {by:g} | {' | '.join(cells)} |"


def _draw(one: Fleet, budget: float, top: float, start_s: float, path: Path) -> None:
    loads = [part * top for part in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)]
    shown = []
    for title, clients in (("p99 against load, 100 clients", 100), ("p99 against load, one client (a gateway)", 1)):
        found = [
            pictures.curve(
                f"{servers} server{'s' * (servers != 1)}",
                dataclasses.replace(one, servers=servers, clients=clients, balancing="round_robin", sampled=4),
                loads,
            )
            for servers in SERVERS[:-1]
        ]
        shown.append(pictures.curves(title, found, budget))
    load = SHARE * top
    found_step = pictures.step(one, PODS * load, 2 * PODS * load, _rules(one, load, start_s, 60.0))
    shown.append(pictures.steps(f"Twice the load, {PODS} servers and the autoscaler", found_step, budget))
    charts.poster(shown, f"Simulated fleets of {DEFAULT}").savefig(path, dpi=70)
