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
from jaxtyping import Float, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import models
from course_lib.attribution.frozen import Prompt, check_prompt
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
    positions: Sequence | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Patching:
    """Recovery from the clean residual stream before every layer (`resid_pre`), at one position at a time.

    Args:
        model: From `models.load`.
        clean_ids: Token ids of the prompt whose activations are put in.
        corrupted_ids: Token ids of the prompt that runs, as many.
        target: Where the logit difference is read.
        positions: Columns: each a position, or a group of positions that are patched together. By default
            every position by itself.
        batch_size: Prompts run at once at most.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any patch: prompts of unequal length or that cannot be run, a position outside them,
            a target that does not exist, active hooks, prompts with (nearly) the same logit difference.
    """
    pair = _Pair.of(model, clean_ids, corrupted_ids, target)
    columns = tuple(range(len(clean_ids))) if positions is None else tuple(map(_column, positions))
    groups = [[column] if isinstance(column, int) else list(column) for column in columns]
    outside = [p for group in groups for p in group if not -len(clean_ids) <= p < len(clean_ids)]
    if outside or not columns:
        raise ValueError(
            f"positions must be places in a prompt of {len(clean_ids)} tokens, at least one; got {positions}."
        )

    def put(corrupted: Tensor, clean: Tensor, rows: Sequence[int]) -> Tensor:
        patched = corrupted.clone()
        for row, number in enumerate(rows):
            patched[row, groups[number]] = clean[groups[number]]
        return patched

    return pair.patch("hook_resid_pre", columns, put, batch_size, progress)


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
    pair = _Pair.of(model, clean_ids, corrupted_ids, target)

    def put(corrupted: Tensor, clean: Tensor, rows: Sequence[int]) -> Tensor:
        patched = corrupted.clone()
        for row, head in enumerate(rows):
            patched[row, :, head] = clean[:, head]
        return patched

    return pair.patch("attn.hook_z", tuple(range(model.cfg.n_heads)), put, batch_size, progress)


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


def _column(position: int | Sequence[int]) -> int | tuple[int, ...]:
    return position if isinstance(position, int) else tuple(position)


@dataclass(frozen=True, eq=False)
class _Pair:
    model: models.CheckedBridge
    clean_ids: Prompt
    corrupted_ids: Prompt
    target: Logit
    clean: float
    corrupted: float

    @classmethod
    def of(cls, model: models.CheckedBridge, clean_ids: Prompt, corrupted_ids: Prompt, target: Logit) -> "_Pair":
        check_pair(model, clean_ids, corrupted_ids)
        target = resolve(model, target, len(clean_ids))
        ids = torch.tensor([list(clean_ids), list(corrupted_ids)], device=model.cfg.device)
        clean, corrupted = difference(model(ids).float(), target).tolist()
        check_difference(clean, corrupted)
        return cls(model, clean_ids, corrupted_ids, target, clean, corrupted)

    def patch(self, part: str, columns: tuple, put: Callable, batch_size: int, progress: bool) -> Patching:
        """Recovery with `put(corrupted, clean, columns of the batch)` in the place of each layer's `part`."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
        model, device = self.model, self.model.cfg.device
        names = [f"blocks.{layer}.{part}" for layer in range(models.n_layers(model))]
        _, cache = model.run_with_cache(torch.tensor([list(self.clean_ids)], device=device), names_filter=names)
        values = torch.empty(len(names), len(columns))
        for layer, name in enumerate(tqdm(names, desc="patch", unit="layer", disable=not progress)):
            for begin in range(0, len(columns), batch_size):
                rows = range(len(columns))[begin : begin + batch_size]
                ids = torch.tensor([list(self.corrupted_ids)], device=device).expand(len(rows), -1)
                hook = _patching_hook(put, cache[name][0], rows)
                patched = difference(model.run_with_hooks(ids, fwd_hooks=[(name, hook)]).float(), self.target)
                values[layer, list(rows)] = ((patched - self.corrupted) / (self.clean - self.corrupted)).cpu()
        return Patching(values, columns, self.clean, self.corrupted)


def _patching_hook(put: Callable, clean: Tensor, rows: Sequence[int]) -> Callable:
    return lambda activation, hook: put(activation, clean, rows)
