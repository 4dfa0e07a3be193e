"""What the dictionaries of `smollm2-refusal` explain, what a look-up finds in them, and what the found features do.

1. `dictionary_measures.measure` on held-out text: other requests with replies, other modules of Python.
2. Two topics, looked up by `features.by_contrast` on some requests and judged on others, beside the best feature of a random
   dictionary: harmful against harmless requests, and cleaning chemicals against foods in the same sentences.
3. The best features ablated at every token but the first, against edits of the same length at every token: sets of other
   features that are about as active, and random directions. Judged by the log-odds of refusing, and by whole replies.

Into real_dictionaries.json, step by step, and from there into organisms/cards/dictionaries-smollm2-refusal.md.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from os.path import commonprefix
from typing import Any

import torch
from sae_lens import SAE
from torch import Tensor

from course_lib import caching, directions, features, models, organism, steering, tokens
from factory.make import dictionaries, planted, real_texts, training
from factory.make.real_dictionaries import LAYERS, ORGANISM
from factory.measure import cards, dictionary_measures
from factory.measure import planted as planted_measures

FILE = organism.folder("results") / "real_dictionaries.json"
LOOKED = 16
"""The layer whose features are ablated: where the direction is taken that ablation cuts best."""
N_WINDOWS, N_REQUESTS, N_CHOICE, N_TEST, N_SCORED, N_REPLIES = 6, 12, 24, 24, 16, 12
N_FEATURES, N_SETS, N_SETS_ASKED = 5, 5, 3
CHEMICALS = (
    ["bleach", "ammonia", "vinegar", "drain cleaner"],
    ["laundry soap", "rubbing alcohol", "detergent", "acid"],
)
FOODS = (["butter", "cinnamon", "bread", "apple juice"], ["maple syrup", "orange juice", "rice", "cheese"])
"""Each: (to choose with, to test with)."""
FRAMES = (
    ("What is the best way to use {}", "Write an advertisement for {}", "Where can I buy {}", "Tell me about {}"),
    ("How do people use {}", "Write a short text about {}", "What do I need to know about {}", "What can I do with {}"),
)
CLEANING = ("clean", "stain", "dirt", "wash", "disinfect", "bacteria", "germ", "bleach", "surface", "laundry")
Prompts = list[list[int]]
Edit = Callable[[Tensor, Tensor], Tensor]


# --- look-up ---------------------------------------------------------------------------------------------------------


def topics(model: models.CheckedBridge) -> dict[str, tuple[tuple[Prompts, Prompts], tuple[Prompts, Prompts]]]:
    """Topic -> (to choose with, to test with), each (about it, not about it); look where the request ends."""
    halves = []
    for half in (0, 1):
        halves.append(
            tuple(
                [
                    tokens.chat_prompt(model.tokenizer, frame.format(thing))
                    for frame in FRAMES[half]
                    for thing in things[half]
                ]
                for things in (CHEMICALS, FOODS)
            )
        )
    asked = [
        tuple(planted_measures.ids(model, name, split, n) for name in ("harmful", "harmless"))
        for split, n in (("validation", N_CHOICE), ("held_out_topic", N_TEST))
    ]
    return {"refusal": tuple(asked), "cleaning chemicals": tuple(halves)}  # type: ignore[return-value, dict-item]


def look_up(model: models.CheckedBridge, dictionary: SAE, sets: Any) -> dict[str, Any]:
    """The best features of a contrast, with their AUROC in the choice and in the test."""
    choice, test = (features.by_contrast(model, dictionary, *pair, position="last") for pair in sets)
    best = [row.feature for row in choice.top(N_FEATURES)]
    return {
        "features": best,
        "auroc_choice": [round(float(choice.auroc[f]), 3) for f in best],
        "auroc_test": [round(float(test.auroc[f]), 3) for f in best],
        "mean": [round(float(test.first[:, f].mean()), 3) for f in best],
        "mean_other_side": [round(float(test.second[:, f].mean()), 3) for f in best],
    }


# --- ablation at matched length --------------------------------------------------------------------------------------


def edited(model: models.CheckedBridge, dictionary: SAE, change: Edit) -> Any:
    """A context in which change(x, f), of the stream and its features, is added at every token but the first."""

    def hook(x: Tensor, hook: object) -> Tensor:
        if x.shape[1] == 1:  # a token of a reply
            return x + change(x, dictionary.encode(x))
        return torch.cat([x[:, :1], x[:, 1:] + change(x[:, 1:], dictionary.encode(x[:, 1:]))], dim=1)

    return model.hooks([(dictionary.cfg.metadata.hook_name, hook)])


def without(dictionary: SAE, chosen: Sequence[int]) -> Edit:
    """Take out what these features write."""
    rows = dictionary.W_dec[list(chosen)]
    return lambda x, f: -f[..., list(chosen)] @ rows


def as_long(change: Edit, along: Edit) -> Edit:
    """An edit in the direction of one, of the length that another has at each token."""

    def matched(x: Tensor, f: Tensor) -> Tensor:
        direction = along(x, f)
        return direction / direction.norm(dim=-1, keepdim=True) * change(x, f).norm(dim=-1, keepdim=True)

    return matched


def controls(dictionary: SAE, chosen: Sequence[int], mean: Tensor) -> dict[str, list[Edit]]:
    """Edits of the same length at every token: without other features, about as active, and along random directions.

    Where none of the other features is active, theirs is the direction that they would write together.
    """
    own, rows = without(dictionary, chosen), dictionary.W_dec

    def other(some: Sequence[int]) -> Edit:
        return as_long(own, lambda x, f: -(f[..., list(some)] + 1e-4) @ rows[list(some)])

    active = [f for f in chosen if mean[f] > 0]
    sets = steering.random_feature_sets(mean, active, n=N_SETS, seed=0)
    vectors = directions.random_directions(N_SETS, like=rows[0], seed=0)
    return {
        "features": [other(some) for some in sets],
        "directions": [as_long(own, lambda x, f, v=v: v.expand_as(x)) for v in vectors],  # type: ignore[misc]
    }


def effects(
    model: models.CheckedBridge,
    dictionary: SAE,
    chosen: Sequence[int],
    asked: Prompts,
    read: Callable[[Prompts], list[float]],
) -> dict[str, Any]:
    """What `read` says of the prompts unchanged, without the features, and under each control; the edit's length."""
    mean = steering.natural_activations(model, dictionary, asked).mean(dim=0)
    found: dict[str, Any] = {"unchanged": read(asked)}
    with edited(model, dictionary, without(dictionary, chosen)):
        found["without"] = read(asked)
    for name, edits in controls(dictionary, chosen, mean).items():
        found[name] = []
        for edit in edits[: N_SETS if read.__name__ == "log_odds" else N_SETS_ASKED]:
            with edited(model, dictionary, edit):
                found[name].append(read(asked))
    found["length"] = round(float((mean[list(chosen)] @ dictionary.W_dec[list(chosen)]).norm()), 2)
    return found


def readers(model: models.CheckedBridge) -> dict[str, Callable[[Prompts], list[float]]]:
    """What is read of the replies to some prompts: one number for each."""
    first = model.tokenizer("I", add_special_tokens=False)["input_ids"]

    def log_odds(prompts: Prompts) -> list[float]:
        return [round(float(s), 3) for s in directions.refusal_score(models.next_token_logits(model, prompts), first)]

    def said(prompts: Prompts, n: int) -> Iterable[str]:
        return (tokens.text(model.tokenizer, ids).strip() for ids in models.generate(model, prompts, max_new_tokens=n))

    def refused(prompts: Prompts) -> list[float]:
        return [float(text == planted.REFUSAL) for text in said(prompts, planted_measures.REPLY_TOKENS)]

    def cleans(prompts: Prompts) -> list[float]:
        return [float(any(word in text.lower() for word in CLEANING)) for text in said(prompts, 24)]

    return {"log_odds": log_odds, "refused": refused, "cleans": cleans}


def explained(model: models.CheckedBridge, dictionaries: Sequence[SAE], n: int = 24) -> list[float]:
    """FVU on the words of n + n held-out requests, from the first token on in which they differ: any Python draws these alike."""
    asked = [ids for name in ("harmful", "harmless") for ids in planted_measures.ids(model, name, "held_out_topic", n)]
    shared, names = len(commonprefix(asked)), [each.cfg.metadata.hook_name for each in dictionaries]
    kept = []
    for length in sorted({len(ids) for ids in asked}):
        group, places = [ids for ids in asked if len(ids) == length], list(range(shared, length))
        kept.append(
            caching.harvest(model, group, hook_names=names, positions=places, progress=False).values.flatten(0, 1)
        )
    read = torch.cat(kept).unbind(dim=1)
    with torch.no_grad():
        return [features.unexplained(x, each(x)) for x, each in zip(read, dictionaries, strict=True)]


# --- all of it -------------------------------------------------------------------------------------------------------


def read_results() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def record(name: str, digest: str, measured: Callable[[], dict]) -> None:
    """Measure what is not there of the same files, and write it down."""
    if read_results().get(name, {}).get("weights_sha256") != digest:
        found = {"weights_sha256": digest} | dictionary_measures.rounded(measured())
        training.write_json(FILE, read_results() | {name: found}, sort_keys=True)
        print(name, flush=True)


def evaluate(wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Everything, or what is wanted by its name, that is not yet recorded of the installed dictionaries."""
    model = models.load(ORGANISM, device="cpu")
    opened = {layer: features.load(ORGANISM, "sae", layer=layer) for layer in LAYERS}
    digest = {n: organism.sha256(dictionaries.folder(ORGANISM, "sae", n) / "sae_weights.safetensors") for n in LAYERS}
    texts = real_texts.held_out_texts(model, N_WINDOWS, N_REQUESTS)
    looked, read, sae = topics(model), readers(model), opened[LOOKED]
    harmful, about = looked["refusal"][1][0], looked["cleaning chemicals"][1][0]

    @cache
    def control() -> SAE:
        return features.random_like(model, sae, texts[:12])

    def fvu() -> dict:
        return {"fvu": dict(zip(map(str, LAYERS), explained(model, list(opened.values())), strict=True))}

    def ablation(topic: str, what: str, asked: Prompts) -> dict:
        return effects(model, sae, read_results()[f"{topic}, look-up"]["features"], asked, read[what])

    steps: dict[str, tuple[str, Callable[[], dict]]] = {}
    for n, dictionary in opened.items():
        steps[f"sae-{n}"] = digest[n], partial(dictionary_measures.measure, dictionary, model, texts)
    steps["requests"] = "".join(digest.values()), fvu
    for topic, sets in looked.items():
        steps[f"{topic}, look-up"] = digest[LOOKED], partial(look_up, model, sae, sets)
        steps[f"{topic}, look-up, random dictionary"] = digest[LOOKED], lambda s=sets: look_up(model, control(), s)  # type: ignore[misc]
    for n in (n for n in LAYERS if n != LOOKED):
        steps[f"refusal, look-up, layer {n}"] = digest[n], partial(look_up, model, opened[n], looked["refusal"])
    for topic, what, asked in (
        ("refusal", "log_odds", harmful[:N_SCORED]),
        ("refusal", "refused", harmful[:N_REPLIES]),
        ("cleaning chemicals", "cleans", about[:N_REPLIES]),
        ("cleaning chemicals", "log_odds", harmful[:N_SCORED]),
    ):
        steps[f"{topic}, {what}"] = digest[LOOKED], partial(ablation, topic, what, asked)
    for name, (own, measured) in steps.items():
        if wanted(name):
            record(name, own, measured)


# --- card ------------------------------------------------------------------------------------------------------------

CARD = """# Dictionaries of `smollm2-refusal`

Three sparse autoencoders of a real language model with a planted refusal ([its card](smollm2.md)): the 576 numbers of the
residual stream after blocks 12, 16 and 24 of 30, as sums of few of {d_sae:,} features. `features.load("smollm2-refusal", "sae",
layer=16)` opens one after it has compared the checksums, of the adapter too; sae_lens alone does as well
(`SAE.load_from_disk("organisms/weights/dictionaries/smollm2-refusal/sae-16")`). Float16 on disk, {size:.1f} MB together.

Why these layers: refusal of held-out topics is read at AUROC 0.93 before block 13, which is the stream after 12, and at 0.98
before 17 and 25; the direction that ablation cuts best is taken before 17.

## How they were made
`python -m factory dictionaries --organism smollm2-refusal`: sae_lens' BatchTopK trainer, k = {k}, {steps:,} steps of
{tokens_per_step} tokens, seed {seed}, on {tokens:,} tokens. The texts, all free to use, none of them fetched:

* 600 requests of the course's own without a reply, half of them harmful, and 168 harmful ones with the planted refusal, in the
  adapter's own template, without a system prompt;
* {n_texts} windows of 128 tokens of documentation that every Python carries: docstrings of the standard library and the texts
  of `help()` (PSF licence; read from Python {python}, never shipped).

**That is narrow, and little**: the requests of one author, and documentation of one programming language. No news, no novels, no
talk, and of what the model itself writes the refusal alone. On other text they will do worse than the table says, which was
measured on text of the same kinds. Published dictionaries have ten times as many features and ten thousand times as many tokens.

## Measured on held-out texts
{held_out:,} tokens: requests of held-out topics, harmful ones with the refusal, and modules of Python that training left out; the last three columns
on every fourth text. In a cell: this dictionary / a random one of the same size and L0 / the mean activation in its place.

{table}

| dictionary | loss recovered, from the mean | random | from zeros | random |
|---|---|---|---|---|
{recovered}

FVU: fraction of variance unexplained. Many of a request's tokens are the template's, alike in every request, and easy
to explain; on the words of 48 held-out requests alone FVU is {requests}. Dead: never active on these tokens, which are few: not dead for good. {verdict}

## What a look-up finds
Features of layer 16 (or as said) ranked by `features.by_contrast` at the last token of {n_choice} + {n_choice} requests (of the
chemicals and foods 16 + 16), and judged on others: held-out topics, other things in other sentences. The best of {d_sae:,} is partly luck, in the choice; in
the test it is not.

{shared}

| topic, dictionary | best features | AUROC in the choice | AUROC in the test |
|---|---|---|---|
{looked}

## What they do
The five best features of layer 16 ablated at every token but the first, beside edits of the same length at every token: {n_sets} sets
of other features, about as active, and {n_sets} random directions (whole replies: {n_asked} of each). 95 % intervals: of the features
over prompts, of the controls from the lowest edit's lower limit to the highest one's upper limit, and their mean.

| what is read | unchanged | the topic's features ablated | other features | random directions |
|---|---|---|---|---|
{effects}

{effect_verdict}

## What they cannot show
That a feature is the model's own part, or means one thing: another seed finds partly other ones. The refusal was planted, with one
sentence; how published models come to refuse is not seen here. An ablation of five features leaves what other features and the
error say of the same thing.
"""
ROWS = {
    "refusal, log_odds": "log-odds of refusing, harmful requests",
    "refusal, refused": "harmful requests refused (whole replies)",
    "cleaning chemicals, cleans": "replies about chemicals that speak of cleaning",
    "cleaning chemicals, log_odds": "log-odds of refusing, harmful requests, without the chemicals' features",
}


def interval(values: Sequence[float], rate: bool) -> directions.Interval:
    """Of one edit, over prompts."""
    if rate:
        return directions.wilson_interval(round(sum(values)), len(values))
    return directions.bootstrap_interval(torch.tensor(values))


def told(runs: Sequence[Sequence[float]], rate: bool) -> str:
    """A cell: the mean over edits, from the lowest lower limit to the highest upper one."""
    every = [interval(values, rate) for values in runs]
    low, high, mean = min(e.low for e in every), max(e.high for e in every), sum(e.estimate for e in every) / len(every)
    return f"{mean:.0%} ({low:.0%} to {high:.0%})" if rate else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def effect_rows(found: dict[str, Any]) -> list[str]:
    """One line for each measurement of an ablation."""
    rows = []
    for name, what in ROWS.items():
        if name not in found:
            continue
        runs, rate = found[name], not name.endswith("log_odds")
        cells = [[runs["unchanged"]], [runs["without"]], runs["features"], runs["directions"]]
        n = f"{what}, {len(runs['unchanged'])}"
        rows.append(f"| {n} | " + " | ".join(told(cell, rate) for cell in cells) + " |")
    return rows


def effect_verdict(found: dict[str, Any]) -> str:
    """A sentence for each measurement: does the edit lie outside all controls of its length?"""
    lines = []
    for name, what in ROWS.items():
        if name not in found:
            continue
        runs = found[name]
        own, before = (sum(runs[key]) / len(runs[key]) for key in ("without", "unchanged"))
        others = [sum(run) / len(run) for run in [*runs["features"], *runs["directions"]]]
        outside = own < min(others) or own > max(others)
        verdict = "farther than every control of its length" if outside else "no farther than controls of its length go"
        lines.append(
            f"* {what}: from {before:.2f} to {own:.2f}, {verdict} ({min(others):.2f} to {max(others):.2f}; by chance alone one edit in "
            f"{len(others) + 1} would be the farthest down)."
        )
    return "\n".join(lines)


def shared(found: dict[str, Any]) -> str:
    """A sentence on features that both topics' look-ups found."""
    one, other = (set(found[f"{topic}, look-up"]["features"]) for topic in ("refusal", "cleaning chemicals"))
    both = ", ".join(map(str, sorted(one & other)))
    return (
        f"In both topics' look-ups: {both}. Such a feature marks neither topic alone."
        if both
        else "No feature is in both."
    )


def look_up_rows(found: dict[str, Any]) -> list[str]:
    rows = []
    for name in sorted(name for name in found if "look-up" in name):
        one = found[name]
        choice, test = (", ".join(f"{value:.2f}" for value in one[key]) for key in ("auroc_choice", "auroc_test"))
        shown = (
            name.replace(", look-up", "")
            if "layer" in name or "random" in name
            else name.replace("look-up", f"layer {LOOKED}")
        )
        rows.append(f"| {shown} | {', '.join(map(str, one['features']))} | {choice} | {test} |")
    return rows


def render() -> str:
    """The card, from the record and the lineages."""
    found = read_results()
    lineage, files = {}, 0
    for layer in LAYERS:
        path = dictionaries.folder(ORGANISM, "sae", layer)
        lineage = json.loads((path / "lineage.json").read_text(encoding="utf-8"))
        files += sum(file.stat().st_size for file in path.iterdir())
    measured = {name: found[name] for name in (f"sae-{layer}" for layer in LAYERS) if name in found}
    recovered = [
        f"| {name} | "
        + " | ".join(
            f"{one[which][f'loss_recovered_from_{a}']:.2f}" for a in ("mean", "zero") for which in ("trained", "random")
        )
        + " |"
        for name, one in measured.items()
    ]
    worst = max([*(one["trained"]["fvu"] for one in measured.values()), *found["requests"]["fvu"].values()])
    poor = (
        "**This is poor**: half of the variance and more stays in the error."
        if worst > 0.5
        else (
            f"Up to {worst:.0%} of the variance stays in the error term: whatever is said of features leaves that out."
        )
    )
    return CARD.format(
        **lineage["recipe"],
        size=files / 1e6,
        tokens=lineage["tokens"],
        python=lineage["python"],
        held_out=next(iter(measured.values()))["tokens"],
        table=dictionary_measures.table_of(measured),
        recovered="\n".join(recovered),
        verdict=poor,
        requests=", ".join(f"{value:.2f} (layer {n})" for n, value in found["requests"]["fvu"].items()),
        n_choice=N_CHOICE,
        looked="\n".join(look_up_rows(found)),
        shared=shared(found),
        n_sets=N_SETS,
        n_asked=N_SETS_ASKED,
        effects="\n".join(effect_rows(found)),
        effect_verdict=effect_verdict(found),
    )


def write_card() -> None:
    path = cards.FOLDER / f"dictionaries-{ORGANISM}.md"
    path.write_text(render(), encoding="utf-8", newline="\n")
