"""Activation patching: put clean activations into a corrupted run, and see how much of the clean answer comes back.

Meng et al. (2022), https://arxiv.org/abs/2202.05262; Zhang and Nanda (2024), https://arxiv.org/abs/2309.16042:

1. A clean and a corrupted prompt of one length, token beside token, with opposite answers.
2. The corrupted prompt runs once for every place, with the clean activation at that place.
3. recovery = (patched - corrupted) / (clean - corrupted) of the logit difference: 0 where nothing came back, 1 where all of
   it did. It may exceed 1, and is no share: places do not add up.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib import models
from course_lib.attribution import Logit, check_prompt
from course_lib.caching import keep

BATCH_SIZE = 64
"""Patched prompts that run together."""


def patch_residual(
    model: models.CheckedBridge, clean_ids: models.Prompt, *, corrupted_ids: models.Prompt, target: Logit
) -> Float[Tensor, "layer position"]:
    """Return the recovery from the clean residual stream before each block, at each position alone.

    Args:
        model: From `models.load`.
        clean_ids: Token ids of the prompt whose activations are put in.
        corrupted_ids: Token ids of the prompt that runs, as many.
        target: Where the logit difference is read.

    Raises:
        ValueError: Prompts of unequal length or that cannot be run, active hooks, prompts with (nearly) the same logit
            difference, a run that is not finite.
    """
    chosen = torch.eye(len(clean_ids), dtype=torch.bool)[:, :, None]
    return _recovery(model, clean_ids, corrupted_ids, target, "hook_resid_pre", chosen)


def patch_heads(
    model: models.CheckedBridge, clean_ids: models.Prompt, *, corrupted_ids: models.Prompt, target: Logit
) -> Float[Tensor, "layer head"]:
    """Return the recovery from each head's clean output, at all positions. Arguments and errors as for `patch_residual`."""
    chosen = torch.eye(model.cfg.n_heads, dtype=torch.bool)[:, None, :, None]
    return _recovery(model, clean_ids, corrupted_ids, target, "attn.hook_z", chosen)


def check_pair(model: models.CheckedBridge, clean_ids: models.Prompt, corrupted_ids: models.Prompt) -> None:
    """Raise ValueError unless both prompts can be run and have one length."""
    check_prompt(model, clean_ids)
    check_prompt(model, corrupted_ids)
    if len(clean_ids) != len(corrupted_ids):
        both = f"The clean prompt has {len(clean_ids)} tokens, the corrupted one {len(corrupted_ids)}"
        raise ValueError(f"{both}: use one length.")


def run_logits(
    model: models.CheckedBridge, ids: Int[Tensor, "batch pos"], hooks: Sequence[tuple[str, Callable]] = ()
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits before any cap of a run with hooks; with gradients, unless the caller switched them off."""
    seen: dict[str, Tensor] = {}
    with model.hooks([*hooks, ("unembed.hook_out", keep(seen, "logits"))]):
        model(ids)
    return seen["logits"].float()


@torch.no_grad()
def _recovery(
    model: models.CheckedBridge,
    clean_ids: models.Prompt,
    corrupted_ids: models.Prompt,
    target: Logit,
    part: str,
    chosen: Bool[Tensor, "column ..."],
) -> Float[Tensor, "layer column"]:
    """Return the recovery with the clean activation where a column's row of `chosen` says so, in each layer's `part`."""
    check_pair(model, clean_ids, corrupted_ids)
    ids = torch.tensor([list(clean_ids), list(corrupted_ids)], device=model.cfg.device)
    names = [f"blocks.{layer}.{part}" for layer in range(models.n_layers(model))]
    kept: dict[str, Tensor] = {}
    logits = run_logits(model, ids, [(name, keep(kept, name)) for name in names])
    models.check_finite(model, ids.tolist(), logits)
    clean, corrupted = target.value(logits).tolist()
    if abs(clean - corrupted) < 1e-6 * max(1.0, abs(clean)):
        raise ValueError(f"Both prompts have the same logit difference ({clean:.4g}): nothing to recover.")
    recovery = torch.empty(len(names), len(chosen))
    for layer, name in enumerate(names):
        for rows in torch.arange(len(chosen)).split(BATCH_SIZE):
            at, new = chosen[rows].to(ids.device), kept[name][:1]
            edits = [(name, lambda old, hook, at=at, new=new: torch.where(at, new, old))]
            patched = target.value(run_logits(model, ids[1:].expand(len(rows), -1), edits))
            recovery[layer, rows] = (patched.cpu() - corrupted) / (clean - corrupted)
    return recovery
