"""What a set of transcoders, one per layer, makes of a frozen run: feature activations and what they miss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import models
from course_lib.attribution.frozen import FrozenRun

Transcoders = Annotated[Sequence, "sae_lens transcoders, one per layer, that read the MLP's input"]
READS = ("mlp.hook_in", "ln2.hook_out")


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Encoded:
    """Features of one prompt, and the part of each MLP's output that they leave over."""

    activations: Float[Tensor, "layer pos d_sae"]
    errors: Float[Tensor, "layer pos d_model"]
    """MLP output minus the transcoder's output."""


@torch.no_grad()
def encode(run: FrozenRun, transcoders: Transcoders) -> Encoded:
    """Feature activations and error vectors of a frozen run, after `check`."""
    activations, errors = [], []
    for layer, transcoder in enumerate(transcoders):
        active = transcoder.encode(run.mlp_in[layer]).float()
        _check_linear_when_active(layer, transcoder, run.mlp_in[layer], active)
        activations.append(active)
        errors.append(run.mlp_out[layer] - active @ transcoder.W_dec.float() - transcoder.b_dec.float())
    return Encoded(torch.stack(activations), torch.stack(errors))


def pre_activation(transcoder: torch.nn.Module, x: Float[Tensor, "*batch d_model"]) -> Tensor:
    """What a feature's threshold is compared with: x W_enc + b_enc."""
    return x @ transcoder.W_enc.detach().float() + transcoder.b_enc.detach().float()


def check(model: models.CheckedBridge, transcoders: Transcoders) -> None:
    """Do nothing if there is one usable transcoder per layer, else raise.

    Raises:
        ValueError: Another count than layers, another width than the model's, different numbers of features,
            another device, a reading place that is not the MLP's input, input normalisation that is not folded in, a skip path.
    """
    if len(transcoders) != models.n_layers(model):
        raise ValueError(
            f"{len(transcoders)} transcoders were given for a model of {models.n_layers(model)} layers: one per "
            "layer is needed, in order. Were they trained on another model?"
        )
    for layer, transcoder in enumerate(transcoders):
        _check_one(model, layer, transcoder)
    sizes = [transcoder.W_dec.shape[0] for transcoder in transcoders]
    if len(set(sizes)) > 1:
        raise ValueError(f"The transcoders differ in their number of features: {sizes}. Use one size.")


def _check_one(model: models.CheckedBridge, layer: int, transcoder: torch.nn.Module) -> None:
    device = torch.device(model.cfg.device)
    if transcoder.W_dec.device.type != device.type:
        raise ValueError(
            f"The transcoder of layer {layer} is on {transcoder.W_dec.device}, the model on {device}. Bring both to one "
            "device: transcoder.to(model.cfg.device)."
        )
    width, reads = models.d_model(model), (transcoder.W_enc.shape[0], transcoder.W_dec.shape[1])
    if reads != (width, width):
        raise ValueError(
            f"The transcoder of layer {layer} reads {reads[0]} numbers and writes {reads[1]}, this model's MLP "
            f"reads and writes {width}. Was it trained on another model?"
        )
    hook_name = getattr(getattr(transcoder.cfg, "metadata", None), "hook_name", None)
    if hook_name is not None and hook_name not in [f"blocks.{layer}.{hook}" for hook in READS]:
        raise ValueError(
            f"The transcoder at place {layer} was trained on {hook_name}; there it must read the MLP's input, "
            f"blocks.{layer}.{READS[0]}. Check the order of the list, or train it on that hook."
        )
    if (
        getattr(transcoder.cfg, "normalize_activations", "none") != "none"
        or getattr(transcoder, "W_skip", None) is not None
    ):
        raise ValueError(
            f"The transcoder of layer {layer} normalises its input as it runs, which has to be folded into its weights first "
            "(sae_lens: fold_activation_norm_scaling_factor), or it has a skip path, which is not supported."
        )


def _check_linear_when_active(
    layer: int, transcoder: torch.nn.Module, x: Float[Tensor, "pos d_model"], active: Float[Tensor, "pos d_sae"]
) -> None:
    """An active feature must equal its pre-activation (ReLU, JumpReLU, TopK), or edges do not sum to it."""
    gap = torch.where(active > 0, active - pre_activation(transcoder, x), torch.zeros_like(active)).abs().max()
    if float(gap) > 1e-3 * max(1.0, float(active.max())):
        raise ValueError(
            f"Active features of layer {layer}'s transcoder differ from their pre-activations by up to "
            f"{float(gap):.3g}, so their inputs cannot be split into edges. Use a ReLU or JumpReLU transcoder."
        )
