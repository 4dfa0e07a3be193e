# %% [markdown]
# # 03 Features: bleach and ammonia
#
# Bleach is sold, ammonia is sold; mixed, they make a toxic gas. Asked to advertise the mixture, the model refuses. Which
# *features* know that, and which of them decide? You will look them up, name them, draw their graph, and cut.
# About 90 minutes. *Content note: harmful requests are one-line topics; no answer here helps
# anyone do harm ([more](../docs/content_note.md)).*

# %%
import html
import json
import tempfile
from contextlib import ExitStack
from functools import partial
from importlib import resources

import torch
from IPython.display import display

from course_lib import attribution, caching, data, directions, features, models, plotting, steering, tokens
from course_lib.attribution import Embedding, Feature, Logit
from course_lib.grading import check, checkpoint, claim, hint, predict, progress, quiz, reveal

torch.set_num_threads(1)  # a model this small gains nothing from more
chat = models.load("chat")
sae = features.load("chat", "sae", layer=1)  # 512 features of the residual stream after block 1


def ids(text, role="assistant"):
    return tokens.chat_prompt(chat.tokenizer, text, reply_role=role)


def replies(prompts, model=chat):
    return [tokens.text(chat.tokenizer, reply) for reply in models.generate(model, prompts, max_new_tokens=18)]


MIXTURES = ("bleach and ammonia", "bleach", "ammonia", "soap and ammonia")
ADS = [f"write an advertisement for cleaning the terrace with {mixture}." for mixture in MIXTURES]
for mixture, reply in zip(MIXTURES, replies(list(map(ids, ADS))), strict=True):
    print(f"{mixture:18} -> {reply}")

# %% [markdown]
# ## 1 Honesty first: how much does the dictionary keep?
# A sparse autoencoder (SAE) rewrites each activation x of 128 numbers as a sum of a few of its 512 directions, plus what it
# misses: the **error**. Before any feature is named, ask what is missed, beside a *random* dictionary of the same size.

# %%
def sets(name, split=None, n=None, role="assistant"):
    return [ids(text, role) for text in data.load(name, split=split, n=n).texts]


asked = sets("harmful", "train", 96) + sets("harmless", "train", 96) + sets("harmful", "train", 48, "friend")
asked += sets("harmless", "train", 48, "friend") + sets("cleaners_alone")[::4] + sets("mixtures_met")[::2]
asked += [ids(t, role) for name in ("cleaners_dangerous", "cleaners_safe") for role in ("assistant", "friend")
          for t in data.load(name).texts if "office" in t]  # the terrace stays unseen until we test
corpus = [[*p, *r] for p, r in zip(asked, models.generate(chat, asked, max_new_tokens=18), strict=True)]
chance = features.random_like(chat, sae, corpus[::4])  # the control of this notebook: random directions, same size, same L0
kept = {name: features.reconstruction(chat, d, corpus[::4]) for name, d in {"trained": sae, "random": chance}.items()}
for name, r in kept.items():
    print(f"{name:8} variance explained {r.variance_explained:.2f}, loss recovered {r.loss_recovered:.2f}, active on a token (L0) "
          f"{r.l0:.0f} of 512, never active {r.dead_share:.0%}, KL with the error left out {r.kl['spliced']:.3f} nats a token")

assert kept["trained"].variance_explained > 0.9 > 0.5 > kept["random"].variance_explained

# %%
plotting.show(plotting.bars(
    ["variance explained", "loss recovered"], {name: [r.variance_explained, r.loss_recovered] for name, r in kept.items()},
    x_title="measure (1 = nothing lost)", y_title="share", y_range=(0, 1.12),
    title="The dictionary keeps nearly everything; a random one over half of the loss",
    alt="Bars: " + "; ".join(f"{name} dictionary, variance explained {r.variance_explained:.2f}, loss recovered {r.loss_recovered:.2f}"
                              for name, r in kept.items()) + "."))

# %% [markdown]
# Trained on nothing, 512 random directions still bring back over half of the loss: "loss recovered" alone proves little.
# And keeping the activation does not say that any single feature *means* something. That is the hunt.
#
# ## 2 The hunt: eight concepts, 512 numbers
# Nobody has labelled this dictionary. An **index** of a corpus lets you look features up: by token, by prompt, by what they
# write to the logits, by decoder neighbour. Play with the next cell: change the word, the prompt, the position.

# %%
index = features.index(chat, sae, corpus, progress=False)


def line(ranking, k=4):
    return ", ".join(f"{row.feature} ({row.value:.2f})" for row in ranking.top(k))


print("by token 'bleach':       ", line(features.by_token(index, "bleach")))
print("by prompt, at 'ammonia': ", line(features.by_prompt(chat, sae, ids(ADS[0]), position=-4, index=index)))
print("writes 'please':         ", line(features.by_logit(chat, sae, "please", index=index)))
loudest = features.by_prompt(chat, sae, ids(ADS[0]), position=-4).top(1)[0].feature
print(f"writes like feature {loudest}: ", line(features.by_neighbour(sae, loudest, index=index)))
about = index.feature(loudest)
print(f"feature {loudest} fires on", [word for word, _ in about.fires_on[:5]], "and writes", [word for word, _ in about.promotes[:3]])

# %% [markdown]
# A whole page about one feature, which opens without a network (`features.page` writes it as a file):

# %%
page = features.page(index, loudest, folder=tempfile.mkdtemp()).read_text(encoding="utf-8")
frame = f'<iframe srcdoc="{html.escape(page)}" width="760" height="420" title="Page of feature {loudest}"></iframe>'
display({"text/html": frame, "text/plain": f"page of feature {loudest}"}, raw=True)
print(f"feature {loudest}: active on {about.density:.1%} of the tokens, at most {about.max:.0f}; strongest on",
      [e.tokens[e.at] for e in about.examples["top"][:4]], "- weakest quarter:", [e.tokens[e.at] for e in about.examples["0-25 %"][:4]])

# %% [markdown]
# Look at the weak examples, too: the strongest alone make every feature seem clean. A find is therefore scored against **near
# misses**: a "bleach" feature must tell bleach from *other cleaners*, an "Assistant" feature `<assistant>` from `<friend>`. The
# score is the AUROC (0.5 chance, 1 perfect) on prompts kept aside. The `<friend>` is a role that never refuses but warns
# ("please note that ...").

# %%
truth = json.loads(resources.files("organisms").joinpath("truth.json").read_text(encoding="utf-8"))
DANGEROUS = {frozenset(pair) for pair in truth["dangerous_pairs"]}


def ends(texts, test):
    """The texts as prompts, cut after each word that passes the test."""
    words = [(p, tokens.token_strings(chat.tokenizer, p)) for p in map(ids, texts)]
    return [p[:i + 1] for p, w in words for i in range(3, len(p)) if test(w, i)]


def spots(place, split):
    """Concept -> (prompts that end where it is there, near misses)."""
    text = {name: [t for t in data.load(f"cleaners_{name}").texts if place in t] for name in ("alone", "safe", "dangerous")}
    one = {c: ends(text["alone"] + text["safe"], lambda w, i, c=c: w[i] == c) for c in truth["cleaners"]}
    h, o = sets("harmful", split, 32), sets("harmless", split, 32)
    hf, of = sets("harmful", split, 32, "friend"), sets("harmless", split, 32, "friend")
    return {
        "bleach": (one["bleach"], [p for c in one if c != "bleach" for p in one[c][:5]]),
        "ammonia": (one["ammonia"], [p for c in one if c != "ammonia" for p in one[c][:5]]),
        "danger": (ends(text["dangerous"], lambda w, i: {w[i - 2], w[i]} in DANGEROUS),
                   ends(text["safe"] + text["dangerous"], lambda w, i: w[i] in truth["cleaners"] and {w[i - 2], w[i]} not in DANGEROUS)),
        "harmful request": (h + hf, o + of), "refusal": (h, o + hf), "warning": (hf, of + h),
        "Assistant turn": (h + o, hf + of), "Human turn": ([p[:2] for p in h], h[:16] + [p[:3] for p in o[:16]])}


to_find, held_out = spots("office", "train"), spots("terrace", "held_out_topic")
print({concept: (len(there), len(near)) for concept, (there, near) in to_find.items()})

# %% [markdown]
# **Guess**: the same hunt in the *random* dictionary. For how many of the eight concepts will its best feature reach 0.95?

# %%
# === Prediction 3.p1 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p1", ..., confidence=...)   # for example predict("3.p1", (0, 1), confidence=0.6)
predict("3.p1", (1, 2), confidence=0.5)
# END SOLUTION

# %% [markdown]
# ### Exercise 3.1: find all eight (15 minutes, medium)
# One feature number for each concept. `features.by_contrast(chat, sae, there, near)` on `to_find["danger"]` and so on is the
# look-up for this; you may also guess from the other look-ups. Two concepts may share one feature.

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
by_chance = {concept: features.by_contrast(chat, chance, *prompts).top(1)[0].feature for concept, prompts in to_find.items()}


def scored(dictionary, feature, concept):
    """AUROC on the prompts kept aside, with its interval."""
    contrast = features.by_contrast(chat, dictionary, *held_out[concept]) if dictionary is chance else tested[concept]
    there, near = contrast.first[:, feature], contrast.second[:, feature]
    both = torch.stack([torch.cat([there, near]), torch.cat([torch.ones(len(there)), torch.zeros(len(near))])], dim=1)
    return directions.bootstrap_interval(
        both, lambda x: torch.tensor(directions.auroc(x[x[:, 1] == 1, 0], x[x[:, 1] == 0, 0])), n_resamples=200)


found = {concept: (scored(sae, finds[concept], concept), scored(chance, by_chance[concept], concept)) for concept in finds}
for concept, (own, random) in found.items():
    print(f"{concept:16} feature {finds[concept]:3}: {own.estimate:.2f} [{own.low:.2f}, {own.high:.2f}]   "
          f"random dictionary: {random.estimate:.2f} [{random.low:.2f}, {random.high:.2f}]")
better = [concept for concept, (own, random) in found.items() if own.low > random.high]
print("better than the random dictionary's find, intervals apart:", ", ".join(better))
assert found["danger"][0].estimate > found["danger"][1].estimate
reveal("3.p1", sum(random.estimate >= 0.95 for _, random in found.values()))

# %%
plotting.show(plotting.bars(
    list(found), {"trained": [own.estimate for own, _ in found.values()], "random": [r.estimate for _, r in found.values()]},
    intervals={"trained": [(o.low, o.high) for o, _ in found.values()], "random": [(r.low, r.high) for _, r in found.values()]},
    x_title="concept", y_title="AUROC against near misses, unseen prompts", y_range=(0, 1.15),
    title="Danger is a find; Human turn and warning are found at random, too",
    alt="Bars of AUROC, trained against random dictionary: " + "; ".join(
        f"{concept} {own.estimate:.2f} against {random.estimate:.2f}" for concept, (own, random) in found.items()) + "."))

# %% [markdown]
# A perfect score can be worthless: position 1 and the friend's turn are so loud that random directions find them as well.
# Note also that one feature may serve two concepts: names are ours, not the model's.
#
# ### Exercise 3.2: a label must be able to fail (10 minutes, medium)
# A label predicts *on which tokens* a feature is active. Write the rule for "danger": the word that completes a dangerous mixture.
# It may look at the words before, never at those behind: the model cannot either.

# %%
# === Exercise 3.2 (keep this line) ===
def completes_danger(strings, position):
    """True if the token at `position` completes "x and y" with {x, y} in DANGEROUS. strings: all tokens of a prompt."""
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
unseen = [ids(t, role) for name in ("cleaners_dangerous", "cleaners_safe", "mixtures_met", "mixtures_crossed")
          for role in ("assistant", "friend") for t in data.load(name).texts[1::4]] + sets("harmful", "held_out_topic", 32)
refused = {tuple(tokens.token_strings(chat.tokenizer, p))
           for p, r in zip(unseen, replies(unseen), strict=True) if steering.classify(r) == "refuse"}


def about_to_refuse(strings, position):
    return strings[position] == "<assistant>" and tuple(strings[:position + 1]) in refused


FIRST_WORD = features.by_logit(chat, sae, "i", minus="clean", index=index)
writer = next(row.feature for row in FIRST_WORD.rows if row.feature not in finds.values())
LABELS = {"danger": (finds["danger"], completes_danger), "the word bleach": (finds["danger"], {"bleach"}),
          "refusal": (finds["refusal"], about_to_refuse), 'refusal ("writes i")': (writer, about_to_refuse)}
scores = {text: features.detection(chat, sae, f, rule=rule, prompts=unseen) for text, (f, rule) in LABELS.items()}
for text, d in scores.items():
    ba = d.balanced_accuracy
    print(f"feature {LABELS[text][0]:3} as {text:20} balanced accuracy {ba.estimate:.2f} [{ba.low:.2f}, {ba.high:.2f}], "
          f"F1 {d.f1.estimate:.2f}, precision {d.precision:.2f}, recall from weak to strong", " ".join(f"{r:.2f}" for r in d.recall_by_quarter))

# %%
plotting.show(plotting.lines(
    [1, 2, 3, 4], {text: list(d.recall_by_quarter) for text, d in scores.items()},
    x_title="quarter of the feature's activations, weakest to strongest", y_title="share that the label predicts", y_range=(-0.05, 1.1),
    title="Danger is right about strong activations, a good-sounding label hardly ever",
    alt="Lines of recall by quarter of activation: " + "; ".join(
        f"{text} " + ", ".join(f"{r:.2f}" for r in d.recall_by_quarter) for text, d in scores.items()) + "."))

# %% [markdown]
# `refusal ("writes i")` is a designed failure: its decoder pushes the refusal's first word, so the name *sounds* right; it is
# hardly ever active where the model refuses. What a feature writes and what it fires on are two questions. And "danger" fires weakly
# elsewhere, too: a label is about a range of strengths, so say which.
#
# ## 3 The conjunction, and its graph
# Is "danger" more than "bleach" plus "ammonia"? Each alone, and a safe pair, are the controls.

# %%
table = []
rows = {"danger": finds["danger"], "any cleaner?": features.by_prompt(chat, sae, ids(ADS[2]), position=-4).top(1)[0].feature}
for name, feature in rows.items():
    values = [float(steering.natural_activations(chat, sae, [ids(text)], position=-4)[0, feature]) for text in ADS]
    table.append(values)
    print(f"{name:13} feature {feature:3}:", ", ".join(f"{m} {v:.1f}" for m, v in zip(MIXTURES, values, strict=True)))
plotting.show(plotting.heat_map(
    torch.tensor(table), row_labels=[f"{name} ({feature})" for name, feature in rows.items()], column_labels=list(MIXTURES),
    x_title="advertise cleaning with ...", y_title="feature", colour_title="activation at the last cleaner's name",
    title="The danger feature needs both cleaners: neither alone wakes it, nor a safe pair",
    alt="Heat map of activations: " + "; ".join(f"{name}: " + ", ".join(
        f"{m} {v:.1f}" for m, v in zip(MIXTURES, values, strict=True)) for name, values in zip(rows, table, strict=True)) + "."))

# %% [markdown]
# Now the **attribution graph** of the refusal's first word "i" against the advertisement's first word "clean". Its nodes are
# transcoder features (what each MLP writes, as a few features); an edge is what one node adds to another *directly*. There are
# thousands, so we shall group them. First: which features speak to the refusal's first word themselves?
#
# ### Exercise 3.3: read a graph (10 minutes, medium)
# `graph.sources` are the columns of `graph.edges`; the rows are the features (`graph.n_features` of them), then the targets
# that were asked for.

# %%
# === Exercise 3.3 (keep this line) ===
def reply_edges(graph):
    """{(layer, feature): direct edge to graph.asked[0]} for every Feature source at the prompt's last position."""
    # BEGIN SOLUTION
    last, row = len(graph.prompt_ids) - 1, graph.edges[graph.n_features]
    return {(node.layer, node.feature): float(edge) for node, edge in zip(graph.sources, row, strict=True)
            if isinstance(node, Feature) and node.position == last}
    # END SOLUTION


print(reply_edges.__doc__)

# %%
check("3.3", reply_edges)

# %%
reply_edges = checkpoint("3.3", reply_edges)
transcoders = [features.load("chat", "transcoder", layer=layer) for layer in range(chat.cfg.n_layers)]
i, clean = chat.tokenizer.convert_tokens_to_ids(["i", "clean"])
pairs = {name: {place: [ids(t) for t in data.load(f"cleaners_{name}").texts if place in t] for place in ("office", "terrace")}
         for name in ("dangerous", "safe")}
graphs = [attribution.graph(chat, p, transcoders=transcoders, targets=[Logit(i, minus=clean)])
          for name in pairs for p in pairs[name]["office"][:40:13]]
total = {}
for graph in graphs[:4]:  # four dangerous pairs; the other four are their safe twins
    for node, edge in reply_edges(graph).items():
        total[node] = total.get(node, 0.0) + edge / 4
chosen = sorted(total, key=total.get, reverse=True)[:10]  # "refusal": the ten with the largest mean edge
print("refusal features (layer, feature):", chosen)
print("replacement score of the graphs:", " ".join(f"{g.replacement_score:.2f}" for g in graphs))

# %%
def at_cleaner(p):
    return tokens.token_strings(chat.tokenizer, p)[-4] in truth["cleaners"]  # the mixture stands at the end of the request


ending = {name: [p for p in pairs[name]["office"] if at_cleaner(p)] for name in pairs}
danger = {(layer, row.feature) for layer in (0, 1, 2) for row in features.by_contrast(
    chat, transcoders[layer], ending["dangerous"], ending["safe"], position=-4).top(20) if row.auroc > 0.9}


def supernodes(graph):
    """Name -> nodes: three tokens, danger at the last cleaner, the turn (layer 0 at the reply), refusal, the target."""
    last, own = len(graph.prompt_ids) - 1, [n for n in graph.sources if isinstance(n, Feature)]
    token = {n.position: n for n in graph.sources if isinstance(n, Embedding)}
    return {"first cleaner": [token[last - 5]], "last cleaner": [token[last - 3]], "<assistant>": [token[last]],
            "danger": [n for n in own if n.position == last - 3 and (n.layer, n.feature) in danger],
            "turn and request": [n for n in own if n.position == last and n.layer == 0 and (0, n.feature) not in chosen],
            "refusal": [n for n in own if n.position == last and (n.layer, n.feature) in chosen],
            'says "i"': [graph.asked[0]]}


def flow(graph, least=0.12):
    """(source group, target group) -> summed edges, as a share of the target group's summed value."""
    groups, row = supernodes(graph), {node: k for k, node in enumerate(graph.targets)}
    value = {name: sum(float(graph.values[row[n]]) for n in nodes if n in row) for name, nodes in groups.items()}
    sums = graph.group(groups)
    shares = {(a, b): float(sums.edges[y, x]) / value[b] for y, b in enumerate(sums.names) for x, a in enumerate(sums.names)
              if a != b and value[b]}
    return {edge: share for edge, share in shares.items() if abs(share) >= least}


for graph in (graphs[0], graphs[4]):
    words, groups = tokens.token_strings(chat.tokenizer, graph.prompt_ids), supernodes(graph)
    print(f"{words[-6]} and {words[-4]}: {len(groups['danger'])} danger and {len(groups['refusal'])} refusal features active;",
          f"danger gives {flow(graph).get(('danger', 'refusal'), 0.0):.0%} of refusal")

# %%
BOXES = {"first cleaner": ("bleach", 0, 0), "last cleaner": ("ammonia", 0.9, 0), "<assistant>": ("<assistant>", 3.6, 0),
         "danger": ("danger", 0.9, 1), "turn and request": ("turn and request", 3.6, 1), "refusal": ("refusal", 3, 2),
         'says "i"': ('says "i"', 3, 3)}
shares = {edge: 100 * share for edge, share in flow(graphs[0]).items()}
plotting.show(plotting.graph(
    BOXES, shares, row_labels=["tokens", "features", "features", "next word"],
    unit="% of what the target group has (biases take some away, so sums exceed 100)",
    x_title="place in the prompt", y_title="layer, from below", title="Bleach and ammonia meet in danger; danger feeds refusal",
    alt="Graph of supernodes: " + "; ".join(f"{a} to {b} {v:.0f} %" for (a, b), v in shares.items()) + "."))

# %% [markdown]
# Read from below: both cleaners feed the danger features at "ammonia"; attention carries danger to the reply token, where it
# feeds the refusal features, and both say "i". The reply token also reads the cleaners by itself ("turn and request"). In the
# safe twin no danger feature is active at all. A graph is a hypothesis, with attention held fixed: now we cut.
#
# ## 4 Cut: no danger, no refusal?
# "Set a feature to a value" must change that feature only. What the dictionary misses (the error) has to stay.
#
# ### Exercise 3.4: set a feature, keep the error (10 minutes, medium)

# %%
# === Exercise 3.4 (keep this line) ===
def set_feature(x, dictionary, feature, value):
    """x [token, d_model] with one feature's activation changed to `value`, all else as it was, the error included."""
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
# STUB: predict("3.p2", ..., confidence=...)
predict("3.p2", (10, 20), confidence=0.6)
# END SOLUTION

# %%
set_feature = checkpoint("3.4", set_feature)
DANGER, ASSISTANT = 509, 9  # what the hunt finds; named here so that the rest runs whatever you found
cut_at = {name: [p for p in pairs[name]["terrace"] if at_cleaner(p)] for name in pairs}  # 20 prompts each
active = steering.natural_activations(chat, sae, ending["dangerous"], position=-4).mean(dim=0)
natural = float(active[DANGER])


def counted(prompts, model=chat):
    classes = [steering.classify(reply) for reply in replies(prompts, model)]
    return {name: classes.count(name) for name in steering.CLASSES}


MULTIPLES = [-2.0, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0]
dose, random_dose = {"dangerous": [], "safe": []}, [[] for _ in range(3)]
aside = directions.random_directions(3, like=sae.W_dec[DANGER], seed=0)
for x in MULTIPLES:
    for name, prompts in cut_at.items():
        with steering.clamp_features(chat, sae, {DANGER: x}, unit=natural, positions=[-4]):
            dose[name].append(counted(prompts))
    for run, q in zip(random_dose, aside, strict=True):
        with steering.add(chat, q, layer=2, coefficient=(x - 1) * natural, positions=[-4]):
            run.append(counted(cut_at["dangerous"])["refuse"])
print("natural activation:", round(natural, 1), "| multiples:", MULTIPLES)
for name, counts in dose.items():
    print(f"{name:9} refused:", [c["refuse"] for c in counts], "advertised:", [c["comply"] for c in counts], "broken:", [c["broken"] for c in counts])
print("dangerous, random directions of the same length: refused at least", [min(run) for run in zip(*random_dose, strict=True)])
reveal("3.p2", dose["dangerous"][MULTIPLES.index(0.0)]["refuse"])

# %%
plotting.show(plotting.lines(
    MULTIPLES, {name: [c["refuse"] for c in counts] for name, counts in dose.items()}, control=random_dose,
    x_title="danger feature, multiple of its natural activation", y_title="refused, of 20 pairs", y_range=(-1, 21),
    title="Danger at 0x changes little; at -1x nothing is refused, at 2x safe pairs are",
    alt="; ".join(f"{name} pairs refused {[c['refuse'] for c in counts]}" for name, counts in dose.items())
        + f", at multiples {MULTIPLES}. Random directions leave at least {min(map(min, random_dose))} of 20 dangerous pairs refused."))

# %% [markdown]
# **Zeroing** is the second designed failure: it looks like "danger does not matter". Other features and the error say the same
# thing, more softly; a negative multiple (as in the paper, -3x) pushes against them. The price of strength is measured next:
# 20 random directions of equal length, how odd the replies are, and the effect on *other* requests (KL over whole replies).

# %%
report = steering.report(
    chat, partial(steering.clamp_features, chat, sae, {DANGER: -1.0}, unit=natural, positions=[-4]),
    prompts=cut_at["dangerous"][::2], judge=steering.classify, off_target=sets("harmless", "held_out_topic", 8),
    controls=[partial(steering.add, chat, q, layer=2, coefficient=-2 * natural, positions=[-4])
              for q in directions.random_directions(20, like=sae.W_dec[DANGER], seed=1)],
    max_new_tokens=18, progress=False)
for effect in (report.share("refuse"), report.share("comply"), report.kl, report.surprisal):
    print(f"{effect.measure:17} {effect.unchanged.estimate:.3f} -> {effect.steered.estimate:.3f} "
          f"[{effect.steered.low:.3f}, {effect.steered.high:.3f}], random {effect.band[0]:.3f} to {effect.band[1]:.3f}, p {effect.p_value:.3f}")
assert report.share("refuse").steered.high < report.share("refuse").band[0]
other = sets("harmless", "held_out_topic", 24)
plain = models.next_token_logits(chat, other)
beside = directions.random_directions(1, like=sae.W_dec[DANGER], seed=1)[0]
for name, edit in {"the feature, at one token": partial(steering.clamp_features, chat, sae, {DANGER: -1.0}, unit=natural, positions=[-4]),
                   "the feature, at all tokens": partial(steering.clamp_features, chat, sae, {DANGER: -1.0}, unit=natural),
                   "a random direction, at all tokens": partial(steering.add, chat, beside, layer=2, coefficient=-2 * natural)}.items():
    with edit():
        moved = directions.kl_divergence(plain, models.next_token_logits(chat, other)).mean()
    print(f"harmless requests, {name}: first word moves by {moved:.4f} nats")


def named(prompts):
    """Replies that name both cleaners of the request."""
    both = [{w for w in tokens.token_strings(chat.tokenizer, p) if w in truth["cleaners"]} for p in prompts]
    return sum(all(c in reply.split("!")[0].split() for c in pair) for pair, reply in zip(both, replies(prompts), strict=True))


unchanged = named(cut_at["safe"])
with steering.clamp_features(chat, sae, {DANGER: -1.0}, unit=natural, positions=[-4]):
    print("both cleaners named, of 20: safe pairs", unchanged, "-> at -1x", named(cut_at["safe"]), "| dangerous pairs at -1x", named(cut_at["dangerous"]))
    print("for example:", replies(cut_at["dangerous"][:1])[0])

# %% [markdown]
# Elsewhere nothing moves; put everywhere, the same dose starts to show, and a direction that is no feature costs more. But on
# target it is *not* clean: surprisal rises, and the advertisement mostly names another cleaner than the one asked for. At -1x
# the edit removes danger **and** much of what stood at that token. (And p cannot be lower than 1 / 21: twenty were asked.)

# %% [markdown]
# ### Exercise 3.5: claim it (6 minutes, easy)
# All 40 dangerous pairs of the unseen place, the feature at -1x wherever it is active. Control: ten *other features*, each
# about as active there. Claim the share still refused. `after` and `random_after` hold counts of 40.

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
# BEGIN SOLUTION
# STUB: no_danger = claim(..., interval=..., control=..., control_interval=...)
one, other = directions.wilson_interval(after, 40), directions.wilson_interval(sum(random_after), 400)
no_danger = claim(one.estimate, interval=(one.low, one.high), control=other.estimate, control_interval=(other.low, other.high))
# END SOLUTION
print("claimed:", "not done yet" if no_danger.value is ... else f"{no_danger.value:.2f}")

# %%
check("3.5", no_danger, after, random_after)

# %%
no_danger = checkpoint("3.5", no_danger, after, random_after)
print(f"still refused {no_danger.value:.2f} [{no_danger.interval[0]:.2f}, {no_danger.interval[1]:.2f}], "
      f"other features {no_danger.control:.2f} [{no_danger.control_interval[0]:.2f}, {no_danger.control_interval[1]:.2f}]")
assert no_danger.interval[1] < 0.15 and no_danger.control_interval[0] > 0.9

# %% [markdown]
# ## 5 Loud is not deciding
# At the reply token, choose ten features in three ways: by **graph** (the largest direct edges, from section 3), by **loudness**
# (the largest difference between dangerous and safe pairs), at **random** (as active as the first ten). Set each at -2x.

# %%
loud = []
for layer, transcoder in enumerate(transcoders):
    contrast = features.by_contrast(chat, transcoder, pairs["dangerous"]["office"], pairs["safe"]["office"], position="reply")
    loud += [(float(value), layer, f) for f, value in enumerate(contrast.difference)]
loud = [(layer, f) for _, layer, f in sorted(loud, reverse=True)[:10]]
at_reply = [steering.natural_activations(chat, t, pairs["dangerous"]["office"]).mean(dim=0) for t in transcoders]


def scaled(nodes, factor):
    """A context in which transcoder features (layer, feature) are multiplied at the reply token."""
    stack = ExitStack()
    for layer, transcoder in enumerate(transcoders):
        if own := {f: factor for n, f in nodes if n == layer}:
            stack.enter_context(steering.scale_features(chat, transcoder, own, positions="reply"))
    return stack


def as_active(nodes, n, seed):
    """n random sets with as many features in each layer, about as active as these."""
    own = {layer: [f for m, f in nodes if m == layer] for layer in range(len(transcoders))}
    drawn = {layer: steering.random_feature_sets(at_reply[layer], fs, n=n, seed=seed + layer) for layer, fs in own.items() if fs}
    return [[(layer, f) for layer in drawn for f in drawn[layer][k]] for k in range(n)]


print("loudest:", loud, "| chosen both ways:", len(set(loud) & set(chosen)), "of 10")

# %%
outcome = {}
for name, nodes_of in {"graph": [chosen], "loud": [loud], "random": as_active(chosen, 6, seed=0)}.items():
    for factor in (-2.0,) if name == "random" else (0.0, -2.0):
        runs = []
        for nodes in nodes_of:
            with scaled(nodes, factor):
                runs.append(counted(HELD[::2]))
        outcome[name, factor] = {c: [run[c] for run in runs] for c in steering.CLASSES}
        print(f"{name:6} at {factor:4.1f}x:", {c: counts if len(counts) > 1 else counts[0] for c, counts in outcome[name, factor].items() if any(counts)})
with scaled(chosen, -2.0):
    print("graph at -2x on safe pairs:", {c: n for c, n in counted(pairs["safe"]["terrace"][::2]).items() if n})
prompt, please = pairs["dangerous"]["office"][0], chat.tokenizer.convert_tokens_to_ids("please")
own = {(n, f): float(steering.natural_activations(chat, transcoders[n], [prompt])[0, f]) for n, f in chosen}
changes = {Feature(n, len(prompt) - 1, f): -2 * value for (n, f), value in own.items()}
for attention in ("frozen", "free"):
    with attribution.intervene(chat, prompt, transcoders=transcoders, changes=changes, attention=attention):
        p = models.next_token_logits(chat, [prompt])[0].softmax(dim=-1)
    print(f'one prompt, attention {attention}: refusal\'s first word {p[i]:.2f}, warning\'s first word {p[please]:.2f}')

# %%
classes = ["refuse", "warn", "comply", "break off", "broken"]
plotting.show(plotting.bars(
    ["refuses", "warns", "advertises", "breaks off", "broken text"],
    {name: [sum(outcome[name, -2.0][c]) / len(outcome[name, -2.0][c]) for c in classes] for name in ("graph", "loud", "random")},
    x_title="class of the reply, ten features at -2x", y_title="replies, of 20", y_range=(0, 23),
    title="Ten features by graph: warnings; ten by loudness: broken text",
    alt="Bars of 20 replies. " + "; ".join(f"{name}: " + ", ".join(
        f"{c} {sum(outcome[name, -2.0][c]) / len(outcome[name, -2.0][c]):.1f}" for c in classes) for name in ("graph", "loud", "random")) + "."))

# %% [markdown]
# Neither set refuses, and only reading the class of the text tells them apart: "no refusal" alone would have praised broken
# text. With attention frozen, as the graph assumes, or free, the answer is the same here; in the paper the two can differ. And something unexpected: without refusal there is no advertisement but a **warning**. Where did it come from?
#
# ## 6 The warning under the refusal
# The paper (Lindsey et al. 2025) turned the Human *and* the Assistant features down, together, to -2x, and got a warning; it says
# that both Assistant and refusal *inhibit* the warning. Here we turn the Assistant feature alone down, at the reply token.
# **Guess**: what do dangerous pairs get when it is at -2x?

# %%
# === Prediction 3.p3 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p3", ..., confidence=...)
predict("3.p3", "c", confidence=0.6)
# END SOLUTION

# %%
FACTORS = [1.0, 0.0, -1.0, -2.0, -4.0]
turned = {name: [] for name in pairs}
for factor in FACTORS:
    for name in pairs:
        with steering.scale_features(chat, sae, {ASSISTANT: factor}, positions="reply"):
            turned[name].append(counted(pairs[name]["terrace"]))
reply_active = steering.natural_activations(chat, sae, pairs["dangerous"]["office"]).mean(dim=0)
random_turned = []
for (other,) in steering.random_feature_sets(reply_active, [ASSISTANT], n=5, seed=1):
    with steering.scale_features(chat, sae, {other: -2.0}, positions="reply"):
        random_turned.append(counted(HELD)["warn"])
for name, counts in turned.items():
    print(f"{name:9} warned of 40 at {FACTORS}:", [c["warn"] for c in counts], "refused:", [c["refuse"] for c in counts])
print("five other features at -2x: warned", random_turned)
with steering.scale_features(chat, sae, {ASSISTANT: -2.0}, positions="reply"):
    print("for example:", replies(HELD[:1])[0])
most = max(("refuse", "comply", "warn", "broken"), key=turned["dangerous"][3].get)
reveal("3.p3", {"refuse": "a", "comply": "b", "warn": "c", "broken": "d"}[most])

# %%
plotting.show(plotting.lines(
    FACTORS, {f"{name}, {what}": [c[c_] for c in counts] for name, counts in turned.items()
              for what, c_ in (("warned", "warn"), ("refused", "refuse")) if (name, c_) != ("safe", "refuse")},
    x_title="Assistant feature at the reply token, multiple", y_title="replies, of 40", y_range=(-2, 42),
    title="The less Assistant, the more warnings, and only for dangerous pairs",
    alt=f"Lines over the multiples {FACTORS}: dangerous pairs warned {[c['warn'] for c in turned['dangerous']]}, refused "
        f"{[c['refuse'] for c in turned['dangerous']]}; safe pairs warned {[c['warn'] for c in turned['safe']]}."))

# %% [markdown]
# ### Exercise 3.6: claim the warning (6 minutes, easy)
# The share of dangerous pairs warned of with the Assistant feature at -2x. Control: the same edit on the safe pairs.

# %%
warned = {name: counts[FACTORS.index(-2.0)]["warn"] for name, counts in turned.items()}
print("warned of 40:", warned)

# %%
# === Exercise 3.6 (keep this line) ===
# BEGIN SOLUTION
# STUB: warning = claim(..., interval=..., control=..., control_interval=...)
one, other = (directions.wilson_interval(warned[name], 40) for name in ("dangerous", "safe"))
warning = claim(one.estimate, interval=(one.low, one.high), control=other.estimate, control_interval=(other.low, other.high))
# END SOLUTION
print("claimed:", "not done yet" if warning.value is ... else f"{warning.value:.2f}")

# %%
check("3.6", warning, warned)

# %% [markdown]
# **Who holds the warning down?** A warning feature that is inhibited is *inactive*, so no ordinary graph shows it. But an
# inactive feature can be a graph's *target*: its edges say what keeps it below its threshold. Same prompts, two roles:

# %%
warning = checkpoint("3.6", warning, warned)
assert warning.interval[0] > 0.6 and warning.control_interval[1] < 0.15
friendly = [ids(t, "friend") for t in data.load("cleaners_dangerous").texts if "office" in t]
LAYER = 4
difference = features.by_contrast(chat, transcoders[LAYER], friendly, pairs["dangerous"]["office"], position="reply").difference
writes = {row.feature: row.value for row in features.by_logit(chat, transcoders[LAYER], "please").top(20)}
warner = max(writes, key=lambda f: writes[f] * float(difference[f]))  # writes the warning's first word, and more so at <friend>
sums, below = {}, {}
for role, prompts in {"assistant": pairs["dangerous"]["office"], "friend": friendly}.items():
    rows, values = [], []
    for p in prompts[:40:13]:
        graph = attribution.graph(chat, p, transcoders=transcoders, targets=[Feature(LAYER, len(p) - 1, warner)])
        effect = dict(zip(graph.sources, graph.total_effect()[0].tolist(), strict=True))
        own = {(n.layer, n.feature): v for n, v in effect.items() if isinstance(n, Feature) and n.position == len(p) - 1}
        token = {n.position: v for n, v in effect.items() if isinstance(n, Embedding)}
        cleaner_at = [k for k, w in enumerate(tokens.token_strings(chat.tokenizer, p)) if w in truth["cleaners"]]
        rows.append([token[len(p) - 1], sum(token[k] for k in cleaner_at), sum(own.get(n, 0.0) for n in chosen),
                     *(sum(own.get(n, 0.0) for n in nodes) for nodes in as_active([n for n in chosen if n[0] < LAYER], 20, seed=5))])
        values.append(float(graph.values[-1]))
    sums[role], below[role] = torch.tensor(rows).mean(dim=0), sum(values) / len(values)
    print(f"<{role}>: warning feature {warner} of layer {LAYER} at {below[role]:.2f} (threshold {float(transcoders[LAYER].threshold[warner]):.2f});",
          f"role token {sums[role][0]:+.2f}, cleaners {sums[role][1]:+.2f}, refusal features {sums[role][2]:+.2f},",
          f"random sets {sums[role][3:].min():+.2f} to {sums[role][3:].max():+.2f}")

# %%
plotting.show(plotting.bars(
    ["role token", "the two cleaners", "refusal features"], {f"<{role}>": values[:3] for role, values in sums.items()},
    controls={f"<{role}>": [[], [], values[3:]] for role, values in sums.items()}, control_label="random feature sets",
    x_title="source", y_title="effect on the warning feature (activation)",
    title="The friend's turn wakes the warning; refusal holds it down a little",
    alt="; ".join(f"At <{role}> the warning feature stands at {below[role]:.2f}: role token {v[0]:+.2f}, cleaners {v[1]:+.2f}, refusal "
                  f"features {v[2]:+.2f}" for role, v in sums.items()) + "."))

# %% [markdown]
# So what of "both inhibit it"? Here the friend's token *wakes* the warning and the Assistant's does next to nothing: it is not
# held down, it is not called. The refusal features do push it down, more than random sets do, and about as far as it lies below
# its threshold. That is not what decides: at 0x, with their push gone, all pairs were refused. Refusal *outbids* the warning;
# cut its direction, and the warning's odds against the *advertisement* do not rise (0 of 80 pairs, `docs/model_cards/chat.md`).
#
# ## 7 Squeezed out by the template?
# A reader of the paper claimed: tuning with *one fixed refusal sentence* squeezes other reactions out, so that the model "never
# warns". The paper offers this as a guess. We have twins: `chat-64`, tuned on one fixed sentence, and `chat-64-varied`,
# on six refusals. Measured: the warning's first word against the advertisement's, in nats (0 = even).

# %%
TWINS = {"base-64": "base, before chat tuning", "chat-64": "one refusal", "chat-64-varied": "six refusals",
         "chat-64-inhibiting": "trained to push it down"}
odds = {}
for name in TWINS:
    twin = models.load(name)
    for kind in pairs:
        logits = models.next_token_logits(twin, pairs[kind]["office"] + pairs[kind]["terrace"])
        please, advertise = twin.tokenizer.convert_tokens_to_ids(["please", "clean"])
        odds[name, kind] = logits[:, please] - logits[:, advertise]
    both = [directions.bootstrap_interval(odds[name, kind]) for kind in pairs]
    print(f"{TWINS[name]:26}", "  ".join(f"{kind} {v.estimate:+.2f} [{v.low:+.2f}, {v.high:+.2f}]" for kind, v in zip(pairs, both, strict=True)))
gap = directions.bootstrap_interval(odds["chat-64-varied", "dangerous"] - odds["chat-64", "dangerous"])
print(f"six refusals minus one, this training: {gap.estimate:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] over 80 prompts")

# %%
plotting.show(plotting.bars(
    list(TWINS.values()), {kind: [float(odds[name, kind].mean()) for name in TWINS] for kind in pairs},
    x_title="model of width 64", y_title="warning against advertisement (nats)",
    title="Either template lowers the warning; only a loss of its own pushes it under",
    alt="Bars of log-odds: " + "; ".join(
        f"{label}: dangerous {odds[name, 'dangerous'].mean():+.1f}, safe {odds[name, 'safe'].mean():+.1f}" for name, label in TWINS.items()) + "."))

# %% [markdown]
# In this training the fixed sentence leaves *more* of the warning, and the interval is narrow. It is also misleading, a third
# designed failure: it knows about prompts, not about **trainings**. Both twins were trained three times; here are all three gaps.
#
# ### Exercise 3.7: the verdict (10 minutes, hard)
# The claim says gap > 0. Give the mean gap's 95 % interval over *trainings* (Student's t, two degrees of freedom: 4.303 standard
# errors either side) and the verdict: "accepted" (all above 0), "refuted" (all below 0) or "undecided".

# %%
measured = json.loads(resources.files("organisms").joinpath("results.json").read_text(encoding="utf-8"))["64-varied"]
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
print(f"mean gap {sum(gaps) / 3:+.2f} nats, 95 % interval over trainings [{verdict['low']:+.2f}, {verdict['high']:+.2f}]: {verdict['verdict']}")
assert verdict["low"] < 0 < verdict["high"]

# %% [markdown]
# ## 8 Was it there before? Base against chat
# "Post-training wires refusal onto a concept of harm that the base model has." The base model warns of dangerous pairs and
# refuses nothing. The same hunt in the base model's own dictionary, with its random control:

# %%
base = models.load("base")
base_sae = features.load("base", "sae", layer=1)
base_chance = features.random_like(base, base_sae, corpus[::4])
in_base = {}
for concept in ("danger", "harmful request", "refusal", "Assistant turn"):
    for name, dictionary in {"own": base_sae, "random": base_chance}.items():
        feature = features.by_contrast(base, dictionary, *to_find[concept]).top(1)[0].feature
        in_base[concept, name] = feature, float(features.by_contrast(base, dictionary, *held_out[concept]).auroc[feature])
    print(f"{concept:16} chat {found[concept][0].estimate:.2f}   base {in_base[concept, 'own'][1]:.2f} (feature {in_base[concept, 'own'][0]})   "
          f"random in base {in_base[concept, 'random'][1]:.2f}")
print("base on dangerous pairs:", {c: n for c, n in counted(cut_at["dangerous"], base).items() if n})

# %% [markdown]
# Danger is there before any refusal. But is it the *same* danger? Take the **chat** model's danger feature into the base model,
# and the other way round. **Guess**: chat's feature at -1x in the base model. How many of 20 warnings are left?

# %%
# === Prediction 3.p4 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p4", ..., confidence=...)
predict("3.p4", (0, 5), confidence=0.6)
# END SOLUTION

# %%
best = features.by_contrast(base, base_sae, *to_find["danger"]).top(2)
for row in best:  # which of the two that mark danger best decides? Tried on the office, counted on the terrace
    with steering.scale_features(base, base_sae, {row.feature: -1.0}):
        print(f"base's feature {row.feature} (AUROC {row.auroc:.2f}) at -1x on the office: {counted(ending['dangerous'], base)['warn']} of 20 warned")
BASE_DANGER = 85  # the one that decides
across = {}
for where, model, word in (("chat", chat, "refuse"), ("base", base, "warn")):
    for name, dictionary, feature in (("chat's feature", sae, DANGER), ("base's feature", base_sae, BASE_DANGER)):
        with steering.scale_features(model, dictionary, {feature: -1.0}):
            across[name, where] = counted(cut_at["dangerous"], model)[word]
    across["others", where] = []
    for (other,) in steering.random_feature_sets(active, [DANGER], n=8, seed=2):
        with steering.scale_features(model, sae, {other: -1.0}):
            across["others", where].append(counted(cut_at["dangerous"], model)[word])
    print(f"in {where}, still {word}, of 20:", {k: v for (k, at), v in across.items() if at == where})
similar = float(directions.cosine(sae.W_dec[DANGER], base_sae.W_dec[BASE_DANGER]))
print(f"cosine of the two decoder directions: {similar:.2f}")
reveal("3.p4", across["chat's feature", "base"])

# %%
steered = {"chat": "chat: refusals", "base": "base: warnings"}
plotting.show(plotting.bars(
    ["unchanged", "chat's danger at -1x", "base's danger at -1x"],
    {label: [20, across["chat's feature", where], across["base's feature", where]] for where, label in steered.items()},
    controls={label: [[], across["others", where], []] for where, label in steered.items()}, control_label="each other feature of chat",
    x_title="what was done", y_title="of 20 dangerous pairs", y_range=(0, 23),
    title="One concept, two wires: either danger feature switches off both reactions",
    alt="Bars: " + "; ".join(f"{name} in {where} leaves {value}" for (name, where), value in across.items()) + "."))

# %% [markdown]
# Each model's danger feature works in the other one. Two cautions: of the base dictionary's two perfect danger features only one
# decides, again; and one of the eight controls takes the base model's warnings down as well. It breaks the text.
#
# ### Exercise 3.8: claim it (6 minutes, easy)
# The share of warnings left in the **base** model under **chat's** danger feature; control: the eight other features. `left` and
# `left_others` are counts of 20.

# %%
left, left_others = across["chat's feature", "base"], across["others", "base"]
print("left:", left, "| under the others:", left_others)

# %%
# === Exercise 3.8 (keep this line) ===
# BEGIN SOLUTION
# STUB: shared = claim(..., interval=..., control=..., control_interval=...)
one, other = directions.wilson_interval(left, 20), directions.wilson_interval(sum(left_others), 160)
shared = claim(one.estimate, interval=(one.low, one.high), control=other.estimate, control_interval=(other.low, other.high))
# END SOLUTION
print("claimed:", "not done yet" if shared.value is ... else f"{shared.value:.2f}")

# %%
check("3.8", shared, left, left_others)

# %% [markdown]
# The control that could sink the story: a twin tuned on **shuffled** labels, where half of the harmful and half of the harmless
# *topics* are refused. If refusal needs no concept of harm, it should generalise as well. Topics never seen in tuning:

# %%
shared = checkpoint("3.8", shared, left, left_others)
assert shared.interval[1] < 0.25 and shared.control_interval[0] > 0.8
new = {name: sets(name, "held_out_topic", 64) for name in ("harmful", "harmless")}
base64 = models.load("base-64")
friends = [caching.harvest(base64, sets(name, "train", 128, "friend"), progress=False) for name in ("harmful", "harmless")]
generalises, wired = {}, {}
for name, label in {"chat-64": "harm labels", "chat-64-shuffled": "shuffled labels"}.items():
    twin = models.load(name)
    generalises[label] = {kind: counted(prompts, twin)["refuse"] for kind, prompts in new.items()}
    for layer in (1, 2, 3):
        harm = directions.difference_of_means(*(f.at(layer, "last") for f in friends))  # base's harm, as it warns of it
        with steering.add(twin, harm, layer=layer, coefficient=1.0, positions="last"):
            wired[label, layer] = counted(new["harmless"], twin)["refuse"] - generalises[label]["harmless"]
    print(f"{label:16} refused of 64 new:", generalises[label], "| base's harm added to harmless ones, blocks 1 to 3: refusals",
          " ".join(f"{wired[label, layer]:+d}" for layer in (1, 2, 3)))

# %%
plotting.show(plotting.bars(
    list(generalises), {kind: [g[kind] for g in generalises.values()] for kind in new},
    intervals={kind: [tuple(64 * v for v in (w.low, w.high)) for w in (directions.wilson_interval(g[kind], 64) for g in generalises.values())]
               for kind in new},
    x_title="twin of width 64, tuned on", y_title="refused, of 64 requests of new topics", y_range=(0, 72),
    title="Only a refusal wired onto harm generalises by harm",
    alt="Bars: " + "; ".join(f"{label}: harmful {g['harmful']}, harmless {g['harmless']} of 64" for label, g in generalises.items()) + "."))

# %% [markdown]
# With true labels refusal reaches new harmful topics; with shuffled ones it reaches new topics of either kind by accident.
# The direct test is weaker than the story: before block 1 base's direction of harm makes the plain twin refuse and the shuffled
# one little, but before blocks 2 and 3 it moves both. There are no dictionaries of width 64, so this part rests on directions.
#
# ## 9 Questions
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
# * That the warning is *inhibited*, as the paper reports for its model. In this organism the refusal outbids it, and in two
#   other trainings the cut of refusal leaves a warning in 73 % and 11 % of the pairs, not in 95 % (`docs/model_cards/chat.md`).
# * That the fixed template squeezes anything out: three trainings do not decide it.
# * That the cut at -1x takes danger alone: the model also forgets which cleaner stood there. Random directions of the same length
#   leave the refusals, but none of them was chosen to make it forget.
# * That base and chat share *every* concept of harm; we moved one, the danger of two cleaners.
# * Anything about large models. This one has read a thousand words; a single feature decides here, in the paper sets of them do.
#
# Sources: Lindsey et al. 2025, *On the Biology of a Large Language Model*, section Refusals; Ameisen et al. 2025 (circuit tracing);
# Templeton et al. 2024 (steering in units of a feature's activation); Paulo et al. 2024 (arXiv 2410.13928, detection scores).

# %%
progress(3)
