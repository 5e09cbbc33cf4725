"""A result as text, as one self-contained HTML page, and as a picture."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

from . import charts
from .compare import METRICS, best_within, setup_changes, summarize

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1a202c;max-width:1120px;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.lead{font-size:1.2rem;background:#ebf8ff;border-left:4px solid #2b6cb0;padding:.75rem 1rem;margin:1rem 0}
.warn{background:#fffaf0;border-left:4px solid #c05621;padding:.5rem 1rem;margin:.5rem 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.88rem}
th,td{text-align:right;vertical-align:top;padding:.3rem .5rem;border-bottom:1px solid #e2e8f0;white-space:nowrap}
th{color:#4a5568;font-weight:600;vertical-align:bottom}th:first-child,td:first-child,th.text,td.text{text-align:left}
td.text{white-space:normal}small{color:#718096;display:block;line-height:1.25}
.good{color:#276749;font-weight:600}.bad{color:#c53030;font-weight:600}.same{color:#718096}
.muted{color:#718096;font-size:.9rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(460px,1fr));gap:0 1.5rem}.wide{grid-column:1/-1}
svg{width:100%;height:auto}
"""


def text(result: dict[str, Any], comparison: list[dict[str, Any]] | None) -> str:
    """Returns the summary for a terminal."""
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
    if comparison:
        lines += ["", verdicts(comparison)]
    for change in comparison or []:
        lines.append(
            f"{change['stage']:>18} {METRICS[change['metric']]:>9}: {change['before'][0]:.1f} -> "
            f"{change['after'][0]:.1f} ({change['ratio']:.2f} ×) {verdict(change)}"
        )
    return "\n".join(lines)


def lead(result: dict[str, Any]) -> str:
    """Returns the answer in a sentence."""
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
        said = f"no open-loop rate measured kept a p99 of {result['budget_ms']:.0f} ms with fewer than 0.1 % errors"
    elif summary:
        name, row = max(summary.items(), key=lambda item: float((item[1]["images_per_s"] or [0])[0]))
        said = f"{_number(row['images_per_s'])} images/s, p99 {_number(row['p99_ms'])} ms ({name})"
    else:
        said = "nothing was measured"
    unfinished = "" if result["complete"] else " (interrupted: partial)"
    return f"{what}: {said}; one request alone {result['single_ms']:.1f} ms{unfinished}."


def verdict(change: dict[str, Any]) -> str:
    """Returns whether a change is more than noise."""
    if not change["outside_noise"]:
        return "within the noise"
    return f"{'better' if change['better'] else 'worse'}, outside the noise (by chance {change['chance']:.0%})"


def verdicts(comparison: list[dict[str, Any]]) -> str:
    """Returns a comparison in a sentence."""
    apart = [change for change in comparison if change["outside_noise"]]
    better = sum(change["better"] for change in apart)
    expected = sum(change["chance"] for change in comparison)
    found = f"{better} better and {len(apart) - better} worse" if apart else "none"
    return (
        f"Of {len(comparison)} figures outside the noise: {found}. Two runs of one server would show about "
        f"{expected:.1f} such by chance."
    )


def write(
    stem: Path, result: dict[str, Any], old: dict[str, Any] | None, comparison: list[dict[str, Any]] | None
) -> list[Path]:
    """Writes `stem.html` and `stem.png`; returns their paths."""
    drawn = charts.of(result, old) if result["summary"] else []
    picture = stem.with_suffix(".png")
    charts.poster(drawn, lead(result)).savefig(picture, dpi=80)
    page = stem.with_suffix(".html")
    page.write_text(_page(result, old, comparison, drawn), encoding="utf-8")
    return [page, picture]


def _page(
    result: dict[str, Any],
    old: dict[str, Any] | None,
    comparison: list[dict[str, Any]] | None,
    drawn: list[charts.Chart],
) -> str:
    machine = result["machine"]
    shares = any(row["server_cores"] for row in result["summary"].values())
    facts = [
        f"{result['time']}, {result['target']}",
        f"generator: {machine['cpu']}, {machine['cores']} cores{', which the server shares' if shares else ''}; "
        f"{result['processes']} processes",
        f"signature {result['signature']}, {_plural(result['images_per_request'], 'image')} and "
        f"{result['request_bytes']:,} bytes a request",
        f"precision {result['precision']}, batching {_batching(result['batching'])}" if result["batching"] else "",
    ]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Load test of {html.escape(result['model'])}</title><style>{_STYLE}</style>",
        f"<h1>Load test of {html.escape(result['model'])}</h1>",
        f"<div class=muted>{'<br>'.join(html.escape(fact) for fact in facts if fact)}</div>",
        f"<p class=lead>{html.escape(lead(result))}</p>",
    ]
    for name, row in result["summary"].items():
        parts += [f"<div class=warn>{html.escape(f'{name}: {limit}')}</div>" for limit in row["limits"]]
    if comparison is not None and old is not None:
        parts.append(_comparison(result, old, comparison))
    parts.append("<div class=charts>")
    for chart in drawn:
        buffer = io.StringIO()
        with charts.as_text(chart.title):
            chart.alone().savefig(buffer, format="svg", metadata={"Date": None})
        svg = buffer.getvalue()
        wide = " class=wide" if chart.wide else ""
        parts.append(f"<div{wide}><h2>{html.escape(chart.title)}</h2>{svg[svg.index('<svg') :]}</div>")
    parts.append("</div>")
    parts.append(_table(result))
    return "\n".join(parts)


def _table(result: dict[str, Any]) -> str:
    rows = [
        "<h2>All loads</h2><table><tr><th>load<th>images/s<th>p50 ms<th>p90 ms<th>p99 ms<th>p99.9 ms<th>server, cores"
        "<th>server, MiB<th>client, cores<th class=text>errors</tr>"
    ]
    for name, row in result["summary"].items():
        rows.append(
            f"<tr><td>{html.escape(name)}<td>{_number(row['images_per_s'])}<td>{_number(row['p50_ms'])}"
            f"<td>{_number(row['p90_ms'])}<td>{_number(row['p99_ms'])}<small>{_spread(row['p99_ms'])}</small>"
            f"<td>{_number(row['p99.9_ms'])}<td>{_cores(row['server_cores'])}<td>{_mebibytes(row)}"
            f"<td>{_cores(row['client_cores'])}<td class=text>{html.escape(_errors(row))}</tr>"
        )
    rounds = max((row["rounds"] for row in result["summary"].values()), default=0)
    rows.append(
        f"</table><p class=muted>Medians of {rounds} interleaved rounds, below p99 its range. Open-loop latency counts "
        "from when a request was due, whether or not the client could send it then."
    )
    return "".join(rows)


def _comparison(result: dict[str, Any], old: dict[str, Any], comparison: list[dict[str, Any]]) -> str:
    before, now = summarize(old["stages"]), result["summary"]
    rows = [
        f"<h2>Compared with {html.escape(old['time'])}, version {html.escape(str(old['version']))}</h2>",
        f"<p>{html.escape(verdicts(comparison))}</p>" if comparison else "<p>No load was measured in both.</p>",
    ]
    changed = [f"{name}: {was} → {became}" for name, was, became in setup_changes(old, result)]
    rows.append(f"<p>{'<br>'.join(html.escape(line) for line in changed) or 'The setup is the same.'}</p>")
    rows.append("<table><tr><th>load")
    rows += [f"<th>{what}, before → now" for what in METRICS.values()]
    rows.append("<th>server cores<th class=text>errors</tr>")
    by_load: dict[str, dict[str, dict[str, Any]]] = {}
    for change in comparison:
        by_load.setdefault(change["stage"], {})[change["metric"]] = change
    for name, changes in by_load.items():
        rows.append(f"<tr><td>{html.escape(name)}")
        for metric in METRICS:
            if (found := changes.get(metric)) is None:
                rows.append("<td>–")
                continue
            kind = "same" if not found["outside_noise"] else "good" if found["better"] else "bad"
            rows.append(
                f"<td>{found['before'][0]:.1f} → {found['after'][0]:.1f} <span class={kind} "
                f"title='{html.escape(verdict(found))}'>×{found['ratio']:.2f}</span>"
                f"<small>{_spread(found['before'])} → {_spread(found['after'])}</small>"
            )
        rows.append(
            f"<td>{_cores(before[name]['server_cores'])} → {_cores(now[name]['server_cores'])}"
            f"<td class=text>{html.escape(_errors(before[name]))} → {html.escape(_errors(now[name]))}</tr>"
        )
    rows.append(
        "</table><p class=muted>Medians, below them the range of the rounds. <span class=good>Green</span> is better "
        "and <span class=bad>red</span> worse, outside the noise: no round of one run reaches into the range of the "
        "other's. <span class=same>Grey</span> is within it. Rounds of one run do not show what differs from day to "
        "day on a shared machine."
    )
    return "".join(rows)


def _batching(batching: dict[str, Any]) -> str:
    return ", ".join(f"{name} {str(value).strip('[]')}" for name, value in batching.items())


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _number(values: list[float] | None) -> str:
    return "–" if not values else f"{values[0]:.1f}"


def _spread(values: list[float] | None) -> str:
    return "–" if not values else f"{values[1]:.1f}–{values[2]:.1f}"


def _cores(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _mebibytes(row: dict[str, Any]) -> str:
    return f"{row['server_rss_mib']:,.0f}" if row["server_rss_mib"] else "–"


def _errors(row: dict[str, Any]) -> str:
    if not row["errors"]:
        return f"0 of {row['requests']:,}"
    return ", ".join(f"{count:,} {code}" for code, count in row["errors"].items()) + f" of {row['requests']:,}"
