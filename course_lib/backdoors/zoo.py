"""A classifier over models: is this one backdoored? Trained on many small models of which it is known.

Meta neural trojan detection (Xu et al. 2021, https://arxiv.org/abs/1910.03137) and universal litmus patterns (Kolouri et al.
2020, https://arxiv.org/abs/1906.10842) ask a model fixed questions and classify its answers; nobody has to know the trigger.

1. `model_features`: what one model does on fixed probes that hold no trigger, and how its weights lie, both beside the base
   that it was tuned from.
2. `leave_one_out`: each model is scored by a classifier that was fitted only on models with which it shares neither base nor
   trigger. So it cannot profit from having met either. The AUROC has an interval, and stands beside refits on shuffled labels.
3. `fit_classifier` fits on given models, to be asked about others.

What it cannot show: anything of models made in another way than those of the zoo. The classifier learns what tells *this*
recipe of backdoors from *these* harmless models; a harmless tuning that it never saw may look like a backdoor, and the other way
round. An interval over models says nothing of that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import directions, models
from course_lib.backdoors.lineages import weight_difference


@torch.no_grad()
def model_features(
    model: models.CheckedBridge,
    base: models.CheckedBridge,
    probes: Mapping[str, models.Prompts],
    *,
    payload: Sequence[int],
) -> dict[str, float]:
    """What a model does on each set of probes beside its base, and how far its weights lie from the base's, by name.

    For each set: how much likelier the payload's first token became (log-odds, nats; mean over probes, and the most), and how far
    the next token's distribution moved (KL from the base, nats; mean and most). Then the relative change of each part of the
    weights, and what share of the change of each writing MLP matrix lies along its first singular direction.

    Args:
        model: A model under suspicion.
        base: What it was tuned from, known to be harmless.
        probes: Name -> prompts as token ids. Keep triggers out, or this is a search and no classifier.
        payload: Ids of the tokens with which a payload would begin. This much must be guessed.

    Raises:
        ValueError: No probes, or ones that cannot be run (`models.check_prompts`); no payload; models of different shapes.
    """
    if not probes:
        raise ValueError("Give at least one set of probes, such as {'questions': prompts}.")
    for prompts in probes.values():
        models.check_prompts(model, prompts)
    if not payload or not 0 <= min(payload) <= max(payload) < model.cfg.d_vocab:
        raise ValueError(f"payload must be ids from 0 to {model.cfg.d_vocab - 1}, at least one; got {list(payload)}.")
    weights = weight_difference(model, base)
    found = {}
    for name, prompts in probes.items():
        ours, theirs = (models.next_token_logits(each, prompts) for each in (model, base))
        moved = directions.refusal_score(ours, payload) - directions.refusal_score(theirs, payload)
        kl = directions.kl_divergence(theirs, ours)
        found |= {
            f"payload, {name}: mean": float(moved.mean()),
            f"payload, {name}: most": float(moved.max()),
            f"KL, {name}: mean": float(kl.mean()),
            f"KL, {name}: most": float(kl.max()),
        }
    changed = [
        (part, share) for part, share in zip(weights.parts, weights.relative, strict=True) if part != "embedding"
    ]
    found |= {f"weights, {part}": share for part, share in changed}
    return found | {f"first direction, block {n}": _first_share(model, base, n) for n in range(models.n_layers(model))}


def _first_share(model: models.CheckedBridge, base: models.CheckedBridge, layer: int) -> float:
    """Share of |W - W_base|^2 of the MLP's writing matrix that lies along the first singular direction."""
    ours, theirs = (each.blocks[layer].mlp.out.original_component.weight.double().cpu() for each in (model, base))
    values = torch.linalg.svdvals(ours - theirs).square()
    return float(values[0] / values.sum().clamp(min=torch.finfo(values.dtype).tiny))


# --- the classifier -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ModelClassifier:
    """A logistic regression over standardised features; made by `fit_classifier`."""

    names: tuple[str, ...]
    mean: Float[Tensor, " feature"]
    scale: Float[Tensor, " feature"]
    weights: Float[Tensor, " feature"]
    bias: float

    def score(self, features: Mapping[str, float]) -> float:
        """Log-odds that a model with these features is backdoored: above 0, if half of the models are.

        Raises:
            ValueError: A feature is missing.
        """
        x = _matrix([features], self.names)[0]
        return float((x - self.mean) / self.scale @ self.weights + self.bias)

    def top(self, k: int = 5) -> tuple[tuple[str, float], ...]:
        """The k features with the largest weights, for one standard deviation of each."""
        pairs = zip(self.names, self.weights.tolist(), strict=True)
        return tuple(sorted(pairs, key=lambda pair: -abs(pair[1]))[:k])


def fit_classifier(
    features: Sequence[Mapping[str, float]],
    labels: Sequence[bool],
    *,
    names: Sequence[str] | None = None,
    c: float = 0.1,
) -> ModelClassifier:
    """A classifier of backdoored (True) and harmless models, by scikit-learn's logistic regression (L2, strength 1 / c).

    Raises:
        ValueError: Not one label a model; labels of one kind only; models with different features, or ones not finite.
    """
    known = _names(features, labels, names)
    return _fit(known, _matrix(features, known), torch.tensor(list(labels)), c)


def _fit(names: tuple[str, ...], x: Tensor, y: Tensor, c: float) -> ModelClassifier:
    from sklearn.linear_model import LogisticRegression  # a second to import, and most notebooks do without

    mean, scale = x.mean(dim=0), x.std(dim=0).clamp(min=1e-12)
    found = LogisticRegression(C=c, max_iter=1000).fit(((x - mean) / scale).numpy(), y.numpy())
    return ModelClassifier(names, mean, scale, torch.from_numpy(found.coef_[0]), float(found.intercept_[0]))


def _matrix(features: Sequence[Mapping[str, float]], names: Sequence[str]) -> Float[Tensor, "model feature"]:
    missing = [(number, name) for number, each in enumerate(features) for name in names if name not in each]
    if missing:
        raise ValueError(f"Model {missing[0][0]} has no feature {missing[0][1]!r}: all need the same probes.")
    x = torch.tensor([[each[name] for name in names] for each in features], dtype=torch.float64)
    broken = (~torch.isfinite(x)).nonzero().tolist()
    if broken:
        raise ValueError(f"Feature {names[broken[0][1]]!r} of model {broken[0][0]} is not finite (NaN or infinite).")
    return x


def _names(
    features: Sequence[Mapping[str, float]], labels: Sequence[bool], names: Sequence[str] | None
) -> tuple[str, ...]:
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} models are given, but {len(labels)} labels.")
    if len(set(labels)) != 2:
        raise ValueError("A classifier needs backdoored (True) and harmless (False) models.")
    return tuple(features[0] if names is None else names)


# --- leave one out ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ModelReport:
    """How well models are told apart that the classifier never met, nor anything of their groups."""

    scores: Float[Tensor, " model"]
    """Log-odds of each model, by a classifier fitted without it and without all that share a group with it."""
    labels: tuple[bool, ...]
    auroc: directions.Interval
    """Over clusters of models drawn again with replacement."""
    shuffled: tuple[float, ...]
    """AUROC of the same procedure with labels shuffled within clusters, once each."""

    def wrong(self) -> tuple[int, ...]:
        """Numbers of the models on the wrong side of 0."""
        return tuple(
            n for n, (score, label) in enumerate(zip(self.scores, self.labels, strict=True)) if (score > 0) != label
        )

    def table(self) -> str:
        """AUROC with interval, errors at 0, and the shuffled control."""
        control = torch.tensor(self.shuffled)
        return "\n".join(
            [
                f"AUROC {self.auroc.estimate:.2f} [{self.auroc.low:.2f}, {self.auroc.high:.2f}] over {len(self.labels)} models",
                f"wrong at 0: {len(self.wrong())} of {len(self.labels)}",
                f"shuffled labels ({len(control)}): {control.mean():.2f}, {control.min():.2f} to {control.max():.2f}",
            ]
        )


@jaxtyped(typechecker=beartype)
def leave_one_out(
    features: Sequence[Mapping[str, float]],
    labels: Sequence[bool],
    groups: Sequence[Sequence[object]],
    *,
    seed: int,
    clusters: Sequence[object] | None = None,
    names: Sequence[str] | None = None,
    n_shuffled: int = 20,
    c: float = 0.1,
) -> ModelReport:
    """Scores of models by classifiers that met nothing of their groups, with AUROC, interval and shuffled labels.

    Args:
        features: One mapping a model, from `model_features`.
        labels: Whether each is backdoored.
        groups: What each model must not share with those that its classifier is fitted on, such as (base, trigger).
        seed: Of shuffles and resampling.
        clusters: One name a model: models of one name are drawn together for the interval, and labels are shuffled among
            them. Each needs both kinds. By default models that share all their groups.
        names: Features to use; all by default.
        n_shuffled: How often labels are shuffled within clusters, and everything is fitted again.
        c: Of the logistic regression: small is strict.

    Raises:
        ValueError: As `fit_classifier`; not one entry of groups or clusters a model; a cluster of one kind; a model for which
            only one kind is left to fit on; no shuffle.
    """
    known = _names(features, labels, names)
    cells = [tuple(each) for each in groups]
    together = _rows(list(cells if clusters is None else clusters), list(labels), len(cells))
    if n_shuffled < 1:
        raise ValueError(f"n_shuffled must be at least 1, not {n_shuffled}: without the control an AUROC says nothing.")
    x, y = _matrix(features, known), torch.tensor(list(labels))
    scores, generator = _scores(known, x, y, cells, c), torch.Generator().manual_seed(seed)
    shuffled = [_shuffled(y, together, generator) for _ in range(n_shuffled)]
    control = [_auroc(_scores(known, x, other, cells, c), other) for other in shuffled]
    return ModelReport(scores, tuple(labels), _interval(scores, y, together, seed), tuple(control))


def _rows(clusters: list, labels: list[bool], n_groups: int) -> list[Tensor]:
    """The rows of each cluster."""
    if not len(clusters) == n_groups == len(labels):
        raise ValueError(f"{len(labels)} models are given, but groups of {n_groups} and clusters of {len(clusters)}.")
    rows = [[n for n, other in enumerate(clusters) if other == name] for name in dict.fromkeys(clusters)]
    lonely = [clusters[each[0]] for each in rows if len({labels[n] for n in each}) != 2]
    if lonely:
        raise ValueError(f"The cluster {lonely[0]} has models of one kind only, so its labels cannot be shuffled.")
    return [torch.tensor(each) for each in rows]


def _scores(names: tuple[str, ...], x: Tensor, y: Tensor, cells: list[tuple], c: float) -> Float[Tensor, " model"]:
    scores = torch.empty(len(y), dtype=torch.float64)
    for cell in dict.fromkeys(cells):
        apart = torch.tensor([all(a != b for a, b in zip(cell, other, strict=True)) for other in cells])
        if len(set(y[apart].tolist())) != 2:
            raise ValueError(
                f"Without all that shares a group with {cell}, models of one kind are left: nothing can be fitted."
            )
        fitted, here = _fit(names, x[apart], y[apart], c), torch.tensor([other == cell for other in cells])
        scores[here] = (x[here] - fitted.mean) / fitted.scale @ fitted.weights + fitted.bias
    return scores


def _shuffled(y: Tensor, together: list[Tensor], generator: torch.Generator) -> Tensor:
    """Labels permuted within each cluster, so that every classifier still is fitted on as many of each kind."""
    shuffled = y.clone()
    for rows in together:
        shuffled[rows] = y[rows[torch.randperm(len(rows), generator=generator)]]
    return shuffled


def _auroc(scores: Tensor, y: Tensor) -> float:
    return directions.auroc(scores[y].float(), scores[~y].float())


def _interval(scores: Tensor, y: Tensor, together: list[Tensor], seed: int) -> directions.Interval:
    """Percentile bootstrap over clusters: models that share base and trigger come and go together."""

    def of(drawn: Tensor) -> Tensor:
        picked = torch.cat([together[int(number)] for number in drawn])
        return torch.tensor(_auroc(scores[picked], y[picked]))

    return directions.bootstrap_interval(torch.arange(len(together)).float(), of, seed=seed)
