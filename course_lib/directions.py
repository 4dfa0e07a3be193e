"""Find a direction in the residual stream, score candidates, select one, and project on it or away from it.

The method of Arditi et al. (2024), https://arxiv.org/abs/2406.11717, section 2:

1. `difference_of_means` of the activations on harmful and on harmless prompts, per layer and position:
   candidates.
2. `refusal_score` reads off the next-token logits how strongly a model is about to refuse; `kl_divergence`
   says how far an intervention moves the model where nothing should change.
3. `select` takes the candidate that best removes refusal, among those that pass the published filters.

Beside it stand what a claim needs: `random_directions` for the control, `auroc`, and intervals. Pure
functions of tensors; nothing here runs a model (`course_lib.steering.score_candidates` measures what `select`
reads).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

PROBABILITY_FLOOR = 1e-8
"""Added to both probabilities in `refusal_score`, as published: scores stay between about -18.4 and 18.4."""


def _check_together(**tensors: Tensor) -> None:
    """Do nothing if all lie on one device and hold numbers, else raise."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1 or "meta" in devices.values():
        listed = ", ".join(f"{name} on {device!r}" for name, device in devices.items())
        raise ValueError(f"Tensors of one device that holds numbers are expected: {listed}. Move them: .to('cpu').")


# --- vectors ------------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
def difference_of_means(
    positive: Float[Tensor, "n_positive *rest d_model"], negative: Float[Tensor, "n_negative *rest d_model"]
) -> Float[Tensor, "*rest d_model"]:
    """Mean positive activation minus mean negative activation, for each layer and position at once.

    With harmful and harmless prompts, the candidate refusal directions of Arditi et al. (section 2.3). Not
    normalised: the length is the distance of the two means. Sums run in float64.

    Raises:
        ValueError: One of the two sets is empty, holds a NaN or an infinite number, or is on another device.

    Example:
        >>> difference_of_means(torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([2., 0.])
    """
    _check_together(positive=positive, negative=negative)
    for name, activations in (("positive", positive), ("negative", negative)):
        if len(activations) == 0:
            raise ValueError(f"The {name} set is empty, so it has no mean.")
        broken = (~torch.isfinite(activations)).flatten(1).any(dim=1).nonzero()
        if len(broken):
            raise ValueError(f"The {name} set holds a NaN or an infinite number, first in its row {int(broken[0])}.")
    difference = positive.double().mean(dim=0) - negative.double().mean(dim=0)
    return difference.to(positive.dtype)


@jaxtyped(typechecker=beartype)
def unit(vector: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """The vector scaled to length 1 (each one, if there are several).

    Raises:
        ValueError: A vector of length zero, or not finite, has no direction.

    Example:
        >>> unit(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    _check_together(vector=vector)
    norm = vector.norm(dim=-1, keepdim=True)
    if not bool(torch.isfinite(norm).all()) or not bool((norm > 0).all()):
        raise ValueError(
            "A vector of length zero, or with a NaN in it, has no direction. Are the two sets "
            "that it came from the same, or did the model overflow?"
        )
    return vector / norm


@jaxtyped(typechecker=beartype)
def project(x: Float[Tensor, "*batch d_model"], direction: Float[Tensor, " d_model"]) -> Float[Tensor, "*batch"]:
    """How far x reaches along the direction, in the units of x; the direction's own length does not matter.

    Example:
        >>> project(torch.tensor([[3.0, 4.0]]), torch.tensor([0.0, 2.0]))
        tensor([4.])
    """
    _check_together(x=x, direction=direction)
    return x @ unit(direction)


@jaxtyped(typechecker=beartype)
def project_out(
    x: Float[Tensor, "*batch d_model"], direction: Float[Tensor, " d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """x without its part along the direction: x - (x . r) r with r of length 1. x itself is not changed.

    Example:
        >>> project_out(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]))
        tensor([3., 0.])
    """
    _check_together(x=x, direction=direction)
    r = unit(direction)
    return x - (x @ r)[..., None] * r


@jaxtyped(typechecker=beartype)
def cosine(a: Float[Tensor, "*#batch d_model"], b: Float[Tensor, "*#batch d_model"]) -> Float[Tensor, "..."]:
    """Cosine of the angle between a and b, along the last axis; other axes broadcast.

    Raises:
        ValueError: A vector of length zero has no angle.

    Example:
        >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([[2.0, 0.0], [0.0, 5.0]]))
        tensor([1., 0.])
    """
    _check_together(a=a, b=b)
    return (unit(a) * unit(b)).sum(dim=-1)


@jaxtyped(typechecker=beartype)
def random_directions(n: int, *, like: Float[Tensor, " d_model"], seed: int) -> Float[Tensor, "n d_model"]:
    """n random directions, uniform on the sphere, each as long as `like`: the control for an intervention.

    Raises:
        ValueError: Fewer than one direction, or a `like` of length zero or without numbers.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}.")
    unit(like)  # refuses what has no length
    noise = torch.randn(n, len(like), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (unit(noise) * like.double().norm().cpu()).to(like)


# --- PCA ----------------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class PCA:
    """Principal components, fitted by `pca`; `transform` applies them."""

    components: Float[Tensor, "component d_model"]
    """Unit vectors, most variance first. The sign means nothing: the largest entry is positive."""
    explained_variance_ratio: Float[Tensor, " component"]
    """Share of the total variance (about zero instead of the mean, if not centred) along each component."""
    mean: Float[Tensor, " d_model"]
    """What `transform` subtracts: the mean of the fitted data, or zero if not centred."""

    @jaxtyped(typechecker=beartype)
    def transform(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch component"]:
        """Coordinates of x along the components.

        Raises:
            ValueError: x has another width than the fitted data, or lies on another device.
        """
        _check_together(x=x, components=self.components)
        if x.shape[-1] != len(self.mean):
            raise ValueError(f"The PCA was fitted on width {len(self.mean)}, x has width {x.shape[-1]}.")
        return (x - self.mean) @ self.components.T


@jaxtyped(typechecker=beartype)
def pca(x: Float[Tensor, "sample d_model"], n: int = 2, *, center: bool = True) -> PCA:
    """The n directions along which the samples vary most.

    Args:
        x: One activation per row.
        n: How many components.
        center: Subtract the mean first. For *differences of pairs* the mean is the signal: centred PCA
            removes it and can return a nuisance direction instead, so leave it in with center=False.

    Raises:
        ValueError: Fewer samples or dimensions than components; samples that do not vary or are not finite.
    """
    _check_together(x=x)
    limit = min(len(x) - center, x.shape[1])  # centring uses up one dimension
    if not 1 <= n <= limit:
        raise ValueError(f"{len(x)} samples of width {x.shape[1]} have between 1 and {limit} components, not {n}.")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("The samples hold a NaN or an infinite number.")
    mean = x.double().mean(dim=0) * center
    _, singular_values, rows = torch.linalg.svd(x.double() - mean, full_matrices=False)
    variance = singular_values.square()
    if not variance.sum() > 0:
        raise ValueError("All samples are the same, so there is no direction in which they vary.")
    components = rows[:n]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    ratio = variance[:n] / variance.sum()
    return PCA((components * largest.sign()).to(x.dtype), ratio.to(x.dtype), mean.to(x.dtype))


# --- scores -------------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
def refusal_score(
    logits: Float[Tensor, "*prompt d_vocab"], refusal_token_ids: Sequence[int]
) -> Float[Tensor, "*prompt"]:
    """Log-odds that the next token is a refusal token: log(p) - log(1 - p), above 0 if refusal is likelier.

    The refusal metric of Arditi et al. (appendix B), p being the summed probability of the tokens with which
    this model's refusals begin, plus `PROBABILITY_FLOOR`. It sees one token: neither a refusal that comes
    later, nor whether a reply that begins otherwise is any good.

    Raises:
        ValueError: No refusal tokens, one listed twice, or an id outside the vocabulary; logits with a NaN.
    """
    _check_together(logits=logits)
    if bool(logits.isnan().any()):
        raise ValueError("The logits hold a NaN, so there is no refusal score.")
    ids = list(refusal_token_ids)
    if not ids or len(set(ids)) < len(ids) or not 0 <= min(ids) <= max(ids) < logits.shape[-1]:
        raise ValueError(
            f"refusal_token_ids must be different ids from 0 to {logits.shape[-1] - 1}, at least one; got {ids}."
        )
    p = logits.double().softmax(dim=-1)[..., ids].sum(dim=-1).clamp(max=1.0)
    return ((p + PROBABILITY_FLOOR).log() - (1 - p + PROBABILITY_FLOOR).log()).float()


@jaxtyped(typechecker=beartype)
def kl_divergence(
    logits_p: Float[Tensor, "*prompt d_vocab"], logits_q: Float[Tensor, "*prompt d_vocab"]
) -> Float[Tensor, "*prompt"]:
    """KL(p || q) between two next-token distributions, in nats per prompt; p is the model left alone.

    One position only: damage that shows later in the reply is not in it. Exact, where Arditi et al. add 1e-6
    to both probabilities.

    Raises:
        ValueError: Logits with a NaN, or on two devices.
    """
    _check_together(logits_p=logits_p, logits_q=logits_q)
    for name, logits in (("logits_p", logits_p), ("logits_q", logits_q)):
        if bool(logits.isnan().any()):
            raise ValueError(f"{name} hold a NaN, so there is no distribution.")
    log_p, log_q = logits_p.double().log_softmax(dim=-1), logits_q.double().log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp(min=0.0).float()


@jaxtyped(typechecker=beartype)
def auroc(positive: Float[Tensor, " n_positive"], negative: Float[Tensor, " n_negative"]) -> float:
    """Probability that a positive example scores above a negative one (a tie counts half): 0.5 is chance.

    Says nothing about where to put a threshold, and is reached as well by an axis that means something else.

    Raises:
        ValueError: One of the two sets is empty, or a score is NaN.

    Example:
        >>> auroc(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0]))
        0.875
    """
    _check_together(positive=positive, negative=negative)
    if len(positive) == 0 or len(negative) == 0:
        raise ValueError("AUROC needs at least one positive and one negative score.")
    if bool(positive.isnan().any()) or bool(negative.isnan().any()):
        raise ValueError("A score is NaN, so the scores have no order.")
    ordered, scores = negative.sort().values, positive.contiguous()
    below = torch.searchsorted(ordered, scores, side="left")
    not_above = torch.searchsorted(ordered, scores, side="right")
    return float((below + not_above).double().mean() / (2 * len(negative)))


@dataclass(frozen=True)
class Interval:
    """An estimate and the range that is compatible with the data."""

    estimate: float
    low: float
    high: float
    level: float
    """How often such an interval holds the true value, if the experiment were repeated: 0.95 for 95 %."""

    def __format__(self, spec: str) -> str:
        """All three numbers in one format: f"{interval:.2f}" is "0.25 [0.17, 0.33]"."""
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]" if spec else str(self)


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """A rate with its Wilson score interval, which holds its level near 0 % and 100 % too.

    Raises:
        ValueError: More successes than trials, no trials, or a level outside 0 to 1.

    Example:
        >>> wilson_interval(0, 100).high.__round__(3)
        0.037
    """
    if not 0 <= successes <= n or n == 0 or not 0 < level < 1:
        raise ValueError(f"Expected 0 <= successes <= n, n > 0 and 0 < level < 1; got {successes} of {n} at {level}.")
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    rate, shrink = successes / n, 1 + z * z / n
    middle = (rate + z * z / (2 * n)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / shrink
    return Interval(rate, min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half)), level)


def runs_interval(counts: Sequence[int], n: int, *, level: float = 0.95) -> Interval:
    """The mean rate of several runs on the *same* n prompts: from the lowest run's lower limit to the highest's upper one.

    Ten random directions on 100 prompts are not 1,000 prompts: they share them, and differ among themselves. So the runs
    are not added up. The interval holds both what other prompts and what other directions could have given; it is wide
    rather than exact.

    Args:
        counts: Successes of each run, such as refusals under each random direction.
        n: Prompts in one run, not in all together.
        level: Of the Wilson interval of a single run.

    Raises:
        ValueError: No run, or a count that is not among 0 to n.

    Example:
        >>> f"{runs_interval([98, 100], 100):.2f}"
        '0.99 [0.93, 1.00]'
    """
    if not counts:
        raise ValueError("There is no run: give the count of each, such as [98, 100].")
    least, most = (wilson_interval(count, n, level=level) for count in (min(counts), max(counts)))
    return Interval(sum(counts) / len(counts) / n, least.low, most.high, level)


@jaxtyped(typechecker=beartype)
def bootstrap_interval(
    values: Float[Tensor, "sample ..."],
    statistic: Callable[[Tensor], Tensor] = torch.mean,
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A statistic of the samples with its percentile bootstrap interval.

    Covers which samples (prompts) happened to be drawn, not the training seed or the choice of direction.

    Args:
        values: Independent samples along the first axis; they are drawn again with replacement.
        statistic: From a set of samples to one number.
        n_resamples: How often to draw.
        level: Coverage of the interval.
        seed: Of the draws.

    Raises:
        ValueError: Fewer than two samples or one draw, samples with a NaN, or a level outside 0 to 1.
    """
    _check_together(values=values)
    if n_resamples < 1 or bool(values.isnan().any()):
        raise ValueError(f"A bootstrap needs samples without NaN and at least 1 draw, not {n_resamples}.")
    if len(values) < 2 or not 0 < level < 1:
        raise ValueError(f"A bootstrap needs at least 2 samples and 0 < level < 1; got {len(values)} and {level}.")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(values), (n_resamples, len(values)), generator=generator)
    estimates = torch.stack([torch.as_tensor(statistic(values[draw])) for draw in draws]).double()
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = estimates.quantile(tails).tolist()
    return Interval(float(statistic(values)), low, high, level)


# --- selection ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """One candidate direction with the three scores of Arditi et al. (appendix C)."""

    layer: int
    position: int | str
    bypass: float
    """Mean refusal score on harmful prompts with the direction ablated: low if that removes refusal."""
    induce: float
    """Mean refusal score on harmless prompts with the direction added: above 0 if that makes it refuse."""
    kl: float
    """Mean KL divergence, in nats, that ablating causes on harmless prompts: what it breaks."""


@dataclass(frozen=True)
class Selection:
    """What `select` chose, and why not the others."""

    winner: Candidate
    kept: tuple[Candidate, ...]
    """Candidates that pass every filter, lowest bypass score first."""
    discarded: tuple[tuple[Candidate, str], ...]
    """The others, lowest bypass score first, each with the filters that it fails."""
    unfiltered: Candidate
    """The candidate with the lowest bypass score if nothing were filtered out: often a direction that breaks
    the model rather than one that carries refusal."""


def select(
    candidates: Sequence[Candidate],
    *,
    n_layers: int,
    max_kl: float = 0.1,
    min_induce: float = 0.0,
    max_depth: float = 0.8,
) -> Selection:
    """The candidate with the lowest bypass score among those that pass the published filters.

    Arditi et al., appendix C: KL at most 0.1, induce score at least 0, layer below int(0.8 L): in the last
    layers the direction is so near to the output tokens that "refusal" would only mean blocking the word.

    Args:
        candidates: Scored candidates, from `course_lib.steering.score_candidates`.
        n_layers: Number of layers L of the model.
        max_kl: Largest KL divergence on harmless prompts, in nats.
        min_induce: Smallest induce score.
        max_depth: Share of the layers, counted from the first, in which to look.

    Raises:
        ValueError: No candidates, or none that passes; the message counts the reasons.
    """
    if not candidates:
        raise ValueError("There are no candidates to select from.")
    last = int(max_depth * n_layers)
    kept, discarded = [], []
    for candidate in sorted(candidates, key=_bypass_order):
        reasons = _reasons(candidate, last, max_kl, min_induce)
        if reasons:
            discarded.append((candidate, "; ".join(reasons)))
        else:
            kept.append(candidate)
    if not kept:
        raise ValueError(
            f"None of {len(discarded)} candidates passes the filters (KL <= {max_kl}, induce >= "
            f"{min_induce}, layer < {last}). The most effective one fails by: "
            f"{discarded[0][1]}. Check the refusal tokens and the prompts before you loosen a "
            "filter."
        )
    return Selection(kept[0], tuple(kept), tuple(discarded), min(candidates, key=_bypass_order))


def _bypass_order(candidate: Candidate) -> tuple[bool, float]:
    return math.isnan(candidate.bypass), candidate.bypass


def _reasons(candidate: Candidate, last: int, max_kl: float, min_induce: float) -> list[str]:
    """Filters that the candidate fails, each written as what must hold: a NaN fails every comparison."""
    tests = (
        (not math.isnan(candidate.bypass), "bypass is NaN"),
        (candidate.kl <= max_kl, f"KL {candidate.kl:.2f} > {max_kl}"),
        (candidate.induce >= min_induce, f"induce {candidate.induce:.2f} < {min_induce}"),
        (candidate.layer < last, f"layer {candidate.layer} >= {last}"),
    )
    return [reason for passed, reason in tests if not passed]
