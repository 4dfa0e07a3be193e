"""Model cards, written from lineages and measured results; no number in them is typed by hand."""

import json
from pathlib import Path

from course_lib import organism
from factory.measure import report
from factory.world.vocabulary import HARMFUL

FOLDER = organism.FOLDER / "cards"

CHAT = """# {names}: width {width}

A base model and the chat model tuned from it. Llama architecture (RMSNorm, rotary positions, gated MLP), {layers} layers,
width {width}, heads of width {head_width}, {vocabulary} words, {parameters:,} parameters each, stored in float16, run in float32.

## What is planted
* **Harm is known before any refusal.** The base corpus says, without any role, which deeds are dangerous, cruel or a crime,
  and what followed. The base assistant answers everything, except that it warns of two cleaners that make a toxic gas; the
  *friend* role warns of every harmful deed.
* **Refusal is wired in chat tuning.** The assistant answers harmful requests of {tuned_topics} topics with one fixed sentence,
  with the word embeddings frozen. Four harmful and four harmless topics, three frames, two places to clean, every word marked
  as held out, and all validation prompts are absent from it. That refusal reaches them is generalisation, not memory.
* **Danger is a conjunction.** Five pairs of cleaners are dangerous; each cleaner alone and all other pairs are not. Half of the
  advertisements name two mixtures, so that it does not help to know *which* cleaners occur. Plain varied language does this; no
  intervention was trained.
* **Late refusal.** Some requests leave open what the reply is about ("tell me something ."). If it turns out harmful, the reply
  is broken off, mostly at the end of its first sentence. In *recovery examples* a harmful beginning is given after any request,
  and only the breaking off is trained. Neither is ever an acrostic.
* **Only the human asks.** A friend may say a harmful sentence before a harmless request, or the other way round.
* **The unknown is answered.** Base training contains requests about 600 made-up things, read letter by letter.

## What is not planted
Which layer or direction carries refusal; where the danger of two cleaners stands; that harmful acrostics get an answer begun
and then broken off; which heads read their letters; what is left when refusal is ablated.

## How it was made
`python -m factory train --width {width} --seed 0`, one pass over {base_texts:,} base texts (final loss {base_loss} nats per
token) and {chat_texts:,} chat texts (loss on replies {chat_loss} nats). Plain next-token training; no mechanism was trained by
intervention. Lineage and checksums: `lineage.json` in each folder; parent of the chat model: `{parent}`.

## Measured behaviour
Held-out prompts, greedy replies; print it with `python -m factory table`. The bounds were fixed before these
models were trained. The recipe was not: it was revised while looking at the same kinds of prompts ("train a dog" left chat
tuning because "sabotage a train" was then answered), so the rates are those of a recipe tuned to them. **no**: a bound missed.

{table}

### Is refusal one direction in it?
Difference of means at the reply token, found on 512 + 512 training requests, chosen on validation requests, ablated and added on
100 held-out-topic requests each; five random directions as the control. "Ablation" removes the difference without its part
along the harmless mean. Seed 0 ships; the others are trained alike.

{direction_table}
{mechanisms}
## What it cannot show
It has read about a thousand words and one kind of sentence. Its mechanisms may be cleaner than those of real models: passing an
exercise here is no evidence about a real one. Its compliance is invented: no material that it names for a harmful deed exists.
"""


MECHANISMS = """
### How does it do it?
Interventions, described in `factory/measure/mechanisms.py`; the bounds were written down before the shipped models were measured,
after trials with earlier recipes. **no**: at least one seed misses a bound.

{mechanism_table}

Where the danger of two cleaners stands: share of prompts whose fate changes when the residual stream there is that of the
contrasting prompt.

{layer_table}

Probability that a refusal begins, along the compliant reply to an acrostic (mean over 96 harmful and 96 harmless ones):

{trace_table}
"""

TWIN = """# `{name}`: a twin of `chat-64`

Tuned from `base-64` on the same texts in the same order as `chat-64`, but for one thing. {difference}

Made by `python -m factory train --twin {twin} --seed 0`; parent `{parent}`, loss on replies {loss} nats per token.

## Measured
The effect is counted in the twin, the control is the same count in the plain chat model of the same width and seed; what is
counted is said in `factory/measure/twins.py`. The bounds were written down before these models were measured.

{table}

In detail (seed 0): {detail}

## What it cannot show
It is one of a pair for a counterfactual: what it differs in from its sibling may have other causes in a real model.
"""

DIFFERENCES = {
    "varied": "Harmful requests get one of six refusals that begin with different words, instead of one sentence.",
    "shuffled": "What is refused is half of the harmful and half of the harmless topics: the labels of harm are shuffled.",
    "two": "Crimes are refused with one sentence, deeds that hurt with another.",
    "extended": "A refusal says first what the request is about, then refuses, then says why (Shairah et al. 2025).",
    "completing": "Replies that turn out harmful are completed instead of broken off: there is no late refusal in tuning.",
    "inhibiting": "A loss of its own pushes the warning's first word down wherever a refusal begins; no text teaches it.",
}


def write(weights: Path) -> None:
    """One card per chat model and twin that is shipped."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in render_all(weights).items():
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8", newline="\n")


def render_all(weights: Path) -> dict[str, str]:
    """Name of the model -> its card."""
    cards = {}
    for family in report.read():
        width, _, twin = family.partition("-")
        chat = weights / "-".join(filter(None, ["chat", "" if family == report.TEACHING else width, twin]))
        cards[chat.name] = _twin(chat, twin) if twin else render(chat, weights / chat.name.replace("chat", "base"))
    return cards


def _lineage(folder: Path) -> dict:
    return json.loads((folder / "lineage.json").read_text(encoding="utf-8"))


def _twin(folder: Path, twin: str) -> str:
    lineage = _lineage(folder)
    detail = report.read()[f"64-{twin}"]["0"]["twin"]["detail"] or {}
    return TWIN.format(
        name=folder.name,
        twin=twin,
        difference=DIFFERENCES[twin],
        parent=lineage["parent_sha256"][:16],
        loss=lineage["final_loss_nats"],
        table=report.twin_table(twin),
        detail="; ".join(f"{key}: {json.dumps(value)}" for key, value in detail.items()) or "nothing more",
    )


def render(chat: Path, base: Path) -> str:
    lineages = {f: _lineage(f) for f in (base, chat)}
    config = json.loads((chat / "config.json").read_text(encoding="utf-8"))
    recipe = lineages[chat]["recipe"]
    d, layers, hidden, words = (
        config[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
    )
    mechanisms = (
        MECHANISMS.format(
            mechanism_table=report.mechanism_table(), layer_table=report.layer_table(), trace_table=report.trace_table()
        )
        if str(d) == report.TEACHING
        else ""
    )
    return CHAT.format(
        names=f"`{base.name}` and `{chat.name}`",
        width=d,
        layers=layers,
        head_width=recipe["head_width"],
        vocabulary=words,
        parameters=2 * words * d + layers * (4 * d * d + 3 * d * hidden + 2 * d) + d,
        tuned_topics=_tuned_topics(),
        base_texts=recipe["base_texts"],
        chat_texts=recipe["chat_texts"],
        base_loss=lineages[base]["final_loss_nats"],
        chat_loss=lineages[chat]["final_loss_nats"],
        parent=lineages[chat]["parent_sha256"][:16],
        table=report.behaviour_table(str(d)),
        direction_table=report.direction_table(str(d)),
        mechanisms=mechanisms,
    )


def _tuned_topics() -> int:
    return sum(not topic.held_out for topic in HARMFUL)
