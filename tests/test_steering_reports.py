"""What a report says about an intervention: what it costs elsewhere, and what chance would do."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from course_lib import caching, data, directions, features, models, organism, steering, tokens

LAYER = 3


@pytest.fixture(scope="module")
def chat():
    return models.load("chat", device="cpu")


def ids(chat, name, split, n):
    return [tokens.chat_prompt(chat.tokenizer, text) for text in data.load(name, split=split, n=n).texts]


@pytest.fixture(scope="module")
def refusal(chat):
    """The difference of means before block 3: what is added to make the model refuse."""
    found = [
        caching.harvest(chat, ids(chat, name, "train", 64), progress=False).at(LAYER)
        for name in ("harmful", "harmless")
    ]
    return directions.difference_of_means(*found)


def reported(model, all_prompts, intervention, **options):
    rows = directions.random_directions(steering.MIN_CONTROLS, like=torch.full((32,), 0.1), seed=0)
    standard = {
        "prompts": all_prompts[:2],
        "judge": lambda text: "empty" if not text else "words",
        "controls": [partial(steering.add, model, q, layer=1, coefficient=1.0, positions="last") for q in rows],
        "off_target": all_prompts[3:5],
        "max_new_tokens": 3,
        "progress": False,
    }
    return steering.report(model, intervention, **(standard | options))


def test_kl_and_surprisal_are_those_of_a_plain_loop_over_every_token_of_the_replies(model, prompts):
    """The plain way: write out the text and hook the prompt's last token by its index."""
    direction = 3 * torch.ones(32)
    edit = partial(steering.add, model, direction, layer=1, coefficient=1.0, positions="last")
    found = reported(model, prompts, edit)
    _, steered, *_ = found.outcomes

    def before_each_token(prompt, reply, hooks=()):
        with torch.no_grad():
            return model.run_with_hooks(torch.tensor([[*prompt, *reply]]), fwd_hooks=hooks)[0, len(prompt) - 1 : -1]

    usual = models.generate(model, prompts[3:5], max_new_tokens=3)
    for kl, prompt, reply in zip(steered.kl, prompts[3:5], usual, strict=True):

        def shift(x, hook, prompt=prompt):
            move = torch.zeros_like(x)
            move[:, len(prompt) - 1] = direction
            return x + move

        plain, edited = (
            before_each_token(prompt, reply, hooks) for hooks in ((), [("blocks.1.hook_resid_pre", shift)])
        )
        expected = directions.kl_divergence(plain, edited).mean()
        torch.testing.assert_close(kl, expected, rtol=1e-3, atol=1e-4)
    with edit():
        replies = models.generate(model, prompts[:2], max_new_tokens=3)
    for surprisal, prompt, reply in zip(steered.surprisal, prompts[:2], replies, strict=True):
        log_p = before_each_token(prompt, reply).log_softmax(-1)
        assert float(surprisal) == pytest.approx(-float(log_p[range(len(reply)), reply].mean()), rel=1e-3)
    assert found.kl.steered.estimate > 0.01 and found.kl.unchanged.estimate == 0
    assert found.surprisal.steered.estimate > found.surprisal.unchanged.estimate


def test_an_edit_that_off_target_prompts_cannot_see_costs_exactly_nothing(chat, prompts):
    """The edit acts where a feature is active; on the off-target prompts it is not."""
    sae = features.load("chat", "sae", layer=2)
    facts, asked = ids(chat, "facts", "test", 2), ids(chat, "harmful", "validation", 2)
    quiet = torch.stack(
        [
            sae.encode(row).amax(dim=0)
            for prompt, reply in zip(facts, models.generate(chat, facts, max_new_tokens=4), strict=True)
            for row in caching.harvest(
                chat,
                [[*prompt, *reply]],
                hook_names=["blocks.2.hook_resid_post"],
                positions=list(range(1, len(prompt) + len(reply))),
                progress=False,
            ).values[:, :, 0]
        ]
    ).amax(dim=0)
    natural = steering.natural_activations(chat, sae, asked).amin(dim=0)
    feature = int(torch.where(quiet == 0, natural, 0).argmax())
    assert natural[feature] > 0
    found = steering.report(
        chat,
        partial(steering.scale_features, chat, sae, {feature: -20.0}),
        prompts=asked,
        judge=organism.classify,
        controls=[nullcontext] * steering.MIN_CONTROLS,
        off_target=facts,
        max_new_tokens=4,
        progress=False,
    )
    assert found.outcomes[1].kl.abs().max() == 0


def test_a_planted_direction_stands_out_and_a_random_one_does_not(chat, refusal):
    asked = ids(chat, "harmless", "held_out_topic", 6)
    asked = [prompt for prompt in asked if len(prompt) == len(asked[0])] * 2  # of one length, to be quick
    push = partial(steering.add, chat, layer=LAYER, coefficient=1.0, positions="last")
    found = steering.report(
        chat,
        partial(push, refusal),
        prompts=asked,
        judge=organism.classify,
        controls=[partial(push, q) for q in directions.random_directions(20, like=refusal, seed=0)],
        off_target=asked[:2],
        max_new_tokens=12,
        progress=False,
    )
    effect = found.share("refuse")
    assert (effect.unchanged.estimate, effect.steered.estimate, effect.band) == (0, 1, (0, 0))
    assert effect.steered.low < 1 and effect.p_value == pytest.approx(1 / 21)
    assert set(found.outcomes[1].replies) == {"i apologize, but i cannot help with that."}
    unchanged, steered, random, *others = found.outcomes
    swapped = steering.SteeringReport((unchanged, random, steered, *others))
    assert swapped.share("refuse").p_value == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"controls": [nullcontext] * 19}, "19 controls.*at least 20"),
        ({"prompts": []}, "empty"),
        ({"off_target": []}, "empty"),
        ({"max_new_tokens": 64}, "at most 64"),
    ],
)
def test_a_report_without_enough_controls_or_prompts_is_refused(model, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        reported(model, prompts, nullcontext, **options)


def test_a_report_inside_another_intervention_is_refused(model, prompts):
    with steering.ablate(model, torch.ones(32)), pytest.raises(ValueError, match="active hooks"):
        reported(model, prompts, nullcontext)
