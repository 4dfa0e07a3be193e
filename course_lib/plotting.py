"""Figures from arrays and labels; the only module that imports plotly.

1. Every figure takes its `Words`: a title that states the finding, axis titles (with their units) and an alt text
   that says what there is to see; the alt text travels in ``figure.layout.meta["alt"]``.
2. Groups differ by colour, from the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), *and* by
   symbol, dash or pattern, so that a figure can be read in grey and by a colour-blind reader.
3. Numbers are rounded to four significant digits and nothing random goes in: same input, same bytes.
4. Nothing is fetched: figures show offline.

Values may be lists, arrays or tensors. A group is a name with its values; the first name of a mapping gets the
first style (orange, filled triangles). What plotly would silently leave out is refused with a ValueError: NaN,
lengths that disagree, names that are not drawn.
"""

import hashlib
import html
import os
import textwrap
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

WIDTH = 760
INK, SOFT, GRID = "#222222", "#6E6E6E", "#E8E8E8"
_with_script = iter([True])
ABOVE = dict(y=1, yref="paper", yanchor="bottom", showarrow=False)

Values = Sequence | np.ndarray | torch.Tensor
Groups = Mapping[str, Values]
Hover = Mapping[str, Sequence[str]]  # group name to one text per point


class Words(TypedDict):
    """Texts that every figure needs; an alt text that only repeats the title is refused."""

    x_title: str
    y_title: str
    title: str
    alt: str


class _Style(NamedTuple):
    """Colour of one group, and what tells it apart without colour."""

    colour: str
    symbol: str
    dash: str
    pattern: str
    glyph: str


STYLES = (
    _Style("#D55E00", "triangle-up", "solid", "", "▲"),
    _Style("#0072B2", "circle-open", "dash", "/", "○"),
    _Style("#009E73", "square", "dot", "x", "■"),
    _Style("#CC79A7", "diamond-open", "dashdot", ".", "◇"),
    _Style("#E69F00", "cross", "longdash", "\\", "✚"),
    _Style("#56B4E9", "star-open", "longdashdot", "-", "☆"),
)
CONTROL = _Style(SOFT, "diamond-open", "dot", "/", "▨")


def scatter(groups: Groups, *, hover: Hover, **words: Unpack[Words]) -> go.Figure:
    """Return a figure of points in a plane, ``[prompt, 2]`` per group; hovering over a point shows its prompt."""
    figure = _blank(**words)
    for cloud in _clouds(groups, hover, size=7):
        figure.add_trace(cloud)
    return figure


def scatter_grid(panels: Mapping[str, Groups], *, hover: Hover, **words: Unpack[Words]) -> go.Figure:
    """Return small scatters of the same prompts, one per panel ("layer 0", ...), each on its own scale."""
    if len({tuple(groups) for groups in panels.values()}) != 1:
        raise ValueError("Every panel needs the same groups in the same order: they share colours and legend.")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    titles = dict(x_title=_plain(words["x_title"]), y_title=_plain(words["y_title"]))
    spacing = dict(horizontal_spacing=0.045, vertical_spacing=0.26 / rows)
    grid = make_subplots(rows, columns, **titles, **spacing, subplot_titles=list(map(_plain, panels)))
    figure = _blank(**words, height=140 + 190 * rows, base=grid)
    for i, groups in enumerate(panels.values()):
        for cloud in _clouds(groups, hover, size=5):
            figure.add_trace(cloud.update(showlegend=i == 0), row=i // columns + 1, col=i % columns + 1)
    figure.update_annotations(font=dict(size=13, color=INK))
    figure.update_layout(margin_t=figure.layout.margin.t + 22, legend_y=1 + 26 / (190 * rows))
    figure.update_xaxes(title=None, nticks=5, tickfont_size=11)
    return figure.update_yaxes(title=None, nticks=5, tickfont_size=11)


def lines(
    x: Values,
    series: Groups,
    *,
    intervals: Groups | None = None,
    control: Values | None = None,
    control_label: str = "random directions",
    y_range: tuple[float, float] | None = None,
    **words: Unpack[Words],
) -> go.Figure:
    """Return a figure of lines over layers, coefficients or widths, each named at its right end.

    Args:
        x: Layers, coefficients, ..., ``[point]``; each line of `series` likewise.
        intervals: Line name to ``[point, 2]`` (low, high), drawn as a pale band.
        control: Every run of the control, ``[run, point]``; the hatched band is their full range.
    """
    places = _numbers("x", x, (None,))
    values, bands = _grouped(series, (places.size,)), _intervals(intervals or {}, series, places.size)
    runs = None if control is None else _numbers("control", control, (None, places.size))
    ends = [(values[name][-1], name, STYLES[i]) for i, name in enumerate(values)]
    ends += [] if runs is None else [(runs[:, -1].mean(), control_label, CONTROL)]
    figure = _blank(**words, above=4).update_layout(margin_r=44 + 7 * max(len(end[1]) for end in ends))
    if runs is not None:
        limits = y_range or _limits([*values.values(), *runs])
        figure.add_trace(_control_band(places, runs, f"{control_label}, range of {len(runs)}", np.ptp(limits)))
    for i, name in enumerate(values):
        if name in bands:
            figure.add_trace(_band(places, bands[name], f"{name}, interval", fillcolor=_faint(STYLES[i].colour)))
        figure.add_trace(_line(places, values[name], name, STYLES[i]))
    _name_ends(figure, ends, y_range or _limits([*values.values(), *bands.values(), *([] if runs is None else runs)]))
    whole, steps = np.all(places == places.round()), np.unique(np.diff(np.unique(places)))
    if whole and len(steps) == 1 and places.size <= 17:
        return figure.update_xaxes(tickvals=np.unique(places).tolist())
    return figure.update_xaxes(dtick=max(1, -(-int(np.ptp(places)) // 16)) if whole else None)


def bars(
    labels: Sequence[str],
    series: Groups,
    *,
    intervals: Groups | None = None,
    controls: Mapping[str, Sequence[Values]] | None = None,
    control_label: str = "each random direction",
    y_range: tuple[float, float] | None = None,
    **words: Unpack[Words],
) -> go.Figure:
    """Return a figure of bars with their values on top, intervals as whiskers and control runs as diamonds beside.

    Args:
        labels: Name of each bar, or cluster of bars.
        series: Name to values, ``[label]``; several names stand side by side.
        intervals: Name to ``[label, 2]`` (low, high).
        controls: Name to the control runs of each label; an empty list for a label that has none.
    """
    values, bounds = _grouped(series, (len(labels),)), _intervals(intervals or {}, series, len(labels))
    _require_known(controls or {}, series)
    runs = {name: [_numbers(name, run, (None,)) for run in lists] for name, lists in (controls or {}).items()}
    figure = _blank(**words).update_layout(showlegend=len(values) > 1 or bool(runs))
    slot = 0.86 / max(len(values), 2 if len(labels) < 4 else 1)  # two bars alone would be walls
    for i, name in enumerate(values):
        places = np.arange(len(labels)) + (i - (len(values) - 1) / 2) * slot
        figure.add_trace(_bar(places, values[name], bounds.get(name), name, STYLES[i], 0.64 * slot))
        figure.add_trace(_written(places, values[name], bounds.get(name)))
        if name in runs:
            marks = _control_marks(places + 0.42 * slot, runs[name], control_label, 0.04 * slot)
            figure.add_trace(marks.update(showlegend=name == next(iter(runs))))
    wrapped = [_plain(label, max(9, 84 // len(labels))) for label in labels]  # upright: a slanted one may vanish
    figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=wrapped, tickangle=0, showgrid=False)
    return figure.update_yaxes(range=y_range, rangemode="tozero")


def heat_map(
    values: Values,
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    colour_title: str,
    centre: float | None = None,
    cell_text: Sequence[Sequence[str]] | None = None,
    frame: tuple[int, int] | None = None,
    **words: Unpack[Words],
) -> go.Figure:
    """Return a figure of a table in colour, positions by layers for instance, with each value written in its cell.

    Args:
        values: ``[row, column]``.
        colour_title: What a cell shows, with its unit.
        centre: The value shown white, orange above it and blue below; by default the minimum is white.
        cell_text: What to write instead of the value, for instance to cross out a discarded candidate.
        frame: Row and column of a cell to frame, such as the chosen candidate.
    """
    table = _numbers("values", values, (len(row_labels), len(column_labels)))
    texts = cell_text or [_short(row, 2) for row in table]
    if np.shape(texts) != table.shape:
        raise ValueError(f"cell_text has shape {np.shape(texts)}, values {table.shape}.")
    subtitle = _plain(f"in each cell: {colour_title}", 40)
    more = 18 * subtitle.count("<br>")
    figure = _blank(**words, above=22 + more, height=160 + more + 40 * table.shape[0])
    figure.add_trace(_cells(table, texts, centre))
    figure.add_annotation(text=subtitle, x=0, xref="paper", xanchor="left", align="left", **ABOVE)
    if frame:
        corners = dict(y0=frame[0] - 0.5, y1=frame[0] + 0.5, x0=frame[1] - 0.5, x1=frame[1] + 0.5)
        figure.add_shape(type="rect", line=dict(color=INK, width=3), **corners)
    room = max(11, 84 // len(column_labels)) if len(column_labels) < 12 else None  # more stand at a slant
    wrapped = [_plain(label, room) for label in column_labels]
    for update, labels in ((figure.update_xaxes, wrapped), (figure.update_yaxes, list(map(_plain, row_labels)))):
        update(tickvals=list(range(len(labels))), ticktext=labels, showgrid=False)
    return figure.update_yaxes(autorange="reversed")


def graph(
    nodes: Mapping[Hashable, tuple[str, float, float]],
    edges: Mapping[tuple[Hashable, Hashable], float],
    *,
    row_labels: Sequence[str],
    unit: str,
    **words: Unpack[Words],
) -> go.Figure:
    """Return a figure of boxes with an arrow for each edge: positions from left to right, layers from bottom to top.

    Args:
        nodes: Name of a box to (its text, its column, its row), both counted from 0.
        edges: (from, to) to a signed number: solid orange above 0, dashed blue below, as thick as it is large.
        row_labels: Name of each row, from the bottom.
        unit: Of the numbers on the arrows.
    """
    values = _numbers("edges", list(edges.values()), (None,))
    columns, rows = zip(*((column, row) for _, column, row in nodes.values()), strict=True)
    if not 0 <= min(rows) <= max(rows) < len(row_labels):
        raise ValueError(f"A box is in row {min(rows)} or {max(rows)}, but there are {len(row_labels)} row_labels.")
    figure = _blank(**words, above=22, height=150 + 96 * len(row_labels))
    span = max(columns) - min(columns)
    wide = min(16, int(88 / (span + 1)) - 1) if span < 9 else 8  # letters in a line, so that neighbours do not touch
    sizes = {name: _box_size(textwrap.wrap(text, wide), span) for name, (text, *_) in nodes.items()}
    for (source, target), value in zip(edges, values, strict=True):
        sides = sorted((end for end in edges if end[1] == target), key=lambda end: nodes[end[0]][1:])
        port = (sides.index((source, target)) + 0.5) / len(sides) - 0.5  # arrows into one box, side by side
        start, end = ((*nodes[name][1:], *sizes[name]) for name in (source, target))
        _arrow(figure, start, end, port, float(value), float(np.abs(values).max()))
    for text, column, row in nodes.values():
        box = dict(bgcolor="#FFFFFF", bordercolor=INK, borderpad=4, font_size=12, showarrow=False)
        figure.add_annotation(x=column, y=row, text=_plain(text, wide), **box)
    figure.add_annotation(text=f"on each arrow: {_plain(unit)}", x=0, xref="paper", xanchor="left", **ABOVE)
    figure.update_xaxes(range=[min(columns) - 0.6, max(columns) + 0.6], showgrid=False, showticklabels=False, ticks="")
    ticks = dict(tickvals=list(range(len(row_labels))), ticktext=list(map(_plain, row_labels)))
    figure.update_layout(showlegend=False, width=WIDTH)  # boxes and arrows are placed for this width
    return figure.update_yaxes(**ticks, range=[-0.4, len(row_labels) - 0.6], showgrid=False)


def show(figure: go.Figure) -> None:
    """Display the figure, with its alt text as text/plain and in a fold below it, where a screen reader finds it.

    Where the environment variable COURSE_FIGURES is "html" (a kernel may be registered with it), the figure is HTML with a
    script, for a Jupyter server without plotly's extension. The first one carries plotly.js, 5 MB, for all: no network.

    It takes the width of its cell, 760 pixels at most in a JupyterLab that trusts the notebook; a `graph`, whose boxes have
    places, has these 760 always.

    Raises:
        ValueError: The figure carries no alt text.
    """
    from IPython.display import display

    alt = (figure.layout.meta or {}).get("alt")
    if not alt:
        raise ValueError("This figure has no alt text: make it with a function of course_lib.plotting.")
    # JupyterLab resizes; responsive would lose the height in a cell. The tool bar would lie over the title.
    config = {"displayModeBar": False, "responsive": False}
    drawing: Any = {"application/vnd.plotly.v1+json": {**figure.to_dict(), "config": config}}
    if os.environ.get("COURSE_FIGURES") == "html":
        name = "figure-" + hashlib.sha256(figure.to_json().encode()).hexdigest()[:12]
        html_options = {"full_html": False, "include_plotlyjs": next(_with_script, False), "div_id": name}
        drawing = {"text/html": figure.to_html(config, **html_options)}
    display({**drawing, "text/plain": alt}, raw=True)
    style = f"<style>.jp-RenderedPlotly {{max-width: {WIDTH}px}}</style>"  # plotly itself has no maximum width
    fold = f"{style}<details><summary>This figure in words</summary><p>{html.escape(alt)}</p></details>"
    display({"text/html": fold}, raw=True)


def _blank(
    *,
    x_title: str,
    y_title: str,
    title: str,
    alt: str,
    height: int = 420,
    above: int = 26,
    base: go.Figure | None = None,
) -> go.Figure:
    """Return an empty figure, as wide as the cell that shows it; `above` is the space between title and data."""
    _require_alt(title, alt)
    heading = _plain(title, 48)  # lines that a cell of 470 pixels shows
    margin = dict(l=64, r=20, t=52 + above + 20 * heading.count("<br>"), b=56)
    place = dict(x=0, xref="container", y=1, yref="container", yanchor="top", pad=dict(t=14, l=14))
    legend = dict(orientation="h", x=0, xanchor="left", y=1.01, yanchor="bottom", itemsizing="constant")
    frame = dict(template="none", autosize=True, height=height, meta={"alt": alt}, margin=margin, legend=legend)
    title_is = dict(text=f"<b>{heading}</b>", font_size=15, **place)
    font = dict(family="Helvetica, Arial, sans-serif", size=13, color=INK)
    figure = go.Figure(base).update_layout(frame, title=title_is, hoverlabel_align="left", font=font)
    ticks = dict(linecolor=SOFT, ticks="outside", tickcolor=SOFT, automargin=True)
    for update, text in ((figure.update_xaxes, x_title), (figure.update_yaxes, y_title)):
        update(title=dict(text=_plain(text, 44), font_size=14, standoff=8), gridcolor=GRID, zeroline=False, **ticks)
    return figure


def _points(x: Iterable[float], y: Iterable[float], name: str, **look: Any) -> go.Scatter:
    return go.Scatter(x=_rounded(x), y=_rounded(y), name=_plain(name), **look)


def _clouds(groups: Groups, hover: Hover, size: int) -> Iterator[go.Scatter]:
    for style, (name, points) in zip(STYLES, _grouped(groups, (None, 2)).items(), strict=False):
        marker = dict(color=style.colour, symbol=style.symbol, size=size, opacity=0.75)
        look = dict(mode="markers", legendgroup=name, marker=marker, **_hover(name, hover[name], len(points)))
        yield _points(points[:, 0], points[:, 1], name, **look)


def _line(x: np.ndarray, y: np.ndarray, name: str, style: _Style) -> go.Scatter:
    marker = dict(color=style.colour, symbol=style.symbol, size=8)
    line = dict(color=style.colour, dash=style.dash)
    return _points(x, y, name, mode="lines+markers", line=line, marker=marker, showlegend=False)


def _band(x: np.ndarray, bounds: np.ndarray, name: str, **fill: Any) -> go.Scatter:
    around, back = np.concatenate([x, x[::-1]]), np.concatenate([bounds[:, 0], bounds[::-1, 1]])
    look = dict(mode="lines", line_width=0, hoveron="fills", hoverinfo="name", showlegend=False)
    return _points(around, back, name, fill="toself", **look, **fill)


def _control_band(x: np.ndarray, runs: np.ndarray, name: str, y_span: float) -> go.Scatter:
    hatch = dict(shape=CONTROL.pattern, fgcolor=SOFT, bgcolor=_faint(SOFT), size=7, solidity=0.12)
    low, high, sliver = runs.min(0), runs.max(0), 0.004 * y_span
    thin = sliver * (high - low < sliver)  # a band without width would be invisible
    return _band(x, np.stack([low - thin, high + thin], axis=1), name, fillpattern=hatch)


def _name_ends(figure: go.Figure, ends: list[tuple[float, str, _Style]], limits: Sequence[float]) -> None:
    """Write each line's name at its right end, with names that would overlap moved apart, and fix the y axis."""
    gap = (limits[1] - limits[0]) * 0.065
    at = np.array([end[0] for end in ends])
    order = at.argsort(kind="stable")
    ladder = gap * np.arange(len(ends))
    at[order] = np.maximum.accumulate(at[order] - ladder) + ladder
    at[order] = np.minimum(at[order], limits[1] - ladder[::-1])
    for y, (_, name, style) in zip(_rounded(at), ends, strict=True):
        text = f'<span style="color:{style.colour}">{style.glyph}</span> {_plain(name)}'
        figure.add_annotation(x=1, xref="paper", xshift=8, y=y, text=text, showarrow=False, xanchor="left")
    figure.update_yaxes(range=_rounded(limits))


def _bar(x: np.ndarray, y: np.ndarray, bounds: np.ndarray | None, name: str, style: _Style, width: float) -> go.Bar:
    pattern = dict(shape=style.pattern, fgcolor="white", bgcolor=style.colour, size=7, solidity=0.3)
    bar = go.Bar(x=_rounded(x), y=_rounded(y), width=round(width, 4), name=_plain(name))
    if bounds is not None:
        ends = dict(array=_rounded(bounds[:, 1] - y), arrayminus=_rounded(y - bounds[:, 0]), symmetric=False)
        bar.update(error_y=dict(color=INK, thickness=1.5, width=5, **ends))
    return bar.update(marker=dict(color=style.colour, pattern=pattern))


def _written(x: np.ndarray, y: np.ndarray, bounds: np.ndarray | None) -> go.Scatter:
    low, high = (y, y) if bounds is None else bounds.T
    side = ["bottom center" if value < 0 else "top center" for value in y]  # always outside the bar
    look = dict(mode="text", textposition=side, hoverinfo="skip", showlegend=False, cliponaxis=False)
    return _points(x, np.where(y < 0, np.minimum(y, low), np.maximum(y, high)), "", text=_short(y, 3), **look)


def _control_marks(places: np.ndarray, runs: list[np.ndarray], label: str, spread: float) -> go.Scatter:
    fans = [at + np.linspace(-spread, spread, len(run)) for at, run in zip(places, runs, strict=True)]
    marker = dict(symbol="diamond-open", color=INK, size=6, opacity=0.7)
    x, y = np.concatenate(fans), np.concatenate(runs)
    return _points(x, y, label, mode="markers", legendrank=2000, marker=marker)


def _cells(table: np.ndarray, texts: Sequence[Sequence[str]], centre: float | None) -> go.Heatmap:
    orange, blue = STYLES[0].colour, STYLES[1].colour
    scale = [[0, "#FFFFFF"], [1, blue]] if centre is None else [[0, blue], [0.5, "#FFFFFF"], [1, orange]]
    look = dict(colorscale=scale, zmid=centre, colorbar=dict(thickness=10, outlinewidth=0), xgap=2, ygap=2)
    words = dict(texttemplate="%{text}", hovertemplate="%{y}, %{x}: %{z}<extra></extra>")
    text = [list(map(_plain, row)) for row in texts]
    return go.Heatmap(z=list(map(_rounded, table)), text=text, **look, **words)


def _box_size(written: Sequence[str], span: float) -> tuple[float, float]:
    """Return about half the width and height of a box with these lines, in columns and rows (letters: 7 pixels, lines: 16)."""
    return (3.3 * max(map(len, written)) + 5) * (span + 1.2) / 640, (8 * len(written) + 5) / 100


def _arrow(figure: go.Figure, start: tuple, end: tuple, port: float, value: float, largest: float) -> None:
    """Draw a curve from the top of one box to the bottom of another, or around boxes between, its value near the start.

    Args:
        start: Column, row, half width and half height of the box.
        end: Likewise.
        port: Where along the bottom of the box the arrow ends, from -0.5 to 0.5.
        value: Decides colour, dash and width.
        largest: Magnitude of the thickest arrow.
    """
    style, width = STYLES[0 if value >= 0 else 1], 1 + 4 * abs(value) / largest
    level, straight = start[1] == end[1], start[0] == end[0]
    begin = np.add(start[:2], (start[2], 0.0) if level else (0.0, start[3]))
    finish = np.add(end[:2], (-end[2], 0.0) if level else (1.7 * port * end[2], -end[3] - 0.02))
    around = straight and end[1] - start[1] > 1
    if around:
        begin, finish = np.add(start[:2], (start[2], 0.0)), np.add(end[:2], (end[2], 0.0))
    t = np.linspace(0, 1, 21)[:, None]
    middle = (max(begin[0], finish[0]) + 0.5, (begin[1] + finish[1]) / 2) if around else (begin + finish) / 2
    x, y = ((1 - t) ** 2 * begin + 2 * t * (1 - t) * middle + t**2 * finish).T
    line = dict(color=style.colour, width=round(width, 2), dash=style.dash)
    figure.add_trace(_points(x, y, "", mode="lines", line=line, hoverinfo="skip"))
    tip = dict(color=style.colour, symbol="arrow", size=[0, round(10 + 1.5 * width, 2)], angleref="previous")
    figure.add_trace(_points(x[[-3, -1]], y[[-3, -1]], "", mode="markers", marker=tip, hoverinfo="skip"))
    place = 10 if straight else 5
    label = dict(bgcolor="#FFFFFF", borderpad=1, font=dict(color=style.colour, size=12), showarrow=False)
    figure.add_annotation(x=_rounded(x)[place], y=_rounded(y)[place], text=_short([value], 2)[0], **label)


def _hover(name: str, texts: Sequence[str], n: int) -> dict:
    if len(texts) != n:
        raise ValueError(f"hover[{name!r}] has {len(texts)} texts for {n} points.")
    shown = [f"<b>{_plain(name)}</b><br>{_plain(text, 60)}" for text in texts]
    return dict(hovertext=shown, hovertemplate="%{hovertext}<extra></extra>")


def _grouped(groups: Groups, shape: tuple[int | None, ...]) -> dict[str, np.ndarray]:
    if len(groups) > len(STYLES):
        raise ValueError(f"{len(groups)} groups, but only {len(STYLES)} can be told apart.")
    return {name: _numbers(name, values, shape) for name, values in groups.items()}


def _intervals(intervals: Groups, series: Groups, n: int) -> dict[str, np.ndarray]:
    _require_known(intervals, series)
    return {name: _numbers(f"interval of {name}", pairs, (n, 2)) for name, pairs in intervals.items()}


def _require_known(names: Iterable[str], series: Groups) -> None:
    unknown = set(names) - set(series)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are not among the series drawn: {', '.join(series)}.")


def _numbers(name: str, values: Values, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a finite float64 array of the given shape (None: any length), else raise ValueError."""
    array = torch.as_tensor(values, dtype=torch.float64).detach().cpu().numpy()
    if array.ndim != len(shape) or any(w not in (None, n) for w, n in zip(shape, array.shape, strict=True)):
        wanted = " x ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name!r} has shape {' x '.join(map(str, array.shape))}, but {wanted} is needed.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name!r} has a NaN or infinite value at {np.argwhere(~np.isfinite(array))[0].tolist()}.")
    return array


def _require_alt(title: str, alt: str) -> None:
    if not alt.strip() or alt == title:
        raise ValueError("alt must say what there is to see (axes, groups, telling values), and not repeat the title.")


def _limits(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([part.ravel() for part in parts])
    margin = 0.06 * (np.ptp(values) or 1.0)
    return float(values.min() - margin), float(values.max() + margin)


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.4g}") + 0.0 for value in values]


def _short(values: Iterable[float], digits: int) -> list[str]:
    large = 10**digits
    texts = [f"{v:.0f}" if abs(v) >= large / 10 else f"{v + 0.0:.{digits}g}" for v in values]
    return [text.replace("-", "\N{MINUS SIGN}") for text in texts]


def _faint(colour: str) -> str:
    return "rgba({},{},{},0.15)".format(*hex_to_rgb(colour))


def _plain(text: str, width: int | None = None) -> str:
    """Return text that plotly writes letter by letter: no tag such as <bos> vanishes, no $ starts a formula."""
    pieces = textwrap.wrap(text, width) if width else [text]
    return "<br>".join(html.escape(piece, quote=False).replace("$", "&#36;") for piece in pieces)
