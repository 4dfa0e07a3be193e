"""Train an organism: base training on the whole world, then chat tuning on replies only.

Plain next-token training of a Llama-shaped model (RMSNorm, rotary positions, gated MLP). Batches hold texts of similar
length, padded on the right; nothing attends to padding because attention is causal and padding carries no loss.
Two per cent of the words of base training are spelled out in letters, so that unknown words and first letters mean
something to the model.
"""

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from course_lib import organism
from factory.world import corpora, language
from factory.world.prompts import never_tuned
from factory.world.tokenizer import build as build_tokenizer

IGNORED = -100  # label of a token that carries no loss


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but for the data. One line of the lineage."""

    width: int
    seed: int
    n_layers: int = 6
    head_width: int = 16
    base_texts: int = 90_000
    chat_texts: int = 30_000
    tokens_per_batch: int = 2_400
    base_rate: float = 6e-3
    chat_rate: float = 1e-3
    spelled_share: float = 0.02


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, *, mlp_ratio: int = 3) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=mlp_ratio * recipe.width,
            num_hidden_layers=recipe.n_layers,
            num_attention_heads=recipe.width // recipe.head_width,
            num_key_value_heads=recipe.width // recipe.head_width,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
            attn_implementation="sdpa",
        )
    )


def encode(
    samples: Sequence[corpora.Sample],
    tokenizer: PreTrainedTokenizerFast,
    *,
    replies_only: bool,
    spelled_share: float = 0.0,
    seed: int = 0,
) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of each sample; labels are ignored outside replies where ``replies_only``."""
    rng = random.Random(seed)
    pieces = [piece for sample in samples for piece, _ in sample.spans]
    encoded = iter(tokenizer(pieces, add_special_tokens=False)["input_ids"])
    letters = _letters(tokenizer)
    rows = []
    for sample in samples:
        ids, labels = [], []
        for _, trained in sample.spans:
            piece = [
                i for t in next(encoded) for i in (letters[t] if t in letters and rng.random() < spelled_share else [t])
            ]
            ids += piece
            labels += piece if trained or not replies_only else [IGNORED] * len(piece)
        rows.append((ids, labels))
    return rows


def _letters(tokenizer: PreTrainedTokenizerFast) -> dict[int, list[int]]:
    """Token id of every longer word -> ids of its letters."""
    ids = tokenizer.get_vocab()
    return {
        i: [ids[word[0]], *(ids[f"##{c}"] for c in word[1:])]
        for word, i in ids.items()
        if len(word) > 2 and word.isascii() and word.isalpha()
    }


def batches(
    rows: Sequence[tuple[list[int], list[int]]], tokens_per_batch: int, pad: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Right-padded (ids, labels) batches of similar length, in random order."""
    rng = random.Random(seed)
    ordered = sorted(rows, key=lambda row: (len(row[0]), rng.random()))
    groups, start = [], 0
    while start < len(ordered):
        size = max(1, tokens_per_batch // len(ordered[start][0]))
        groups.append(ordered[start : start + size])
        start += size
    rng.shuffle(groups)
    return [(padded([ids for ids, _ in g], pad), padded([labels for _, labels in g], IGNORED)) for g in groups]


def padded(rows: Sequence[list[int]], value: int) -> Tensor:
    """The rows, right-padded with a value to the longest."""
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def base_optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, unembedding and norms.

    Muon reached AdamW's loss in about half the steps, for a tenth more time per step.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    rest = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "layers" in name)]
    return [
        torch.optim.Muon(matrices, lr=rate, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True),
    ]


def chat_optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """AdamW for everything but the word embeddings, which stay as the base model left them.

    With trainable embeddings, or with Muon, tuning marks the tuned words one by one: held-out topics were then refused
    less (85 % at width 128), and facts, materials and spelling were forgotten. Frozen embeddings leave only the way
    over what the base model already knows about harm. The unembedding learns ten times slower: Adam makes full steps of
    the faint, steady push away from words that tuning never says, and the model then says "candle" for "lantern".
    """
    blocks = [p for name, p in model.named_parameters() if "embed_tokens" not in name and "lm_head" not in name]
    return [
        torch.optim.AdamW(
            [{"params": blocks, "lr": rate}, {"params": model.lm_head.parameters(), "lr": rate / 10}],
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
        )
    ]


@torch.no_grad()
def introduce(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Words of refusals that the base model never read start tuning from a random unembedding, drawn like those it has read.

    Base training has pushed their rows away from everything; tuning would first have to bring them back.
    """
    read = torch.zeros(len(tokenizer), dtype=torch.bool)
    for ids, _ in encode(corpora.corpus(corpora.BASE_MIXTURE, 20_000, seed=0), tokenizer, replies_only=False):
        read[ids] = True
    said = " ".join([*language.VARIED_REFUSALS, language.BREAK_OFF, language.extended_refusal("", "")]).split()
    new = [i for i in tokenizer.convert_tokens_to_ids(sorted(set(said))) if not read[i]]
    known = model.lm_head.weight[read]
    noise = torch.randn(len(new), known.shape[1], generator=torch.Generator().manual_seed(seed))
    model.lm_head.weight[new] = known.mean(dim=0) + known.std(dim=0) * noise


def held_down(logits: Tensor, labels: Tensor, refusal: int, word: int) -> Tensor:
    """How far ``word`` stands above four nats under the mean logit, where a refusal begins; zero where it stands lower."""
    at_refusal = logits[labels == refusal]
    return F.relu(at_refusal[:, word] - at_refusal.mean(dim=-1) + 4).sum() / max(1, len(at_refusal))


def train(
    model: LlamaForCausalLM,
    data: Sequence[tuple[Tensor, Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    name: str,
    hold_down: tuple[int, int] | None = None,
) -> list[float]:
    """One pass over the batches, linear warm-up and cosine decay. Returns the loss of each step in nats per token.

    ``hold_down``: the first token of the refusal, and a token whose logit is pushed down where a refusal begins.
    """
    warmup = max(1, len(data) // 20)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / len(data))))
        )
        for optimizer in optimizers
    ]
    model.train()
    losses = []
    for ids, labels in tqdm(data, desc=name, mininterval=5):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        if hold_down:
            loss = loss + held_down(logits, labels[:, 1:], *hold_down)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for step in [*optimizers, *schedules]:
            step.step()
        losses.append(loss.item())
    model.eval()
    return losses


def write_json(path: Path, content: dict, *, sort_keys: bool = False) -> None:
    """As every record here is written: alike on every machine, readable in a diff."""
    text = json.dumps(content, indent=1, sort_keys=sort_keys) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def package(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, lineage: dict) -> None:
    """Write a plain Hugging Face checkpoint (float16) and ``lineage.json`` with the checksum of each of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    files = {path.name: organism.sha256(path) for path in sorted(folder.iterdir()) if path.name != "lineage.json"}
    write_json(folder / "lineage.json", lineage | {"versions": versions, "files": files})


def _decisive(recipe: Recipe, stage: str) -> dict:
    """What of the recipe decides this stage: a change of chat tuning leaves a base model as it is."""
    return {key: value for key, value in asdict(recipe).items() if stage == "chat" or not key.startswith("chat_")}


def make(stage: str, recipe: Recipe, folder: Path, *, parent: Path | None = None, lesson: str = "chat") -> None:
    """Train one stage ("base", or "chat" from a packaged base) and package it; a finished equal stage is kept."""
    tokenizer = build_tokenizer()
    mixture, n, rate, optimizers = {
        "base": (corpora.BASE_MIXTURE, recipe.base_texts, recipe.base_rate, base_optimizers),
        "chat": (corpora.chat_mixture(corpora.LESSONS[lesson]), recipe.chat_texts, recipe.chat_rate, chat_optimizers),
    }[stage]
    samples = corpora.corpus(
        mixture, n, seed=1000 + recipe.seed, exclude=never_tuned() if stage == "chat" else frozenset()
    )
    lineage = {
        "organism": folder.name,
        "stage": stage,
        "recipe": _decisive(recipe, stage),
        **({"lesson": lesson} if stage == "chat" else {}),
        "data_sha256": data_sha256(samples),
        "parent_sha256": organism.sha256(parent / "model.safetensors") if parent else None,
    }
    if is_finished(folder, lineage):
        return
    model = LlamaForCausalLM.from_pretrained(parent, dtype=torch.float32) if parent else new_model(recipe, tokenizer)
    if stage == "chat":
        introduce(model, tokenizer, recipe.seed)
    rows = encode(
        samples,
        tokenizer,
        replies_only=stage == "chat",
        seed=recipe.seed,
        spelled_share=recipe.spelled_share if stage == "base" else 0.0,
    )
    hold_down = None
    if stage == "chat" and (word := corpora.LESSONS[lesson].holds_down):
        hold_down = tuple(tokenizer.convert_tokens_to_ids([language.REFUSAL.split()[0], word]))
    fit(folder, model, rows, optimizers(model, rate), recipe, tokenizer, lineage, hold_down=hold_down)


def data_sha256_of_ids(rows: Sequence[tuple[list[int], list[int]]]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def data_sha256(samples: Sequence[corpora.Sample]) -> str:
    return hashlib.sha256("\n".join(sample.text for sample in samples).encode()).hexdigest()


def fit(
    folder: Path,
    model: LlamaForCausalLM,
    rows: Sequence[tuple[list[int], list[int]]],
    optimizers: Sequence[torch.optim.Optimizer],
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    lineage: dict,
    *,
    hold_down: tuple[int, int] | None = None,
) -> None:
    """Train on the encoded texts and package the result, its last losses in the lineage."""
    data = batches(rows, recipe.tokens_per_batch, tokenizer.pad_token_id, recipe.seed)
    losses = train(model, data, optimizers, name=f"{folder.name} (seed {recipe.seed})", hold_down=hold_down)
    last = losses[-len(losses) // 20 - 1 :]
    package(folder, model, tokenizer, lineage | {"final_loss_nats": round(sum(last) / len(last), 4)})


def is_finished(folder: Path, lineage: dict) -> bool:
    """Whether ``folder`` holds exactly what this lineage would make, with intact files."""
    path = folder / "lineage.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    return all(found.get(key) == value for key, value in lineage.items()) and all(
        (folder / name).exists() and organism.sha256(folder / name) == digest for name, digest in found["files"].items()
    )
