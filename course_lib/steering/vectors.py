"""Change what a model computes while it runs: ablate a direction, or add one. Weights are never touched.

The interventions of Arditi et al. (2024), https://arxiv.org/abs/2406.11717, section 2.4, with r of length 1:

1. `ablate`: c' = c - (c . r) r for every c that is written to the residual stream, at every position.
2. `add`: a' = a + coefficient * direction at the input of one layer.
3. `add_projection_matched`: a' = a - (a . r) r + target * r, which sets the reach along r.
4. `score_candidates` measures, for each candidate direction, what `course_lib.directions.select` decides on.

All are context managers; they nest, in the order in which they are entered. Hooks compute new tensors and
never write into the model's own, and the model is as before when the context ends, however it ends.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import directions, models
from course_lib.steering.positions import Positions, edit

Number = float | int | Float[Tensor, ""]

NEGLIGIBLE = 1e-6
"""A candidate shorter than this share of the longest one is rounding error, not a direction."""


@jaxtyped(typechecker=beartype)
def ablate(model: models.CheckedBridge, direction: Float[Tensor, " d_model"]) -> AbstractContextManager:
    """A context in which nothing along the direction is ever written to the residual stream.

    Directional ablation: c - (c . r) r at the input of the first layer (the embedding) and at the output of
    every attention and every MLP, all positions. The residual stream is the sum of these, so no block input
    needs a hook of its own. The direction's length and sign do not matter. In bfloat16 rounding leaves about
    0.4 % of it.

    Raises:
        ValueError: The direction is zero, not finite, or not of the model's width.

    Example:
        >>> with ablate(model, direction):                       # doctest: +SKIP
        ...     replies = models.generate(model, prompts, max_new_tokens=20)
    """
    check_vectors(model, direction)
    r = directions.unit(direction)

    def remove(activation: Tensor) -> Tensor:
        return _without(activation, r.to(activation))

    return edit(model, {name: remove for name in _writes(model)}, "all")


@jaxtyped(typechecker=beartype)
def add(
    model: models.CheckedBridge,
    direction: Float[Tensor, " d_model"],
    *,
    layer: int,
    coefficient: Number,
    positions: Positions = "all",
) -> AbstractContextManager:
    """A context in which a + coefficient * direction stands for a at the input (`resid_pre`) of one layer.

    Activation addition. The direction is taken as it is: with a difference of means, coefficient 1 moves
    harmless activations onto the harmful mean, as published; with a unit vector the coefficient is a length.

    Args:
        model: From `models.load`.
        direction: What to add.
        layer: At whose input, counted from 0.
        coefficient: Multiple of the direction; negative to subtract.
        positions: "all" tokens, also those being generated (as published); "last", the prompt's last token;
            "reply" or "last_instruction" (`tokens.POSITIONS`); or indices into the prompt, negative ones from its
            end, and names among them. All but "all" leave generated tokens alone, for which they rely on generation
            with a key-value cache: a run over a single token counts as generating.

    Raises:
        ValueError: A layer that the model does not have, a direction of another width, a number that is not
            finite. While the model runs: a position outside the prompt.
    """
    check_vectors(model, direction)
    if not math.isfinite(coefficient):
        raise ValueError(f"The coefficient must be a finite number, not {coefficient}.")

    def shift(activation: Tensor) -> Tensor:
        return activation + float(coefficient) * direction.to(activation)

    return edit(model, {resid_pre(model, layer): shift}, positions)


@jaxtyped(typechecker=beartype)
def add_projection_matched(
    model: models.CheckedBridge,
    direction: Float[Tensor, " d_model"],
    *,
    layer: int,
    target: Number,
    positions: Positions = "all",
) -> AbstractContextManager:
    """A context in which every activation at one layer's input reaches exactly `target` along the direction.

    a - (a . r) r + target * r. With the mean projection of harmful activations as the target,
    `directions.project(harmful, direction).mean()`, harmless prompts look as harmful as harmful ones along r,
    and no more. Only the direction's line matters, not its length. Arguments and errors as for `add`.
    """
    check_vectors(model, direction)
    if not math.isfinite(target):
        raise ValueError(f"The target must be a finite number, not {target}.")
    r = directions.unit(direction)

    def match(activation: Tensor) -> Tensor:
        along = r.to(activation)
        return _without(activation, along) + float(target) * along

    return edit(model, {resid_pre(model, layer): match}, positions)


@jaxtyped(typechecker=beartype)
def score_candidates(
    model: models.CheckedBridge,
    candidates: Float[Tensor, "position layer d_model"],
    *,
    harmful: models.Prompts,
    harmless: models.Prompts,
    refusal_token_ids: Sequence[int],
    layers: Sequence[int] | None = None,
    positions: Sequence[int | str] | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> tuple[directions.Candidate, ...]:
    """Bypass, induce and KL score of every candidate direction, for `directions.select`.

    Arditi et al., appendix C, measured on validation prompts at the last position. Bypass: mean refusal score
    on harmful prompts under ablation. Induce: mean refusal score on harmless prompts with the candidate, as
    long as it is, added at its own layer at all positions. KL: mean KL(unchanged || ablated) on harmless
    prompts, in nats. All three look at the first token of the reply only. Where all prompts have the same
    token, the first layer's candidate is zero up to rounding; ablating it means leaving the model alone.

    Args:
        model: From `models.load`.
        candidates: Differences of means, not normalised: `directions.difference_of_means(harmful.values,
            harmless.values)` of two harvests.
        harmful: Token ids of the harmful validation prompts.
        harmless: Token ids of the harmless validation prompts.
        refusal_token_ids: Tokens with which this model's refusals begin.
        layers: Layer of each entry of the second axis; by default all layers, from 0.
        positions: Label of each entry of the first axis; by default the last ones, ..., -2, -1.
        batch_size: Prompts run at once at most.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any intervention: labels that do not fit the candidates' shape, layers that the
            model does not have, candidates of another width or not finite, unusable prompts or token ids.
    """
    n_positions, n_columns, _ = candidates.shape
    layers = range(models.n_layers(model)) if layers is None else layers
    positions = range(-n_positions, 0) if positions is None else positions
    if len(layers) != n_columns or len(positions) != n_positions:
        raise ValueError(
            f"The candidates have {n_positions} positions and {n_columns} layers, but there are labels "
            f"for {len(positions)} positions and {len(layers)} layers. Pass layers= and positions=."
        )
    for layer in layers:
        resid_pre(model, layer)
    check_vectors(model, candidates)
    models.check_prompts(model, harmful)
    unchanged = models.next_token_logits(model, harmless, batch_size=batch_size)

    def score(next_token_logits: Tensor) -> float:
        return float(directions.refusal_score(next_token_logits, refusal_token_ids).mean())

    score(unchanged)  # refuses bad token ids before the long part
    negligible = candidates.norm(dim=-1) <= NEGLIGIBLE * candidates.norm(dim=-1).max()
    places = [(p, column) for p in range(n_positions) for column in range(n_columns)]
    rows = []
    for p, column in tqdm(places, desc="score candidates", unit="direction", disable=not progress):
        direction, layer = candidates[p, column], layers[column]
        with nullcontext() if negligible[p, column] else ablate(model, direction):
            bypassed = models.next_token_logits(model, harmful, batch_size=batch_size)
            ablated = models.next_token_logits(model, harmless, batch_size=batch_size)
        with add(model, direction, layer=layer, coefficient=1.0):
            induced = models.next_token_logits(model, harmless, batch_size=batch_size)
        kl = float(directions.kl_divergence(unchanged, ablated).mean())
        rows.append(directions.Candidate(layer, positions[p], score(bypassed), score(induced), kl))
    return tuple(rows)


def _without(
    activation: Float[Tensor, "*batch d_model"], r: Float[Tensor, " d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """c - (c . r) r for r of length 1."""
    return activation - (activation @ r)[..., None] * r


def _writes(model: models.CheckedBridge) -> list[str]:
    """Every hook at which something is written to the residual stream.

    `hook_resid_mid` is not one of them: in the Bridge it is what the second norm reads, off the stream.
    """
    outputs = [
        f"blocks.{layer}.{hook}"
        for layer in range(models.n_layers(model))
        for hook in ("hook_attn_out", "hook_mlp_out")
    ]
    return ["blocks.0.hook_resid_pre", *outputs]


def resid_pre(model: models.CheckedBridge, layer: int) -> str:
    """Name of the hook at the input of a layer, which must exist."""
    if not 0 <= layer < models.n_layers(model):
        raise ValueError(
            f"Layer {layer} does not exist: this model has layers 0 to {models.n_layers(model) - 1}."
        )
    return f"blocks.{layer}.hook_resid_pre"


def check_vectors(model: models.CheckedBridge, vectors: Float[Tensor, "*batch d_model"]) -> None:
    """Do nothing if the vectors are finite and of the model's width, else raise."""
    if vectors.shape[-1] != models.d_model(model):
        raise ValueError(
            f"The direction has {vectors.shape[-1]} entries, this model's residual stream "
            f"{models.d_model(model)}. Was it found in another model?"
        )
    if not bool(torch.isfinite(vectors).all()):
        raise ValueError("The direction holds a NaN or an infinite number.")
