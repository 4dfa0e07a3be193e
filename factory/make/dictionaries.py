"""Sparse dictionaries of an organism: sparse autoencoders and transcoders for every layer, trained by sae_lens.

A sparse autoencoder (Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features) rewrites one
activation as a sum of few features; a transcoder (Dunefsky et al. 2024, https://arxiv.org/abs/2406.11944) rewrites what
the MLP does: it reads the MLP's input and writes the MLP's output.

1. Texts: from the base mixture, the chat mixture, and acrostics.
2. Harvest the activations of every token but ``<bos>``, once for all layers. ``<bos>`` is the same vector in every text,
   and several times longer than the others: a dictionary would spend a feature and its scale on a constant.
3. Train BatchTopK (Bussmann et al. 2024, https://arxiv.org/abs/2412.06410) with sae_lens' own trainer. It saves one
   threshold, learned in training: a JumpReLU dictionary. sae_lens has no trainer for transcoders, so `TranscoderInTraining`
   gives its autoencoder another target, and leaves the rest of it as it is.
4. Package: sae_lens' own two files, in float16 (opened in float32), and the lineage with their checksums.

`factory.measure.dictionary_measures` measures them on texts of another seed, beside random dictionaries of the same size and L0.

A transcoder reads ``blocks.{n}.mlp.hook_in``, the norm's output *after* its gain, as published transcoders do: with the
norm's scale frozen, every path of an attribution graph into it is linear. (``ln2.hook_normalized`` fires before the gain.)
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, JumpReLUTranscoderConfig, SAETrainer
from sae_lens.config import SAETrainerConfig
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from course_lib import caching, models
from course_lib import organism as organism_files
from factory.make import training
from factory.world import corpora

WEIGHTS = organism_files.FOLDER / "weights"
KINDS = ("sae", "transcoder")
SHIPPED = {"base": ("sae",), "chat": KINDS}  # transcoders make graphs, and graphs are drawn of the chat model


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a dictionary, but for the model and the texts' mixture. One line of the lineage."""

    kind: str
    k: int
    rate: float
    d_sae: int = 512
    n_texts: int = 12_000
    steps: int = 2_400
    tokens_per_step: int = 512
    seed: int = 0


RECIPES = {
    "sae": Recipe("sae", k=20, rate=4e-3, steps=2_000),
    "transcoder": Recipe("transcoder", k=32, rate=8e-3, d_sae=768),
}


def hooks(kind: str, layer: int) -> tuple[str, str]:
    """(read, written) hook of a dictionary."""
    return {
        "sae": (f"blocks.{layer}.hook_resid_post",) * 2,
        "transcoder": (f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.hook_mlp_out"),
    }[kind]


def folder(organism: str, kind: str, layer: int, *, root: Path = WEIGHTS / "dictionaries") -> Path:
    return root / organism / f"{kind}-{layer}"


# --- activations -----------------------------------------------------------------------------------------------------


def _texts(n: int, seed: int) -> list[corpora.Sample]:
    """Half of the base mixture, a third of the chat mixture, and acrostics, which the mixtures hold few of."""
    parts = ((corpora.BASE_MIXTURE, 2), (corpora.chat_mixture(corpora.LESSONS["chat"]), 3), (corpora.ACROSTICS, 6))
    return [sample for mixture, share in parts for sample in corpora.corpus(mixture, n // share, seed=seed)]


def token_ids(model: models.CheckedBridge, n: int, seed: int) -> list[list[int]]:
    return [ids for ids, _ in training.encode(_texts(n, seed), model.tokenizer, replies_only=False)]


def harvest(model: models.CheckedBridge, prompts: Sequence[list[int]], hook_names: Sequence[str]) -> dict[str, Tensor]:
    """Hook name -> (token, d_model), every token but ``<bos>`` of every prompt."""
    groups: dict[int, list[list[int]]] = {}
    for prompt in prompts:
        groups.setdefault(len(prompt), []).append(prompt)
    kept = [
        caching.harvest(model, group, hook_names=hook_names, positions=list(range(1, length)), progress=False)
        for length, group in tqdm(sorted(groups.items()), desc="harvest", unit="length", mininterval=5)
    ]
    return {name: torch.cat([part.values[:, :, i].flatten(0, 1) for part in kept]) for i, name in enumerate(hook_names)}


# --- training --------------------------------------------------------------------------------------------------------


class TranscoderConfigInTraining(BatchTopKTrainingSAEConfig):
    """As sae_lens' BatchTopK, but saved as a JumpReLU transcoder."""

    def get_inference_config_class(self) -> type[JumpReLUTranscoderConfig]:
        return JumpReLUTranscoderConfig

    def get_inference_sae_cfg_dict(self) -> dict:
        return super().get_inference_sae_cfg_dict() | {"d_out": self.d_in}

    @property
    def d_out(self) -> int:
        return self.d_in


class TranscoderInTraining(BatchTopKTrainingSAE):
    """sae_lens' BatchTopK autoencoder with another target: a row holds the MLP's input, then its output."""

    def __init__(self, cfg: TranscoderConfigInTraining) -> None:
        super().__init__(cfg)
        squared_error = self.mse_loss_fn
        self.mse_loss_fn = lambda output, rows: squared_error(output, rows[:, cfg.d_in :])

    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode_with_hidden_pre(x[:, : self.cfg.d_in])

    def calculate_topk_aux_loss(self, sae_in: Tensor, **rest: Tensor) -> Tensor:
        return super().calculate_topk_aux_loss(sae_in[:, self.cfg.d_in :], **rest)


def _untrained(recipe: Recipe, width: int) -> BatchTopKTrainingSAE:
    size = dict(d_in=width, d_sae=recipe.d_sae, k=recipe.k, normalize_activations="expected_average_only_in")
    if recipe.kind == "sae":
        return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**size))
    return TranscoderInTraining(TranscoderConfigInTraining(**size, apply_b_dec_to_input=False))


def _shuffled(rows: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Batches of rows without end, in a new order each time round."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=generator)
        yield from (rows[part].float() for part in order.split(size) if len(part) == size)


def train(recipe: Recipe, read: Tensor, written: Tensor, *, autocast: bool = False) -> BatchTopKTrainingSAE:
    """The dictionary that sae_lens trains on (token, d_model) activations, alike for a like seed; products in bfloat16?"""
    if len(read) < recipe.tokens_per_step:
        raise ValueError(f"There are {len(read)} tokens, but one step takes {recipe.tokens_per_step}. Draw more texts.")
    rows = read if recipe.kind == "sae" else torch.cat([read, written], dim=1)
    samples = recipe.steps * recipe.tokens_per_step
    settings = SAETrainerConfig(
        total_training_samples=samples,
        train_batch_size_samples=recipe.tokens_per_step,
        lr=recipe.rate,
        lr_end=0.0,
        lr_warm_up_steps=recipe.steps // 20,
        lr_decay_steps=recipe.steps // 2,
        dead_feature_window=min(200, recipe.steps // 8),
        feature_sampling_window=recipe.steps,
        n_batches_for_norm_estimate=50,
        autocast=autocast,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        trainer = SAETrainer(
            settings, _untrained(recipe, read.shape[1]), _shuffled(rows, recipe.tokens_per_step, recipe.seed)
        )
        return trainer.fit()


# --- packaging -------------------------------------------------------------------------------------------------------


def package(path: Path, trained: BatchTopKTrainingSAE, lineage: dict, *, bos: int) -> None:
    """Write sae_lens' two files into an empty folder, weights in float16, and last of all ``lineage.json``."""
    shutil.rmtree(path, ignore_errors=True)
    read, written = hooks(lineage["kind"], lineage["layer"])
    for name, value in {
        "model_name": lineage["organism"],
        "hook_name": read,
        "hook_name_out": written,
        "prepend_bos": True,
        "exclude_special_tokens": [bos],
    }.items():
        setattr(trained.cfg.metadata, name, value)
    weights, config = trained.save_inference_model(path)
    save_file({name: value.half() for name, value in load_file(weights).items()}, weights)
    training.write_json(config, json.loads(config.read_text(encoding="utf-8")), sort_keys=True)
    versions = {name: version(name).split("+")[0] for name in ("torch", "sae-lens")}
    files = {file.name: organism_files.sha256(file) for file in (config, weights)}
    training.write_json(path / "lineage.json", lineage | {"versions": versions, "files": files}, sort_keys=True)


def _lineage(organism: str, recipe: Recipe, layer: int) -> dict:
    texts = "\n".join(sample.text for sample in _texts(recipe.n_texts, recipe.seed))
    return {
        "organism": organism,
        "kind": recipe.kind,
        "layer": layer,
        "recipe": asdict(recipe),
        "data_sha256": hashlib.sha256(texts.encode()).hexdigest(),
        "parent_sha256": organism_files.sha256(WEIGHTS / organism / "model.safetensors"),
    }


def make(organism: str, recipe: Recipe, *, root: Path = WEIGHTS / "dictionaries") -> None:
    """Train and package one kind of dictionary for every layer; finished ones that are equal and intact are kept."""
    model = models.load(organism, device="cpu")
    shared = _lineage(organism, recipe, 0)
    missing = [
        layer
        for layer in range(models.n_layers(model))
        if not training.is_finished(folder(organism, recipe.kind, layer, root=root), shared | {"layer": layer})
    ]
    if not missing:
        return
    names = dict.fromkeys(name for layer in missing for name in hooks(recipe.kind, layer))
    found = harvest(model, token_ids(model, recipe.n_texts, recipe.seed), list(names))
    for layer in missing:
        read, written = (found[name] for name in hooks(recipe.kind, layer))
        trained = train(recipe, read, written)
        path = folder(organism, recipe.kind, layer, root=root)
        package(path, trained, shared | {"layer": layer}, bos=model.tokenizer.bos_token_id)
