"""Lenses: which word does the residual stream already hold before a block, if the rest of the model were one linear map?

1. The *logit lens* (nostalgebraist 2020, https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru) leaves the rest out: last norm and
   unembedding are applied at once.
2. A *tuned lens* (Belrose et al. 2023, https://arxiv.org/abs/2303.08112) puts an affine map before them, fitted to the
   stream after the last block: here by least squares, where the paper minimises the KL divergence.
3. A *Jacobian lens* puts the mean derivative of the stream after the last block there. It is fitted to no word: what it reads
   is what the model itself, to first order and on average, will make of it.

A lens answers for every vector, a random one too, and "it reads *bomb*" is no proof that anything later uses it: compare with
shuffled labels and random vectors, and ablate what was read.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib import caching, models


@dataclass(frozen=True)
class Lens:
    """One affine map a layer, from the stream before a block (or after the last one) to the stream after the last block."""

    maps: Float[Tensor, "layer d_model d_model"]
    offsets: Float[Tensor, "layer d_model"]

    def logits(
        self, model: models.CheckedBridge, x: Float[Tensor, "*batch d_model"], layer: int
    ) -> Float[Tensor, "*batch d_vocab"]:
        """Return the logits that the lens reads in streams `x` before block `layer` (n_layers: after the last block)."""
        end, network = x.to(self.maps) @ self.maps[layer].T + self.offsets[layer], cast(Any, model.original_model)
        normed = model.ln_final(end.to(network.dtype).reshape(1, -1, end.shape[-1]))
        logits: Tensor = cast(Any, model).unembed(normed)[0]
        cap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
        return (torch.tanh(logits / cap) * cap if cap else logits).reshape(*end.shape[:-1], -1)


def stream_hooks(model: models.CheckedBridge) -> list[str]:
    """Return the names of the hooks of the residual stream: before every block, then after the last one."""
    last = models.n_layers(model) - 1
    return [*(f"blocks.{layer}.hook_resid_pre" for layer in range(last + 1)), f"blocks.{last}.hook_resid_post"]


def logit_lens(model: models.CheckedBridge) -> Lens:
    """Return the lens that takes the stream for what it will be after the last block."""
    shape = len(stream_hooks(model)), models.d_model(model)
    return Lens(torch.eye(shape[1]).repeat(shape[0], 1, 1), torch.zeros(shape))


def tuned_lens(model: models.CheckedBridge, prompts: models.Prompts, *, penalty: float = 1e-3) -> Lens:
    """Return the least-squares map from each layer's stream at the last token to that after the last block.

    Args:
        model: From `models.load`.
        prompts: None on which the lens is scored; better more than the stream has coordinates.
        penalty: Of squared weights, as a share of the stream's mean square (ridge).

    Raises:
        ValueError: As `caching.harvest` raises it.
    """
    x = caching.harvest(model, prompts, hook_names=stream_hooks(model), progress=False).values[:, 0].transpose(0, 1)
    x = x - (means := x.mean(dim=1, keepdim=True))
    ridge = penalty * len(prompts) * x.pow(2).mean(dim=(1, 2), keepdim=True).clamp(min=1e-9) * torch.eye(x.shape[-1])
    maps = torch.linalg.solve(x.mT @ x + ridge, x.mT @ x[-1]).mT
    return Lens(maps, (means[-1] - means @ maps.mT)[:, 0])


def jacobian_lens(model: models.CheckedBridge, prompts: models.Prompts, *, batch_size: int = 128) -> Lens:
    """Return the mean derivative of the stream after the last block by each layer's, both at the last token of a prompt.

    The last token is read once for each coordinate of the stream, `batch_size` copies at a time, after a prompt that is
    kept as keys and values. No offset: what does not depend on the stream at this token is left out.

    Raises:
        ValueError: Prompts that cannot be run.
    """
    models.check_prompts(model, prompts)
    names, width, network = stream_hooks(model), models.d_model(model), cast(Any, model.original_model)
    total, kept = torch.zeros(len(names), width, width), dict[str, Tensor]()

    def keep(activation: Tensor, hook: Any) -> Tensor:
        kept[hook.name] = activation if activation.requires_grad else activation.detach().requires_grad_()
        return kept[hook.name]

    for prompt, rows in product(prompts, torch.arange(width).split(batch_size)):
        ids = torch.tensor([list(prompt)] * len(rows), device=model.cfg.device)
        with torch.no_grad():
            cache = network(ids[:1, :-1], use_cache=True, output_attentions=False).past_key_values
            cache.batch_repeat_interleave(len(rows))
        with torch.enable_grad(), model.hooks([(name, keep) for name in names]):
            network(ids[:, -1:], past_key_values=cache, use_cache=True, output_attentions=False)
            streams = list(kept.values())  # in the order of their blocks; of the k-th copy the k-th row is taken
            slopes = torch.autograd.grad(streams[-1][range(len(rows)), -1, rows].sum(), streams)
        total[:, rows] += torch.stack([slope[:, -1] for slope in slopes]).float().cpu()
    return Lens(total / len(prompts), torch.zeros(len(names), width))
