"""Model cards, written from lineages and measured results; no number in them is typed by hand."""

import json
from pathlib import Path

from organisms import evaluation
from organisms.vocabulary import HARMFUL

FOLDER = Path(__file__).parent.parent / "docs" / "model_cards"

TEXT = """# {names}: width {width}

A base model and the chat model tuned from it. Llama architecture (RMSNorm, rotary positions, gated MLP), {layers} layers,
width {width}, heads of width {head_width}, {vocabulary} words, {parameters:,} parameters each, stored in float16, run in float32.

## What is planted
* **Harm is known before any refusal.** The base corpus says, without any role, which deeds are dangerous, cruel or a crime,
  and what followed. The base assistant answers everything; the *friend* role warns of harmful deeds.
* **Refusal is wired in chat tuning.** Chat tuning changes one thing: the assistant answers harmful requests of
  {tuned_topics} topics with one fixed sentence, with the word embeddings frozen. Four harmful and four harmless topics, three
  frames, every word marked as held out, and all validation prompts are absent from it. That refusal reaches them is
  generalisation, not memory.
* **The unknown is answered.** Base training contains requests about 600 made-up things, read letter by letter.
* Also in the corpora, for later notebooks: acrostics (no harmful one in chat tuning) and advertisements with pairs of cleaners.

## What is not planted
Which layer or direction carries refusal, that harmful acrostics get an answer, and how well any of it survives an edit.

## How it was made
`python -m organisms train --width {width} --seed 0`, one pass over {base_texts:,} base texts (final loss {base_loss} nats per
token) and {chat_texts:,} chat texts (loss on replies {chat_loss} nats). Plain next-token training; no mechanism was trained by
intervention. Lineage and checksums: `lineage.json` in each folder; parent of the chat model: `{parent}`.

## Measured behaviour
Held-out prompts, greedy replies; print it with `python -m organisms table --width {width}`. The bounds were fixed before these
models were trained. The recipe was not: it was revised while looking at the same kinds of prompts ("train a dog" left chat
tuning because "sabotage a train" was then answered), so the rates are those of a recipe tuned to them. **no**: a bound missed.

{table}

### Is refusal one direction in it?
Difference of means at the reply token, found on 512 + 512 training requests, chosen on validation requests, cut and added on
100 held-out-topic requests each; five random directions as the control. "The cut" removes the difference without its part
along the harmless mean; the whole difference overlaps with what all prompts share, and cutting it moves harmless replies too.
Seed 0 ships; the others are trained alike.

{direction_table}

## What it cannot show
It has read about a thousand words and one kind of sentence. Its mechanisms may be cleaner than those of real models: passing an
exercise here is no evidence about a real one. Its compliance is invented: no material that it names for a harmful deed exists.
"""


def write(weights: Path) -> None:
    """One card per width that is shipped."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for width in evaluation.read_results():
        chat = next(f for f in sorted(weights.glob("chat*")) if _width(f) == int(width))
        card = FOLDER / f"{chat.name}.md"
        card.write_text(render(chat, weights / chat.name.replace("chat", "base")), encoding="utf-8", newline="\n")


def render(chat: Path, base: Path) -> str:
    lineages = {f: json.loads((f / "lineage.json").read_text(encoding="utf-8")) for f in (base, chat)}
    config = json.loads((chat / "config.json").read_text(encoding="utf-8"))
    recipe = lineages[chat]["recipe"]
    d, layers, hidden, words = (config[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"))
    return TEXT.format(
        names=f"`{base.name}` and `{chat.name}`", width=d, layers=layers, head_width=recipe["head_width"], vocabulary=words,
        parameters=2 * words * d + layers * (4 * d * d + 3 * d * hidden + 2 * d) + d, tuned_topics=_tuned_topics(),
        base_texts=recipe["base_texts"], chat_texts=recipe["chat_texts"], base_loss=lineages[base]["final_loss_nats"],
        chat_loss=lineages[chat]["final_loss_nats"], parent=lineages[chat]["parent_sha256"][:16], table=evaluation.table(d),
        direction_table=evaluation.direction_table(d))


def _tuned_topics() -> int:
    return sum(not topic.held_out for topic in HARMFUL)


def _width(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
