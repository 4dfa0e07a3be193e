"""The cheap sweep finds the winner of the exhaustive one, says truly why others lost, and runs what it counts."""

import math
import re

import pytest
import torch
import transformers

from course_lib import caching, data, directions, models, steering, tokens


def encoded(model, name, split, n):
    return [tokens.chat_prompt(model.tokenizer, text) for text in data.load(name, split=split, n=n).texts]


def both_ways(model, candidates, *, max_kl=0.1, min_induce=0.0, max_depth=0.8, **arguments):
    """All scores, the selection from them (None if none passes), and the sweep (None likewise)."""
    rows = steering.score_candidates(model, candidates, **arguments, progress=False)
    filters = {"max_kl": max_kl, "min_induce": min_induce, "max_depth": max_depth}
    outcomes = []
    for find in (
        lambda: directions.select(rows, n_layers=models.n_layers(model), **filters),
        lambda: steering.sweep(model, candidates, **arguments, **filters, progress=False),
    ):
        try:
            outcomes.append(find())
        except ValueError as error:
            assert "candidates passes the filters" in str(error)
            outcomes.append(None)
    return rows, *outcomes


def assert_same_winner(selection, swept):
    assert (selection is None) == (swept is None)
    if selection:
        expected, got = selection.winner, swept.winner
        assert (got.layer, got.position) == (expected.layer, expected.position)
        assert (got.bypass, got.induce) == pytest.approx((expected.bypass, expected.induce), abs=1e-4)
        assert got.kl == pytest.approx(expected.kl, abs=1e-5)


HAS_WINNER = {"chat": 4.5, "chat-64": 5.0, "chat-64-inhibiting": 5.0}
"""Organisms in which a candidate passes, and how many times fewer tokens the sweep has to run there."""


NONE_PASSES = ("chat-32",)


@pytest.mark.parametrize("name", [*HAS_WINNER, *NONE_PASSES])
def test_on_organisms_the_sweep_ends_as_the_exhaustive_one_does(name):
    model, positions = models.load(name), ["last_instruction", -2, "reply"]
    found = [
        caching.harvest(model, encoded(model, kind, "train", 64), positions=positions, progress=False).values
        for kind in ("harmful", "harmless")
    ]
    rows, selection, swept = both_ways(
        model,
        directions.difference_of_means(*found),
        harmful=encoded(model, "harmful", "validation", 16),
        harmless=encoded(model, "harmless", "validation", 16),
        refusal_token_ids=model.tokenizer.convert_tokens_to_ids(["i"]),
        positions=positions,
    )
    assert_same_winner(selection, swept)
    assert (swept is not None) == (name in HAS_WINNER)
    if swept:
        assert swept.exhaustive_cost / swept.cost > HAS_WINNER[name]
        assert_reasons_are_true(rows, swept, max_kl=0.1, min_induce=0.0)


def assert_reasons_are_true(rows, swept, *, max_kl, min_induce):
    """Each bound named in a reason holds for the score on all prompts, and what is not known is NaN."""
    truth = {(row.layer, row.position): row for row in rows}
    assert len(swept.dropped) == len(rows) - 1
    for row, reason in swept.dropped:
        exact, number = truth[row.layer, row.position], float(re.search(r"-?\d+(\.\d+)?", reason)[0])
        if reason.startswith("induce"):
            assert exact.induce <= number + 0.01 and exact.induce < min_induce
        elif reason.startswith("KL"):
            assert exact.kl >= number - 0.01 and exact.kl > max_kl
        elif reason.startswith("bypass"):
            assert exact.bypass >= number - 0.01 and exact.bypass >= swept.winner.bypass
        else:
            assert reason.startswith("layer") and math.isnan(row.induce)
        for score in ("bypass", "induce", "kl"):
            value = getattr(row, score)
            assert math.isnan(value) or value == pytest.approx(getattr(exact, score), abs=1e-4)


@pytest.fixture(scope="module", params=["Llama", "GPT2", "Gemma2", "GPTNeo"])
def family(request, model, tokenizer, tmp_path_factory):
    """Blocks that return tensors or tuples, positions added to the embedding, two kinds of attention mask."""
    if request.param == "Llama":
        return model
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_attention_heads": 4, "initializer_range": 0.2}
    if request.param == "GPTNeo":
        shape |= {"num_layers": 4, "attention_types": [[["global", "local"], 2]], "window_size": 4}
    else:
        shape["num_hidden_layers"] = 4
    if request.param == "Gemma2":
        shape |= {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4}
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**shape, max_position_embeddings=64)
    folder = tmp_path_factory.mktemp(request.param)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return models.load(str(folder))


@pytest.mark.parametrize("seed", range(2))
def test_random_candidates_have_the_same_winner_under_random_filters_in_every_family(family, prompts, seed):
    generator = torch.Generator().manual_seed(seed)
    candidates = 3 * torch.randn(3, 4, 32, generator=generator)
    arguments = {"harmful": prompts[:3], "harmless": prompts[3:], "refusal_token_ids": [9, 40, 50 + seed]}
    rows = steering.score_candidates(family, candidates, **arguments, progress=False)
    quantile = 0.3 + 0.5 * torch.rand(2, generator=generator)
    filters = {
        "max_kl": float(torch.tensor([row.kl for row in rows]).quantile(quantile[0])),
        "min_induce": float(torch.tensor([row.induce for row in rows]).quantile(1 - quantile[1])),
    }
    rows, selection, swept = both_ways(family, candidates, **arguments, **filters)
    assert_same_winner(selection, swept)
    if swept:
        assert_reasons_are_true(rows, swept, **filters)


def test_without_filters_the_winner_is_the_lowest_bypass_score_of_all(model, prompts):
    candidates = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    arguments = {"harmful": prompts[:3], "harmless": prompts[3:], "refusal_token_ids": [9]}
    rows, _, swept = both_ways(model, candidates, **arguments, max_kl=math.inf, min_induce=-math.inf, max_depth=1.0)
    lowest = min(rows, key=lambda row: row.bypass)
    assert (swept.winner.layer, swept.winner.position) == (lowest.layer, lowest.position)


def test_of_equal_candidates_the_first_one_wins_as_in_the_selection(model, prompts):
    candidates = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(1)).repeat(3, 4, 1)
    arguments = {"harmful": prompts[:3], "harmless": prompts[3:], "refusal_token_ids": [9]}
    _, selection, swept = both_ways(model, candidates, **arguments, max_kl=9.0, min_induce=-20.0)
    assert_same_winner(selection, swept)
    assert (swept.winner.layer, swept.winner.position) == (0, -3)


def test_the_cost_is_what_the_blocks_were_really_run_on(model, prompts):
    candidates = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    arguments = {"harmful": prompts[:3], "harmless": prompts[3:], "refusal_token_ids": [9], "progress": False}
    run = []
    handles = [
        block.original_component.register_forward_hook(lambda _, args, __: run.append(args[0].shape[:2].numel()))
        for block in model.blocks
    ]
    try:
        swept = steering.sweep(model, candidates, **arguments, max_kl=9.0, min_induce=-9.0)
        assert swept.cost == pytest.approx(sum(run) / 4)
        run.clear()
        steering.score_candidates(model, candidates, **arguments)
        padding = sum(run) / 4 - swept.exhaustive_cost  # only the run without hooks pads
        assert 0 <= padding < sum(map(len, prompts[3:])) < swept.cost < swept.exhaustive_cost
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("call", [2, 5, 12])
def test_an_interrupt_anywhere_in_the_sweep_leaves_the_model_as_it_was(model, prompts, monkeypatch, call):
    before = models.next_token_logits(model, prompts)
    calls, genuine = [], models.next_token_logits

    def interrupted(*arguments, **options):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt
        return genuine(*arguments, **options)

    monkeypatch.setattr(models, "next_token_logits", interrupted)
    candidates = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    with pytest.raises(KeyboardInterrupt):
        steering.sweep(
            model,
            candidates,
            harmful=prompts[:3],
            harmless=prompts[3:],
            refusal_token_ids=[9],
            min_induce=-20.0,
            progress=False,
        )
    monkeypatch.undo()
    assert torch.equal(models.next_token_logits(model, prompts), before)
    assert not models.has_hooks(model) and not any(block._forward_hooks for block in model.blocks)


def test_where_none_passes_the_message_counts_the_reasons(model, prompts):
    with pytest.raises(ValueError, match=r"None of 8 .* dropped for {'layer': 2, 'induce': 6}"):
        steering.sweep(
            model,
            torch.ones(2, 4, 32),
            harmful=prompts[:1],
            harmless=prompts[:1],
            refusal_token_ids=[9],
            min_induce=50.0,
            progress=False,
        )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"candidates": torch.ones(1, 3, 32)}, "1 positions and 3 layers.*4 layers.*Pass layers="),
        ({"harmful": []}, "empty"),
        ({"harmless": [[1] * 65]}, "at most 64"),
        ({"refusal_token_ids": [9999]}, "ids from 0 to"),
        ({"layers": [0, 1, 2, 4]}, "Layer 4 does not exist"),
        ({"candidates": torch.full((1, 4, 32), math.nan)}, "NaN"),
    ],
)
def test_the_sweep_refuses_what_does_not_fit_before_any_run(model, prompts, monkeypatch, changes, message):
    monkeypatch.setattr(models, "next_token_logits", lambda *_, **__: pytest.fail("ran before the error"))
    arguments = {
        "candidates": torch.ones(1, 4, 32),
        "harmful": prompts[:1],
        "harmless": prompts[:1],
        "refusal_token_ids": [9],
        "progress": False,
    } | changes
    with pytest.raises(ValueError, match=message):
        steering.sweep(model, arguments.pop("candidates"), **arguments)
