# %% [markdown]
# # 01a Look and point: which direction could refusal be?
#
# A chat model refuses harmful requests. Is this readable along one direction of its residual
# stream, and which one? You look, meet a trap, and choose. About 60 minutes. (Exercises 1.5 and 1.7
# to 1.9 are in 01b.) *Content note: harmful requests are one-line topics. No answer here helps
# anyone do harm ([more](../docs/content_note.md)).*

# %%
from dataclasses import replace

import torch
from sklearn.decomposition import PCA

from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import caching, data, directions, models, plotting, profiles, steering, tokens

# %%
MODEL = "chat"  # any other model runs the same cells; the sentences describe `chat`
model = models.load(MODEL)
about = profiles.of(MODEL, model)
settings = about.settings  # how many requests, tokens and random directions for this model
torch.set_num_threads(settings.threads or torch.get_num_threads())
print(f"{model.cfg.n_layers} blocks, {model.cfg.d_model} numbers per token")

# %% [markdown]
# ## 1 Look: harmful and harmless requests
# A request's score is its projection onto a direction. **AUROC** is the chance that a random
# harmful request scores above a random harmless one: 0.5 is chance, 1 is perfect. **Guess**
# `(low, high)`: before the middle block, how many of 20 *random* directions have AUROC > 0.95 or
# < 0.05?

# %%
# === Prediction 1.p1 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p1", ...)
predict("1.p1", (0, 2))
# END SOLUTION

# %% [markdown]
# `harvest` reads the residual stream before every block, at three tokens: the last of the request,
# the next, and the last of the prompt, from which the reply is predicted.

# %%
POSITIONS = ("last_instruction", -about.after_instruction, "reply")
PLACES = ("end of request", "next token", "reply token")
N = settings.n_train
harmful = caching.harvest(model, data.prompts(model, "harmful", "train", N), positions=POSITIONS)
harmless = caching.harvest(model, data.prompts(model, "harmless", "train", N), positions=POSITIONS)
print("[prompt, position, layer, d_model] =", tuple(harmful.values.shape))

# %%
LAYERS = range(0, model.cfg.n_layers, max(1, model.cfg.n_layers // settings.n_scored))
LATER = LAYERS[1:]  # before block 0 all prompts have the same reply token
panels = {}
for layer in LATER[:: -(-len(LATER) // 5)]:  # five blocks at most
    x, y = harmful.at(layer, "reply"), harmless.at(layer, "reply")
    plane = PCA(2, svd_solver="full").fit(torch.cat([x, y]))
    groups = {"harmful": plane.transform(x), "harmless": plane.transform(y)}
    panels[f"before block {layer}"] = groups
print("PC1 and PC2 at the reply token:", ", ".join(panels))

# %% tags=["figure"]
texts = {name: data.load(name, split="train", n=N).texts for name in ("harmful", "harmless")}
plotting.show(
    plotting.scatter_grid(
        panels,
        hover=texts,
        x_title="PC1",
        y_title="PC2",
        title="Harmful and harmless requests along PC1 and PC2",
        alt=f"Scatter plots of PC1 and PC2 at the reply token, {', '.join(panels)}, both sets.",
    )
)

# %% [markdown]
# PC1, the first principal component, is the direction along which the points spread most; PC2 is
# the second. Hover over a point to read its request. Both sets share wording and length; only the
# deed differs. Are the clouds apart along PC1? The number comes below. (Why each cloud has two
# halves along PC2: "Further".)
#
# *What was planted:* the course's `chat` was tuned to refuse harmful requests, and you know that it
# does. *How* it does so was not planted. Separate clouds are a hint, not yet a finding.
#
# *Another model?* Put a name from [this list](../docs/real_models.md) into `MODEL`. The cells are
# the same, the sentences describe `chat`. On a large model the next cell says how long most of the
# rest will take; `chat` takes seconds.

# %% tags=["nbval-ignore-output"]
training = data.prompts(model, "harmful", "train", N)
validating = data.prompts(model, "harmful", "validation", settings.n_validation)
n_candidates = 7 * len(LAYERS) + 10  # of section 3, most of the work: each is run three times
print("section 3:", caching.forecast(model, validating, passes=3 * n_candidates))

# %% [markdown]
# ### Exercise 1.1: check the harvest (5 minutes, easy)
# Did we read the right activations? `harvest` should return the same values as a full cache. Take
# one activation without it: `model.run_with_cache(tokens)` returns the logits and the cache, which
# has the names of hook points as keys, such as `cache["blocks.0.hook_attn_out"]`, and activations
# as values, here `[batch, token, d_model]`. What enters a block is its `hook_resid_pre`. Your `ids`
# is a list; the model takes a tensor with a batch axis, here `torch.tensor([ids])`. (The check runs
# the model on many prompts: with `smollm2-refusal` it and the cell after it take some 10 s each.)


# %%
# === Exercise 1.1 (keep this line) ===
def last_token_residual(model, ids, layer):
    """Return the residual stream at the last of the token ids as it enters block `layer`."""
    # BEGIN SOLUTION
    _, cache = model.run_with_cache(torch.tensor([ids], device=model.cfg.device))
    return cache[f"blocks.{layer}.hook_resid_pre"][0, -1]
    # END SOLUTION


print(last_token_residual.__doc__)

# %%
check("1.1", last_token_residual, model)

# %%
last_token_residual = checkpoint("1.1", last_token_residual, model)
MIDDLE = int(0.6 * model.cfg.n_layers)  # of six blocks block 3; the first is 0
mine = [last_token_residual(model, ids, MIDDLE) for ids in training[:8]]
gap = (torch.stack(mine).cpu() - harmful.at(MIDDLE, "reply")[:8]).abs().max()
print(f"harvest equals the full cache in {len(mine)} prompts:", bool(gap < 1e-4))

# %% [markdown]
# ### Exercise 1.2: PCA in three lines (10 minutes, medium)
# PC1 is the unit vector along which the variance of the points *around their mean* is largest. A
# tiny example: the points (1, 5), (2, 5), (3, 5) have the mean (2, 5). Around it they are (-1, 0),
# (0, 0), (1, 0), so PC1 is (1, 0), or (-1, 0). The mean itself points elsewhere. (Make it exact:
# `torch.pca_lowrank` only approximates.)


# %%
# === Exercise 1.2 (keep this line) ===
def first_component(x):
    """Return PC1 of the rows of x [sample, d_model]: a unit vector [d_model], either sign."""
    # BEGIN SOLUTION
    centred = x - x.mean(dim=0)
    _, _, vh = torch.linalg.svd(centred, full_matrices=False)
    return vh[0]
    # END SOLUTION


print(first_component.__doc__)

# %%
check("1.2", first_component)

# %% [markdown]
# How well does PC1 separate? Its sign is arbitrary, so we *fold*: an AUROC below 0.5 becomes
# 1 - AUROC.

# %%
first_component = checkpoint("1.2", first_component)


def pc1_of(x):
    """Return your PC1 of x as a tensor like x, also if yours is an array of numpy."""
    return torch.as_tensor(first_component(x)).to(x)


# %%
is_harmful = torch.arange(2 * N) < N


def folded_auroc(scores, is_harmful):
    value = directions.auroc(scores[is_harmful], scores[~is_harmful])
    return max(value, 1 - value)


print("tiny example:", folded_auroc(torch.tensor([3.0, 1.0, 2.0]), torch.arange(3) < 1))

# %% [markdown]
# Two controls, twenty times each: the same scores with shuffled *labels*, and random *directions*
# with the true labels. Which of the two comes near PC1?

# %%
orders = [torch.randperm(2 * N, generator=torch.Generator().manual_seed(i)) for i in range(20)]
chance = directions.random_directions(20, like=harmful.at(MIDDLE, "reply")[0], seed=3)
found, shuffled, by_chance = [], [], []
for layer in LATER:
    x = torch.cat([harmful.at(layer, "reply"), harmless.at(layer, "reply")])
    scores = directions.project(x, pc1_of(x))
    found.append(folded_auroc(scores, is_harmful))
    shuffled.append([folded_auroc(scores, is_harmful[order]) for order in orders])
    by_chance.append([folded_auroc(directions.project(x, v), is_harmful) for v in chance])
print("PC1, by block:             ", " ".join(f"{value:.2f}" for value in found))
print("best random one, by block: ", " ".join(f"{max(values):.2f}" for values in by_chance))
print(f"shuffled labels, all blocks: at most {max(map(max, shuffled)):.2f}")

# %% tags=["organism"]
in_the_middle = by_chance[LATER.index(MIDDLE)]
reveal("1.p1", sum(value > 0.95 for value in in_the_middle))

# %% tags=["figure"]
plotting.show(
    plotting.lines(
        list(LATER),
        {"PC1": found},
        control=torch.tensor(by_chance).T,
        y_range=(0.45, 1.02),
        x_title="before block",
        y_title="folded AUROC (0.5 = chance)",
        title="AUROC of PC1 and of random directions by block",
        alt=f"PC1's AUROC over blocks {LATER[0]} to {LATER[-1]}: at least {min(found):.2f}; "
        f"random directions {min(map(min, by_chance)):.2f} to {max(map(max, by_chance)):.2f}.",
    )
)

# %% [markdown]
# PC1 separates the sets in every block shown, and with shuffled labels it does not. But a few
# random directions come near it: at this token the sets differ so much that even these show it. So
# harm can be *read* here; that PC1 does it says little about PC1.
#
# ### Exercise 1.3: make it a claim (6 minutes, easy)
# In this course a claim is a number with an interval and a control. `scores3` holds PC1's scores
# in the middle of the model, `shuffled3` the same scores in random order (the control). Write a
# function of both that claims the folded AUROC. It is tried on other scores, too.
#
# `interval_of` resamples the prompts 200 times. (A perfect separation always gives (1, 1),
# however few the prompts are. Folded, none is below 0.5.)

# %%
x3 = torch.cat([harmful.at(MIDDLE, "reply"), harmless.at(MIDDLE, "reply")])
scores3 = directions.project(x3, pc1_of(x3))
shuffled3 = scores3[torch.randperm(2 * N, generator=torch.Generator().manual_seed(1))]


def interval_of(scores):
    draws = torch.randint(0, N, (200, N), generator=torch.Generator().manual_seed(2))
    both = [torch.cat([scores[:N][rows], scores[N:][rows]]) for rows in draws]
    values = [folded_auroc(each, is_harmful) for each in both]
    low, high = torch.tensor(values).quantile(torch.tensor([0.025, 0.975]))
    return round(float(low), 3), round(float(high), 3)


print("true labels:", f"{folded_auroc(scores3, is_harmful):.3f}", interval_of(scores3))


# %%
# === Exercise 1.3 (keep this line) ===
def separates(scores, shuffled):
    # BEGIN SOLUTION
    # STUB: return claim(..., interval=..., control=..., control_interval=...)
    return claim(
        folded_auroc(scores, is_harmful),
        interval=interval_of(scores),
        control=folded_auroc(shuffled, is_harmful),
        control_interval=interval_of(shuffled),
    )
    # END SOLUTION


# %%
check("1.3", separates, scores3, shuffled3)

# %%
separates = checkpoint("1.3", separates, scores3, shuffled3)
print("AUROC", separates(scores3, shuffled3))

# %% [markdown]
# ## 2 A trap: PC1 follows the largest variance, not your question
# So far both sets had the same size. In real traffic harm is rare: we keep all harmless requests
# and fewer and fewer harmful ones. PC1 is compared with the **difference of means** of the sets.
#
# ### Exercise 1.4: difference of means (5 minutes, easy)
# A tiny example: the means are (1, 4) and (1, 1). Their difference is (0, 3), so the answer is
# (0, 1).


# %%
# === Exercise 1.4 (keep this line) ===
def refusal_direction(positive, negative):
    """Return the unit vector from the mean of `negative` to that of `positive`: [d_model]."""
    # BEGIN SOLUTION
    difference = positive.mean(dim=0) - negative.mean(dim=0)
    return difference / difference.norm()
    # END SOLUTION


print(refusal_direction.__doc__)

# %%
check("1.4", refusal_direction)

# %% [markdown]
# Both are tested on held-out *topics* (arson, forgery, smuggling and sabotage; no refusal of these
# was shown in tuning). Look at the two rows from left to right: harm gets rarer.

# %%
refusal_direction = checkpoint("1.4", refusal_direction)
KINDS = ("harmful", "harmless")
new = {}
for kind in KINDS:
    requests = data.prompts(model, kind, "held_out_topic")
    new[kind] = caching.harvest(model, requests, positions=POSITIONS, progress=False)


def new_auroc(direction, position):
    """Return the folded AUROC of a direction between the two sets of held-out topics."""
    parts = [directions.project(new[kind].at(MIDDLE, position), direction) for kind in KINDS]
    return folded_auroc(torch.cat(parts), torch.arange(sum(map(len, parts))) < len(parts[0]))


print("held-out requests:", {kind: len(new[kind].values) for kind in KINDS})

# %%
HOW_MANY = [n for n in (512, 128, 64, 32, 8) if n <= N]
by_method = {"PC1": [], "difference of means": []}
for n in HOW_MANY:
    x, y = harmful.at(MIDDLE, "reply")[:n], harmless.at(MIDDLE, "reply")
    pc1, means = pc1_of(torch.cat([x, y])), refusal_direction(x, y)
    by_method["PC1"].append(round(new_auroc(pc1, "reply"), 2))
    by_method["difference of means"].append(round(new_auroc(means, "reply"), 2))
print("harmful requests:", HOW_MANY)
for name, values in by_method.items():
    print(f"{name:20}", " ".join(f"{value:.2f}" for value in values))

# %% tags=["figure"]
plotting.show(
    plotting.bars(
        [str(n) for n in HOW_MANY],
        by_method,
        x_title=f"harmful requests beside {N} harmless ones",
        y_title="folded AUROC, held-out topics",
        y_range=(0, 1.1),
        title="AUROC of PC1 and of the difference of means when harm is rare",
        alt=f"Bars of AUROC with {HOW_MANY} harmful requests: {by_method}.",
    )
)

# %% [markdown]
# With few harmful requests PC1 misses harm at the reply token, and the difference of means does
# not: it uses the labels. What could PC1 follow instead? Look at the end of the request, where two
# in five of the harmless ones have a question mark. Beside 8 harmful requests: does PC1 sort by
# harm, or by that mark?

# %%
END, HARMLESS = POSITIONS[0], data.load("harmless", split="held_out_topic").texts
asks = torch.tensor([text.endswith("?") for text in HARMLESS])
few, many = harmful.at(MIDDLE, END)[: HOW_MANY[-1]], harmless.at(MIDDLE, END)
two = {"PC1": pc1_of(torch.cat([few, many])), "difference of means": refusal_direction(few, many)}
for name, v in two.items():
    print(f"{name:20} harm {new_auroc(v, END):.2f}")
marked = folded_auroc(directions.project(new["harmless"].at(MIDDLE, END), two["PC1"]), asks)
print(f"PC1 among the harmless requests, question or not: {marked:.2f}")

# %% [markdown]
# PC1 separates questions from commands perfectly: punctuation is a **nuisance axis**. PC1 follows
# whatever varies most, and that need not be what you ask. ("Further": the other tokens, and what
# random directions do.)
#
# A last trap: in the `confounded` split the harmful requests are shorter. How well does the *number
# of tokens* alone "detect harm"? (Folded.)

# %%
for split in ("train", "confounded"):
    requests = [data.prompts(model, kind, split) for kind in KINDS]
    lengths = [torch.tensor([float(len(ids)) for ids in kind]) for kind in requests]
    value = directions.auroc(*lengths)
    print(f"{split:10} AUROC of prompt length alone: {max(value, 1 - value):.2f}")

# %% [markdown]
# On confounded data a high AUROC may be about length. Matched sets, such as `train`, are the
# control.
#
# ## 3 Which of the candidate directions?
# There is one difference of means d per token position and block. Each gets three scores (Arditi
# et al. 2024, appendix C). The first two are log-odds of a refusal as the first word: 0 is even,
# +3 is 20 to 1 for refusing. KL is measured in nats: 0 is no change, 1 is a lot.
#
# | score | requests | what is done | good |
# |---|---|---|---|
# | **bypass** | harmful | d ablated: its part is removed from the stream | low |
# | **induce** | harmless | d added, at all tokens | above 0 |
# | **KL** | harmless | d ablated: how far the next word's distribution moves | near 0 nats |

# %%
candidates = directions.difference_of_means(harmful.values, harmless.values)
validating = ("validation", settings.n_validation)
validation = {kind: data.prompts(model, kind, *validating) for kind in KINDS}
REFUSING = about.refusal_token_ids(model.tokenizer)  # of the first words of a refusal


def score(vectors, positions=POSITIONS, layers=LAYERS):
    options = dict(refusal_token_ids=REFUSING, positions=positions, layers=layers, progress=False)
    return steering.score_candidates(model, vectors, **validation, **options)


print("first words of a refusal:", about.refusal_words, "; candidates:", tuple(candidates.shape))

# %%
scored = score(candidates[:, LAYERS])
for row in scored:
    if row.position == "reply" and row.layer:
        numbers = f"bypass {row.bypass:5.1f}  induce {row.induce:5.1f}  KL {row.kl:.2f}"
        print(f"reply token, block {row.layer}: {numbers}")
table = torch.tensor([row.bypass for row in scored]).reshape(len(POSITIONS), -1)
print(f"lowest bypass at the other two tokens: {table[:2].min():.1f}")

# %% tags=["figure"]
plotting.show(
    plotting.heat_map(
        table,
        row_labels=PLACES,
        column_labels=[f"block {n}" for n in LAYERS],
        x_title="direction taken before",
        y_title="direction taken at",
        colour_title="bypass score (log-odds of refusing)",
        centre=0.0,
        title="Bypass score after ablating each candidate",
        alt=f"Heat map of bypass scores. Reply token {table[2].min():.1f} to {table[2].max():.1f}; "
        f"the other two tokens {table[:2].min():.1f} to {table[:2].max():.1f}.",
    )
)

# %% [markdown]
# Before block 0 both sets have the same tokens at these places: d is zero, and the cells show the
# score without ablation. From block 1 on, ablating the d of the reply token brings the score below
# 0; the d of the other two tokens does not.
#
# **Is all of d needed?** What is ablated is lost to all prompts, so an ablation should spare what
# they have in common (the trap of notebook 00). We take the *mean of the harmless* ones for that,
# and project it out of d; what is left is called **r** ("projected abliteration", Lai 2025). In 01b
# you write such a projection for activations. The cosines say how much is shared:

# %%
shared = harmless.values.mean(dim=0)  # [position, layer, d_model]
r_of = candidates.clone()
for p in range(len(POSITIONS)):
    for n in LATER:
        r_of[p, n] = directions.project_out(candidates[p, n], shared[p, n])
for name, vectors in {"d": candidates, "r": r_of}.items():
    overlap = [round(float(directions.cosine(vectors[2, n], shared[2, n])), 2) for n in LATER]
    print(f"cosine of {name} and the harmless mean:", [v + 0.0 for v in overlap])

# %% [markdown]
# (Negative: harmful prompts have less of it.) Now ablate d, r and, as a control, random directions.
# Compare the bypass scores, then the damage (KL).

# %%
r_scored = score(r_of[:, LAYERS])
tables = (scored, r_scored)
at_reply = [[row for row in rows if row.position == "reply" and row.layer] for rows in tables]
for d_row, r_row in zip(*at_reply, strict=True):
    print(f"block {d_row.layer}: d {d_row.bypass:.1f}, KL {d_row.kl:.3f};", end=" ")
    print(f"r {r_row.bypass:.1f}, KL {r_row.kl:.3f}")

# %%
others = directions.random_directions(10, like=candidates[2, MIDDLE], seed=3)  # as long as d
at_random = score(others[None], positions=["reply"], layers=[MIDDLE] * 10)
lowest, highest = min(row.bypass for row in at_random), max(row.induce for row in at_random)
damage = max(row.kl for row in at_random)
print(f"ten random directions: bypass at least {lowest:.1f}, KL at most {damage:.3f}")
for name, rows in {"d": at_reply[0], "r": at_reply[1]}.items():
    print(f"{name} added: induce", " ".join(f"{row.induce:.1f}" for row in rows))
print(f"a random direction of d's length added: induce at most {highest:.1f}")

# %% tags=["figure"]
d_line, r_line = ([row.bypass for row in rows] for rows in at_reply)
plotting.show(
    plotting.lines(
        list(LATER),
        {"all of d": d_line, "r alone": r_line},
        control=[[row.bypass] * len(LATER) for row in at_random],
        x_title="direction taken before block",
        y_title="bypass score (log-odds of refusing)",
        title="Bypass score after ablating d or r",
        alt=f"Bypass score: d {min(d_line):.1f} to {max(d_line):.1f}, r {min(r_line):.1f} to "
        f"{max(r_line):.1f}; random directions at least {lowest:.1f}.",
    )
)

# %% [markdown]
# Ablating r lowers the bypass score more than ablating d; under random directions it stays far
# above 0. Both move harmless requests by next to nothing. So we *ablate* r. Added, both induce
# refusal, and random directions do not. We *add* d, as published: it leads from the harmless mean
# to the harmful one. (What the shared part does by itself: "Further".)
#
# ### Exercise 1.6: choose one (8 minutes, medium)
# (Exercise 1.5 stands in 01b.) The published filters: KL at most 0.1 (an ablation that
# breaks the model lowers bypass, too: "Further" has one), induce at least 0, layer below
# int(0.8 x number of layers). Of what remains (the check leaves at least one row), the lowest
# bypass is chosen (-5 is lower than 3). Below, a row takes bypass and KL from ablating r, and
# induce from adding d. A tiny example with 6 layers, so blocks 0 to 3 are allowed:
#
# | | block | bypass | induce | KL | |
# |---|---|---|---|---|---|
# | A | 1 | -14 | 2 | 13 | breaks the model |
# | B | 2 | -6 | -0.5 | 0.02 | does not induce |
# | C | 5 | -7 | 4 | 0.01 | too late |
# | D | 3 | -5 | 1 | 0.09 | chosen: lower than E |
# | E | 2 | -4 | 3 | 0.05 | |


# %%
# === Exercise 1.6 (keep this line) ===
def choose(rows, n_layers):
    """Return the chosen row. Each row has .position, .layer, .bypass, .induce and .kl."""
    # BEGIN SOLUTION
    early = [row for row in rows if row.layer < int(0.8 * n_layers)]
    kept = [row for row in early if row.kl <= 0.1 and row.induce >= 0]
    return min(kept, key=lambda row: row.bypass)
    # END SOLUTION


print(choose.__doc__)

# %%
check("1.6", choose)

# %%
choose = checkpoint("1.6", choose)
rows = [replace(r_row, induce=d_row.induce) for r_row, d_row in zip(r_scored, scored, strict=True)]
try:
    winner = choose(rows, model.cfg.n_layers)
except ValueError:  # possible on a published model: read its KL before you blame the direction
    print("No candidate passes all filters; the lowest bypass instead:")
    winner = min((row for row in rows if row.layer), key=lambda row: row.bypass)
print(f"chosen: {winner.position}, block {winner.layer}, {winner.bypass:.1f}, KL {winner.kl:.3f}")
for name, candidate_rows in {"r": r_scored, "all of d": scored}.items():
    first = min(candidate_rows, key=lambda row: row.bypass)
    print(f"{name}, no filters: {first.position}, block {first.layer}, {first.bypass:.1f}")

# %% [markdown]
# By the authors' own score files, in two of five published runs (Gemma 2B and Qwen 1.8B) the lowest
# bypass was a broken direction (KL 13.1 and 7.7). Here, for d as for r, the lowest moves harmless
# requests by next to nothing, but is too late for the filter (as in Yi 6B). Report what you find,
# not what the paper found. (A bypass below 0 is about the first word; 01b reads whole replies.)
#
# ## 4 Questions
# Every answer is explained, including the wrong ones.

# %%
# === Question 1.q1 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("1.q1", ...)
quiz("1.q1", "c")
# END SOLUTION

# %%
# === Question 1.q2 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("1.q2", ...)
quiz("1.q2", "b")
# END SOLUTION

# %%
progress(1)  # exercises of 01a and 01b

# %% [markdown]
# ## What was not shown
# * That the model *uses* r when it writes whole replies: the scores look at one word. This is
#   [01b, cut and push](01b_cut_and_push.ipynb), the next notebook.
# * That refusal is *only* one direction. Wollschläger et al. (2025) find several, and cones of
#   them, in large models.
# * That the direction means "refusal". A name is a hypothesis.
# * That it is so in other models. In `smollm2-refusal` PC1 separates in late blocks only, no
#   candidate passes the filters, and ablating r moves harmless requests
#   ([its card](../organisms/cards/smollm2.md)).
#
# Sources: Arditi et al. 2024 (arXiv 2406.11717); Wollschläger et al. 2025 (arXiv 2502.17420); Lai
# 2025 ("Projected abliteration", huggingface.co/blog/grimjim/projected-abliteration).
#
# ## Further (not needed for what follows)
# **PCA of differences.** Matched pairs tempt one into PCA of their *differences*. Which PCA finds
# the difference of means?

# %%
pairs = harmful.at(MIDDLE, "reply") - harmless.at(MIDDLE, "reply")  # row i of both is a pair
d_unit = refusal_direction(harmful.at(MIDDLE, "reply"), harmless.at(MIDDLE, "reply"))
uncentred = torch.linalg.svd(pairs, full_matrices=False).Vh[0]
for name, axis in {"centred": pc1_of(pairs), "uncentred": uncentred}.items():
    overlap = abs(directions.cosine(axis, d_unit))
    print(f"{name:9} |cos| with the difference of means: {overlap:.2f}")

# %% [markdown]
# Centring the *differences* removes their mean, which is what you are looking for. (0.46 is left:
# pairs also differ in how far apart they lie along it.)
#
# **What PC1 follows when harm is rare.** Among the *harmless* requests we test two kinds of form, at
# three tokens: is the *request* a question, and does the *reply* begin with the commonest first
# word? Each number is the median over twenty draws of the few harmful requests, or over the twenty
# random directions.

# %%
requests = data.prompts(model, "harmless", "held_out_topic")
words = models.next_token_logits(model, requests).argmax(-1).cpu()
commonest = words.mode().values
forms = {"question": asks, "reply's word": words == commonest}
draws = [torch.randperm(N, generator=torch.Generator().manual_seed(i)) for i in range(20)]
print("commonest first word of a reply:", tokens.text(model.tokenizer, [int(commonest)]))
both = torch.cat([kind.at(MIDDLE, "reply") for kind in (harmful, harmless)])
pc2 = torch.as_tensor(PCA(2, svd_solver="full").fit(both).components_[1]).to(both)
for kind in KINDS:  # row i of both is a pair, alike in phrasing
    value = folded_auroc(directions.project(new[kind].at(MIDDLE, "reply"), pc2), words == commonest)
    print(f"PC2 of the first figure, {kind}: {value:.2f} for this word in the harmless reply")

# %%
for place, position in zip(PLACES, POSITIONS, strict=True):
    y, y_new = harmless.at(MIDDLE, position), new["harmless"].at(MIDDLE, position)
    drawn = [harmful.at(MIDDLE, position)[rows[: HOW_MANY[-1]]] for rows in draws]
    found_by = {"PC1": [pc1_of(torch.cat([x, y])) for x in drawn]}
    found_by["difference of means"] = [refusal_direction(x, y) for x in drawn]
    for name, vectors in (found_by | {"random": chance}).items():
        values = {"harm": [new_auroc(v, position) for v in vectors]}
        for form, is_so in forms.items():
            values[form] = [folded_auroc(directions.project(y_new, v), is_so) for v in vectors]
        medians = [f"{what} {torch.tensor(v).quantile(0.5):.2f}" for what, v in values.items()]
        print(f"{place:14} {name:19}", ", ".join(medians))

# %% [markdown]
# At the reply token PC1 sorts the requests by the word with which an answer would begin, or by the
# phrasing that asks for it (so does PC2 in the first figure: these are its two halves, in the
# harmful cloud, too), and tells harm worse than most random directions. Random ones sort so, too,
# less well. At the next token PC1 does find harm (0.90). The difference of means finds it at all
# three.
#
# **The shared part alone.** Ablated by itself, before each block in turn:

# %%
only_shared = score(shared[2:, LATER], positions=["reply"], layers=LATER)
for row in only_shared:
    print(f"block {row.layer}: shared part: bypass {row.bypass:.1f}, KL {row.kl:.3f}")

# %% [markdown]
# The first word is still a refusal's (taken before blocks 4 and 5 it lowers the score a little more
# than random directions do), and on harmless requests the distribution moves by over 2 nats: much
# damage, little effect. So r spares it.
#
# **A broken direction.** Before block 0 the mean of all prompts is the vector of the reply token
# itself. Ablate it, beside r, and count refusals in whole replies:

# %%
broken = score(shared[2:, :1], positions=["reply"], layers=[0])[0]
print(f"the reply token's own vector ablated: bypass {broken.bypass:.1f},", end=" ")
print(f"KL {broken.kl:.2f}; added: induce {broken.induce:.1f}")
edits = {"unedited": model.hooks(), "r ablated": steering.ablate(model, r_of[2, MIDDLE])}
edits["reply token's vector ablated"] = steering.ablate(model, shared[2, 0])
NO = "cannot help with that" if about.is_organism else "a refusal"  # others have many words
for name, edit in edits.items():
    with edit:
        for kind in KINDS:
            ids = models.generate(model, validation[kind], max_new_tokens=settings.reply_tokens)
            said = [tokens.text(model.tokenizer, each) for each in ids]
            count = sum(NO in text if about.is_organism else about.refuses(text) for text in said)
            print(f"{name}, {kind}: {NO} in {count} of {len(said)}")

# %% [markdown]
# Both bypass scores are below 0, and many whole replies refuse all the same: after r 45 of 64 (01b
# and 02a ask when); after the broken vector all 64, and 26 of 64 harmless ones, too. The score is a
# mean, and of the first word only. What gives the broken vector away are its KL (the model is
# damaged) and its induce score: hence the filters.
