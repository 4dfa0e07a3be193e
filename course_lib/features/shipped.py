"""A model's own dictionary by one call: the organisms' ship with the course and are verified, a published model's are fetched."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from course_lib import models, profiles
from course_lib.features.published import published

if TYPE_CHECKING:
    from sae_lens import SAE


def names() -> list[str]:
    """The dictionaries that ship with the course, as "organism/kind-layer"."""
    return sorted(f"{path.parent.parent.name}/{path.parent.name}" for path in _root().glob("*/*/cfg.json"))


def load(name: str, kind: Literal["sae", "transcoder"], *, layer: int) -> "SAE":
    """The dictionary of one layer, ready to be used: float32, on the CPU, evaluation mode, no gradients for weights.

    For a published model it is the one that its profile names (`profiles.get(name).of_kind(kind)`), which may have been
    trained on the base model. For the organisms:

    An sae reads and writes `blocks.{layer}.hook_resid_post`; a transcoder reads `blocks.{layer}.mlp.hook_in`, the
    norm's output after its gain, and writes `blocks.{layer}.hook_mlp_out`.

    Args:
        name: Short name of an organism that has dictionaries, such as "chat"; or a published model with a profile.
        kind: "sae" or "transcoder".
        layer: Block of the model, from 0.

    Raises:
        ValueError: An unknown organism, kind or layer; a file that is missing or differs from its checksum; a
            dictionary that was trained on other weights than the organism's.
        OSError: A published one that is not in the local cache and cannot be fetched.
    """
    profile = profiles.known(name)
    if profile and not profile.is_organism:
        release = profile.of_kind(kind)
        if layer not in release.layers:
            raise ValueError(f"There is no {kind} for layer {layer!r} of {name!r}. Layers: {list(release.layers)}.")
        return published(release.release, dict(release.ids)[layer])
    folder = _folder(name, kind, layer)
    if not (folder / "lineage.json").is_file():
        raise ValueError(
            f"{folder / 'lineage.json'} is missing, so the dictionary cannot be verified. Restore it: git checkout -- {folder}"
        )
    models.check_files(folder)
    _check_parent(name, folder)
    with models.quiet():
        from sae_lens import SAE

        dictionary = SAE.load_from_disk(folder, device="cpu", dtype="float32")
    return dictionary.eval().requires_grad_(False)


def _root() -> Path:
    return models.weights_folder() / "dictionaries"


def _folder(organism: str, kind: str, layer: int) -> Path:
    """Where the dictionary lies. A folder whose files are lost is still found, so that the loss is named."""
    kinds = {path.parent.name: {} for path in sorted(_root().glob("*/*")) if path.is_dir()}
    for path in sorted(_root().glob("*/*-*")):
        kinds[path.parent.name].setdefault(path.name.rpartition("-")[0], []).append(int(path.name.rpartition("-")[2]))
    _check_choice("Organism", organism, list(kinds))
    _check_choice(f"A kind of dictionary of {organism!r}", kind, list(kinds[organism]))
    layers = sorted(kinds[organism][kind])
    if layer not in layers:
        raise ValueError(f"There is no {kind} for layer {layer!r} of {organism!r}. Layers: {layers}.")
    return _root() / organism / f"{kind}-{layer}"


def _check_choice(what: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        near = difflib.get_close_matches(str(given), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(
            f"{what} is not called {given!r}{hint} With dictionaries: {', '.join(choices) or 'none installed'}."
        )


def _check_parent(organism: str, folder: Path) -> None:
    """A dictionary belongs to the weights it was trained on, and to no other model of the same name."""
    lineage = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    model = models.weights_folder() / organism / "lineage.json"
    if lineage["parent_sha256"] != json.loads(model.read_text(encoding="utf-8"))["files"]["model.safetensors"]:
        raise ValueError(
            f"{folder} was trained on other weights of {organism!r} than the ones installed. Train it again: "
            f"python -m factory dictionaries --organism {organism}"
        )
