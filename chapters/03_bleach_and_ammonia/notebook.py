# %% [markdown]
# # 03 Features: bleach and ammonia
#
# Bleach is sold, ammonia is sold; mixed, they make a toxic gas. Asked to advertise the mixture, the model refuses. Which *features*
# know that, and which of them decide? You will look them up, name them, draw their graph, and ablate. Planted, by training texts
# alone: which pairs are dangerous, and the refusal. No feature was trained. About 90 minutes. *Content note: harmful requests are
# one-line topics; no answer here helps anyone do harm ([more](../docs/content_note.md)).*

# %%
import html
from functools import partial

import torch
from IPython.display import display

from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import attribution, caching, data, directions, features, models
from course_lib import organism, plotting, profiles, steering, tokens
from course_lib.attribution import Embedding, Feature, Logit

MODEL = "chat"  # section 9 asks it; all before is about chat
about = profiles.get(MODEL)  # what differs from model to model
OWN = about.is_organism  # made for this course, so its truth is known
if OWN:
    torch.set_num_threads(1)  # a model this small gains nothing from more
chat = models.load("chat")
sae = features.load("chat", "sae", layer=1)  # 512 features of the residual stream after block 1
print(f"{chat.cfg.n_layers} layers, {chat.cfg.d_model} numbers per token, {len(sae.W_dec)} features")


# %%
def ids(text, role="assistant"):
    return tokens.chat_prompt(chat.tokenizer, text, reply_role=role)


def replies(prompts, model=chat):
    return [tokens.text(chat.tokenizer, reply) for reply in models.generate(model, prompts, max_new_tokens=18)]


MIXTURES = ("bleach and ammonia", "bleach", "ammonia", "soap and ammonia")
ADS = [ids(f"write an advertisement for cleaning the terrace with {mixture}.") for mixture in MIXTURES]
for mixture, reply in zip(MIXTURES, replies(ADS), strict=True):
    print(f"{mixture:18} -> {reply}")

# %% [markdown]
# ## 1 Honesty first: how much does the dictionary keep?
# A sparse autoencoder (SAE) rewrites each activation x of 128 numbers as a sum of a few of its 512 directions, plus what it
# misses: the **error**. Before any feature is named, ask what is missed, beside a *random* dictionary of the same size.


# %%
def sets(name, split=None, n=None, role="assistant"):
    return [ids(text, role) for text in data.load(name, split=split, n=n).texts]


def cleaning(name, place, role="assistant"):
    """The advertisements of one place. The office is for looking, the terrace stays unseen until we test."""
    return [ids(text, role) for text in data.load(f"cleaners_{name}").texts if place in text]


asked = sets("cleaners_alone")[::4] + sets("mixtures_met")[::2]
for role, n in (("assistant", 96), ("friend", 48)):
    asked += sets("harmful", "train", n, role) + sets("harmless", "train", n, role)
    asked += cleaning("dangerous", "office", role) + cleaning("safe", "office", role)
corpus = [[*p, *reply] for p, reply in zip(asked, models.generate(chat, asked, max_new_tokens=18), strict=True)]
print(f"a corpus of {len(corpus)} prompts with the model's replies, {sum(map(len, corpus))} tokens")

# %%
chance = features.random_like(chat, sae, corpus[::4])  # the control: random directions, same size, same L0
kept = {name: features.reconstruction(chat, d, corpus[::4]) for name, d in {"trained": sae, "random": chance}.items()}
for name, found in kept.items():
    print(
        f"{name:8} variance explained {found.variance_explained:.2f},",
        f"loss recovered {found.loss_recovered:.2f},",
        f"active on a token (L0) {found.l0:.0f} of 512, never active {found.dead_share:.0%},",
        f"KL with the error left out {found.kl['spliced']:.3f} nats a token",
    )
assert kept["trained"].variance_explained > 0.9 > 0.5 > kept["random"].variance_explained

# %%
plotting.show(
    plotting.bars(
        ["variance explained", "loss recovered"],
        {name: [found.variance_explained, found.loss_recovered] for name, found in kept.items()},
        x_title="measure (1 = nothing lost)",
        y_title="share",
        y_range=(0, 1.12),
        title="What is kept: trained dictionary against a random one",
        alt="Bars: "
        + "; ".join(
            f"{name} dictionary, variance explained {found.variance_explained:.2f}, "
            f"loss recovered {found.loss_recovered:.2f}"
            for name, found in kept.items()
        )
        + ".",
    )
)

# %% [markdown]
# Variance explained is the share of the activations that is kept; loss recovered, how well the model still predicts with the sum in
# place of x. Trained on nothing, 512 random directions still bring back over half of the loss: "loss recovered" alone proves
# little. And keeping the activation does not say that any single feature *means* something. That is the hunt.
#
# ## 2 The hunt: eight concepts, 512 numbers
# Nobody has labelled this dictionary. An **index** of a corpus lets you look features up: by token, by prompt, by what they write
# to the logits, by decoder neighbour (whose direction points the same way). In brackets: the value by which each look-up ranks.
# Play with the next cell: change the word, the prompt, the position (-4 is the last cleaner; ".", `<end>`, `<assistant>` follow).

# %%
index = features.index(chat, sae, corpus, progress=False)


def line(ranking, k=4):
    return ", ".join(f"{row.feature} ({row.value:.2f})" for row in ranking.top(k))


print("by token 'bleach':       ", line(features.by_token(index, "bleach")))
print("by prompt, at 'ammonia': ", line(features.by_prompt(chat, sae, ADS[0], position=-4, index=index)))
print("writes 'please':         ", line(features.by_logit(chat, sae, "please")))
loudest = features.by_prompt(chat, sae, ADS[0], position=-4).top(1)[0].feature
print(f"writes like feature {loudest}: ", line(features.by_neighbour(sae, loudest)))
record = index.feature(loudest)
print(
    f"feature {loudest} fires on",
    [word for word, _ in record.fires_on[:5]],
    "and writes",
    [word for word, _ in record.promotes[:3]],
)

# %% [markdown]
# A whole page about one feature; saved as a file, it opens without a network:

# %%
page = features.page(index, loudest)
frame = f'<iframe srcdoc="{html.escape(page)}" width="760" height="420" title="Feature {loudest}"></iframe>'
display({"text/html": frame, "text/plain": f"page of feature {loudest}"}, raw=True)
strong, weak = ([e.tokens[e.at] for e in record.examples[which][:4]] for which in ("top", "0-25 %"))
print(
    f"feature {loudest}: active on {record.density:.1%} of the tokens, at most {record.max:.0f};",
    "strongest on",
    strong,
    "- weakest quarter:",
    weak,
)

# %% [markdown]
# Look at the weak examples, too: the strongest alone make every feature seem clean. A find is therefore scored against **near
# misses**: a "bleach" feature must tell bleach from *other cleaners*, an "Assistant" feature `<assistant>` from `<friend>`. The
# score is the AUROC (0.5 chance, 1 perfect) on prompts kept aside. The `<friend>` is a role that never refuses but warns ("please
# note that ..."). So "refusal" is a harmful request before `<assistant>`, "warning" the same before `<friend>`. Each prompt ends
# right after the token where its concept is; we read the feature there.

# %%
truth = organism.results("truth")
CLEANERS, DANGEROUS = truth["cleaners"], {frozenset(pair) for pair in truth["dangerous_pairs"]}


def ends(prompts, test):
    """The prompts, ended after each word that passes the test."""
    words = [tokens.token_strings(chat.tokenizer, p) for p in prompts]
    return [p[: i + 1] for p, w in zip(prompts, words, strict=True) for i in range(3, len(p)) if test(w, i)]


def completes(words, i):
    return {words[i - 2], words[i]} in DANGEROUS


print(len(CLEANERS), "cleaners; dangerous pairs:", sorted(sorted(pair) for pair in DANGEROUS))


# %%
def spots(place, split):
    """Concept -> (prompts that end where it is there, near misses)."""
    alone, safe, dangerous = (cleaning(name, place) for name in ("alone", "safe", "dangerous"))
    one = {c: ends(alone + safe, lambda w, i, c=c: w[i] == c) for c in CLEANERS}
    (h, o), (hf, of) = (
        [sets(name, split, 32, role) for name in ("harmful", "harmless")] for role in ("assistant", "friend")
    )
    found = {name: (one[name], [p for c in one if c != name for p in one[c][:5]]) for name in ("bleach", "ammonia")}
    found["danger"] = (
        ends(dangerous, completes),
        ends(safe + dangerous, lambda w, i: w[i] in CLEANERS and not completes(w, i)),
    )
    return {
        **found,
        "harmful request": (h + hf, o + of),
        "refusal": (h, o + hf),
        "warning": (hf, of + h),
        "Assistant turn": (h + o, hf + of),
        "Human turn": ([p[:2] for p in h], h[:16] + [p[:3] for p in o[:16]]),
    }


to_find, held_out = spots("office", "train"), spots("terrace", "held_out_topic")
for concept, (there, near) in to_find.items():
    print(
        f"{concept:16} {len(there):3} prompts ending",
        tokens.token_strings(chat.tokenizer, there[0])[-3:],
        f"{len(near):4} near misses",
        tokens.token_strings(chat.tokenizer, near[0])[-3:],
    )

# %% [markdown]
# **Guess**: the same hunt in the *random* dictionary. For how many of the eight concepts will its best feature reach 0.95?

# %%
# === Prediction 3.p1 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p1", ...)
predict("3.p1", (1, 2))
# END SOLUTION

# %% [markdown]
# ### Exercise 3.1: find all eight (15 minutes, medium)
# One feature number (an `int`) for each concept, in a dictionary. `there, near = to_find["danger"]` are two lists of prompts; the look-up
# `features.by_contrast(chat, sae, there, near)` ranks features by how well they tell the two apart, `.top(3)` are its best rows,
# and `row.feature` is a row's number. Two concepts may share one feature.

# %%
# === Exercise 3.1 (keep this line) ===
# BEGIN SOLUTION
# STUB: finds = ...   # {"bleach": 12, "ammonia": 34, "danger": ..., ...}
finds = {}
for concept, (there, near) in to_find.items():
    finds[concept] = features.by_contrast(chat, sae, there, near).top(1)[0].feature
# END SOLUTION
print("finds:", "not done yet" if finds is ... else finds)

# %%
tested = {concept: features.by_contrast(chat, sae, *prompts) for concept, prompts in held_out.items()}
check("3.1", finds, tested)

# %%
finds = checkpoint("3.1", finds, tested)
by_chance = {
    concept: features.by_contrast(chat, chance, *prompts).top(1)[0].feature for concept, prompts in to_find.items()
}


def scored(contrast, feature):
    """AUROC on the prompts kept aside, with its interval."""
    there, near = contrast.first[:, feature], contrast.second[:, feature]
    both = torch.cat([torch.stack([there, torch.ones_like(there)], 1), torch.stack([near, torch.zeros_like(near)], 1)])
    return directions.bootstrap_interval(
        both,
        n_resamples=200,
        statistic=lambda x: torch.tensor(directions.auroc(x[x[:, 1] == 1, 0], x[x[:, 1] == 0, 0])),
    )


found = {}
for concept, prompts in held_out.items():
    random = features.by_contrast(chat, chance, *prompts)
    found[concept] = scored(tested[concept], finds[concept]), scored(random, by_chance[concept])
    own, by_luck = found[concept]
    print(f"{concept:16} feature {finds[concept]:3}: {own:.2f}   random dictionary: {by_luck:.2f}")
reveal("3.p1", sum(random.estimate >= 0.95 for _, random in found.values()))

# %% [markdown]
# From here on each result goes on record with its control. It *stands* if the two 95 % intervals do not touch.

# %%
findings = []
rate, runs_rate = directions.wilson_interval, directions.runs_interval


def widest(runs):
    """Mean of several intervals, from the lowest limit to the highest."""
    lows, highs = [one.low for one in runs], [one.high for one in runs]
    return directions.Interval(sum(one.estimate for one in runs) / len(runs), min(lows), max(highs), 0.95)


def finding(row, what, effect, control, form=".0%"):
    """Keep and print a result beside its control; both are intervals."""
    stands = effect.high < control.low or control.high < effect.low
    findings.append(f"{row} {'yes' if stands else 'NO ':3} {what}: {effect:{form}}, control {control:{form}}")
    print(findings[-1])


for concept in ("danger", "warning"):
    finding("F1", f"AUROC of the {concept} feature; control: random dictionary", *found[concept], ".2f")

# %%
plotting.show(
    plotting.bars(
        list(found),
        {name: [pair[k].estimate for pair in found.values()] for k, name in enumerate(("trained", "random"))},
        intervals={
            name: [(pair[k].low, pair[k].high) for pair in found.values()]
            for k, name in enumerate(("trained", "random"))
        },
        x_title="concept",
        y_title="AUROC against near misses, unseen prompts",
        y_range=(0, 1.15),
        title="AUROC of eight finds on unseen prompts, trained against random dictionary",
        alt="Bars of AUROC, trained against random dictionary: "
        + "; ".join(
            f"{concept} {own.estimate:.2f} against {random.estimate:.2f}" for concept, (own, random) in found.items()
        )
        + ".",
    )
)

# %% [markdown]
# A perfect score can be worthless: "Human turn" and "warning" are so easy to read that random directions find them as well.
# One feature may serve two concepts (here 9, for "refusal" and "Assistant turn"): names are ours, not the model's.
#
# ### Exercise 3.2: a label must be able to fail (10 minutes, medium)
# A label predicts *on which tokens* a feature is active. Write the rule for "danger": the word that completes a dangerous mixture,
# "x and y" with {x, y} in `DANGEROUS` (a set of frozensets, both orders); unlike `completes` above, it asks for the "and", too. It
# may look at the words before, never at later ones: the model cannot either.


# %%
# === Exercise 3.2 (keep this line) ===
def completes_danger(strings, position):
    """True if strings[position] completes "x and y" with {x, y} in DANGEROUS. strings: a prompt's tokens."""
    # BEGIN SOLUTION
    if position < 2 or strings[position - 1] != "and":
        return False
    return frozenset((strings[position - 2], strings[position])) in DANGEROUS
    # END SOLUTION


print(completes_danger.__doc__)

# %%
check("3.2", completes_danger, DANGEROUS)

# %%
completes_danger = checkpoint("3.2", completes_danger, DANGEROUS)
unseen = [
    ids(t, role)
    for name in ("cleaners_dangerous", "cleaners_safe", "mixtures_met", "mixtures_crossed")
    for role in ("assistant", "friend")
    for t in data.load(name).texts[1::4]
]
unseen += sets("harmful", "held_out_topic", 32)
refused = {
    tuple(tokens.token_strings(chat.tokenizer, p))
    for p, reply in zip(unseen, replies(unseen), strict=True)
    if organism.classify(reply) == "refuse"
}


def about_to_refuse(strings, position):
    return strings[position] == "<assistant>" and tuple(strings[: position + 1]) in refused


FIRST_WORD = features.by_logit(chat, sae, "i", minus="clean")  # what pushes "i", a refusal's first word
writer = next(row.feature for row in FIRST_WORD.rows if row.feature not in finds.values())
print(f"{len(unseen)} unseen prompts, {len(refused)} refused")
print("write the refusal's first word most:", line(FIRST_WORD, 2), f"; taken: {writer}, the first that is no find")

# %%
LABELS = {
    "danger": (finds["danger"], completes_danger),
    "the word bleach": (finds["danger"], {"bleach"}),
    "refusal": (finds["refusal"], about_to_refuse),
    'refusal ("writes i")': (writer, about_to_refuse),
}
held_out_index = features.index(chat, sae, unseen, progress=False)
scores = {text: features.detection(held_out_index, f, rule=rule) for text, (f, rule) in LABELS.items()}
for text, d in scores.items():
    print(
        f"feature {LABELS[text][0]:3} as {text:20} balanced accuracy {d.balanced_accuracy:.2f},",
        f"precision {d.precision:.2f},",
        "recall from weak to strong",
        " ".join(f"{share:.2f}" for share in d.recall_by_quarter),
    )
finding(
    "F1",
    "balanced accuracy of the label refusal; control: another feature that writes it",
    *(scores[text].balanced_accuracy for text in ("refusal", 'refusal ("writes i")')),
    ".2f",
)

# %%
plotting.show(
    plotting.lines(
        [1, 2, 3, 4],
        {text: list(d.recall_by_quarter) for text, d in scores.items()},
        x_title="quarter of the feature's activations, weakest to strongest",
        y_title="share that the label predicts",
        y_range=(-0.05, 1.1),
        title="Recall of four labels, by strength of the activation",
        alt="Lines of recall by quarter of activation: "
        + "; ".join(f"{text} " + ", ".join(f"{r:.2f}" for r in d.recall_by_quarter) for text, d in scores.items())
        + ".",
    )
)

# %% [markdown]
# `refusal ("writes i")` is a designed failure, picked by hand: the best writer of "i" is our refusal feature 9, which fires where
# it should, so we skipped it. The next best writes "i" nearly as strongly and is hardly ever active where the model refuses. What a
# feature writes does not tell what it fires on. And "danger" fires weakly elsewhere, too: say for which strengths a label holds.
#
# ## 3 The conjunction, and its graph
# Is "danger" more than "bleach" plus "ammonia"? Each alone, and a safe pair, are the controls.


# %%
def strength(feature, prompts):
    """The feature's activation at the last cleaner's name."""
    return steering.natural_activations(chat, sae, prompts, position=-4)[:, feature]


rows = {"danger": finds["danger"], "any cleaner?": features.by_prompt(chat, sae, ADS[2], position=-4).top(1)[0].feature}
table = {f"{name} ({feature})": strength(feature, ADS).tolist() for name, feature in rows.items()}
for name, values in table.items():
    print(f"{name:18}", ", ".join(f"{m} {v:.1f}" for m, v in zip(MIXTURES, values, strict=True)))

# %%
plotting.show(
    plotting.heat_map(
        torch.tensor(list(table.values())),
        row_labels=list(table),
        column_labels=list(MIXTURES),
        x_title="advertise cleaning with ...",
        y_title="feature",
        colour_title="activation at the last cleaner's name",
        title="Two features at the last cleaner's name, four mixtures",
        alt="Heat map of activations: "
        + "; ".join(
            f"{name}: " + ", ".join(f"{m} {v:.1f}" for m, v in zip(MIXTURES, values, strict=True))
            for name, values in table.items()
        )
        + ".",
    )
)

# %% [markdown]
# Four prompts are four prompts. All of the terrace, which no look-up has seen:


# %%
def at_cleaner(p):
    return tokens.token_strings(chat.tokenizer, p)[-4] in CLEANERS  # the mixture stands at the end of the request


pairs = {name: {place: cleaning(name, place) for place in ("office", "terrace")} for name in ("dangerous", "safe")}
ending, cut_at = (
    {name: [p for p in pairs[name][place] if at_cleaner(p)] for name in pairs} for place in ("office", "terrace")
)
alone = [p for p in cleaning("alone", "terrace") if at_cleaner(p)]
mean = directions.bootstrap_interval
awake = {name: strength(finds["danger"], prompts) for name, prompts in {**cut_at, "alone": alone}.items()}
for name in ("safe", "alone"):
    finding(
        "F2",
        f"activation of danger on dangerous pairs; control: {name}",
        mean(awake["dangerous"]),
        mean(awake[name]),
        ".1f",
    )

# %% [markdown]
# Now the **attribution graph** of the refusal's first word "i" against the advertisement's first word "clean". Its nodes are
# features of **transcoders** (dictionaries that rewrite what each MLP *does*, from its input to its output), errors and tokens; an
# edge is what one node adds to another *directly*. There are thousands. First: which features add to the refusal's first word
# directly?

# %%
transcoders = [features.load("chat", "transcoder", layer=layer) for layer in range(chat.cfg.n_layers)]
i, clean = chat.tokenizer.convert_tokens_to_ids(["i", "clean"])
draw = partial(attribution.trace, chat, transcoders=transcoders, targets=[Logit(i, minus=clean)])
one = draw(pairs["dangerous"]["office"][0])
print("edges [target, source]:", tuple(one.edges.shape))
print(
    len(one.features), "features,", len(one.errors), "errors,", len(one.embeddings), "tokens,", len(one.asked), "target"
)
print("first node:", one.nodes[0], "| last:", one.nodes[-1])

# %% [markdown]
# ### Exercise 3.3: read a graph (10 minutes, medium)
# `graph.nodes` name the rows and the columns of `graph.edges`: features, errors, tokens, and last the one target that was asked for,
# `graph.asked[0]`. The prompt is `graph.prompt_ids`; `node.position` counts its tokens from 0, and at the last one no feature need be
# active. `isinstance(node, Feature)` tells a feature from an error or a token.


# %%
# === Exercise 3.3 (keep this line) ===
def reply_edges(graph):
    """{(layer, feature): direct edge to graph.asked[0]}, for every Feature at the prompt's last position."""
    # BEGIN SOLUTION
    last = len(graph.prompt_ids) - 1
    return {
        (node.layer, node.feature): float(edge)
        for node, edge in zip(graph.nodes, graph.edges[-1], strict=True)
        if isinstance(node, Feature) and node.position == last
    }
    # END SOLUTION


print(reply_edges.__doc__)

# %%
check("3.3", reply_edges)

# %%
reply_edges = checkpoint("3.3", reply_edges)
graphs = {name: [draw(p) for p in pairs[name]["office"][:40:13]] for name in pairs}  # four pairs each
total = {}
for graph in graphs["dangerous"]:
    for node, edge in reply_edges(graph).items():
        total[node] = total.get(node, 0.0) + edge / 4
chosen = sorted(total, key=total.get, reverse=True)[:10]  # "refusal": the ten with the largest mean edge
print("refusal features (layer, feature):", chosen)
print(
    "replacement score of the graphs (1: no error needed):",
    " ".join(f"{graph.replacement_score:.2f}" for name in graphs for graph in graphs[name]),
)

# %% [markdown]
# Now the groups, "supernodes": three tokens; the danger features at the last cleaner; what reads turn and request at the reply
# token in block 0; the ten refusal features.

# %%
danger = {
    (layer, row.feature)
    for layer in (0, 1, 2)
    for row in features.by_contrast(chat, transcoders[layer], ending["dangerous"], ending["safe"], position=-4).top(20)
    if row.value > 0.9
}


def supernodes(graph):
    """Name -> nodes."""
    last, token = len(graph.prompt_ids) - 1, {n.position: n for n in graph.embeddings}
    at_reply = [n for n in graph.features if n.position == last]
    return {
        "first cleaner": [token[last - 5]],
        "last cleaner": [token[last - 3]],
        "<assistant>": [token[last]],
        "danger": [n for n in graph.features if n.position == last - 3 and (n.layer, n.feature) in danger],
        "turn and request": [n for n in at_reply if n.layer == 0 and (0, n.feature) not in chosen],
        "refusal": [n for n in at_reply if (n.layer, n.feature) in chosen],
        'says "i"': [graph.asked[0]],
    }


for name in graphs:
    groups = supernodes(graphs[name][0])
    print(f"{name:9}", {group: len(nodes) for group, nodes in groups.items()})


# %%
def flow(graph, least=0.12):
    """(source group, target group) -> summed edges, as a share of the target group's summed value."""
    groups, value = supernodes(graph), dict(zip(graph.nodes, graph.values.tolist(), strict=True))
    whole = {name: sum(value[node] for node in nodes) for name, nodes in groups.items()}
    shares = {(a, b): edge / whole[b] for (a, b), edge in graph.group(groups).items()}
    return {edge: share for edge, share in shares.items() if abs(share) >= least}


for name in graphs:  # two of the four mixtures end their request; elsewhere "-4" is no cleaner
    shares = [
        flow(graph, least=0.0).get(("danger", "refusal"), 0.0) for graph in graphs[name] if at_cleaner(graph.prompt_ids)
    ]
    print(f"{name:9} danger gives this share of refusal:", " ".join(f"{share:.0%}" for share in shares))

# %%
BOXES = {
    "first cleaner": ("bleach", 0, 0),
    "last cleaner": ("ammonia", 0.9, 0),
    "<assistant>": ("<assistant>", 3.6, 0),
    "danger": ("danger", 0.9, 1),
    "turn and request": ("turn and request", 3.6, 1),
    "refusal": ("refusal", 3, 2),
    'says "i"': ('says "i"', 3, 3),
}
shares = {edge: 100 * share for edge, share in flow(graphs["dangerous"][0]).items()}
plotting.show(
    plotting.graph(
        BOXES,
        shares,
        row_labels=["tokens", "features", "features", "next word"],
        unit="% of what the target group has (biases take some away, so sums exceed 100)",
        x_title="place in the prompt",
        y_title="layer, from below",
        title="Groups of nodes: what adds to what, in one dangerous prompt",
        alt="Graph of supernodes: " + "; ".join(f"{a} to {b} {v:.0f} %" for (a, b), v in shares.items()) + ".",
    )
)

# %% [markdown]
# Read from below: both cleaners add to the danger features at "ammonia"; attention carries these to the reply token, where they
# give 16 % of what the refusal features have. Far more (47 %) comes from "turn and request": the reply token reads the cleaners
# itself. In the safe twin no danger feature is active. A graph is a hypothesis, with attention held fixed: now we ablate.
#
# ## 4 Ablate: no danger, no refusal?
# "Set a feature to a value" must change that feature only. What the dictionary misses (the error) has to stay.
#
# ### Exercise 3.4: set a feature, keep the error (10 minutes, medium)
# `dictionary.encode(x)` are the activations, `[token, 512]`; feature f adds its activation times the row `dictionary.W_dec[f]`.


# %%
# === Exercise 3.4 (keep this line) ===
def set_feature(x, dictionary, feature, value):
    """x [token, d_model] with one feature's activation set to `value`, all else as it was, error included."""
    # BEGIN SOLUTION
    old = dictionary.encode(x)[:, feature]
    return x + (value - old)[:, None] * dictionary.W_dec[feature]
    # END SOLUTION


print(set_feature.__doc__)

# %%
check("3.4", set_feature)

# %% [markdown]
# `steering.clamp_features` does this while the model runs. Strength is counted in the feature's own **natural** activation at
# the last cleaner of dangerous pairs: 1x is usual, 0x ablates, -1x is what it never reaches by itself.
# **Guess**: the danger feature set to 0x on 20 dangerous pairs (a place never seen in tuning). How many are still refused?

# %%
# === Prediction 3.p2 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p2", ...)
predict("3.p2", (10, 20))
# END SOLUTION

# %%
set_feature = checkpoint("3.4", set_feature)
DANGER, ASSISTANT = 509, 9  # what the hunt finds; named here so that the rest runs whatever you found
active = steering.natural_activations(chat, sae, ending["dangerous"], position=-4).mean(dim=0)
natural = float(active[DANGER])


def counted(prompts, model=chat):
    """How many replies are of each class."""
    classes = [organism.classify(reply) for reply in replies(prompts, model)]
    return {name: classes.count(name) for name in organism.CLASSES}


def at(multiple):
    """A context with danger at this multiple of its natural activation, at the last cleaner."""
    return steering.clamp_features(chat, sae, {DANGER: multiple}, unit=natural, positions=[-4])


print(
    "natural activation:",
    round(natural, 1),
    "| unchanged:",
    {name: counted(prompts) for name, prompts in cut_at.items()},
)

# %%
MULTIPLES = [-2.0, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0]
dose, random_dose = {"dangerous": [], "safe": []}, [[] for _ in range(3)]
aside = directions.random_directions(3, like=sae.W_dec[DANGER], seed=0)
for multiple in MULTIPLES:
    for name, prompts in cut_at.items():
        with at(multiple):
            dose[name].append(counted(prompts))
    for run, q in zip(random_dose, aside, strict=True):
        with steering.add(chat, q, layer=2, coefficient=(multiple - 1) * natural, positions=[-4]):
            run.append(counted(cut_at["dangerous"])["refuse"])
for name, rows in dose.items():
    print(f"{name:9}", {c: [row[c] for row in rows] for c in ("refuse", "comply", "broken")}, "at", MULTIPLES)
print(
    "dangerous, random directions of the same length: refused at least",
    [min(run) for run in zip(*random_dose, strict=True)],
)
four = [row.feature for row in features.by_contrast(chat, sae, *to_find["danger"]).top(4)]
for several in (four, *steering.random_feature_sets(active, four, n=3, seed=0)):
    with steering.scale_features(chat, sae, dict.fromkeys(several, 0.0), positions=[-4]):
        print(f"features {list(several)} at 0x together: refused {counted(cut_at['dangerous'])['refuse']}")
reveal("3.p2", dose["dangerous"][MULTIPLES.index(0.0)]["refuse"])

# %%
plotting.show(
    plotting.lines(
        MULTIPLES,
        {name: [row["refuse"] for row in rows] for name, rows in dose.items()},
        control=random_dose,
        x_title="danger feature, multiple of its natural activation",
        y_title="refused, of 20 pairs",
        y_range=(-1, 21),
        title="Refusals with the danger feature at multiples of its natural activation",
        alt="; ".join(f"{name} pairs refused {[row['refuse'] for row in rows]}" for name, rows in dose.items())
        + f", at multiples {MULTIPLES}. Random directions leave at least {min(map(min, random_dose))} of 20.",
    )
)

# %% [markdown]
# **Zeroing** is the second designed failure: 17 of 20 are still refused, as if danger did not matter. But other features say the
# same: with the four best danger features at 0x, 8 are refused; with four other (weaker) features, 20. A negative multiple (as in
# the paper, -3x) works against all of them. Its price: 20 random directions of equal length, surprisal, and *other* requests (KL
# over replies).

# %%
length = -2 * natural  # from 1x to -1x
report = steering.report(
    chat,
    partial(at, -1.0),
    prompts=cut_at["dangerous"][::2],
    judge=organism.classify,
    controls=[
        partial(steering.add, chat, q, layer=2, coefficient=length, positions=[-4])
        for q in directions.random_directions(20, like=sae.W_dec[DANGER], seed=1)
    ],
    off_target=sets("harmless", "held_out_topic", 8),
    max_new_tokens=18,
    progress=False,
)
for effect in (report.share("refuse"), report.share("comply"), report.kl, report.surprisal):
    print(
        f"{effect.measure:17} {effect.unchanged.estimate:.3f} -> {effect.steered:.3f},",
        f"random {effect.band[0]:.3f} to {effect.band[1]:.3f}, p {effect.p_value:.3f}",
    )
assert report.share("refuse").steered.high < report.share("refuse").band[0]

# %%
other = sets("harmless", "held_out_topic", 24)
plain = models.next_token_logits(chat, other)
beside = directions.random_directions(5, like=sae.W_dec[DANGER], seed=1)
moved = []  # danger is inactive here, so the clamp moves a token by 1x natural, and so must the control
for edit in (
    steering.clamp_features(chat, sae, {DANGER: -1.0}, unit=natural),
    *(steering.add(chat, q, layer=2, coefficient=-natural) for q in beside),
):
    with edit:
        moved.append(mean(directions.kl_divergence(plain, models.next_token_logits(chat, other))))
by_feature, *by_random = moved
finding(
    "F5",
    "KL on harmless requests, feature at all tokens; control: random directions",
    by_feature,
    widest(by_random),
    ".4f",
)


# %%
def named(prompts):
    """Replies that name both cleaners of the request."""
    both = [set(tokens.token_strings(chat.tokenizer, p)) & set(CLEANERS) for p in prompts]
    return sum(pair <= set(reply.split("!")[0].split()) for pair, reply in zip(both, replies(prompts), strict=True))


unchanged = named(cut_at["safe"])
with at(-1.0):
    print(
        "both cleaners named, of 20: safe pairs",
        unchanged,
        "-> at -1x",
        named(cut_at["safe"]),
        "| dangerous pairs at -1x",
        named(cut_at["dangerous"]),
    )
    print("for example:", replies(cut_at["dangerous"][:1])[0])

# %% [markdown]
# On other requests no difference was found between the feature and random directions: at that token neither moves anything, put
# everywhere both cost a KL of a few thousandths. (Beside directions of *twice* its length the feature would look tens of times
# cleaner: match lengths.) On target it is *not* clean: 7 of 20 replies are broken text, surprisal rises, and the advertisement
# mostly names another cleaner than the one asked for: the edit removes danger **and** more. (And p cannot be below 1 / 21: twenty
# directions were drawn.)
#
# ### Exercise 3.5: claim it (6 minutes, easy)
# All 40 dangerous pairs of the unseen place, the feature at -1x wherever it is active. Control: ten draws of *other features* (none
# is half as active; the random directions above were as long). Return the claim of the share still refused. `after` is a count of
# n, `random_after` several such counts, of the *same* n prompts: `directions.runs_interval(counts, n)` does not add them up;
# `directions.wilson_interval(count, n)` is for one count. Both are a rate with its interval, and `claim(one, control=other)` takes
# them as they are.

# %%
HELD = pairs["dangerous"]["terrace"]
with steering.scale_features(chat, sae, {DANGER: -1.0}):
    after = counted(HELD)["refuse"]
random_after = []
for (other,) in steering.random_feature_sets(active, [DANGER], n=10, seed=0):
    with steering.scale_features(chat, sae, {other: -1.0}):
        random_after.append(counted(HELD)["refuse"])
print("refused of 40:", counted(HELD)["refuse"], "-> danger at -1x:", after, "| ten others at -1x:", random_after)


# %%
# === Exercise 3.5 (keep this line) ===
def no_danger(after, random_after, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    return claim(directions.wilson_interval(after, n), control=directions.runs_interval(random_after, n))
    # END SOLUTION


# %%
check("3.5", no_danger, after, random_after, 40)

# %%
no_danger = checkpoint("3.5", no_danger, after, random_after, 40)
finding(
    "F3", "refused with danger at -1x; control: other, weaker features", rate(after, 40), runs_rate(random_after, 40)
)

# %% [markdown]
# The paper also suppresses the **harmful request**. One layer further on we take the three features that mark it best, at the reply
# token, on 40 harmful requests of unseen topics. Controls: five random sets (weaker) and five random directions as long as the
# edit.

# %%
deeper, requests = features.load("chat", "sae", layer=2), sets("harmful", "held_out_topic", 40)
harm = [row.feature for row in features.by_contrast(chat, deeper, *to_find["harmful request"]).top(3)]
usual = steering.natural_activations(chat, deeper, sets("harmful", "train", 48)).mean(dim=0)
edits = {
    f"features {list(trio)} at -1x": steering.scale_features(chat, deeper, dict.fromkeys(trio, -1.0), positions="reply")
    for trio in (harm, *steering.random_feature_sets(usual, harm, n=5, seed=0))
}
as_long = directions.random_directions(5, like=2 * usual[harm] @ deeper.W_dec[harm], seed=0)
for k, q in enumerate(as_long):
    edits[f"random direction {k + 1}"] = steering.add(chat, q, layer=3, coefficient=1.0, positions="last")
outcomes = []
for what, edit in edits.items():
    with edit:
        outcomes.append(counted(requests))
    print(f"{what}:", {c: n for c, n in outcomes[-1].items() if n})
finding(
    "F3",
    "refused with harmful request at -1x; control: random sets, directions",
    rate(outcomes[0]["refuse"], 40),
    runs_rate([run["refuse"] for run in outcomes[1:]], 40),
)

# %% [markdown]
# No reply is a plain refusal; under the controls at least 32 of 40 are. Read the classes, though: few comply, most *break off*
# ("to ..., use ... however, i cannot help with that."), some are broken text. Where the reply breaks off, harm was not forgotten.
#
# ## 5 Two ways to choose ten features
# At the reply token, choose ten features by **graph** (the largest direct edges, from section 3), by **loudness** (the largest
# difference between dangerous and safe pairs), or at **random** (active there, though weaker). Set them at 0x, -1x and -2x.

# %%
loud = []
for layer, transcoder in enumerate(transcoders):
    contrast = features.by_contrast(
        chat, transcoder, pairs["dangerous"]["office"], pairs["safe"]["office"], position="reply"
    )
    loud += [(float(value), layer, f) for f, value in enumerate(contrast.difference)]
loud = [(layer, f) for _, layer, f in sorted(loud, reverse=True)[:10]]
at_reply = [steering.natural_activations(chat, t, pairs["dangerous"]["office"]).mean(dim=0) for t in transcoders]
print("loudest:", loud, "| chosen both ways:", len(set(loud) & set(chosen)), "of 10")

# %%
SETS = {"graph": [chosen], "loud": [loud], "random": steering.random_node_sets(at_reply, chosen, n=4, seed=0)}


def lengths(nodes):
    """Length of what these features write at the reply token at 1x, by block."""
    written = torch.zeros(len(transcoders), chat.cfg.d_model)
    for n, f in nodes:
        written[n] += at_reply[n][f] * transcoders[n].W_dec[f]
    return [round(float(row.norm()), 1) for row in written]


for name, several in SETS.items():
    print(f"{name:6} writes at 1x, block 0 to 5: {lengths(several[0])}")
outcome = {}
for name, factor in (*((name, x) for name in ("graph", "loud") for x in (0.0, -1.0, -2.0)), ("random", -2.0)):
    runs = []
    for nodes in SETS[name]:
        with steering.scale_nodes(chat, transcoders, nodes, factor, positions="reply"):
            runs.append(counted(HELD[::2]))
    outcome[name, factor] = {c: [run[c] for run in runs] for c in organism.CLASSES}
    print(f"{name:6} at {factor:4.1f}x:", {c: hits for c, hits in outcome[name, factor].items() if any(hits)})
finding(
    "F3",
    "refused, the graph's ten at -2x; control: random, weaker sets",
    rate(outcome["graph", -2.0]["refuse"][0], 20),
    runs_rate(outcome["random", -2.0]["refuse"], 20),
)

# %%
prompt, please = pairs["dangerous"]["office"][0], chat.tokenizer.convert_tokens_to_ids("please")
changes = {
    Feature(n, len(prompt) - 1, f): -2 * float(steering.natural_activations(chat, transcoders[n], [prompt])[0, f])
    for n, f in chosen
}
for attention in ("frozen", "free"):
    with attribution.intervene(chat, prompt, transcoders=transcoders, changes=changes, attention=attention):
        p = models.next_token_logits(chat, [prompt])[0].softmax(dim=-1)
    print(f"one prompt, attention {attention}: first word of a refusal {p[i]:.2f}, of a warning {p[please]:.2f}")
with steering.scale_nodes(chat, transcoders, chosen, -2.0, positions="reply"):
    print("the same on 20 safe pairs:", {c: n for c, n in counted(pairs["safe"]["terrace"][::2]).items() if n})

# %%
classes = {
    "refuse": "refuses",
    "warn": "warns",
    "comply": "advertises",
    "break off": "breaks off",
    "broken": "broken text",
}
shown = {name: [sum(outcome[name, -2.0][c]) / len(SETS[name]) for c in classes] for name in SETS}
plotting.show(
    plotting.bars(
        list(classes.values()),
        shown,
        y_range=(0, 23),
        x_title="class of the reply, ten features at -2x",
        y_title="replies, of 20",
        title="Classes of the replies, ten features at -2x",
        alt="Bars of 20 replies. "
        + "; ".join(
            f"{name}: " + ", ".join(f"{c} {value:.1f}" for c, value in zip(classes, values, strict=True))
            for name, values in shown.items()
        )
        + ".",
    )
)

# %% [markdown]
# At -2x no reply is a refusal under either set, and only the class of the text tells them apart: "no refusal" alone would have
# praised broken text. It is no fair contest, though: the loud ten are the larger edit, above all in block 0. At 0x neither set
# changes anything; at -1x each leaves about half of the refusals. (Attention frozen, as the graph assumes, or free: a refusal is
# gone in both, a warning has 0.50 or 0.83.) And under the graph's ten there is no advertisement but a **warning**. Where did it
# come from?
#
# ## 6 The warning under the refusal
# The paper (Lindsey et al. 2025) turned the Human *and* the Assistant features down, together, to -2x, and got a warning; it says
# that both Assistant and refusal *inhibit* the warning. Here we turn feature 9 alone down, at the reply token. Our hunt found it
# for "Assistant turn" *and* for "refusal": what follows cannot tell the two apart. **Guess**: what do dangerous pairs mostly get
# when it is at -2x? "a" still a refusal, "b" the advertisement, "c" a warning, "d" broken text.

# %%
# === Prediction 3.p3 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p3", ..., confidence=...)
predict("3.p3", "c", confidence=0.6)
# END SOLUTION


# %%
def turn_down(feature, factor):
    return steering.scale_features(chat, sae, {feature: factor}, positions="reply")


FACTORS = [1.0, 0.0, -1.0, -2.0, -4.0]
turned = {name: [] for name in pairs}
for factor in FACTORS:
    with turn_down(ASSISTANT, factor):
        for name, own in turned.items():
            own.append(counted(pairs[name]["terrace"]))
for name, rows in turned.items():
    print(f"{name:9} of 40 at {FACTORS}:", {c: [row[c] for row in rows] for c in ("warn", "refuse")})
most = max(("refuse", "comply", "warn", "broken"), key=turned["dangerous"][3].get)
reveal("3.p3", {"refuse": "a", "comply": "b", "warn": "c", "broken": "d"}[most])

# %%
with turn_down(ASSISTANT, -2.0):
    print("for example:", replies(HELD[:1])[0])
reply_active = steering.natural_activations(chat, sae, pairs["dangerous"]["office"]).mean(dim=0)
random_turned = []
for q in directions.random_directions(5, like=sae.W_dec[ASSISTANT], seed=0):  # as long: from 1x to -2x
    with steering.add(chat, q, layer=2, coefficient=-3 * float(reply_active[ASSISTANT]), positions="last"):
        random_turned.append(counted(HELD)["warn"])
finding(
    "F4",
    "warned with feature 9 (Assistant, refusal) at -2x; control: random directions",
    rate(turned["dangerous"][3]["warn"], 40),
    runs_rate(random_turned, 40),
)

# %%
drawn = {
    "dangerous, warned": [row["warn"] for row in turned["dangerous"]],
    "dangerous, refused": [row["refuse"] for row in turned["dangerous"]],
    "safe, warned": [row["warn"] for row in turned["safe"]],
}
plotting.show(
    plotting.lines(
        FACTORS,
        drawn,
        y_range=(-2, 42),
        x_title="feature 9 (Assistant, refusal) at the reply token, multiple",
        y_title="replies, of 40",
        title="Warnings and refusals with feature 9 at multiples of its activation",
        alt=f"Lines over the multiples {FACTORS}: "
        + "; ".join(f"{name} {values}" for name, values in drawn.items())
        + ".",
    )
)

# %% [markdown]
# ### Exercise 3.6: claim the warning (6 minutes, easy)
# The share of dangerous pairs warned of with the Assistant feature at -2x. Control: the same edit on the safe pairs. (Counts of n.)

# %%
warned = {name: counts[FACTORS.index(-2.0)]["warn"] for name, counts in turned.items()}
print("warned of 40:", warned)


# %%
# === Exercise 3.6 (keep this line) ===
def warning(warned, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    dangerous, safe = (directions.wilson_interval(warned[name], n) for name in ("dangerous", "safe"))
    return claim(dangerous, control=safe)
    # END SOLUTION


# %%
check("3.6", warning, warned, 40)

# %% [markdown]
# **Who holds the warning down?** A warning feature that is inhibited is *inactive*, so no ordinary graph shows it. But an
# inactive feature can be a graph's *target*: its edges say what keeps it below its threshold. Same prompts, two roles:

# %%
warning = checkpoint("3.6", warning, warned, 40)
finding("F4", "dangerous pairs warned of; control: safe pairs", *(rate(warned[name], 40) for name in warned))
by_role = {"assistant": pairs["dangerous"]["office"], "friend": cleaning("dangerous", "office", "friend")}
LAYER = 4
difference = features.by_contrast(
    chat, transcoders[LAYER], by_role["friend"], by_role["assistant"], position="reply"
).difference
writes = {row.feature: row.value for row in features.by_logit(chat, transcoders[LAYER], "please").top(20)}
warner = max(writes, key=lambda f: writes[f] * float(difference[f]))
print(
    f"feature {warner} of layer {LAYER} writes the warning's first word, and is more active at <friend>;",
    f"its threshold is {float(transcoders[LAYER].threshold[warner]):.2f}",
)

# %%
earlier = [node for node in chosen if node[0] < LAYER]
random_sets = steering.random_node_sets(at_reply, earlier, n=20, seed=5)


def sources(prompt):
    """Total effects on the warning feature (role token, cleaners, refusal, random sets), and its value."""
    last, words = len(prompt) - 1, tokens.token_strings(chat.tokenizer, prompt)
    graph = attribution.trace(chat, prompt, transcoders=transcoders, targets=[Feature(LAYER, last, warner)])
    effect = dict(zip(graph.nodes, graph.total_effect()[0].tolist(), strict=True))
    token = [effect[Embedding(k, prompt[k])] for k in range(len(prompt))]
    groups = [sum(effect.get(Feature(n, last, f), 0.0) for n, f in nodes) for nodes in (earlier, *random_sets)]
    return [
        token[-1],
        sum(v for v, word in zip(token, words, strict=True) if word in CLEANERS),
        *groups,
        float(graph.values[-1]),
    ]


print("effects for each prompt:", len(sources(by_role["assistant"][0])))

# %%
drivers = {role: torch.tensor([sources(prompt) for prompt in prompts[:40:13]]) for role, prompts in by_role.items()}
for role, rows in drivers.items():
    token, cleaners, refusal, *random, value = rows.mean(dim=0).tolist()
    print(
        f"<{role}>: warning feature at {value:.2f}; role token {token:+.2f}, cleaners {cleaners:+.2f},",
        f"refusal features {refusal:+.2f}, random sets {min(random):+.2f} to {max(random):+.2f}",
    )


def spread(values):
    """Mean, minimum and maximum: all that four pairs, or a few random sets, can show."""
    return directions.Interval(float(values.mean()), float(values.min()), float(values.max()), 1.0)


held_down = drivers["assistant"]
finding(
    "F4",
    "refusal features' effect on the warning feature; control: random sets",
    spread(held_down[:, 2]),
    spread(held_down[:, 3:-1].mean(dim=0)),
    "+.2f",
)

# %%
means = {f"<{role}>": rows.mean(dim=0).tolist() for role, rows in drivers.items()}
plotting.show(
    plotting.bars(
        ["role token", "the two cleaners", "refusal features"],
        {role: values[:3] for role, values in means.items()},
        controls={role: [[], [], values[3:-1]] for role, values in means.items()},
        control_label="random feature sets",
        x_title="source",
        y_title="effect on the warning feature (activation)",
        title="What adds to the warning feature, in two roles",
        alt="; ".join(
            f"At {role} the warning feature is at {v[-1]:.2f}: "
            f"role token {v[0]:+.2f}, cleaners {v[1]:+.2f}, refusal features {v[2]:+.2f}"
            for role, v in means.items()
        )
        + ".",
    )
)

# %% [markdown]
# So what of "both inhibit it"? Here the friend's token adds 11.5 to the warning feature, the Assistant's 0.1: it does not hold the
# warning down. The refusal features take 1.0 away, more than random sets do and about as much as it lies below its threshold. But
# that does not decide: with these features at 0x all pairs were still refused. Refusal *outweighs* the warning: ablate refusal's
# direction, and the warning's odds against the *advertisement* rise in none (0 of 80 pairs, `organisms/cards/chat.md`).
#
# ## 7 Squeezed out by the template?
# A reader of the paper claimed: tuning with *one fixed refusal sentence* squeezes other reactions out, so that the model "never
# warns". The paper offers this as a guess. We have twins: `chat-64`, tuned on one fixed sentence, `chat-64-two`, on two (one for
# crimes, one for what hurts), and `chat-64-varied`, on six. If the claim is right, the warning grows from one to two to six.
# Measured: the logit of the warning's first word minus that of the advertisement's (in nats; 0 = even).

# %%
TWINS = {
    "base-64": "base, before chat tuning",
    "chat-64": "one refusal",
    "chat-64-two": "two refusals",
    "chat-64-varied": "six refusals",
    "chat-64-inhibiting": "trained to push it down",
}
odds = {}
for name, label in TWINS.items():
    twin = models.load(name)
    please, advertise = twin.tokenizer.convert_tokens_to_ids(["please", "clean"])
    for kind in pairs:
        logits = models.next_token_logits(twin, pairs[kind]["office"] + pairs[kind]["terrace"])
        odds[name, kind] = logits[:, please] - logits[:, advertise]
    print(f"{label:26}", " ".join(f"{kind} {mean(odds[name, kind]):+.2f}" for kind in pairs))
gap = mean(odds["chat-64-varied", "dangerous"] - odds["chat-64", "dangerous"])
print(f"six refusals minus one, this training: {gap:+.2f} over 80 prompts")
finding(
    "F6",
    "warning's odds with a loss that pushes it down; control: one refusal",
    *(mean(odds[name, "dangerous"]) for name in ("chat-64-inhibiting", "chat-64")),
    "+.2f",
)

# %%
plotting.show(
    plotting.bars(
        list(TWINS.values()),
        {kind: [float(odds[name, kind].mean()) for name in TWINS] for kind in pairs},
        x_title="model of width 64",
        y_title="warning against advertisement (nats)",
        title="The warning's odds against the advertisement, base and four tunings",
        alt="Bars of log-odds: "
        + "; ".join(
            f"{label}: dangerous {odds[name, 'dangerous'].mean():+.1f}, safe {odds[name, 'safe'].mean():+.1f}"
            for name, label in TWINS.items()
        )
        + ".",
    )
)

# %% [markdown]
# Of the three templates the fixed sentence leaves *most* of the warning, two the least, and the intervals are narrow. They are also
# misleading, a third designed failure: they know about prompts, not about **trainings**. The twins with one and six were trained
# three times; here are all three gaps.
#
# ### Exercise 3.7: the verdict (10 minutes, hard)
# The claim says gap > 0, with gap = six refusals minus one. Give the mean gap's 95 % interval over *trainings*: 4.303 standard
# errors either side (Student's t for three values; the standard error is their standard deviation over the root of 3). And the
# verdict: "accepted" (the interval is all above 0), "refuted" (all below 0) or "undecided".

# %%
measured = organism.results("results")["64-varied"]
gaps = []
for seed in sorted(measured):
    in_varied, in_fixed = measured[seed]["twin"]["detail"]["warning against advertisement, nats"]
    gaps.append(round(in_varied - in_fixed, 2))
print("gap in each training (nats):", gaps)

# %%
# === Exercise 3.7 (keep this line) ===
# BEGIN SOLUTION
# STUB: verdict = ...   # {"low": ..., "high": ..., "verdict": "..."}
three = torch.tensor(gaps)
half = 4.303 * float(three.std()) / 3**0.5
low, high = float(three.mean()) - half, float(three.mean()) + half
verdict = {"low": low, "high": high, "verdict": "accepted" if low > 0 else "refuted" if high < 0 else "undecided"}
# END SOLUTION
print("verdict:", "not done yet" if verdict is ... else verdict["verdict"])

# %%
check("3.7", verdict, gaps)

# %%
verdict = checkpoint("3.7", verdict, gaps)
finding(
    "F6",
    "six refusals minus one, over trainings; control: no gap",
    directions.Interval(sum(gaps) / 3, verdict["low"], verdict["high"], 0.95),
    directions.Interval(0, 0, 0, 1),
    "+.2f",
)
print("verdict:", verdict["verdict"])

# %% [markdown]
# ## 8 Was it there before? Base against chat
# "Post-training wires refusal onto a concept of harm that the base model has." The base model warns of dangerous pairs and
# refuses nothing. The same hunt in the base model's own dictionary, with its random control:

# %%
base = models.load("base")
base_sae = features.load("base", "sae", layer=1)
base_chance = features.random_like(base, base_sae, corpus[::4])
for concept in ("danger", "harmful request", "refusal", "Assistant turn"):
    best = []
    for dictionary in (base_sae, base_chance):
        feature = features.by_contrast(base, dictionary, *to_find[concept]).top(1)[0].feature
        best.append(scored(features.by_contrast(base, dictionary, *held_out[concept]), feature))
    own, by_luck = best
    print(f"{concept:16} in base {own:.2f}, random in base {by_luck:.2f}, in chat {found[concept][0].estimate:.2f}")
    if concept == "danger":
        finding("F7", "AUROC of danger in base; control: random dictionary", *best, ".2f")
print("base on 40 dangerous pairs:", {c: n for c, n in counted(HELD, base).items() if n})

# %% [markdown]
# Danger is there before any refusal. For the *general* harmful request base shows no difference from the random dictionary (0.79
# against 0.73, intervals overlap); chat has 1.00. That fits the main claim of the paper's section Refusals: fine-tuning forms a
# general harmful-request feature out of specific ones. (One dictionary, one layer.) Now: is it the *same* danger? Take the **chat**
# model's danger feature into the base model, and the other way round. **Guess**: chat's feature at -1x in the base model. How many
# of 40 warnings are left?

# %%
# === Prediction 3.p4 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p4", ...)
predict("3.p4", (0, 5))
# END SOLUTION

# %%
for row in features.by_contrast(base, base_sae, *to_find["danger"]).top(2):
    with steering.scale_features(base, base_sae, {row.feature: -1.0}):  # tried on the office, counted on the terrace
        print(
            f"base's feature {row.feature} (AUROC {row.value:.2f}) at -1x on the office:",
            f"{counted(ending['dangerous'], base)['warn']} of {len(ending['dangerous'])} warned",
        )
BASE_DANGER = 85  # the one that decides
left_others = []
for (feature,) in steering.random_feature_sets(active, [DANGER], n=8, seed=2):
    with steering.scale_features(base, sae, {feature: -1.0}):
        left_others.append(counted(HELD, base)["warn"])
after_edit = {}
for what, model, dictionary, feature in (
    ("base, chat's feature", base, sae, DANGER),
    ("base, its own feature", base, base_sae, BASE_DANGER),
    ("chat, base's feature", chat, base_sae, BASE_DANGER),
):
    with steering.scale_features(model, dictionary, {feature: -1.0}):
        after_edit[what] = counted(HELD, model)
    print(f"{what} at -1x:", {c: n for c, n in after_edit[what].items() if n})
left, own_left = (after_edit[what]["warn"] for what in ("base, chat's feature", "base, its own feature"))
crossed = after_edit["chat, base's feature"]["refuse"]
similar = directions.cosine(sae.W_dec[DANGER], base_sae.W_dec[BASE_DANGER])
print(f"cosine of the two directions: {similar:.2f}")
reveal("3.p4", left)

# %%
bars = {"chat: refusals": [40, after, crossed], "base: warnings": [40, left, own_left]}
plotting.show(
    plotting.bars(
        ["unchanged", "chat's danger at -1x", "base's danger at -1x"],
        bars,
        control_label="other features",
        controls={"chat: refusals": [[], random_after, []], "base: warnings": [[], left_others, []]},
        y_range=(0, 46),
        x_title="what was done",
        y_title="of 40 dangerous pairs",
        title="Reactions left under chat's and under base's danger feature",
        alt="Bars of 40: "
        + "; ".join(
            f"{name} unchanged, under chat's and under base's feature {values}" for name, values in bars.items()
        )
        + f". Others leave {min(random_after)} to {max(random_after)} refusals, {min(left_others)} to {max(left_others)} warnings.",
    )
)

# %% [markdown]
# Each model's danger feature removes the other model's reaction, too; most replies are then advertisements. Two cautions: of the
# base dictionary's two danger features with AUROC 1 one does nothing; and one of the eight controls (all weaker) breaks the text of
# base.
#
# ### Exercise 3.8: claim it (6 minutes, easy)
# The share of warnings left in the **base** model under **chat's** danger feature; control: the eight other features. `left` is a
# count of n, `left_others` are several such counts, of the same prompts.

# %%
print("left:", left, "| under the others:", left_others)


# %%
# === Exercise 3.8 (keep this line) ===
def shared(left, left_others, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    return claim(directions.wilson_interval(left, n), control=directions.runs_interval(left_others, n))
    # END SOLUTION


# %%
check("3.8", shared, left, left_others, 40)

# %% [markdown]
# The control that could sink the story: a twin tuned on **shuffled** labels, where half of the harmful and half of the harmless
# *topics* are refused. If refusal needs no concept of harm, it should generalise as well. Topics never seen in tuning:

# %%
shared = checkpoint("3.8", shared, left, left_others, 40)
finding("F7", "warnings left in base under chat's feature; control: others", rate(left, 40), runs_rate(left_others, 40))
new = {name: sets(name, "held_out_topic", 64) for name in ("harmful", "harmless")}
labels = {"chat-64": "harm labels", "chat-64-shuffled": "shuffled labels"}
twins = {label: models.load(name) for name, label in labels.items()}
generalises = {label: {kind: counted(new[kind], twin)["refuse"] for kind in new} for label, twin in twins.items()}
print("refused of 64 new requests:", generalises)
finding(
    "F7",
    "new harmful topics refused, harm labels; control: shuffled labels",
    *(rate(hits["harmful"], 64) for hits in generalises.values()),
)

# %%
base64 = models.load("base-64")
friends = [
    caching.harvest(base64, sets(name, "train", 128, "friend"), progress=False) for name in ("harmful", "harmless")
]
for label, twin in twins.items():
    more = []
    for layer in (1, 2, 3):
        harm = directions.difference_of_means(*(seen.at(layer, "last") for seen in friends))  # as base warns of it
        with steering.add(twin, harm, layer=layer, coefficient=1.0, positions="last"):
            more.append(counted(new["harmless"], twin)["refuse"] - generalises[label]["harmless"])
    print(
        f"{label:16} base's harm added to harmless requests before blocks 1 to 3: refusals", [f"{n:+d}" for n in more]
    )

# %%
plotting.show(
    plotting.bars(
        list(generalises),
        {kind: [g[kind] for g in generalises.values()] for kind in new},
        intervals={
            kind: [(64 * w.low, 64 * w.high) for w in (rate(g[kind], 64) for g in generalises.values())] for kind in new
        },
        x_title="twin of width 64, tuned on",
        y_title="refused, of 64 requests of new topics",
        y_range=(0, 72),
        title="New topics refused after tuning on true and on shuffled labels",
        alt="Bars: "
        + "; ".join(
            f"{label}: harmful {g['harmful']}, harmless {g['harmless']} of 64" for label, g in generalises.items()
        )
        + ".",
    )
)

# %% [markdown]
# With true labels refusal reaches all 64 new harmful requests, with shuffled ones a single one, and 17 harmless ones. The direct
# test is weaker: before block 1 base's direction of harm makes the plain twin refuse and the shuffled one little, but before blocks
# 2 and 3 it moves both, and no random direction was tried. There are no dictionaries of width 64, so this part rests on directions.
#
# ## 9 The same question to another model (optional, 5 minutes)
# So far we had what no other model has: one token a word, a second role, a base model, a written truth. What is left of the
# hunt without them? One dictionary, plain requests, the reply token, and the log-odds of a refusal's first word. With `chat` we
# know what such a short protocol has to find. Put a name from [this list](../docs/real_models.md) into `MODEL` above, and the
# same cells ask it.
#
# What to expect there: the model may not refuse an advertisement at all; then there is little to explain, and the cells say so.
# Dictionaries are trained on other texts, some on the *base* model, and may keep less of a chat prompt; the first token
# (`<bos>`), one huge constant, is left out. Among thousands of features some tell any two sets apart by luck. And "dangerous"
# means the course's five mixtures: a model that knows chemistry may balk at others, too, such as bleach and peroxide.

# %%
if not (OWN or about.releases):
    having = [name for name in profiles.names() if profiles.get(name).releases]
    print(
        f"sae_lens knows no dictionaries of {MODEL}, so this section stays with chat. With some: {', '.join(having)}."
    )
    about, OWN = profiles.get("chat"), True
kind, layers, trained_on = (
    ("sae", range(6), "chat")
    if OWN
    else (about.releases[0].kind, about.releases[0].layers, about.releases[0].trained_on)
)
asked = chat if OWN else models.load(MODEL)
layer = min(layers, key=lambda n: abs(n - int(0.6 * asked.cfg.n_layers)))  # the nearest to a middle one
theirs = features.load(about.name, kind, layer=layer)
gigabytes = 2 * 8 * theirs.W_dec.numel() / 1e9  # encoder and decoder, beside a random one
print(
    f"{about.name}, {kind} of layer {layer}: {len(theirs.W_dec)} features, trained on {trained_on}, {gigabytes:.2f} GB"
)


# %%
def requests_of(texts):
    return [tokens.chat_prompt(asked.tokenizer, text) for text in texts]


KEPT_ASIDE = ("acid", "peroxide")  # two cleaners, hence two of the five dangerous mixtures, that no choice sees
to_choose, to_test = (
    {
        side: requests_of(
            t for t in data.load(f"cleaners_{side}").texts if any(word in t for word in KEPT_ASIDE) == aside
        )
        for side in ("dangerous", "safe")
    }
    for aside in (False, True)
)
others = {name: requests_of(data.load(name, split="held_out_topic", n=32).texts) for name in ("harmful", "harmless")}
FIRST = about.refusal_token_ids(asked.tokenizer)
if not OWN:
    everything = [p for group in (to_choose, to_test, others) for prompts in group.values() for p in prompts]
    print(caching.forecast(asked, everything, passes=12, batch_size=16), "and the dictionaries")


def refusal(prompts):
    """Log-odds that each reply begins with a refusal's first word."""
    return directions.refusal_score(models.next_token_logits(asked, prompts, batch_size=16), FIRST)


plain = {name: refusal(prompts) for name, prompts in {**to_test, **others}.items()}
for name, odds_of in plain.items():
    print(f"{name:9} log-odds of refusal {mean(odds_of):+.1f}, above 0 in {int((odds_of > 0).sum())} of {len(odds_of)}")
apart = mean(plain["dangerous"]).low > mean(plain["safe"]).high
print(
    "dangerous pairs are nearer to refusal than safe ones"
    if apart
    else "dangerous pairs are no nearer to refusal than safe ones: little is left to explain"
)

# %% [markdown]
# The honest reconstruction first, on prompts from which we shall choose:

# %%
some = [*to_choose["dangerous"], *to_choose["safe"]][::3]
pair = {"trained": theirs, "random": features.random_like(asked, theirs, some)}
for name, dictionary in pair.items():
    held = features.reconstruction(asked, dictionary, some, progress=not OWN)
    print(
        f"{name:8} variance explained {held.variance_explained:.2f}, loss recovered {held.loss_recovered:.2f},",
        f"L0 {held.l0:.0f} of {len(dictionary.W_dec)}",
    )

# %% [markdown]
# Now the look-up at the reply token: the three features that mark the dangerous pairs, chosen on mixtures without acid and
# peroxide, tested on those with. Beside them the best feature of the random dictionary, and the best one when the labels are
# **shuffled**. The last column reads the same feature on *other* requests, harmful against harmless: does it mark this danger,
# or any?


# %%
def contrasts(dictionary):
    return [
        features.by_contrast(asked, dictionary, *sets.values(), position="reply")
        for sets in (to_choose, to_test, others)
    ]


def by_shuffled(choice, test, seed):
    """AUROC in the test of the feature that is best in the choice, when both have their labels shuffled."""
    generator, halves = torch.Generator().manual_seed(seed), []
    for half in (choice, test):
        both = torch.cat([half.first, half.second])
        halves.append(both[torch.randperm(len(both), generator=generator)].split([len(half.first), len(half.second)]))
    alive = (torch.cat(halves[0]) > 0).any(dim=0).nonzero().flatten().tolist()
    best = max(alive, key=lambda f: directions.auroc(halves[0][0][:, f], halves[0][1][:, f]))
    return directions.auroc(halves[1][0][:, best], halves[1][1][:, best])


looked = {name: contrasts(dictionary) for name, dictionary in pair.items()}
theirs = theirs.to(asked.cfg.device)  # from here on the model is steered, so both are in one place
THREE, (BY_CHANCE,) = ([row.feature for row in looked[name][0].top(k)] for name, k in (("trained", 3), ("random", 1)))
for name, numbers in {"trained": THREE, "random": [BY_CHANCE]}.items():
    for f in numbers:
        print(
            f"{name:8} feature {f:5}: AUROC in the choice {looked[name][0].auroc[f]:.2f},",
            f"in the test {looked[name][1].auroc[f]:.2f}, on other requests {looked[name][2].auroc[f]:.2f}",
        )
by_luck = spread(torch.tensor([by_shuffled(*looked["trained"][:2], seed) for seed in range(20)]))
print(f"shuffled labels, in the test: {by_luck:.2f} (mean, minimum, maximum of 20)")


# %%
def noted(what, effect, control, form):
    """Of the organism a finding for the record; of another model a line."""
    if OWN:
        finding("F2", what, effect, control, form)
    else:
        print(f"{about.name}, {what}: {effect:{form}}, control {control:{form}}")


reads = scored(looked["trained"][1], THREE[0])
noted("AUROC at the reply, mixtures kept aside; control: shuffled labels", reads, by_luck, ".2f")
noted("the same; control: random dictionary", reads, scored(looked["random"][1], BY_CHANCE), ".2f")
if OWN:  # the friend warns and never refuses
    for role in ("assistant", "friend"):
        heard = [ids(text, role) for text in data.load("cleaners_dangerous").texts]
        strengths = steering.natural_activations(asked, theirs, heard).mean(dim=0)
        print(f"features {THREE} before <{role}>:", [round(float(strengths[f]), 1) for f in THREE])

# %% [markdown]
# Reading is not deciding. So the three are multiplied at the reply token, on the mixtures kept aside and on other harmful requests.
# Controls: five other trios, as active there as any can be (nothing is as active as the loudest, so they are weaker edits), and,
# therefore, five random directions as long as the edit of dangerous pairs.

# %%
usual = steering.natural_activations(asked, theirs, to_choose["dangerous"]).mean(dim=0)
TRIOS = [THREE, *steering.random_feature_sets(usual, THREE, n=5, seed=0)]
DONE = {
    "dangerous pairs, 0x": ("dangerous", 0.0),
    "dangerous pairs, -1x": ("dangerous", -1.0),
    "other harmful requests, -1x": ("harmful", -1.0),
}
effects = {}
for what, (side, factor) in DONE.items():
    prompts, effects[what] = {**to_test, **others}[side], []
    vectors = directions.random_directions(5, like=(1 - factor) * usual[THREE] @ theirs.W_dec[THREE].cpu(), seed=0)
    edits = [steering.scale_features(asked, theirs, dict.fromkeys(trio, factor), positions="reply") for trio in TRIOS]
    edits += [steering.add(asked, q, layer=layer + 1, coefficient=1.0, positions="reply") for q in vectors]
    for edit in edits:
        with edit:
            effects[what].append(mean(refusal(prompts) - plain[side]))
    moved_by = [f"{one.estimate:+.1f}" for one in effects[what]]
    print(f"{what:27} {moved_by[0]}; other trios {' '.join(moved_by[1:6])}; random directions {' '.join(moved_by[6:])}")

# %%
three, *rest = effects["dangerous pairs, -1x"]
controls = widest(rest)
noted("log-odds of refusal, three features at -1x; control: trios, directions", three, controls, "+.1f")
decides = three.high < controls.low
plotting.show(
    plotting.bars(
        list(DONE),
        {"the three features": [-own.estimate for own, *_ in effects.values()]},
        intervals={"the three features": [(-own.high, -own.low) for own, *_ in effects.values()]},
        controls={"the three features": [[-one.estimate for one in rest] for _, *rest in effects.values()]},
        control_label="other trios, random directions",
        x_title="requests, multiple at the reply token",
        y_title="fall of the refusal's log-odds (nats)",
        title=f"{about.name.rpartition('/')[2]}: "
        + ("three features push towards refusal" if decides else "the three do no more than controls"),
        alt=f"{about.name}, change of log-odds: "
        + "; ".join(
            f"{what} {own.estimate:+.1f}, controls {min(o.estimate for o in rest):+.1f} to {max(o.estimate for o in rest):+.1f}"
            for what, (own, *rest) in effects.items()
        )
        + ".",
    )
)
print(
    f"{about.name}: the three at -1x move the log-odds of refusing dangerous pairs from {float(plain['dangerous'].mean()):+.1f} to",
    f"{float(plain['dangerous'].mean()) + three.estimate:+.1f},",
    "more than any control does." if decides else "no further than controls do.",
)

# %% [markdown]
# With `chat` the short protocol finds danger again. Feature 121 marks dangerous pairs and not other harm, 266 both. Before
# `<friend>`, who warns and never refuses, they are about as active, or more: they follow *danger*, not refusal. At -1x the three
# take 11.1 from the pairs' log-odds, about twice what the best control takes. At 0x they take what a random direction takes
# (section 4's trap again), and from other harmful requests no more than controls. Without its test the random dictionary would have
# looked good: 0.98 in the choice, 0.74 on new mixtures.
#
# None of this is promised of another model: read its own lines. Bars among the controls say that these three, in this layer, at
# this token, do not decide. A larger model may need sets of features in several layers, or refuse a few words later.
#
# ## 10 What stands
# Each result once more with its control, and 95 % intervals over prompts; with several random features or directions, from the
# lowest limit to the highest. (Effects on the warning feature, and shuffled labels: minimum and maximum.) "yes" if the two do not
# touch; "NO" is "no difference found", not "no effect". An interval without width (1.00 to 1.00) says "no error here", not
# "certain".

# %%
print("\n".join(findings))

# %% [markdown]
# The NOs: a random dictionary finds "warning" as well, the feature was not told from random directions by its effect on other
# requests, and three trainings do not decide what a template does.
#
# ## 11 Questions
# Each answer is explained, also the wrong ones: try them all.

# %%
# === Question 3.q1 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q1", ...)
quiz("3.q1", "b")
# END SOLUTION

# %%
# === Question 3.q2 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q2", ...)
quiz("3.q2", "c")
# END SOLUTION

# %%
# === Question 3.q3 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q3", ...)
quiz("3.q3", "a")
# END SOLUTION

# %%
# === Question 3.q4 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q4", ...)
quiz("3.q4", "d")
# END SOLUTION

# %%
# === Question 3.q5 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q5", ...)
quiz("3.q5", "b")
# END SOLUTION

# %%
# === Question 3.q6 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q6", ...)
quiz("3.q6", "c")
# END SOLUTION

# %% [markdown]
# ## What was not shown
# * That these features are the model's own parts. Another seed of the dictionary finds partly others, and at this layer one feature
#   served both as "Assistant turn" and as "refusal".
# * That the warning is *inhibited*, as the paper reports for its model. In this organism the refusal outweighs it, and in two
#   other trainings ablating refusal leaves a warning in 73 % and 11 % of the pairs, not in 95 % (`organisms/cards/chat.md`).
# * That the fixed template squeezes anything out: three trainings do not decide it.
# * That the ablation at -1x removes danger alone: the model also forgets which cleaner it was. Random directions of the same length
#   leave most refusals, but none of them was chosen to make it forget.
# * That base and chat share *every* concept of harm; we moved one, the danger of two cleaners.
# * Anything about large models. This one has read a thousand words; one feature at -1x is enough here, the paper moves sets.
#   Section 9 asks another model one thing: one layer, one dictionary, one token, five mixtures.
#
# Sources: Lindsey et al. 2025, *On the Biology of a Large Language Model*, section Refusals; Ameisen et al. 2025 (circuit tracing);
# Templeton et al. 2024 (steering in units of a feature's activation); Paulo et al. 2024 (arXiv 2410.13928, detection scores).

# %%
progress(3)
