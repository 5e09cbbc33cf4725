"""A comparison as one HTML page with its photos in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from html import escape

from ..analysis.pictures import plain, thumbnail
from .comparison import Changed, LayerComparison
from .sides import Comparison
from .statistics import INTERVALS
from .text import describe_change, describe_layer, describe_photos, describe_side, describe_sizes

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1b1b1f;margin:32px auto;max-width:1100px;padding:0 20px}"
    "h1{font-size:24px}h2{font-size:18px;margin:36px 0 8px}.verdict{padding:14px 18px;border-radius:8px;"
    "border-left:6px solid;font-size:17px;overflow-wrap:anywhere}.mix{background:#e9f6ec;border-color:#2b8a3e}"
    ".again{background:#fdecec;border-color:#c92a2a}.unknown{background:#fff7e0;border-color:#e0a100}"
    "table{border-collapse:collapse}td,th{padding:4px 18px 4px 0;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere;white-space:pre-wrap}th{color:#6b6b76;font-weight:500;white-space:nowrap}"
    ".row{display:flex;gap:18px;align-items:flex-start;margin:14px 0;flex-wrap:wrap}figure{margin:0}"
    "img{width:96px;height:96px;object-fit:cover;border-radius:6px;display:block}.photo img{width:210px;height:210px}"
    "figcaption,.quiet{color:#6b6b76;font-size:12px;overflow-wrap:anywhere}figcaption{max-width:210px}"
    ".strip{display:flex;gap:6px;margin-bottom:6px}svg{display:block;margin:10px 0 2px}"
)
_PHOTO = 320
_SMALL = 160
_WIDTH, _HEIGHT = 480, 90


def to_page(comparison: Comparison) -> str:
    """Returns the page."""
    # A photo may be the neighbor of several others.
    picture = functools.cache(thumbnail)
    title = f"{comparison.a['name']} and {comparison.b['name']}"
    verdict = comparison.verdict
    others = "".join(
        f"<tr><th>in {side} alone</th><td>{_text(', '.join(names))}</td></tr>"
        for side, names in comparison.other_layers.items()
        if names
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
        f'<h1>May these vectors be mixed?</h1><p class="verdict {verdict.status}">{_text(verdict.sentence)}</p>'
        f"<table><tr><th>A</th><td>{_text(describe_side(comparison.a))}</td></tr>"
        f"<tr><th>B</th><td>{_text(describe_side(comparison.b))}</td></tr>"
        f"<tr><th>photos</th><td>{_text(describe_photos(comparison))}</td></tr>{others}</table>"
        f"{''.join(_section(layer, picture) for layer in comparison.layers)}"
        f'<p class="quiet">{_text(INTERVALS)}. Recall holds among so many photos: among more, neighbors lie closer, '
        "and more of them change places.</p></html>\n"
    )


def _section(layer: LayerComparison, picture: Callable[[str, int], str]) -> str:
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(text)}</td></tr>" for name, text in describe_layer(layer))
    changed = "".join(_changed(item, layer, picture) for item in layer.changed)
    return (
        f"<h2>{_text(layer.name)} <span class=quiet>{_text(describe_sizes(layer))}</span></h2><table>{rows}</table>"
        f"{_histogram(layer)}{'<h3>Photos that changed most</h3>' + changed if changed else ''}"
    )


def _histogram(layer: LayerComparison) -> str:
    if layer.cosine is None or layer.same:
        return ""
    width = _WIDTH / len(layer.cosine_bins)
    highest = max(layer.cosine_bins)
    bars = "".join(
        f'<rect x="{place * width:.1f}" y="{_HEIGHT - count / highest * _HEIGHT:.1f}" width="{width - 1:.1f}" '
        f'height="{count / highest * _HEIGHT:.1f}" fill="#b5367a"/>'
        for place, count in enumerate(layer.cosine_bins)
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="histogram of cosines">{bars}</svg>'
        f'<div class="quiet">photos by cosine, from {layer.cosine.minimum:.5f} to 1</div>'
    )


def _changed(item: Changed, layer: LayerComparison, picture: Callable[[str, int], str]) -> str:
    after = "B in B" if layer.mixed is None else "B in A"
    strips = ""
    if item.neighbors_before:
        strips = _strip("nearest, A in A", item.neighbors_before, picture)
        strips += _strip(f"nearest, {after}", item.neighbors_after, picture)
    return (
        f'<div class="row"><figure class="photo">{_image(item.photo, _PHOTO, picture)}'
        f"<figcaption><b>{describe_change(item)}</b><br>{_text(item.photo)}</figcaption></figure><div>{strips}</div></div>"
    )


def _strip(title: str, photos: Sequence[str], picture: Callable[[str, int], str]) -> str:
    images = "".join(_image(photo, _SMALL, picture) for photo in photos)
    return f'<div class="quiet">{title}</div><div class="strip">{images}</div>'


def _image(path: str, size: int, picture: Callable[[str, int], str]) -> str:
    name = _text(path)
    return f'<img src="{picture(path, size)}" alt="{name}" title="{name}">'


def _text(text: str) -> str:
    return escape(plain(text), quote=True)
