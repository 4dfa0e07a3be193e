"""Does a circuit do what the whole model does? The circuit localisation scores of MIB.

Mueller et al. (2025), "MIB: A Mechanistic Interpretability Benchmark", https://arxiv.org/abs/2504.13151:

1. A circuit C_k is the share k of all edges with the largest scores; the other edges are corrupted.
2. f(k) = (m(C_k) - m(empty)) / (m(whole) - m(empty)), with m the mean logit difference over clean prompts.
3. CPR, the area under f (higher is better): are the parts that make the answer found early?
   CMD, the area between f and 1 (lower is better): does the circuit act like the model, not beyond it?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import models
from course_lib.attribution.edges import make_pairs, no_scores
from course_lib.attribution.nodes import Logit
from course_lib.attribution.scores import EdgeScores

MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The sizes at which MIB measures, as shares of all edges."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class FaithfulnessCurve:
    """Faithfulness of circuits of growing size, from `faithfulness`."""

    shares: tuple[float, ...]
    n_edges: tuple[int, ...]
    values: Float[Tensor, " size"]
    """f(k): 0 acts like the corrupted prompt, 1 like the whole model, more goes beyond it."""

    @property
    def cpr(self) -> float:
        """Area under f over the share of edges (trapezoids, from the smallest share on): higher is better."""
        return float(torch.trapezoid(self.values, torch.tensor(self.shares)))

    @property
    def cmd(self) -> float:
        """Area between f and 1: lower is better."""
        return float(torch.trapezoid((1 - self.values).abs(), torch.tensor(self.shares)))


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def faithfulness(
    model: models.CheckedBridge,
    clean_prompts: models.Prompts,
    *,
    corrupted_prompts: models.Prompts,
    target: Logit | Sequence[Logit],
    scores: EdgeScores,
    rank: Literal["size", "signed"] = "size",
    shares: Sequence[float] = MIB_SHARES,
) -> FaithfulnessCurve:
    """Faithfulness of the circuits that edge scores choose. Print a second kind of corruption beside it.

    Use other prompts than those the scores were made with, and random scores as the control: what a corrupted
    prompt puts in decides much of the number.

    Args:
        model, clean_prompts, corrupted_prompts, target: As for `exact_edges`.
        scores: From `eap` or `exact_edges`.
        rank: Take edges by "size", which finds what acts against the answer too; or "signed", for CPR alone.
        shares: Sizes of the circuits, growing, above 0 and at most 1.

    Raises:
        ValueError: As `exact_edges`; scores of another model; shares that do not grow.
    """
    if not shares or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] > 1:
        raise ValueError(f"shares must grow and lie above 0 and at most at 1; got {list(shares)}.")
    wiring = no_scores(model)
    if (scores.sources, scores.destinations) != (wiring.sources, wiring.destinations):
        raise ValueError("These scores have other edges than this model has. Were they made with another model?")
    if not bool(torch.isfinite(scores.values).all()):
        raise ValueError("The scores hold a NaN or an infinite number, so they have no order.")
    pairs = make_pairs(model, clean_prompts, corrupted_prompts, target)
    n_edges = [max(1, round(share * int(wiring.exists.sum()))) for share in shares]
    ranked = scores.values.abs() if rank == "size" else scores.values
    order = ranked.masked_fill(~wiring.exists, -torch.inf).flatten().argsort(descending=True)
    masks = torch.zeros(len(shares), wiring.exists.numel())
    for row, n in enumerate(n_edges):
        masks[row, order[:n]] = 1.0
    masks = masks.view(len(shares), *wiring.exists.shape)
    reached = torch.stack([pair.run(masks) for pair in pairs]).mean(dim=0)
    whole, empty = (sum(getattr(pair, name) for pair in pairs) / len(pairs) for name in ("clean", "corrupted"))
    return FaithfulnessCurve(tuple(map(float, shares)), tuple(n_edges), (reached - empty) / (whole - empty))
