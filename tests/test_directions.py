"""Claims about directions, projections, scores, intervals and the published selection."""

import doctest
import inspect
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from course_lib import directions
from course_lib.directions import Candidate


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_examples_in_the_documentation_hold():
    result = doctest.testmod(directions)
    assert result.attempted == inspect.getsource(directions).count(">>>") and result.failed == 0


# --- vectors ------------------------------------------------------------------------------------------------


def test_difference_of_means_points_from_negative_to_positive_with_its_full_length():
    positive, negative = noise(7, 2, 3, 5, seed=1) + 4, noise(9, 2, 3, 5, seed=2)
    expected = np.mean(positive.numpy(), axis=0) - np.mean(negative.numpy(), axis=0)
    found = directions.difference_of_means(positive, negative)
    torch.testing.assert_close(found, torch.from_numpy(expected))
    assert found.mean() > 3


def test_difference_of_means_does_not_lose_small_differences_of_large_numbers():
    positive, negative = noise(3001, 4, seed=1) + 10_000, noise(2999, 4, seed=2) + 10_000
    expected = positive.numpy().astype(float).mean(axis=0) - negative.numpy().astype(float).mean(axis=0)
    found = directions.difference_of_means(positive, negative)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    single = (positive.mean(dim=0) - negative.mean(dim=0)).numpy()
    assert np.abs(single - expected).max() > 1e-4  # what float32 sums would have lost


@pytest.mark.parametrize("bad", [torch.ones(0, 3), torch.tensor([[1.0, math.nan, 0.0]])])
def test_a_set_without_a_mean_is_refused(bad):
    for sets in ((bad, torch.ones(2, 3)), (torch.ones(2, 3), bad)):
        with pytest.raises(ValueError, match="empty, or holds a NaN"):
            directions.difference_of_means(*sets)


def test_sets_of_different_width_are_refused():
    with pytest.raises(Exception, match="d_model"):
        directions.difference_of_means(torch.ones(2, 3), torch.ones(2, 4))


def test_unit_vectors_have_length_one_and_the_same_direction():
    vectors = noise(4, 6) * 7
    units = directions.unit(vectors)
    torch.testing.assert_close(units.norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(units * vectors.norm(dim=-1, keepdim=True), vectors)


@pytest.mark.parametrize("vector", [torch.zeros(3), torch.tensor([1.0, math.nan, 0.0])])
def test_a_vector_without_direction_is_refused(vector):
    other = torch.ones(3)
    calls = (directions.project, directions.project_out, directions.cosine)
    for refused in (lambda: directions.unit(vector), *(lambda call=call: call(other, vector) for call in calls)):
        with pytest.raises(ValueError, match="no direction"):
            refused()
    with pytest.raises(ValueError, match="no direction"):
        directions.random_directions(2, like=vector, seed=0)


@pytest.mark.parametrize("length", [0.01, 1.0, 30.0])
def test_nothing_is_left_along_a_direction_that_was_projected_out(length):
    x, direction = noise(5, 4, 8), noise(8, seed=3) * length
    left = directions.project_out(x, direction)
    assert directions.project(left, direction).abs().max() < 1e-5
    torch.testing.assert_close(directions.project_out(left, direction), left)


def test_projecting_out_leaves_what_is_at_right_angles():
    direction = torch.tensor([0.0, 3.0, 0.0])
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert directions.project_out(x, direction).tolist() == [[1.0, 0.0, 3.0]]
    assert x.tolist() == [[1.0, 2.0, 3.0]]


def test_a_projection_is_signed_and_ignores_the_length_of_the_direction():
    x, direction = noise(5, 8), noise(8, seed=4)
    along = directions.project(x, direction)
    torch.testing.assert_close(directions.project(x, 10 * direction), along)
    torch.testing.assert_close(directions.project(x, -direction), -along)
    torch.testing.assert_close(directions.project(2 * x, direction), 2 * along)


def test_the_two_parts_of_a_vector_add_up_to_it():
    x, direction = noise(5, 8), noise(8, seed=5)
    along = directions.project(x, direction)[:, None] * directions.unit(direction)
    torch.testing.assert_close(along + directions.project_out(x, direction), x)


def test_cosine_agrees_with_torch_and_broadcasts():
    a, b = noise(3, 1, 8), noise(4, 8, seed=6)
    torch.testing.assert_close(directions.cosine(a, b), torch.cosine_similarity(a, b, dim=-1))
    assert directions.cosine(a, b).shape == (3, 4)
    assert float(directions.cosine(b[0], -2 * b[0])) == pytest.approx(-1)


def test_random_directions_are_norm_matched_reproducible_and_unlike_each_other():
    like = noise(200, seed=7) * 3
    drawn = directions.random_directions(50, like=like, seed=0)
    torch.testing.assert_close(drawn.norm(dim=-1), like.norm().expand(50))
    assert torch.equal(drawn, directions.random_directions(50, like=like, seed=0))
    assert not torch.allclose(drawn, directions.random_directions(50, like=like, seed=1))
    assert directions.cosine(drawn, like).abs().max() < 0.35  # 5 standard deviations of 1 / sqrt(200)
    assert directions.cosine(drawn[0], drawn[1:]).abs().max() < 0.35


def test_random_directions_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    directions.random_directions(2, like=torch.ones(4), seed=0)
    assert torch.equal(torch.rand(1), expected)


# --- scores -------------------------------------------------------------------------------------------------


def test_refusal_score_is_the_log_odds_of_the_refusal_tokens_together():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]).log()
    expected = [math.log(0.3 / 0.7), math.log(0.8 / 0.2)]
    assert directions.refusal_score(logits, [0, 1]).tolist() == pytest.approx(expected, rel=1e-5)


def test_refusal_score_stays_finite_at_certainty():
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    low_high = directions.refusal_score(logits, [0]).tolist()
    assert low_high == pytest.approx([18.42, -18.42], abs=0.01)


@pytest.mark.parametrize("ids", [[], [4], [-1], [1, 1]])
def test_refusal_tokens_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(ValueError, match="different ids from 0 to 3"):
        directions.refusal_score(torch.zeros(2, 4), ids)


def test_kl_divergence_agrees_with_torch_and_is_not_symmetric():
    p, q = noise(5, 9) * 2, noise(5, 9, seed=13) * 2
    reference = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none").sum(
        -1
    )
    torch.testing.assert_close(directions.kl_divergence(p, q), reference)
    assert not torch.allclose(directions.kl_divergence(q, p), reference, atol=1e-2)
    assert directions.kl_divergence(p, p + 3).tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_auroc_counts_pairs_in_the_right_order_and_ties_half():
    positive, negative = torch.tensor([3.0, 1.0, 2.0, 2.0]), torch.tensor([2.0, 0.0, 1.0])
    pairs = [(p > n) + 0.5 * (p == n) for p in positive.tolist() for n in negative.tolist()]
    assert directions.auroc(positive, negative) == pytest.approx(sum(pairs) / len(pairs))
    assert directions.auroc(negative, positive) == pytest.approx(1 - sum(pairs) / len(pairs))
    assert directions.auroc(torch.zeros(4), torch.zeros(9)) == 0.5


def test_auroc_is_that_of_scikit_learn():
    positive, negative = noise(300).round(decimals=1) + 0.5, noise(200, seed=1).round(decimals=1)
    labels = [1] * 300 + [0] * 200
    expected = roc_auc_score(labels, torch.cat([positive, negative]))
    assert directions.auroc(positive, negative) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(directions.auroc(positive * math.nan, negative))


def test_runs_on_the_same_prompts_are_not_added_up():
    counts = [96, 100, 98, 97, 99]
    runs, added = directions.runs_interval(counts, 100), directions.wilson_interval(sum(counts), 500)
    one = directions.wilson_interval(98, 100)
    assert runs.estimate == pytest.approx(added.estimate)
    assert runs.high - runs.low > one.high - one.low > added.high - added.low
    assert runs.low < min(counts) / 100 and runs.high == 1
    assert directions.runs_interval([98], 100) == one


@pytest.mark.parametrize("counts", [[], [101], [-1, 5]])
def test_an_interval_needs_runs_with_counts_among_the_prompts(counts):
    with pytest.raises(ValueError):
        directions.runs_interval(counts, 100)


def test_an_interval_prints_its_three_numbers_in_one_format():
    assert f"{directions.Interval(0.25, 0.166, 0.334, 0.95):.2f}" == "0.25 [0.17, 0.33]"
    assert f"{directions.Interval(0.25, 0.166, 0.334, 0.95):.0%}" == "25% [17%, 33%]"


def test_wilson_interval_agrees_with_published_values():
    """Newcombe (1998), table I, method 3 (score, no continuity correction)."""
    for successes, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        interval = directions.wilson_interval(successes, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
        assert interval.estimate == successes / n and interval.level == 0.95


def test_a_count_in_a_tensor_is_read_anew_each_time():
    count = torch.tensor(5)
    before = directions.wilson_interval(count, 10)
    count += 1
    assert (before.estimate, directions.wilson_interval(count, torch.tensor(10)).estimate) == (0.5, 0.6)
    with pytest.raises(TypeError, match="integer"):  # also after 5 was asked
        directions.wilson_interval(5.0, 10)


def test_a_higher_level_needs_a_wider_interval():
    narrow, wide = (directions.wilson_interval(30, 60, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


@pytest.mark.parametrize("successes, n, level", [(5, 4, 0.95), (-1, 4, 0.95), (0, 0, 0.95), (1, 2, 95.0)])
def test_an_impossible_rate_is_refused(successes, n, level):
    with pytest.raises(ValueError):
        directions.wilson_interval(successes, n, level=level)


def test_an_interval_never_excludes_its_estimate():
    for n in (1, 7, 100):
        for successes in range(n + 1):
            interval = directions.wilson_interval(successes, n)
            assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_the_bootstrap_interval_of_a_mean_is_about_the_normal_one():
    values = noise(400, seed=14) * 2 + 5
    interval = directions.bootstrap_interval(values, seed=0)
    half = 1.96 * float(values.std()) / 20
    assert interval.estimate == pytest.approx(float(values.mean()))
    assert interval.low == pytest.approx(interval.estimate - half, abs=0.03)
    assert interval.high == pytest.approx(interval.estimate + half, abs=0.03)


def test_the_bootstrap_takes_any_statistic_of_whole_samples():
    pairs = torch.stack([torch.arange(50.0), torch.arange(50.0) + 3], dim=1)
    interval = directions.bootstrap_interval(pairs, lambda rows: (rows[:, 1] - rows[:, 0]).median(), seed=0)
    assert (interval.low, interval.estimate, interval.high) == (3, 3, 3)


def test_the_bootstrap_is_reproducible_by_its_seed():
    values = noise(30)
    once, again, other = (directions.bootstrap_interval(values, seed=seed) for seed in (1, 1, 2))
    assert once == again != other


def test_a_single_sample_cannot_be_bootstrapped():
    with pytest.raises(ValueError, match="at least 2 samples"):
        directions.bootstrap_interval(torch.ones(1))


# --- selection ----------------------------------------------------------------------------------------------


def candidate(layer=1, position=-1, bypass=0.0, induce=1.0, kl=0.05):
    return Candidate(layer=layer, position=position, bypass=bypass, induce=induce, kl=kl)


def test_the_lowest_bypass_among_those_that_pass_wins():
    broken, late = candidate(bypass=-9, kl=7.7), candidate(layer=8, bypass=-8)
    inert = candidate(bypass=-7, induce=-0.1, kl=0.2)
    good, second = candidate(layer=7, bypass=-5), candidate(layer=2, bypass=-4)
    assert directions.select([second, inert, late, good, broken], n_layers=10) == good


def test_filters_keep_what_is_exactly_on_the_line():
    on_the_line = candidate(layer=2, kl=0.1, induce=0.0)
    assert directions.select([on_the_line], n_layers=4) == on_the_line  # int(0.8 * 4) = 3


@pytest.mark.parametrize("score", ["bypass", "induce", "kl"])
def test_a_nan_score_never_wins(score):
    good = candidate(bypass=3)
    assert directions.select([candidate(**{"bypass": -5, score: math.nan}), good], n_layers=4) == good


def test_filters_can_be_set():
    loose = candidate(layer=3, kl=0.3, induce=-1)
    assert directions.select([loose], n_layers=4, max_kl=0.5, min_induce=-2, max_depth=1.0) == loose


def test_no_candidate_left_is_an_error_that_names_the_filters():
    with pytest.raises(ValueError, match="None of 2 candidates.*KL <= 0.1, induce >= 0.0, layer < 3"):
        directions.select([candidate(kl=0.9, bypass=-3), candidate(induce=-1)], n_layers=4)
