"""Keep tensors on disk in such a way that work can stop at any moment, and go on later to the same numbers.

1. `fingerprint` names a network by its content, and `key_of` names a piece of work by everything that decides its
   result. Work with another key lies in another folder, so an old result is never taken for a new one.
2. `Shards` cuts the result into numbered files. A file is written under another name and then renamed, which
   happens at once or not at all: what has its final name is whole, after any crash, and two processes that
   write the same shard only write it twice. No file is locked.
3. Each file carries the key and a checksum of its content. One that does not fit is refused by name.
4. Shards are read through a memory map: what is not looked at takes no memory.

Files are safetensors (https://huggingface.co/docs/safetensors); nothing is ever unpickled.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from beartype import beartype
from jaxtyping import Shaped, jaxtyped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

NOT_THE_NETWORK = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
"""Settings that say where a network came from and not what it computes."""


STALE = 3600
"""Seconds after which nobody is still writing a draft."""

# --- names for content --------------------------------------------------------------------------------------


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
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        if tensor.is_meta:
            raise ValueError(f"{name} is on the device 'meta' and has no content. Load the whole model.")
        label = name.replace("_original_component.", "")
        digest.update(f"{label} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor.detach().cpu()))
    return digest.hexdigest()


def key_of(facts: Mapping[str, object]) -> str:
    """SHA-256 of facts (texts, numbers, lists of these) by name, whatever their order.

    Example:
        >>> key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that no reader, and no crash, ever sees half of it.

    A process that is killed can leave a hidden file that ends in .draft behind, which is never read; opening `Shards`
    removes those of more than an hour.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.draft")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


# --- shards -------------------------------------------------------------------------------------------------


class Shards:
    """A result in numbered files, of which some may not be there yet.

    Attributes:
        key: What decides the result, as one hash.
        folder: Where this result's files lie, a folder of its own inside the one given.
        count: Number of shards of the complete result.
    """

    def __init__(self, folder: str | Path, facts: Mapping[str, object], count: int) -> None:
        """Open or begin the result that the facts decide.

        Raises:
            ValueError: Fewer than one shard; a shard that is there is damaged, or belongs to something else.
        """
        if count < 1:
            raise ValueError(f"A result has at least one shard, not {count}.")
        self.key, self.count = key_of(facts), count
        self.folder = Path(folder) / self.key[:20]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._checked: set[int] = set()
        for draft in self.folder.glob(".*.draft"):  # what a process that was killed left behind
            if time.time() - draft.stat().st_mtime > STALE:
                draft.unlink(missing_ok=True)
        for number in range(count):
            if self.path(number).exists():
                self._open(number)
        if not (self.folder / "facts.json").exists():  # for people; the key decides
            write_atomically(self.folder / "facts.json", json.dumps(facts, indent=1).encode())

    def path(self, number: int) -> Path:
        """The file of one shard.

        Raises:
            ValueError: A number that the result does not have.
        """
        if not 0 <= number < self.count:
            raise ValueError(f"There is no shard {number}: this result has shards 0 to {self.count - 1}.")
        return self.folder / f"shard-{number:05d}-of-{self.count:05d}.safetensors"

    def missing(self) -> list[int]:
        """Numbers of the shards that nobody has finished yet."""
        return [number for number in range(self.count) if not self.path(number).exists()]

    @jaxtyped(typechecker=beartype)
    def write(self, number: int, values: Shaped[Tensor, "..."]) -> None:
        """Store one shard, whole or not at all.

        Raises:
            ValueError: A number that the result does not have, or values on the device "meta".
        """
        if values.is_meta:
            raise ValueError("The values are on the device 'meta', which holds no numbers.")
        values = values.detach().cpu().contiguous()
        facts = {"key": self.key, "number": str(number), "sha256": hashlib.sha256(_bytes_of(values)).hexdigest()}
        write_atomically(self.path(number), save({"values": values}, metadata=facts))

    @jaxtyped(typechecker=beartype)
    def read(self, number: int) -> Shaped[Tensor, "..."]:
        """One shard as a memory map, to be read and not written; its checksum is compared the first time.

        Raises:
            FileNotFoundError: Nobody has finished this shard.
            ValueError: It is damaged, or belongs to something else.
        """
        values, checksum = self._open(number)
        if number not in self._checked:
            if hashlib.sha256(_bytes_of(values)).hexdigest() != checksum:
                raise ValueError(self._refusal(number, "was altered: its content differs from its checksum"))
            self._checked.add(number)
        return values

    def _open(self, number: int) -> tuple[Tensor, str]:
        """The values, not read yet, and the checksum that they should have."""
        try:
            with safe_open(self.path(number), framework="pt") as file:
                facts, values = file.metadata() or {}, file.get_tensor("values")
        except SafetensorError as error:
            raise ValueError(self._refusal(number, "was truncated or damaged")) from error
        if (facts.get("key"), facts.get("number")) != (self.key, str(number)):
            raise ValueError(self._refusal(number, "belongs to another model, request or place: its key differs"))
        return values, facts.get("sha256", "")

    def _refusal(self, number: int, what: str) -> str:
        return f"{self.path(number)} {what}, so it is not used. Delete this file to have it computed again."


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
