"""Steer by features of a sparse autoencoder or transcoder: add, set to a value, multiply, ablate.

Templeton et al. (2024), "Scaling Monosemanticity", https://transformer-circuits.pub/2024/scaling-monosemanticity,
section on feature steering; multiples of a feature's activation as in Lindsey et al. (2025), "On the Biology of a
Large Language Model", https://transformer-circuits.pub/2025/attribution-graphs/biology.html:

1. f = encode(what the dictionary reads), in this very run, after all that happened before.
2. x' = x + decode(f') - decode(f), which is x plus the decoder row of each changed feature times its change. What the
   dictionary misses (the error term) stays as it is, so nothing is lost by steering through a dictionary.
3. Strength is counted in natural activations: `natural_activations` of a named prompt and place is the `unit`.

The dictionary says by itself where it reads and writes (`cfg.metadata`), and which tokens it was trained without: those
are never edited, since its features mean nothing there. All else follows the model, attention and MLPs included.
For transcoder features on one prompt with attention frozen, as a graph assumes it, there is `attribution.intervene`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Annotated

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import caching, models
from course_lib.steering import positions as places
from course_lib.steering.positions import Place, Positions

Dictionary = Annotated[torch.nn.Module, "a sae_lens dictionary: encode, decode, W_dec, cfg.metadata.hook_name"]
Number = float | int | Float[Tensor, ""]
Unit = Number | Float[Tensor, " d_sae"]
Shift = Callable[[Float[Tensor, "batch pos changed"]], Float[Tensor, "..."]]

ROUNDING = 1e-4
"""By how much, relative to a decoder row, decode may differ from a sum of rows."""


@jaxtyped(typechecker=beartype)
def natural_activations(
    model: models.CheckedBridge, dictionary: Dictionary, prompts: models.Prompts, *, position: Place = "last"
) -> Float[Tensor, "prompt d_sae"]:
    """How strongly each feature is active at one place of each prompt: the unit in which steering is counted.

    Use a row, or the mean or maximum over prompts, as `unit` of the functions below. It is what the feature reaches
    *on these prompts*, and says nothing of how strong it can get elsewhere.

    Raises:
        ValueError: Unusable prompts or dictionary; a place that a prompt does not have.

    Example:
        >>> unit = natural_activations(chat, sae, [direct_request])[0]                     # doctest: +SKIP
        >>> with clamp_features(chat, sae, {77: 2.0}, unit=unit, positions="last"):        # doctest: +SKIP
        ...     replies = models.generate(chat, other_requests, max_new_tokens=26)
    """
    reads, _ = _hooks(model, dictionary)
    found = caching.harvest(model, prompts, hook_names=[reads], positions=[position], progress=False).values
    with torch.no_grad():
        return dictionary.encode(found[:, 0, 0].to(dictionary.W_dec)).cpu()


@jaxtyped(typechecker=beartype)
def add_features(
    model: models.CheckedBridge,
    dictionary: Dictionary,
    amounts: Mapping[int, Number],
    *,
    positions: Positions = "all",
    unit: Unit = 1.0,
) -> AbstractContextManager:
    """A context in which amount * unit times each feature's decoder row is added, whatever the feature does there.

    Args:
        model: From `models.load`.
        dictionary: Where to steer, from `features.load` or sae_lens.
        amounts: Feature -> how much of it; negative to subtract.
        positions: "all" tokens, also those being generated; a name or indices, which mean the prompt only.
        unit: What an amount of 1 is: a number, or a row of `natural_activations`, from which each feature takes its own.

    Raises:
        ValueError: A dictionary that does not fit the model or is on another device, an unknown feature, an amount
            that is not finite, a unit that is not above zero (a feature that is inactive there has no unit). While
            the model runs: a position outside the prompt.
    """
    amount = _amounts(dictionary, amounts) * _units(dictionary, list(amounts), unit)
    return _edit(model, dictionary, list(amounts), lambda old: amount.to(old).expand_as(old), positions)


@jaxtyped(typechecker=beartype)
def clamp_features(
    model: models.CheckedBridge,
    dictionary: Dictionary,
    values: Mapping[int, Number],
    *,
    positions: Positions = "all",
    unit: Unit = 1.0,
) -> AbstractContextManager:
    """A context in which each feature has the activation value * unit. Where it has it anyway, nothing is changed.

    Negative values are what no feature reaches by itself. Arguments and errors as for `add_features`.
    """
    value = _amounts(dictionary, values) * _units(dictionary, list(values), unit)
    return _edit(model, dictionary, list(values), lambda old: value.to(old) - old, positions)


@jaxtyped(typechecker=beartype)
def scale_features(
    model: models.CheckedBridge, dictionary: Dictionary, factors: Mapping[int, Number], *, positions: Positions = "all"
) -> AbstractContextManager:
    """A context in which each feature is multiplied where it is active: "-2x" of the papers is the factor -2.

    1 changes nothing, 0 ablates. A feature that is inactive stays so: to insert one, clamp or add it. Arguments and
    errors as for `add_features`.
    """
    factor = _amounts(dictionary, factors)
    return _edit(model, dictionary, list(factors), lambda old: (factor.to(old) - 1) * old, positions)


@jaxtyped(typechecker=beartype)
def ablate_features(
    model: models.CheckedBridge, dictionary: Dictionary, features: Sequence[int], *, positions: Positions = "all"
) -> AbstractContextManager:
    """A context without the features' part in what the dictionary writes: their decoder rows times their activations.

    Often too little where -2 times, by `scale_features`, is enough: other features and the error term say the same.
    """
    return scale_features(model, dictionary, dict.fromkeys(features, 0.0), positions=positions)


@jaxtyped(typechecker=beartype)
def random_feature_sets(
    activations: Float[Tensor, " d_sae"], features: Sequence[int], *, n: int, seed: int, nearest: int = 10
) -> tuple[tuple[int, ...], ...]:
    """n sets of other features, each as active as the ones they stand for: the control of an edit of features.

    For every feature one of the `nearest` active ones by activation is drawn, none twice in a set. Nothing is as active as
    the loudest features: their sets are weaker edits, so compare with random directions of the edit's length as well.

    Args:
        activations: At one place, a row of `natural_activations`.
        features: What the sets are a control of; not in any of them.
        n: How many sets.
        seed: Of the draws.
        nearest: From how many neighbours in activation each member is drawn.

    Raises:
        ValueError: A feature that is inactive there; too few other active features.
    """
    inactive = [feature for feature in features if not activations[feature] > 0]
    if inactive:
        raise ValueError(f"Feature {inactive[0]} is inactive there, so no feature is as active as it is.")
    others = [i for i in (activations > 0).nonzero().flatten().tolist() if i not in set(features)]
    if not 1 <= len(features) <= len(others) or nearest < 1 or n < 1:
        raise ValueError(
            f"{len(features)} features were given and {len(others)} others are active there; sets need at least one "
            f"feature, as many others, n and nearest at least 1 (got {n}, {nearest}). Use another place or fewer features."
        )
    generator = torch.Generator().manual_seed(seed)
    return tuple(_matched(activations, features, others, nearest, generator) for _ in range(n))


Nodes = Sequence[tuple[int, int]]
"""(layer, feature), as in a graph; the layer is a place in a list of one dictionary per layer."""


@contextmanager
def scale_nodes(
    model: models.CheckedBridge,
    dictionaries: Sequence[Dictionary],
    nodes: Nodes,
    factor: float,
    *,
    positions: Positions = "all",
) -> Iterator[None]:
    """A context in which features of several layers are multiplied by one factor: `scale_features` in each layer.

    Arguments and errors as for `add_features`; also a ValueError for a layer without a dictionary.
    """
    by_layer = _by_layer(nodes, len(dictionaries))
    with ExitStack() as stack:
        for layer, features in by_layer.items():
            stack.enter_context(
                scale_features(model, dictionaries[layer], dict.fromkeys(features, factor), positions=positions)
            )
        yield


def random_node_sets(
    activations: Sequence[Float[Tensor, " d_sae"]], nodes: Nodes, *, n: int, seed: int
) -> list[list[tuple[int, int]]]:
    """n sets of other nodes, in each layer as many and as active as the given ones: the control of `scale_nodes`.

    Args:
        activations: Of every layer at one place, each a row of `natural_activations`.
        nodes: What the sets are a control of; not in any of them.
        n: How many sets.
        seed: Of the draws; layer k takes seed + k.

    Raises:
        ValueError: As for `random_feature_sets`, or a layer without activations.
    """
    drawn = {
        layer: random_feature_sets(activations[layer], features, n=n, seed=seed + layer)
        for layer, features in _by_layer(nodes, len(activations)).items()
    }
    return [[(layer, feature) for layer, sets in drawn.items() for feature in sets[k]] for k in range(n)]


def _by_layer(nodes: Nodes, n_layers: int) -> dict[int, list[int]]:
    beyond = [layer for layer, _ in nodes if not 0 <= layer < n_layers]
    if beyond or not nodes:
        what = f"Layer {beyond[0]} has no dictionary" if beyond else "No node was given"
        raise ValueError(f"{what}: give nodes as (layer, feature), with layers from 0 to {n_layers - 1}.")
    return {layer: [feature for at, feature in nodes if at == layer] for layer in sorted({layer for layer, _ in nodes})}


def _matched(
    activations: Tensor, features: Sequence[int], others: Sequence[int], nearest: int, generator: torch.Generator
) -> tuple[int, ...]:
    left, drawn = list(others), []
    for feature in features:
        left.sort(key=lambda other: float((activations[other] - activations[feature]).abs()))
        choice = int(torch.randint(min(nearest, len(left)), (1,), generator=generator))
        drawn.append(left.pop(choice))
    return tuple(drawn)


@contextmanager
def _edit(
    model: models.CheckedBridge, dictionary: Dictionary, features: list[int], shift: Shift, positions: Positions
) -> Iterator[models.CheckedBridge]:
    """Step 2: x plus each feature's decoder row times its change."""
    reads, writes = _hooks(model, dictionary)
    rows, read = dictionary.W_dec[features].detach(), {}

    def keep(activation: Tensor, hook: object) -> None:
        read["x"] = activation

    def change(written: Tensor) -> Tensor:
        old = dictionary.encode(read["x"].to(rows))[..., features]
        return written + (shift(old) @ rows).to(written)

    spared = getattr(dictionary.cfg.metadata, "exclude_special_tokens", None) or ()
    with model.hooks([(reads, keep)]), places.edit(model, {writes: change}, positions, spared=spared):
        yield model


def _hooks(model: models.CheckedBridge, dictionary: Dictionary) -> tuple[str, str]:
    """Where the dictionary reads and where it writes, after a check that it fits this model."""
    reads = dictionary.cfg.metadata.hook_name
    writes = getattr(dictionary.cfg.metadata, "hook_name_out", None) or reads
    models.check_hook_names(model, [reads, writes])
    widths = {dictionary.W_enc.shape[0], dictionary.W_dec.shape[1]}
    if widths != {models.d_model(model)}:
        raise ValueError(
            f"The dictionary reads and writes {' and '.join(map(str, sorted(widths)))} numbers, this model's hooks hold "
            f"{models.d_model(model)}. Was it trained on another model?"
        )
    devices = torch.device(dictionary.W_dec.device).type, torch.device(model.cfg.device).type
    if devices[0] != devices[1]:
        raise ValueError(
            f"The dictionary is on {devices[0]}, the model on {devices[1]}. Move it: dictionary.to({devices[1]!r})."
        )
    _check_linear(dictionary)
    return reads, writes


def _check_linear(dictionary: Dictionary) -> None:
    """An edit of decoder rows is decode(f') - decode(f) only where decode is a sum of rows and a constant."""
    with torch.no_grad():
        ones = torch.ones_like(dictionary.W_dec[None, :, 0])
        written = dictionary.decode(ones) - dictionary.decode(0 * ones)
    total = dictionary.W_dec.detach().sum(dim=0)
    normalised = getattr(dictionary.cfg, "normalize_activations", "none") not in (None, "none")
    if normalised or float((written[0] - total).norm()) > ROUNDING * max(1.0, float(total.norm())):
        raise ValueError(
            "What this dictionary decodes is not the sum of its decoder rows: it rescales as it runs. Fold that into its "
            "weights first (sae_lens: fold_activation_norm_scaling_factor, fold_W_dec_norm)."
        )


def _amounts(dictionary: Dictionary, amounts: Mapping[int, Number]) -> Float[Tensor, " changed"]:
    """The numbers, after a check of the features that they are for."""
    n_features = dictionary.W_dec.shape[0]
    unknown = [feature for feature in amounts if not 0 <= feature < n_features]
    if not amounts or unknown:
        raise ValueError(
            f"{f'Feature {unknown[0]} does not exist' if unknown else 'No feature was given'}: this dictionary has "
            f"features 0 to {n_features - 1}."
        )
    wrong = {feature: amount for feature, amount in amounts.items() if not math.isfinite(amount)}
    if wrong:
        raise ValueError(f"Amounts must be finite numbers, but feature {min(wrong)} got {float(wrong[min(wrong)])}.")
    return torch.tensor([float(amount) for amount in amounts.values()])


def _units(dictionary: Dictionary, features: list[int], unit: Unit) -> Float[Tensor, "*changed"]:
    if not isinstance(unit, Tensor) or unit.ndim == 0:
        units = torch.tensor(float(unit)).expand(len(features))
    elif len(unit) == dictionary.W_dec.shape[0]:
        units = unit[features].float().cpu()
    else:
        raise ValueError(
            f"The unit has {len(unit)} entries, the dictionary {dictionary.W_dec.shape[0]} features. Is it a row of "
            "natural_activations of this dictionary?"
        )
    for feature, size in zip(features, units.tolist(), strict=True):
        if not 0 < size < math.inf:
            raise ValueError(
                f"Feature {feature} cannot be counted in units of {size:g}: a unit is a finite number above zero. Take "
                "the activation of a prompt and place where the feature is active."
            )
    return units
