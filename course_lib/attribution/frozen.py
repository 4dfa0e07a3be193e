"""One run of a model with everything that is not linear outside the MLPs written down.

With the attention patterns and the norms' denominators held at their values on one prompt, a Llama-shaped model
is linear between its MLPs: a norm multiplies each entry of the stream by a constant (its *gain*, the weight over
the root mean square), and a head mixes positions by constant weights before two fixed matrices. `record` keeps
those constants, and refuses a model of another shape by comparing each linear piece with what the model did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import models

Prompt = Annotated[Sequence, "token ids of one prompt"]

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
    attn_gain: Float[Tensor, "layer pos d_model"]
    """What the norm before attention multiplies the stream by."""
    mlp_gain: Float[Tensor, "layer pos d_model"]
    final_gain: Float[Tensor, "pos d_model"]
    mlp_in: Float[Tensor, "layer pos d_model"]
    mlp_out: Float[Tensor, "layer pos d_model"]
    logits: Float[Tensor, "pos d_vocab"]
    W_V: Float[Tensor, "layer head d_model d_head"]
    W_O: Float[Tensor, "layer head d_head d_model"]
    b_V: Float[Tensor, "layer head d_head"]
    b_O: Float[Tensor, "layer d_model"]
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"]

    @property
    def n_layers(self) -> int:
        return len(self.patterns)

    @property
    def attn_bias(self) -> Float[Tensor, "layer d_model"]:
        """What attention adds whatever it reads: every head's b_V W_O, since patterns sum to 1, and b_O."""
        return torch.einsum("lhe,lhed->ld", self.b_V, self.W_O) + self.b_O

    def unembedding(self, token: int, minus: int | None) -> tuple[Float[Tensor, " d_model"], float]:
        """Direction and constant whose sum a logit minus another (or minus the mean of all) is."""
        others = range(len(self.b_U)) if minus is None else [minus]
        against, constant = self.W_U[:, list(others)].mean(dim=1), self.b_U[list(others)].mean()
        return self.W_U[:, token] - against, float(self.b_U[token] - constant)

    def attention_backward(
        self, layer: int, gradient: Float[Tensor, "target pos d_model"]
    ) -> Float[Tensor, "target pos d_model"]:
        """Gradient at the block's input through its attention, given the gradient at its attention output."""
        n_targets, n_tokens, width = gradient.shape
        _, n_heads, d_head, _ = self.W_O.shape
        at_z = gradient @ self.W_O[layer].reshape(-1, width).T
        at_z = at_z.view(n_targets, n_tokens, n_heads, d_head)
        at_v = torch.einsum("tqhe,hqk->tkhe", at_z, self.patterns[layer]).reshape(n_targets, n_tokens, -1)
        return at_v @ self.W_V[layer].transpose(1, 2).reshape(-1, width) * self.attn_gain[layer]

    def head_outputs(self) -> Float[Tensor, "layer head pos d_model"]:
        """What each head writes to the stream, its value bias included, without b_O."""
        return torch.einsum("lphe,lhed->lhpd", self.z, self.W_O)


@torch.no_grad()
def record(model: models.CheckedBridge, prompt_ids: Prompt) -> FrozenRun:
    """The frozen run of one prompt.

    Raises:
        ValueError: A prompt that cannot be run; active hooks; a model that is not linear between its MLPs once
            patterns and norms are frozen (not Llama-shaped).
    """
    check_prompt(model, prompt_ids)
    layers = range(models.n_layers(model))
    parts = ("ln1.hook_in", "ln1.hook_scale", "ln1.hook_out", "ln2.hook_in", "ln2.hook_scale", "ln2.hook_out",
             "attn.hook_pattern", "attn.hook_z", "hook_attn_out", "hook_mlp_out")  # fmt: skip
    final = ("ln_final.hook_in", "ln_final.hook_scale", "ln_final.hook_out", "hook_embed")
    names = [*(f"blocks.{layer}.{part}" for layer in layers for part in parts), *final]
    models.check_hook_names(model, names)
    logits, cache = model.run_with_cache(
        torch.tensor([list(prompt_ids)], device=model.cfg.device), names_filter=names
    )

    def stacked(part: str) -> Tensor:
        return torch.stack([cache[f"blocks.{layer}.{part}"][0].float() for layer in layers])

    seen = {part: stacked(part) for part in parts} | {name: cache[name][0].float() for name in final}
    run = FrozenRun(
        prompt_ids=tuple(int(i) for i in prompt_ids),
        embedding=seen["hook_embed"],
        patterns=seen["attn.hook_pattern"],
        z=seen["attn.hook_z"],
        attn_gain=_block_gains(model, "ln1") / seen["ln1.hook_scale"],
        mlp_gain=_block_gains(model, "ln2") / seen["ln2.hook_scale"],
        final_gain=norm_gain(model, model.ln_final) / seen["ln_final.hook_scale"],
        mlp_in=seen["ln2.hook_out"],
        mlp_out=seen["hook_mlp_out"],
        logits=logits[0].float(),
        **_weights(model),
    )
    _check_linear(run, seen)
    return run


def check_prompt(model: models.CheckedBridge, prompt_ids: Prompt) -> None:
    """Do nothing if this one prompt can be run by a model that nothing is hooked to, else raise."""
    if len(prompt_ids) and not isinstance(prompt_ids[0], int | str):
        raise ValueError(
            "One prompt (a list of ids) is expected here, not a list of prompts. Write prompts[0]."
        )
    models.check_prompts(model, [prompt_ids])
    if models.has_hooks(model):
        raise ValueError(
            "The model has active hooks, and attribution would describe the edited model without their edits. "
            "Leave the intervention's context first."
        )


def norm_gain(model: models.CheckedBridge, norm: torch.nn.Module) -> Float[Tensor, " d_model"]:
    """A norm's weight as it multiplies; the Bridge fires `hook_normalized` before this."""
    offset = 1.0 if getattr(model.cfg, "rmsnorm_uses_offset", False) else 0.0
    return norm.weight.detach().float() + offset


def _block_gains(model: models.CheckedBridge, norm: str) -> Float[Tensor, "layer 1 d_model"]:
    return torch.stack([norm_gain(model, getattr(block, norm)) for block in model.blocks])[:, None]


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


def _check_linear(run: FrozenRun, seen: dict[str, Tensor]) -> None:
    """Compare every linear piece with what the model computed."""
    values = torch.einsum("lkd,lhde->lkhe", seen["ln1.hook_out"], run.W_V) + run.b_V[:, None]
    mixed = torch.einsum("lhqk,lkhe->lqhe", run.patterns, values)
    stream = run.embedding + seen["hook_attn_out"].sum(dim=0) + run.mlp_out.sum(dim=0)
    pieces = {
        "the norm before attention": (seen["ln1.hook_in"] * run.attn_gain, seen["ln1.hook_out"]),
        "the norm before the MLP": (seen["ln2.hook_in"] * run.mlp_gain, seen["ln2.hook_out"]),
        "attention's mixing": (mixed, run.z),
        "attention's output": (run.head_outputs().sum(dim=1) + run.b_O[:, None], seen["hook_attn_out"]),
        "the residual stream": (stream, seen["ln_final.hook_in"]),
        "the last norm": (seen["ln_final.hook_in"] * run.final_gain, seen["ln_final.hook_out"]),
        "the unembedding": (seen["ln_final.hook_out"] @ run.W_U + run.b_U, run.logits),
    }
    for name, (linear, actual) in pieces.items():
        if float((linear - actual).abs().max()) > TOLERANCE * float(actual.abs().max()):
            raise ValueError(
                f"{name[0].upper() + name[1:]} of this model is not the one this module splits up (Llama-shaped: "
                "RMSNorm before attention and MLP, none after, no cap on logits). Use a Llama-, Mistral- or "
                "Qwen-shaped model."
            )
