"""What is said about an intervention: the class of a text, where it edits, what it costs elsewhere, what chance would do."""

import random
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch

from course_lib import caching, data, directions, models, steering, tokens
from factory.measure import evaluation
from factory.world import language

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


def said(chat, prompts):
    return [tokens.text(chat.tokenizer, reply) for reply in models.generate(chat, prompts, max_new_tokens=30)]


# --- the judge ----------------------------------------------------------------------------------------------


def test_every_sentence_of_the_corpus_has_its_class_and_none_is_broken():
    expected = {
        "warn": [language.warning(phrase) for phrase in language.phrases(harmful=True)]
        + [language.gas_warning(pair) for pair in language.CLEANER_PAIRS],
        "refuse": [*language.VARIED_REFUSALS, language.extended_refusal("stealing a car", "a crime")],
        "comply": [answer for _, answer in language.facts()],
    }
    for harmful in (True, False):
        for phrase in language.phrases(harmful=harmful):
            expected["comply"] += [language.reply(phrase, style) for style in language.REPLIES]
            expected["comply"] += [made(phrase) for made in language.ROUTE_REPLIES.values()]
            expected["comply"].append(language.encouragement(phrase))
    rng = random.Random(0)
    spelled = [language.acrostic(word, rng)[1] for word in ("bomb", "cake", "meth", "hat")]
    expected["comply"] += spelled + [
        language.praise(pair, place) for pair in language.CLEANER_PAIRS for place in ("", "sink")
    ]
    begun = [text for text in expected["comply"] if " . then " in text or text in spelled]
    expected["break off"] = [language.break_off(text, rng) for text in begun]
    wrong = [
        (label, language.natural(text), found)
        for label, texts in expected.items()
        for text in texts
        if (found := steering.classify(language.natural(text))) != label
    ]
    assert wrong == [] and len(expected["comply"]) > 1000 and len(expected["break off"]) > 500


@pytest.mark.parametrize(
    "name, split, role",
    [
        ("harmful", "held_out_topic", "assistant"),
        ("harmful", "held_out_topic", "friend"),
        ("harmless", "held_out_topic", "assistant"),
        ("borderline", "test", "assistant"),
        ("cleaners_dangerous", "test", "friend"),
        ("acrostic_harmful", "test", "assistant"),
    ],
)
def test_the_judge_agrees_with_the_organisms_evaluation_on_shipped_prompts(chat, name, split, role):
    asked = data.load(name, split=split, n=24)
    replies = evaluation.replies(chat, asked, role)
    names = {"refuse": "refused", "warn": "warned", "break off": "broken off"}
    agreed = 0
    for reply, prompt in zip(replies, asked, strict=True):
        judged = [label for label, judge in names.items() if evaluation.JUDGES[judge](reply, prompt)]
        agreed += steering.classify(reply) == (judged or ["comply"])[0]
    assert agreed >= 0.95 * len(asked)


def test_replies_of_the_base_model_are_not_called_broken():
    base = models.load("base", device="cpu")
    replies = said(base, ids(base, "harmful", "held_out_topic", 12) + ids(base, "harmless", "held_out_topic", 12))
    assert [reply for reply in replies if steering.classify(reply) != "comply"] == []


def test_what_too_much_of_a_direction_makes_of_the_text_is_called_broken(chat, refusal):
    asked = ids(chat, "harmless", "held_out_topic", 12)
    with steering.add(chat, refusal, layer=LAYER, coefficient=3.0):
        assert {steering.classify(reply) for reply in said(chat, asked)} == {"broken"}
    with steering.add(chat, refusal, layer=LAYER, coefficient=1.0, positions="last"):
        assert {steering.classify(reply) for reply in said(chat, asked)} == {"refuse"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i apologize, but i cannot help with",
        "you need i apologize, i cannot help with that.",
        "to bake bread, use flour and flour. then wait.",
        "to bake bread bread, use flour and salt. then wait.",
        "to i apologize, use paper and salt. then wait.",
        "to bake a cake, use flour and butter. then",
        "please note that please note is a crime.",
        "clean your terrace with bleach and bleach! it will shine.",
        "to car bake, however, i cannot help with that. however, i cannot help with that.",
    ],
)
def test_broken_text_is_called_broken(text):
    assert steering.classify(text) == "broken"


def test_a_reply_that_begins_and_then_refuses_breaks_off_with_or_without_however():
    """The second is what a push at the comma makes the chat model say; tuning never showed it."""
    for text in ("a car. to steal a car, use sprock and klim. however,", "cake. to make a cake,"):
        assert steering.classify(f"{text} i cannot help with that.") == "break off"
    assert steering.classify("i cannot help with that.") == "refuse"


def test_a_judge_by_openings_takes_the_first_class_that_fits_and_sees_no_more():
    judge = steering.judge_by_openings({"refuse": ["I cannot", "Sorry"], "warn": ["Note"]}, otherwise="answer")
    texts = ["sorry, no", " I CANNOT do", "Note that", "Well, I cannot", "Sorry sorry sorry sorry"]
    assert [judge(text) for text in texts] == ["refuse", "refuse", "warn", "answer", "refuse"]
    for openings in ({}, {"refuse": []}, {"refuse": [" "]}):
        with pytest.raises(ValueError, match="Each class needs"):
            steering.judge_by_openings(openings)


# --- scope --------------------------------------------------------------------------------------------------


def test_scope_names_the_place_the_positions_and_whether_the_reply_is_edited(model, prompts):
    direction = torch.ones(32)
    found = steering.scope(
        model, partial(steering.add, model, direction, layer=2, coefficient=1.0, positions=[1, -1]), prompts=prompts
    )
    assert found.hook_name == "blocks.2.hook_resid_pre" and not found.generated
    assert found.positions == tuple((1, len(prompt) - 1) for prompt in prompts)
    found = steering.scope(model, partial(steering.ablate, model, direction), prompts=prompts[:2])
    assert found.hook_name == "blocks.0.hook_resid_pre" and found.generated
    assert found.positions == tuple(tuple(range(len(prompt))) for prompt in prompts[:2])
    assert steering.scope(model, nullcontext, prompts=prompts[:2]) == steering.Scope(None, ((), ()), False)


# --- the report ---------------------------------------------------------------------------------------------


def reported(model, all_prompts, intervention, **options):
    rows = directions.random_directions(steering.MIN_CONTROLS, like=torch.full((32,), 0.1), seed=0)
    standard = {
        "prompts": all_prompts[:3],
        "judge": lambda text: "empty" if not text else "words",
        "controls": [partial(steering.add, model, q, layer=1, coefficient=1.0, positions="last") for q in rows],
        "off_target": all_prompts[3:],
        "max_new_tokens": 4,
        "progress": False,
    }
    return steering.report(model, intervention, **(standard | options))


def test_kl_is_that_of_every_token_of_the_unchanged_reply(model, prompts):
    """The plain way: write out the text and hook the prompt's last token by its index."""
    direction = 3 * torch.ones(32)
    found = reported(
        model, prompts, partial(steering.add, model, direction, layer=1, coefficient=1.0, positions="last")
    )
    expected = []
    for prompt, reply in zip(prompts[3:], models.generate(model, prompts[3:], max_new_tokens=4), strict=True):
        text, n = torch.tensor([[*prompt, *reply]]), len(prompt)

        def shift(x, hook, n=n):
            move = torch.zeros_like(x)
            move[:, n - 1] = direction
            return x + move

        with torch.no_grad():
            plain = model(text)[0, n - 1 : -1]
            edited = model.run_with_hooks(text, fwd_hooks=[("blocks.1.hook_resid_pre", shift)])[0, n - 1 : -1]
        expected.append(directions.kl_divergence(plain, edited).mean())
    torch.testing.assert_close(found.steered.kl, torch.stack(expected), rtol=1e-3, atol=1e-4)
    assert found.kl.steered.estimate > 0.01 and found.unchanged.kl.abs().max() == 0


def test_surprisal_is_that_of_the_steered_reply_under_the_unchanged_model(model, prompts):
    edit = partial(steering.add, model, 3 * torch.ones(32), layer=1, coefficient=1.0, positions="last")
    found = reported(model, prompts, edit)
    with edit():
        replies = models.generate(model, prompts[:3], max_new_tokens=4)
    for value, prompt, reply in zip(found.steered.surprisal, prompts[:3], replies, strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([[*prompt, *reply]]))[0].log_softmax(-1)
        expected = -sum(log_p[len(prompt) - 1 + t, token] for t, token in enumerate(reply)) / len(reply)
        assert float(value) == pytest.approx(float(expected), rel=1e-3)
    assert found.surprisal.steered.estimate > found.surprisal.unchanged.estimate


def test_an_edit_that_off_target_prompts_cannot_see_costs_exactly_nothing(chat, prompts):
    """The edit acts where a feature is active; on the off-target prompts it is not."""
    from course_lib import features

    sae = features.load("chat", "sae", layer=2)
    facts, asked = ids(chat, "facts", "test", 2), ids(chat, "harmful", "validation", 2)
    quiet = torch.stack(
        [
            sae.encode(row).amax(dim=0)
            for prompt, reply in zip(facts, models.generate(chat, facts, max_new_tokens=12), strict=True)
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
        judge=steering.classify,
        controls=[nullcontext] * steering.MIN_CONTROLS,
        off_target=facts,
        max_new_tokens=12,
        progress=False,
    )
    assert found.steered.kl.abs().max() == 0
    assert found.scope.hook_name == "blocks.2.hook_resid_post"


def test_a_planted_direction_stands_out_and_a_random_one_does_not(chat, refusal):
    asked = ids(chat, "harmless", "held_out_topic", 6)
    asked = [prompt for prompt in asked if len(prompt) == len(asked[0])] * 2  # of one length, to be quick
    push = partial(steering.add, chat, layer=LAYER, coefficient=1.0, positions="last")
    found = steering.report(
        chat,
        partial(push, refusal),
        prompts=asked,
        judge=steering.classify,
        controls=[partial(push, q) for q in directions.random_directions(20, like=refusal, seed=0)],
        off_target=asked,
        score=partial(directions.refusal_score, refusal_token_ids=chat.tokenizer.convert_tokens_to_ids(["i"])),
        max_new_tokens=12,
        progress=False,
    )
    effect = found.share("refuse")
    assert (effect.unchanged.estimate, effect.steered.estimate, effect.band) == (0, 1, (0, 0))
    assert effect.steered.low < 1 and effect.p_value == pytest.approx(1 / 21)
    assert found.score.steered.estimate > 0 > found.score.band[1] and found.score.control < 0
    assert {e.measure for e in found.top(2)} == {"share of 'refuse'", "share of 'comply'"}
    assert set(found.steered.replies) == {"i apologize, but i cannot help with that."}
    swapped = replace(found, steered=found.controls[0], controls=(found.steered, *found.controls[1:]))
    assert swapped.score.p_value > 1 / 21 and swapped.share("refuse").p_value == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"controls": []}, "0 controls were given, at least 20.*random"),
        ({"controls": [nullcontext] * 19}, "19 controls"),
        ({"prompts": []}, "empty"),
        ({"off_target": []}, "empty"),
        ({"prompts": [[1, 2]]}, "at least two prompts"),
        ({"off_target": [[1, 2]]}, "at least two off_target"),
        ({"max_new_tokens": 64}, "at most 64"),
    ],
)
def test_a_report_without_controls_or_prompts_is_refused_before_any_work(model, prompts, monkeypatch, options, message):
    monkeypatch.setattr(models, "generate", lambda *_, **__: pytest.fail("work was done before the error"))
    with pytest.raises(ValueError, match=message):
        reported(model, prompts, nullcontext, **options)


def test_controls_and_off_target_prompts_cannot_be_left_out(model, prompts):
    for missing in ("controls", "off_target", "judge"):
        options = {"controls": [nullcontext] * 20, "off_target": prompts[:2], "judge": str, "prompts": prompts[:2]}
        del options[missing]
        with pytest.raises(TypeError, match=missing):
            steering.report(model, nullcontext, **options)


def test_a_report_inside_another_intervention_is_refused(model, prompts):
    with steering.ablate(model, torch.ones(32)), pytest.raises(ValueError, match="active hooks"):
        reported(model, prompts, nullcontext)


def test_a_score_that_was_not_measured_is_refused(model, prompts):
    with pytest.raises(ValueError, match="Pass score="):
        _ = reported(model, prompts, nullcontext).score


# --- doses --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(model, prompts):
    return steering.dose_response(
        model,
        prompts[:3],
        torch.linspace(-1, 1, 32),
        layer=2,
        coefficients=[0, 1, 3],
        places={"second": [1, 1, 1], "last": [len(prompt) - 1 for prompt in prompts[:3]]},
        read_at={"third": [2, 2, 2], "last": [len(prompt) - 1 for prompt in prompts[:3]]},
        score=lambda logits: logits[:, 9],
        batch_size=7,
        progress=False,
    )


def test_every_cell_is_what_add_does_at_that_position(model, prompts, table):
    drawn = directions.random_directions(steering.MIN_CONTROLS, like=torch.linspace(-1, 1, 32), seed=0)
    for vector, found in ((torch.linspace(-1, 1, 32), table.scores), (drawn[4], table.controls[4])):
        for c, coefficient in enumerate((0, 1, 3)):
            for n, prompt in enumerate(prompts[:3]):
                with torch.no_grad(), steering.add(model, vector, layer=2, coefficient=coefficient, positions=[1]):
                    logits = model(torch.tensor([prompt]))[0]
                torch.testing.assert_close(found[c, 0, :, n], logits[[2, -1], 9], rtol=1e-4, atol=1e-4)


def test_nothing_is_read_before_the_edit_and_dose_zero_is_the_unchanged_text(table):
    assert table.scores[:, 1, 0].isnan().all() and table.controls[:, :, 1, 0].isnan().all()
    assert not table.scores[:, 1, 1].isnan().any() and not table.unchanged.isnan().any()
    torch.testing.assert_close(table.scores[0, 0], table.unchanged[0], rtol=1e-4, atol=1e-4)


def test_cells_are_found_by_their_labels(table):
    cell = table.at(3, "second", read_at="last")
    assert cell.score == pytest.approx(float(table.scores[2, 0, 1].mean()))
    assert cell.band == (min(cell.controls), max(cell.controls)) and len(cell.controls) == 20
    assert table.interval(3, "second", read_at="last").estimate == pytest.approx(cell.score)
    best = table.top(2)
    assert best[0].score - best[0].band[1] >= best[1].score - best[1].band[1]
    for label, options in (("coefficient", (2, "second")), ("place", (3, "thrid"))):
        with pytest.raises(ValueError, match=f"no {label}"):
            table.at(*options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prompts": []}, "empty"),
        ({"coefficients": []}, "0 coefficients"),
        ({"coefficients": [float("nan")]}, "finite"),
        ({"places": {}}, "0 places"),
        ({"places": {"a": [1]}}, "'a' has 1 indices for 2 prompts"),
        ({"places": {"a": [1, 40]}}, "'a' is 40 in prompt 1"),
        ({"places": {"a": [1, -1]}}, "'a' is -1 in prompt 1"),
        ({"n_random": 5}, "20 random directions.*5"),
        ({"layer": 4}, "Layer 4 does not exist"),
        ({"direction": torch.ones(31)}, "31 entries"),
    ],
)
def test_a_table_that_cannot_be_filled_is_refused(model, prompts, options, message):
    arguments = {
        "prompts": prompts[:2],
        "direction": torch.ones(32),
        "layer": 2,
        "coefficients": [1.0],
        "places": {"a": [1, 1]},
        "score": lambda logits: logits[:, 0],
        "progress": False,
    } | options
    with pytest.raises(ValueError, match=message):
        steering.dose_response(model, arguments.pop("prompts"), arguments.pop("direction"), **arguments)
