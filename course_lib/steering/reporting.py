"""Report what an intervention did: to the replies, beside random interventions, and where nothing should change.

`report` answers four questions at once:

1. Replies. Which share of the prompts gets which class of reply (`judging`), unchanged and steered?
2. Controls. How far do as many random interventions of equal size move the same share? Large edits of any kind move it.
3. Off target. KL divergence on other prompts, over every token of the unchanged model's whole reply: an edit that shows only
   after the first token counts as well.
4. Coherence. How surprising, in nats a token, are the steered replies for the unchanged model? Broken text surprises.

An intervention is given as a factory, so that it can be entered anew for each measurement: `partial(steering.add, model,
direction, layer=3, coefficient=1.0)`. Where it edits is measured as well (`Scope`), not believed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from course_lib import directions, models, tokens
from course_lib.directions import Interval
from course_lib.steering.judging import Judge

Intervention = Callable[[], AbstractContextManager]
Score = Callable[[Tensor], Tensor]

MIN_CONTROLS = 20
"""With 20 random interventions, the chance that a 21st is farther off than all of them is 1 in 21."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Outcome:
    """What one intervention did."""

    replies: tuple[str, ...]
    classes: tuple[str, ...]
    """The judge's class of each reply."""
    scores: Float[Tensor, " prompt"] | None
    """The score of the first token's logits, where a score was given."""
    surprisal: Float[Tensor, " prompt"]
    """Nats a token of the reply, under the unchanged model."""
    kl: Float[Tensor, " off_target"]
    """Nats a token, mean over the unchanged reply to each off-target prompt."""

    def share(self, label: str) -> Interval:
        """Share of replies of that class."""
        return directions.wilson_interval(self.classes.count(label), len(self.classes))


@dataclass(frozen=True)
class Scope:
    """Where an intervention was seen to edit: the first place at which the residual stream differs."""

    hook_name: str | None
    """None if the residual stream is the same everywhere."""
    positions: tuple[tuple[int, ...], ...]
    """For each prompt, counted from 0."""
    generated: bool
    """Whether tokens being generated are edited as well."""


@dataclass(frozen=True)
class Effect:
    """One number with its interval, what it was, and what random interventions make of it."""

    measure: str
    unchanged: Interval
    steered: Interval
    controls: tuple[float, ...]
    """The same under each control, lowest first."""

    @property
    def control(self) -> float:
        """Median of the controls."""
        return median(self.controls)

    @property
    def band(self) -> tuple[float, float]:
        """Least and most of the controls."""
        return self.controls[0], self.controls[-1]

    @property
    def p_value(self) -> float:
        """Share of interventions, this one counted in, that move the number at least as far from the unchanged one.

        With 20 controls it cannot be below 1 / 21. It asks whether the direction is special, not whether the prompts are.
        """
        moved = abs(self.steered.estimate - self.unchanged.estimate)
        as_far = sum(abs(value - self.unchanged.estimate) >= moved for value in self.controls)
        return (1 + as_far) / (1 + len(self.controls))


@dataclass(frozen=True, eq=False)
class SteeringReport:
    """Outcome of an intervention, of none, and of each control, with where it edits."""

    unchanged: Outcome
    steered: Outcome
    controls: tuple[Outcome, ...]
    scope: Scope

    def share(self, label: str) -> Effect:
        """Share of replies of a class of the judge, with Wilson intervals."""
        return Effect(
            f"share of {label!r}",
            self.unchanged.share(label),
            self.steered.share(label),
            tuple(sorted(outcome.share(label).estimate for outcome in self.controls)),
        )

    @property
    def score(self) -> Effect:
        """Mean score of the first token's logits.

        Raises:
            ValueError: No score was given to `report`.
        """
        if self.unchanged.scores is None:
            raise ValueError("No score was measured. Pass score= to steering.report.")
        return self._mean("mean score", lambda outcome: outcome.scores)

    @property
    def kl(self) -> Effect:
        """Mean KL divergence off target, nats a token of whole replies."""
        return self._mean("off-target KL", lambda outcome: outcome.kl)

    @property
    def surprisal(self) -> Effect:
        """Mean surprisal of the replies under the unchanged model, nats a token."""
        return self._mean("surprisal", lambda outcome: outcome.surprisal)

    def top(self, k: int = 3) -> tuple[Effect, ...]:
        """The k classes of replies whose share moved most."""
        seen = sorted({label for outcome in (self.unchanged, self.steered) for label in outcome.classes})
        found = [self.share(label) for label in seen]
        return tuple(sorted(found, key=lambda e: -abs(e.steered.estimate - e.unchanged.estimate))[:k])

    def _mean(self, measure: str, values: Callable[[Outcome], Tensor]) -> Effect:
        unchanged, steered = (directions.bootstrap_interval(values(o)) for o in (self.unchanged, self.steered))
        return Effect(measure, unchanged, steered, tuple(sorted(float(values(o).mean()) for o in self.controls)))


def report(
    model: models.CheckedBridge,
    intervention: Intervention,
    *,
    prompts: models.Prompts,
    judge: Judge,
    controls: Sequence[Intervention],
    off_target: models.Prompts,
    score: Score | None = None,
    max_new_tokens: int = 40,
    batch_size: int = 64,
    progress: bool = True,
) -> SteeringReport:
    """What an intervention does to the replies, beside controls, unchanged replies, and prompts that it should leave alone.

    Args:
        model: From `models.load`, with no hook active.
        intervention: Returns the context anew at each call, such as `partial(steering.ablate, model, direction)`.
        prompts: Token ids, on target; at least two.
        judge: From a reply's text to its class: `steering.classify` for organisms, `steering.judge_by_openings` for others,
            or a function of yours.
        controls: At least `MIN_CONTROLS` interventions that should do nothing: random directions of the same length
            (`directions.random_directions`), random features of equal activation (`random_feature_sets`).
        off_target: Token ids of prompts on which nothing should change; at least two.
        score: From logits [prompt, d_vocab] to one number a prompt, such as the refusal score of some tokens.
        max_new_tokens: Replies are cut there, and a cut reply may be judged by its beginning only.
        batch_size: Prompts run at once at most.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any work: too few controls or prompts, prompts that cannot be run, active hooks. And what the
            intervention itself refuses.
    """
    _check(model, prompts, off_target, controls, max_new_tokens)
    bench = _Bench(model, judge, score, max_new_tokens, batch_size)
    edits = [nullcontext, intervention, *controls]
    where = scope(model, intervention, prompts=prompts, batch_size=batch_size)
    moved = bench.kl(edits, off_target, progress=progress)
    pairs = tqdm(list(zip(edits, moved, strict=True)), desc="replies", unit="intervention", disable=not progress)
    unchanged, steered, *rest = [bench.outcome(edit, prompts, kl) for edit, kl in pairs]
    return SteeringReport(unchanged, steered, tuple(rest), where)


def _check(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    off_target: models.Prompts,
    controls: Sequence[Intervention],
    max_new_tokens: int,
) -> None:
    if len(controls) < MIN_CONTROLS:
        raise ValueError(
            f"{len(controls)} controls were given, at least {MIN_CONTROLS} are needed: without them nobody can say what any "
            "edit of this size would do. Pass interventions by random directions or random features."
        )
    if models.has_hooks(model):
        raise ValueError(
            "The model has active hooks, so there is nothing unchanged to compare with. Leave the context first."
        )
    for name, given in (("prompts", prompts), ("off_target", off_target)):
        models.check_prompts(model, given, new_tokens=max_new_tokens)
        if len(given) < 2:
            raise ValueError(f"An interval needs at least two {name}; got {len(given)}.")


@dataclass(frozen=True, eq=False)
class _Bench:
    """The measurements that are repeated for every intervention."""

    model: models.CheckedBridge
    judge: Judge
    score: Score | None
    max_new_tokens: int
    batch_size: int

    def generate(self, prompts: models.Prompts) -> list[list[int]]:
        return models.generate(self.model, prompts, max_new_tokens=self.max_new_tokens, batch_size=self.batch_size)

    def logits(self, prompts: models.Prompts, replies: Sequence[list[int]]) -> list[Float[Tensor, "token d_vocab"]]:
        return models.reply_logits(self.model, prompts, replies, batch_size=self.batch_size)

    def outcome(self, intervention: Intervention, prompts: models.Prompts, kl: Float[Tensor, " off_target"]) -> Outcome:
        with intervention():
            replies, scores = self.generate(prompts), None
            if self.score is not None:
                scores = self.score(models.next_token_logits(self.model, prompts, batch_size=self.batch_size)).float()
        texts = tuple(tokens.text(self.model.tokenizer, reply) for reply in replies)
        return Outcome(texts, tuple(self.judge(text) for text in texts), scores, self.surprisal(prompts, replies), kl)

    @torch.no_grad()
    def surprisal(self, prompts: models.Prompts, replies: Sequence[list[int]]) -> Float[Tensor, " prompt"]:
        """Of the replies under the unchanged model, whole texts at once: nothing here depends on when a hook acts."""
        texts, found = (
            [[*prompt, *reply] for prompt, reply in zip(prompts, replies, strict=True)],
            torch.empty(len(prompts)),
        )
        for batch in models.batches(self.model, texts, batch_size=self.batch_size, equal_lengths=False):
            logits = self.model.original_model(batch.tokens, use_cache=False).logits
            for row, index in zip(logits, batch.indices, strict=True):
                ids, start = torch.tensor(replies[index], device=row.device), len(prompts[index]) - 1
                found[index] = cross_entropy(row[start : start + len(ids)].float(), ids)
        return found

    def kl(
        self, interventions: Sequence[Intervention], prompts: models.Prompts, *, progress: bool
    ) -> list[Float[Tensor, " off_target"]]:
        """For each intervention; a batch at a time, since logits of whole replies are large."""
        found: list[list[Tensor]] = [[] for _ in interventions]
        for start in tqdm(range(0, len(prompts), self.batch_size), desc="off target", disable=not progress):
            part = prompts[start : start + self.batch_size]
            replies = self.generate(part)
            plain = self.logits(part, replies)
            for rows, intervention in zip(found, interventions, strict=True):
                with intervention():
                    edited = self.logits(part, replies)
                rows += [directions.kl_divergence(p, q).mean() for p, q in zip(plain, edited, strict=True)]
        return [torch.stack(rows) for rows in found]


# --- where it edits -----------------------------------------------------------------------------------------


def scope(
    model: models.CheckedBridge, intervention: Intervention, *, prompts: models.Prompts, batch_size: int = 64
) -> Scope:
    """Where an intervention edits, found by comparing the residual stream with an unchanged run's.

    The first place that differs: what lies behind it may differ because it reads from there. An edit at several layers
    shows at the first of them only.

    Raises:
        ValueError: Prompts that cannot be run.
    """
    models.check_prompts(model, prompts, new_tokens=1)
    changed: dict[str, dict[int, tuple[int, ...]]] = {}
    for batch in models.batches(model, prompts, batch_size=batch_size, equal_lengths=True):
        before, after = _streams(model, batch.tokens, nullcontext), _streams(model, batch.tokens, intervention)
        for name in before:
            differs = (before[name] != after[name]).any(dim=-1)
            rows = [tuple(row.nonzero().flatten().tolist()) for row in differs]
            changed.setdefault(name, {}).update(zip(batch.indices, rows, strict=True))
    first = next((name for name in changed if any(changed[name].values())), None)
    positions = tuple(changed[first][index] if first else () for index in range(len(prompts)))
    return Scope(first, positions, _edits_generated(model, intervention, prompts[0]))


def _streams(model: models.CheckedBridge, ids: Tensor, intervention: Intervention) -> dict[str, Tensor]:
    """The residual stream before and after every block, in the order in which it is computed."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        return lambda activation, hook: seen.update({name: activation})

    names = [f"blocks.{n}.hook_resid_{place}" for n in range(models.n_layers(model)) for place in ("pre", "post")]
    with intervention(), model.hooks([(name, keep(name)) for name in names]):
        models.run_body(model, ids)
    return {name: seen[name] for name in names}


@torch.no_grad()
def _edits_generated(model: models.CheckedBridge, intervention: Intervention, prompt: Sequence[int]) -> bool:
    """Whether one more token, read after an unchanged prompt, gives other logits under the intervention."""
    ids, found = torch.tensor([list(prompt)], device=model.cfg.device), []
    for context in (nullcontext, intervention):
        cache = model.original_model(ids, use_cache=True, logits_to_keep=1).past_key_values
        with context():
            found.append(model.original_model(ids[:, -1:], past_key_values=cache, use_cache=True).logits)
    return not torch.equal(*found)
