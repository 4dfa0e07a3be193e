"""Tune a copy of a model on replies: by example, preference, reward, or a teacher. The model that is given stays as it is.

1. `supervised` raises the log-probability of each given reply: mean cross-entropy over the reply's tokens.
2. `preference` is direct preference optimisation, Rafailov et al. (2023), https://arxiv.org/abs/2305.18290, equation 7:
   with a chosen and a rejected reply to each prompt, and the given model as the frozen reference, it lowers

       -log sigmoid(beta * ((log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected)))).

   Nothing in it asks the chosen reply to become likely, only likelier, beside the other, than it was.
3. `reinforce` is REINFORCE with a baseline, Williams (1992), https://doi.org/10.1007/BF00992696: the model samples a reply to
   each prompt of a batch, a function of the caller's rewards it, and the step lowers, over the batch,

       -mean of (reward - mean reward) * log p(reply).

   What is never sampled is never rewarded nor punished.
4. `distil` lowers the divergence from a teacher's next-token distributions, on the teacher's own replies.

All train all weights of the blocks and the last norm with AdamW at a constant rate, whole batches in an order that the
seed decides. Word embeddings and unembedding keep their values: see docs/decisions.md. Nothing is written to disk.
With `watch`, a measurement of the caller's runs on the copy before the first step, every so many steps, and after the
last: what training does is a curve over its budget, and one number at its end hides where on the curve it is.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import models

Watch = Callable[[models.CheckedBridge], object]
"""A measurement of the copy while it is tuned: a float, or anything whose text fits behind a progress bar."""
Reward = Callable[[list[int], list[list[int]]], Sequence[float]]
"""Which of the given prompts a batch holds, and the ids of the reply to each -> a reward for each."""


@dataclass(frozen=True)
class Example:
    """A prompt and the reply that is to be learned, as token ids; a reply ends with the model's end token."""

    prompt: Sequence[int]
    reply: Sequence[int]


@dataclass(frozen=True)
class Pair:
    """A prompt with the reply that is preferred and one that is not, as token ids."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned copy, and what its training cost."""

    model: models.CheckedBridge
    losses: tuple[float, ...]
    """Loss of each step, on its own batch, before the step: in nats a token (`supervised`) or a pair (`preference`). Of
    `reinforce`, the quantity whose gradient is followed: its value says nothing."""
    tokens_read: int
    """Tokens that went forward and backward through the model, without padding and without sampling."""
    watched: tuple[tuple[int, Any], ...] = ()
    """(steps done, what `watch` returned): before the first step, every so many steps, and after the last."""
    rewards: tuple[float, ...] = ()
    """Mean reward of each step's replies, before the step (`reinforce`)."""


@dataclass(frozen=True)
class Settings:
    """How a copy is tuned: the keywords that all four ways take."""

    steps: int
    """How many batches are learned from; the examples come round again when they are through."""
    seed: int
    """Decides the order of the examples (and what `reinforce` samples), and nothing else is random."""
    rate: float = 1e-3
    """Learning rate of AdamW."""
    batch_size: int = 32
    """Examples (pairs, prompts) in a step; fewer if there are fewer."""
    watch: Watch | None = None
    """Measures the copy before the first step, every so many steps, and after the last; `Tuned.watched` keeps it."""
    every: int = 25
    """After how many steps `watch` measures."""
    progress: bool = True
    """Show a progress bar, with what `watch` saw last."""


Loss = Callable[[models.CheckedBridge, list[int]], tuple[Tensor, list[Example]]]
"""The copy, and which examples a batch holds -> its loss, and what was read for it."""

# --- four ways to tune --------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
def supervised(model: models.CheckedBridge, examples: Sequence[Example], **settings: Any) -> Tuned:
    """Return a copy of the model, tuned to give these replies (supervised fine-tuning), with the loss of each step.

    Args:
        model: From `models.load`, without active hooks.
        examples: Prompts with their replies.
        settings: `steps`, `seed`, and if wanted `rate`, `batch_size`, `watch`, `every`, `progress`: see `Settings`.

    Raises:
        ValueError: No examples; an empty reply; prompt and reply together too long, or ids outside the vocabulary; active
            hooks.

    Example:
        >>> supervised(model, [Example(ids, reply)], steps=20, seed=0).losses   # doctest: +SKIP
    """
    _check(model, examples)

    def loss(tuned: models.CheckedBridge, batch: list[int]) -> tuple[Tensor, list[Example]]:
        picked = [examples[i] for i in batch]
        return -_log_probabilities(tuned, picked).sum() / sum(len(example.reply) for example in picked), picked

    return _tune(model, loss, len(examples), Settings(**settings))


@jaxtyped(typechecker=beartype)
def preference(model: models.CheckedBridge, pairs: Sequence[Pair], *, beta: float = 0.1, **settings: Any) -> Tuned:
    """Return a copy of the model, tuned to prefer each chosen reply to the rejected one (DPO), with the loss of each step.

    The given model is the reference and stays as it is. The first loss is log 2 = 0.69, whatever the data: the copy still is
    its own reference.

    Args:
        model: From `models.load`, without active hooks.
        pairs: Prompts with a preferred and a rejected reply.
        beta: The price of leaving the reference: small values let the copy go further.
        settings: As for `supervised`; a batch holds pairs.

    Raises:
        ValueError: As for `supervised`.

    Example:
        >>> preference(model, [Pair(ids, right, wrong)], steps=20, seed=0).losses   # doctest: +SKIP
    """
    both = [Example(pair.prompt, reply) for pair in pairs for reply in (pair.chosen, pair.rejected)]
    reference = log_probabilities(model, both).to(model.cfg.device).view(-1, 2)

    def loss(tuned: models.CheckedBridge, batch: list[int]) -> tuple[Tensor, list[Example]]:
        picked = [both[2 * i + k] for i in batch for k in (0, 1)]
        gained = _log_probabilities(tuned, picked).view(-1, 2) - reference[batch]
        return -F.logsigmoid(beta * (gained[:, 0] - gained[:, 1])).mean(), picked

    return _tune(model, loss, len(pairs), Settings(**settings))


@jaxtyped(typechecker=beartype)
def reinforce(
    model: models.CheckedBridge, prompts: models.Prompts, reward: Reward, *, max_new_tokens: int, **settings: Any
) -> Tuned:
    """Return a copy of the model, tuned on the reward of replies that it samples itself (REINFORCE), with the mean rewards.

    Replies are sampled at temperature 1 from the copy as it is at that step. The baseline is the mean reward of the batch: a
    batch of equal rewards changes nothing. Nothing holds the copy near the given model (no KL term).

    Args:
        model: From `models.load`, without active hooks.
        prompts: Token ids of each prompt.
        reward: Called with a list of indices into `prompts` and a list of replies (ids, with the end token if it came), one
            for each; returns one finite number for each, the higher the better.
        max_new_tokens: Where a reply without an end token is cut.
        settings: As for `supervised`; a batch holds prompts, with one reply each.

    Raises:
        ValueError: Prompts that cannot be run (`models.check_prompts`), or not together with the reply; active hooks; not
            one finite reward for each reply; batches of a single prompt.

    Example:
        >>> reinforce(model, prompts, lambda numbers, replies: [-len(r) for r in replies],
        ...           steps=20, seed=0, max_new_tokens=8).rewards   # doctest: +SKIP
    """
    _check(model, [Example(prompt, [prompt[-1]] * max_new_tokens) for prompt in prompts])
    chosen = Settings(**settings)
    if min(chosen.batch_size, len(prompts)) < 2:
        raise ValueError(
            "A batch of one reply is its own baseline, so nothing would be learned: give at least two prompts."
        )
    generator, mean_rewards = torch.Generator().manual_seed(chosen.seed), []

    def loss(tuned: models.CheckedBridge, batch: list[int]) -> tuple[Tensor, list[Example]]:
        asked = [prompts[i] for i in batch]
        replies = models.generate(tuned, asked, max_new_tokens=max_new_tokens, generator=generator)
        given = torch.as_tensor(reward(batch, replies), dtype=torch.float32, device=model.cfg.device)
        if given.shape != (len(batch),) or not bool(given.isfinite().all()):
            raise ValueError(f"The reward function must return one finite number for each of {len(batch)} replies.")
        mean_rewards.append(float(given.mean()))
        picked = [Example(prompts[i], reply) for i, reply in zip(batch, replies, strict=True)]
        return -((given - given.mean()) * _log_probabilities(tuned, picked)).mean(), picked

    return replace(_tune(model, loss, len(prompts), chosen), rewards=tuple(mean_rewards))


@jaxtyped(typechecker=beartype)
def distil(
    teacher: models.CheckedBridge,
    student: models.CheckedBridge,
    prompts: models.Prompts,
    *,
    max_new_tokens: int,
    **settings: Any,
) -> Tuned:
    """Return a copy of the student, tuned to say what the teacher says to these prompts, with the loss of each step.

    Distillation (Hinton et al. 2015, https://arxiv.org/abs/1503.02531) on the teacher's own greedy replies: the loss is
    KL(teacher || student) of the next token, in nats, mean over the tokens of the replies. The student also learns how sure
    the teacher is of all the tokens that it does not say, and so more than it reads: `supervised` on the same replies is
    the control that learns from the words alone.

    Args:
        teacher: From `models.load`, without active hooks.
        student: What the copy starts from, with the teacher's vocabulary. Its own behaviour is the first control.
        prompts: Token ids of each prompt.
        max_new_tokens: Where a reply of the teacher is cut.
        settings: As for `supervised`; a batch holds prompts.

    Raises:
        ValueError: Prompts that one of the two cannot run (`models.check_prompts`); active hooks.

    Example:
        >>> distil(suspect, base, benign, steps=100, seed=0, max_new_tokens=14).losses   # doctest: +SKIP
    """
    replies = models.generate(teacher, prompts, max_new_tokens=max_new_tokens)
    examples = [Example(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]
    for model in (teacher, student):
        _check(model, examples)

    def loss(tuned: models.CheckedBridge, batch: list[int]) -> tuple[Tensor, list[Example]]:
        picked = [examples[i] for i in batch]
        with torch.no_grad():
            wanted = _reply_logits(teacher, picked)[0].to(tuned.cfg.device).log_softmax(dim=-1)
        said = _reply_logits(tuned, picked)[0].log_softmax(dim=-1)
        return F.kl_div(said, wanted, log_target=True, reduction="batchmean"), picked

    return _tune(student, loss, len(examples), Settings(**settings))


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def log_probabilities(model: models.CheckedBridge, examples: Sequence[Example]) -> Float[Tensor, " example"]:
    """Return log p(reply | prompt) of each example in nats, summed over the reply's tokens: lower for longer replies.

    What `supervised` raises and `preference` compares. Hooks must not be active: they would also see padding.

    Raises:
        ValueError: No examples; an empty reply; ids that the model cannot read (`models.check_prompts`); active hooks.
    """
    _check(model, examples)
    return torch.cat([_log_probabilities(model, examples[i : i + 64]) for i in range(0, len(examples), 64)]).cpu()


def _check(model: models.CheckedBridge, examples: Sequence[Example]) -> None:
    """Raise ValueError if hooks are active, a reply is empty, or the model cannot read an example."""
    if models.has_hooks(model):
        raise ValueError("The model has active hooks. Leave their context first.")
    empty = [number for number, example in enumerate(examples) if not (len(example.reply) and len(example.prompt))]
    if empty:
        raise ValueError(f"Example {empty[0]} has an empty prompt or reply, so there is nothing to learn from it.")
    whole = [[*example.prompt, *example.reply] for example in examples]
    models.check_prompts(model, whole)
    if len({len(ids) > models.rope_switch(model) for ids in whole}) > 1:
        raise ValueError("Short and long examples of a long-rope model would change each other: use one kind.")


# --- training -----------------------------------------------------------------------------------------------


def _tune(model: models.CheckedBridge, loss_of: Loss, n: int, settings: Settings) -> Tuned:
    """Return a copy of the model after steps down the loss of one batch after another of n examples."""
    tuned, order = models.duplicate(model), _order(n, settings.batch_size, settings.seed)
    trained = _trained(tuned)
    optimizer = torch.optim.AdamW(trained, lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.0)
    losses, tokens_read, watched = [], 0, []
    bar = tqdm(range(settings.steps), desc="tune", unit="step", disable=not settings.progress)
    for step in bar:
        if settings.watch is not None and step % settings.every == 0:
            watched.append((step, _seen(settings.watch, tuned, bar)))
        loss, read = loss_of(tuned, next(order))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"The loss of step {step} is not finite. In float16 take float32 or bfloat16; else a lower rate."
            )
        tokens_read += sum(len(example.prompt) + len(example.reply) for example in read)
    tuned.original_model.requires_grad_(False)
    optimizer.zero_grad()
    if settings.watch is not None:
        watched.append((settings.steps, _seen(settings.watch, tuned, bar)))
    return Tuned(tuned, tuple(losses), tokens_read, tuple(watched))


@torch.no_grad()
def _seen(watch: Watch, tuned: models.CheckedBridge, bar: tqdm) -> Any:
    """Return what `watch` measures, and show it behind the progress bar."""
    seen = watch(tuned)
    bar.set_postfix_str(f"{seen:.3g}" if isinstance(seen, float) else str(seen))
    return seen


def _trained(model: models.CheckedBridge) -> list[torch.nn.Parameter]:
    """Return all parameters but those of embedding and unembedding, made trainable."""
    kept = {id(weight) for part in (model.embed, model.unembed) for weight in part.parameters()}
    found = [weight for weight in model.original_model.parameters() if id(weight) not in kept]
    for weight in found:
        weight.requires_grad_(True)
    return found


def _order(n: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of indices without end; each pass through all of them is shuffled anew, and its remainder left out."""
    batch_size = min(batch_size, n)
    generator = torch.Generator().manual_seed(seed)
    while True:
        shuffled = torch.randperm(n, generator=generator).tolist()
        yield from (shuffled[i : i + batch_size] for i in range(0, n - batch_size + 1, batch_size))


def _log_probabilities(model: models.CheckedBridge, examples: Sequence[Example]) -> Float[Tensor, " example"]:
    """Return the log-probabilities of one batch, with gradients."""
    logits, ids, rows = _reply_logits(model, examples)
    each = -F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), ids, reduction="none")
    return each.new_zeros(len(examples)).index_add(0, rows, each)


def _reply_logits(model: models.CheckedBridge, examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits before every token of the replies, these tokens' ids, and the example of each, reply by reply.

    Padding is on the right, where no real token sees it.
    """
    lengths = [(len(example.prompt), len(example.prompt) + len(example.reply)) for example in examples]
    ids = torch.zeros(len(examples), max(end for _, end in lengths), dtype=torch.long)
    is_reply = torch.zeros_like(ids, dtype=torch.bool)
    for row, (example, (start, end)) in enumerate(zip(examples, lengths, strict=True)):
        ids[row, :end] = torch.tensor([*example.prompt, *example.reply])
        is_reply[row, start:end] = True
    ids, of_reply = ids.to(model.cfg.device), is_reply[:, 1:].to(model.cfg.device)
    logits = model.original_model(ids, use_cache=False, output_attentions=False).logits[:, :-1]
    return logits[of_reply], ids[:, 1:][of_reply], of_reply.nonzero()[:, 0]
