"""Two results side by side, and whether they differ by more than their own noise."""

from __future__ import annotations

import math
import statistics
from typing import Any

METRICS = {"images_per_s": "images/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms"}


def summarize(stages: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Returns each stage's medians and spread over the rounds, with its errors and limits."""
    rows = {}
    for name, parts in stages.items():
        row: dict[str, Any] = {"mode": parts[0]["mode"], "load": parts[0]["load"], "rounds": len(parts)}
        for metric in (*METRICS, "p90_ms", "p99.9_ms"):
            values = [part[metric] for part in parts if part[metric] is not None]
            row[metric] = [statistics.median(values), min(values), max(values)] if values else None
        errors: dict[str, int] = {}
        for part in parts:
            for code, count in part["errors"].items():
                errors[code] = errors.get(code, 0) + count
        row["requests"] = sum(part["requests"] for part in parts)
        row["errors"] = errors
        # One late round is noise of the machine; most rounds are the client's limit.
        limited = [part["limits"] for part in parts if part["limits"]]
        row["limits"] = limited[-1] if len(limited) * 2 > len(parts) else []
        for name_, key in (("server_cores", "cores"), ("server_rss_mib", "rss_mib")):
            seen = [part["server"][key] for part in parts if key in part["server"]]
            row[name_] = statistics.median(seen) if seen else None
        row["client_cores"] = statistics.median(part["client_cores"] for part in parts)
        batches: dict[str, float] = {}
        for part in parts:
            for size, count in part["server"].get("batches", {}).items():
                batches[size] = batches.get(size, 0) + count
        row["batches"] = batches
        rows[name] = row
    return rows


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what changed, stage by stage and metric by metric.

    A change is outside the noise when the rounds of the two runs do not overlap at all; `chance` is how often that
    happens between two runs of one and the same server (both directions), if rounds are alike and independent.
    """
    before, after = summarize(old["stages"]), summarize(new["stages"])
    rows = []
    for name in after:
        if name not in before:
            continue
        for metric in METRICS:
            then, now = before[name][metric], after[name][metric]
            if then is None or now is None:
                continue
            apart = now[1] > then[2] or now[2] < then[1]
            m, n = before[name]["rounds"], after[name]["rounds"]
            rows.append(
                {
                    "stage": name,
                    "metric": metric,
                    "before": then,
                    "after": now,
                    "ratio": now[0] / then[0] if then[0] else math.inf,
                    "outside_noise": apart,
                    "better": (now[0] > then[0]) == (metric == "images_per_s"),
                    "chance": 2 / math.comb(m + n, m),
                }
            )
    return rows


def setup_changes(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns what was not the same: names, before, now."""
    keys = ("model", "version", "precision", "batching", "signature", "images_per_request", "processes", "machine")
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def best_within(summary: dict[str, Any], budget_ms: float) -> tuple[str, dict[str, Any]] | None:
    """Returns the open-loop stage with the most images per second whose p99 kept the budget with < 0.1 % errors."""
    fitting = [
        (name, row)
        for name, row in summary.items()
        if row["mode"] != "closed"
        and row["p99_ms"]
        and row["p99_ms"][0] <= budget_ms
        and sum(row["errors"].values()) < 0.001 * row["requests"]
    ]
    return max(fitting, key=lambda item: float(item[1]["images_per_s"][0]), default=None)
