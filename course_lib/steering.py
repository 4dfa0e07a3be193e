"""Change what a model computes while it runs, and report what that did. Weights are never touched.

1. Directions, as in Arditi et al. (2024), https://arxiv.org/abs/2406.11717, section 2.4: `ablate` one everywhere, `add`
   one at the input of a layer. `score_candidates` measures what `directions.select` decides on.
2. Features of a sparse autoencoder or transcoder: `scale_features`, `clamp_features`, with the error term kept.
3. `report`: the effect on replies beside the effect of random interventions, and the cost on other prompts.

Every intervention is a context manager. They nest, in the order in which they are entered. Hooks return new tensors and
never write into the model's own, and the model is as before when the context ends, however it ends.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from course_lib import caching, directions, models, tokens
from course_lib.directions import Interval

Number = float | int | Float[Tensor, ""]
Positions = Literal["all", "last", "reply", "last_instruction"] | Sequence[int | str]
Dictionary = Annotated[Any, "a dictionary of sae_lens: encode, decode, W_dec, cfg.metadata.hook_name"]
Change = Callable[[Tensor], Tensor]
Nodes = Sequence[tuple[int, int]]
"""(layer, feature), as in a graph; the layer is an index into a list with one dictionary per layer."""

NEGLIGIBLE = 1e-6
"""A candidate shorter than this share of the longest one is rounding error, not a direction."""
ROUNDING = 1e-4
"""By how much, relative to their length, decode may differ from the sum of the decoder rows."""
NEAREST = 10
"""A random feature is drawn from this many that are nearest in activation."""
WRITABLE = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "mlp.hook_out", "attn.hook_out")
"""Ends of hook names at which what is written goes into the residual stream."""
MIN_CONTROLS = 20
"""With 20 random interventions, the chance that a 21st moves a number farther than all of them is 1 in 21."""


# --- directions ---------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
def ablate(model: models.CheckedBridge, direction: Float[Tensor, " d_model"]) -> AbstractContextManager:
    """Return a context in which nothing along the direction is written to the residual stream.

    Directional ablation: c - (c . r) r at the input of the first layer (the embedding) and at the output of every
    attention and every MLP, at all positions. The residual stream is the sum of these, so no block input needs a hook
    of its own. The direction's length and sign do not matter. In bfloat16 rounding leaves about 0.4 % of it. Of two
    that are not orthogonal the inner ablation brings some of the outer direction back: `project_out` one of the other first.

    Raises:
        ValueError: The direction is zero or not finite.

    Example:
        >>> with ablate(model, direction):                       # doctest: +SKIP
        ...     replies = models.generate(model, prompts, max_new_tokens=20)
    """
    r = directions.unit(directions.of_width(direction, models.d_model(model)))
    if not model.__dict__.get("_writers_checked"):
        if models.has_hooks(model):
            raise ValueError("Ablation was not yet tried on this model alone: enter it before other edits.")
        some = directions.random_directions(1, like=torch.ones(models.d_model(model)), seed=0)[0]
        with _removing(model, directions.unit(some)):  # refuses a model in which something else writes, too
            models.check_not_written(model, some)
        model.__dict__["_writers_checked"] = True
    return _removing(model, r)


def _removing(model: models.CheckedBridge, r: Float[Tensor, " d_model"]) -> AbstractContextManager:
    """Return a context in which nothing along r, of length 1, is written by embedding, attention and MLP."""
    layers = range(models.n_layers(model))
    writers = [f"blocks.{layer}.{hook}" for layer in layers for hook in ("hook_attn_out", "hook_mlp_out")]
    if missing := [name for name in writers if name not in model.hook_dict]:
        kind = type(model.original_model).__name__
        raise ValueError(f"Ablation edits what attention and MLP write, and a {kind} has no {missing[0]}.")
    return _editing(model, dict.fromkeys(["blocks.0.hook_resid_pre", *writers], lambda x: _moved(x, r.to(x))), "all")


def _moved(x: Float[Tensor, "*batch d_model"], r: Float[Tensor, " d_model"], to: float = 0.0) -> Tensor:
    """Return x with the projection `to` on r, which has length 1."""
    return x + (to - x @ r)[..., None] * r


@jaxtyped(typechecker=beartype)
def add(
    model: models.CheckedBridge,
    direction: Float[Tensor, " d_model"],
    *,
    layer: int,
    coefficient: Number,
    positions: Positions = "all",
) -> AbstractContextManager:
    """Return a context in which coefficient * direction is added to the input (`resid_pre`) of one layer.

    The direction is taken as it is: with a difference of means, coefficient 1 moves harmless activations onto the
    harmful mean, as published; with a unit vector the coefficient is a length.

    Args:
        model: From `models.load`.
        direction: What to add.
        layer: Counted from 0.
        coefficient: Multiple of the direction; negative to subtract.
        positions: "all" tokens, also those being generated (as published); "last", the prompt's last token; "reply" or
            "last_instruction" (`tokens.POSITIONS`); or a list of names and indices into the prompt, negative ones from
            its end. All but "all" leave generated tokens alone, for which they rely on generation with a key-value
            cache: a run over a single token counts as generating.

    Raises:
        ValueError: A number that is not finite. On entering: a layer that the model does not have, or no position.
            While the model runs: a position outside the prompt.
    """
    if not bool(torch.isfinite(coefficient * directions.of_width(direction, models.d_model(model))).all()):
        raise ValueError(f"The coefficient ({coefficient}) and the direction must be finite.")

    def shift(activation: Tensor) -> Tensor:
        return activation + float(coefficient) * direction.to(activation)

    return _editing(model, {f"blocks.{layer}.hook_resid_pre": shift}, positions)


@jaxtyped(typechecker=beartype)
def add_projection_matched(
    model: models.CheckedBridge,
    direction: Float[Tensor, " d_model"],
    *,
    layer: int,
    target: Number,
    positions: Positions = "all",
) -> AbstractContextManager:
    """Return a context in which every activation at one layer's input has the projection `target` on the direction.

    a - (a . r) r + target * r. With the mean projection of harmful activations as the target,
    `directions.project(harmful, direction).mean()`, harmless prompts look as harmful as harmful ones along r,
    and no more. The direction's length does not matter. Arguments and errors as for `add`.
    """
    r = directions.unit(directions.of_width(direction, models.d_model(model)))
    if not math.isfinite(target):
        raise ValueError(f"The target must be finite, not {target}.")
    return _editing(model, {f"blocks.{layer}.hook_resid_pre": lambda x: _moved(x, r.to(x), float(target))}, positions)


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
    """Return bypass, induce and KL score of every candidate direction, for `directions.select`.

    Arditi et al., appendix C, measured on validation prompts at the last position. Bypass: mean refusal score
    on harmful prompts under ablation. Induce: mean refusal score on harmless prompts with the candidate, as
    long as it is, added at its own layer at all positions. KL: mean KL(unchanged || ablated) on harmless
    prompts, in nats. All three read the first token of the reply only. Where all prompts have the same token, the first
    layer's candidate is zero up to rounding; ablating it means leaving the model alone.

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
        ValueError: Labels that do not fit the candidates' shape, layers that the model does not have, candidates that
            are not finite, unusable prompts or token ids.
    """
    layers = range(models.n_layers(model)) if layers is None else layers
    positions = range(-len(candidates), 0) if positions is None else positions
    labelled = [
        (layer, position, direction)
        for position, row in zip(positions, candidates, strict=True)
        for layer, direction in zip(layers, row, strict=True)
    ]
    longest = candidates.norm(dim=-1).max()
    unchanged = models.next_token_logits(model, harmless, batch_size=batch_size)

    def score(next_token_logits: Tensor) -> float:
        return float(directions.refusal_score(next_token_logits, refusal_token_ids).mean())

    rows = []
    for layer, position, direction in tqdm(labelled, desc="score candidates", unit="direction", disable=not progress):
        negligible = bool(direction.norm() <= NEGLIGIBLE * longest)
        with nullcontext() if negligible else ablate(model, direction):
            bypassed = models.next_token_logits(model, harmful, batch_size=batch_size)
            ablated = models.next_token_logits(model, harmless, batch_size=batch_size)
        with add(model, direction, layer=layer, coefficient=1.0):
            induced = models.next_token_logits(model, harmless, batch_size=batch_size)
        kl = float(directions.kl_divergence(unchanged, ablated).mean())
        rows.append(directions.Candidate(layer, position, score(bypassed), score(induced), kl))
    return tuple(rows)


# --- features of a dictionary -------------------------------------------------------------------------------
#
# Templeton et al. (2024), "Scaling Monosemanticity", https://transformer-circuits.pub/2024/scaling-monosemanticity,
# section on feature steering; multiples of a feature's activation as in Lindsey et al. (2025), "On the Biology of a
# Large Language Model", https://transformer-circuits.pub/2025/attribution-graphs/biology.html.
#
# With f = encode(what the dictionary reads), taken in this very run, x' = x + decode(f') - decode(f): x plus the
# decoder row of each changed feature times its change. What the dictionary misses (the error term) stays as it is.
# Tokens that the dictionary was trained without are never edited, since its features mean nothing there. All else
# follows the model; with attention frozen, as a graph assumes it, there is `attribution.intervene`.


@jaxtyped(typechecker=beartype)
def natural_activations(
    model: models.CheckedBridge, dictionary: Dictionary, prompts: models.Prompts, *, position: int | str = "last"
) -> Float[Tensor, "prompt d_sae"]:
    """Return each feature's activation at one position of each prompt: the unit in which steering is counted.

    Use a row, or the mean or maximum over prompts, as `unit` of `clamp_features`. It says how active a feature is *on
    these prompts*, not how active it can get elsewhere.

    Raises:
        ValueError: Unusable prompts, hooks that the model does not have, a position that a prompt does not have.

    Example:
        >>> unit = natural_activations(chat, sae, [direct_request])[0]                     # doctest: +SKIP
        >>> with clamp_features(chat, sae, {77: 2.0}, unit=unit, positions="last"):        # doctest: +SKIP
        ...     replies = models.generate(chat, other_requests, max_new_tokens=26)
    """
    reads = dictionary.cfg.metadata.hook_name
    found = caching.harvest(model, prompts, hook_names=[reads], positions=[position], progress=False).values
    with torch.no_grad():
        return dictionary.encode(found[:, 0, 0].to(dictionary.W_dec)).cpu()


@jaxtyped(typechecker=beartype)
def scale_features(
    model: models.CheckedBridge, dictionary: Dictionary, factors: Mapping[int, Number], *, positions: Positions = "all"
) -> AbstractContextManager:
    """Return a context in which each feature is multiplied where it is active: "-2x" of the papers is the factor -2.

    1 changes nothing, 0 ablates. Ablating is often too little where a negative factor is enough: other features and the
    error term say the same. A feature that is inactive stays so: clamp it instead.

    Args:
        model: From `models.load`.
        dictionary: Where to steer, from `features.load` or sae_lens.
        factors: Factor of each feature.
        positions: As for `add`.

    Raises:
        ValueError: No feature or a negative one, a number that is not finite. On entering: a dictionary that rescales
            what it decodes, or with hooks that the model does not have. While the model runs: as for `add`.
    """
    factor = _amounts(factors)
    return _editing_features(model, dictionary, list(factors), lambda old: (factor.to(old) - 1) * old, positions)


@jaxtyped(typechecker=beartype)
def clamp_features(
    model: models.CheckedBridge,
    dictionary: Dictionary,
    values: Mapping[int, Number],
    *,
    positions: Positions = "all",
    unit: Number | Float[Tensor, " d_sae"] = 1.0,
) -> AbstractContextManager:
    """Return a context in which each feature has the activation value * unit, whether it is active there or not.

    The unit is a number, or a row of `natural_activations`, from which each feature takes its own. No feature has a
    negative value by itself. Other arguments and errors as for `scale_features`; also a ValueError for a unit that is
    not above zero (a feature that is inactive there has no unit).
    """
    units = torch.as_tensor(unit, dtype=torch.float32, device="cpu").expand(len(dictionary.W_dec))[list(values)]
    if not bool(((units > 0) & units.isfinite()).all()):
        raise ValueError(f"Units must be finite and above zero, but the features {list(values)} have {units.tolist()}.")
    value = _amounts(values) * units
    return _editing_features(model, dictionary, list(values), lambda old: value.to(old) - old, positions)


@contextmanager
def scale_nodes(
    model: models.CheckedBridge,
    dictionaries: Sequence[Dictionary],
    nodes: Nodes,
    factor: float,
    *,
    positions: Positions = "all",
) -> Iterator[None]:
    """Return a context in which features of several layers are multiplied by one factor, as by `scale_features`."""
    with ExitStack() as stack:
        for layer, features in _by_layer(nodes).items():
            factors = dict.fromkeys(features, factor)
            stack.enter_context(scale_features(model, dictionaries[layer], factors, positions=positions))
        yield


@jaxtyped(typechecker=beartype)
def random_feature_sets(
    activations: Float[Tensor, " d_sae"], features: Sequence[int], *, n: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    """Return n sets of other features, each about as active as the given ones: the control of an edit of features.

    For every feature one of the `NEAREST` active ones by activation is drawn, none twice in a set. Nothing is as active
    as the loudest features: their sets are weaker edits, so compare with random directions of the edit's length too.

    Args:
        activations: At one position, a row of `natural_activations`.
        features: The features that are edited; in none of the sets.
        n: Number of sets.
        seed: Of the draws.

    Raises:
        ValueError: A feature that is inactive there.
    """
    if min(features) < 0 or not bool((activations[list(features)] > 0).all()):
        raise ValueError(f"A feature of {list(features)} is inactive there, so no feature is as active as it is.")
    others = [i for i in (activations > 0).nonzero().flatten().tolist() if i not in features]
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for _ in range(n):
        left, drawn = list(others), []
        for feature in features:
            left.sort(key=lambda other: float((activations[other] - activations[feature]).abs()))
            choice = int(torch.randint(min(NEAREST, len(left)), (1,), generator=generator))
            drawn.append(left.pop(choice))
        sets.append(tuple(drawn))
    return tuple(sets)


def random_node_sets(
    activations: Sequence[Float[Tensor, " d_sae"]], nodes: Nodes, *, n: int, seed: int
) -> list[list[tuple[int, int]]]:
    """Return n sets of other nodes, in each layer as many and as active as these: the control of `scale_nodes`.

    `activations` holds a row of `natural_activations` for each layer. Layer k draws with seed + k.
    """
    drawn = {
        layer: random_feature_sets(activations[layer], features, n=n, seed=seed + layer)
        for layer, features in _by_layer(nodes).items()
    }
    return [[(layer, feature) for layer, sets in drawn.items() for feature in sets[k]] for k in range(n)]


def _by_layer(nodes: Nodes) -> dict[int, list[int]]:
    layers = sorted({layer for layer, _ in nodes})
    if not layers or layers[0] < 0:
        raise ValueError(f"Expected nodes as (layer, feature), layers from 0; got {list(nodes)}.")
    return {layer: [feature for at, feature in nodes if at == layer] for layer in layers}


def _amounts(amounts: Mapping[int, Number]) -> Float[Tensor, " feature"]:
    numbers = torch.tensor([float(amount) for amount in amounts.values()])
    if not amounts or min(amounts) < 0 or not bool(numbers.isfinite().all()):
        raise ValueError(f"Expected features, counted from 0, each with a finite number; got {dict(amounts)}.")
    return numbers


@contextmanager
def _editing_features(
    model: models.CheckedBridge, dictionary: Dictionary, features: list[int], shift: Change, positions: Positions
) -> Iterator[None]:
    """Add to what the dictionary writes each feature's decoder row times shift(its activation)."""
    _check_linear(dictionary)
    about = dictionary.cfg.metadata
    rows = dictionary.W_dec[features].detach()
    read: dict[str, Tensor] = {}

    def change(written: Tensor) -> Tensor:
        old = dictionary.encode(read["x"].to(rows))[..., features]
        return written + (shift(old) @ rows).to(written)

    writes = getattr(about, "hook_name_out", None) or about.hook_name
    if not writes.endswith(WRITABLE):
        raise ValueError(f"An edit at {writes} does not reach the stream; these do: {', '.join(WRITABLE)}.")
    spared = getattr(about, "exclude_special_tokens", None) or ()
    with (
        model.hooks([(about.hook_name, models.may_be_padded(caching.keep(read, "x")))]),
        _editing(model, {writes: change}, positions, spared=spared),
    ):
        yield


def _check_linear(dictionary: Dictionary) -> None:
    """Raise ValueError unless decode is a sum of decoder rows and a constant, as an edit by decoder rows assumes."""
    with torch.no_grad():
        ones = torch.ones_like(dictionary.W_dec[None, :, 0])
        written = (dictionary.decode(ones) - dictionary.decode(0 * ones))[0]
        total = dictionary.W_dec.sum(dim=0)
    normalised = getattr(dictionary.cfg, "normalize_activations", "none") not in (None, "none")
    if normalised or float((written - total).norm()) > ROUNDING * max(1.0, float(total.norm())):
        what = "This dictionary rescales what it decodes. Fold that into its weights first"
        raise ValueError(f"{what} (sae_lens: fold_activation_norm_scaling_factor, fold_W_dec_norm).")


# --- which tokens are edited --------------------------------------------------------------------------------


@contextmanager
def _editing(
    model: models.CheckedBridge, changes: Mapping[str, Change], positions: Positions, *, spared: Collection[int] = ()
) -> Iterator[None]:
    """Replace each named activation by `change(activation)` at these positions, never at tokens that are `spared`."""
    if len(positions) == 0:
        raise ValueError('positions is empty, so nothing would change. Give "all", "last" or a list of positions.')
    everywhere = isinstance(positions, str) and positions == "all" and not spared
    named = all(isinstance(place, str) for place in positions)  # a number may lie outside a prompt: no padding
    run: dict[str, Tensor] = {}

    def hook_for(change: Change) -> Callable:
        def replace(activation: Tensor, hook: object) -> Tensor:
            if everywhere:
                return change(activation)
            mask = _mask(model, run["ids"], positions, spared)
            return torch.where(mask[..., None], change(activation), activation)

        return models.may_be_padded(replace) if named else replace

    hooks = [
        ("embed.hook_in", models.may_be_padded(caching.keep(run, "ids"))),
        *((name, hook_for(edit)) for name, edit in changes.items()),
    ]
    with model.hooks(hooks):
        yield


def _mask(
    model: models.CheckedBridge, ids: Int[Tensor, "batch pos"], positions: Positions, spared: Collection[int]
) -> Bool[Tensor, "batch pos"]:
    """Return True where a token is edited. Names are looked up in each prompt of the run."""
    mask = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    if isinstance(positions, str) and positions == "all":
        mask[:] = True
    elif ids.shape[1] > 1:  # else a token being generated
        places = [positions] if isinstance(positions, str) else positions
        for row, prompt in zip(mask, ids.tolist(), strict=True):
            row[[tokens.position_index(model.tokenizer, prompt, place) for place in places]] = True
    for token_id in spared:
        mask &= ids != token_id
    return mask


# --- report -------------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Outcome:
    """Replies under one intervention, and its cost on other prompts."""

    replies: tuple[str, ...]
    classes: tuple[str, ...]
    """The judge's class of each reply."""
    surprisal: Float[Tensor, " prompt"]
    """Of each reply under the unchanged model, nats a token: broken text surprises."""
    kl: Float[Tensor, " off_target"]
    """Nats a token, mean over the unchanged model's whole reply to each off-target prompt."""


@dataclass(frozen=True)
class Effect:
    """One number before and under an intervention, with intervals, and under each random intervention."""

    measure: str
    unchanged: Interval
    steered: Interval
    controls: tuple[float, ...]
    """Lowest first."""

    @property
    def band(self) -> tuple[float, float]:
        """Min and max of the controls."""
        return self.controls[0], self.controls[-1]

    @property
    def p_value(self) -> float:
        """Share of interventions, this one included, that move the number at least as far from the unchanged one.

        With 20 controls it cannot be below 1 / 21. It tests the direction, not the sample of prompts.
        """
        moved = abs(self.steered.estimate - self.unchanged.estimate)
        as_far = sum(abs(value - self.unchanged.estimate) >= moved for value in self.controls)
        return (1 + as_far) / (1 + len(self.controls))


@dataclass(frozen=True, eq=False)
class SteeringReport:
    """Outcomes of no intervention, of the one in question, and of each control, in this order."""

    outcomes: tuple[Outcome, ...]

    def share(self, label: str) -> Effect:
        """Return the share of replies of one of the judge's classes, with Wilson intervals."""
        return self._effect(
            f"share of {label!r}",
            lambda outcome: directions.wilson_interval(outcome.classes.count(label), len(outcome.classes)),
        )

    @property
    def kl(self) -> Effect:
        """Mean KL divergence off target, in nats a token of whole replies."""
        return self._effect("off-target KL", lambda outcome: directions.bootstrap_interval(outcome.kl))

    @property
    def surprisal(self) -> Effect:
        """Mean surprisal of the replies under the unchanged model, in nats a token."""
        return self._effect("surprisal", lambda outcome: directions.bootstrap_interval(outcome.surprisal))

    def _effect(self, measure: str, interval: Callable[[Outcome], Interval]) -> Effect:
        unchanged, steered, *controls = map(interval, self.outcomes)
        return Effect(measure, unchanged, steered, tuple(sorted(control.estimate for control in controls)))


def report(
    model: models.CheckedBridge,
    intervention: Callable[[], AbstractContextManager],
    *,
    prompts: models.Prompts,
    judge: Callable[[str], str],
    controls: Sequence[Callable[[], AbstractContextManager]],
    off_target: models.Prompts,
    max_new_tokens: int = 40,
    progress: bool = True,
) -> SteeringReport:
    """Return the effect of an intervention on replies and on off-target prompts, beside that of random controls.

    Args:
        model: From `models.load`, with no hook active.
        intervention: Returns the context anew at each call, such as `partial(steering.ablate, model, direction)`.
        prompts: Token ids, on target; at least two.
        judge: From a reply's text to its class, such as `organism.classify`.
        controls: At least `MIN_CONTROLS` interventions that should do nothing: random directions of the same length
            (`directions.random_directions`), random features of equal activation (`random_feature_sets`).
        off_target: Token ids of prompts on which nothing should change; at least two.
        max_new_tokens: A reply ends there at the latest, and may then be judged by its beginning only.
        progress: Show a progress bar.

    Raises:
        ValueError: Too few controls, active hooks, prompts that cannot be run.
    """
    if len(controls) < MIN_CONTROLS:
        raise ValueError(f"{len(controls)} controls were given: a band of chance needs at least {MIN_CONTROLS}.")
    if models.has_hooks(model):
        raise ValueError("The model has active hooks, so nothing is unchanged. Leave their context first.")

    def generate(asked: models.Prompts) -> list[list[int]]:
        return models.generate(model, asked, max_new_tokens=max_new_tokens)

    def logits(asked: models.Prompts, replies: list[list[int]]) -> list[Float[Tensor, "token d_vocab"]]:
        return models.reply_logits(model, asked, replies)

    usual = generate(off_target)
    plain = logits(off_target, usual)
    outcomes = []
    edits = [nullcontext, intervention, *controls]
    for edit in tqdm(edits, desc="interventions", disable=not progress):
        with edit():
            replies, edited = generate(prompts), logits(off_target, usual)
        texts = tuple(tokens.text(model.tokenizer, reply) for reply in replies)
        expected = zip(logits(prompts, replies), replies, strict=True)
        surprisal = torch.stack([cross_entropy(rows, torch.tensor(reply)) for rows, reply in expected])
        kl = torch.stack([directions.kl_divergence(p, q).mean() for p, q in zip(plain, edited, strict=True)])
        outcomes.append(Outcome(texts, tuple(map(judge, texts)), surprisal, kl))
    return SteeringReport(tuple(outcomes))
