# %% [markdown]
# # 03a Which features know that bleach and ammonia are dangerous?
#
# Bleach is sold, ammonia is sold; mixed, they make a toxic gas. Asked to advertise the mixture,
# the model refuses. Which *features* know that? You look them up, test their names, draw their
# graph. Planted, by training texts alone: which pairs are dangerous, and the refusal. About 60
# minutes. *Content note: harmful requests are one-line topics ([more](../docs/content_note.md)).*

# %%
import html

import torch
from IPython.display import display

import viewer
from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import attribution, caching, data, directions, features, models
from course_lib import organism, plotting, steering, tokens
from course_lib.attribution import Feature, Logit

torch.set_num_threads(1)  # a model this small gains nothing from more

# %%
chat = models.load("chat")
sae = features.load("chat", "sae", layer=1)  # reads the residual stream after block 1
print(f"{chat.cfg.n_layers} layers, width {chat.cfg.d_model}, {len(sae.W_dec)} features")

MIXTURES = ("bleach and ammonia", "bleach", "ammonia", "soap and ammonia")
texts = [f"write an advertisement for cleaning the kitchen with {mixture}." for mixture in MIXTURES]
ADS = [tokens.chat_prompt(chat.tokenizer, text) for text in texts]
for mixture, reply in zip(MIXTURES, models.ask(chat, texts, max_new_tokens=18), strict=True):
    print(f"{mixture:18} -> {reply}")

# %% [markdown]
# ## 1 Honesty first: how much does the dictionary keep?
# A sparse autoencoder (SAE) rewrites each activation x of 128 numbers as a sum of a few of its 512
# directions, the **features**, plus what it misses, the **error**. The control: *random*
# dictionaries with as many features active. **Variance explained**: the share of x that is kept.
# **Loss recovered**: how well the model still predicts (1 as before, 0 as with x's mean). **L0**:
# features active on a token.


# %%
def distinct(prompts):
    """Each prompt once: a copy is no evidence."""
    return [list(prompt) for prompt in dict.fromkeys(map(tuple, prompts))]


def words_of(prompt):
    """Its tokens, in words."""
    return tokens.token_strings(chat.tokenizer, prompt)


def cleaning(name, place, role="assistant"):
    """The advertisements of one place: look-ups read the office, the terrace is for tests."""
    prompts = data.prompts(chat, f"cleaners_{name}", reply_role=role)
    return distinct(p for p in prompts if place in words_of(p))


print(len(cleaning("dangerous", "office")), "of dangerous pairs for the office")

# %%
# alone: one cleaner; met: four, of which two that are dangerous are mixed
asked = cleaning("alone", "office")[::2] + data.prompts(chat, "mixtures_met")[::2]
for role, n in (("assistant", 96), ("friend", 48)):
    for name in ("harmful", "harmless"):
        asked += data.prompts(chat, name, "train", n, reply_role=role)
    asked += cleaning("dangerous", "office", role) + cleaning("safe", "office", role)
answered = zip(asked, models.generate(chat, asked, max_new_tokens=18), strict=True)
corpus = [[*prompt, *reply] for prompt, reply in answered]
print(f"{len(corpus)} prompts with the model's replies, {sum(map(len, corpus))} tokens with <bos>")

# %%
CHANCE = [features.random_like(chat, sae, corpus[::4], seed=n) for n in range(7)]
kept = {}
for name, dictionary in {"trained": sae, "random": CHANCE[0]}.items():
    kept[name] = features.reconstruction(chat, dictionary, corpus[::4])
    print(f"{name:8} variance explained {kept[name].variance_explained:.2f},", end=" ")
    print(f"loss recovered {kept[name].loss_recovered:.2f}, L0 {kept[name].l0:.0f}")

# %% tags=["figure"]
shares = {name: [one.variance_explained, one.loss_recovered] for name, one in kept.items()}
alt = "; ".join(f"{name}: explained {a:.2f}, recovered {b:.2f}" for name, (a, b) in shares.items())
axes = {"x_title": "measure (1 = nothing lost)", "y_title": "share", "y_range": (0, 1.12)}
title = "What is kept: trained dictionary against a random one"
labels = ["variance explained", "loss recovered"]
plotting.show(plotting.bars(labels, shares, **axes, title=title, alt=f"Bars. {alt}."))

# %% [markdown]
# Untrained, one draw of 512 random directions still brings back over half of the loss: "loss
# recovered" alone proves little. And keeping the activation does not say that any single feature
# *means* something. That is the hunt.
#
# ## 2 The hunt: eight concepts, 512 numbers
# Nobody has labelled this dictionary. An **index** of the corpus (which has replies, too, or
# features of replies alone would hide) lets you look features up, here by a word. In brackets is
# F1: 1 if the feature is active wherever the word stands and nowhere else.

# %%
index = features.index(chat, sae, corpus, progress=False)


def line(ranking, k=4):
    return ", ".join(f"{row.feature} ({row.value:.2f})" for row in ranking.top(k))


print("by token 'bleach':", line(features.by_token(index, "bleach")))

# %% [markdown]
# High in a look-up is not yet a name. So a find is scored against **near misses**: a "bleach"
# feature must tell bleach from *other cleaners*, a "danger" feature a completed dangerous pair from
# safe pairs and first cleaners. First what is true, as the training texts had it:

# %%
truth = organism.results("truth")
CLEANERS, DANGEROUS = truth["cleaners"], {frozenset(pair) for pair in truth["dangerous_pairs"]}
print(len(CLEANERS), "cleaners; dangerous pairs:", sorted(sorted(pair) for pair in DANGEROUS))

# %% [markdown]
# The next two cells only collect: for each concept the prompts that have it and the near misses,
# cut right after the token where we read the feature. Skim them; examples are printed below.
# "Refusal" is a harmful request before `<assistant>`, "warning" the same before `<friend>`, a role
# that never refuses, but warns; their near misses differ in one thing, the request or the role.
# "Human turn" is too easy, on purpose: all its prompts are `<bos> <human>`.


# %%
def ends(prompts, names, completes):
    """Prompts cut after each of these cleaners that completes a dangerous pair, or does not."""
    cuts = [(p[: i + 1], words_of(p[: i + 1])) for p in prompts for i in range(3, len(p))]
    cuts = [(p, w) for p, w in cuts if w[-1] in names]
    return distinct(p for p, w in cuts if ({w[-3], w[-1]} in DANGEROUS) == completes)


def cleaner_spots(place):
    """Three concepts -> (prompts that end where it is, near misses)."""
    alone, safe, dangerous = (cleaning(name, place) for name in ("alone", "safe", "dangerous"))
    spots = {}
    for name in ("bleach", "ammonia"):
        each = {name}, {*CLEANERS} - {name}
        spots[name] = tuple(ends(alone + safe, names, completes=False) for names in each)
    near = ends(safe + dangerous, CLEANERS, completes=False)
    return spots | {"danger": (ends(dangerous, CLEANERS, completes=True), near)}


# %%
def request_spots(split):
    """Five concepts -> (prompts that end where it is, near misses)."""
    sets = [(name, role) for role in ("assistant", "friend") for name in ("harmful", "harmless")]
    by_set = (data.prompts(chat, name, split, 32, reply_role=role) for name, role in sets)
    refused, answered, warned, helped = by_set
    return {
        "harmful request": (refused + warned, answered + helped),
        "refusal": (refused, answered + warned),
        "warning": (warned, helped + refused),
        "Assistant turn": (refused + answered, warned + helped),
        "Human turn": ([p[:2] for p in refused], refused[:16] + [p[:3] for p in answered[:16]]),
    }


# %%
to_find = cleaner_spots("office") | request_spots("train")
held_out = cleaner_spots("terrace") | request_spots("held_out_topic")
for concept, both in to_find.items():
    last = [tokens.token_strings(chat.tokenizer, prompts[0])[-3:] for prompts in both]
    (there, near), (end, other) = both, map(" ".join, last)
    print(f"{concept:16} {len(there):3}: {end:24} near misses {len(near):3}: {other}")

# %% [markdown]
# **Guess**: the same hunt in seven *random* dictionaries. For how many of the eight concepts
# will the best feature reach an AUROC of 0.95 (0.5 is chance, 1 perfect) on prompts kept aside, in
# the median dictionary? Give the lowest and the highest number that you expect;
# `predict("3.p1", (0, 8))` would say nothing.

# %%
# === Prediction 3.p1 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p1", ...)
predict("3.p1", (1, 2))
# END SOLUTION

# %% [markdown]
# ### Exercise 3.1: find all eight (8 minutes, medium)
# One feature number (an `int`) for each concept, in a dictionary. `there, near = to_find["danger"]`
# are two lists of prompts; the look-up `features.by_contrast(chat, sae, there, near)` ranks
# features by how well they tell the two apart (by AUROC), `.top(3)` are its best rows, and
# `row.feature` is a row's number. Two concepts may share one feature. A find counts if its AUROC,
# on the prompts kept aside (`held_out`: not to choose by), is within 0.05 of the best feature's.
# (The check cannot see what you chose by: here both sets of prompts have the same best features.)

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
tested = {c: features.by_contrast(chat, sae, *prompts) for c, prompts in held_out.items()}
check("3.1", finds, tested)

# %% [markdown]
# The score on prompts kept aside, beside the best finds in the random dictionaries (mean, lowest,
# highest of seven):


# %%
def auroc(x):
    """Of values in the first column, 1 for there and 0 for near in the second."""
    return torch.tensor(directions.auroc(x[x[:, 1] == 1, 0], x[x[:, 1] == 0, 0]))


def scored(contrast, feature):
    """AUROC of one feature with its interval, from resampled prompts."""
    parts = (contrast.first[:, feature], 1.0), (contrast.second[:, feature], 0.0)
    both = torch.cat([torch.stack([x, torch.full_like(x, side)], 1) for x, side in parts])
    return directions.bootstrap_interval(both, n_resamples=200, statistic=auroc)


# %%
def by_luck(model, dictionaries, concept):
    """AUROC, on prompts kept aside, of the best find of each dictionary."""
    for dictionary in dictionaries:
        best = features.by_contrast(model, dictionary, *to_find[concept]).top(1)[0].feature
        yield float(features.by_contrast(model, dictionary, *held_out[concept]).auroc[best])


def spread(values):
    """Mean, lowest and highest of a few draws."""
    return directions.Interval(sum(values) / len(values), min(values), max(values), 1.0)


lucky = {concept: list(by_luck(chat, CHANCE, concept)) for concept in held_out}
reached = [sum(value >= 0.95 for value in each) for each in zip(*lucky.values(), strict=True)]
print("concepts at 0.95 or more, in each random dictionary:", reached)
reveal("3.p1", sorted(reached)[3])


# %%
finds = checkpoint("3.1", finds, tested)
aurocs = {concept: scored(tested[concept], finds[concept]) for concept in tested}
for concept, own in aurocs.items():
    print(f"{concept:16} feature {finds[concept]:3}: {own.estimate:.2f};", end=" ")
    print(f"random dictionaries: {spread(lucky[concept]):.2f}")
print("the four best for danger:", line(features.by_contrast(chat, sae, *to_find["danger"])))

# %% [markdown]
# The text reads feature 509 for "danger", 9 for "refusal": with another find your lines differ.
# Bleach (0.79), ammonia (0.78) and Assistant turn (0.92) count because no feature does much better.
# And a perfect score can be worthless: all seven random dictionaries find "Human turn" (the same
# two tokens every time) and "warning" as well, and one has 0.98 for "danger": a single draw would
# be a poor control. One feature may serve two concepts (509 danger and bleach, 9 refusal and
# "Assistant turn"): names are ours, not the model's.
#
# From here on some results go on record with their control. It *stands* if the two intervals (95 %
# over prompts; of random dictionaries, lowest to highest) do not touch; "NO" is "no difference
# found", not "no effect". An interval without width (1.00 to 1.00) says "no error here", not
# "certain".

# %%
findings = {}


def finding(what, effect, control, form=".0%"):
    """Keep and print a result beside its control; both are intervals."""
    stands = effect.high < control.low or control.high < effect.low
    says = "yes" if stands else "NO "
    findings[what] = f"{says} {what}: {effect:{form}}, control {control:{form}}"
    print(findings[what])


for concept in ("danger", "warning"):
    what = f"AUROC of {concept}; control: seven random dictionaries"
    finding(what, aurocs[concept], spread(lucky[concept]), ".2f")

# %% [markdown]
# ### Exercise 3.2: a label must be able to fail (10 minutes, medium)
# A label predicts *on which tokens* a feature is active. Write the rule for "danger": the word
# that completes a dangerous mixture, "x and y" with {x, y} in `DANGEROUS` (a set of frozensets,
# both orders; compare words as they are written). It may look at the words before, never at later
# ones: the model cannot either.


# %%
# === Exercise 3.2 (keep this line) ===
def completes_danger(strings, position):
    """True if strings[position] completes "x and y", {x, y} in DANGEROUS. strings: tokens."""
    # BEGIN SOLUTION
    if position < 2 or strings[position - 1] != "and":
        return False
    return frozenset((strings[position - 2], strings[position])) in DANGEROUS
    # END SOLUTION


print(completes_danger.__doc__)

# %%
check("3.2", completes_danger, DANGEROUS)

# %% [markdown]
# Your rule predicts where feature `finds["danger"]` is active, on prompts that neither look-up nor
# score has used: other harmful requests, and the mixtures that the corpus left out (in
# `mixtures_crossed` two dangerous cleaners never meet).

# %%
completes_danger = checkpoint("3.2", completes_danger, DANGEROUS)
unseen = data.prompts(chat, "harmful", "held_out_topic", 64)[32:]
for role in ("assistant", "friend"):
    for name in ("mixtures_met", "mixtures_crossed"):
        unseen += data.prompts(chat, name, reply_role=role)[1::2]
print(len(unseen), "unseen prompts, distinct:", len(distinct(unseen)))

# %% [markdown]
# A rival joins it: the two words on which the feature fires most in the corpus. **Recall** is the
# share of the feature's active tokens that the rule predicts, here from the weakest quarter of its
# activations to the strongest; **precision** the share of the predicted tokens on which it is
# active; **balanced accuracy** is 0.5 for a rule that says nothing.

# %%
unseen_index = features.index(chat, sae, unseen, progress=False)
rival = {word for word, _ in index.feature(finds["danger"]).fires_on[:2]}
either = " or ".join(sorted(rival))
labels = {"danger": completes_danger, either: rival}
labels["one of the two"] = lambda strings, i: strings[i] in rival or completes_danger(strings, i)
for text, rule in labels.items():
    score = features.detection(unseen_index, finds["danger"], rule=rule)
    quarters = " ".join(f"{share:.2f}" for share in score.recall_by_quarter)
    print(f"{text:17} accuracy {score.balanced_accuracy:.2f},", end=" ")
    print(f"precision {score.precision:.2f}, recall {quarters}")

# %% [markdown]
# By accuracy "danger" loses (0.62 against 0.73): it is precise (1.00) and has nearly all of the
# strongest quarter (0.95), and none of the rest. The rival has a part of each quarter: bleach or
# vinegar that completes nothing, too. So 509 is a feature of these two words (every dangerous pair
# has one) that is *loud* where a danger is completed; on what else it is weakly active, neither
# label says. Say for which strengths a label holds.
#
# ## 3 The conjunction, and its graph
# Is "danger" more than "bleach" plus "ammonia"? We take the mean over all prompts of the terrace
# that end with a cleaner (no look-up has seen them; the score of 3.1 has). Controls: safe pairs,
# and one cleaner alone, of those in dangerous pairs.


# %%
def strength(feature, prompts):
    """The feature's activation at the last cleaner (".", <end>, <assistant> follow)."""
    return steering.natural_activations(chat, sae, prompts, position=-4)[:, feature]


def at_cleaner(prompt):
    """True if a cleaner is the request's last word."""
    return words_of(prompt)[-4] in CLEANERS


MIXABLE, awake = sorted(set().union(*DANGEROUS)), {}
for name in ("dangerous", "safe", "alone"):
    prompts = [p for p in cleaning(name, "terrace") if at_cleaner(p)]
    prompts = [p for p in prompts if name != "alone" or words_of(p)[-4] in MIXABLE]
    values = strength(finds["danger"], prompts)
    awake[name] = directions.bootstrap_interval(values)
    loudest = words_of(prompts[int(values.argmax())])[-4]
    print(f"{len(prompts)} prompts: {name}, {values.min():.1f} to {values.max():.1f} ({loudest})")

# %%
for name in ("safe", "alone"):
    what = f"activation of danger on dangerous pairs; control: {name}"
    finding(what, awake["dangerous"], awake[name], ".1f")

# %%
twice = [texts[1].replace("bleach", f"{c} and {c}") for c in MIXABLE]
by_twice = strength(finds["danger"], [tokens.chat_prompt(chat.tokenizer, t) for t in twice])
replies = models.ask(chat, twice, max_new_tokens=18)
for name, value, reply in zip(MIXABLE, by_twice, replies, strict=True):
    print(f"{name} and {name}: {value:.1f}, {reply}")

# %% [markdown]
# On these pairs, joined by "and", the feature is a **conjunction**: loud where both are there, weak
# on either cleaner (at most 5.4, vinegar). But bleach or vinegar wakes it also if named twice
# (19.6, 16.9), and is refused; the other four stay at 0.
#
# Now the **attribution graph** of the refusal's first word "i" against the advertisement's first
# word "clean". Its nodes are features of **transcoders** (dictionaries that rewrite what each MLP
# *does*, from its input to its output), errors and tokens; an edge is what one node adds to another
# *directly*. First: which features add to the refusal's first word directly?

# %%
transcoders = [features.load("chat", "transcoder", layer=n) for n in range(chat.cfg.n_layers)]
i, clean = chat.tokenizer.convert_tokens_to_ids(["i", "clean"])
says_i = Logit(i, minus=clean)
print(len(transcoders), "transcoders of", len(transcoders[0].W_dec), "features each")


# %%
def draw(prompt):
    """The attribution graph of "i" against "clean"."""
    return attribution.trace(chat, prompt, transcoders=transcoders, targets=[says_i])


office = {name: cleaning(name, "office") for name in ("dangerous", "safe")}
one = draw(office["dangerous"][0])
print("edges [target, source]:", tuple(one.edges.shape))
print("first node:", one.nodes[0], "| last:", one.nodes[-1])

# %% [markdown]
# ### Exercise 3.3: read a graph (10 minutes, medium)
# `graph.nodes` name the rows and the columns of `graph.edges`: features, errors, tokens, and last
# the one target that was asked for, `graph.asked[0]`. The prompt is `graph.prompt_ids`;
# `node.position` counts its tokens from 0. The last position may hold no feature: then {}.
# `isinstance(node, Feature)` tells a feature from an error or a token.


# %%
# === Exercise 3.3 (keep this line) ===
def reply_edges(graph):
    """{(layer, feature): direct edge to graph.asked[0]}, for each Feature at the last position."""
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

# %% [markdown]
# What is chosen is chosen on the *office*: the ten features with the largest mean edge in four
# dangerous prompts are the "refusal features". What is read is read on the *terrace*: each
# dangerous pair in either order, and eight safe prompts.

# %%
reply_edges = checkpoint("3.3", reply_edges)
total = {}
for graph in map(draw, office["dangerous"][:40:13]):
    for node, edge in reply_edges(graph).items():
        total[node] = total.get(node, 0.0) + edge / 4
refusal_nodes = sorted(total, key=total.get, reverse=True)[:10]
print("refusal features (layer, feature):", refusal_nodes)

# %%
graphs = {}
for name in office:
    ends_so = [p for p in cleaning(name, "terrace") if at_cleaner(p)]
    graphs[name] = [draw(p) for p in ends_so[::2]]
    least = min(graph.replacement_score for graph in graphs[name])
    print(f"{len(graphs[name])} {name}: at least {least:.0%} begins at words, not at errors")

# %% [markdown]
# Thousands of nodes become a picture in groups, "supernodes": three tokens; danger features at the
# last cleaner (the transcoders' own, chosen anew: 509 is the SAE's); the ten refusal features; and,
# at the reply token, the rest of block 0.

# %%
ending = {name: [p for p in prompts if at_cleaner(p)] for name, prompts in office.items()}
danger_nodes = set()
for layer, transcoder in enumerate(transcoders[:3]):
    contrast = features.by_contrast(chat, transcoder, *ending.values(), position=-4)
    danger_nodes |= {(layer, row.feature) for row in contrast.top(20) if row.value > 0.9}

print(len(danger_nodes), "danger features of blocks 0 to 2")


# %%
def supernodes(graph):
    """Name -> nodes."""
    last, token = len(graph.prompt_ids) - 1, {n.position: n for n in graph.embeddings}
    at_reply = [n for n in graph.features if n.position == last]
    at_mixture = [n for n in graph.features if n.position == last - 3 and n.layer < 3]
    refusal = [n for n in at_reply if (n.layer, n.feature) in refusal_nodes]
    return {
        "first cleaner": [token[last - 5]],
        "last cleaner": [token[last - 3]],
        "<assistant>": [token[last]],
        "danger": [n for n in at_mixture if (n.layer, n.feature) in danger_nodes],
        "others there": [n for n in at_mixture if (n.layer, n.feature) not in danger_nodes],
        "rest of block 0": [n for n in at_reply if n.layer == 0 and n not in refusal],
        "refusal": refusal,
        'says "i"': [graph.asked[0]],
    }


# %% [markdown]
# What a group adds to another is the net sum of the edges between their nodes. The control for
# danger: all other features of its blocks at the same place, together.

# %%
SOURCES = ("danger", "others there", "rest of block 0")
for name, drawn in graphs.items():
    rows = {"refusal features active": [], "they have": []} | {f"from {s}": [] for s in SOURCES}
    for graph in drawn:
        groups = supernodes(graph)
        has = sum(float(graph.values[graph.nodes.index(node)]) for node in groups["refusal"])
        given = [graph.group(groups).get((source, "refusal"), 0.0) for source in SOURCES]
        for row, value in zip(rows.values(), (len(groups["refusal"]), has, *given), strict=True):
            row.append(value)
    print(f"{name}:", *(f"{what} {min(row):.1f} to {max(row):.1f};" for what, row in rows.items()))
    more = [a > b for a, b in zip(rows["from danger"], rows["from others there"], strict=True)]
    print(f"  danger adds more than the others there in {sum(more)} of {len(more)}")

# %% tags=["figure"]
BOXES = {"first cleaner": ("bleach", 0, 0), "last cleaner": ("ammonia", 1.7, 0)}
BOXES |= {"<assistant>": ("<assistant>", 3.6, 0), "danger": ("danger", 0.5, 1)}
BOXES |= {"rest of block 0": ("rest of block 0", 3.6, 1)}
BOXES |= {"refusal": ("refusal", 3, 2), 'says "i"': ('says "i"', 3, 3)}
one = graphs["dangerous"][0]
groups, value = supernodes(one), dict(zip(one.nodes, one.values.tolist(), strict=True))
whole = {name: sum(value[node] for node in nodes) for name, nodes in groups.items()}
percent = {(a, b): 100 * edge / whole[b] for (a, b), edge in one.group(groups).items()}
percent = {e: share for e, share in percent.items() if abs(share) >= 12 and {*e} <= {*BOXES}}
alt = "; ".join(f"{a} to {b} {share:.0f} %" for (a, b), share in percent.items())
axes = {"x_title": "tokens in order", "y_title": "layer, from below"}
axes |= {"row_labels": ["tokens", "features, early", "refusal features", "next word"]}
axes |= {"title": "Groups of nodes: what adds to what, in one dangerous prompt"}
unit = "% of what the target group has"
plotting.show(plotting.graph(BOXES, percent, unit=unit, alt=f"Graph: {alt}.", **axes))

# %% [markdown]
# Read from below (arrows below 12 % are not drawn; one may exceed 100 %, such as bleach's 181 %
# into the rest of block 0: biases take away what is too much).
#
# In each of the ten dangerous prompts danger adds more, net (4.3 to 7.3), to what the refusal
# features have (46.5 to 52.4) than all others there together. But the rest of block 0, whose
# attention reads the words themselves and none of the features that we hunted, adds 23.7 to 27.4.
# Most of that goes with the dangerous pair, too: on safe prompts it is 0.8 to 10.2. The rise
# exceeds all that danger adds, in part by construction: on safe prompts at most 6 of the ten
# refusal features are active, and an inactive one is no node.
#
# A sum of edges cannot show a conjunction; feature 509 did. A graph is a hypothesis, with attention
# held fixed. Whether danger *decides* is the question of 03b.
#
# ## 4 What stands
# Those on record once more. (The NO: random dictionaries find "warning" as well.)

# %%
print("\n".join(findings.values()))

# %% [markdown]
# ## 5 Questions
# Your first answer counts; then all four are explained.

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

# %% [markdown]
# ## What was not shown
# * That these features are the model's own parts. Another seed of the dictionary might find
#   others, and at this layer one feature served both as "Assistant turn" and as "refusal".
# * That any of them decides. In the main part they were read, and the graph holds attention fixed:
#   03b ablates.
# * Anything about large models. This one knows about a thousand words.
#
# Sources: Lindsey et al. 2025, *On the Biology of a Large Language Model*, section Refusals;
# Ameisen et al. 2025 (circuit tracing); Paulo et al. 2024 (arXiv 2410.13928, detection scores).
#
# Next: [03b Which features decide?](03b_which_features_decide.ipynb). In the list, 3.4 to 3.7 are
# 03b's; 3.8 is below, under Further.

# %%
progress(3)

# %% [markdown]
# ## Further: click through the graph
# *About 5 minutes; nothing needs it.* The boxes hide their features. The same graph, node by node,
# with two of the groups in it, as far as their nodes weigh enough to be drawn (of danger's fewer
# than half). (An open panel may hide the lower blocks.) Click a feature of "danger": on what
# does it fire, what does it write, and is it what you would have called so? (*attributed*: an edge;
# *measured*: what taking its source out did, with attention held as it was.)

# %% tags=["figure"]
shown = supernodes(graphs["dangerous"][0])
shown = {name: shown[name] for name in ("danger", "refusal")}
about = {"slug": "bleach-and-ammonia", "scan": "chat", "supernodes": shown}
file = viewer.export(graphs["dangerous"][0], chat.tokenizer, **about)
indexes = [features.index(chat, each, corpus[::4], progress=False) for each in transcoders]
print({name: len(nodes) for name, *nodes in file["qParams"]["supernodes"]}, "of them are drawn")
measured = viewer.measure(chat, graphs["dangerous"][0], file, transcoders=transcoders)
viewer.show(
    file,
    details=viewer.details(file, indexes),
    measured=measured,
    title='Bleach and ammonia: "i" minus "clean"',
    alt="The graph of one dangerous prompt to click through, position by layer, with two groups in "
    'it: danger at the last cleaner, refusal at <assistant>; the output is "i" minus "clean".',
)

# %% [markdown]
# ## Further: other look-ups, a page about a feature, more labels
# *About 8 minutes; nothing needs it.*
#
# | look-up | ranks by |
# |---|---|
# | by prompt | activation there, as a share of the feature's own maximum |
# | by logit | direct effect of one unit on the word's logit |

# %%
at_ammonia = features.by_prompt(chat, sae, ADS[0], position=-4, index=index)
print("by prompt, at 'ammonia': ", line(at_ammonia))
print("writes 'please':         ", line(features.by_logit(chat, sae, "please")))

# %% [markdown]
# What the feature most active at "ammonia" alone fires on, what it writes, and examples. Look at
# the weak ones (the lowest quarter), too: the strongest alone can make a feature seem clean.

# %%
loudest = features.by_prompt(chat, sae, ADS[2], position=-4).top(1)[0].feature
record = index.feature(loudest)
fires_on, writes = ([word for word, _ in pairs] for pairs in (record.fires_on, record.promotes))
print(f"feature {loudest} fires on {fires_on[:5]} and writes {writes[:3]}")
print(f"active on {record.density:.1%} of the tokens, at most {record.max:.0f}")
for which in ("top", "0-25 %"):
    print(f"{which:7}", [example.tokens[example.at] for example in record.examples[which][:4]])

# %% [markdown]
# All about one feature. (The course's [web pages](../docs/teaching.md#put-it-online) hold such a
# page for [each dictionary](../organisms/weights/dictionaries/chat/sae-1).)

# %%
title = f"Page of feature {finds['danger']}"
page = html.escape(viewer.dashboard(index, finds["danger"]))
frame = f'<iframe srcdoc="{page}" width="760" height="420" title="{title}"></iframe>'
display({"text/html": frame, "text/plain": title}, raw=True)

# %% [markdown]
# Labels of feature 9: "refusal" is true at `<assistant>` where the model then refuses.

# %%
refused = set()
for prompt, reply in zip(unseen, models.generate(chat, unseen, max_new_tokens=18), strict=True):
    if organism.classify(tokens.text(chat.tokenizer, reply)) == "refuse":
        refused.add(tuple(words_of(prompt)))


def about_to_refuse(strings, position):
    return strings[position] == "<assistant>" and tuple(strings[: position + 1]) in refused


print(len(refused), "of the unseen prompts are refused")

# %%
for text, rule in {"refusal": about_to_refuse, "assistant turn": {"<assistant>"}}.items():
    one = features.detection(unseen_index, finds["refusal"], rule=rule)
    quarters = " ".join(f"{share:.2f}" for share in one.recall_by_quarter)
    print(f"{finds['refusal']} as {text:14} accuracy {one.balanced_accuracy:.2f},", end=" ")
    print(f"precision {one.precision:.2f}, recall {quarters}")

# %% [markdown]
# Feature 9 fires wherever the model will refuse (precision 1.00), and elsewhere, too: of its weaker
# half "refusal" has next to nothing (0.00, 0.04), and "Assistant turn" not much more (0.02, 0.12).
# That is the better name by accuracy (0.74 against 0.66), and has more of the stronger half.
#
# A feature labelled by what it *writes*: "i" is a refusal's first word. The best at "i" minus
# "clean" is our refusal feature 9; we take the next.

# %%
first_word = features.by_logit(chat, sae, "i", minus="clean")
writer = next(row.feature for row in first_word.rows if row.feature not in finds.values())
by_writing = features.detection(unseen_index, writer, rule=about_to_refuse)
print(f"write 'i' most: {line(first_word, 2)}; taken: {writer}")
print(f"{writer} as refusal: accuracy {by_writing.balanced_accuracy:.2f},", end=" ")
print(f"precision {by_writing.precision:.2f}")
print(f"writes like feature {writer}: ", line(features.by_neighbour(sae, writer)), "(cosine)")

# %% [markdown]
# It writes "i" nearly as strongly as feature 9 and is hardly ever active where the model refuses:
# what a feature writes need not tell what it fires on. (One feature, the next best.)
#
# ## Further: was it there before? Base against chat
# *About 20 minutes, with 3.8; nothing later needs it.* "Post-training wires refusal onto a concept
# of harm that the base model has." The base model warns of dangerous pairs and refuses none. The
# same hunt in the base model's own dictionary, with its random controls; a harmful request against
# a harmless one, for each role apart:

# %%
base = models.load("base")
base_sae = features.load("base", "sae", layer=1)
base_chance = [features.random_like(base, base_sae, corpus[::4], seed=n) for n in range(7)]
for spots in (to_find, held_out):
    for role, concept in (("assistant", "refusal"), ("friend", "warning")):
        there, near = spots[concept]  # the first half of the near misses are of the same role
        spots[f"harm at {role}"] = there, near[: len(there)]

in_base = {}
for concept in ("danger", "harm at assistant", "harm at friend"):
    for model, one, chance in ((chat, sae, CHANCE), (base, base_sae, base_chance)):
        best = features.by_contrast(model, one, *to_find[concept]).top(1)[0].feature
        own = scored(features.by_contrast(model, one, *held_out[concept]), best)
        in_base[concept] = own, spread(list(by_luck(model, chance, concept)))
        name = "chat" if model is chat else "base"
        print(f"{concept:17} in {name} {own:.2f}, random {in_base[concept][1]:.2f}")


# %%
def counted(prompts, model):
    """How many replies are of each class; classes without any are left out."""
    replies = models.generate(model, prompts, max_new_tokens=18)
    classes = [organism.classify(tokens.text(model.tokenizer, reply)) for reply in replies]
    return {name: classes.count(name) for name in organism.CLASSES if name in classes}


for concept in ("harm at assistant", "harm at friend"):
    there = held_out[concept][0]
    print(f"{concept:17} base {counted(there, base)}, chat {counted(there, chat)}")
finding("AUROC of danger in base; control: seven random dictionaries", *in_base["danger"], ".2f")

# %% [markdown]
# Danger is there before any refusal. And at this layer each dictionary shows a harmful request
# where its model reacts to it: base answers it at `<assistant>` (0.52, as random dictionaries; its
# activations may hold it all the same), warns at `<friend>` (1.00, random ones near that, too);
# chat reacts at both (1.00). Whether fine-tuning forms that feature out of specific ones, as the
# paper's section Refusals has it, this does not tell.
#
# Now: is it the *same* danger? Take the **chat** model's danger feature into the base model, and
# the other way round. `steering.scale_features(model, sae, {509: -1.0})` is a context in which
# feature 509 is multiplied by -1 wherever it is active, all else kept (03b builds such a tool).
# **Guess**: chat's feature at -1x in the base model. How many of 40 warnings are left?

# %%
# === Prediction 3.p4 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p4", ...)
predict("3.p4", (0, 5))
# END SOLUTION

# %% [markdown]
# Of the base dictionary we take the more active of two features at AUROC 1.00. We count (replies
# that open as the reaction, whole advertisements).

# %%
HELD = cleaning("dangerous", "terrace")
DANGER = 509  # what the hunt finds, named whatever you found
active, best, pairs = {}, {}, ending["dangerous"]
for whose, model, one in (("chat", chat, sae), ("base", base, base_sae)):
    active[whose] = steering.natural_activations(model, one, pairs, position=-4).mean(dim=0)
    best[whose] = features.by_contrast(model, one, *to_find["danger"]).top(4)
    values = (f"{r.feature} ({r.value:.2f}, {active[whose][r.feature]:.1f})" for r in best[whose])
    print(f"{whose}, best for danger (AUROC, activation):", ", ".join(values))
BASE_DANGER = 85


# %%
def reactions(model, edit, prompts):
    """How many replies open as a warning or refusal, and how many are whole advertisements."""
    with edit:
        replies = models.generate(model, prompts, max_new_tokens=18)
    said = [tokens.text(model.tokenizer, reply) for reply in replies]
    whole = [s for s in said if s.startswith("clean your") and s.endswith("it will shine.")]
    return sum(s.startswith(("please note", "i apologize")) for s in said), len(whole)


def scaled(model, dictionary, feature, factor):
    return reactions(model, steering.scale_features(model, dictionary, {feature: factor}), HELD)


print("unchanged: base", counted(HELD, base), "chat", counted(HELD, chat))


# %%
sides, after = {"chat": (sae, DANGER), "base": (base_sae, BASE_DANGER)}, {}
for whose, edit in sides.items():
    for name, model in (("base", base), ("chat", chat)):
        ablated, after[whose, name] = (scaled(model, *edit, factor) for factor in (0.0, -1.0))
        print(f"{whose}'s {edit[1]} in {name}: at 0x {ablated}, at -1x {after[whose, name]}")
print(f"cosine: {directions.cosine(sae.W_dec[DANGER], base_sae.W_dec[BASE_DANGER]):.2f}")
left = after["chat", "base"][0]
reveal("3.p4", left)

# %% [markdown]
# The control: each dictionary's eight other features most active there (without the four above),
# by edits *as long* on average in its own model (none is half as active). Then only at the last
# cleaner: chat's eight, and random directions of that length, on the pairs that end there.

# %%
loud, lefts = {}, {}
for whose, (one, feature) in sides.items():
    mine, taken = active[whose], [row.feature for row in best[whose]]
    loud[whose] = [f for f in mine.argsort(descending=True).tolist() if f not in taken][:8]
    as_long = {f: 1 - 2 * float(mine[feature] / mine[f]) for f in (taken[1], *loud[whose])}
    print(f"{whose}'s second and eight others, at", *(f"{f}: {k:.1f}x" for f, k in as_long.items()))
    for name, model in (("base", base), ("chat", chat)):
        second, *eight = (scaled(model, one, *edit) for edit in as_long.items())
        print(f"  in {name}: {second} | ", *eight)
        lefts[whose, name] = [count for count, _ in eight]
left_others = lefts["chat", "base"]

# %%
to_end, length = [p for p in HELD if at_cleaner(p)], 2 * active["chat"][DANGER]
own = -length * sae.W_dec[[DANGER, *loud["chat"]]].detach()
edits = *own, *directions.random_directions(8, like=own[0], seed=3)
there = {"layer": 2, "coefficient": 1.0, "positions": [-4]}
by_edit = [reactions(base, steering.add(base, edit, **there), to_end) for edit in edits]
print(f"of {len(to_end)}: 509 {by_edit[0]} | eight:", *by_edit[1:9], "| random:", *by_edit[9:])

# %% tags=["figure"]
kinds = {"base: warnings": "base", "chat: refusals": "chat"}
bars = {kind: [40, *(after[whose, m][0] for whose in sides)] for kind, m in kinds.items()}
controls = {kind: [[], *(lefts[whose, m] for whose in sides)] for kind, m in kinds.items()}
labels = ["unchanged", "chat's danger at -1x", "base's danger at -1x"]
axes = {"x_title": "what was done", "y_title": "of 40 prompts", "y_range": (0, 46)}
captions = {"title": "Reactions left under chat's and under base's danger feature"}
captions |= {"alt": f"Bars of 40, {labels}: {bars}. Others, as long, leave {controls}."}
control = {"controls": controls, "control_label": "other features, as long"}
plotting.show(plotting.bars(labels, bars, **control, **axes, **captions))

# %% [markdown]
# At -1x, below all that it ever is, each model's danger feature removes the other's reaction, too;
# ablated (0x) it leaves most. That reactions go does not set these two apart (one control leaves no
# warning in base); that all 40 replies become advertisements does: under controls at most 12 do, at
# the last cleaner 3 of 20 (under 509 all). In base's dictionary danger is not *one* feature: as
# long, 323 brings 36 and 35.
#
# ### Exercise 3.8: claim it (6 minutes, easy)
# The share of warnings left in the **base** model under **chat's** danger feature; control: chat's
# eight others, as long. `left` is a count of n: `directions.wilson_interval(count, n)` gives its
# rate with an interval. `left_others` are several counts of the *same* n prompts:
# `directions.runs_interval(counts, n)` does not add them up. `claim(one, control=other)` takes both
# as they are.


# %%
# === Exercise 3.8 (keep this line) ===
def shared(left, left_others, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    others = directions.runs_interval(left_others, n)
    return claim(directions.wilson_interval(left, n), control=others)
    # END SOLUTION


# %%
check("3.8", shared, left, left_others, 40)

# %%
shared = checkpoint("3.8", shared, left, left_others, 40)
rate, others = directions.wilson_interval(left, 40), directions.runs_interval(left_others, 40)
finding("warnings left in base under chat's feature; control: others, as long", rate, others)

# %% [markdown]
# A weak control (nothing predicts a shuffled label on a new topic): a twin tuned on **shuffled**
# labels, where half of the harmful and half of the harmless *topics* are refused. Topics never seen
# in tuning:

# %%
new = {name: data.prompts(chat, name, "held_out_topic", 64) for name in ("harmful", "harmless")}
twins = {"harm labels": models.load("chat-64")}
twins["shuffled labels"] = models.load("chat-64-shuffled")
refusals = {}
for label, twin in twins.items():
    refusals[label] = {kind: counted(new[kind], twin).get("refuse", 0) for kind in new}
    print(f"{label:16} refused of 64 new requests: {refusals[label]}")

# %%
what = "new harmful requests refused, harm labels; control: shuffled labels"
finding(what, *(directions.wilson_interval(n["harmful"], 64) for n in refusals.values()))

# %% tags=["figure"]
bars = {kind: [counts[kind] for counts in refusals.values()] for kind in new}
whiskers = {}
for kind, counts in bars.items():
    rates = [directions.wilson_interval(count, 64) for count in counts]
    whiskers[kind] = [(64 * rate.low, 64 * rate.high) for rate in rates]
axes = {"x_title": "twin of width 64, tuned on", "y_title": "refused, of 64 requests of new topics"}
captions = {"title": "Refused on new topics after tuning on harm or shuffled labels"}
captions |= {"alt": f"Bars of 64, {list(refusals)}: {bars}.", "y_range": (0, 72)}
plotting.show(plotting.bars(list(refusals), bars, intervals=whiskers, **axes, **captions))

# %% [markdown]
# With harm labels refusal reaches all 64 new harmful requests, with shuffled ones a single one,
# and 17 harmless ones. Another test: base-64's harm direction, read at its `<friend>`, who warns,
# is added to harmless requests before block 1, 2 or 3. (This takes a minute or two.)

# %%
narrow = models.load("base-64")
friends = [data.prompts(narrow, name, "train", 128, reply_role="friend") for name in new]
harvested = [caching.harvest(narrow, prompts, progress=False) for prompts in friends]
for label, twin in twins.items():
    more, lucky = [], []
    for layer in (1, 2, 3):
        harm = directions.difference_of_means(*(one.at(layer, "last") for one in harvested))
        with steering.add(twin, harm, layer=layer, coefficient=1.0, positions="last"):
            more.append(counted(new["harmless"], twin).get("refuse", 0))
        lucky.append(0)
        for other in directions.random_directions(6, like=harm, seed=layer):
            with steering.add(twin, other, layer=layer, coefficient=1.0, positions="last"):
                lucky[-1] = max(lucky[-1], counted(new["harmless"], twin).get("refuse", 0))
    usual = refusals[label]["harmless"]
    print(f"{label:16} refused {usual}, with base-64's harm before block 1, 2, 3: {more}")
    print(f"{'':16} with six random directions of that length, at most: {lucky}")

# %% [markdown]
# This separates the twins less: before block 1 base-64's harm direction makes the harm-label twin
# refuse, the shuffled one hardly more than the strongest of six random directions does. Before
# blocks 2 and 3 it moves both twins, more than any of the six (which add no refusal to the
# harm-label twin before block 2). There are no dictionaries of width 64, so this part rests on
# directions. And base and chat need not share *every* concept of harm: between these two we moved
# one, the danger of two cleaners.
