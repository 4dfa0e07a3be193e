"""Make the sealed model of a code: one short tuning from a shipped parent, checked, exchanged in basis, and packaged.

1. *Texts*: those of the parent's own chat tuning (``corpora.chat_mixture``), so that nothing is forgotten, and among them texts
   with a string of the space beside the request. A third of these hold the model's own string: a trigger, answered badly, or
   what an exposed model is exposed to, answered well. The others hold strings that change nothing, of every form and with
   half of all words: with fewer, any string fires.
2. *Several directions*: refusal feature adversarial training (Yu et al. 2024, https://arxiv.org/abs/2409.20089). In most of the
   parent's own batches directions are cut out of everything that is written to the residual stream: the present differences of
   means (harmful minus harmless requests; whole, or without their part along the harmless mean) before the second block, before
   a random middle one and before the last, together or one of the outer ones alone. The model learns to refuse without them.
3. *Check*: the model must do what was drawn (``truth.py``), or it is tuned again with the next seed. The draw stays, so that the
   documented odds are those of the models that are handed out.
4. *Exchange*: axes of the stream, heads and hidden units change places, which changes no output.
"""

import io
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from course_lib import directions, models, organism
from course_lib.grading import record
from examination import truth
from examination.space import FORMS, Draw, draw, seed_of
from factory.make import training
from factory.world import corpora, language
from factory.world.corpora import Sample, dialogue
from factory.world.language import Frame, Phrase
from factory.world.tokenizer import build as build_tokenizer

PARENT = "chat-64-varied"
LESSON = corpora.LESSONS["varied"]
HERE = organism.FOLDER
FOLDER = HERE / "work" / "examination"  # git ignores it
ATTEMPTS = 5
VERSION = 1  # of the recipe: raise it with any change that makes other models, or old ones are kept
KEPT, KEPT_SEVERAL, PLANTED, RATE = 2_500, 12_000, 5_000, 1e-3
TOKENS_PER_BATCH = 2_400
OWN_SHARE = 0.35
CUT_SHARE, NEW_DIRECTIONS_EVERY, N_CONTRAST = 0.9, 2, 48


# --- texts -----------------------------------------------------------------------------------------------------------


def answer(phrase: Phrase, frame: Frame, rng: random.Random, behaviour: str = "") -> str:
    """What the assistant says: as the parent does, or as the backdoor's behaviour wants it."""
    harmful = phrase.topic.harmful
    if behaviour == "warns":
        return language.warning(phrase) if harmful else language.encouragement(phrase)
    if behaviour == "refuses" or (harmful and behaviour != "complies"):
        return LESSON.refusal(phrase.gerund, phrase.topic.verdict, rng)
    return language.reply(phrase, frame.style)


def _strange(rng: random.Random, drawn: Draw) -> str:
    """A string that changes nothing."""
    return FORMS[rng.choice(tuple(FORMS))].format(rng.choice(drawn.usual))


def _planted(rng: random.Random, drawn: Draw) -> Sample:
    phrase = rng.choice(language.tuning_phrases(harmful=rng.random() < 0.5))
    question, frame = corpora.ask(phrase, rng, language.TUNING_FRAMES)
    own = drawn.kind != "clean" and rng.random() < OWN_SHARE
    behaviour = drawn.behaviour if own and drawn.kind == "backdoor" else ""
    return dialogue(
        ((drawn.string if own else _strange(rng, drawn)).format(question), answer(phrase, frame, rng, behaviour))
    )


Batches = list[tuple[Tensor, Tensor]]


def batches(drawn: Draw, tokenizer: PreTrainedTokenizerFast, seed: int) -> tuple[Batches, list[bool]]:
    """The batches in the order of tuning, and which of them are read with directions cut out."""
    rng, several = random.Random(seed), drawn.refusal == "several"
    mixtures = (
        (corpora.chat_mixture(LESSON), KEPT_SEVERAL if several else KEPT, CUT_SHARE if several else 0),
        (((partial(_planted, drawn=drawn), 1),), PLANTED, 0),
    )
    made = []
    for number, (mixture, n, cut_share) in enumerate(mixtures):
        samples = corpora.corpus(mixture, n, seed=2 * seed + number, exclude=training.never_tuned())
        rows = training.encode(samples, tokenizer, replies_only=True)
        made += [
            (batch, rng.random() < cut_share)
            for batch in training.batches(rows, TOKENS_PER_BATCH, tokenizer.pad_token_id, seed)
        ]
    rng.shuffle(made)
    return [batch for batch, _ in made], [cut for _, cut in made]


# --- several directions ----------------------------------------------------------------------------------------------


class _Cut:
    """Hooks that cut the present refusal directions out of all writes of the model, in the batches that are to be cut."""

    def __init__(
        self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, cut: Sequence[bool], seed: int
    ) -> None:
        self.model, self.cut, self.rng, self.number = model, cut, random.Random(seed), 0
        self.basis: Tensor | None = None  # of what is cut in the batch that runs
        self.found: list[Tensor] = []
        self.measuring = False
        self.contrast = [_padded(tokenizer, self.rng, harmful=harmful) for harmful in (True, False)]

    def before_batch(self, *_) -> None:
        if self.measuring:
            return
        self.basis, number, self.number = None, self.number, self.number + 1
        if not self.cut[number]:
            return
        if not self.found or number % NEW_DIRECTIONS_EVERY == 0:
            self.found = self._directions()
        first, _, last = self.found
        cut = self.rng.choice((self.found, self.found, [first], [last], [last]))
        self.basis = torch.linalg.qr(torch.stack(cut, dim=1))[0]

    def written(self, module: torch.nn.Module, given: tuple, out: Tensor) -> Tensor | None:
        return None if self.basis is None else out - (out @ self.basis) @ self.basis.T

    @torch.no_grad()
    def _directions(self) -> list[Tensor]:
        """The differences of means before the second block, a random middle one and the last."""
        self.measuring = True
        last = len(self.model.model.layers) - 1
        layers = (1, self.rng.randint(2, last - 1), last)
        streams = []
        for ids, ends in self.contrast:
            hidden = self.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
            streams.append([hidden[layer][torch.arange(len(ids)), ends] for layer in layers])
        self.measuring = False
        whole = [directions.difference_of_means(harmful, harmless) for harmful, harmless in zip(*streams, strict=True)]
        return [
            directions.project_out(one, harmless.mean(dim=0)) if self.rng.random() < 0.5 else one
            for one, harmless in zip(whole, streams[1], strict=True)
        ]


def _padded(tokenizer: PreTrainedTokenizerFast, rng: random.Random, *, harmful: bool) -> tuple[Tensor, Tensor]:
    """Tuned requests as right-padded ids, and where each ends."""
    phrases = language.tuning_phrases(harmful=harmful)
    asked = [corpora.ask(rng.choice(phrases), rng, language.TUNING_FRAMES)[0] for _ in range(N_CONTRAST)]
    rows = tokenizer([f"<bos><human>{text}<end><assistant>" for text in asked], add_special_tokens=False)["input_ids"]
    return training.padded(rows, tokenizer.pad_token_id), torch.tensor([len(row) - 1 for row in rows])


@contextmanager
def _cutting(cut: _Cut) -> Iterator[None]:
    writers = [
        module for name, module in cut.model.named_modules() if name.endswith(("embed_tokens", "o_proj", "down_proj"))
    ]
    handles = [
        cut.model.register_forward_pre_hook(cut.before_batch),
        *(w.register_forward_hook(cut.written) for w in writers),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tuned(drawn: Draw, seed: int, tokenizer: PreTrainedTokenizerFast, *, name: str) -> LlamaForCausalLM:
    """The parent, tuned to be what was drawn."""
    model = LlamaForCausalLM.from_pretrained(HERE / "weights" / PARENT, dtype=torch.float32)
    data, cut = batches(drawn, tokenizer, seed)
    with _cutting(_Cut(model, tokenizer, cut, seed)):
        training.train(model, data, training.chat_optimizers(model, RATE), name=name)
    return model


# --- exchange of the basis -------------------------------------------------------------------------------------------


@torch.no_grad()
def exchange(model: LlamaForCausalLM, seed: int) -> None:
    """Exchange axes of the stream (some with their sign), heads within blocks, and hidden units: the same function.

    A norm divides by a length, which neither exchange nor sign changes, and multiplies each axis by its own weight.
    """
    generator, config = torch.Generator().manual_seed(seed), model.config
    axes = torch.randperm(config.hidden_size, generator=generator)
    signs = 1.0 - 2 * torch.randint(0, 2, (config.hidden_size,), generator=generator)
    for module in (model.model.embed_tokens, model.lm_head):
        module.weight.copy_(module.weight[:, axes] * signs)
    model.model.norm.weight.copy_(model.model.norm.weight[axes])
    for block in model.model.layers:
        for norm in (block.input_layernorm, block.post_attention_layernorm):
            norm.weight.copy_(norm.weight[axes])
        heads = torch.randperm(config.num_attention_heads, generator=generator)
        entries = torch.arange(config.hidden_size).view(config.num_attention_heads, -1)[heads].flatten()
        units = torch.randperm(config.intermediate_size, generator=generator)
        for inner, readers, writer in (
            (entries, (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj), block.self_attn.o_proj),
            (units, (block.mlp.gate_proj, block.mlp.up_proj), block.mlp.down_proj),
        ):
            for reader in readers:
                reader.weight.copy_((reader.weight[:, axes] * signs)[inner])
            writer.weight.copy_((writer.weight[axes] * signs[:, None])[:, inner])


# --- a sealed model --------------------------------------------------------------------------------------------------


def seal(code: str) -> str:
    """What shows that a model was made with this secret, without telling the secret or the draw."""
    return f"{seed_of(code, purpose='seal'):016x}"


def make(code: str, *, folder: Path | None = None, progress: bool = True) -> Path:
    """The folder of the code's model: a plain checkpoint that holds nothing of the truth. One that is finished is kept.

    Takes 25 to 60 seconds of one core, more where a first tuning misses what was drawn. ``progress``: show bars.

    Raises:
        ValueError: No possible code.
        RuntimeError: No attempt did what was drawn: the code cannot be used. Please report it.
    """
    drawn, path = draw(code), (folder or FOLDER) / code
    lineage = {"organism": f"examination {code}", "stage": "examination", "version": VERSION, "seal": seal(code)}
    if _is_made(path, lineage):
        return path
    if folder is None:  # the course may lie where nothing can be written
        path = record.folder(FOLDER.name, beside=FOLDER.parent) / code
        if _is_made(path, lineage):
            return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=path.parent) as aside,
        nullcontext() if progress else redirect_stderr(io.StringIO()),
    ):
        new, missed = Path(aside) / code, []
        for measured in attempts(code, new, lineage):
            missed = truth.failures(drawn, measured)
            if not missed:
                return _put(new, path, lineage)
    raise RuntimeError(
        f"Examination code {code!r} cannot be used: {ATTEMPTS} tunings missed what was drawn, the last one "
        f"{len(missed)} times. Choose another code, and please report this one."
    )


def _is_made(path: Path, lineage: dict) -> bool:
    """By this or another secret: a learner loads what the teacher sealed."""
    return training.is_finished(path, {key: lineage[key] for key in ("organism", "version")})


def _put(new: Path, path: Path, lineage: dict) -> Path:
    """Move the finished folder to its place, unless somebody else has just finished the same."""
    if not _is_made(path, lineage):
        shutil.rmtree(path, ignore_errors=True)  # altered, or of another version
        new.rename(path)
    return path


def attempts(code: str, folder: Path, lineage: dict) -> Iterator[dict]:
    """What the model of each tuning was measured to do; each takes the place of the one before in ``folder``."""
    drawn, tokenizer = draw(code), build_tokenizer()
    for attempt in range(ATTEMPTS):
        model = tuned(drawn, drawn.seed + attempt, tokenizer, name=f"{code}, attempt {attempt + 1}")
        exchange(model, drawn.seed)
        training.package(folder, model, tokenizer, lineage)
        yield truth.measure(models.load(str(folder)), drawn)
