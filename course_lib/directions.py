"""Find a direction in the residual stream, score candidates, select one, and project on it or away from it.

The method of Arditi et al. (2024), https://arxiv.org/abs/2406.11717, section 2:

1. `difference_of_means` of the activations on harmful and on harmless prompts, per layer and position: candidates.
2. `refusal_score` reads off the next-token logits how strongly a model is about to refuse; `kl_divergence` says how
   far an intervention moves the model where nothing should change.
3. `select` takes the candidate that best removes refusal, among those that pass the published filters.

Beside it is what a claim needs: `random_directions` for the control, `auroc`, and intervals. Pure functions of
tensors; nothing here runs a model (`course_lib.steering.score_candidates` measures what `select` reads).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from scipy.stats import binomtest, rankdata
from torch import Tensor

PROBABILITY_FLOOR = 1e-8
"""Added to both probabilities in `refusal_score`, as published: scores stay between about -18.4 and 18.4."""


# --- vectors ------------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
def difference_of_means(
    positive: Float[Tensor, "n_positive *rest d_model"], negative: Float[Tensor, "n_negative *rest d_model"]
) -> Float[Tensor, "*rest d_model"]:
    """Return mean positive activation minus mean negative activation, for each layer and position at once.

    With harmful and harmless prompts, the candidate refusal directions of Arditi et al. (section 2.3). Not normalised:
    the length is the distance of the two means. Sums run in float64.

    Raises:
        ValueError: One of the two sets is empty, or holds a NaN or an infinite number.

    Example:
        >>> difference_of_means(torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([2., 0.])
    """
    difference = positive.double().mean(dim=0) - negative.double().mean(dim=0)
    if not bool(difference.isfinite().all()):
        raise ValueError("The means do not exist: one of the sets is empty, or holds a NaN or an infinite number.")
    return difference.to(positive.dtype)


def of_width(direction: Float[Tensor, " d_model"], width: int) -> Float[Tensor, " d_model"]:
    """Return the direction in at least float32. Raise ValueError unless it has as many numbers as the stream is wide."""
    if len(direction) != width:
        raise ValueError(f"The direction has {len(direction)} numbers, and this model's residual stream has {width}.")
    return direction.to(torch.promote_types(direction.dtype, torch.float32))


@jaxtyped(typechecker=beartype)
def unit(vector: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Return the vector scaled to length 1 (each one, if there are several).

    Raises:
        ValueError: A vector of length zero, or not finite, has no direction.

    Example:
        >>> unit(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    norm = vector.norm(dim=-1, keepdim=True)
    if not bool((norm.isfinite() & (norm > 0)).all()):
        raise ValueError("A vector of length zero, or with a NaN in it, has no direction.")
    return vector / norm


@jaxtyped(typechecker=beartype)
def project(x: Float[Tensor, "*batch d_model"], direction: Float[Tensor, " d_model"]) -> Float[Tensor, "*batch"]:
    """Return the projection of x on the direction, in the units of x; the direction's own length does not matter.

    Example:
        >>> project(torch.tensor([[3.0, 4.0]]), torch.tensor([0.0, 2.0]))
        tensor([4.])
    """
    return x @ unit(direction)


@jaxtyped(typechecker=beartype)
def project_out(
    x: Float[Tensor, "*batch d_model"], direction: Float[Tensor, " d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Return x without its part along the direction: x - (x . r) r with r of length 1. x itself is not changed.

    Example:
        >>> project_out(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]))
        tensor([3., 0.])
    """
    r = unit(direction)
    return x - (x @ r)[..., None] * r


@jaxtyped(typechecker=beartype)
def cosine(a: Float[Tensor, "*#batch d_model"], b: Float[Tensor, "*#batch d_model"]) -> Float[Tensor, "..."]:
    """Return the cosine of the angle between a and b, along the last axis; other axes broadcast.

    Example:
        >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([[2.0, 0.0], [0.0, 5.0]]))
        tensor([1., 0.])
    """
    return (unit(a) * unit(b)).sum(dim=-1)


@jaxtyped(typechecker=beartype)
def random_directions(n: int, *, like: Float[Tensor, " d_model"], seed: int) -> Float[Tensor, "n d_model"]:
    """Return n random directions, uniform on the sphere, each as long as `like`: the control for an intervention."""
    unit(like)  # refuses what has no length
    noise = torch.randn(n, len(like), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (unit(noise) * like.double().norm().cpu()).to(like)


# --- scores -------------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
def refusal_score(
    logits: Float[Tensor, "*prompt d_vocab"], refusal_token_ids: Sequence[int]
) -> Float[Tensor, "*prompt"]:
    """Return the log-odds that the next token is a refusal token, log(p) - log(1 - p): above 0 if refusal is likelier.

    The refusal metric of Arditi et al. (appendix B), p being the summed probability of the tokens with which this
    model's refusals begin, plus `PROBABILITY_FLOOR`. It sees one token: neither a refusal that comes later, nor
    whether a reply that begins otherwise is any good.

    Raises:
        ValueError: No refusal tokens, one listed twice, or an id outside the vocabulary.
    """
    ids, n = list(refusal_token_ids), logits.shape[-1]
    if not ids or len(set(ids)) < len(ids) or not 0 <= min(ids) <= max(ids) < n:
        raise ValueError(f"refusal_token_ids must be different ids from 0 to {n - 1}, at least one: {ids}.")
    p = logits.double().softmax(dim=-1)[..., ids].sum(dim=-1).clamp(max=1.0)
    return ((p + PROBABILITY_FLOOR).log() - (1 - p + PROBABILITY_FLOOR).log()).float()


@jaxtyped(typechecker=beartype)
def kl_divergence(
    logits_p: Float[Tensor, "*prompt d_vocab"], logits_q: Float[Tensor, "*prompt d_vocab"]
) -> Float[Tensor, "*prompt"]:
    """Return KL(p || q) between two next-token distributions, in nats per prompt; p is the model left alone.

    One position only: damage that shows later in the reply is not in it. Exact, where Arditi et al. add 1e-6 to both
    probabilities.
    """
    log_p, log_q = logits_p.double().log_softmax(dim=-1), logits_q.double().log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp(min=0.0).float()


@jaxtyped(typechecker=beartype)
def auroc(positive: Float[Tensor, " n_positive"], negative: Float[Tensor, " n_negative"]) -> float:
    """Return the probability that a positive example scores above a negative one (a tie counts half): 0.5 is chance.

    Says nothing about where to put a threshold, and is reached as well by an axis that means something else. By ranks,
    because scikit-learn's `roc_auc_score`, to which it is equal, takes twenty times as long.

    Example:
        >>> auroc(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0]))
        0.875
    """
    n, m = len(positive), len(negative)
    ranks = rankdata(torch.cat([positive, negative]).cpu().numpy())
    return float(ranks[:n].sum() - n * (n + 1) / 2) / (n * m)


@dataclass(frozen=True)
class Interval:
    """An estimate and the range that is compatible with the data."""

    estimate: float
    low: float
    high: float
    level: float
    """How often such an interval holds the true value, if the experiment were repeated: 0.95 for 95 %."""

    def __format__(self, spec: str) -> str:
        """Return all three numbers in one format: f"{interval:.2f}" is "0.25 [0.17, 0.33]"."""
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]" if spec else str(self)


_tested = lru_cache(maxsize=None, typed=True)(binomtest)  # the same few counts come again and again


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Return a rate with its Wilson score interval, which holds its level near 0 % and 100 % too.

    Example:
        >>> wilson_interval(0, 100).high.__round__(3)
        0.037
    """
    k, of = (count.item() if hasattr(count, "item") else count for count in (successes, n))  # a tensor may change
    found = _tested(k, of).proportion_ci(level, method="wilson")
    return Interval(k / of, float(found.low), float(found.high), level)


def runs_interval(counts: Sequence[int], n: int, *, level: float = 0.95) -> Interval:
    """Return the mean rate of several runs on the *same* n prompts, from the lowest run's lower limit to the highest's upper one.

    Ten random directions on 100 prompts are not 1,000 prompts: they share them, and differ among themselves. So the
    runs are not added up. The interval holds both what other prompts and what other directions could have given; it is
    wide rather than exact.

    Args:
        counts: Successes of each run, such as refusals under each random direction.
        n: Prompts in one run, not in all together.
        level: Of the Wilson interval of a single run.

    Example:
        >>> f"{runs_interval([98, 100], 100):.2f}"
        '0.99 [0.93, 1.00]'
    """
    lowest, highest = wilson_interval(min(counts), n, level=level), wilson_interval(max(counts), n, level=level)
    return Interval(sum(counts) / len(counts) / n, lowest.low, highest.high, level)


@jaxtyped(typechecker=beartype)
def bootstrap_interval(
    values: Float[Tensor, "sample ..."],
    statistic: Callable[[Tensor], Tensor] = torch.mean,
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic of the samples with its percentile bootstrap interval.

    Covers which samples (prompts) happened to be drawn, not the training seed or the choice of direction.

    Args:
        values: Independent samples along the first axis; they are drawn again with replacement.
        statistic: From a set of samples to one number.
        n_resamples: How often to draw.
        level: Coverage of the interval.
        seed: Of the draws.

    Raises:
        ValueError: A single sample, which has no spread.
    """
    if len(values) < 2:
        raise ValueError(f"A bootstrap needs at least 2 samples, not {len(values)}.")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(values), (n_resamples, len(values)), generator=generator)
    if statistic is torch.mean:  # all resamples at once
        estimates = values[draws].flatten(1).mean(dim=1).double()
    else:
        estimates = torch.stack([torch.as_tensor(statistic(values[draw])) for draw in draws]).double()
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = estimates.quantile(tails).tolist()
    return Interval(float(statistic(values)), low, high, level)


# --- selection ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A candidate direction with the three scores of Arditi et al. (appendix C)."""

    layer: int
    position: int | str
    bypass: float
    """Mean refusal score on harmful prompts with the direction ablated: low if that removes refusal."""
    induce: float
    """Mean refusal score on harmless prompts with the direction added: above 0 if that makes it refuse."""
    kl: float
    """Mean KL divergence, in nats, that ablating causes on harmless prompts: what it breaks."""


def select(
    candidates: Sequence[Candidate],
    *,
    n_layers: int,
    max_kl: float = 0.1,
    min_induce: float = 0.0,
    max_depth: float = 0.8,
) -> Candidate:
    """Return the candidate with the lowest bypass score among those that pass the published filters.

    Arditi et al., appendix C: KL at most 0.1, induce score at least 0, layer below int(0.8 L): in the last layers the
    direction is so near to the output tokens that "refusal" would only mean blocking the word. A NaN never passes.

    Args:
        candidates: Scored candidates, from `course_lib.steering.score_candidates`.
        n_layers: Number of layers L of the model.
        max_kl: Largest KL divergence on harmless prompts, in nats.
        min_induce: Smallest induce score.
        max_depth: Share of the layers, counted from the first, in which to look.

    Raises:
        ValueError: No candidate passes.
    """
    last = int(max_depth * n_layers)

    def passes(one: Candidate) -> bool:
        return one.kl <= max_kl and one.induce >= min_induce and one.layer < last and not math.isnan(one.bypass)

    if not (passing := list(filter(passes, candidates))):
        filters = f"(KL <= {max_kl}, induce >= {min_induce}, layer < {last})"
        what = f"None of {len(candidates)} candidates passes the filters {filters}."
        raise ValueError(f"{what} Check the refusal tokens and the prompts before you loosen a filter.")
    return min(passing, key=lambda candidate: candidate.bypass)
