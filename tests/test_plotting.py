"""Figures are refused without words, readable without colour, reproducible, and drawn without a network."""

import inspect
import json
import re
import socket
from itertools import pairwise

import pytest
import torch

import viewer
from course_lib import plotting

OKABE_ITO = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
GREYS = {"#222222", "#6E6E6E", "#E8E8E8", "#FFFFFF", "WHITE"}
WORDS = dict(title="Two clouds stand apart", alt="Scatter of six prompts in two clouds, far apart along PC1.")
AXES = dict(x_title="PC1 (54 % of variance)", y_title="PC2 (9 % of variance)")
CLOUDS = {"harmful": torch.arange(6.0).reshape(3, 2), "harmless": -torch.arange(6.0).reshape(3, 2)}
HOVER = {"harmful": ["<bos> make a bomb", "b", "c"], "harmless": ["bake it for $5 or $6", "e", "f"]}
SCORES = {"harmful": [3.0, 2.5, 4.0], "harmless": [-1.0, 0.0, -2.5]}
TABLE = [[1.0, -2.0, 3.0], [0.5, 0.0, -12.0]]
RATES = {"harmful": [99.0, 1.0], "harmless": [0.5, 0.4]}
CURVES = {"refused": [0.0, 50.0, 100.0], "answered": [100.0, 50.0, 0.0]}


def scatter(**changes):
    return plotting.scatter(**{**dict(groups=CLOUDS, hover=HOVER), **AXES, **WORDS, **changes})


def scatter_grid(**changes):
    panels = {f"layer {layer}": CLOUDS for layer in range(6)}
    return plotting.scatter_grid(**{**dict(panels=panels, hover=HOVER), **AXES, **WORDS, **changes})


def lines(**changes):
    bands = {"refused": [(0, 5), (40, 60), (95, 100)]}
    given = dict(x=[0, 1, 2], series=CURVES, intervals=bands, control=[[0, 1, 2], [1, 3, 2]])
    return plotting.lines(**{**given, **AXES, **WORDS, **changes})


def bars(**changes):
    given = dict(labels=["no edit", "direction ablated"], series=RATES)
    given |= dict(intervals={"harmful": [(97, 100), (0, 4)]}, controls={"harmful": [[], [98.0, 97.0]]})
    return plotting.bars(**{**given, **AXES, **WORDS, **changes})


def heat_map(**changes):
    labels = dict(row_labels=["last instruction", "<assistant>"], column_labels=["0", "1", "2"])
    given = dict(values=TABLE, colour_title="refusal score (log-odds)", centre=0.0, frame=(1, 2), **labels)
    return plotting.heat_map(**{**given, **AXES, **WORDS, **changes})


BOXES = {
    "w": ("<bos> bomb", 0, 0),
    "early": ("features", 1, 0.5),
    "late": ('say "i"', 1, 1),
    "out": ('"i" minus "to"', 1, 2),
}
EDGES = {("w", "early"): 28.9, ("early", "late"): 10.0, ("early", "out"): -1.8, ("late", "out"): 8.6}


def graph(**changes):
    given = dict(nodes=BOXES, edges=EDGES, row_labels=["words", "features", "output"], unit="logits")
    return plotting.graph(**{**given, **AXES, **WORDS, **changes})


FIGURES = [scatter, scatter_grid, lines, bars, heat_map, graph]
every_figure = pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)


@pytest.fixture
def displayed(monkeypatch):
    """Every bundle that was shown, in place of a notebook."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a figure asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_every_public_figure_function_is_tested_here():
    functions = inspect.getmembers(plotting, inspect.isfunction)
    own = {name: f for name, f in functions if f.__module__ == plotting.__name__ and not name.startswith("_")}
    draw = {name for name, f in own.items() if inspect.signature(f).return_annotation is plotting.go.Figure}
    assert draw == {figure.__name__ for figure in FIGURES}


@every_figure
def test_the_alt_text_travels_with_the_figure(draw):
    assert draw().layout.meta["alt"] == WORDS["alt"]


@every_figure
@pytest.mark.parametrize("alt", [" ", WORDS["title"]])
def test_a_figure_without_an_alt_text_of_its_own_is_refused(draw, alt):
    with pytest.raises(ValueError, match="alt must say"):
        draw(alt=alt)
    words = {name: text for name, text in (AXES | WORDS).items() if name != "alt"}
    with pytest.raises(TypeError, match="'alt'"):
        plotting.scatter(CLOUDS, hover=HOVER, **words)


@every_figure
def test_the_axes_are_named(draw):
    words = json.dumps(draw().to_dict(), ensure_ascii=False)
    assert all(text in words for text in AXES.values())


@every_figure
def test_all_colours_come_from_the_okabe_ito_palette_or_are_grey(draw):
    words = json.dumps(draw().to_dict())
    used = {colour.upper() for colour in re.findall(r"#[0-9A-Fa-f]{6}\b|white", words)}
    faint = {tuple(map(int, rgb)) for rgb in re.findall(r"rgba\((\d+),(\d+),(\d+)", words)}
    used |= {"#{:02X}{:02X}{:02X}".format(*rgb) for rgb in faint}
    assert used <= OKABE_ITO | GREYS
    assert used & OKABE_ITO


def test_styles_differ_in_every_channel_that_is_not_colour():
    for channel in ("colour", "symbol", "dash", "pattern", "glyph"):
        assert len({getattr(style, channel) for style in plotting.STYLES}) == len(plotting.STYLES)


@pytest.mark.parametrize("draw", [scatter, scatter_grid], ids=lambda draw: draw.__name__)
def test_two_groups_differ_by_symbol_as_well_as_by_colour(draw):
    points = [trace for trace in draw().data if trace.type == "scatter"]
    harmful, harmless = [[trace for trace in points if name in trace.hovertext[0]] for name in HOVER]
    assert harmful[0].marker.symbol != harmless[0].marker.symbol


def test_lines_differ_by_dash_and_symbol_and_bars_by_pattern():
    drawn = [trace for trace in lines().data if trace.mode == "lines+markers"]
    assert len({trace.line.dash for trace in drawn}) == len({trace.marker.symbol for trace in drawn}) == 2
    assert len({trace.marker.pattern.shape for trace in bars().data if trace.type == "bar"}) == 2


def test_the_control_band_spans_every_run_and_is_hatched():
    band = next(trace for trace in lines().data if "range of 2" in trace.name)
    assert (min(band.y), max(band.y)) == (0, 3) and len(band.y) == 6
    assert all(a != b for a, b in zip(band.y[:3], band.y[:2:-1], strict=True))  # also where all runs agree
    assert band.fillpattern.shape == "/"


def test_whole_numbers_at_equal_steps_are_the_ticks_of_lines():
    assert list(lines(x=[0, 25, 50]).layout.xaxis.tickvals) == [0, 25, 50]
    assert lines(x=[0, 10, 50]).layout.xaxis.tickvals is None


def test_names_at_line_ends_keep_apart_and_inside_the_axis():
    flat = {name: [0.0, 1.0] for name in "abcde"}
    figure = lines(x=[0, 1], series=flat, intervals=None, control=None)
    heights = sorted(note.y for note in figure.layout.annotations)
    low, high = figure.layout.yaxis.range
    assert all(b - a > 0.05 * (high - low) for a, b in pairwise(heights))
    assert low < heights[0] and heights[-1] <= high


def test_bars_carry_their_values_intervals_and_control_runs():
    figure = bars()
    assert next(trace.text for trace in figure.data if trace.type == "scatter") == ("99", "1")
    assert figure.data[0].error_y.array == (1, 3) and figure.data[0].error_y.arrayminus == (2, 1)
    assert [trace.y for trace in figure.data if trace.name == "each random direction"] == [(98, 97)]


def test_the_value_of_a_bar_stands_outside_it_also_below_zero():
    figure = bars(series={"asked": [2.0, -1.0]}, intervals={"asked": [(1, 3), (-2, 0)]}, controls=None)
    written = next(trace for trace in figure.data if trace.type == "scatter")
    assert written.y == (3, -2) and written.textposition == ("top center", "bottom center")


def test_each_cell_of_a_heat_map_says_its_value_and_the_frame_lies_on_its_cell():
    figure = heat_map()
    assert figure.data[0].text == (["1", "\N{MINUS SIGN}2", "3"], ["0.5", "0", "\N{MINUS SIGN}12"])
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (1.5, 2.5, 0.5, 1.5)


def test_arrows_run_from_box_to_box_as_thick_as_their_number_and_differ_by_dash_below_zero():
    figure = graph()
    curves = [trace for trace in figure.data if trace.mode == "lines"]
    assert [round(curve.line.width / max(c.line.width for c in curves), 1) for curve in curves] == [1.0, 0.5, 0.2, 0.4]
    assert [curve.line.dash for curve in curves] == ["solid", "solid", "dash", "solid"]
    for curve, ((_, x0, y0), (_, x1, y1)) in zip(curves, [(BOXES[a], BOXES[b]) for a, b in EDGES], strict=True):
        assert abs(curve.x[0] - x0) < 0.35 and y0 <= curve.y[0] < curve.y[-1] <= y1 and abs(curve.x[-1] - x1) < 0.35
    around, straight = curves[2], curves[1]
    assert max(around.x) > 1.2 and max(straight.x) == 1, "an edge goes around the box between its ends"


def test_arrows_into_one_box_end_side_by_side_in_the_order_of_their_origins():
    boxes = {name: (name, column, 0) for column, name in enumerate("abc")} | {"top": ("a box of some width", 1, 1)}
    figure = graph(
        nodes=boxes, edges={("c", "top"): 1.0, ("a", "top"): 2.0, ("b", "top"): 3.0}, row_labels=["below", "above"]
    )
    c, a, b = ((trace.x[-1], trace.y[-1]) for trace in figure.data if trace.mode == "lines")
    assert a[0] + 0.05 < b[0] < c[0] - 0.05 and a[1] == b[1] == c[1] < 1


def test_what_a_box_and_a_column_say_is_broken_before_it_meets_its_neighbour():
    wide = {name: ("twelve words or so that fill a box", column, 0) for column, name in enumerate("abcdef")}
    texts = [note.text for note in graph(nodes=wide, edges={("a", "f"): 1.0}).layout.annotations if note.bordercolor]
    assert len(texts) == 6 and all(len(line) <= 14 for text in texts for line in text.split("<br>"))
    few, many = (
        {"values": [[0.0] * n], "row_labels": ["r"], "column_labels": ["random, dose 2"] * n, "frame": None}
        for n in (2, 8)
    )
    assert heat_map(**few).layout.xaxis.ticktext[0] == "random, dose 2"
    assert heat_map(**many).layout.xaxis.ticktext[0] == "random,<br>dose 2"


def test_every_box_and_every_number_of_a_graph_is_written():
    written = [note.text for note in graph().layout.annotations]
    assert {"&lt;bos&gt; bomb", "features", 'say "i"', "29", "10", "\N{MINUS SIGN}1.8", "8.6"} <= set(written)


def test_hover_labels_show_the_whole_prompt_letter_by_letter():
    labels = [text for trace in scatter().data for text in trace.hovertext]
    assert "<b>harmful</b><br>&lt;bos&gt; make a bomb" in labels
    assert "<b>harmless</b><br>bake it for &#36;5 or &#36;6" in labels


def test_special_tokens_survive_in_titles_and_axes():
    assert "&lt;end&gt;" in scatter(title="At <end> the sets part").layout.title.text
    assert heat_map().layout.yaxis.ticktext[1] == "&lt;assistant&gt;"


@every_figure
def test_the_same_input_draws_the_same_bytes(draw):
    assert draw().to_json() == draw().to_json()


def test_noise_below_four_digits_does_not_change_a_figure():
    moved = {name: points + 1e-7 * (points + 1).sign() for name, points in CLOUDS.items()}
    groups = {name: points + 1.2341 for name, points in CLOUDS.items()}
    shaken = {name: points + 1.2341 for name, points in moved.items()}
    assert scatter(groups=groups).to_json() == scatter(groups=shaken).to_json()


def test_lists_arrays_and_tensors_draw_the_same_figure():
    as_lists = {name: points.tolist() for name, points in CLOUDS.items()}
    as_arrays = {name: points.numpy() for name, points in CLOUDS.items()}
    with_gradient = {name: points.clone().requires_grad_() for name, points in CLOUDS.items()}
    wanted = scatter().to_json()
    assert [scatter(groups=g).to_json() for g in (as_lists, as_arrays, with_gradient)] == [wanted] * 3


def test_drawing_leaves_the_data_as_it_was():
    before = {name: points.clone() for name, points in CLOUDS.items()}
    scatter(), scatter_grid()
    assert all(torch.equal(before[name], CLOUDS[name]) for name in CLOUDS)


@every_figure
def test_a_figure_shows_without_a_network_as_plotly_data_and_alt_text(draw, displayed, no_network):
    plotting.show(draw())
    figure, fold = displayed
    assert figure["text/plain"] == WORDS["alt"]
    assert set(figure["application/vnd.plotly.v1+json"]) == {"data", "layout", "config"}
    json.dumps(figure)
    assert WORDS["alt"] in fold["text/html"] and "http" not in fold["text/html"]


def test_for_a_server_without_plotlys_extension_a_figure_is_html_and_the_first_one_carries_the_script(
    displayed, no_network, monkeypatch
):
    monkeypatch.setenv("COURSE_FIGURES", "html")
    monkeypatch.setattr(plotting, "_with_script", iter([True]))
    for _ in range(3):
        plotting.show(scatter())
    first, second, third = (shown for shown in displayed if "text/plain" in shown)
    assert all(set(shown) == {"text/html", "text/plain"} for shown in (first, second, third))
    assert len(first["text/html"]) > 1_000_000 > 20_000 > len(second["text/html"])
    assert second == third and "Plotly.newPlot" in second["text/html"], "the same figure in the same bytes"
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", "".join(shown["text/html"] for shown in displayed))


@every_figure
def test_a_figure_takes_the_width_of_its_cell_unless_its_boxes_have_places(draw, displayed):
    plotting.show(draw())
    drawing, fold = displayed[0]["application/vnd.plotly.v1+json"], displayed[1]["text/html"]
    assert drawing["layout"]["autosize"] and not drawing["config"]["responsive"], "responsive: no height in a cell"
    assert drawing["layout"].get("width") == (plotting.WIDTH if draw is graph else None)
    assert f".jp-RenderedPlotly {{max-width: {plotting.WIDTH}px}}" in fold


@every_figure
def test_a_long_title_is_broken_into_lines_that_a_narrow_cell_shows_and_has_room_for(draw):
    long = "A finding that takes rather many words to say and so would be cut off in a cell of half the width"
    short, figure = draw().layout, draw(title=long).layout
    pieces = figure.title.text.removeprefix("<b>").removesuffix("</b>").split("<br>")
    assert " ".join(pieces) == long and max(map(len, pieces)) <= 48
    assert figure.margin.t == short.margin.t + 20 * (len(pieces) - 1)


def test_a_figure_from_elsewhere_without_alt_text_is_refused():
    with pytest.raises(ValueError, match="no alt text"):
        plotting.show(plotting.go.Figure())


def show_attention(tokens=("<bos>", "\n", "<assistant>"), **changes):
    pattern = [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.1, 0.7, 0.2]]
    words = dict(title="The head looks back", alt="One head; the last token looks at the newline.")
    viewer.show_attention(tokens, changes.pop("patterns", {"L0.H3": pattern}), **{**words, **changes})


def test_attention_shows_special_tokens_and_says_in_words_where_the_last_one_looks(displayed):
    show_attention()
    page = displayed[0]["text/html"].split("CircuitsVis.render(")[1]
    assert json.dumps("‹bos›") in page and "<bos>" not in page and json.dumps("⏎") in page
    listed = "<assistant> looks at, by head: L0.H3: ⏎ 0.70, <assistant> 0.20, <bos> 0.10"
    assert displayed[0]["text/plain"] == f"One head; the last token looks at the newline.\n{listed}"


def test_a_token_that_is_html_stays_text_and_stands_in_a_list_where_no_script_runs(displayed):
    show_attention(("<bos>", "a", "</script><script>alert(1)</script>"))
    page = displayed[0]["text/html"]
    assert page.count("</script>") == 1 and "<script>alert" not in page
    untrusted = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert (
        "&lt;script&gt;alert(1)&lt;/script&gt; looks at, by head: L0.H3: a 0.70" in untrusted and len(untrusted) < 1000
    )


def test_attention_brings_its_script_with_it_once_and_is_stored_the_same_every_time(displayed, no_network):
    show_attention()
    show_attention()
    show_attention(title="Another title", patterns={"L0.H3": torch.eye(3)})
    page = displayed[0]["text/html"]
    assert displayed[0] == displayed[1] != displayed[2]
    assert 1_000_000 < len(page) < 1_400_000 and page.count("var CircuitsVis=") == 1
    assert "unpkg.com" not in page and not re.search(r"<(script|link|img)[^>]*\b(src|href)=", page)


NAN = float("nan")
REFUSED = {
    "too many groups": (lines, dict(series={str(i): [1, 2, 3] for i in range(7)}), "7 groups, but only 6"),
    "not points": (scatter, dict(groups={"harmful": [1.0, 2.0, 3.0]}), "'harmful' has shape 3, but any x 2 is needed"),
    "NaN": (scatter, dict(groups={"harmful": [[0, 1], [NAN, 1], [2, 2]]}), r"NaN or infinite value at \[1, 0\]"),
    "infinity": (lines, dict(series={"refused": [1, 2, float("inf")]}), "NaN or infinite"),
    "short hover": (scatter, dict(hover={**HOVER, "harmful": ["a"]}), r"hover\['harmful'\] has 1 texts for 3"),
    "line too short": (lines, dict(series={"refused": [1.0, 2.0]}), "'refused' has shape 2, but 3 is needed"),
    "unknown interval": (lines, dict(intervals={"refusd": [(0, 1)] * 3}), r"\['refusd'\] are not among the series"),
    "interval too short": (bars, dict(intervals={"harmful": [(0, 1)]}), "'interval of harmful' has shape 1 x 2"),
    "control too short": (lines, dict(control=[[1.0, 2.0]]), "'control' has shape 1 x 2, but any x 3 is needed"),
    "labels and bars": (bars, dict(labels=["one"]), "'harmful' has shape 2, but 1 is needed"),
    "control lists": (bars, dict(controls={"harmful": [[1.0]]}), "argument 2 is shorter"),
    "unknown control": (bars, dict(controls={"other": [[], []]}), "'other'.*not among the series"),
    "labels and table": (heat_map, dict(row_labels=["one"]), "'values' has shape 2 x 3, but 1 x 3 is needed"),
    "cell texts": (heat_map, dict(cell_text=[["a"]]), r"cell_text has shape \(1, 1\), values \(2, 3\)"),
    "box without a row": (graph, dict(row_labels=["words", "features"]), "there are 2 row_labels"),
    "edge NaN": (graph, dict(edges={("w", "early"): NAN}), "NaN or infinite"),
    "pattern and tokens": (show_attention, dict(patterns={"L0.H0": [[1.0]]}), r"shape \(1, 1\), but 3 x 3 is needed"),
    "attention without alt": (show_attention, dict(alt=""), "alt must say"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_plotly_would_leave_out_is_refused(case, displayed):
    draw, changes, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        draw(**changes)
    assert not displayed


def test_panels_of_other_groups_are_refused_as_they_share_colours_and_legend():
    points = torch.zeros(2, 2)
    for panels in ({"a": {"x": points, "y": points}, "b": {"y": points, "x": points}}, {}):
        with pytest.raises(ValueError, match="the same groups"):
            scatter_grid(panels=panels)
