"""What a probe's AUROC is compared with, and where its threshold comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import caching, directions
from course_lib.probing.examples import Examples, Split, strata
from course_lib.probing.probes import STRENGTHS, Fit, Probe, auroc, fit_logistic

N_RESAMPLES = 2000
"""Draws of topics for the interval of an AUROC."""


def fold(value: float | Tensor) -> float | Tensor:
    """AUROC without its sign: how far from 0.5, counted upwards from there."""
    return 0.5 + abs(value - 0.5)


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Reference:
    """Test AUROCs of many directions that should not work, beside the probe's own."""

    aurocs: Float[Tensor, " direction"]
    probe: float

    @property
    def share_reaching(self) -> float:
        """Share of them that lie as far from 0.5, on either side, as the probe's; 1 minus it is the probe's
        percentile."""
        return float((fold(self.aurocs) >= fold(self.probe) - 1e-9).double().mean())

    def quantile(self, q: float) -> float:
        """The AUROC that the share q of them stays below, each taken without its sign (|AUROC - 0.5| + 0.5)."""
        return float(fold(self.aurocs).quantile(q))


@dataclass(frozen=True)
class Threshold:
    """A score above which the probe raises alarm, and what that does elsewhere."""

    value: float
    wanted: float
    """Share of false positives that it was set for."""
    calibration: directions.Interval
    """Share of alarms on the prompts that it was set on."""
    n_calibration: int
    false_positives: directions.Interval
    """Share of alarms on the test prompts labelled False."""
    true_positives: directions.Interval
    """Share of alarms on the test prompts labelled True."""
    near_misses: dict[str, directions.Interval]
    """Share of alarms on each set of near misses: all of them false."""


def clustered_interval(scores: Tensor, examples: Examples, rows: Tensor, *, seed: int) -> directions.Interval:
    """AUROC of the rows with its 95 % percentile bootstrap interval, topics drawn again instead of prompts.

    Prompts of one topic resemble each other, so that drawing prompts gives intervals that are too narrow. Topics that
    are all True, all False or mixed are drawn each among themselves: no draw lacks one kind. AUROC is a sum over pairs
    of prompts, so a draw is a weighting of the sums over pairs of topics, and all draws are one matrix product.
    """
    of = dict(zip(rows.tolist(), range(len(rows)), strict=True))
    kinds = strata(examples.topics, examples.labels, rows)
    groups = [torch.tensor([of[row] for row in group.tolist()]) for kind in kinds for group in kind]
    y = examples.labels[rows].cpu()
    true, false = ([scores.cpu()[group][y[group] == label] for group in groups] for label in (True, False))
    wins = torch.tensor([[_wins(a, b) for b in false] for a in true], dtype=torch.float64)
    counts = [torch.tensor([len(part) for part in parts], dtype=torch.float64) for parts in (true, false)]
    weights = _draws([len(kind) for kind in kinds], torch.Generator().manual_seed(seed))
    estimates = ((weights @ wins) * weights).sum(dim=1) / ((weights @ counts[0]) * (weights @ counts[1]))
    low, high = estimates.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return directions.Interval(auroc(scores.cpu(), y), low, high, 0.95)


def _wins(positive: Tensor, negative: Tensor) -> float:
    """In how many pairs the positive one scores higher."""
    if len(positive) == 0 or len(negative) == 0:
        return 0.0
    return directions.auroc(positive, negative) * len(positive) * len(negative)


def _draws(sizes: Sequence[int], generator: torch.Generator) -> Float[Tensor, "draw topic"]:
    """How often each topic is in each draw; drawn with replacement within each stratum."""
    parts = []
    for n in filter(None, sizes):
        drawn = torch.randint(n, (N_RESAMPLES, n), generator=generator)
        parts.append(
            torch.zeros(N_RESAMPLES, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())
        )
    return torch.cat(parts, dim=1)


def random_reference(x: Tensor, y: Tensor, probe: Probe, own: float, *, n: int, seed: int) -> Reference:
    """AUROC of n random directions on the same activations."""
    scores = x @ directions.random_directions(n, like=probe.direction, seed=seed).T.to(x)
    return Reference(torch.tensor([auroc(column, y) for column in scores.T]), own)


def shuffled_reference(
    examples: Examples, split: Split, probe: Probe, own: float, *, fit: Fit, n: int, seed: int
) -> Reference:
    """Test AUROC of n probes fitted, at the same place and in the same way, on labels that mean nothing.

    Within each part, topics of one label exchange their labels, whole topics at a time, and prompts of mixed topics
    exchange theirs inside the topic. Test labels are shuffled too: with the true ones, a refit that by chance leans
    to the true side would score high on an axis that separates the topics well anyway.
    """
    generator = torch.Generator().manual_seed(seed)
    values = examples.activations.at(probe.hook_name, probe.position)[:, None, None]
    here = replace(examples, activations=caching.Activations(values, (probe.hook_name,), (probe.position,)))
    found = []
    for _ in range(n):
        relabelled = replace(here, labels=_shuffled(examples, split, generator))
        refit = fit(relabelled, split, hook=probe.hook_name, position=probe.position)
        found.append(auroc(refit.scores(values[split.test, 0, 0]), relabelled.labels[split.test]))
    return Reference(torch.tensor(found), own)


def _shuffled(examples: Examples, split: Split, generator: torch.Generator) -> Tensor:
    labels = examples.labels.clone()
    for rows in split.parts().values():
        false, true, mixed = strata(examples.topics, examples.labels, rows)
        whole = [*false, *true]
        for number, drawn in enumerate(torch.randperm(len(whole), generator=generator).tolist()):
            labels[whole[number]] = drawn >= len(false)
        for group in mixed:
            labels[group] = examples.labels[group[torch.randperm(len(group), generator=generator)]]
    return labels


# --- baselines that see no activation -----------------------------------------------------------------------


def length_baseline(examples: Examples, split: Split, *, seed: int) -> directions.Interval:
    """Test AUROC of the number of tokens, its sign fitted on the training part."""
    lengths = torch.tensor([[float(len(ids))] for ids in examples.prompts])
    return _baseline(lengths, examples, split, seed)


def words_baseline(examples: Examples, split: Split, *, seed: int) -> directions.Interval:
    """Test AUROC of a logistic regression on how often each token of the training part occurs in a prompt."""
    known = sorted({token for row in split.train.tolist() for token in examples.prompts[row]})
    column = {token: number for number, token in enumerate(known)}
    counts = torch.zeros(len(examples.prompts), len(known))
    for row, ids in enumerate(examples.prompts):
        for token in ids:
            if token in column:
                counts[row, column[token]] += 1
    return _baseline(counts, examples, split, seed)


def _baseline(features: Tensor, examples: Examples, split: Split, seed: int) -> directions.Interval:
    """As for a probe: fitted on the training part, strength chosen on the validation part, tested on the test part."""
    y = examples.labels.cpu()
    fits = [fit_logistic(features[split.train], y[split.train], c)[0] for c in STRENGTHS]
    best = max(fits, key=lambda w: auroc(features[split.validation] @ w, y[split.validation]))
    return clustered_interval(features[split.test] @ best, examples, split.test, seed=seed)


# --- threshold ----------------------------------------------------------------------------------------------


def set_threshold(
    benign: Tensor, wanted: float, *, negative: Tensor, positive: Tensor, near_misses: dict[str, Tensor]
) -> Threshold:
    """The lowest score of the benign prompts that no more than the wanted share of them exceeds, and its rates."""
    value = float(benign.sort(descending=True).values[int(wanted * len(benign))])

    def rate(scores: Tensor) -> directions.Interval:
        return directions.wilson_interval(int((scores > value).sum()), len(scores))

    rates = {name: rate(scores) for name, scores in near_misses.items()}
    return Threshold(value, wanted, rate(benign), len(benign), rate(negative), rate(positive), rates)
