"""What a feature writes: its decoder direction, read by the unembedding.

The direct path only. The direction is multiplied by the last norm's gain and by the unembedding; the mean over the
vocabulary is taken away, which no prediction depends on. Two things are left out: what later layers make of the feature,
and the last norm's denominator, which divides every effect at one place by the same number (so that ranks stay). The unit
is therefore logits for one unit of activation, where that denominator is 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib import models
from course_lib.features.running import BATCH_NUMBERS, Dictionary


def read_by_unembedding(
    model: models.CheckedBridge, directions: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_model"]:
    """The directions as the unembedding meets them: after the last norm's gain, and centred where the norm centres."""
    if model.cfg.normalization_type in ("LN", "LNPre"):
        directions = directions - directions.mean(dim=1, keepdim=True)
    return directions * models.norm_weight(model, model.ln_final).cpu()


def logit_effects(model: models.CheckedBridge, directions: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_vocab"]:
    """Effect of one unit of each direction on every logit, less its mean over the vocabulary."""
    effects = read_by_unembedding(model, directions) @ model.W_U.detach().float().cpu()
    return effects - effects.mean(dim=1, keepdim=True)


def strongest(
    model: models.CheckedBridge, dictionary: Dictionary, k: int
) -> tuple[Float[Tensor, "d_sae two_k"], Tensor]:
    """For each feature, values and ids of the k tokens that it pushes up most, then of the k it pushes down most."""
    decoder, rows = dictionary.W_dec.detach().float().cpu(), []
    for part in decoder.split(max(1, BATCH_NUMBERS // model.cfg.d_vocab)):
        effects = logit_effects(model, part)
        up, down = effects.topk(k, dim=1), effects.topk(k, dim=1, largest=False)
        rows.append((torch.cat([up.values, down.values], dim=1), torch.cat([up.indices, down.indices], dim=1)))
    values, ids = zip(*rows, strict=True)
    return torch.cat(values), torch.cat(ids)


def cosines(dictionary: Dictionary, rows: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_sae"]:
    """Cosines of directions with every decoder direction; 0 for a direction of length 0."""
    unit = torch.nn.functional.normalize(dictionary.W_dec.detach().float().cpu(), dim=1)
    return torch.nn.functional.normalize(rows, dim=1) @ unit.T


def neighbours(dictionary: Dictionary, k: int) -> tuple[Float[Tensor, "d_sae k"], Tensor]:
    """For each feature, cosines and numbers of the k others whose decoder directions are nearest."""
    decoder, found = dictionary.W_dec.detach().float().cpu(), []
    for start in range(0, len(decoder), step := max(1, BATCH_NUMBERS // len(decoder))):
        near = cosines(dictionary, decoder[start : start + step])
        near[range(len(near)), range(start, start + len(near))] = -torch.inf
        found.append(near.topk(k, dim=1))
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])
