"""Tuning changes a copy and nothing else, is decided by its seed, and does what its formula says."""

import gc
import math

import pytest
import torch
import torch.nn.functional as F

from course_lib import models, tuning
from course_lib.tuning import Example, Pair

STEPS, RATE = 6, 3e-3


def state(model):
    return {name: weight.clone() for name, weight in model.original_model.state_dict().items()}


def differing(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.fixture(scope="module")
def pairs(prompts):
    """Replies of different lengths, so that padding matters where it should not."""
    end = 2
    return [Pair(ids, [20 + n, 30, *[31] * (n % 3), end], [40 + n, 30, end]) for n, ids in enumerate(prompts)]


@pytest.fixture(scope="module")
def examples(pairs):
    return [Example(pair.prompt, pair.chosen) for pair in pairs]


@pytest.fixture(params=["supervised", "preference"])
def tune(request, examples, pairs):
    """One of the two ways, on its own data."""

    def call(model, **options):
        data = examples if request.param == "supervised" else pairs
        settings = {"steps": STEPS, "seed": 0, "rate": RATE, "batch_size": 4, "progress": False}
        return getattr(tuning, request.param)(model, data, **{**settings, **options})

    return call


def by_loop(model, example):
    """The sum of log-probabilities of a reply's tokens, one full run a token."""
    ids, total = list(example.prompt), 0.0
    for token in example.reply:
        total += float(models.next_token_logits(model, [ids])[0].log_softmax(-1)[token])
        ids.append(token)
    return total


def test_the_model_that_is_given_stays_as_it_is_bit_for_bit(model, tune):
    before = state(model)
    tuned = tune(model)
    assert differing(before, state(model)) == set()
    assert differing(before, state(tuned.model))
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.original_model.parameters())


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt])
def test_it_also_stays_as_it_is_when_tuning_is_interrupted(model, tune, monkeypatch, how):
    before, called = state(model), []

    def fail_late(*arguments):
        called.append(1)
        if len(called) == 3:
            raise how

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", fail_late)
    with pytest.raises(how):
        tune(model)
    assert differing(before, state(model)) == set()


def test_the_copy_needs_no_gradients_and_lives_on_without_the_original(checkpoint, tune, prompts):
    original = models.load(str(checkpoint))
    tuned = tune(original).model
    assert not any(weight.requires_grad or weight.grad is not None for weight in tuned.original_model.parameters())
    del original
    gc.collect()
    assert models.next_token_logits(tuned, prompts).isfinite().all()
    assert tune(tuned).losses  # and can be tuned again


def test_the_seed_decides_the_result_and_leaves_the_global_one_alone(model, tune):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    same = [tune(model, seed=3).losses for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert same[0] == same[1] != tune(model, seed=4).losses


def test_the_loss_falls_and_with_a_rate_of_nothing_it_does_not(model, tune):
    losses = tune(model, steps=25, batch_size=6).losses
    assert len(losses) == 25 and losses[-1] < 0.7 * losses[0]
    still = tune(model, steps=3, batch_size=6, rate=0.0).losses
    assert still == pytest.approx([still[0]] * 3, rel=1e-5)


def test_word_embeddings_and_unembedding_keep_their_values(model, tune):
    changed = differing(state(model), state(tune(model).model))
    assert changed and not any("embed_tokens" in name or "lm_head" in name for name in changed)
    assert any("norm" in name for name in changed) and any("mlp" in name for name in changed)


def test_log_probabilities_are_those_of_one_run_a_token(model, examples):
    expected = torch.tensor([by_loop(model, example) for example in examples])
    torch.testing.assert_close(tuning.log_probabilities(model, examples, batch_size=4), expected, rtol=1e-4, atol=1e-4)


def test_the_supervised_loss_is_the_mean_over_all_reply_tokens(model, examples):
    total = sum(by_loop(model, example) for example in examples)
    first = tuning.supervised(model, examples, steps=1, seed=0, progress=False).losses[0]
    assert first == pytest.approx(-total / sum(len(example.reply) for example in examples), rel=1e-4)


def test_the_preference_loss_is_the_papers_with_the_given_model_as_frozen_reference(model, pairs):
    """After one step the second loss must be the formula between the tuned copy and the *given* model."""
    options = {"seed": 0, "rate": RATE, "batch_size": len(pairs), "beta": 0.3, "progress": False}
    one, two = (tuning.preference(model, pairs, steps=steps, **options) for steps in (1, 2))
    assert two.losses[0] == pytest.approx(math.log(2), rel=1e-5)
    both = [[Example(p.prompt, getattr(p, kind)) for p in pairs] for kind in ("chosen", "rejected")]
    chosen, rejected = (tuning.log_probabilities(one.model, x) - tuning.log_probabilities(model, x) for x in both)
    expected = -F.logsigmoid(0.3 * (chosen - rejected)).mean()
    assert two.losses[1] == pytest.approx(float(expected), rel=1e-4)


def test_preference_moves_the_chosen_reply_up_beside_the_rejected_one(model, pairs):
    tuned = tuning.preference(model, pairs, steps=25, seed=0, rate=RATE, progress=False).model

    def margin(network):
        chosen, rejected = ([Example(p.prompt, getattr(p, kind)) for p in pairs] for kind in ("chosen", "rejected"))
        return tuning.log_probabilities(network, chosen) - tuning.log_probabilities(network, rejected)

    assert (margin(tuned) > margin(model) + 1).all()


def test_tokens_read_counts_what_went_through_without_padding(model, examples, pairs):
    whole = tuning.supervised(model, examples, steps=2, seed=0, progress=False)
    assert whole.tokens_read == 2 * sum(len(e.prompt) + len(e.reply) for e in examples)
    both = tuning.preference(model, pairs, steps=1, seed=0, progress=False)
    assert both.tokens_read == sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs)


def test_every_example_is_seen_once_before_any_comes_again():
    order = tuning._order(6, 2, seed=0)
    first, second = (sorted(sum((next(order) for _ in range(3)), [])) for _ in range(2))
    assert first == second == list(range(6))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda rows: [], {}, "empty"),
        (lambda rows: rows, {"steps": 0}, "steps must be at least 1"),
        (lambda rows: [Example(rows[0].prompt, [])], {}, "Reply 0 is empty"),
        (lambda rows: [Example(rows[0].prompt, [9999])], {}, "outside 0 to"),
        (lambda rows: [Example(rows[0].prompt, [30] * 99)], {}, "reads at most 64"),
    ],
)
def test_unusable_examples_are_refused_before_any_copy(model, examples, monkeypatch, change, options, message):
    monkeypatch.setattr(models, "duplicate", lambda _: pytest.fail("copied before the error"))
    with pytest.raises(ValueError, match=message):
        tuning.supervised(model, change(examples), **{"steps": 1, "seed": 0, "progress": False, **options})


def test_a_pair_of_equal_replies_a_wrong_beta_and_active_hooks_are_refused(model, pairs, examples, monkeypatch):
    monkeypatch.setattr(models, "duplicate", lambda _: pytest.fail("copied before the error"))
    equal = [pairs[0], Pair(pairs[1].prompt, pairs[1].chosen, pairs[1].chosen)]
    with pytest.raises(ValueError, match="In pair 1 the chosen and the rejected reply are the same"):
        tuning.preference(model, equal, steps=1, seed=0)
    with pytest.raises(ValueError, match="beta must be above 0"):
        tuning.preference(model, pairs, steps=1, seed=0, beta=0.0)
    with model.hooks([("blocks.0.hook_resid_pre", lambda a, hook: a)]):
        for call in (tuning.log_probabilities, lambda *a: tuning.supervised(*a, steps=1, seed=0)):
            with pytest.raises(ValueError, match="active hooks"):
                call(model, examples)
