"""Does the model use what a probe reads? Interventions come in as functions, so this room runs no model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import directions
from course_lib.probing.probes import Probe

Intervention = Callable[[Probe | None], Tensor | Sequence[float] | Sequence[bool]]
"""Runs the model with a probe's `step` ablated, or added at its `layer`, and returns one outcome a prompt (1 if it
refused, or a probability). With None, the model is left alone."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class CausalEffect:
    """What an intervention along a probe's direction does to an outcome, beside random directions of its length."""

    name: str
    unchanged: directions.Interval
    """Mean outcome of the model left alone."""
    changed: directions.Interval
    """Mean outcome under the intervention."""
    difference: directions.Interval
    """Changed minus unchanged, prompt by prompt."""
    random: Float[Tensor, " direction"]
    """Mean outcome under the same intervention along each random direction."""

    @property
    def causes(self) -> bool:
        """Whether the outcome moves beyond chance, and further than along any of the random directions.

        False says only that *this* intervention on *these* prompts did nothing; the model may use the direction for
        something else, or keep a copy elsewhere.
        """
        moved = not self.difference.low <= 0 <= self.difference.high
        others = (self.random - self.unchanged.estimate).abs()
        return moved and abs(self.difference.estimate) > float(others.max())


def causal_effect(
    probe: Probe, intervention: Intervention, *, name: str = "intervention", n_random: int = 20, seed: int = 0
) -> CausalEffect:
    """The effect of an intervention along the probe's direction, and along `n_random` random ones as its control.

    With 20 random directions, a direction that does nothing comes out ahead of all in 1 of 21 trials. Intervals cover
    the prompts only.

    Args:
        probe: From a fit or a `ProbeReport`.
        intervention: Called 2 + n_random times: with None, with the probe, and with probes of the same place and
            length whose direction is random.
        name: For the report.
        n_random: How many random directions.
        seed: Of the random directions.

    Raises:
        ValueError: No random directions; outcomes that are not one finite number a prompt, for at least 2 prompts and
            the same prompts each time.
    """
    if n_random < 1:
        raise ValueError("An effect needs at least one random direction to be compared with.")
    unchanged = _outcomes(intervention, None, name)
    changed = _outcomes(intervention, probe, name, len(unchanged))
    controls = [
        _outcomes(intervention, replace(probe, direction=direction), name, len(unchanged)).mean()
        for direction in directions.random_directions(n_random, like=probe.direction, seed=seed)
    ]
    intervals = map(directions.bootstrap_interval, (unchanged, changed, changed - unchanged))
    return CausalEffect(name, *intervals, torch.stack(controls))


def _outcomes(intervention: Intervention, probe: Probe | None, name: str, n: int | None = None) -> Tensor:
    outcomes = torch.as_tensor(intervention(probe), dtype=torch.float64).cpu()
    if outcomes.ndim != 1 or len(outcomes) < 2 or n not in (None, len(outcomes)) or not bool(outcomes.isfinite().all()):
        expected = f"{n} as for the model left alone" if n else "at least 2"
        raise ValueError(
            f"Intervention {name!r} must return one finite number a prompt ({expected}); it returned shape "
            f"{tuple(outcomes.shape)}, {int((~outcomes.isfinite()).sum())} of them not finite."
        )
    return outcomes
