"""How much of a direction, put where, does something: a table over doses and places of a text that is held fixed.

1. The text, a prompt with the beginning of its reply, is given; the model does not choose a word of it.
2. At one place at a time, dose * direction is added to the input of one layer, as `add` does it at one position.
3. A score of the next-token logits is read at the same place, or at others behind it. Nothing before the edit can change.
4. The same with random directions of the same length: the control.

Every combination of text, place, dose and direction is one row of a batch, which is why this is cheap.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import directions, models
from course_lib.directions import Interval
from course_lib.steering.reporting import MIN_CONTROLS, Score
from course_lib.steering.vectors import check_vectors, resid_pre

Places = Mapping[str, Sequence[int]]
"""Name of a place -> its index in each prompt, counted from 0."""


@dataclass(frozen=True)
class Dose:
    """One cell of the table: mean score over the prompts, and the same under each random direction."""

    coefficient: float
    place: str
    read_at: str
    score: float
    unchanged: float
    controls: tuple[float, ...]
    """Lowest first."""

    @property
    def band(self) -> tuple[float, float]:
        """Least and most of the controls."""
        return self.controls[0], self.controls[-1]


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class DoseResponse:
    """Scores by coefficient, edited place and place of reading, for the direction and for random ones."""

    coefficients: tuple[float, ...]
    places: tuple[str, ...]
    read_at: tuple[str, ...]
    """("the same place",) where nothing else was asked for."""
    scores: Float[Tensor, "coefficient place read prompt"]
    """NaN where a place of reading lies before the edited place: nothing can reach it."""
    unchanged: Float[Tensor, "place read prompt"]
    controls: Float[Tensor, "seed coefficient place read prompt"]

    def at(self, coefficient: float, place: str, *, read_at: str | None = None) -> Dose:
        """One cell, by its labels.

        Raises:
            ValueError: A label that the table does not have.
        """
        read = self.read_at[0] if read_at is None else read_at
        for name, label, known in (
            ("coefficient", coefficient, self.coefficients),
            ("place", place, self.places),
            ("read_at", read, self.read_at),
        ):
            if label not in known:
                raise ValueError(f"The table has no {name} {label!r}. It has: {', '.join(map(str, known))}.")
        c, p, r = self.coefficients.index(coefficient), self.places.index(place), self.read_at.index(read)
        controls = tuple(sorted(self.controls[:, c, p, r].mean(dim=-1).tolist()))
        means = float(self.scores[c, p, r].mean()), float(self.unchanged[p, r].mean())
        return Dose(coefficient, place, read, *means, controls)

    def interval(self, coefficient: float, place: str, *, read_at: str | None = None) -> Interval:
        """Bootstrap interval of that cell's mean over prompts."""
        cell = self.at(coefficient, place, read_at=read_at)
        c, p, r = (self.coefficients.index(coefficient), self.places.index(place), self.read_at.index(cell.read_at))
        return directions.bootstrap_interval(self.scores[c, p, r])

    def top(self, k: int = 5) -> tuple[Dose, ...]:
        """The k cells that stand farthest above the highest control."""
        labels = product(self.coefficients, self.places, self.read_at)
        cells = [self.at(c, place, read_at=read) for c, place, read in labels]
        known = [cell for cell in cells if not math.isnan(cell.score)]
        return tuple(sorted(known, key=lambda cell: cell.band[1] - cell.score)[:k])


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def dose_response(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    direction: Float[Tensor, " d_model"],
    *,
    layer: int,
    coefficients: Sequence[float | int],
    places: Places,
    score: Score,
    read_at: Places | None = None,
    n_random: int = MIN_CONTROLS,
    seed: int = 0,
    batch_size: int = 256,
    progress: bool = True,
) -> DoseResponse:
    """Score of the next token for every coefficient and place of `add`, with random directions of the same length.

    Args:
        model: From `models.load`, with no hook active.
        prompts: Token ids, each with the part of the reply that is held fixed.
        direction: What to add, taken as it is.
        layer: At whose input.
        coefficients: Multiples of the direction.
        places: Where to add: a name and the index in each prompt, counted from 0.
        score: From logits [row, d_vocab] to one number a row, such as
            `partial(directions.refusal_score, refusal_token_ids=[...])`.
        read_at: Where to read the score, likewise; by default where it was added.
        n_random: Random directions, at least `MIN_CONTROLS`.
        seed: Of the random directions.
        batch_size: Rows run at once at most.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any work: prompts that cannot be run, active hooks, a layer or place that does not exist, a
            direction of another width, numbers that are not finite, too few random directions.
    """
    reads = places if read_at is None else read_at
    _check(model, prompts, direction, coefficients, places, reads, n_random)
    tried = torch.stack([direction, *directions.random_directions(n_random, like=direction, seed=seed)])
    vectors = torch.tensor([float(c) for c in coefficients]).to(tried)[:, None] * tried[:, None]
    labels = ("the same place",) if read_at is None else tuple(reads)

    def rows(vectors: Float[Tensor, "... d_model"]) -> Iterator[_Row]:
        for vector, name, number in product(vectors.flatten(end_dim=-2), places, range(len(prompts))):
            index = places[name][number]
            yield _Row(number, index, vector, [index] if read_at is None else [at[number] for at in reads.values()])

    def scored(vectors: Float[Tensor, "... d_model"], *, show: bool) -> Float[Tensor, "... place read prompt"]:
        found = _run(model, prompts, resid_pre(model, layer), list(rows(vectors)), score, batch_size, show)
        return found.view(*vectors.shape[:-1], len(places), len(prompts), len(labels)).transpose(-1, -2)

    found, unchanged = scored(vectors, show=progress), scored(torch.zeros_like(direction)[None], show=False)[0]
    unreached = torch.tensor(
        [[[at[n] < places[name][n] for n in range(len(prompts))] for at in reads.values()] for name in places]
    )
    if read_at is not None:
        found = found.masked_fill(unreached, math.nan)
    return DoseResponse(tuple(map(float, coefficients)), tuple(places), labels, found[0], unchanged, found[1:])


@dataclass(frozen=True, eq=False)
class _Row:
    """One run: a vector added at one index of one prompt, and where to read."""

    prompt: int
    index: int
    vector: Tensor
    reads: list[int]


def _run(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    hook_name: str,
    rows: list[_Row],
    score: Score,
    batch_size: int,
    progress: bool,
) -> Float[Tensor, "row read"]:
    """The score at every place of reading of every row."""
    found = torch.empty(len(rows), len(rows[0].reads))
    ids = [prompts[row.prompt][: max(row.reads) + 1] for row in rows]  # what stands behind is not read
    with tqdm(total=len(rows), desc="doses", unit="run", disable=not progress) as bar:
        for batch in models.batches(model, ids, batch_size=batch_size, equal_lengths=False):
            part = [rows[index] for index in batch.indices]
            reads = torch.tensor([row.reads for row in part])
            keep, columns = reads.unique(return_inverse=True)
            with model.hooks([(hook_name, _addition(part))]):
                logits = model.original_model(
                    batch.tokens, use_cache=False, logits_to_keep=keep.to(batch.tokens.device)
                ).logits
            chosen = logits[torch.arange(len(part))[:, None], columns].float().cpu()
            found[batch.indices] = score(chosen.flatten(end_dim=1)).float().view(reads.shape)
            bar.update(len(part))
    return found


def _addition(rows: Sequence[_Row]) -> Callable:
    """A hook that adds each row's vector at its index."""

    def shift(activation: Tensor, hook: object) -> Tensor:
        moves, length = torch.zeros_like(activation), activation.shape[1]
        reached = [(n, row) for n, row in enumerate(rows) if row.index < length]
        for n, row in reached:
            moves[n, row.index] = row.vector.to(moves)
        return activation + moves

    return shift


def _check(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    direction: Float[Tensor, " d_model"],
    coefficients: Sequence[float | int],
    places: Places,
    reads: Places,
    n_random: int,
) -> None:
    check_vectors(model, direction)
    models.check_prompts(model, prompts)
    if models.has_hooks(model):
        raise ValueError("The model has active hooks. Leave their context first: the table adds its own.")
    if not coefficients or not places or not reads or n_random < MIN_CONTROLS:
        raise ValueError(
            f"A table needs at least one coefficient and place, and {MIN_CONTROLS} random directions; got "
            f"{len(coefficients)} coefficients, {len(places)} places, {n_random} directions."
        )
    if not all(map(math.isfinite, coefficients)):
        raise ValueError(f"The coefficients must be finite numbers, not {list(coefficients)}.")
    for name, indices in [*places.items(), *reads.items()]:
        if len(indices) != len(prompts):
            raise ValueError(
                f"The place {name!r} has {len(indices)} indices for {len(prompts)} prompts. Give one for each."
            )
        for number, (index, prompt) in enumerate(zip(indices, prompts, strict=True)):
            if not 0 <= index < len(prompt):
                raise ValueError(f"The place {name!r} is {index} in prompt {number}, which has {len(prompt)} tokens.")
