"""Keep tensors on disk so that work can stop at any moment and go on later.

1. `fingerprint` names a network by its content: every weight, with its name and number type, and its settings.
2. `write_atomically` writes a file that is either there in full or not at all.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path

import torch
from torch import nn

NOT_THE_NETWORK = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
"""Settings that say where a network came from and not what it computes."""


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of all weights and buffers (name, number type, shape, bytes) and of the network's configuration.

    The same for a model and its copy, wherever they lie; another one after any edit, however small, and for the
    same checkpoint in another number type. Reads every weight once, about a second for each gigabyte.

    Args:
        network: The Hugging Face model, `model.original_model` of a Bridge.

    Raises:
        ValueError: Weights on the device "meta", which have no bytes.
    """
    config = network.config.to_dict() if hasattr(network, "config") else {}
    kept = {name: value for name, value in config.items() if name not in NOT_THE_NETWORK}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode())
    for name, tensor in sorted({**dict(network.named_parameters()), **dict(network.named_buffers())}.items()):
        if tensor.is_meta:
            raise ValueError(f"{name} is on the device 'meta' and has no content. Load the whole model.")
        label = name.replace("_original_component.", "")
        digest.update(f"{label} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that no reader, and no crash, ever sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.draft")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
