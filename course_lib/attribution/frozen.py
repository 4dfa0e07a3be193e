"""One run of a model with everything that is not linear outside the MLPs written down.

With the attention patterns and the norms' denominators held at their values on one prompt, a Llama-shaped model is linear
between its MLPs: a norm multiplies each entry of the stream by a constant (its *gain*, the weight over the root mean
square), and a head mixes positions by constant weights before two fixed matrices. That also holds for norms after attention
and MLP and for capped attention scores (Gemma 2); a cap on the logits stays outside: a logit is here what it is before its
cap. `record` keeps those constants, and refuses a model of another shape by comparing each linear piece with the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from torch import Tensor

from course_lib import models

Prompt = models.Prompt

TOLERANCE = 0.02
"""Largest difference between a linear piece and the model, as a share of the piece's largest entry: rounding in
bfloat16 stays below it, another shape of model does not."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class FrozenRun:
    """What one prompt's forward pass holds constant, and what flowed through it: float32, on the model's device."""

    prompt_ids: tuple[int, ...]
    embedding: Float[Tensor, "pos d_model"]
    patterns: Float[Tensor, "layer head query key"]
    z: Float[Tensor, "layer pos head d_head"]
    gains: dict[str, Float[Tensor, "pos d_model"]]
    """What each norm ("blocks.0.ln1", ..., "ln_final") multiplies the stream by."""
    mlp_in: Float[Tensor, "layer pos d_model"]
    mlp_out: Float[Tensor, "layer pos d_model"]
    """As it is added to the stream, behind the norm after the MLP if there is one."""
    logits: Float[Tensor, "pos d_vocab"]
    """Before any cap."""
    W_V: Float[Tensor, "layer head d_model d_head"]
    W_O: Float[Tensor, "layer head d_head d_model"]
    b_V: Float[Tensor, "layer head d_head"]
    b_O: Float[Tensor, "layer d_model"]
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"]

    @property
    def n_layers(self) -> int:
        return len(self.patterns)

    @cached_property
    def post_gain(self) -> Float[Tensor, "layer pos d_model"]:
        """What attention's output is multiplied by before it is added to the stream: ones, where no norm follows it."""
        ones = torch.ones_like(self.embedding)
        return torch.stack([self.gains.get(f"blocks.{layer}.ln1_post", ones) for layer in range(self.n_layers)])

    def attention_bias(self, *, values: bool) -> Float[Tensor, "layer pos d_model"]:
        """What b_O adds to the stream; with `values` every head's b_V too, which patterns that sum to 1 pass on whole."""
        own = torch.einsum("lhe,lhed->ld", self.b_V, self.W_O) if values else 0.0
        return (self.b_O + own)[:, None] * self.post_gain

    def unembedding(self, token: int, minus: int | None) -> tuple[Float[Tensor, " d_model"], float]:
        """Direction and constant whose sum a logit minus another (or minus the mean of all) is."""
        others = range(len(self.b_U)) if minus is None else [minus]
        against, constant = self.W_U[:, list(others)].mean(dim=1), self.b_U[list(others)].mean()
        return self.W_U[:, token] - against, float(self.b_U[token] - constant)

    def attention_backward(
        self, layer: int, gradient: Float[Tensor, "target pos d_model"]
    ) -> Float[Tensor, "target pos d_model"]:
        """Gradient at the block's input through its attention, given the gradient at what attention adds."""
        at_z = torch.einsum("tqd,hed->tqhe", gradient * self.post_gain[layer], self.W_O[layer])
        at_v = torch.einsum("tqhe,hqk->tkhe", at_z, self.patterns[layer]).flatten(2)
        return at_v @ self.W_V[layer].transpose(1, 2).flatten(0, 1) * self.gains[f"blocks.{layer}.ln1"]

    def head_outputs(self) -> Float[Tensor, "layer head pos d_model"]:
        """What each head adds to the stream, its value bias included, without b_O."""
        return torch.einsum("lphe,lhed->lhpd", self.z, self.W_O) * self.post_gain[:, None]


@torch.no_grad()
def record(model: models.CheckedBridge, prompt_ids: Prompt) -> FrozenRun:
    """The frozen run of one prompt.

    Raises:
        ValueError: A prompt that cannot be run; active hooks; a model that is not linear between its MLPs once patterns
            and norms are frozen; a run that is not finite, with the place where that begins.
    """
    check_prompt(model, prompt_ids)
    layers, parts = range(models.n_layers(model)), ("attn.hook_pattern", "attn.hook_z", "hook_attn_out", "hook_mlp_out")
    norms = _norms(model)
    names = [
        *(f"blocks.{layer}.{part}" for layer in layers for part in parts),
        "hook_embed",
        "unembed.hook_out",
        *(f"{norm}.{side}" for norm in norms for side in ("hook_in", "hook_out")),
    ]
    _, cache = model.run_with_cache(torch.tensor([list(prompt_ids)], device=model.cfg.device), names_filter=names)
    seen = {name: cache[name][0].float() for name in names}
    models.check_finite(model, [prompt_ids], seen["unembed.hook_out"][None])

    def stacked(part: str) -> Tensor:
        return torch.stack([seen[f"blocks.{layer}.{part}"] for layer in layers])

    run = FrozenRun(
        prompt_ids=tuple(int(i) for i in prompt_ids),
        embedding=seen["hook_embed"],
        patterns=stacked("attn.hook_pattern"),
        z=stacked("attn.hook_z"),
        gains={name: gain(model, model.get_submodule(name), seen[f"{name}.hook_in"]) for name in norms},
        mlp_in=stacked("ln2.hook_out"),
        mlp_out=stacked("hook_mlp_out"),
        logits=seen["unembed.hook_out"],
        **_weights(model),
    )
    _check_linear(run, seen, stacked("hook_attn_out"), stacked("ln1.hook_out"))
    return run


def check_prompt(model: models.CheckedBridge, prompt_ids: Prompt) -> None:
    """Do nothing if this one prompt can be run by a model that nothing is hooked to, else raise."""
    if len(prompt_ids) and isinstance(prompt_ids[0], Sequence) and not isinstance(prompt_ids[0], str):
        raise ValueError("One prompt (a list of ids) is expected here, not a list of prompts. Write prompts[0].")
    models.check_prompts(model, [prompt_ids])
    if models.has_hooks(model):
        raise ValueError(
            "The model has active hooks, and attribution would describe the edited model without their edits. "
            "Leave the intervention's context first."
        )


def run_logits(
    model: models.CheckedBridge, ids: Int[Tensor, "batch pos"], hooks: Sequence[tuple[str, Callable]] = ()
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits before any cap, of a run with hooks; with gradients, unless the caller switched them off."""
    seen = []
    with model.hooks([*hooks, ("unembed.hook_out", lambda logits, hook: seen.append(logits))]):
        model(ids)
    return seen[0].float()


def keep(into: dict[str, Tensor], name: str) -> Callable:
    """A hook that only looks: it puts the activation into `into` under `name`."""
    return lambda activation, hook: into.update({name: activation})


def gain(
    model: models.CheckedBridge, norm: torch.nn.Module, x: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """What a norm multiplies its input x by, entry by entry: its weight over x's root mean square."""
    scale = (x.float().pow(2).mean(dim=-1, keepdim=True) + model.cfg.eps).rsqrt()
    return models.norm_weight(model, norm) * scale


def _norms(model: models.CheckedBridge) -> list[str]:
    """Names of the norms before attention and MLP, of those after them if there are any, and of the last one."""
    kinds = ["ln1", "ln2", *(kind for kind in ("ln1_post", "ln2_post") if kind in model.blocks[0]._modules)]
    return [*(f"blocks.{layer}.{kind}" for layer in range(models.n_layers(model)) for kind in kinds), "ln_final"]


def _weights(model: models.CheckedBridge) -> dict[str, Tensor]:
    """Value and output matrices of every head (shared values repeated), biases, and the unembedding."""
    n_heads, rows = model.cfg.n_heads, []
    for attention in (block.attn for block in model.blocks):
        W_V, W_O = attention.W_V.detach().float(), attention.W_O.detach().float()
        b_V = W_V.new_zeros(1) if attention.b_V is None else attention.b_V.detach().float()
        b_O = W_O.new_zeros(1) if attention.b_O is None else attention.b_O.detach().float()
        b_V = b_V.reshape(-1, 1 if attention.b_V is None else W_V.shape[2]).expand(len(W_V), W_V.shape[2])
        shared = [x.repeat_interleave(n_heads // len(W_V), 0) for x in (W_V, b_V)]
        rows.append((shared[0], W_O, shared[1], b_O.expand(W_O.shape[2])))
    stacked = dict(zip(("W_V", "W_O", "b_V", "b_O"), map(torch.stack, zip(*rows, strict=True)), strict=True))
    return stacked | {"W_U": model.W_U.detach().float(), "b_U": model.b_U.detach().float()}


def _check_linear(run: FrozenRun, seen: dict[str, Tensor], attn_out: Tensor, attn_in: Tensor) -> None:
    """Compare every linear piece with what the model computed."""
    values = torch.einsum("lkd,lhde->lkhe", attn_in, run.W_V) + run.b_V[:, None]
    heads = run.head_outputs().sum(dim=1) + run.attention_bias(values=False)
    stream = run.embedding + attn_out.sum(dim=0) + run.mlp_out.sum(dim=0)
    pieces = {name: (seen[f"{name}.hook_in"] * gain, seen[f"{name}.hook_out"]) for name, gain in run.gains.items()} | {
        "attention's mixing": (torch.einsum("lhqk,lkhe->lqhe", run.patterns, values), run.z),
        "attention's output": (heads, attn_out),
        "the residual stream": (stream, seen["ln_final.hook_in"]),
        "the unembedding": (seen["ln_final.hook_out"] @ run.W_U + run.b_U, run.logits),
    }
    for name, (linear, actual) in pieces.items():
        if (linear - actual).abs().max() > TOLERANCE * actual.abs().max():
            raise ValueError(
                f"{name} of this model is not the one this module splits up (RMSNorm before attention and MLP, and "
                "perhaps after). Use a Llama-, Mistral-, Qwen- or Gemma-shaped model."
            )
