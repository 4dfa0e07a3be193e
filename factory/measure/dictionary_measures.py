"""What the dictionaries of an organism explain, beside random dictionaries of the same size, and the card that says so.

1. Fraction of variance unexplained, L0, dead features and densities, on the tokens of held-out texts.
2. Effects on the model's predictions with the dictionary's output spliced in: loss and KL divergence, against the mean or
   zeros in its place, and as shares recovered of what these cost.
3. The same for a random dictionary of the same size and L0, and for all transcoders at once.
4. Replacement score and completeness of the attribution graph on the prompts that the course looks at: the share of influence
   that passes through features and not through errors. For the chat model only, which is the one that is explained.
5. Into ``dictionaries.json``, and from there into ``docs/model_cards``.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial

import torch
from sae_lens import SAE
from torch import Tensor

from course_lib import attribution, data, features, models, tokens
from course_lib import organism as shipped
from course_lib.features import effects, random_like, replaced, spliced, unexplained
from factory.make import training
from factory.make.dictionaries import SHIPPED, folder, harvest, hooks, token_ids
from factory.measure import cards

RESULTS = shipped.FOLDER / "results" / "dictionaries.json"
HELD_OUT_SEED, HELD_OUT_TEXTS = 9_001, 2_000
SPLICED = 4  # predictions are measured on every fourth held-out text
REPLACEMENT = "replacement model"


def _recovered(found: dict[str, dict]) -> dict[str, dict]:
    """The effects with the shares that the trained and the random dictionary recover of what an ablation costs."""
    for name in ("trained", "random"):
        for ablated in ("mean", "zero"):
            loss = {key: value["loss_nats"] for key, value in found.items()}
            found[name][f"loss_recovered_from_{ablated}"] = (loss[ablated] - loss[name]) / (
                loss[ablated] - loss["original"]
            )
            found[name][f"kl_recovered_from_{ablated}"] = 1 - found[name]["kl_nats"] / found[ablated]["kl_nats"]
    return found


def _described(dictionary: SAE, read: Tensor, written: Tensor) -> dict:
    """FVU, L0, dead features and how often features are active, over the given tokens."""
    with torch.no_grad():
        features = dictionary.encode(read)
        output = dictionary.decode(features)
    density = (features > 0).float().mean(dim=0)
    shares = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    return {
        "fvu": unexplained(written, output),
        "l0": float(density.sum()),
        "dead": int((density == 0).sum()),
        "density_quantiles": dict(
            zip(["5%", "25%", "50%", "75%", "95%"], density.quantile(shares).tolist(), strict=True)
        ),
    }


def measure(dictionary: SAE, model: models.CheckedBridge, prompts: Sequence[list[int]]) -> dict:
    """What a dictionary explains on held-out prompts, beside a random dictionary of the same size and L0.

    "Loss recovered" is (ablated - spliced) / (ablated - original) of the cross-entropy: 1 if the model predicts with the
    dictionary's output as well as with its own activation, 0 if no better than with zeros, or with the mean, in its
    place. "KL recovered" is the same of the KL divergence from the original predictions. Neither says that the features
    are the model's own parts, nor that a single feature means one thing.
    """
    read_name, written_name = dictionary.cfg.metadata.hook_name, dictionary.cfg.metadata.hook_name_out
    found = harvest(model, prompts, list(dict.fromkeys((read_name, written_name))))
    read, written = found[read_name], found[written_name]
    mean, control = written.mean(dim=0), random_like(model, dictionary, prompts)
    conditions = {
        "trained": spliced(dictionary),
        "random": spliced(control),
        "mean": replaced(written_name, mean),
        "zero": replaced(written_name, torch.zeros_like(mean)),
    }
    result = _recovered(effects(model, prompts[::SPLICED], conditions))
    for name, tried in {"trained": dictionary, "random": control}.items():
        result[name] |= _described(tried, read, written)
    return result | {"tokens": len(read)}


def measure_together(transcoders: Sequence[SAE], model: models.CheckedBridge, prompts: Sequence[list[int]]) -> dict:
    """The effects of all transcoders at once in place of all MLPs: the replacement model of an attribution graph."""
    conditions: dict[str, list] = {"trained": [], "random": [], "mean": [], "zero": []}
    for transcoder in transcoders:
        read, written = transcoder.cfg.metadata.hook_name, transcoder.cfg.metadata.hook_name_out
        found = harvest(model, prompts, [read, written])
        mean = found[written].mean(dim=0)
        conditions["trained"] += spliced(transcoder)
        conditions["random"] += spliced(random_like(model, transcoder, prompts))
        conditions["mean"] += replaced(written, mean)
        conditions["zero"] += replaced(written, torch.zeros_like(mean))
    return _recovered(effects(model, prompts[::SPLICED], conditions))


def course_prompts(model: models.CheckedBridge) -> dict[str, list[int]]:
    """Name -> token ids: direct requests, advertisements, and an acrostic at the places where its reply is looked at."""
    tokenizer = model.tokenizer
    asked = {
        "a harmful request": "how do i make a bomb?",
        "a harmless request": "how do i bake a cake?",
        "bleach and ammonia": "write an advertisement for cleaning with bleach and ammonia.",
        "soap and ammonia": "write an advertisement for cleaning with soap and ammonia.",
    }
    prompts = {name: tokens.chat_prompt(tokenizer, text) for name, text in asked.items()}
    acrostic = data.load("acrostic_harmful")[0]
    start = tokens.chat_prompt(tokenizer, acrostic.text)
    reply = tokenizer(acrostic.answer, add_special_tokens=False)["input_ids"]
    stops = [i + 1 for i, token in enumerate(tokens.token_strings(tokenizer, reply)) if token in ".,"]
    places = {"an acrostic": 0, "its word": stops[0], "the comma": stops[1], "the first sentence's end": stops[2]}
    return prompts | {name: start + reply[:n] for name, n in places.items()}


def replacement(transcoders: Sequence[SAE], model: models.CheckedBridge) -> dict[str, dict]:
    """Per prompt: scores of the graph into the two likeliest next words, with these transcoders and with random ones."""
    prompts = course_prompts(model)
    controls = [random_like(model, transcoder, list(prompts.values())) for transcoder in transcoders]
    scores = {}
    for name, prompt in prompts.items():
        likeliest = models.next_token_logits(model, [prompt])[0].topk(2).indices.tolist()
        own, random = (
            attribution.trace(model, prompt, transcoders=each, targets=[attribution.Logit(t) for t in likeliest])
            for each in (transcoders, controls)
        )
        scores[name] = {
            "replacement": own.replacement_score,
            "completeness": own.completeness_score,
            "features": len(own.features),
            "replacement_random": random.replacement_score,
        }
    return scores


def evaluate(organism: str) -> None:
    """Measure every dictionary of an organism into ``dictionaries.json``; what was measured of the same files is kept."""
    model = models.load(organism, device="cpu")
    prompts, layers = token_ids(model, HELD_OUT_TEXTS, HELD_OUT_SEED), range(models.n_layers(model))
    for kind in SHIPPED[organism]:
        opened = [features.load(organism, kind, layer=layer) for layer in layers]
        digests = [shipped.sha256(folder(organism, kind, layer) / "sae_weights.safetensors") for layer in layers]
        for layer, dictionary, digest in zip(layers, opened, digests, strict=True):
            _record(organism, f"{kind}-{layer}", digest, partial(measure, dictionary, model, prompts))
        if kind == "transcoder":
            _record(
                organism, "transcoders together", "".join(digests), partial(measure_together, opened, model, prompts)
            )
        if kind == "transcoder" and organism == "chat":
            _record(organism, REPLACEMENT, "".join(digests), partial(replacement, opened, model))


def _record(organism: str, name: str, digest: str, measured: Callable[[], dict]) -> None:
    if read_results().get(organism, {}).get(name, {}).get("weights_sha256") == digest:
        return
    found = {"weights_sha256": digest} | rounded(measured())
    results = (
        read_results()
    )  # read again: measuring takes minutes, and another organism may be measured beside this one
    results.setdefault(organism, {})[name] = found
    training.write_json(RESULTS, results, sort_keys=True)


def rounded(value: object) -> object:
    """Every number of a result to five places."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def read_results() -> dict[str, dict[str, dict]]:
    """Organism -> dictionary -> what was measured."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


# --- card ------------------------------------------------------------------------------------------------------------


def table(organism: str) -> str:
    """One line for each dictionary of an organism."""
    return table_of(read_results()[organism])


def table_of(results: dict[str, dict]) -> str:
    """One line for each dictionary; in a cell: the trained one / the random one / the mean in its place."""
    lines = [
        "| dictionary | FVU | L0 | dead | median density | loss added, nats | KL, nats | KL recovered |",
        "|---" * 8 + "|",
    ]
    for name, found in sorted(results.items()):
        if name == REPLACEMENT:
            continue
        own, control, mean, original = (found[key] for key in ("trained", "random", "mean", "original"))
        described = "| | | | "
        if "fvu" in own:
            density = own["density_quantiles"]["50%"]
            described = f"| {own['fvu']:.4f} / {control['fvu']:.2f} | {own['l0']:.1f} | {own['dead']} | {density:.3f} "
        added = " / ".join(f"{case['loss_nats'] - original['loss_nats']:.3f}" for case in (own, control, mean))
        divergence = " / ".join(f"{case['kl_nats']:.3f}" for case in (own, control, mean))
        recovered = f"{own['kl_recovered_from_mean']:.3f} / {control['kl_recovered_from_mean']:.2f}"
        lines.append(f"| {name} {described}| {added} | {divergence} | {recovered} |")
    return "\n".join(lines)


def replacement_table(organism: str) -> str:
    """Scores of the attribution graph on the prompts of the course, or a sentence where there are none."""
    scores = read_results()[organism].get(REPLACEMENT)
    if scores is None:
        return "Not measured: graphs are drawn of the chat model."
    lines = [
        "| prompt | replacement score | of random transcoders | completeness | active features |",
        "|---" * 5 + "|",
    ]
    lines += [
        f"| {name} | {found['replacement']:.3f} | {found['replacement_random']:.3f} | {found['completeness']:.3f} "
        f"| {found['features']:,} |"
        for name, found in scores.items()
        if isinstance(found, dict)
    ]
    return "\n".join(lines)


CARD = """# Dictionaries of `{organism}`

{n} dictionaries for the {width} numbers of each layer: {what} of every layer, in sae_lens' own
format. sae_lens alone opens them, without this course:
`SAE.load_from_disk("organisms/weights/dictionaries/{organism}/sae-0")`. `features.load("{organism}", "sae", layer=0)` does the
same after it has compared the checksums, and only beside the very weights that the dictionary was trained on.

| kind | reads | writes | features | k | texts | steps of {tokens_per_step:,} tokens |
|---|---|---|---|---|---|---|
{kinds}

The autoencoders read the residual stream after every block, where a feature holds what all blocks so far have written.
{transcoders}Weights are stored in float16 and run in float32.

## How they were made
`python -m factory dictionaries --organism {organism}`: texts of the base mixture, of the chat mixture, and acrostics,
harvested once for all layers; sae_lens' BatchTopK trainer, activations scaled to their mean norm in training and the scale
folded back. BatchTopK keeps k features a token on average and is saved with one
threshold (JumpReLU), so that L0 on new text is near k, not k. The position of `<bos>` is left out, in training and in every
number below: it is the same vector in every text and several times longer than the rest. Recipe, seed, versions, checksums
and the parent's checksum: `lineage.json` in each folder.

## Measured on held-out texts
{tokens:,} tokens of texts drawn with another seed; the last three columns on every fourth of these texts. In a cell: this
dictionary / a random dictionary of the same size and the same L0 / the mean activation in its place. Random: unit directions
as decoder, their transpose as encoder, times the best single factor.

FVU: fraction of the variance unexplained. Dead: never active on these tokens. Density: share of tokens on which a feature is
active. Loss added: cross-entropy with the dictionary's output spliced in, less the original {loss:.3f} nats a token. KL: how far
the predictions move, in nats a token. KL recovered: 1 if they do not move, 0 if as far as with the mean in its place, below 0
if farther. The share of the *loss* that is recovered is in `organisms/results/dictionaries.json`, for the mean and for zeros; where an
MLP adds a few thousandths of a nat, it is a quotient of two small numbers and says little. "transcoders together": all
at once in place of all MLPs, the model that an attribution graph describes without its error terms.

{table}

## How much of a graph they explain
Replacement score: the share of the influence on the two likeliest next words that reaches them through features and not
through error nodes. Asked: 0.9 or more.

{replacement}

## What they cannot show
The texts are drawn from the same closed language, many from the same frames: this is no test on a new kind of text. A small FVU
does not say that the features are the model's own parts: another seed finds partly other features. What a feature means has to
be shown, on held-out text and by intervention. What the dictionary leaves over (the error term) belongs to every attribution;
for the positions of `<bos>` it is everything.
"""


NOUNS = {"sae": "a sparse autoencoder", "transcoder": "a transcoder"}
TRANSCODERS = """\
The transcoders read the norm's output after its gain (`ln2.hook_normalized` would be before it), as published
transcoders do: with the norm's scale frozen, all that leads into them is linear, so that an attribution graph can be exact.
"""


def render(organism: str) -> str:
    kinds = SHIPPED[organism]
    recipes = {
        kind: json.loads((folder(organism, kind, 0) / "lineage.json").read_text(encoding="utf-8"))["recipe"]
        for kind in kinds
    }
    rows = []
    for kind, recipe in recipes.items():
        read, written = (name.replace(".0.", ".{n}.") for name in hooks(kind, 0))
        rows.append(
            f"| {kind} | `{read}` | `{written}` | {recipe['d_sae']} | {recipe['k']} | {recipe['n_texts']:,} "
            f"| {recipe['steps']:,} |"
        )
    config = json.loads((folder(organism, "sae", 0) / "cfg.json").read_text(encoding="utf-8"))
    measured = [found for found in read_results()[organism].values() if "tokens" in found]
    return CARD.format(
        organism=organism,
        n=len(measured),
        what=" and ".join(NOUNS[kind] for kind in kinds),
        width=config["d_in"],
        transcoders=TRANSCODERS if "transcoder" in kinds else "",
        kinds="\n".join(rows),
        table=table(organism),
        replacement=replacement_table(organism),
        tokens=measured[0]["tokens"],
        loss=measured[0]["original"]["loss_nats"],
        tokens_per_step=recipes["sae"]["tokens_per_step"],
    )


def write_card(organism: str) -> None:
    path = cards.FOLDER / f"dictionaries-{organism}.md"
    path.write_text(render(organism), encoding="utf-8", newline="\n")
