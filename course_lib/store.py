"""Name a network by its content."""

import hashlib
import json

import torch
from torch import nn

NOT_THE_NETWORK = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
"""Settings that say where a network came from and not what it computes."""


def fingerprint(network: nn.Module) -> str:
    """Return the SHA-256 of all that is saved (name, dtype, shape, bytes) and of the network's configuration.

    The same for a model and its copy, in whatever folder; another one after any edit, however small, and for the same
    checkpoint in another dtype. Reads every weight once, about a second for each gigabyte.

    Args:
        network: The Hugging Face model, `model.original_model` of a Bridge.
    """
    config = getattr(network, "config", None)
    kept = {name: value for name, value in (config.to_dict() if config else {}).items() if name not in NOT_THE_NETWORK}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):  # without buffers that a long prompt may change
        label = name.replace("_original_component.", "")
        digest.update(f"{label} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
