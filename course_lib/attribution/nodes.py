"""Labels for what attribution is from and to. Positions count from 0; a target's may count from the end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from course_lib import models


@dataclass(frozen=True, order=True)
class Embedding:
    """The embedding of the token at one position."""

    position: int
    token: int

    def __str__(self) -> str:
        return f"token {self.token} @{self.position}"


@dataclass(frozen=True, order=True)
class Feature:
    """One feature of one layer's transcoder at one position; as a target, its pre-activation."""

    layer: int
    position: int
    feature: int

    def __str__(self) -> str:
        return f"L{self.layer} f{self.feature} @{self.position}"


@dataclass(frozen=True, order=True)
class Error:
    """What the transcoder of one layer misses of the MLP's output at one position."""

    layer: int
    position: int

    def __str__(self) -> str:
        return f"L{self.layer} error @{self.position}"


@dataclass(frozen=True)
class Logit:
    """A token's logit minus another token's; without `minus`, minus the mean of all logits.

    Where a model caps its logits (Gemma 2), this is the difference before the cap, which keeps their order.
    """

    token: int
    minus: int | None = None
    position: int = -1

    def __str__(self) -> str:
        return f"logit {self.token} - {'mean' if self.minus is None else self.minus} @{self.position}"


Node = Embedding | Feature | Error | Logit
Target = Logit | Feature


def resolve(model: models.CheckedBridge, target: Target, n_tokens: int, d_sae: int = 0) -> Target:
    """The target with its position counted from 0.

    Raises:
        ValueError: A position outside the prompt, a token outside the vocabulary, a layer or feature that does not exist.
    """
    if not isinstance(target, Logit | Feature):
        raise ValueError(
            f"A target is a Logit or a Feature, not {target!r}. Write attribution.Logit(token, minus=other)."
        )
    if not isinstance(target.position, int) or not -n_tokens <= target.position < n_tokens:
        raise ValueError(f"Position {target.position} lies outside a prompt of {n_tokens} tokens.")
    if isinstance(target, Feature):
        check_feature(model, target, d_sae)
    else:
        _check_tokens(model, [target.token, *([] if target.minus is None else [target.minus])])
    return replace(target, position=target.position % n_tokens)


def check_feature(model: models.CheckedBridge, feature: Feature, d_sae: int) -> None:
    """Do nothing if the feature's layer and number exist, else raise."""
    if not 0 <= feature.layer < models.n_layers(model):
        raise ValueError(
            f"Layer {feature.layer} does not exist: this model has layers 0 to {models.n_layers(model) - 1}."
        )
    if not 0 <= feature.feature < d_sae:
        raise ValueError(f"Feature {feature.feature} does not exist: there are features 0 to {d_sae - 1}.")


def _check_tokens(model: models.CheckedBridge, tokens: Sequence[int]) -> None:
    for token in tokens:
        if not isinstance(token, int) or not 0 <= token < model.cfg.d_vocab:
            raise ValueError(f"Token id {token!r} lies outside the vocabulary of 0 to {model.cfg.d_vocab - 1}.")
