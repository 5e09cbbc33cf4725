"""Pictures of features: activation maps over a photo, and contact sheets of similar photos."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..durable import write_whole
from ..exceptions import ConfigError, FeatserveError, OutputError
from ..extras import require
from ..images.inputs import open_pil, rgb

#: Suffixes of the files that a figure can be written into.
PICTURES = (".png", ".jpg", ".svg", ".pdf")

#: Pictures side by side, and how many inches wide each is.
_ACROSS = 4
_CELL = 2.0
_INK = "#1b1b1f"
_QUIET = "#6b6b76"
_MAX_PIXELS = 200_000_000


def read_photo(path: str, size: int = 640) -> npt.NDArray[np.uint8]:
    """Returns a photo as `(h, w, 3)` uint8 RGB, its longer side at most `size`, turned as its EXIF data says."""
    from PIL import ImageOps

    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as exc:
        raise OutputError(f"{path} cannot be read: {exc}") from exc
    image = open_pil(path, data, max_pixels=_MAX_PIXELS)
    image.draft("RGB", (size, size))
    image = ImageOps.exif_transpose(image)
    image.thumbnail((size, size))
    return rgb(path, image)


def draw_maps(photo: npt.NDArray[np.uint8], layers: Mapping[str, npt.NDArray[np.float32]], title: str) -> Any:
    """Returns a figure: for each layer, the photo under the energy of all channels and under each of the strongest.

    Args:
        photo: `(h, w, 3)` uint8 RGB.
        layers: an array `(h, w, channels)` or `(channels,)` float32 per layer.
        title: the line above the pictures.
    """
    figure_class = require("matplotlib.figure", "pictures", "a picture").Figure
    height = _CELL * min(max(photo.shape[0] / photo.shape[1], 0.5), 1.6)
    figure = figure_class(
        figsize=(_CELL * _ACROSS + 0.4, (height + 0.3) * 2 * len(layers) + 0.25 * len(layers) + 0.5), dpi=140
    )
    figure.set_facecolor("white")
    inches = figure.get_figheight()
    figure.text(
        0.012,
        1 - 0.22 / inches,
        plain(title),
        fontsize=12,
        fontweight="bold",
        color=_INK,
        va="center",
        parse_math=False,
    )
    for place, (name, values) in enumerate(layers.items()):
        top = 0.5 + place * ((height + 0.3) * 2 + 0.25)
        shape = " × ".join(map(str, values.shape))
        text = f"{name}   {shape}"
        figure.text(
            0.012, 1 - top / inches, text, fontsize=9.5, color=_QUIET, fontweight="bold", va="center", parse_math=False
        )
        grid = figure.add_gridspec(
            2,
            _ACROSS,
            left=0.012,
            right=0.988,
            top=1 - (top + 0.4) / inches,
            bottom=1 - (top + 0.4 + 2 * height + 0.3) / inches,
            wspace=0.05,
            hspace=0.3 / height,
        )
        _cell(figure, grid[0, 0], "photo", photo)
        if values.ndim != 3:
            # Its scale and numbers stand beside the axes: they get room between the photo and the right edge.
            bars = figure.add_subplot(grid[:, 1:])
            box = bars.get_position()
            bars.set_position((box.x0 + 0.05, box.y0 + 0.25 / inches, box.width - 0.06, box.height - 0.25 / inches))
            _draw_bars(bars, values.reshape(-1))
            continue
        _cell(figure, grid[0, 1], "all channels", overlay(photo, np.sqrt(np.square(values, dtype=np.float64).mean(-1))))
        for cell, channel in enumerate(strongest_channels(values, 2 * _ACROSS - 2), 2):
            heat = values[..., channel].astype(np.float64)
            note = f" (constant {heat.flat[0]:.3g})" if np.ptp(heat) == 0 else ""
            _cell(figure, grid[divmod(cell, _ACROSS)], f"channel {channel}{note}", overlay(photo, heat))
    return figure


def strongest_channels(maps: npt.NDArray[np.float32], count: int) -> list[int]:
    """Returns the channels of `(h, w, channels)` activations with the most energy, at most `count`, strongest first."""
    energy = np.square(maps, dtype=np.float64).mean(axis=(0, 1))
    return [int(channel) for channel in np.argsort(-energy, kind="stable")[:count]]


def overlay(photo: npt.NDArray[np.uint8], heat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns a photo `(h, w, 3)` uint8 in gray under one map `(y, x)` in colors, as `(h, w, 3)` in 0..1."""
    from PIL import Image

    low, high = np.percentile(heat, (2, 99))
    scaled = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
    size = (photo.shape[1], photo.shape[0])
    smooth = np.asarray(Image.fromarray(scaled.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    smooth = np.clip(smooth, 0, 1)
    colors = require("matplotlib", "pictures", "a picture").colormaps["inferno"](smooth)[..., :3]
    gray = photo.mean(axis=-1, keepdims=True) / 255
    weight = 0.2 + 0.45 * smooth[..., np.newaxis]
    mixed: npt.NDArray[np.float64] = gray * (1 - weight) + colors * weight
    return mixed


def draw_sheet(query: str, names: Sequence[str], cosines: Sequence[float], title: str) -> Any:
    """Returns a figure: the query large, its neighbors in order with their cosines."""
    figure_class = require("matplotlib.figure", "pictures", "a picture").Figure
    across = min(4, max(len(names), 1))
    down = max(2, -(-len(names) // across))
    figure = figure_class(figsize=(2 * (across + 2) + 0.5, 2.15 * down + 0.7), dpi=140)
    figure.set_facecolor("white")
    grid = figure.add_gridspec(
        down,
        across + 2,
        left=0.015,
        right=0.985,
        top=1 - 0.65 / figure.get_figheight(),
        bottom=0.12 / figure.get_figheight(),
        wspace=0.1,
        hspace=0.22,
    )
    top = 1 - 0.2 / figure.get_figheight()
    figure.text(0.015, top, plain(title), fontsize=12, fontweight="bold", color=_INK, va="center", parse_math=False)
    first = _bare(figure.add_subplot(grid[0:2, 0:2]))
    first.imshow(_square(_photo_or_blank(query), 640))
    first.set_title(
        f"query  {_short(query, 36)}", fontsize=9, color=_INK, loc="left", fontweight="bold", parse_math=False
    )
    for place, (name, cosine) in enumerate(zip(names, cosines, strict=True)):
        cell = _bare(figure.add_subplot(grid[place // across, 2 + place % across]))
        cell.imshow(_square(_photo_or_blank(name), 320))
        cell.set_title(f"{cosine:.3f}", fontsize=9, color=_INK, loc="left", fontweight="bold")
        cell.set_title(_short(name, 20), fontsize=7, color=_QUIET, loc="right", parse_math=False)
    return figure


def page(query: str, names: Sequence[str], cosines: Sequence[float], title: str) -> str:
    """Returns a contact sheet as one HTML page with its photos in it."""

    def card(name: str, note: str) -> str:
        text = html.escape(plain(name), quote=True)
        return (
            f'<figure><img src="{thumbnail(name, 320)}" alt="{text}">'
            f"<figcaption><b>{note}</b> {text}</figcaption></figure>"
        )

    cards = [card(name, f"{cosine:.3f}") for name, cosine in zip(names, cosines, strict=True)]
    style = (
        "body{font:14px system-ui,sans-serif;color:#1b1b1f;margin:24px}main{display:grid;gap:16px;"
        "grid-template-columns:repeat(auto-fill,minmax(200px,1fr))}figure{margin:0}"
        "img{width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px}"
        "figcaption{overflow-wrap:anywhere;color:#6b6b76;font-size:12px}b{color:#1b1b1f;font-size:14px}"
        "header figure{width:320px;margin-bottom:24px}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(plain(title))}</title>'
        f"<style>{style}</style><h1>{html.escape(plain(title))}</h1><header>{card(query, 'query')}</header>"
        f"<main>{''.join(cards)}</main></html>\n"
    )


def thumbnail(path: str, size: int) -> str:
    """Returns a photo as a data URI, its longer side at most `size`; a gray square if it cannot be read."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(_photo_or_blank(path, size)).save(out, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def figure_page(figure: Any, title: str) -> str:
    """Returns a figure as one HTML page."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    data = base64.b64encode(out.getvalue()).decode()
    text = html.escape(plain(title), quote=True)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{text}</title>'
        f'<img style="max-width:100%" src="data:image/png;base64,{data}" alt="{text}"></html>\n'
    )


def save(path: Path, picture: Any) -> None:
    """Writes a figure, or a page.

    Raises:
        OutputError: the file cannot be written.
    """
    options = {"pil_kwargs": {"quality": 88}} if path.suffix == ".jpg" else {}
    try:
        if isinstance(picture, str):
            write_whole(path, lambda file: file.write(picture.encode("utf-8")))
        else:
            write_whole(path, lambda file: picture.savefig(file, format=path.suffix[1:], **options))
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc}") from exc


def check_picture(path: Path, *kinds: str, figures: bool = False) -> None:
    """Refuses a file of unknown kind, or one that needs matplotlib where that is missing, before any work is done.

    Args:
        path: the file.
        kinds: the suffixes that can be written.
        figures: whether pages, too, hold a figure.

    Raises:
        ConfigError: the suffix is none of `kinds`.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix not in kinds:
        raise ConfigError(f"{path}: unknown kind of picture; expected one of {', '.join(kinds)}")
    if path.suffix != ".html" or figures:
        require("matplotlib", "pictures", "a picture")


def _draw_bars(axes: Any, values: npt.NDArray[np.float32]) -> None:
    axes.vlines(np.arange(len(values)), 0, values, color="#b5367a", linewidth=max(0.3, min(3.0, 500 / len(values))))
    axes.axhline(0, color=_INK, linewidth=0.6)
    axes.set_xlim(-1, len(values))
    axes.margins(y=0.1)
    axes.set_xlabel("channel", fontsize=7, color=_QUIET, labelpad=1)
    axes.tick_params(labelsize=7, colors=_QUIET)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title("value of each channel", fontsize=7.5, color=_QUIET, loc="left")
    for channel in np.argsort(-np.abs(values), kind="stable")[:5]:
        axes.annotate(str(channel), (channel, values[channel]), fontsize=7, color=_INK, ha="center", va="bottom")


def _photo_or_blank(path: str, size: int = 640) -> npt.NDArray[np.uint8]:
    # A file may be gone, or be no picture, since its features were taken: the sheet still has its place and name.
    try:
        return read_photo(path, size)
    except FeatserveError:
        return np.full((size, size, 3), 235, np.uint8)


def _square(photo: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(Image.fromarray(photo), (size, size)))


def _cell(figure: Any, place: Any, title: str, picture: npt.NDArray[Any]) -> None:
    axes = _bare(figure.add_subplot(place))
    axes.imshow(picture)
    axes.set_title(title, fontsize=8, color=_QUIET, loc="left")


def _bare(axes: Any) -> Any:
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def plain(text: str) -> str:
    """Returns a text that can be drawn: a font has neither line breaks nor the odd bytes of a file name."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\n", " ")


def _short(path: str, length: int) -> str:
    name = plain(Path(path).name)
    return name if len(name) <= length else f"{name[: length - 6]}…{name[-5:]}"
