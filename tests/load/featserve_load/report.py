"""A result as text, as one self-contained HTML page, and as a picture."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker

matplotlib.use("Agg")
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from .compare import METRICS, best_within, summarize  # noqa: E402

_COLORS = {"p50_ms": "#2b6cb0", "p90_ms": "#805ad5", "p99_ms": "#c05621"}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1a202c;max-width:1120px;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.lead{font-size:1.2rem;background:#ebf8ff;border-left:4px solid #2b6cb0;padding:.75rem 1rem;margin:1rem 0}
.warn{background:#fffaf0;border-left:4px solid #c05621;padding:.5rem 1rem;margin:.5rem 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid #e2e8f0;white-space:nowrap}
th{color:#4a5568;font-weight:600}th:first-child,td:first-child{text-align:left}td.text{white-space:normal;text-align:left}
.good{color:#276749;font-weight:600}.bad{color:#c53030;font-weight:600}.same{color:#718096}
.muted{color:#718096;font-size:.9rem}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:1rem}
svg{width:100%;height:auto}
"""


def text(result: dict[str, Any], comparison: list[dict[str, Any]] | None) -> str:
    """Return the summary for a terminal."""
    lines = [lead(result), ""]
    lines.append(
        f"{'load':>18} {'images/s':>9} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'spread of p99':>16} "
        f"{'server':>7} {'client':>7}  errors"
    )
    for name, row in result["summary"].items():
        p99 = row["p99_ms"]
        lines.append(
            f"{name:>18} {_number(row['images_per_s']):>9} {_number(row['p50_ms']):>8} {_number(row['p90_ms']):>8} "
            f"{_number(p99):>8} {_spread(p99):>16} {_cores(row['server_cores']):>7} {_cores(row['client_cores']):>7}  "
            f"{_errors(row)}"
        )
        lines += [f"{'':>18} ! {limit}" for limit in row["limits"]]
    for change in comparison or []:
        lines.append(
            f"{change['stage']:>18} {METRICS[change['metric']]:>9}: {change['before'][0]:.1f} -> "
            f"{change['after'][0]:.1f} ({change['ratio']:.2f} ×) {verdict(change)}"
        )
    return "\n".join(lines)


def lead(result: dict[str, Any]) -> str:
    """Return the answer in a sentence."""
    if "budget_ms" not in result:
        return "Interrupted before anything was measured."
    summary = result["summary"]
    best = best_within(summary, result["budget_ms"])
    what = f"{result['model']} version {result['version']}, {result['input']} images"
    if best:
        name, row = best
        said = (
            f"{row['images_per_s'][0]:.0f} images/s with p99 {row['p99_ms'][0]:.0f} ms ({name}): the highest open-loop "
            f"rate measured within {result['budget_ms']:.0f} ms"
        )
    elif any(row["mode"] != "closed" for row in summary.values()):
        said = f"no open-loop rate measured stayed within a p99 of {result['budget_ms']:.0f} ms"
    elif summary:
        name, row = max(summary.items(), key=lambda item: float((item[1]["images_per_s"] or [0])[0]))
        said = f"{_number(row['images_per_s'])} images/s, p99 {_number(row['p99_ms'])} ms ({name})"
    else:
        said = "nothing was measured"
    unfinished = "" if result["complete"] else " (interrupted: partial)"
    return f"{what}: {said}; one request alone {result['single_ms']:.1f} ms{unfinished}."


def verdict(change: dict[str, Any]) -> str:
    """Return whether a change is more than noise."""
    if not change["outside_noise"]:
        return "within the noise"
    return f"{'better' if change['better'] else 'worse'}, outside the noise (by chance {change['chance']:.0%})"


def write(
    stem: Path, result: dict[str, Any], old: dict[str, Any] | None, comparison: list[dict[str, Any]] | None
) -> list[Path]:
    """Write `stem.html` and `stem.png`; return their paths."""
    charts: list[tuple[str, Callable[[Axes], None]]] = []
    if result["summary"]:
        charts = [
            ("Throughput and latency, open loop", lambda axes: _tradeoff(axes, result, old, "open")),
            ("Throughput and latency, closed loop", lambda axes: _tradeoff(axes, result, old, "closed")),
            ("Latency over time", lambda axes: _over_time(axes, result)),
            ("Requests that failed", lambda axes: _failures(axes, result)),
            ("Batch sizes that were executed", lambda axes: _batches(axes, result)),
            ("Cores used", lambda axes: _usage(axes, result)),
        ]
    figure = Figure(figsize=(14, 15), layout="constrained")
    figure.suptitle(lead(result), wrap=True, fontsize=12)
    for index, (title, draw) in enumerate(charts):
        axes = figure.add_subplot(3, 2, index + 1)
        draw(axes)
        axes.set_title(title, loc="left")
    picture = stem.with_suffix(".png")
    figure.savefig(picture, dpi=80)
    page = stem.with_suffix(".html")
    page.write_text(_page(result, old, comparison, charts), encoding="utf-8")
    return [page, picture]


def _page(
    result: dict[str, Any],
    old: dict[str, Any] | None,
    comparison: list[dict[str, Any]] | None,
    charts: list[tuple[str, Callable[[Axes], None]]],
) -> str:
    machine = result["machine"]
    facts = [
        f"{result['time']}, {result['target']}",
        f"generator on {machine['cpu']}, {machine['cores']} cores"
        + (", which the server shares" if any(row["server_cores"] for row in result["summary"].values()) else ""),
        f"signature {result['signature']}, {result['images_per_request']} image(s) and "
        f"{result['request_bytes']:,} bytes a request",
        f"batching {result['batching']}" if result["batching"] else "",
    ]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Load test of {html.escape(result['model'])}</title><style>{_STYLE}</style>",
        f"<h1>Load test of {html.escape(result['model'])}</h1>",
        f"<div class=muted>{'<br>'.join(html.escape(fact) for fact in facts if fact)}</div>",
        f"<p class=lead>{html.escape(lead(result))}</p>",
    ]
    for name, row in result["summary"].items():
        parts += [f"<div class=warn>{html.escape(f'{name}: {limit}')}</div>" for limit in row["limits"]]
    if comparison is not None and old is not None:
        parts.append(_comparison(old, comparison))
    parts.append("<div class=charts>")
    for title, draw in charts:
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        svg = buffer.getvalue()
        parts.append(f"<div><h2>{title}</h2>{svg[svg.index('<svg') :]}</div>")
    parts.append("</div>")
    parts.append(_table(result))
    return "\n".join(parts)


def _table(result: dict[str, Any]) -> str:
    rows = [
        "<h2>All loads</h2><table><tr><th>load<th>images/s<th>p50 ms<th>p90 ms<th>p99 ms<th>spread of p99"
        "<th>p99.9 ms<th>server cores<th>server MiB<th>client cores<th>errors</tr>"
    ]
    for name, row in result["summary"].items():
        rss = f"{row['server_rss_mib']:.0f}" if row["server_rss_mib"] else "–"
        rows.append(
            f"<tr><td>{html.escape(name)}<td>{_number(row['images_per_s'])}<td>{_number(row['p50_ms'])}"
            f"<td>{_number(row['p90_ms'])}<td>{_number(row['p99_ms'])}<td>{_spread(row['p99_ms'])}"
            f"<td>{_number(row['p99.9_ms'])}<td>{_cores(row['server_cores'])}<td>{rss}"
            f"<td>{_cores(row['client_cores'])}<td>{html.escape(_errors(row))}</tr>"
        )
    rows.append("</table><p class=muted>Medians of ")
    rows.append(f"{max((row['rounds'] for row in result['summary'].values()), default=0)} interleaved rounds. ")
    rows.append("Open-loop latency counts from when a request was due, whether or not the client could send it then.")
    return "".join(rows)


def _comparison(old: dict[str, Any], comparison: list[dict[str, Any]]) -> str:
    rows = [
        f"<h2>Compared with {html.escape(old['time'])}, version {html.escape(str(old['version']))}</h2>"
        "<table><tr><th>load<th>figure<th>before<th>range<th>now<th>range<th>ratio<th></tr>"
    ]
    for change in comparison:
        kind = "same" if not change["outside_noise"] else "good" if change["better"] else "bad"
        rows.append(
            f"<tr><td>{html.escape(change['stage'])}<td>{METRICS[change['metric']]}<td>{change['before'][0]:.1f}"
            f"<td>{_spread(change['before'])}<td>{change['after'][0]:.1f}<td>{_spread(change['after'])}"
            f"<td>{change['ratio']:.2f}<td class='text {kind}'>{html.escape(verdict(change))}</tr>"
        )
    rows.append(
        "</table><p class=muted>Outside the noise: no round of one run reaches into the range of the other's rounds. "
        "Rounds of one run do not show what differs from day to day on a shared machine."
    )
    return "".join(rows)


def _tradeoff(axes: Axes, result: dict[str, Any], old: dict[str, Any] | None, kind: str) -> None:
    for source, style in ((result, "-o"), (old, "--x")):
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
            if source is result:
                bars = [
                    [row[metric][0] - row[metric][1] for row in rows],
                    [row[metric][2] - row[metric][0] for row in rows],
                ]
                axes.errorbar(x, y, yerr=bars, fmt=style, color=color, label=label, capsize=3, markersize=5)
            else:
                axes.plot(x, y, style, color=color, alpha=0.5, label=label)
        if source is result:
            for row in rows:
                unit = " callers" if kind == "closed" else "/s"
                axes.annotate(
                    f"{row['load']:g}{unit}",
                    (row["images_per_s"][0], row["p99_ms"][0]),
                    textcoords="offset points",
                    xytext=(6, 6),
                    fontsize=8,
                    color="#4a5568",
                )
    if not axes.has_data():
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    if "budget_ms" in result:
        axes.axhline(result["budget_ms"], color="#718096", linestyle=":", label="budget of p99")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    low, high = axes.get_ylim()
    axes.set_yticks(
        [tick for power in (1, 10, 100, 1e3, 1e4) for tick in (power, 2 * power, 5 * power) if low <= tick <= high]
    )
    axes.margins(x=0.12)
    axes.set_xlabel("images/s answered")
    axes.set_ylabel("latency, ms")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _over_time(axes: Axes, result: dict[str, Any]) -> None:
    start = 0.0
    ordered = sorted(
        (
            (part["round"], position, name, part)
            for position, (name, parts) in enumerate(result["stages"].items())
            for part in parts
        ),
        key=lambda item: item[:2],
    )
    for turn, _, name, part in ordered:
        for metric in ("p50_ms", "p99_ms"):
            points = [
                (start + slice_["t_s"], slice_[metric]) for slice_ in part["over_time"] if slice_[metric] is not None
            ]
            if points:
                axes.plot(*zip(*points, strict=True), ".-", color=_COLORS[metric], linewidth=1, markersize=3)
        axes.axvline(start, color="#e2e8f0", linewidth=1, zorder=0)
        if turn == 0:
            place = start + part["duration_s"] / 2
            across = axes.get_xaxis_transform()
            axes.text(place, 0.01, name, rotation=90, fontsize=6, ha="center", va="bottom", transform=across)
        start += part["duration_s"]
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_xlabel("seconds measured, round after round")
    axes.set_ylabel("latency, ms")
    axes.plot([], [], color=_COLORS["p50_ms"], label="p50")
    axes.plot([], [], color=_COLORS["p99_ms"], label="p99")
    axes.legend(fontsize=8, loc="upper right")


def _failures(axes: Axes, result: dict[str, Any]) -> None:
    summary = result["summary"]
    codes = sorted({code for row in summary.values() for code in row["errors"]})
    left = [0.0] * len(summary)
    for code in codes:
        shares = [100 * row["errors"].get(code, 0) / max(row["requests"], 1) for row in summary.values()]
        axes.barh(list(summary), shares, left=left, label=code)
        left = [low + share for low, share in zip(left, shares, strict=True)]
    if codes:
        axes.invert_yaxis()
        axes.set_xlabel("% of requests")
        axes.legend(fontsize=8)
    else:
        total = sum(row["requests"] for row in summary.values())
        axes.text(0.5, 0.5, f"none of {total:,}", ha="center", va="center", transform=axes.transAxes, fontsize=14)
        axes.set_axis_off()


def _batches(axes: Axes, result: dict[str, Any]) -> None:
    summary = {name: row for name, row in result["summary"].items() if row["batches"]}
    if not summary:
        axes.text(0.5, 0.5, "the server does not tell", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    sizes = sorted({size for row in summary.values() for size in row["batches"]}, key=float)
    left = [0.0] * len(summary)
    colors = matplotlib.colormaps["viridis"].resampled(max(len(sizes), 2))
    for index, size in enumerate(sizes):
        shares = [100 * row["batches"].get(size, 0) / sum(row["batches"].values()) for row in summary.values()]
        label = size if float(size) <= 2 else f"≤ {size}"
        axes.barh(list(summary), shares, left=left, label=label, color=colors(index))
        left = [low + share for low, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("% of batches, by images (padding included)")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _usage(axes: Axes, result: dict[str, Any]) -> None:
    summary = result["summary"]
    names = list(summary)
    rows = range(len(names))
    server = [row["server_cores"] or 0 for row in summary.values()]
    axes.barh([row - 0.2 for row in rows], server, 0.4, label="server", color="#2b6cb0")
    client = [row["client_cores"] for row in summary.values()]
    axes.barh([row + 0.2 for row in rows], client, 0.4, label="generator", color="#c05621")
    axes.set_yticks(list(rows), names)
    axes.invert_yaxis()
    axes.set_xlabel("cores" + ("" if any(server) else " (the server is not on this machine)"))
    memory = [row["server_rss_mib"] for row in summary.values() if row["server_rss_mib"]]
    if memory:
        axes.text(
            0.98, 0.03, f"server memory {min(memory):,.0f}–{max(memory):,.0f} MiB", ha="right", transform=axes.transAxes
        )
    axes.legend(fontsize=8)


def _number(values: list[float] | None) -> str:
    return "–" if not values else f"{values[0]:.1f}"


def _spread(values: list[float] | None) -> str:
    return "–" if not values else f"{values[1]:.1f}–{values[2]:.1f}"


def _cores(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _errors(row: dict[str, Any]) -> str:
    if not row["errors"]:
        return f"0 of {row['requests']}"
    return ", ".join(f"{count} {code}" for code, count in row["errors"].items()) + f" of {row['requests']}"
