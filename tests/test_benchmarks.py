"""The benchmarks run, refuse to compare different results, write only their own part; and graphs equal the oracle's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import measure, peers
from benchmarks.__main__ import BEGIN, BENCHMARKS, END, PAGE, main, replaced
from benchmarks.measure import Different, Table, Way
from course_lib import attribution, features, models

GOLDEN = Path(__file__).parent / "golden" / "circuit_tracer_chat.npz"


@pytest.mark.nightly
@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_and_prints_its_ratios(name, capsys):
    threads = torch.get_num_threads()
    try:
        assert main([name, "--quick"]) == 0
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert printed.count("| way | seconds | times ") >= 1
    assert printed.count(" | 1.00 |") >= printed.count("| way |")  # the reference itself


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.tensor([1.0, 2.1]), "differs from right by 0.05"),
        (torch.tensor([1.0, float("nan")]), "differs from right by nan"),
        (torch.tensor([[1.0, 2.0]]), r"gives the shape \(1, 2\), right \(2,\)"),
    ],
)
def test_no_time_is_taken_of_ways_with_different_values(other, message):
    runs = []

    def wrong():
        runs.append(None)
        return other

    ways = [Way("right", lambda: torch.tensor([1.0, 2.0])), Way("wrong", wrong)]
    with pytest.raises(Different, match=f"^wrong {message}"):
        measure.timed(ways, repeats=3)
    assert len(runs) == 1
    ways[1] = Way("equal", lambda: torch.tensor([1.0, 2.0 + 1e-6]))
    assert list(measure.timed(ways, repeats=3)) == ["right", "equal"]


def test_the_ways_take_turns_and_the_slow_one_runs_once():
    order = []
    ways = [Way(name, lambda name=name: order.append(name), once=name == "slow") for name in ("a", "slow", "b")]
    measure.timed(ways, repeats=2)
    assert order == ["a", "slow", "b", "a", "b", "a", "b"]


def test_the_peak_counts_what_is_held_at_a_time_and_not_what_was_freed():
    def work():
        for _ in range(4):
            torch.ones(2**18).sum()  # 1 MiB, freed each time
        return torch.ones(2**19)  # 2 MiB, kept

    assert 2 * 2**20 <= measure.peak_bytes(work, "cpu") < 3 * 2**20


def test_only_the_text_between_a_benchmarks_own_markers_is_replaced():
    marks = {name: (BEGIN.format(name), END.format(name)) for name in ("harvest", "editing")}
    page = "\n".join(f"before {name}\n{begin}\nold {name}\n{end}" for name, (begin, end) in marks.items()) + "\nlast"
    assert replaced(page, "harvest", "new") == page.replace("old harvest", "new")
    for broken in (page.replace(marks["harvest"][1], ""), page + marks["harvest"][0]):
        with pytest.raises(ValueError, match="harvest: begin -->.*once each"):
            replaced(broken, "harvest", "new")


def test_the_page_holds_a_table_of_every_benchmark():
    page = PAGE.read_text(encoding="utf-8")
    for name in BENCHMARKS:
        part = page.split(BEGIN.format(name))[1].split(END.format(name))[0]
        assert "| way | seconds |" in part and "median of" in part, name


def test_ratios_are_to_the_reference():
    table = Table("T", "S", {"slow": 6.0, "ours": 2.0}, "ours", ["a note"])
    assert table.markdown().splitlines()[-4:] == ["| slow | 6 | 3.00 |", "| ours | 2 | 1.00 |", "", "* a note"]


@pytest.mark.parametrize("arguments", [["harvesting"], ["--quick", "--write"]])
def test_an_unknown_name_and_writing_quick_times_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "unknown: ['harvesting']" in (said := capsys.readouterr().err) or "never written" in said


def test_the_attribution_graph_equals_circuit_tracers_edge_by_edge():
    """The oracle shares no code with the library. Remade by `python -m benchmarks.golden`."""
    with np.load(GOLDEN, allow_pickle=False) as golden:
        model, token = models.load("chat"), int(golden["token"])
        transcoders = [features.load("chat", "transcoder", layer=n) for n in range(models.n_layers(model))]
        prompt = golden["prompt_ids"].tolist()
        graph = attribution.trace(model, prompt, transcoders=transcoders, targets=[attribution.Logit(token)])
        nodes, comparable = peers.correspondence(golden["features"], graph)
        rows, sources = torch.from_numpy(golden["places"]).long().T
        expected = torch.cat([torch.from_numpy(golden["edges"]), torch.from_numpy(golden["logit_edges"])])
    into_logit = torch.arange(len(nodes) - 1)
    mine = torch.cat([graph.edges[nodes[rows], nodes[sources]], graph.edges[-1, nodes[:-1]]])
    kept = comparable[torch.cat([sources, into_logit])]
    gap = (mine - expected)[kept].abs()
    assert int(kept.sum()) > 9000 and expected[kept].abs().max() > 10
    assert gap.max() < 1e-4
    other = torch.cat([graph.edges[nodes[rows], nodes[sources.roll(1)]], graph.edges[0, nodes[:-1]]])
    assert (other - expected)[kept].abs().max() > 1  # the control: other edges of the same graph
