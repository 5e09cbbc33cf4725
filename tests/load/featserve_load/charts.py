"""The pictures of a report."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.ticker
from hdrh.histogram import HdrHistogram
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from .compare import summarize
from .measurement import DIGITS, HIGHEST_US, LOWEST_US

_COLORS = {"p50_ms": "#2b6cb0", "p90_ms": "#805ad5", "p99_ms": "#c05621"}
_GRAY = "#718096"
#: Of the chart of percentiles: nines on its axis.
_NINES = (0.0, 0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A titled drawing; a wide one takes a row of its own."""

    title: str
    draw: Callable[[FigureBase], None]
    wide: bool = False

    def alone(self) -> Figure:
        """Returns it as a figure."""
        figure = Figure(figsize=(14, 4.8) if self.wide else (7, 4.4), layout="constrained")
        self.draw(figure)
        return figure


def of(result: dict[str, Any], old: dict[str, Any] | None) -> list[Chart]:
    """Returns the charts of a result; an earlier one is drawn behind it."""
    return [
        Chart(title="Throughput and latency, open loop", draw=_single(_tradeoff, result, old, "open")),
        Chart(title="Throughput and latency, closed loop", draw=_single(_tradeoff, result, old, "closed")),
        Chart(
            title="Latency over time, each load by when its requests were due",
            draw=lambda figure: _over_time(figure, result),
            wide=True,
        ),
        Chart(title="Latency by percentile (HDR histograms of all rounds)", draw=_single(_percentiles, result)),
        Chart(title="Requests that failed", draw=_single(_failures, result)),
        Chart(title="Batch sizes that were executed", draw=_single(_batches, result)),
        Chart(title="Cores and memory", draw=_single(_usage, result)),
    ]


def poster(charts: list[Chart], title: str) -> Figure:
    """Returns all charts in one figure."""
    rows: list[list[Chart]] = []
    for chart in charts:
        if chart.wide or not rows or len(rows[-1]) == 2 or rows[-1][0].wide:
            rows.append([])
        rows[-1].append(chart)
    figure = Figure(figsize=(15, 1 + 4.8 * max(len(rows), 1)), layout="constrained")
    figure.suptitle(title, wrap=True, fontsize=13)
    for row, part in zip(rows, _parts(figure, len(rows), 1), strict=True):
        for chart, place in zip(row, _parts(part, 1, len(row)), strict=True):
            place.suptitle(chart.title, fontsize=11, x=0.02, ha="left")
            chart.draw(place)
    return figure


def as_text(salt: str) -> AbstractContextManager[None]:
    """Texts stay texts in an SVG, and the same result gives the same file."""
    context: AbstractContextManager[None] = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt})
    return context


def _parts(figure: Any, rows: int, columns: int) -> list[Any]:
    if rows == 0:
        return []
    return list(figure.subfigures(rows, columns, squeeze=False).flat)


def _single(draw: Callable[..., None], *arguments: Any) -> Callable[[FigureBase], None]:
    return lambda figure: draw(figure.add_subplot(), *arguments)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=13, color=_GRAY)
    axes.set_axis_off()


def _in_milliseconds(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis around the values, with ticks at 1, 2 and 5 of each power of ten."""
    low, high = min(values, default=1.0) / 1.3, max(values, default=100.0) * 1.3
    axes.set_ylim(low, high)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _tradeoff(axes: Axes, result: dict[str, Any], old: dict[str, Any] | None, kind: str) -> None:
    shown: list[float] = []
    for source, style in ((old, "--x"), (result, "-o")):
        if source is None:
            continue
        rows = [
            row
            for row in summarize(source["stages"]).values()
            if (row["mode"] == "closed") == (kind == "closed") and row["p99_ms"]
        ]
        rows.sort(key=lambda row: float(row["load"]))
        for metric, color in _COLORS.items():
            label = metric.removesuffix("_ms") + ("" if source is result else " before")
            x = [row["images_per_s"][0] for row in rows]
            y = [row[metric][0] for row in rows]
            shown += [value for row in rows for value in row[metric]]
            if source is not result:
                axes.plot(x, y, style, color=color, alpha=0.4, label=label)
                continue
            bars = [
                [row[metric][0] - row[metric][1] for row in rows],
                [row[metric][2] - row[metric][0] for row in rows],
            ]
            axes.errorbar(x, y, yerr=bars, fmt=style, color=color, label=label, capsize=3, markersize=5, elinewidth=0.8)
        if source is result:
            for row in rows:
                load = f"{row['load']:g}/s" if kind == "open" else f"{row['load']:g} caller{'s' * (row['load'] != 1)}"
                place = (row["images_per_s"][0], row["p99_ms"][0])
                axes.annotate(load, place, textcoords="offset points", xytext=(6, 6), fontsize=8, color="#4a5568")
    if not axes.has_data():
        _say(axes, "not measured")
        return
    if "budget_ms" in result:
        axes.axhline(result["budget_ms"], color=_GRAY, linestyle=":", label=f"budget {result['budget_ms']:.0f} ms")
        shown.append(result["budget_ms"])
    _in_milliseconds(axes, shown)
    axes.margins(x=0.12)
    axes.set_xlabel("images/s answered")
    axes.set_ylabel("latency, ms (bars: range of the rounds)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _over_time(figure: Any, result: dict[str, Any]) -> None:
    """Draws a panel a load: thin lines are rounds, thick ones their medians, crosses failures."""
    stages = result["stages"]
    columns = min(len(stages), 4)
    rows = -(-len(stages) // columns)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    shown: list[float] = []
    for axes, (name, parts) in zip(panels.flat, stages.items(), strict=False):
        for metric in ("p99_ms", "p50_ms"):
            values: dict[float, list[float]] = {}
            for part in parts:
                points = [(each["t_s"], each[metric]) for each in part["over_time"] if each[metric] is not None]
                shown += [value for _, value in points]
                for when, value in points:
                    values.setdefault(when, []).append(value)
                if points:
                    axes.plot(*zip(*points, strict=True), "-", color=_COLORS[metric], linewidth=0.6, alpha=0.35)
            if values:
                medians = [(when, statistics.median(found)) for when, found in sorted(values.items())]
                axes.plot(*zip(*medians, strict=True), ".-", color=_COLORS[metric], linewidth=1.8)
        for part in parts:
            failed = [each["t_s"] for each in part["over_time"] if each["errors"]]
            axes.plot(failed, [0.97] * len(failed), "x", color="#c53030", transform=axes.get_xaxis_transform())
        if "budget_ms" in result:
            axes.axhline(result["budget_ms"], color=_GRAY, linestyle=":", linewidth=1)
        axes.set_title(name, fontsize=9, loc="left")
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    for axes in panels.flat[len(stages) :]:
        axes.set_axis_off()
    first = panels[0][0]
    for metric in ("p99_ms", "p50_ms"):
        first.plot([], [], color=_COLORS[metric], label=metric.removesuffix("_ms"))
    _in_milliseconds(first, shown)
    first.legend(fontsize=8)
    figure.supxlabel("seconds since the load began (dotted: budget of p99; red crosses: failures)", fontsize=9)
    figure.supylabel("latency, ms", fontsize=9)


def _percentiles(axes: Axes, result: dict[str, Any]) -> None:
    stages = result["stages"]
    colors = matplotlib.colormaps["viridis"].resampled(max(len(stages), 2) + 1)
    shown: list[float] = []
    for index, (name, parts) in enumerate(stages.items()):
        histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        for part in parts:
            histogram.decode_and_add(part["hdr_microseconds"].encode())
        if (count := histogram.get_total_count()) < 2:
            continue
        # Half of what one request in `count` tells: beyond it there is nothing.
        shares = [1 - 10 ** (-step / 40) for step in range(int(40 * min(3.0, len(str(count)) - 0.5)))]
        y = [histogram.get_value_at_percentile(100 * share) / 1e3 for share in shares]
        style = "--" if parts[0]["mode"] == "closed" else "-"
        axes.plot([1 / (1 - share) for share in shares], y, style, color=colors(index), label=name)
        shown += y
    if not axes.has_data():
        _say(axes, "nothing was answered")
        return
    axes.set_xscale("log")
    axes.set_xticks([1 / (1 - share) for share in _NINES], [f"{100 * share:g}" for share in _NINES])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    _in_milliseconds(axes, shown)
    axes.set_xlabel("percentile of the answered requests")
    axes.set_ylabel("latency, ms")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _failures(axes: Axes, result: dict[str, Any]) -> None:
    summary = result["summary"]
    codes = sorted({code for row in summary.values() for code in row["errors"]})
    total = sum(row["requests"] for row in summary.values())
    if not codes:
        _say(axes, f"none of {total:,}")
        return
    left = [0.0] * len(summary)
    for code in codes:
        shares = [100 * row["errors"].get(code, 0) / max(row["requests"], 1) for row in summary.values()]
        axes.barh(list(summary), shares, left=left, label=code)
        left = [low + share for low, share in zip(left, shares, strict=True)]
    for place, row in enumerate(summary.values()):
        if row["errors"]:
            said = f" {sum(row['errors'].values()):,} of {row['requests']:,}"
            axes.text(left[place], place, said, va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("% of requests")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def _batches(axes: Axes, result: dict[str, Any]) -> None:
    summary = {name: row for name, row in result["summary"].items() if row["batches"]}
    if not summary:
        _say(axes, "no metrics: give --rest HOST:PORT")
        return
    sizes = sorted({size for row in summary.values() for size in row["batches"]}, key=float)
    left = [0.0] * len(summary)
    colors = matplotlib.colormaps["viridis"].resampled(max(len(sizes), 2))
    for index, size in enumerate(sizes):
        shares = [100 * row["batches"].get(size, 0) / sum(row["batches"].values()) for row in summary.values()]
        axes.barh(list(summary), shares, left=left, label=size, color=colors(index))
        left = [low + share for low, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("% of batches, by images (padding included)")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _usage(axes: Axes, result: dict[str, Any]) -> None:
    summary = result["summary"]
    rows = range(len(summary))
    server = [row["server_cores"] or 0 for row in summary.values()]
    axes.barh([row - 0.2 for row in rows], server, 0.4, label="server", color=_COLORS["p50_ms"])
    client = [row["client_cores"] for row in summary.values()]
    axes.barh([row + 0.2 for row in rows], client, 0.4, label="generator", color=_COLORS["p99_ms"])
    for place, row in enumerate(summary.values()):
        if row["server_rss_mib"]:
            said = f" {row['server_rss_mib']:,.0f} MiB"
            axes.text(row["server_cores"] or 0, place - 0.2, said, va="center", fontsize=8)
    axes.set_yticks(list(rows), list(summary))
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("cores" + ("; memory of the server beside its bar" if any(server) else ": the server is elsewhere"))
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
