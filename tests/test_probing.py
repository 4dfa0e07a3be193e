"""What a probe's report shows on data whose truth is known, and what it refuses."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from course_lib import caching, data, directions, models, probing, tokens

HOOKS = tuple(f"blocks.{layer}.hook_resid_pre" for layer in range(3))
POSITIONS = ("last_instruction", "reply")
D_MODEL = 32
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
    return any(words in warning for warning in report.warnings())


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
def test_no_topic_is_in_two_parts_and_each_part_has_both_kinds_in_its_share(mixed):
    topics = [f"topic {number // 10}" for number in range(240)]
    labels = torch.arange(240) % 2 == 0 if mixed else torch.arange(240) < 120
    for seed in range(5):
        split = probing.split_by_topic(topics, labels, seed=seed)
        held = [{topics[row] for row in rows.tolist()} for rows in split.values()]
        assert sum(map(len, held)) == len(set().union(*held)) == 24
        assert {name: len(rows) for name, rows in split.items()} == {"train": 120, "validation": 60, "test": 60}
        assert all(labels[rows].double().mean() == 0.5 for rows in split.values())


def test_the_seed_decides_the_split_and_nothing_else_does(planted):
    torch.manual_seed(1)
    first = divided(planted, seed=3)
    torch.manual_seed(2)
    assert torch.equal(first["test"], divided(planted, seed=3)["test"])
    assert not torch.equal(first["test"], divided(planted, seed=4)["test"])


def test_a_split_that_leaks_a_topic_is_refused_by_its_name(planted):
    good = divided(planted)
    leaking = {**good, "train": torch.cat([good["train"], good["test"][:1]]), "test": good["test"][1:]}
    with pytest.raises(ValueError, match=f"would test memory: it shares .'{planted.topics[int(good['test'][0])]}'"):
        probing.evaluate(planted, leaking)


def test_two_topics_of_a_kind_cannot_be_divided_in_three():
    topics, labels = ["a", "b", "c", "d", "e"], torch.tensor([True, True, False, False, False])
    with pytest.raises(ValueError, match="The test part lacks prompts of one label"):
        probing.split_by_topic(topics, labels)


# --- the probe ----------------------------------------------------------------------------------------------


def test_the_planted_direction_is_found_where_it_was_planted(planted):
    report = report_of(planted, n_shuffles=20)
    assert (report.probe.hook_name, report.probe.position) == (HOOKS[1], "reply")
    assert report.probe is report.candidates[0][1] and len(report.candidates) == 6
    # 12 training topics leave an error of about 0.25 in each of 32 numbers, against a signal of length 4
    assert directions.cosine(report.probe.direction, SIGNAL) > 0.8 and report.auroc.low > 0.95
    assert max(auroc for auroc, _ in report.candidates[1:]) < 0.8
    assert report.probe.direction.norm() == pytest.approx(4.0, abs=0.8)


def test_the_midpoint_threshold_is_the_nearest_mean_and_the_auroc_is_scikit_learns_also_with_ties(planted):
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import NearestCentroid

    split, x = divided(planted), planted.activations.at(1, "reply")
    nearest = NearestCentroid().fit(x[split["train"]].numpy(), planted.labels[split["train"]].numpy())
    expected, y = nearest.predict(x[split["test"]].numpy()), planted.labels[split["test"]].numpy()
    report = report_of(planted, n_shuffles=1)
    assert (report.probe.scores(planted.activations)[split["test"]] > 0).tolist() == expected.tolist()
    assert report.accuracy.estimate == pytest.approx((expected == y).mean())
    coarse = with_values(planted, planted.activations.values.round())
    report = report_of(coarse, n_shuffles=1)
    scores = report.probe.scores(coarse.activations)[split["test"]]
    assert report.auroc.estimate == pytest.approx(roc_auc_score(y, scores))


def test_the_test_part_has_no_say_in_the_probe(planted):
    """Control: the validation part has one."""
    split = divided(planted)

    def chosen(spoiled):
        values = planted.activations.values.clone()
        values[spoiled] = 100 * torch.randn(values[spoiled].shape, generator=torch.Generator().manual_seed(5))
        return probing.evaluate(with_values(planted, values), split, n_random=1, n_shuffles=1)

    def validated(report):
        return [auroc for auroc, _ in report.candidates]

    clean, test_spoiled, validation_spoiled = chosen([]), chosen(split["test"]), chosen(split["validation"])
    assert torch.equal(clean.probe.direction, test_spoiled.probe.direction)
    assert (clean.probe.bias, validated(clean)) == (test_spoiled.probe.bias, validated(test_spoiled))
    assert clean.threshold.value == test_spoiled.threshold.value
    assert abs(test_spoiled.auroc.estimate - 0.5) < 0.2 < clean.auroc.estimate - 0.5
    assert validated(validation_spoiled) != validated(clean)


def test_a_position_where_all_prompts_are_the_same_counts_as_chance(planted):
    """As at a token of the template: there the two means differ by rounding only."""
    values = planted.activations.values.clone()
    values[:, 0] = 0.1
    report = report_of(with_values(planted, values), n_shuffles=1)
    assert report.probe.position == "reply"
    assert [auroc for auroc, probe in report.candidates if probe.position == "last_instruction"] == [0.5] * 3


# --- controls -----------------------------------------------------------------------------------------------


def test_a_probe_on_shuffled_labels_is_at_chance(requests):
    report = report_of(requests, n_shuffles=60)
    assert report.auroc.low > 0.95
    assert abs(float(report.shuffled.mean()) - 0.5) < 0.1
    assert not warned(report, "shuffled")


def test_where_nothing_is_planted_the_report_says_so():
    report = report_of(synthetic(strength=0.0))
    assert report.auroc.low <= 0.5 <= report.auroc.high
    assert warned(report, "not above chance") and warned(report, "of random directions reach")
    assert warned(report, "on shuffled labels reach")
    assert not any(warned(report_of(synthetic()), words) for words in ("above chance", "random", "shuffled"))


def test_a_direction_that_only_knows_its_topics_is_exposed():
    """Each topic has a mark of its own: on prompts of the same topics it looks perfect, on others it is nothing."""
    nuisance = synthetic(strength=0.0, topic_noise=4.0)
    report, rows = report_of(nuisance, n_shuffles=1), divided(nuisance)["train"]
    scores, y = report.probe.scores(nuisance.activations)[rows], nuisance.labels[rows]
    assert directions.auroc(scores[y], scores[~y]) > 0.9
    assert report.auroc.low <= 0.5 and warned(report, "not above chance")


def test_lengths_that_give_the_answer_away_are_exposed(chat, requests):
    """The split "confounded" of the shipped prompts: harmful ones short, harmless ones long."""
    trap = report_of(asked(chat, ("confounded",)), n_shuffles=10)
    assert trap.auroc.estimate > 0.95 and trap.baselines["length"].estimate > 0.95
    assert warned(trap, "The length alone reaches")
    fair = report_of(requests, n_shuffles=10)
    assert abs(fair.baselines["length"].estimate - 0.5) < 0.1 and not warned(fair, "The length")


def test_words_that_give_the_answer_away_are_exposed(planted):
    marked = [[*ids, 77] if label else [*ids, 78] for ids, label in zip(planted.prompts, planted.labels, strict=True)]
    report = report_of(replace(planted, prompts=marked), n_shuffles=1)
    assert report.baselines["bag of words"].estimate == 1.0 and report.baselines["length"].estimate == 0.5
    assert warned(report, "bag of words alone reaches AUROC 1.00") and not warned(report, "length")
    assert not warned(report_of(planted, n_shuffles=1), "words")


def test_words_of_topics_that_training_never_saw_are_no_help():
    """The bag of words is fitted as strictly as the probe: a word for each topic gives nothing away elsewhere."""
    examples = synthetic()
    marked = [[100 + int(topic.split()[1])] * 8 for topic in examples.topics]
    report = report_of(replace(examples, prompts=marked), n_shuffles=1)
    assert report.baselines["bag of words"].estimate == 0.5


def test_an_axis_that_everything_shares_is_found_by_many_random_directions(planted):
    salient = report_of(with_values(planted, planted.activations.values + 60 * planted.labels[:, None, None, None]))
    assert warned(salient, "of random directions reach")
    assert warned(salient, "share the best validation AUROC") and warned(salient, "has no width")
    assert len(salient.random) == 1000 and (salient.random == 1).any()


def test_the_interval_is_that_of_topics_drawn_again_by_a_plain_loop():
    examples = synthetic(1.0, topic_noise=1.0, n_topics=32, per_topic=10)
    report, split = report_of(examples, n_shuffles=1), divided(examples)
    scores = report.probe.scores(examples.activations)
    of = {topic: [r for r in split["test"].tolist() if examples.topics[r] == topic] for topic in set(examples.topics)}
    groups = [rows for rows in of.values() if rows]
    true, false = ([g for g in groups if bool(examples.labels[g[0]]) == label] for label in (True, False))
    generator = np.random.default_rng(0)

    def drawn(kind):
        return scores[sum((kind[i] for i in generator.integers(len(kind), size=len(kind))), [])]

    found = np.quantile([directions.auroc(drawn(true), drawn(false)) for _ in range(2000)], [0.025, 0.975])
    np.testing.assert_allclose((report.auroc.low, report.auroc.high), found, atol=0.015)
    y = examples.labels[split["test"]]
    rows = directions.bootstrap_interval(
        torch.stack([scores[split["test"]], y.float()], dim=1),
        lambda drawn: torch.tensor(directions.auroc(drawn[drawn[:, 1] == 1, 0], drawn[drawn[:, 1] == 0, 0])),
    )
    assert report.auroc.high - report.auroc.low > 1.3 * (rows.high - rows.low), "topics count, not prompts"


# --- threshold ----------------------------------------------------------------------------------------------


def test_the_threshold_keeps_its_false_positives_on_fresh_prompts():
    """Benign scores are normal here, so that the rate on all fresh prompts is known without drawing any.

    One calibration set of 1,000 is off by a third as often as not: the claim is about many of them, and that the
    interval that the report gives holds the true rate.
    """
    rates, held = [], 0
    for seed in range(20):
        scores = torch.randn(1000, generator=torch.Generator().manual_seed(1000 + seed))
        threshold = probing._threshold(scores, 0.01, torch.zeros(1), torch.ones(1))
        rates.append(float(torch.special.ndtr(-torch.tensor(threshold.value).double())))
        assert threshold.benign.estimate == 0.01 and threshold.n_benign == 1000
        held += threshold.benign.low <= rates[-1] <= threshold.benign.high
    assert np.mean(rates) == pytest.approx(11 / 1001, abs=4 * 0.0033 / 20**0.5)
    assert held >= 17


def test_a_threshold_from_too_few_prompts_is_warned_of_and_lets_none_of_them_pass(planted):
    report = report_of(planted, n_shuffles=1)
    n = report.threshold.n_benign
    assert n < 100 and report.threshold.benign.estimate == 0 and warned(report, f"{n} benign prompts are too few")


def test_the_threshold_is_set_on_validation_prompts(planted):
    rows = divided(planted)["validation"]
    report = report_of(planted, n_shuffles=1, max_fpr=0.1)
    scores = report.probe.scores(planted.activations)[rows[~planted.labels[rows]]]
    assert report.threshold.n_benign == len(scores)
    assert int((scores > report.threshold.value).sum()) == int(0.1 * len(scores))


def test_a_report_without_an_intervention_says_that_causes_are_open(planted):
    report = report_of(planted, n_shuffles=1)
    assert warned(report, "No intervention was tried") and warned(report, "No near misses were tried")
    assert all(f"! {warning}" in report.table() for warning in report.warnings())


# --- transfer -----------------------------------------------------------------------------------------------

STEP = 4 * torch.eye(D_MODEL)[0]


def sets(shift, *, spread=1.0, axis=0):
    """The same 80 questions twice; the first time moved along an axis."""
    questions = spread * torch.randn(80, D_MODEL, generator=torch.Generator().manual_seed(1))
    moved = questions.clone()
    moved[:, axis] += shift
    return moved, questions


def test_shift_is_counted_in_lengths_of_the_direction():
    found = probing.transfer(STEP, *sets(2.0))
    assert found.shift.estimate == pytest.approx(0.5, abs=1e-5)
    assert found.shift.low - 1e-5 <= 0.5 <= found.shift.high + 1e-5


def test_a_tiny_shift_ranks_perfectly_where_little_else_varies_and_the_shift_tells():
    tiny, whole = probing.transfer(STEP, *sets(0.2, spread=0.01)), probing.transfer(STEP, *sets(4.0, spread=0.01))
    assert tiny.auroc.estimate == whole.auroc.estimate == 1.0
    assert tiny.shift.estimate < 0.1 < 0.9 < whole.shift.estimate


def test_random_directions_reach_the_auroc_too_when_the_sets_are_far_apart():
    far, near = probing.transfer(STEP, *sets(4.0, spread=0.01)), probing.transfer(STEP, *sets(2.0))
    assert far.share_reaching > 0.5 > near.share_reaching


def test_the_shift_exceeds_random_ones_along_the_direction_only_and_keeps_its_sign():
    along, back, beside = (probing.transfer(STEP, *moved) for moved in (sets(4.0), sets(-4.0), sets(4.0, axis=7)))
    assert along.exceeds_random and back.exceeds_random and not beside.exceeds_random
    assert back.auroc.estimate == pytest.approx(1 - along.auroc.estimate, abs=0.01) and back.shift.estimate < 0
    assert along.shuffled_aurocs.sub(0.5).abs().mean() < 0.1


# --- what would be silently wrong ---------------------------------------------------------------------------


def test_labels_that_would_index_and_lists_that_do_not_fit_are_refused(planted):
    with pytest.raises(TypeCheckError, match="labels"):
        replace(planted, labels=torch.zeros(480, dtype=torch.long))
    with pytest.raises(ValueError, match="differ in number: .480, 480, 480, 479."):
        replace(planted, prompts=planted.prompts[1:])


def test_activations_that_are_not_finite_are_refused(planted):
    spoiled = copy.deepcopy(planted.activations)
    spoiled.values[7, 1, 1, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN or"):
        report_of(replace(planted, activations=spoiled), n_shuffles=1)
    with pytest.raises(ValueError, match="NaN or"):
        probing.transfer(STEP, *(spoiled.at(1, "reply"), planted.activations.at(1, "reply")))


@pytest.mark.parametrize("other", ["train", "validation"])
def test_one_prompt_in_two_parts_of_a_split_is_refused(planted, other):
    """Two topics may hold the same request: a probe that remembers it would be tested on what it learned."""
    split = divided(planted)
    prompts = list(planted.prompts)
    prompts[int(split["test"][0])] = prompts[int(split[other][0])]
    with pytest.raises(ValueError, match="1 prompts stand in two parts of the split"):
        probing.evaluate(replace(planted, prompts=prompts), split)
