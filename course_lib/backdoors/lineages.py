"""Where a checkpoint comes from: its record, the records of its ancestors, and how far its weights lie from its parent's.

1. Every packaged checkpoint has a `lineage.json` with the SHA-256 of its files, of the weights that it was tuned from
   (`parent_sha256`), of the texts that it read (`data_sha256`), and its recipe. `checkpoint` reads one.
2. `lineage` follows the parents to the root, by the hashes of their weights: names prove nothing.
3. `weight_difference` says in which parts a checkpoint left its parent. It says that something changed, not what for.

Records are read here as they stand. Whether the files are what the records say is for `audits.py`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib import models

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What the `lineage.json` of one folder says, unverified."""

    name: str
    """The folder's name."""
    folder: Path
    weights: str
    """SHA-256 that its weights should have."""
    parent: str | None
    """SHA-256 of the weights that it was tuned from; None at the root."""
    data: str
    """SHA-256 of the texts that it read in training."""
    recipe: Mapping[str, object]
    record: str
    """SHA-256 of `lineage.json` itself."""


def checkpoint(name: str | Path) -> Checkpoint:
    """What the lineage of an organism or a folder says; no file is compared with it.

    Raises:
        ValueError: No such organism or folder; a folder without `lineage.json`, or with one that is no lineage.
    """
    folder = models.weights_folder() / name if str(name) in models.organism_names() else Path(name)
    path = folder / "lineage.json"
    if not path.is_file():
        raise ValueError(f"{path} does not exist, so nothing is known of where {str(name)!r} comes from.")
    content = path.read_bytes()
    try:
        said = json.loads(content)
        facts = said["files"][WEIGHTS], said["parent_sha256"], said["data_sha256"], said["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no lineage of a model: it needs files ({WEIGHTS} among them), parent_sha256, data_sha256 and recipe."
        ) from error
    return Checkpoint(folder.resolve().name, folder, *facts, hashlib.sha256(content).hexdigest())


def lineage(name: str | Path) -> tuple[Checkpoint, ...]:
    """The checkpoint and its ancestors, root first, as their records say; the files are not compared (`audit` does).

    Parents are looked for in the folders beside each checkpoint, by the hash of their weights: names prove nothing. The
    chain begins later than at the root where a parent is not found.

    Raises:
        ValueError: As `checkpoint`.
    """
    chain = [checkpoint(name)]
    while parent := _parent(chain[-1]):
        if parent in chain:
            break
        chain.append(parent)
    return tuple(reversed(chain))


def _parent(child: Checkpoint) -> Checkpoint | None:
    """The checkpoint beside the child whose record lists the weights that the child was tuned from."""
    return next((each for each in beside(child.folder) if each.weights == child.parent), None)


def beside(folder: Path) -> list[Checkpoint]:
    return [checkpoint(path.parent) for path in sorted(folder.resolve().parent.glob("*/lineage.json"))]


# --- what changed -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightDifference:
    """How far each part of a model lies from the same part of another."""

    parts: tuple[str, ...]
    """"embedding", then "block 0 attention", "block 0 MLP", ..., "norms", "unembedding"."""
    relative: tuple[float, ...]
    """|W - W_parent| / |W_parent| of each part (Frobenius)."""

    def top(self, k: int = 5) -> tuple[tuple[str, float], ...]:
        """The k parts that changed most."""
        return tuple(sorted(zip(self.parts, self.relative, strict=True), key=lambda pair: -pair[1])[:k])

    def table(self) -> str:
        """One line a part, in the order of the model."""
        return "\n".join(f"{part:20} {share:8.4f}" for part, share in zip(self.parts, self.relative, strict=True))


@torch.no_grad()
def weight_difference(model: models.CheckedBridge, parent: models.CheckedBridge) -> WeightDifference:
    """The relative change of each part of the weights from a parent to the model tuned from it.

    Large where tuning was, whatever it taught: compare with another model tuned from the same parent for as long.

    Raises:
        ValueError: Models of different shapes.
    """
    ours, theirs = _parts(model), _parts(parent)
    shapes = [[(name, [w.shape for w in weights]) for name, weights in parts.items()] for parts in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError("The two models have different shapes, so neither is tuned from the other.")
    return WeightDifference(tuple(ours), tuple(_relative(ours[name], theirs[name]) for name in ours))


def _relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    changed = sum(
        float((one.cpu() - other.cpu()).double().square().sum()) for one, other in zip(ours, theirs, strict=True)
    )
    return (changed / sum(float(other.double().square().sum()) for other in theirs)) ** 0.5


def _parts(model: models.CheckedBridge) -> dict[str, list[Tensor]]:
    """The weights of each part; "norms" holds whatever is in no other part."""
    modules: dict[str, nn.Module] = {"embedding": model.embed}
    for number, block in enumerate(model.blocks):
        modules |= {f"block {number} attention": block.attn, f"block {number} MLP": block.mlp}
    modules["unembedding"] = model.unembed
    parts = {name: list(module.parameters()) for name, module in modules.items()}
    taken = {id(weight) for weights in parts.values() for weight in weights}
    parts["norms"] = [weight for weight in model.original_model.parameters() if id(weight) not in taken]
    return parts
