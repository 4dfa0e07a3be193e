"""Change what a model computes while it runs: ablate a direction, or add one. Weights are never touched.

The interventions of Arditi et al. (2024), https://arxiv.org/abs/2406.11717, section 2.4, with r of length 1:

1. `ablate`: c' = c - (c . r) r for every c that is written to the residual stream, at every position.
2. `add`: a' = a + coefficient * direction at the input of one layer.
3. `add_projection_matched`: a' = a - (a . r) r + target * r, which sets the reach along r.
4. `score_candidates` measures, for each candidate direction, what `course_lib.directions.select` decides on;
   `sweep` finds the same winner and runs only what the decision needs.

All are context managers; they nest, in the order in which they are entered. Hooks compute new tensors and
never write into the model's own, and the model is as before when the context ends, however it ends.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from beartype import beartype
from jaxtyping import Bool, Float, jaxtyped
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
    layers, positions = _checked_labels(model, candidates, layers, positions)
    _check_validation(model, harmful, harmless, refusal_token_ids)
    unchanged = models.next_token_logits(model, harmless, batch_size=batch_size)

    def score(next_token_logits: Tensor) -> float:
        return float(directions.refusal_score(next_token_logits, refusal_token_ids).mean())

    negligible = _negligible(candidates)
    places = [(p, column) for p in range(len(positions)) for column in range(len(layers))]
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


def _checked_labels(
    model: models.CheckedBridge,
    candidates: Float[Tensor, "position layer d_model"],
    layers: Sequence[int] | None,
    positions: Sequence[int | str] | None,
) -> tuple[Sequence[int], Sequence[int | str]]:
    """Layers and positions of the candidates, which fit them and the model."""
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
    return layers, positions


def _check_validation(
    model: models.CheckedBridge, harmful: models.Prompts, harmless: models.Prompts, refusal_token_ids: Sequence[int]
) -> None:
    models.check_prompts(model, harmful)
    models.check_prompts(model, harmless)
    directions.refusal_score(torch.zeros(model.cfg.d_vocab), refusal_token_ids)  # refuses bad token ids


def _negligible(candidates: Float[Tensor, "*place d_model"]) -> Bool[Tensor, "*place"]:
    lengths = candidates.norm(dim=-1)
    return lengths <= NEGLIGIBLE * lengths.max()


# --- sweep --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swept:
    """The winner of a `sweep`, why every other candidate lost, and what it took to know."""

    winner: directions.Candidate
    """As `directions.select` finds it, all three scores measured on all prompts."""
    dropped: tuple[tuple[directions.Candidate, str], ...]
    """The others in their order, each with one reason: the first that was found, not every filter that it
    fails. A score is NaN unless it was measured on all prompts."""
    cost: float
    """Tokens run through the whole model; a run that starts at layer l of L counts (L - l) / L."""
    exhaustive_cost: float
    """The same for `score_candidates`."""


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def sweep(
    model: models.CheckedBridge,
    candidates: Float[Tensor, "position layer d_model"],
    *,
    harmful: models.Prompts,
    harmless: models.Prompts,
    refusal_token_ids: Sequence[int],
    max_kl: float = 0.1,
    min_induce: float = 0.0,
    max_depth: float = 0.8,
    layers: Sequence[int] | None = None,
    positions: Sequence[int | str] | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Swept:
    """The winner of `directions.select(score_candidates(...))`, at a fraction of the runs.

    Candidates of late layers are not run. Of the others induce comes first: what the layers below the candidate
    put out is remembered from the unchanged run, so that only those above are run. Who is left is ablated: KL on
    the first batch, bypass, the rest of KL, in the order of the induce scores. Every mean over prompts is known
    between bounds before its last batch (KL is at least 0, a refusal score between -18.42 and 18.42), and a
    candidate is given up as soon as no outcome of its other prompts can make it the winner.

    So nothing is estimated, but most scores are never known: where all of them are wanted, to plot them or to
    see who would win without filters, use `score_candidates`. Arguments as there and for `directions.select`.

    Raises:
        ValueError: As for `score_candidates`; and if no candidate passes the filters, with counts.
    """
    layers, positions = _checked_labels(model, candidates, layers, positions)
    _check_validation(model, harmful, harmless, refusal_token_ids)
    last = int(max_depth * models.n_layers(model))
    rows = [directions.Candidate(layer, p, math.nan, math.nan, math.nan) for p in positions for layer in layers]
    vectors = candidates.flatten(0, 1)
    run = _Sweep(model, rows, vectors, harmful, harmless, refusal_token_ids, batch_size, progress)
    run.drop_late_layers(last)
    run.drop_weak(min_induce)
    winner = run.best(max_kl)
    if winner is None:
        reasons = dict(Counter(reason.split()[0] for reason in run.dropped.values()))
        raise ValueError(
            f"None of {len(rows)} candidates passes the filters (KL <= {max_kl}, induce >= {min_induce}, layer < "
            f"{last}); they were dropped for {reasons}. Check the refusal tokens and the prompts before you loosen "
            "a filter."
        )
    dropped = tuple((run.rows[i], run.dropped[i]) for i in sorted(run.dropped))
    n_harmful, n_harmless = (sum(map(len, prompts)) for prompts in (harmful, harmless))
    exhaustive = len(rows) * (n_harmful + 2 * n_harmless) + n_harmless
    return Swept(run.rows[winner], dropped, run.cost, float(exhaustive))


@dataclass(eq=False)
class _Sweep:
    """The candidates, why some of them are out of the race, and the tokens run so far."""

    model: models.CheckedBridge
    rows: list[directions.Candidate]
    vectors: Float[Tensor, "candidate d_model"]
    harmful: models.Prompts
    harmless: models.Prompts
    refusal_token_ids: Sequence[int]
    batch_size: int
    progress: bool

    def __post_init__(self) -> None:
        self.dropped: dict[int, str] = {}
        self.cost = 0.0
        self.negligible = _negligible(self.vectors)
        self.unchanged = torch.empty(len(self.harmless), self.model.cfg.d_vocab)
        self.limit = math.log1p(1 / directions.PROBABILITY_FLOOR)  # no refusal score is further from zero

    @property
    def alive(self) -> list[int]:
        """Who is still in the race."""
        return [i for i in range(len(self.rows)) if i not in self.dropped]

    def drop_late_layers(self, last: int) -> None:
        self.dropped |= {i: f"layer {row.layer} >= {last}" for i, row in enumerate(self.rows) if row.layer >= last}

    def drop_weak(self, min_induce: float) -> None:
        """Drop who does not induce refusal, on the way to the logits of the unchanged model."""
        highest = torch.full((len(self.rows), len(self.harmless)), self.limit)
        batches = self._batches(self.harmless)
        for indices, prompts in tqdm(batches, desc="induce", unit="batch", disable=not self.progress):
            if not self.alive:
                break
            with _recording(self.model) as outputs:
                self.unchanged[indices] = self._logits(prompts)
            for i in self.alive:
                highest[i, indices] = self._score(self._induced(i, indices, prompts, outputs))
                if not highest[i].mean() >= min_induce:  # written so that a NaN is dropped
                    self.dropped[i] = f"induce at most {highest[i].mean():.2f} < {min_induce}"
        for i in self.alive:
            self.rows[i] = replace(self.rows[i], induce=float(highest[i].mean()))

    def best(self, max_kl: float) -> int | None:
        """Who has the lowest bypass score among those with a small KL."""
        first, *rest = [("KL", *batch) for batch in self._batches(self.harmless)]
        steps = [first, *(("bypass", *batch) for batch in self._batches(self.harmful)), *rest]
        winner, likeliest_first = None, sorted(self.alive, key=lambda i: -self.rows[i].induce)
        for i in tqdm(likeliest_first, desc="bypass and KL", unit="direction", disable=not self.progress):
            if self._wins(i, winner, steps, max_kl):
                if winner is not None:
                    self.dropped[winner] = f"bypass {self.rows[winner].bypass:.2f}, beaten by {self.rows[i].bypass:.2f}"
                winner = i
        return winner

    def _wins(self, i: int, winner: int | None, steps: list[tuple[str, list[int], list]], max_kl: float) -> bool:
        """Whether the candidate has a small KL and beats the winner so far; of two equals the first one wins."""
        to_beat = (math.inf, 0) if winner is None else (self.rows[winner].bypass, winner)
        bypass, kl = torch.full((len(self.harmful),), -self.limit), torch.zeros(len(self.harmless))
        with nullcontext() if self.negligible[i] else ablate(self.model, self.vectors[i]):
            for measure, indices, prompts in steps:
                logits = self._logits(prompts)
                if measure == "KL":
                    kl[indices] = directions.kl_divergence(self.unchanged[indices], logits)
                else:
                    bypass[indices] = self._score(logits)
                if not kl.mean() <= max_kl:
                    self.dropped[i] = f"KL at least {kl.mean():.2f} > {max_kl}"
                    return False
                if not (float(bypass.mean()), i) < to_beat:
                    self.dropped[i] = f"bypass at least {bypass.mean():.2f}, beaten by {to_beat[0]:.2f}"
                    return False
        self.rows[i] = replace(self.rows[i], bypass=float(bypass.mean()), kl=float(kl.mean()))
        return True

    def _batches(self, prompts: models.Prompts) -> list[tuple[list[int], list]]:
        batches = models.batches(self.model, prompts, batch_size=self.batch_size, equal_lengths=True)
        return [(batch.indices, [prompts[i] for i in batch.indices]) for batch in batches]

    def _induced(
        self, i: int, indices: list[int], prompts: models.Prompts, outputs: list
    ) -> Float[Tensor, "prompt d_vocab"]:
        if self.negligible[i]:
            return self.unchanged[indices]
        layer = self.rows[i].layer
        recalled = _recalling(self.model, outputs[:layer])
        with recalled, add(self.model, self.vectors[i], layer=layer, coefficient=1.0):
            return self._logits(prompts, first_layer=layer)

    def _logits(self, prompts: models.Prompts, *, first_layer: int = 0) -> Float[Tensor, "prompt d_vocab"]:
        share = 1 - first_layer / models.n_layers(self.model)
        self.cost += share * sum(len(prompt) for prompt in prompts)
        return models.next_token_logits(self.model, prompts, batch_size=len(prompts))

    def _score(self, logits: Float[Tensor, "prompt d_vocab"]) -> Float[Tensor, " prompt"]:
        return directions.refusal_score(logits, self.refusal_token_ids)


@contextmanager
def _recording(model: models.CheckedBridge) -> Iterator[list]:
    """A context whose value fills with what the blocks return."""
    outputs: list = []
    handles = []
    try:
        for block in model.blocks:
            handles.append(block.register_forward_hook(lambda _, __, output: outputs.append(output)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _recalling(model: models.CheckedBridge, outputs: list) -> Iterator[None]:
    """A context in which the first blocks compute nothing and return these outputs."""
    blocks = list(model.blocks)[: len(outputs)]
    try:
        for block, output in zip(blocks, outputs, strict=True):
            vars(block)["forward"] = lambda *_, output=output, **__: output  # setattr would reach what it wraps
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


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
        raise ValueError(f"Layer {layer} does not exist: this model has layers 0 to {models.n_layers(model) - 1}.")
    return f"blocks.{layer}.hook_resid_pre"


def check_vectors(model: models.CheckedBridge, vectors: Float[Tensor, "*batch d_model"]) -> None:
    """Do nothing if the vectors are finite and of the model's width, else raise."""
    if vectors.shape[-1] != models.d_model(model):
        raise ValueError(
            f"The direction has {vectors.shape[-1]} entries, this model's residual stream "
            f"{models.d_model(model)}. Was it found in another model?"
        )
    if vectors.is_meta or not bool(torch.isfinite(vectors).all()):
        raise ValueError("The direction holds a NaN or an infinite number, or is on the device 'meta' and holds none.")
