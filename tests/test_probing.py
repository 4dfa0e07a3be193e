"""What a probe's report shows on data whose truth is known, and what it refuses."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_lib import caching, data, directions, models, probing, steering, tokens

HOOKS = tuple(f"blocks.{layer}.hook_resid_pre" for layer in range(3))
POSITIONS = ("last_instruction", "reply")
D_MODEL = 32
METHODS = pytest.mark.parametrize("method", [probing.difference_of_means, probing.logistic_regression])
SIGNAL = directions.unit(torch.randn(D_MODEL, generator=torch.Generator().manual_seed(99)))


def synthetic(strength=4.0, *, topic_noise=0.5, n_topics=24, per_topic=20, seed=0):
    """Examples in which SIGNAL tells True from False at hook 1, position "reply", and nothing does elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    n = n_topics * per_topic
    topic = torch.arange(n) // per_topic
    labels = topic % 2 == 0
    values = torch.randn(n, len(POSITIONS), len(HOOKS), D_MODEL, generator=generator)
    values += topic_noise * torch.randn(n_topics, 1, 1, D_MODEL, generator=generator)[topic]
    values[labels, 1, 1] += strength * SIGNAL
    prompts = torch.randint(50, (n, 8), generator=generator).tolist()
    activations = caching.Activations(values, HOOKS, POSITIONS)
    return probing.Examples(activations, labels, [f"topic {number}" for number in topic.tolist()], prompts)


def divided(examples, seed=0):
    return probing.split_by_topic(examples.topics, examples.labels, seed=seed)


def report_of(examples, **settings):
    return probing.evaluate(examples, divided(examples), **settings)


def warned(report, words):
    return any(words in warning for warning in report.warnings)


def with_values(examples, values):
    return replace(examples, activations=replace(examples.activations, values=values))


@pytest.fixture(scope="module")
def planted():
    return synthetic()


@pytest.fixture(scope="module")
def chat():
    return models.load("chat")


def asked(chat, splits):
    """Harmful and harmless requests of the given splits, and their activations in the chat model."""
    rows = [(p, name == "harmful") for name in ("harmful", "harmless") for p in data.load(name) if p.split in splits]
    rows = rows[::2]
    prompts = [tokens.chat_prompt(chat.tokenizer, prompt.text) for prompt, _ in rows]
    activations = caching.harvest(chat, prompts, positions=POSITIONS, progress=False)
    labels = torch.tensor([label for _, label in rows])
    return probing.Examples(activations, labels, [prompt.topic for prompt, _ in rows], prompts)


@pytest.fixture(scope="module")
def requests(chat):
    return asked(chat, ("train", "held_out_topic"))


# --- division by topic --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True])
def test_no_topic_is_in_two_parts_and_each_part_has_both_kinds_in_about_its_share(mixed):
    topics = [f"topic {number // 10}" for number in range(240)]
    labels = torch.arange(240) % 2 == 0 if mixed else torch.arange(240) < 120
    for seed in range(5):
        split = probing.split_by_topic(topics, labels, seed=seed)
        held = [{topics[row] for row in rows.tolist()} for rows in split.parts().values()]
        assert sum(map(len, held)) == len(set().union(*held)) == 24
        assert [len(rows) for rows in split.parts().values()] == [120, 60, 60]
        assert all(labels[rows].double().mean() == 0.5 for rows in split.parts().values())


def test_the_seed_decides_the_division_and_nothing_else_does(planted):
    torch.manual_seed(1)
    first = divided(planted, seed=3)
    torch.manual_seed(2)
    assert torch.equal(first.test, divided(planted, seed=3).test)
    assert not torch.equal(first.test, divided(planted, seed=4).test)


@pytest.mark.parametrize("use", ["fit", "logistic", "select", "evaluate"])
def test_a_division_that_leaks_a_topic_is_refused_by_the_topics_name(planted, use):
    good = divided(planted)
    leaking = probing.Split(torch.cat([good.train, good.test[:1]]), good.validation, good.test[1:])
    call = {
        "fit": lambda split: probing.difference_of_means(planted, split, hook=1, position="reply"),
        "logistic": lambda split: probing.logistic_regression(planted, split, hook=1, position="reply"),
        "select": lambda split: probing.select(planted, split),
        "evaluate": lambda split: probing.evaluate(planted, split, n_random=1, n_shuffles=1),
    }[use]
    topic = planted.topics[int(good.test[0])]
    with pytest.raises(ValueError, match=f"'{topic}' is in the train part and in the test part"):
        call(leaking)
    call(good)


def test_two_topics_of_a_kind_cannot_be_divided_in_three():
    topics, labels = ["a", "b", "c", "d", "e"], torch.tensor([True, True, False, False, False])
    with pytest.raises(ValueError, match="The test part has no prompt labelled True: there are only 2 topics"):
        probing.split_by_topic(topics, labels)


def test_a_prompt_twice_in_a_part_and_an_index_outside_are_refused(planted):
    good = divided(planted)
    with pytest.raises(ValueError, match="train part holds a prompt twice"):
        probing.select(planted, replace(good, train=torch.cat([good.train, good.train[:1]])))
    with pytest.raises(ValueError, match="test part holds an index outside the 480 prompts"):
        probing.select(planted, replace(good, test=torch.tensor([480])))


# --- fits ---------------------------------------------------------------------------------------------------


@METHODS
def test_the_planted_direction_is_found_where_it_was_planted(planted, method):
    report = report_of(planted, method=method, n_shuffles=20)
    probe = report.probe
    assert (probe.layer, probe.position) == (1, "reply") and report.top(1)[0].hook_name == HOOKS[1]
    # 12 training topics leave an error of about 0.25 in each of 32 numbers, against a signal of length 4
    assert directions.cosine(probe.direction, SIGNAL) > 0.8 and report.auroc.low > 0.95
    elsewhere = [place.validation_auroc for place in report.places[1:]]
    assert max(elsewhere) < 0.8
    assert probe.gap == pytest.approx(4.0, abs=0.8)
    assert probe.step.norm() == pytest.approx(abs(probe.gap), rel=1e-5)


def test_logistic_regression_is_scikit_learns_own_pipeline(planted):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    split, x = divided(planted), planted.activations.at(1, "reply") * torch.logspace(-2, 2, D_MODEL)
    stretched = with_values(planted, planted.activations.values * torch.logspace(-2, 2, D_MODEL))
    probe = probing.logistic_regression(stretched, split, hook=1, position="reply", strengths=(0.1,))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    pipeline.fit(x[split.train].double().numpy(), planted.labels[split.train].numpy())
    expected = pipeline.decision_function(x[split.test].double().numpy())
    np.testing.assert_allclose(probe.scores(x[split.test]).numpy(), expected, atol=1e-3)


def test_the_strength_of_regularisation_is_the_one_that_validates_best(planted):
    """On weak signal the strengths differ, so that a choice by training AUROC would take the largest."""
    weak = synthetic(1.0, n_topics=12, per_topic=8)
    split, x = divided(weak), weak.activations.at(1, "reply")
    fits = {
        c: probing.logistic_regression(weak, split, hook=1, position="reply", strengths=(c,))
        for c in (0.001, 0.1, 100.0)
    }

    def auroc(probe, rows):
        scores, y = probe.scores(x[rows]), weak.labels[rows]
        return directions.auroc(scores[y], scores[~y])

    best = {
        part: max(fits, key=lambda c, rows=rows: (auroc(fits[c], rows), -c)) for part, rows in split.parts().items()
    }
    chosen = probing.logistic_regression(weak, split, hook=1, position="reply", strengths=(100.0, 0.1, 0.001))
    assert best["validation"] != best["train"]
    assert chosen.method == fits[best["validation"]].method
    assert torch.equal(chosen.direction, fits[best["validation"]].direction)


def test_the_midpoint_threshold_is_the_nearest_mean(planted):
    from sklearn.neighbors import NearestCentroid

    split, x = divided(planted), planted.activations.at(1, "reply")
    probe = probing.difference_of_means(planted, split, hook=1, position="reply")
    nearest = NearestCentroid().fit(x[split.train].numpy(), planted.labels[split.train].numpy())
    expected = nearest.predict(x[split.test].numpy())
    assert (probe.scores(x[split.test]) > 0).tolist() == expected.tolist()
    accuracy = (expected == planted.labels[split.test].numpy()).mean()
    assert report_of(planted, n_shuffles=1).accuracy.estimate == pytest.approx(accuracy)


def test_the_auroc_is_scikit_learns_also_with_ties(planted):
    from sklearn.metrics import roc_auc_score

    coarse = with_values(planted, planted.activations.values.round())
    report, split = report_of(coarse, n_shuffles=1), divided(coarse)
    scores = report.probe.scores(coarse.activations.at(1, "reply")[split.test])
    assert report.auroc.estimate == pytest.approx(roc_auc_score(coarse.labels[split.test], scores))


@METHODS
def test_the_test_part_has_no_say_in_the_probe(planted, method):
    """Control: the validation part has one."""
    split = divided(planted)

    def chosen(spoiled):
        values = planted.activations.values.clone()
        values[spoiled] = 100 * torch.randn(values[spoiled].shape, generator=torch.Generator().manual_seed(5))
        return probing.evaluate(with_values(planted, values), split, method=method, n_random=1, n_shuffles=1)

    clean = probing.evaluate(planted, split, method=method, n_random=1, n_shuffles=1)
    test_spoiled, validation_spoiled = chosen(split.test), chosen(split.validation)
    assert torch.equal(clean.probe.direction, test_spoiled.probe.direction)
    assert (clean.probe.bias, clean.places) == (test_spoiled.probe.bias, test_spoiled.places)
    assert clean.threshold.value == test_spoiled.threshold.value
    assert abs(test_spoiled.auroc.estimate - 0.5) < 0.2 < clean.auroc.estimate - 0.5
    assert validation_spoiled.places != clean.places


def test_a_place_where_all_prompts_are_the_same_is_never_chosen(planted):
    values = planted.activations.values.clone()
    values[:, 0] = 1.0
    probe, places = probing.select(with_values(planted, values), divided(planted))
    assert probe.position == "reply"
    assert [place.validation_auroc for place in places if place.position == "last_instruction"] == [0.5] * 3
    with pytest.raises(ValueError, match="nothing to read"):
        probing.select(with_values(planted, torch.ones_like(values)), divided(planted))


# --- controls -----------------------------------------------------------------------------------------------


@METHODS
def test_a_probe_on_shuffled_labels_is_at_chance(requests, method):
    report = report_of(requests, method=method, n_shuffles=60)
    assert report.auroc.low > 0.95
    assert abs(float(report.shuffled.aurocs.mean()) - 0.5) < 0.1
    assert report.shuffled.share_reaching <= 0.05


def test_where_nothing_is_planted_the_report_says_so():
    report = report_of(synthetic(strength=0.0))
    assert report.auroc.low <= 0.5 <= report.auroc.high
    assert report.random.share_reaching > 0.05 and report.shuffled.share_reaching > 0.05
    assert warned(report, "not above chance") and warned(report, "of random directions reach")
    assert warned(report, "on shuffled labels reach")
    assert not any(warned(report_of(synthetic()), words) for words in ("above chance", "random", "shuffled"))


@METHODS
def test_a_direction_that_only_knows_its_topics_is_exposed(method):
    """Each topic has a mark of its own: on prompts of the same topics it looks perfect, on others it is nothing."""
    nuisance = synthetic(strength=0.0, topic_noise=4.0)
    report, split = report_of(nuisance, method=method), divided(nuisance)
    x = nuisance.activations.at(report.probe.hook_name, report.probe.position)[split.train]
    scores, y = report.probe.scores(x), nuisance.labels[split.train]
    assert directions.auroc(scores[y], scores[~y]) > 0.9
    assert report.auroc.low <= 0.5 and warned(report, "not above chance")


def test_lengths_that_give_the_answer_away_are_exposed(chat, requests):
    """The split "confounded" of the shipped prompts: harmful ones short, harmless ones long."""
    trap = report_of(asked(chat, ("confounded",)), n_shuffles=10)
    assert trap.auroc.estimate > 0.95 and trap.length.estimate > 0.95
    assert warned(trap, "Prompt length alone reaches")
    fair = report_of(requests, n_shuffles=10)
    assert abs(fair.length.estimate - 0.5) < 0.1 and not warned(fair, "Prompt length")


def test_words_that_give_the_answer_away_are_exposed(planted):
    marked = [[*ids, 77] if label else [*ids, 78] for ids, label in zip(planted.prompts, planted.labels, strict=True)]
    report = report_of(replace(planted, prompts=marked), n_shuffles=1)
    assert report.words.estimate == 1.0 and report.length.estimate == 0.5
    assert warned(report, "bag of words alone reaches AUROC 1.00") and not warned(report, "length")
    assert not warned(report_of(planted, n_shuffles=1), "words")


def test_words_of_topics_that_training_never_saw_are_no_help():
    """The bag of words is fitted as strictly as the probe: a word for each topic gives nothing away elsewhere."""
    examples = synthetic()
    marked = [[100 + int(topic.split()[1])] * 8 for topic in examples.topics]
    report = report_of(replace(examples, prompts=marked), n_shuffles=1)
    assert report.words.estimate == 0.5


def test_random_directions_are_seeded_and_an_axis_that_everything_shares_is_found_by_many_of_them(planted):
    assert torch.equal(report_of(planted, n_shuffles=1).random.aurocs, report_of(planted, n_shuffles=1).random.aurocs)
    salient = report_of(with_values(planted, planted.activations.values + 60 * planted.labels[:, None, None, None]))
    assert salient.random.share_reaching > 0.5 and warned(salient, "of random directions reach")
    assert warned(salient, "share the best validation AUROC") and warned(salient, "has no width")
    assert len(salient.random.aurocs) == 1000 and salient.random.quantile(1.0) == 1.0


def test_the_interval_is_that_of_topics_drawn_again_by_a_plain_loop():
    examples = synthetic(1.0, topic_noise=1.0, n_topics=32, per_topic=10)
    report, split = report_of(examples, n_shuffles=1), divided(examples)
    scores = report.probe.scores(examples.activations.at(report.probe.hook_name, report.probe.position))
    of = {topic: [r for r in split.test.tolist() if examples.topics[r] == topic] for topic in set(examples.topics)}
    groups = [rows for rows in of.values() if rows]
    true, false = ([g for g in groups if bool(examples.labels[g[0]]) == label] for label in (True, False))
    generator = np.random.default_rng(0)

    def drawn(kind):
        return scores[sum((kind[i] for i in generator.integers(len(kind), size=len(kind))), [])]

    found = np.quantile([directions.auroc(drawn(true), drawn(false)) for _ in range(2000)], [0.025, 0.975])
    np.testing.assert_allclose((report.auroc.low, report.auroc.high), found, atol=0.015)
    y = examples.labels[split.test]
    rows = directions.bootstrap_interval(
        torch.stack([scores[split.test], y.float()], dim=1),
        lambda drawn: torch.tensor(directions.auroc(drawn[drawn[:, 1] == 1, 0], drawn[drawn[:, 1] == 0, 0])),
    )
    assert report.auroc.high - report.auroc.low > 1.3 * (rows.high - rows.low), "topics count, not prompts"


# --- threshold ----------------------------------------------------------------------------------------------


def benign(n, seed):
    noise = torch.randn(n, len(POSITIONS), len(HOOKS), D_MODEL, generator=torch.Generator().manual_seed(seed))
    return caching.Activations(noise, HOOKS, POSITIONS)


def test_the_threshold_keeps_its_false_positives_on_fresh_prompts(planted):
    """Benign scores are normal here, so that the rate on all fresh prompts is known without drawing any.

    One calibration set of 1,000 is off by a third as often as not: the claim is about many of them, and that the
    interval that the report gives holds the true rate.
    """
    rates, held = [], 0
    for seed in range(20):
        report = report_of(planted, n_random=1, n_shuffles=1, benign=benign(1000, seed=1000 + seed))
        threshold, probe = report.threshold, report.probe
        z = (threshold.value - probe.bias) / probe.direction.norm()
        rates.append(float(torch.special.ndtr(-z.double())))
        assert threshold.calibration.estimate == 0.01 and threshold.n_calibration == 1000
        held += threshold.calibration.low <= rates[-1] <= threshold.calibration.high
    assert np.mean(rates) == pytest.approx(11 / 1001, abs=4 * 0.0033 / 20**0.5)
    assert held >= 17


def test_near_misses_are_counted_by_name_and_warned_of_where_they_raise_alarm(planted):
    near = benign(200, seed=8)
    near.values[:150, 1, 1] += 6 * SIGNAL
    settings = {"benign": benign(3000, seed=7), "near_misses": {"far": benign(300, seed=9), "near": near}}
    report = report_of(planted, n_shuffles=1, **settings)
    assert report.threshold.near_misses["near"].estimate == pytest.approx(0.75, abs=0.02)
    assert report.threshold.near_misses["far"].estimate < 0.03
    assert warned(report, "misses 'near'") and not warned(report, "misses 'far'")
    assert not warned(report, "too few to set") and not warned(report, "No near misses")
    assert "near misses 'near'" in report.table()


def test_a_threshold_from_too_few_prompts_is_warned_of_and_lets_none_of_them_pass(planted):
    report = report_of(planted, n_shuffles=1, benign=benign(99, seed=7))
    assert report.threshold.calibration.estimate == 0 and warned(report, "99 benign prompts are too few")


def test_the_threshold_is_set_on_validation_prompts_unless_others_are_given(planted):
    split = divided(planted)
    report = report_of(planted, n_shuffles=1, max_false_positives=0.1)
    quiet = split.validation[~planted.labels[split.validation]]
    scores = report.probe.scores(planted.activations.at(1, "reply")[quiet])
    assert report.threshold.n_calibration == len(quiet)
    assert int((scores > report.threshold.value).sum()) == int(0.1 * len(quiet))


# --- causes -------------------------------------------------------------------------------------------------


def test_what_the_chat_model_reads_at_the_last_instruction_token_does_not_cause_its_refusal_and_at_the_reply_it_does(
    chat, requests
):
    """Harmfulness is read about as well at both positions; only the direction of the reply token decides."""
    split, refusal = divided(requests), chat.tokenizer.convert_tokens_to_ids(["i"])
    harmful = [requests.prompts[row] for row in split.test.tolist() if requests.labels[row]][:30]

    def refused(probe):
        with steering.ablate(chat, probe.step) if probe else nullcontext():
            return directions.refusal_score(models.next_token_logits(chat, harmful), refusal) > 0

    reports = {}
    for index, position in enumerate(POSITIONS):
        here = replace(
            requests.activations,
            values=requests.activations.values[:, index : index + 1, 4:5],
            hook_names=requests.activations.hook_names[4:5],
            positions=(position,),
        )
        examples = replace(requests, activations=here)
        reports[position] = probing.evaluate(
            examples, split, n_shuffles=1, interventions={"ablate": refused}, n_random_interventions=20
        )
    idle, decisive = (reports[position].causal[0] for position in POSITIONS)
    assert min(report.auroc.low for report in reports.values()) > 0.95
    assert decisive.unchanged.estimate >= 0.95 and decisive.changed.estimate <= 0.05 and decisive.causes
    assert idle.changed.estimate >= 0.9 and not idle.causes
    assert float(decisive.random.min()) >= 0.9
    assert warned(reports["last_instruction"], "reads but does not cause")
    assert not warned(reports["reply"], "reads but does not cause") and "beyond all" in reports["reply"].table()


def test_an_effect_that_random_directions_share_is_not_taken_for_one_of_the_probe(planted):
    """Control: the same outcome, moved by the probe alone."""
    probe, _ = probing.select(planted, divided(planted))
    breaking = probing.causal_effect(probe, lambda given: torch.full((50,), float(given is None)))
    assert breaking.difference.estimate == -1 and not breaking.causes
    own = probing.causal_effect(probe, lambda given: torch.full((50,), float(given is not probe)))
    assert own.difference.estimate == -1 and own.causes


@pytest.mark.parametrize(("moved", "small"), [(5, True), (45, False)])
def test_an_effect_that_leaves_most_of_the_outcome_is_called_small(planted, moved, small):
    """Beyond every random direction, as 5 of 50 are where random ones do nothing, is not yet an explanation."""
    probe, _ = probing.select(planted, divided(planted))

    def outcome(given):
        own = given is not None and torch.equal(given.direction, probe.direction)
        return (torch.arange(50) >= moved).double() if own else torch.ones(50)

    report = report_of(planted, n_shuffles=1, interventions={"cut": outcome})
    assert report.causal[0].causes and warned(report, "is a small cause: 'cut'") == small


def test_random_directions_are_as_long_as_the_probes_step_and_at_its_place(planted):
    probe, _ = probing.select(planted, divided(planted), method=probing.logistic_regression)
    seen = []
    probing.causal_effect(probe, lambda given: seen.append(given) or torch.zeros(4), n_random=5)
    assert seen[0] is None and seen[1] is probe and len(seen) == 7
    for other in seen[2:]:
        assert (other.layer, other.position) == (probe.layer, probe.position)
        assert other.step.norm() == pytest.approx(float(probe.step.norm()), rel=1e-4)
        assert abs(directions.cosine(other.step, probe.step)) < 0.7


def test_a_report_without_an_intervention_says_that_causes_are_open(planted):
    report = report_of(planted, n_shuffles=1)
    assert warned(report, "No intervention was tried") and warned(report, "No near misses were tried")
    assert all(f"! {warning}" in report.table() for warning in report.warnings)


# --- what is refused ----------------------------------------------------------------------------------------


def spoiled(values):
    values = values.clone()
    values[7, 0, 2, 3] = float("nan")
    values[5, 1, 1, 0] = float("inf")
    return values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.ones(480, dtype=torch.bool)}, "480 labels, 480 of them True.*both kinds"),
        ({"labels": torch.zeros(480, dtype=torch.long)}, "one boolean a prompt.*int64"),
        ({"labels": [True, False]}, "one boolean a prompt.*list"),
        ({"labels": torch.arange(479) % 2 == 0}, "480 activations, 479 labels, 480 topics, 480 prompts"),
        ({"topics": ["a"]}, "480 labels, 1 topics"),
        ({"prompts": [[1]] * 479 + [[]]}, "Prompt 479 has no tokens"),
    ],
)
def test_examples_that_do_not_fit_together_are_refused(planted, change, words):
    with pytest.raises(ValueError, match=words):
        replace(planted, **change)


def test_a_value_that_is_not_finite_is_named_where_it_starts(planted):
    with pytest.raises(ValueError, match="first at blocks.1.hook_resid_pre in prompt 5, position 'reply'; 2 prompts"):
        with_values(planted, spoiled(planted.activations.values))


def test_labels_on_another_device_are_refused(planted):
    """A tensor whose type says "meta" stands for one on a GPU; no GPU is needed to mix devices up."""
    with pytest.raises(ValueError, match="labels are on cpu, the activations on meta"):
        with_values(planted, planted.activations.values.to("meta"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"near_misses": {"none": benign(0, 1)}}, "no prompts in near misses 'none'"),
        ({"benign": benign(0, 1)}, "no prompts in the benign set"),
        ({"near_misses": {"x": replace(benign(9, 1), positions=("last", "reply"))}}, "'x' must be harvested as"),
        ({"near_misses": {"x": replace(benign(9, 1), values=spoiled(benign(9, 1).values))}}, "near misses 'x' is NaN"),
        ({"n_random": 0}, "at least 1"),
        ({"max_false_positives": 1.0}, "between 0 and 1"),
    ],
)
def test_settings_without_sense_are_refused_before_any_fit(planted, settings, words):
    def never(*_, **__):
        raise AssertionError("a probe was fitted first")

    with pytest.raises(ValueError, match=words):
        report_of(planted, method=never, **settings)


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        (lambda probe: torch.zeros(3, 2), r"one finite number a prompt.*\(3, 2\)"),
        (lambda probe: [1.0], "at least 2"),
        (lambda probe: [0.0, float("nan")], "1 of them not finite"),
        (lambda probe: torch.zeros(3 if probe else 4), "4 as for the model left alone"),
    ],
)
def test_outcomes_that_cannot_be_compared_are_refused(planted, outcomes, words):
    probe = probing.difference_of_means(planted, divided(planted), hook=1, position="reply")
    with pytest.raises(ValueError, match=words):
        probing.causal_effect(probe, outcomes)
    with pytest.raises(ValueError, match="at least one random direction"):
        probing.causal_effect(probe, outcomes, n_random=0)


def test_a_probe_outside_the_blocks_has_no_layer_and_equal_means_have_no_direction(planted):
    probe = probing.difference_of_means(planted, divided(planted), hook=1, position="reply")
    with pytest.raises(ValueError, match="ln_final.hook_in lies in no block"):
        replace(probe, hook_name="ln_final.hook_in").layer  # noqa: B018
    with pytest.raises(ValueError, match="same mean"):
        level = with_values(planted, torch.ones_like(planted.activations.values))
        probing.difference_of_means(level, divided(planted), hook=1, position="reply")
