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
    many = list(examples) * 20  # more than are read at once
    torch.testing.assert_close(tuning.log_probabilities(model, many), expected.repeat(20), rtol=1e-4, atol=1e-4)


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


def test_what_is_watched_is_the_copy_before_the_first_step_every_so_often_and_after_the_last(model, tune):
    """Watching the loss on fixed prompts: the first value is the given model's, and the last the result's."""
    prompts = [[1, 30, 31], [1, 40]]

    def measure(copy):
        return float(models.next_token_logits(copy, prompts).log_softmax(-1)[:, 20].sum())

    tuned = tune(model, watch=measure, every=4)
    assert [step for step, _ in tuned.watched] == [0, 4, STEPS]
    first, middle, last = (value for _, value in tuned.watched)
    assert first == measure(model) != middle != last == measure(tuned.model)
    assert tune(model).watched == () and tune(model).losses == tuned.losses  # looking changes nothing


def reward_for(token):
    """1 for a reply that begins with the token."""
    return lambda numbers, replies: [float(reply[0] == token) for reply in replies]


def reinforced(model, prompts, reward, **options):
    settings = {"steps": 30, "seed": 0, "rate": 1e-2, "max_new_tokens": 3, "progress": False}
    return tuning.reinforce(model, prompts, reward, **{**settings, **options})


def test_reward_rises_for_what_is_rewarded_and_not_for_what_is_rewarded_alike(model, prompts):
    """The favourite is a token that is sampled at times; the control gives every reply the same reward."""
    likely = int(models.next_token_logits(model, prompts).softmax(-1).mean(0).argmax())
    tuned = reinforced(model, prompts * 5, reward_for(likely))
    assert sum(tuned.rewards[-5:]) / 5 > sum(tuned.rewards[:5]) / 5 + 0.3
    before = state(model)
    alike = reinforced(model, prompts, lambda numbers, replies: [1.0] * len(replies), steps=2)
    assert differing(before, state(model)) == differing(before, state(alike.model)) == set()
    assert differing(before, state(tuned.model))


def test_reinforce_is_decided_by_its_seed_and_leaves_the_global_one_alone(model, prompts):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    runs = [reinforced(model, prompts, reward_for(20), steps=4, seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(torch.rand(3), expected)
    assert runs[0].losses == runs[1].losses != runs[2].losses
    assert differing(state(runs[0].model), state(runs[1].model)) == set()


def test_the_first_step_of_reinforce_follows_the_published_gradient(model, prompts):
    """The loss is -mean((reward - mean) log p) on the very replies that were rewarded."""
    seen = {}

    def reward(numbers, replies):
        seen["given"] = [Example(prompts[number], reply) for number, reply in zip(numbers, replies, strict=True)]
        return [float(number) for number in numbers]

    tuned = reinforced(model, prompts, reward, steps=1)
    said = tuning.log_probabilities(model, seen["given"])
    rewards = torch.tensor([float(prompts.index(example.prompt)) for example in seen["given"]])
    assert tuned.losses[0] == pytest.approx(float(-((rewards - rewards.mean()) * said).mean()), rel=1e-4)
    assert tuned.rewards[0] == pytest.approx(float(rewards.mean()))


def test_sampled_replies_follow_the_models_probabilities_and_end_at_the_end_token(model, prompts):
    expected = models.next_token_logits(model, prompts[:1])[0].softmax(-1)
    replies = models.generate(model, prompts[:1] * 2000, max_new_tokens=4, generator=torch.Generator().manual_seed(0))
    counted = torch.bincount(torch.tensor([reply[0] for reply in replies]), minlength=len(expected)) / 2000
    assert float((counted - expected).abs().max()) < 0.04  # 3.5 standard errors of the likeliest token
    assert all(len(reply) == 4 or reply[-1] == 2 for reply in replies) and not any(2 in reply[:-1] for reply in replies)


@pytest.mark.parametrize("given", [[1.0], [math.nan] * 6, [[1.0]] * 6])
def test_a_reward_that_is_not_one_number_a_reply_stops_the_first_step(model, prompts, given):
    before = state(model)
    with pytest.raises(ValueError, match="one finite number for each of 6"):
        reinforced(model, prompts, lambda numbers, replies: given)
    assert differing(before, state(model)) == set()


@pytest.mark.parametrize(
    ("reply", "message"),
    [([], "Example 1 has an empty prompt or reply"), ([9999], "outside 0 to"), ([30] * 99, "reads at most 64")],
)
def test_unusable_replies_are_refused_before_any_copy(model, examples, monkeypatch, reply, message):
    monkeypatch.setattr(models, "duplicate", lambda _: pytest.fail("copied before the error"))
    bad = [examples[0], Example(examples[1].prompt, reply)]
    with pytest.raises(ValueError, match=message):
        tuning.supervised(model, bad, steps=1, seed=0)
    with pytest.raises(ValueError, match=message.replace("1", "2")):
        tuning.preference(model, [Pair(e.prompt, e.reply, e.reply) for e in bad], steps=1, seed=0)


def test_active_hooks_and_prompts_that_are_too_long_are_refused(model, prompts, pairs, examples, monkeypatch):
    monkeypatch.setattr(models, "duplicate", lambda _: pytest.fail("copied before the error"))
    options = {"steps": 1, "seed": 0}
    with pytest.raises(ValueError, match="reads at most 64"):
        tuning.reinforce(model, prompts, lambda *_: pytest.fail(), max_new_tokens=64, **options)
    with model.hooks([("blocks.0.hook_resid_pre", lambda a, hook: a)]):
        for call in (
            lambda: tuning.log_probabilities(model, examples),
            lambda: tuning.supervised(model, examples, **options),
            lambda: tuning.preference(model, pairs, **options),
            lambda: tuning.reinforce(model, prompts, lambda *_: pytest.fail(), max_new_tokens=2, **options),
            lambda: tuning.distil(model, model, prompts, max_new_tokens=2, **options),
        ):
            with pytest.raises(ValueError, match="active hooks"):
                call()


def test_a_setting_that_does_not_exist_is_refused(model, examples):
    with pytest.raises(TypeError, match="learning_rate"):
        tuning.supervised(model, examples, steps=1, seed=0, learning_rate=1e-3)


def test_a_batch_of_one_reply_would_teach_nothing_and_is_refused(model, prompts):
    for some, settings in ((prompts[:1], {}), (prompts, {"batch_size": 1})):
        with pytest.raises(ValueError, match="its own baseline"):
            tuning.reinforce(model, some, lambda n, r: [1.0] * len(r), max_new_tokens=2, steps=1, seed=0, **settings)


def test_a_loss_that_is_not_finite_stops_the_training(tune, model):
    broken = models.duplicate(model)
    next(iter(broken.original_model.parameters())).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="loss of step 0 is not finite"):
        tune(broken)
