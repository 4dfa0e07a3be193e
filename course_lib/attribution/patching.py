"""Exact activation patching: put clean activations into a corrupted run, and see how much comes back.

Meng et al. (2022), https://arxiv.org/abs/2202.05262; Zhang and Nanda (2024), https://arxiv.org/abs/2309.16042:

1. A clean and a corrupted prompt of one length, token beside token, with opposite answers.
2. The corrupted prompt runs once for every place, with the clean activation at that place.
3. recovery = (patched - corrupted) / (clean - corrupted) of the logit difference: 0 where nothing came back, 1
   where all of it did. It may exceed 1, and is no share: places do not add up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from beartype import beartype
from jaxtyping import Bool, Float, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import models
from course_lib.attribution.frozen import Prompt, check_prompt, keep, run_logits
from course_lib.attribution.nodes import Logit, resolve


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Patching:
    """Recovery at every place, from `patch_residual` or `patch_heads`."""

    values: Float[Tensor, "layer column"]
    columns: tuple[int | tuple[int, ...], ...]
    """Positions (or groups of them) for the residual stream, numbers of heads for heads."""
    clean: float
    """Logit difference on the clean prompt."""
    corrupted: float
    """Logit difference on the corrupted prompt."""

    def top(self, k: int = 10) -> tuple[tuple[int, int | tuple[int, ...], float], ...]:
        """(layer, column, recovery) of the k places that bring back most."""
        order = self.values.flatten().topk(min(k, self.values.numel())).indices.tolist()
        places = [divmod(place, len(self.columns)) for place in order]
        return tuple((layer, self.columns[j], float(self.values[layer, j])) for layer, j in places)


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def patch_residual(
    model: models.CheckedBridge,
    clean_ids: Prompt,
    *,
    corrupted_ids: Prompt,
    target: Logit,
    positions: Sequence[int | Sequence[int]] | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Patching:
    """Recovery from the clean residual stream before every block, at one position or group of them at a time.

    Args:
        model: From `models.load`.
        clean_ids: Token ids of the prompt whose activations are put in.
        corrupted_ids: Token ids of the prompt that runs, as many.
        target: Where the logit difference is read.
        positions: Columns: each a position, or a group that is patched together. By default every position by itself.
        batch_size: Prompts run at once at most.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any patch: prompts of unequal length or that cannot be run, a position outside them, a target
            that does not exist, active hooks, prompts with (nearly) the same logit difference, a run that is not finite.
    """
    check_pair(model, clean_ids, corrupted_ids)
    n_tokens = len(clean_ids)
    columns = tuple(
        p if isinstance(p, int) else tuple(p) for p in (range(n_tokens) if positions is None else positions)
    )
    groups = [[column] if isinstance(column, int) else list(column) for column in columns]
    if not columns or any(not -n_tokens <= place < n_tokens for group in groups for place in group):
        raise ValueError(f"positions must be places in a prompt of {n_tokens} tokens, at least one; got {positions}.")
    chosen = torch.zeros(len(columns), n_tokens, 1, dtype=torch.bool)
    for row, group in enumerate(groups):
        chosen[row, group] = True
    return _patch(model, clean_ids, corrupted_ids, target, "hook_resid_pre", columns, chosen, batch_size, progress)


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def patch_heads(
    model: models.CheckedBridge,
    clean_ids: Prompt,
    *,
    corrupted_ids: Prompt,
    target: Logit,
    batch_size: int = 64,
    progress: bool = True,
) -> Patching:
    """Recovery from one head's clean output, at all positions. Arguments and errors as for `patch_residual`."""
    check_pair(model, clean_ids, corrupted_ids)
    columns = tuple(range(model.cfg.n_heads))
    chosen = torch.eye(len(columns), dtype=torch.bool)[:, None, :, None]
    return _patch(model, clean_ids, corrupted_ids, target, "attn.hook_z", columns, chosen, batch_size, progress)


def check_pair(model: models.CheckedBridge, clean_ids: Prompt, corrupted_ids: Prompt) -> None:
    """Do nothing if both prompts can be run and have one length, else raise."""
    check_prompt(model, clean_ids)
    check_prompt(model, corrupted_ids)
    if len(clean_ids) != len(corrupted_ids):
        raise ValueError(
            f"The clean prompt has {len(clean_ids)} tokens, the corrupted one {len(corrupted_ids)}. Patching puts "
            "position beside position: write prompts of one length."
        )


def difference(logits: Float[Tensor, "*batch pos d_vocab"], target: Logit) -> Float[Tensor, "*batch"]:
    """The logit difference at the target's position."""
    row = logits[..., target.position, :]
    return row[..., target.token] - (row.mean(dim=-1) if target.minus is None else row[..., target.minus])


def check_difference(clean: float, corrupted: float) -> None:
    """Do nothing if the two prompts differ in the metric, else raise."""
    if abs(clean - corrupted) < 1e-6 * max(1.0, abs(clean)):
        raise ValueError(
            f"Clean and corrupted prompt have the same logit difference ({clean:.4g}), so there is nothing to "
            "recover. Choose a pair, or a target, that they disagree on."
        )


def _patch(
    model: models.CheckedBridge,
    clean_ids: Prompt,
    corrupted_ids: Prompt,
    target: Logit,
    part: str,
    columns: tuple,
    chosen: Bool[Tensor, "column ..."],
    batch_size: int,
    progress: bool,
) -> Patching:
    """Recovery with the clean activation where a column's row of `chosen` says so, in each layer's `part`."""
    target = resolve(model, target, len(clean_ids))
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    ids = torch.tensor([list(clean_ids), list(corrupted_ids)], device=model.cfg.device)
    names, kept = [f"blocks.{layer}.{part}" for layer in range(models.n_layers(model))], {}
    logits = run_logits(model, ids, [(name, keep(kept, name)) for name in names])
    models.check_finite(model, ids.tolist(), logits)
    clean, corrupted = difference(logits, target).tolist()
    check_difference(clean, corrupted)
    values = torch.empty(len(names), len(columns))
    for layer, name in enumerate(tqdm(names, desc="patch", unit="layer", disable=not progress)):
        for rows in torch.arange(len(columns)).split(batch_size):
            hook = (name, _putting(kept[name][:1], chosen[rows].to(ids.device)))
            patched = difference(run_logits(model, ids[1:].expand(len(rows), -1), [hook]), target).cpu()
            values[layer, rows] = (patched - corrupted) / (clean - corrupted)
    return Patching(values, columns, clean, corrupted)


def _putting(clean: Tensor, chosen: Bool[Tensor, "column ..."]) -> Callable:
    return lambda corrupted, hook: torch.where(chosen, clean, corrupted)
