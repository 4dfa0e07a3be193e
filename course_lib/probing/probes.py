"""Fit a probe, apply it, and choose its layer and position, all without the test part."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import directions
from course_lib.probing.examples import Examples, Split, check_split

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Values of scikit-learn's C that `logistic_regression` tries: small regularises strongly."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe; `scores` applies it."""

    direction: Float[Tensor, " d_model"]
    """Points from False to True. Its length is that of the fit, not one."""
    bias: float
    gap: float
    """How far the training means of the two kinds lie apart along the direction, in units of the activations."""
    hook_name: str
    position: int | str
    method: str
    """How it was fitted."""

    @property
    def layer(self) -> int:
        """Block of the hook, counted from 0.

        Raises:
            ValueError: The hook lies outside the blocks.
        """
        found = re.match(r"blocks\.(\d+)\.", self.hook_name)
        if not found:
            raise ValueError(f"{self.hook_name} lies in no block, so it has no layer.")
        return int(found[1])

    @property
    def step(self) -> Float[Tensor, " d_model"]:
        """The direction at the length that carries one mean onto the other along it: what to add, or to ablate."""
        return self.gap * directions.unit(self.direction)

    @jaxtyped(typechecker=beartype)
    def scores(self, activations: Float[Tensor, "*prompt d_model"]) -> Float[Tensor, "*prompt"]:
        """x . direction + bias: above 0 the probe says True. Log-odds only for a logistic regression."""
        return activations @ self.direction.to(activations) + self.bias


Fit = Callable[..., Probe]
"""`difference_of_means` or `logistic_regression`."""


def difference_of_means(
    examples: Examples, split: Split, *, hook: str | int, position: int | str | None = None
) -> Probe:
    """A probe along the difference of the two training means, with its threshold midway between them.

    The validation part is not used. At equal spread in all directions this is the best linear probe; where a nuisance
    varies more than the signal, `logistic_regression` can do better.

    Args:
        examples: Activations with labels and topics.
        split: From `split_by_topic`.
        hook: A hook name or a layer, as for `caching.Activations.at`.
        position: A harvested position; may be left out if there is only one.

    Raises:
        ValueError: A division that leaks a topic, or in which a part lacks one kind; a hook or a position that was
            not harvested; two training means that are the same.
    """
    check_split(split, examples.topics, examples.labels)
    x = examples.activations.at(hook, position)[split.train]
    y = examples.labels[split.train]
    direction = directions.difference_of_means(x[y], x[~y])
    middle = (x[y].double().mean(dim=0) + x[~y].double().mean(dim=0)) / 2
    return _probe(
        examples, split, direction, -float(middle @ direction.double()), hook, position, "difference of means"
    )


def logistic_regression(
    examples: Examples,
    split: Split,
    *,
    hook: str | int,
    position: int | str | None = None,
    strengths: tuple[float, ...] = STRENGTHS,
) -> Probe:
    """A probe fitted by scikit-learn's logistic regression (L2) on activations standardised by the training part.

    Of `strengths` (C), the one with the best validation AUROC is taken; among equals the smallest, which regularises
    most. The standardisation is folded into direction and bias. Other arguments and errors as for
    `difference_of_means`.
    """
    check_split(split, examples.topics, examples.labels)
    x = examples.activations.at(hook, position)
    fits = [(c, *fit_logistic(x[split.train], examples.labels[split.train], c)) for c in sorted(strengths)]
    aurocs = [auroc(x[split.validation] @ w, examples.labels[split.validation]) for _, w, _ in fits]
    c, direction, bias = fits[aurocs.index(max(aurocs))]
    return _probe(examples, split, direction, bias, hook, position, f"logistic regression, C = {c:g}")


def fit_logistic(x: Tensor, y: Tensor, c: float) -> tuple[Tensor, float]:
    """Weights and bias, in the units of x, of a logistic regression on standardised x."""
    from sklearn.linear_model import LogisticRegression  # a second to import, and most notebooks do without
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    fitted = LogisticRegression(C=c, max_iter=2000).fit(scaler.fit_transform(x.double().cpu().numpy()), y.cpu().numpy())
    weights = fitted.coef_[0] / scaler.scale_
    return torch.from_numpy(weights).to(x), float(fitted.intercept_[0] - scaler.mean_ @ weights)


def _probe(
    examples: Examples,
    split: Split,
    direction: Tensor,
    bias: float,
    hook: str | int,
    position: int | str | None,
    method: str,
) -> Probe:
    if not bool(direction.any()):
        raise ValueError(
            f"At {hook!r}, position {position!r}, both kinds have the same mean, so there is no direction."
        )
    activations = examples.activations
    along = directions.project(activations.at(hook, position)[split.train], direction)
    y = examples.labels[split.train]
    names = [name for name in activations.hook_names if name == hook or name.startswith(f"blocks.{hook}.")]
    place = activations.positions[0] if position is None else position
    return Probe(direction, bias, float(along[y].mean() - along[~y].mean()), names[0], place, method)


def auroc(scores: Tensor, labels: Tensor) -> float:
    """AUROC of scores with their labels."""
    return directions.auroc(scores[labels], scores[~labels])


# --- selection ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A layer and position with the AUROC that a probe fitted there reaches on the validation part."""

    hook_name: str
    position: int | str
    validation_auroc: float


def select(examples: Examples, split: Split, *, method: Fit = difference_of_means) -> tuple[Probe, tuple[Place, ...]]:
    """The probe with the best validation AUROC over all hooks and positions, and all places, best first.

    Among equals, the first hook and then the first position in the order of the harvest; a place where all prompts
    have the same activation counts as 0.5 and is never chosen. The test part is not looked at. A validation AUROC is
    the highest of many and too good by that; `evaluate` says what it is worth.

    Raises:
        ValueError: As for the fits; all activations are the same everywhere.
    """
    activations, found = examples.activations, []
    for hook in activations.hook_names:
        for position in activations.positions:
            if _constant(activations.at(hook, position)):
                found.append((None, Place(hook, position, 0.5)))
            else:
                probe = method(examples, split, hook=hook, position=position)
                found.append((probe, Place(hook, position, _validation(probe, examples, split))))
    found.sort(key=lambda pair: (pair[0] is None, -pair[1].validation_auroc))  # stable: the earlier place wins a tie
    if found[0][0] is None:
        raise ValueError("All prompts have the same activation at every place: there is nothing to read yet.")
    return found[0][0], tuple(place for _, place in found)


def _constant(x: Tensor) -> bool:
    """As at a token of the template before the first layer: the same for every prompt."""
    return bool((x == x[0]).all())


def _validation(probe: Probe, examples: Examples, split: Split) -> float:
    x = examples.activations.at(probe.hook_name, probe.position)[split.validation]
    return auroc(probe.scores(x), examples.labels[split.validation])
