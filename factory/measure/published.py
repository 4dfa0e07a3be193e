"""Measure refusal in a published chat model that refuses by itself, as chapters 01 and 02 do; into published.json and its card.

Nothing was planted there. A reply refuses if one of its sentences does (`judging.refuses`; how often that errs: docs/judge.md);
replies are greedy, of `REPLY_TOKENS` tokens, counted and dropped. The control of a direction is 20 random ones.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from course_lib import judging, models, organism, profiles, tokens
from factory.make import training
from factory.measure import planted

N, REPLY_TOKENS = 100, 32
SETS = (("harmful", "held_out_topic"), ("harmless", "held_out_topic"), ("borderline", "test"))
FILE, CARD = organism.folder("results") / "published.json", organism.folder("cards") / "published.md"


def refused(model: Any, prompts: Sequence[list[int]]) -> tuple[int, int]:
    """(replies with a sentence that refuses, replies)."""
    replies = (
        tokens.text(model.tokenizer, each) for each in models.generate(model, prompts, max_new_tokens=REPLY_TOKENS)
    )
    return sum(any(map(judging.refuses, re.split(r"(?<=[.!?])\s+", reply.strip()))) for reply in replies), len(prompts)


def measure(name: str, called: str) -> None:
    """Everything about one model, step by step; what is measured is kept.

    Args:
        name: what `models.load` takes.
        called: its name on the hub, under which it stands in the card.
    """
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found: dict[str, Any] = kept.setdefault(called, {})
    if name.endswith(".gguf"):
        found["weights"] = "Run from a GGUF file of 4-bit weights, made float32: near the published weights, not equal."
    model = models.load(name)
    refusal_ids = profiles.of(name, model).refusal_token_ids(model.tokenizer)

    def keep(**facts: Any) -> None:
        found.update(facts)
        training.write_json(FILE, kept)
        print(*facts, flush=True)

    if "behaviours" not in found:
        keep(n_layers=models.n_layers(model), behaviours=planted.behaviours(model, N, sets=SETS, count=refused))
    harmful, harmless = planted.learned_from(model)
    if "geometry" not in found:
        keep(geometry=planted.geometry(model, harmful, harmless, range(1, found["n_layers"])))
    if "candidates" not in found:
        scored = planted.candidates(model, harmful, harmless, range(5, found["n_layers"] - 3, 2), refusal_ids)
        keep(
            candidates=scored, winners={kind: planted.winners(rows, found["n_layers"]) for kind, rows in scored.items()}
        )
    for which in ("filtered", "best bypass"):
        best = [both[which] for both in found["winners"].values() if both[which]]
        if not best or which in found:
            continue
        layer = min(best, key=lambda row: row["bypass"])["layer"]
        both = planted.directions_at(harmful, harmless, layer)
        keep(**{which: planted.interventions(model, *both, layer, n=N, count=refused)})


def write_card() -> None:
    """Write organisms/cards/published.md from published.json."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    lines = [
        "# Published models that refuse by themselves",
        "",
        "Nothing was planted in them. `python -m factory measure-published --model NAME`; prompts are the course's own sets, whole greedy replies of",
        f"{REPLY_TOKENS} tokens are judged sentence by sentence, counted and dropped; 95 % intervals. Chosen as in 01: {planted.N_TRAIN} harmful and harmless requests",
        "make d before each second block, 16 of each choose the block, other topics are asked.",
        "",
    ]
    for called, found in kept.items():
        lines += [f"## {called}", "", *([found["weights"], ""] if "weights" in found else [])]
        lines += ["| requests | refused |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {planted.rate(pair)} |" for name, pair in found["behaviours"].items()]
        lines += ["", *planted.of_geometry(found["geometry"][::3]), planted.of_winners(found["winners"]), ""]
        for which in (name for name in ("filtered", "best bypass") if name in found):
            lines += ["#" + line if line.startswith("##") else line for line in planted.edits(found[which])]
    CARD.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8", newline="\n")
