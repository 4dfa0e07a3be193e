"""Contributions of components to the logits and to one another: direct logit attribution, edge attribution patching.

* Elhage et al. (2021), https://transformer-circuits.pub/2021/framework/index.html: with the norms' denominators held at
  their values, a logit is a linear function of the final stream, and that stream is a sum over components: `direct_logit`.
* Syed et al. (2023), https://arxiv.org/abs/2310.10348 (edge attribution patching, EAP), and Hanna et al. (2024),
  https://arxiv.org/abs/2403.17806 (with integrated gradients, EAP-IG): `eap`.

The stream that a component reads is the sum of what earlier components wrote, so every two have an edge. It is corrupted by
giving its destination, and no other, what the source writes on the corrupted prompt. EAP estimates what the clean prompt's
logit difference loses by that: (clean - corrupted output of the source) . (gradient of the logit difference at the stream
that the destination reads), all edges from two runs and one backward pass. EAP-IG averages the gradient along the straight
line from the corrupted to the clean embeddings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course_lib import models
from course_lib.attribution import FrozenRun, Logit, check_blocks, gain, record
from course_lib.caching import keep
from course_lib.patching import check_pair, run_logits


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """One number for every edge between components, positions taken together.

    Sources are components, as in `direct_logit`; destinations are the query, key and value inputs of heads ("L2.H5.q"; with
    shared keys and values the number after H is the shared one's), MLPs ("L2.MLP") and "logits".
    """

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    exists: Bool[Tensor, "source destination"]
    """True if the source is written before the destination reads."""
    values: Float[Tensor, "source destination"]
    """How much of the logit difference the edge carries; 0 where no edge exists."""

    def nodes(self) -> dict[str, float]:
        """Return the sum over each component's outgoing edges: attribution patching of components."""
        return dict(zip(self.sources, self.values.sum(dim=1).tolist(), strict=True))


@torch.no_grad()
def direct_logit(model: models.CheckedBridge, prompt_ids: models.Prompt, *, target: Logit) -> dict[str, float]:
    """Return what the "embedding", each head ("L2.H5"), each MLP ("L2.MLP") and the "biases" add to a logit difference.

    The parts sum to it. Only what is written at the target's own position, straight to the logits: not what a component did for
    later components to read, nor what it did to the denominators of the last norm and of norms after attention and MLP. In
    logits before any cap. The biases are those of attention's output and the unembedding, 0 in a Llama; a head's own value
    bias is in its part.

    Raises:
        ValueError: A prompt that cannot be run, active hooks, a model of another shape.
    """
    run = record(model, prompt_ids[: range(len(prompt_ids))[target.position] + 1])
    direction, bias = run.unembedding(target)
    reads = direction * run.gains["ln_final"][-1]
    parts = dict(zip(_components(model), (written(run)[:, -1] @ reads).tolist(), strict=True))
    return parts | {"biases": float((run.b_O * run.post_gain[:, -1]).sum(dim=0) @ reads) + bias}


def eap(
    model: models.CheckedBridge,
    clean_prompts: models.Prompts,
    *,
    corrupted_prompts: models.Prompts,
    targets: Sequence[Logit],
    steps: int = 1,
) -> EdgeScores:
    """Return edge attribution patching scores, their mean over pairs of prompts.

    A positive score supports the clean answer. It misses what only a large change shows: a saturated attention pattern has no
    gradient.

    Args:
        model: From `models.load`.
        clean_prompts: Token ids of each clean prompt.
        corrupted_prompts: Token ids of each one's partner, of the same length.
        targets: Where the logit difference of each pair is read.
        steps: 1 takes the gradient at the clean prompt (EAP); more average it over that many points up to the clean prompt
            (EAP-IG; 5 as published).

    Raises:
        ValueError: Unequal numbers or lengths of prompts, prompts that cannot be run, active hooks, a model of another shape.
    """
    pairs = list(zip(clean_prompts, corrupted_prompts, targets, strict=True))
    for clean_ids, corrupted_ids, _ in pairs:
        check_pair(model, clean_ids, corrupted_ids)
    destinations, exists = wiring(model)
    total = sum(_estimate(model, *pair, steps) for pair in pairs)
    return EdgeScores(_components(model), destinations, exists, exists * total / len(pairs))


def _components(model: models.CheckedBridge) -> tuple[str, ...]:
    """Return the names of all components that write to the stream, in order."""
    names = ["embedding"]
    for layer in range(models.n_layers(model)):
        names += [*(f"L{layer}.H{head}" for head in range(model.cfg.n_heads)), f"L{layer}.MLP"]
    return tuple(names)


def wiring(model: models.CheckedBridge) -> tuple[tuple[str, ...], Bool[Tensor, "source destination"]]:
    """Return the names of all destinations, and True where a component is written before a destination reads."""
    check_blocks(model)
    names, n_before = [], []
    for layer, block in enumerate(model.blocks):
        first = 1 + layer * (model.cfg.n_heads + 1)
        heads = [f"L{layer}.H{n}.{kind}" for kind, weight in _inputs(block.attn) for n in range(len(weight))]
        names += [*heads, f"L{layer}.MLP"]
        n_before += [*[first] * len(heads), first + model.cfg.n_heads]
    n_components = len(_components(model))
    return (*names, "logits"), torch.arange(n_components)[:, None] < torch.tensor([*n_before, n_components])


def written(run: FrozenRun) -> Float[Tensor, "source pos d_model"]:
    """Return what each component adds to the stream."""
    blocks = torch.cat([run.head_outputs(), run.mlp_out[:, None]], dim=1).flatten(0, 1)
    return torch.cat([run.embedding[None], blocks])


def _inputs(attention: Any) -> tuple[tuple[str, Tensor], ...]:
    """Return (kind, weight [head, d_model, d_head]) of queries, keys and values."""
    return ("q", attention.W_Q), ("k", attention.W_K), ("v", attention.W_V)


def _estimate(
    model: models.CheckedBridge, clean_ids: models.Prompt, corrupted_ids: models.Prompt, target: Logit, steps: int
) -> Float[Tensor, "source destination"]:
    """Return the scores of one pair, also where no edge exists."""
    clean, corrupted = (written(record(model, ids)) for ids in (clean_ids, corrupted_ids))
    change = clean - corrupted
    points = torch.arange(1, steps + 1, device=change.device)[:, None, None] / steps
    gradient = _gradients(model, clean_ids, corrupted[0] + points * change[0], target)
    return torch.einsum("spd,vpd->sv", change, gradient).cpu()


def _gradients(
    model: models.CheckedBridge, ids: models.Prompt, embeddings: Float[Tensor, "step pos d_model"], target: Logit
) -> Float[Tensor, "destination pos d_model"]:
    """Return the gradient of the mean logit difference at the stream that each destination reads."""
    streams: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    hooks = [("hook_embed", lambda activation, hook: embeddings.to(activation).requires_grad_())]
    for at in (f"blocks.{layer}" for layer in range(models.n_layers(model))):
        hooks.append((f"{at}.ln1.hook_in", keep(streams, at)))
        hooks += [(f"{at}.attn.{kind}.hook_out", _own_copy(read, f"{at}.{kind}")) for kind in "qkv"]
        hooks.append((f"{at}.ln2.hook_in", _own_copy(read, f"{at}.mlp")))
    hooks.append(("ln_final.hook_in", _own_copy(read, "final")))
    with torch.enable_grad():
        batch = torch.tensor([list(ids)], device=model.cfg.device).expand(len(embeddings), -1)
        metric = target.value(run_logits(model, batch, hooks)).mean()
        gradient = dict(zip(read, torch.autograd.grad(metric, list(read.values())), strict=True))
    found = []
    for layer, block in enumerate(model.blocks):
        at = f"blocks.{layer}"
        for kind, weight in _inputs(block.attn):
            by_head = gradient[f"{at}.{kind}"].float().reshape(*embeddings.shape[:2], len(weight), -1)
            normed = torch.einsum("bphe,hde->hbpd", by_head, weight.detach().float())
            found.append(_through_norm(model, block.ln1, streams[at], normed).sum(dim=1))
        found.append(gradient[f"{at}.mlp"].float().sum(dim=0, keepdim=True))
    return torch.cat([*found, gradient["final"].float().sum(dim=0, keepdim=True)])


def _own_copy(into: dict[str, Tensor], name: str) -> Callable:
    """Return a hook that passes a copy on, whose gradient is that of this one destination and not of the whole stream."""

    def copy(activation: Tensor, hook: object) -> Tensor:
        into[name] = activation.clone()
        return into[name]

    return copy


def _through_norm(
    model: models.CheckedBridge,
    norm: torch.nn.Module,
    x: Float[Tensor, "step pos d_model"],
    gradient: Float[Tensor, "head step pos d_model"],
) -> Float[Tensor, "head step pos d_model"]:
    """Return the gradient at a norm's input x, given that at its output."""
    with torch.enable_grad():
        x = x.detach().float().expand_as(gradient).requires_grad_()
        return torch.autograd.grad(x * gain(model, norm, x), x, gradient)[0]
