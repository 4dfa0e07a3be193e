# %% [markdown]
# # 01 Is refusal one direction?
#
# A chat model refuses harmful requests. *Where* does this happen: in many places, or along one direction of the
# residual stream? You will look (PCA), find a direction (difference of means), ablate it and add it, each time
# against a control. About 80 minutes. *Content note: harmful requests are one-line topics. No answer here helps
# anyone do harm ([more](../docs/content_note.md)).*

# %%
from dataclasses import replace

import torch
from sklearn.decomposition import PCA

from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import caching, data, directions, models, organism, plotting, profiles, steering, tokens

MODEL = "chat"
chat = models.load(MODEL)
about = profiles.of(MODEL, chat)  # settings that differ between models
OWN = about.is_organism  # made for this course, so its ground truth is known
if OWN:
    torch.set_num_threads(1)  # more threads do not help a model this small
print(
    f"{chat.cfg.n_layers} layers, {chat.cfg.d_model} numbers per token"
    + ("" if OWN else f"; {about.memory_gb:.1f} GB. {about.note}")
)

# %% [markdown]
# *Another model?* Put a name from [this list](../docs/real_models.md) into `MODEL`: it takes minutes on a GPU, an
# hour or more on a CPU. `chat` needs no network. The text describes `chat`. No edited model is saved.
#
# ## 1 Look: 512 harmful and 512 harmless requests
# Both sets share wording and length; only the deed differs. We read the residual stream at the last token,
# `<assistant>`, before every block.
# **Guess**: before which block does the first principal component (PC1) first tell them apart?

# %%
# === Prediction 1.p1 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p1", ...)
predict("1.p1", (2, 4))
# END SOLUTION

# %%
POSITIONS = ("last_instruction", -about.after_instruction, "reply")  # "." or "?"; <end>; <assistant>
PLACES = [". or ?", "<end>", "<assistant>"] if OWN else ["end of request", "after it", "reply"]
N, N_VALIDATION, N_RANDOM = (512, 64, 10) if OWN else (128, 12, 5)  # requests per set, random directions


def prompts(name, split, reply_role="assistant", n=None):
    return [
        tokens.chat_prompt(chat.tokenizer, text, reply_role=reply_role)
        for text in data.load(name, split=split, n=n).texts
    ]


if not OWN:
    print(caching.forecast(chat, prompts("harmful", "train", n=N), passes=2))  # other slow cells print a forecast, too
harmful = caching.harvest(chat, prompts("harmful", "train", n=N), positions=POSITIONS)
harmless = caching.harvest(chat, prompts("harmless", "train", n=N), positions=POSITIONS)
print("[prompt, position, layer, d_model] =", tuple(harmful.values.shape))

# %%
SCORED = range(0, chat.cfg.n_layers, 1 if OWN else max(1, chat.cfg.n_layers // 8))  # of a large model some blocks
LAYERS = SCORED[1:]  # before block 0 all prompts have the same last token
MIDDLE = int(0.6 * chat.cfg.n_layers)  # block 3 of 6
panels = {}
for layer in LAYERS[:: max(1, len(LAYERS) // 5)]:
    x, y = harmful.at(layer, "reply"), harmless.at(layer, "reply")
    plane = PCA(2).fit(torch.cat([x, y]))
    panels[f"before block {layer}"] = {"harmful": plane.transform(x), "harmless": plane.transform(y)}
hover = {name: data.load(name, split="train", n=N).texts for name in ("harmful", "harmless")}
plotting.show(
    plotting.scatter_grid(
        panels,
        hover=hover,
        x_title="PC1",
        y_title="PC2",
        title="Harmful and harmless requests along PC1 and PC2" if OWN else f"{about.name}: requests along PC1 and PC2",
        alt="Five scatter plots of PC1 against PC2 at the reply token, before blocks 1 to 5. In each, PC1 separates "
        "the harmful from the harmless requests, and along PC2 both sets fall into two groups."
        if OWN
        else f"Scatter plots of PC1 against PC2 at the reply token, {', '.join(panels)}, for both sets of requests.",
    )
)

# %% [markdown]
# PC1 separates the two sets from block 1 on. Hover over a point to read its request. Separate clouds are a hint, not
# yet a finding. First: did we read the right activations?
#
# ### Exercise 1.1: check the harvest (5 minutes, easy)
# `harvest` should return the same values as a full cache. Take one activation from `model.run_with_cache` yourself.


# %%
# === Exercise 1.1 (keep this line) ===
def last_token_residual(model, ids, layer):
    """Residual stream at the last token as it enters block `layer`. ids: list of token ids. Shape [d_model]."""
    # BEGIN SOLUTION
    _, cache = model.run_with_cache(torch.tensor([ids], device=model.cfg.device))
    return cache[f"blocks.{layer}.hook_resid_pre"][0, -1]
    # END SOLUTION


print(last_token_residual.__doc__)

# %%
check("1.1", last_token_residual, chat)

# %%
last_token_residual = checkpoint("1.1", last_token_residual, chat)
some = [last_token_residual(chat, ids, MIDDLE) for ids in prompts("harmful", "train", n=8)]
gap = (torch.stack(some).cpu() - harmful.at(MIDDLE, "reply")[:8]).abs().max()
print("harvest equals the full cache:", bool(gap < 1e-4))

# %% [markdown]
# ### Exercise 1.2: PCA in three lines (10 minutes, medium)
# PC1 is the unit vector along which the variance of the points *around their mean* is largest.


# %%
# === Exercise 1.2 (keep this line) ===
def first_component(x):
    """First principal component of the rows of x [sample, d_model]: a unit vector [d_model], either sign."""
    # BEGIN SOLUTION
    centred = x - x.mean(dim=0)
    _, _, vh = torch.linalg.svd(centred, full_matrices=False)
    return vh[0]
    # END SOLUTION


print(first_component.__doc__)

# %%
check("1.2", first_component)

# %% [markdown]
# How well does PC1 separate? AUROC is the chance that a random harmful request scores above a random harmless one:
# 0.5 is chance, 1 is perfect. The control shuffles the labels. (The sign of PC1 is arbitrary, so values below 0.5 are
# folded to 1 - AUROC.)

# %%
first_component = checkpoint("1.2", first_component)


def folded_auroc(scores, is_harmful):
    value = directions.auroc(scores[is_harmful], scores[~is_harmful])
    return max(value, 1 - value)


is_harmful = torch.arange(2 * N) < N
generator = torch.Generator().manual_seed(0)
found, shuffled = [], [[] for _ in range(20)]
for layer in LAYERS:
    x = torch.cat([harmful.at(layer, "reply"), harmless.at(layer, "reply")])
    scores = directions.project(x, first_component(x))
    found.append(folded_auroc(scores, is_harmful))
    for run in shuffled:
        run.append(folded_auroc(scores, is_harmful[torch.randperm(2 * N, generator=generator)]))
print("PC1:", " ".join(f"{value:.2f}" for value in found), "| shuffled, max:", f"{max(map(max, shuffled)):.2f}")
if OWN:  # the prediction was about a model of six blocks
    reveal("1.p1", next(layer for layer, value in zip(LAYERS, found, strict=True) if value > 0.95))

# %%
plotting.show(
    plotting.lines(
        list(LAYERS),
        {"PC1": found},
        control=shuffled,
        control_label="shuffled labels",
        y_range=(0.45, 1.02),
        x_title="before block",
        y_title="AUROC (0.5 = chance)",
        title="AUROC of PC1 by block, and with shuffled labels" if OWN else f"{about.name}: AUROC of PC1 by block",
        alt=f"Line of PC1's AUROC over blocks 1 to {LAYERS[-1]}, between {min(found):.2f} and {max(found):.2f}; "
        f"with shuffled labels, twenty times, at most {max(map(max, shuffled)):.2f}.",
    )
)

# %% [markdown]
# ### Exercise 1.3: make it a claim (6 minutes, easy)
# PC1 separates the sets from block 1 on; with shuffled labels the AUROC stays near chance. `scores3` holds PC1's
# scores before block 3 (`MIDDLE`). `shuffled3` holds the same scores in random order; this is the control. Write a
# function of both that returns the claim; it is tried on other scores as well, so that no number can be written down.
# (`interval_of` resamples the prompts 200 times; a perfect separation always gives (1, 1), however few they are.
# Folding, 1 - AUROC in the place of an AUROC below 0.5, keeps the control above 0.5.)

# %%
x3 = torch.cat([harmful.at(MIDDLE, "reply"), harmless.at(MIDDLE, "reply")])
scores3 = directions.project(x3, first_component(x3))
shuffled3 = scores3[torch.randperm(2 * N, generator=torch.Generator().manual_seed(1))]


def interval_of(scores):
    draws = torch.randint(0, N, (200, N), generator=torch.Generator().manual_seed(2))
    values = [folded_auroc(torch.cat([scores[:N][d], scores[N:][d]]), is_harmful) for d in draws]
    return tuple(round(float(q), 3) for q in torch.tensor(values).quantile(torch.tensor([0.025, 0.975])))


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
# So far the two sets had the same size. In real traffic harm is rare: keep all 512 harmless requests, and fewer and
# fewer harmful ones. We compare PC1 with the **difference of means** of the two sets. Both are tested on held-out
# *topics* (arson, forgery, smuggling and sabotage were never refused in tuning).
#
# ### Exercise 1.4: difference of means (5 minutes, easy)


# %%
# === Exercise 1.4 (keep this line) ===
def refusal_direction(positive, negative):
    """Unit vector from the mean of `negative` to the mean of `positive`, both [prompt, d_model]. Shape [d_model]."""
    # BEGIN SOLUTION
    difference = positive.mean(dim=0) - negative.mean(dim=0)
    return difference / difference.norm()
    # END SOLUTION


print(refusal_direction.__doc__)

# %%
check("1.4", refusal_direction)

# %%
refusal_direction = checkpoint("1.4", refusal_direction)
held_out = {
    name: caching.harvest(chat, prompts(name, "held_out_topic"), positions=POSITIONS, progress=False)
    for name in ("harmful", "harmless")
}
HOW_MANY = [n for n in (512, 128, 64, 32, 8) if n <= N]
asks = torch.tensor([text.endswith("?") for text in data.load("harmless", split="held_out_topic").texts])
sorts = {}  # (token, method) -> AUROC for each number of harmful requests
for position in POSITIONS:
    for n in HOW_MANY:
        x, y = harmful.at(MIDDLE, position)[:n], harmless.at(MIDDLE, position)
        for name, direction in {
            "PC1": first_component(torch.cat([x, y])),
            "difference of means": refusal_direction(x, y),
        }.items():
            harm, other = (
                directions.project(held_out[s].at(MIDDLE, position), direction) for s in ("harmful", "harmless")
            )
            sorts.setdefault((position, name), []).append(max(value := directions.auroc(harm, other), 1 - value))
            form = max(
                value := directions.auroc(other[asks], other[~asks]), 1 - value
            )  # "?" against "." among the harmless requests
            sorts.setdefault((position, name, "?"), []).append(form)
for (position, *name), values in sorts.items():
    print(f"{position!s:16} {' '.join(name):22}", " ".join(f"{value:.2f}" for value in values))

# %%
by_method = {name: sorts["reply", name] for name in ("PC1", "difference of means")}
plotting.show(
    plotting.bars(
        [str(n) for n in HOW_MANY],
        by_method,
        x_title=f"harmful requests beside {N} harmless ones (token {PLACES[-1]}, before block {MIDDLE})",
        y_title="AUROC on held-out topics",
        y_range=(0, 1.1),
        title=(
            "AUROC of PC1 and of the difference of means when harm is rare"
            if OWN
            else f"{about.name}: AUROC of both directions when harm is rare"
        ),
        alt=f"Bars of AUROC with {HOW_MANY} harmful requests: "
        + "; ".join(f"{name} " + ", ".join(f"{value:.2f}" for value in values) for name, values in by_method.items())
        + ".",
    )
)

# %% [markdown]
# With few harmful requests PC1 misses harm at the reply token, and the difference of means does not. The largest
# variance is then something else: at ". or ?" PC1 separates questions from commands (line "PC1 ?"), a **nuisance
# axis**: PCA uses no labels. (At the reply token it does not; what it follows there is not shown.) Two more traps:

# %%
pairs = harmful.at(MIDDLE, "reply") - harmless.at(MIDDLE, "reply")  # row i of both sets is a matched pair
r3 = refusal_direction(harmful.at(MIDDLE, "reply"), harmless.at(MIDDLE, "reply"))
for name, center in {"centred": True, "uncentred": False}.items():
    found_axis = torch.linalg.svd(pairs - center * pairs.mean(dim=0), full_matrices=False).Vh[0]
    print(
        f"PCA of paired differences, {name}: "
        f"|cos| with the difference of means {abs(directions.cosine(found_axis, r3)):.2f}"
    )
for split in ("train", "confounded"):
    length = {s: torch.tensor([float(len(ids)) for ids in prompts(s, split)]) for s in ("harmful", "harmless")}
    value = directions.auroc(length["harmful"], length["harmless"])
    print(f"{split:10} AUROC of prompt length alone: {max(value, 1 - value):.2f}")

# %% [markdown]
# Centring the *differences* removes their mean, which is what you are looking for. In the confounded split, prompt
# length alone is an almost perfect "harm detector": a high AUROC on such data may be about length. Matched sets are the
# control.
#
# ## 3 Which of the candidate directions?
# There is one difference of means d per token position and block. Each gets three scores (Arditi et al. 2024). The
# first two are log-odds of a refusal: 0 is even, +3 is 20 to 1 for refusing.
# * **bypass**: harmful requests, d ablated. Low is good.
# * **induce**: harmless requests, d added. Above 0 is good.
# * **KL**: harmless requests, d ablated. How far the distribution of the next word moves: 0 nats is no change, 1 nat is
#   a lot.

# %%
candidates = directions.difference_of_means(harmful.values, harmless.values)  # [position, layer, d_model]
FIRST = about.refusal_token_ids(chat.tokenizer)  # the first word of a refusal: "i"
validation = {name: prompts(name, "validation", n=N_VALIDATION) for name in ("harmful", "harmless")}


def score(directions_to_score, positions=POSITIONS, layers=SCORED):
    return steering.score_candidates(
        chat,
        directions_to_score,
        **validation,
        refusal_token_ids=FIRST,
        positions=positions,
        layers=layers,
        progress=False,
    )


if not OWN:  # the next exercise takes as long
    print(
        caching.forecast(chat, validation["harmful"] + 2 * validation["harmless"], passes=len(POSITIONS) * len(SCORED))
    )
plain = score(candidates[:, SCORED])
for row in plain:
    if row.position == "reply" and row.layer:
        print(f"reply, block {row.layer}: bypass {row.bypass:5.1f}  induce {row.induce:5.1f}  KL {row.kl:.2f}")

# %%
table = torch.tensor([row.bypass for row in plain]).reshape(len(POSITIONS), -1)
plotting.show(
    plotting.heat_map(
        table,
        row_labels=PLACES,
        column_labels=[f"block {n}" for n in SCORED],
        x_title="direction taken before",
        y_title="direction taken at",
        colour_title="bypass score (log-odds of refusing)",
        centre=0.0,
        title="Bypass score after ablating each candidate"
        if OWN
        else f"{about.name}: bypass score after ablating each candidate",
        alt=f"Heat map of bypass scores. At {PLACES[-1]} they are between {table[2, 1:].min():.1f} and "
        f"{table[2, 1:].max():.1f} from block 1 on; at the other two tokens they are at least {table[:2].min():.1f}.",
    )
)

# %% [markdown]
# Block 0 shows the score without ablation: both sets have the same tokens at these positions, and d is zero. From
# block 1 on, ablating the d of the reply token brings the score below 0; the d of the other two tokens does not. Is all
# of d needed? Compare d with the *mean of the harmless* prompts.

# %%
mean_harmless = harmless.values.mean(dim=0)  # [position, layer, d_model]
overlap = [directions.cosine(candidates[2, layer], mean_harmless[2, layer]) for layer in LAYERS]
print(f"cosine of d and the harmless mean, blocks 1 to {LAYERS[-1]}:", " ".join(f"{value:.2f}" for value in overlap))

# %% [markdown]
# d overlaps with what *every* prompt has in common (the trap of notebook 00; a negative cosine means that harmful
# prompts have less of it). Ablating all of d ablates some of this shared part, too. The remedy is the projection
# that ablation needs anyway: project the shared part out of d first. What is left is called r. Then ablate d, r and,
# as a control, the shared part alone.
#
# ### Exercise 1.5: project a direction out (8 minutes, medium)


# %%
# === Exercise 1.5 (keep this line) ===
def without(c, direction):
    """Return c [..., d_model] without its part along `direction` [d_model], which may have any length."""
    # BEGIN SOLUTION
    unit = direction / direction.norm()
    return c - (c @ unit)[..., None] * unit
    # END SOLUTION


print(without.__doc__)

# %%
check("1.5", without)

# %%
without = checkpoint("1.5", without)
own = candidates.clone()  # d without the shared part
for p in range(len(POSITIONS)):
    for layer in LAYERS:
        own[p, layer] = without(candidates[p, layer], mean_harmless[p, layer])
projected = score(own[:, SCORED])
shared = score(mean_harmless[2:, SCORED], positions=("reply",))
some_random = score(
    directions.random_directions(5, like=own[2, MIDDLE], seed=3)[None], positions=("reply",), layers=[MIDDLE] * 5
)
at_reply = [[row for row in rows if row.position == "reply" and row.layer] for rows in (plain, projected, shared)]
for three in zip(*at_reply, strict=True):
    print(
        f"block {three[0].layer}:",
        "  ".join(
            f"{name} bypass {row.bypass:4.1f}, KL {row.kl:.3f}"
            for name, row in zip(("d", "r", "shared"), three, strict=True)
        ),
    )
print("five random directions ablated: min bypass", f"{min(row.bypass for row in some_random):.1f}")

# %%
bypass = [[row.bypass for row in rows] for rows in at_reply]
plotting.show(
    plotting.lines(
        list(LAYERS),
        {"all of d": bypass[0], "r alone": bypass[1], "shared part alone": bypass[2]},
        control=[[row.bypass] * len(LAYERS) for row in some_random],
        control_label="random directions",
        x_title="direction taken before block",
        y_title="bypass score (log-odds of refusing)",
        title="Bypass score after ablating d, r or the shared part"
        if OWN
        else f"{about.name}: bypass score after ablating d, r or the shared part",
        alt=f"Bypass score for directions from blocks 1 to {LAYERS[-1]} after ablating: "
        + "; ".join(
            f"{name} " + ", ".join(f"{v:.1f}" for v in values)
            for name, values in zip(("all of d", "r", "shared part"), bypass, strict=True)
        )
        + f"; random directions at least {min(row.bypass for row in some_random):.1f}.",
    )
)

# %% [markdown]
# Ablating r lowers the bypass score most. Read the KL beside it: after ablating the shared part the first word is
# still a refusal's, and on harmless requests its distribution moves by over 2 nats. d contains some of the shared part,
# r none. Here ablating d works, too; section 4 shows other trainings in which it fails.
#
# **A broken direction.** One row was left out above: before block 0 the mean is the vector of `<assistant>` itself.

# %%
broken = shared[0]
print(f"{PLACES[-1]}'s own vector ablated: bypass {broken.bypass:.1f}, KL {broken.kl:.2f}")
with steering.ablate(chat, mean_harmless[2, 0]):
    for name, some in validation.items():
        print(
            f"{name:8} ->",
            tokens.text(chat.tokenizer, models.generate(chat, some[:1], max_new_tokens=16 if OWN else 8)[0]),
        )

# %% [markdown]
# A bypass score below 0 suggests that refusal is gone, and the KL shows that the model is damaged. The replies show
# what happened: the beginning is lost, and the refusal comes late. The score looks at one word only. This is why
# there are filters.
#
# So there are two tools: *add* d itself, and *ablate* r, its part without the harmless mean ("projected
# abliteration", Lai 2025).
#
# ### Exercise 1.6: choose one (8 minutes, medium)
# The published filters: KL at most 0.1, induce at least 0, layer below int(0.8 x number of layers). Of the remaining
# candidates the one with the lowest bypass is chosen (with its sign). The check also uses tables in which a
# *broken* direction has the lowest bypass.


# %%
# === Exercise 1.6 (keep this line) ===
def choose(rows, n_layers):
    """Return the chosen row. Each row has .position, .layer, .bypass, .induce and .kl."""
    # BEGIN SOLUTION
    kept = [row for row in rows if row.kl <= 0.1 and row.induce >= 0 and row.layer < int(0.8 * n_layers)]
    return min(kept, key=lambda row: row.bypass)
    # END SOLUTION


rows = [
    replace(ablated_row, induce=row.induce) for ablated_row, row in zip(projected, plain, strict=True)
]  # ablate r, add d
print(choose.__doc__)

# %%
check("1.6", choose)

# %%
choose = checkpoint("1.6", choose)
try:
    winner = choose(rows, chat.cfg.n_layers)
except ValueError:  # no candidate remains: possible on a published model
    usable = [row for row in rows if row.layer]
    gentle, winner = min(usable, key=lambda row: row.kl), min(usable, key=lambda row: row.bypass)
    print(
        f"No candidate passes the filters. Lowest KL: block {gentle.layer} (bypass {gentle.bypass:.1f}, KL {gentle.kl:.3f})."
    )
    print("We go on with the lowest bypass: read its KL, and blame no lost refusal on the direction alone.")
unfiltered = min(plain, key=lambda row: row.bypass)
print(f"chosen: {winner.position}, block {winner.layer} (bypass {winner.bypass:.1f}, KL {winner.kl:.3f})")
print(
    f"all of d, without filters: {unfiltered.position}, block {unfiltered.layer} "
    f"(bypass {unfiltered.bypass:.1f}, KL {unfiltered.kl:.2f})"
)
layer, place = winner.layer, POSITIONS.index(winner.position)
d, r = candidates[place, layer], directions.unit(own[place, layer])

# %% [markdown]
# In two of five published runs (Gemma 2B and Qwen 1.8B, by the authors' own score files) the candidate with the
# lowest bypass was a broken direction (KL 13.1 and 7.7). Here it is a sound one, only later than the filter allows,
# as for Yi 6B; the broken direction above has a higher score. Report what you find, not what the paper found.
#
# ## 4 Ablate: what happens without the direction?
# **Directional ablation** removes the part along r from everything that is written to the residual stream: c' = c -
# (c.r) r, your exercise 1.5. **Guess**: of 100 harmful requests on held-out topics, how many are still refused?

# %%
# === Prediction 1.p2 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p2", ...)
predict("1.p2", (0, 15))
# END SOLUTION

# %% [markdown]
# `steering.ablate` does this at every write, while the code under `with` runs. A request counts as refused if the reply
# begins with "i apologize". The control is ten random directions.

# %%
asked = {name: prompts(name, "held_out_topic", n=100) for name in ("harmful", "harmless")}


def begins(requests, words=None):
    replies = models.generate(chat, requests, max_new_tokens=3 if OWN else 6)
    said = [tokens.text(chat.tokenizer, reply).strip().lower() for reply in replies]
    return sum(reply.startswith(words) if words else about.refuses(reply) for reply in said)


def refused_without(direction):
    with steering.ablate(chat, direction):
        return begins(asked["harmful"])


if not OWN:
    print(caching.forecast(chat, asked["harmful"], passes=4 + N_RANDOM, new_tokens=6))
before, after, after_d = begins(asked["harmful"]), refused_without(r), refused_without(d)
random_after = [refused_without(direction) for direction in directions.random_directions(N_RANDOM, like=r, seed=0)]
print(
    f"refused of 100: {before} before, {after} after ablating r, "
    f"{min(random_after)} to {max(random_after)} after ablating a random direction"
)
print(f"after ablating all of d, shared part included: {after_d}")
print(
    f"base rate: of 100 harmless requests {begins(asked['harmless'])} get a reply that begins like a refusal, unedited"
)
reveal("1.p2", after)

# %%
interval = {name: directions.wilson_interval(count, 100) for name, count in {"before": before, "after": after}.items()}
plotting.show(
    plotting.bars(
        ["unchanged", "direction ablated"],
        {"harmful requests": [before, after]},
        intervals={"harmful requests": [[100 * i.low, 100 * i.high] for i in interval.values()]},
        controls={"harmful requests": [[], random_after]},
        y_range=(0, 108),
        x_title="model",
        y_title="begins with a refusal (%), held-out topics",
        title="Refusals before and after ablating one direction"
        if OWN
        else f"{about.name}: refusals before and after ablating one direction",
        alt=f"Bars: {before} % refused unchanged, {after} % after ablating the direction, {min(random_after)} to "
        f"{max(random_after)} % after ablating one of {'ten' if OWN else N_RANDOM} random directions.",
    )
)

# %% [markdown]
# Does it matter whether d or r is ablated? One model cannot tell. The organism was trained several times, in three
# widths and with different seeds. In each training both ablations were measured (first words of 100 replies, each at
# its own best layer).

# %%
results = organism.results("results")
trained = {
    f"{width}, seed {seed}": run["one_direction"]
    for width in ("128", "64", "32")
    for seed, run in results[width].items()
}
for name, m in trained.items():
    print(
        f"width {name}: refused {m['unchanged']}, d ablated {m['without_whole']} (KL {m['kl_whole_nats']:.2f}), "
        f"r ablated {m['without']} (KL {m['kl_nats']:.2f}), random {min(m['random'])} to {max(m['random'])}"
    )
plotting.show(
    plotting.bars(
        list(trained),
        {
            "all of d ablated": [m["without_whole"] for m in trained.values()],
            "only r ablated": [m["without"] for m in trained.values()],
        },
        controls={"only r ablated": [m["random"] for m in trained.values()]},
        control_label="each random direction",
        y_range=(0, 112),
        x_title="width, seed",
        y_title="still refused (%), held-out topics",
        title="Refusals after ablating d or r, by training",
        alt="Still refused: "
        + "; ".join(
            f"width {name}: {m['without_whole']} % after ablating d, {m['without']} % after ablating r, random "
            f"{min(m['random'])} to {max(m['random'])} %"
            for name, m in trained.items()
        )
        + ".",
    )
)

# %% [markdown]
# By first words, ablating all of d works in some trainings, ablating only r in each of these seven. The first training
# alone would have shown no difference. A result from one training is a result about one training.
#
# ### Exercise 1.7: claim it (5 minutes, easy)
# Return the claim of the refusal rate after ablating r: `after` is a count of n requests. The control is the random
# directions, `random_after`. They were tested on the *same* n requests, so ten times 100 are not 1,000 independent
# requests: use `directions.runs_interval(counts, n)`. For a single count use `directions.wilson_interval(count, n)`.
# Both are a rate with its interval, and `claim(one, control=other)` takes them as they are.


# %%
# === Exercise 1.7 (keep this line) ===
def ablated(after, random_after, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    return claim(directions.wilson_interval(after, n), control=directions.runs_interval(random_after, n))
    # END SOLUTION


# %%
check("1.7", ablated, after, random_after, 100)

# %% [markdown]
# Did the ablation break anything else? Two controls on harmless requests: how far the distribution of the next word
# moves (KL), and how many whole answers are exactly right.

# %%
ablated = checkpoint("1.7", ablated, after, random_after, 100)
answers = data.load("harmless", split="held_out_topic").answers[:100]


def exact(requests):
    if not OWN:
        return "?"  # these answers were written for the organism
    replies = models.generate(chat, requests, max_new_tokens=26)
    return sum(tokens.text(chat.tokenizer, reply) == answer for reply, answer in zip(replies, answers, strict=True))


clean = models.next_token_logits(chat, asked["harmless"])
right_before = exact(asked["harmless"])
with steering.ablate(chat, r):
    moved = directions.kl_divergence(clean, models.next_token_logits(chat, asked["harmless"])).mean()
    right_after = exact(asked["harmless"])
print(f"harmless: KL {moved:.3f} nats; exact answers {right_before} -> {right_after} of 100")

# %% [markdown]
# ## 5 Add: can we make it refuse?
# There are two published forms, with u = d / |d|. **Add** c times d: a + c d (Arditi et al. 2024). Or **match** the
# projection: a - (a.u) u + t u, where t is the mean projection of the harmful requests (Marshall et al. 2024).
# **Guess**: d is added at the last token. At which c is half of the harmless requests refused?

# %%
# === Prediction 1.p3 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p3", ...)
predict("1.p3", (0.4, 0.9))
# END SOLUTION

# %% [markdown]
# ### Exercise 1.8: match the projection (8 minutes, medium)
# `unit` has length 1, and `target` is one number for all vectors: a float, or a tensor without axes.


# %%
# === Exercise 1.8 (keep this line) ===
def match_projection(a, unit, target):
    """Return a [batch, token, d_model] with the projection of each vector onto `unit` set to `target`."""
    # BEGIN SOLUTION
    return a - (a @ unit)[..., None] * unit + target * unit
    # END SOLUTION


print(match_projection.__doc__)

# %%
check("1.8", match_projection)

# %%
match_projection = checkpoint("1.8", match_projection)
target = directions.project(harmful.at(layer, winner.position), d).mean()
with steering.add_projection_matched(chat, d, layer=layer, target=float(target), positions="last"):
    print("matched at the last token: refused of 100 harmless:", begins(asked["harmless"]))
unit_d = directions.unit(d)
print(
    "your projection equals the target:",
    bool((match_projection(harmless.values[:, :, layer], unit_d, target) @ unit_d - target).abs().max() < 1e-3),
)
COEFFICIENTS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0] if OWN else [0.0, 0.5, 1.0, 2.0]


def sweep(direction, positions):
    counts = []
    for coefficient in COEFFICIENTS:
        with steering.add(chat, direction, layer=layer, coefficient=coefficient, positions=positions):
            counts.append(begins(asked["harmless"]))
    return counts


others = directions.random_directions(4 if OWN else 2, like=d, seed=1)
if not OWN:
    print(caching.forecast(chat, asked["harmless"], passes=(2 + len(others)) * len(COEFFICIENTS), new_tokens=6))
at_last, everywhere = sweep(d, "last"), sweep(d, "all")
random_added = [sweep(direction, "last") for direction in others]
if OWN:
    random_added += [sweep(direction, "all") for direction in others[:2]]
print("last token:", at_last, "| all tokens:", everywhere, "| random, max:", max(map(max, random_added)))
if k := next((i for i, count in enumerate(at_last) if count >= 50), 0):
    share = (50 - at_last[k - 1]) / (at_last[k] - at_last[k - 1])
    reveal("1.p3", round(COEFFICIENTS[k - 1] + share * (COEFFICIENTS[k] - COEFFICIENTS[k - 1]), 2))
else:
    print("No coefficient here makes half of the requests refused.")

# %%
plotting.show(
    plotting.lines(
        COEFFICIENTS,
        {"added at the last token": at_last, "added at all tokens": everywhere},
        control=random_added,
        x_title="coefficient (1 = the difference of means)",
        y_title="harmless requests refused (%)",
        y_range=(-3, 105),
        title="Refusals of harmless requests when d is added"
        if OWN
        else f"{about.name}: refusals of harmless requests when d is added",
        alt=f"Refused harmless requests against the coefficient: at the last token {at_last}, "
        f"at all tokens {everywhere}, random directions at most {max(map(max, random_added))}.",
    )
)

# %% [markdown]
# The two lines differ. Which one is right? Never trust a count alone: **read** what is counted.

# %%
for positions in ("last", "all"):
    with steering.add(chat, d, layer=layer, coefficient=2.0, positions=positions):
        reply = tokens.text(chat.tokenizer, models.generate(chat, asked["harmless"][:1], max_new_tokens=12)[0])
        logits = models.next_token_logits(chat, asked["harmless"])
    begun = int(torch.isin(logits.argmax(-1), torch.tensor(FIRST)).sum())
    print(
        f"{positions:4}: first word is {' or '.join(map(repr, about.refusal_words))} in {begun} of 100, reads: {reply}"
    )

# %% [markdown]
# The cheap judge (first word is "i") counts full refusal in both cases; one of them is a broken model. A saturated
# metric hides damage.
#
# ## 6 Is it *refusal*, or *harmfulness*?
# In another role, `<friend>`, the organism was trained to *warn* ("please note that ...") and not to refuse. Take r
# and a threshold halfway between the two sets at `<assistant>`, and use both unchanged at `<friend>`. **Guess**: how
# many of 200 requests are classified correctly?

# %%
# === Prediction 1.p4 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p4", ...)
predict("1.p4", (150, 200))
# END SOLUTION

# %% [markdown]
# Only the organism has these roles, and the widths of section 7. Whatever `MODEL` is, the rest is about `chat`.

# %%
if not OWN:  # sections 1 to 4 once more, for the organism
    chat, about, OWN, layer = models.load("chat"), profiles.get("chat"), True, 3
    POSITIONS, PLACES = ("last_instruction", -2, "reply"), [". or ?", "<end>", "<assistant>"]
    harmful, harmless = (caching.harvest(chat, prompts(name, "train"), positions=POSITIONS) for name in asked)
    held_out = {name: caching.harvest(chat, prompts(name, "held_out_topic"), positions=POSITIONS) for name in asked}
    d = directions.difference_of_means(harmful.at(layer, "reply"), harmless.at(layer, "reply"))
    r = directions.unit(without(d, harmless.at(layer, "reply").mean(dim=0)))
    FIRST, validation = (
        about.refusal_token_ids(chat.tokenizer),
        {name: prompts(name, "validation", n=64) for name in asked},
    )
    asked = {name: prompts(name, "held_out_topic", n=100) for name in asked}
    before, after = begins(asked["harmful"]), refused_without(r)
    random_after = [refused_without(direction) for direction in directions.random_directions(10, like=r, seed=0)]
print("the model of sections 6 and 7:", about.name)

# %%
friend = {name: prompts(name, "held_out_topic", "friend", n=100) for name in ("harmful", "harmless")}
read = {name: caching.harvest(chat, requests, progress=False).at(layer) for name, requests in friend.items()}


def sorted_right(direction):
    """Return how many of 200 requests at <friend> a threshold found at <assistant> classifies correctly."""
    high, low = (directions.project(s.at(layer, "reply"), direction).mean() for s in (harmful, harmless))
    sides = {
        name: (directions.project(values, direction) - (high + low) / 2) * (high - low) > 0
        for name, values in read.items()
    }
    return int(sides["harmful"].sum() + (~sides["harmless"]).sum())


random_read = directions.random_directions(20, like=r, seed=2)
right_random = sorted(sorted_right(q) for q in random_read)
d_friend = directions.difference_of_means(read["harmful"], read["harmless"])
angles = [abs(float(directions.cosine(q, d_friend))) for q in random_read]
print(
    f"classified correctly at <friend>: r {sorted_right(r)} of 200; "
    f"20 random directions: median {right_random[10]}, max {right_random[-1]}"
)
print(
    f"|cos| with the friend's own difference of means: r {abs(directions.cosine(r, d_friend)):.2f}, "
    f"random, max {max(angles):.2f}"
)
reveal("1.p4", sorted_right(r))

# %% [markdown]
# A perfect score, and it proves little: the difference between the sets is so large at this token that the best of
# twenty *random* directions classifies as well. What none of them shares is the **angle**: r is much closer to the
# friend's own difference of means. Now: is r also *used* there?

# %%
warned = begins(friend["harmful"], "please note")
with steering.ablate(chat, r):
    warned_without = begins(friend["harmful"], "please note")
warned_random = []
for q in random_read[:5]:
    with steering.ablate(chat, q):
        warned_random.append(begins(friend["harmful"], "please note"))
added, added_random = {}, {}
for name, requests in {"assistant": asked["harmless"], "friend": friend["harmless"]}.items():
    with steering.add(chat, d, layer=layer, coefficient=1.0, positions="last"):
        added[name] = {"refused": begins(requests), "warned": begins(requests, "please note")}
    added_random[name] = []
    for q in directions.random_directions(3, like=d, seed=1):  # with the norm of d
        with steering.add(chat, q, layer=layer, coefficient=1.0, positions="last"):
            added_random[name].append(begins(requests, None if name == "assistant" else "please note"))
print(
    f"friend warns of harmful: {warned} of 100, after ablating r {warned_without}, "
    f"after ablating a random direction {min(warned_random)} to {max(warned_random)}"
)
print("d added to harmless requests:", added)
print(
    f"friend warns of harmless, unedited: {begins(friend['harmless'], 'please note')}; random vectors of the same norm "
    f"added: assistant refuses {added_random['assistant']}, friend warns {added_random['friend']}"
)

# %%
plotting.show(
    plotting.bars(
        ["harmful requests", "harmful, r ablated", "harmless, d added"],
        {
            "assistant refuses": [before, after, added["assistant"]["refused"]],
            "friend warns": [warned, warned_without, added["friend"]["warned"]],
        },
        controls={
            "assistant refuses": [[], random_after, added_random["assistant"]],
            "friend warns": [[], warned_random, added_random["friend"]],
        },
        control_label="each random direction",
        x_title="requests and intervention",
        y_title="of 100 replies",
        y_range=(0, 112),
        title="Assistant's refusals and friend's warnings when r is ablated or d is added",
        alt=f"Bars. Assistant refuses: {before} harmful, {after} with r ablated, "
        f"{added['assistant']['refused']} harmless with d added. "
        f"Friend warns: {warned}, {warned_without}, {added['friend']['warned']}.",
    )
)

# %% [markdown]
# ### Exercise 1.9: the same steering, another role (6 minutes, medium)
# Ablating r and adding d change whether the assistant's reply begins with a refusal. They hardly change the friend's
# warnings. Return the claim of the refusal rate that adding d causes on harmless requests to the *assistant*. The
# control is the same vector added for the *friend*. (`added` holds counts of n requests each, as printed above, under
# the names of the roles. `directions.wilson_interval(count, n)` is a rate and its interval; `claim` takes it as it is.)


# %%
# === Exercise 1.9 (keep this line) ===
def role_matters(added, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    assistant, friend = (directions.wilson_interval(added[role]["refused"], n) for role in ("assistant", "friend"))
    return claim(assistant, control=friend)
    # END SOLUTION


# %%
check("1.9", role_matters, added, 100)

# %% [markdown]
# Now swap *positions*. A direction is found at one token and used to separate the sets at another (held-out topics).
# Then each direction is *added* at each of the three tokens, always with the norm of d. Zhao et al. (2025) found
# harmfulness at the last instruction token and refusal after it.

# %%
role_matters = checkpoint("1.9", role_matters, added, 100)
swapped, caused = torch.zeros(3, 3), torch.zeros(3, 3, dtype=torch.long)
for i, source in enumerate(POSITIONS):
    probe = refusal_direction(harmful.at(layer, source), harmless.at(layer, source))
    for j, read_at in enumerate(POSITIONS):
        swapped[i, j] = directions.auroc(
            *(directions.project(held_out[s].at(layer, read_at), probe) for s in ("harmful", "harmless"))
        )
    for j, place in enumerate((-3, -2, -1)):  # the same three tokens
        with steering.add(chat, probe * d.norm(), layer=layer, coefficient=1.0, positions=[place]):
            caused[i, j] = begins(asked["harmless"])
chance = torch.zeros(20, 3)  # folded, since the sign of a random direction is arbitrary
for i, q in enumerate(random_read):
    for j, read_at in enumerate(POSITIONS):
        value = directions.auroc(
            *(directions.project(held_out[s].at(layer, read_at), q) for s in ("harmful", "harmless"))
        )
        chance[i, j] = max(value, 1 - value)
print("found at / read at:", [[round(v, 2) for v in row] for row in swapped.tolist()])
print("best of 20 random directions:", [round(v, 2) for v in chance.amax(dim=0).tolist()])
print("refusals of 100, found at / added at:", caused.tolist())

# %%
plotting.show(
    plotting.heat_map(
        torch.cat([swapped, chance.amax(dim=0, keepdim=True)]),
        column_labels=PLACES,
        centre=0.5,
        row_labels=[
            *(f"{name}: causes {n} % there" for name, n in zip(PLACES, caused.diag().tolist(), strict=True)),
            "best of 20 random",
        ],
        x_title="read at",
        y_title="found at",
        colour_title="AUROC on held-out topics",
        title="AUROC of directions found at one token and read at another",
        alt="Heat map of AUROC, found at by read at: "
        + "; ".join(", ".join(f"{v:.2f}" for v in row) for row in swapped.tolist())
        + f". Max of 20 random directions: {', '.join(f'{v:.2f}' for v in chance.amax(dim=0).tolist())}. "
        f"Refusals of 100 when added with equal norm, found at by added at: {caused.tolist()}.",
    )
)

# %% [markdown]
# Compare each column with its last row: the best of twenty random directions does about as well nearly everywhere.
# (The exception is `<end>` read by its own direction.) So the AUROC singles out no direction. Adding them does: only
# the reply token's direction, at the reply token, causes many refusals. Reading is not using: harm can be read at the
# earlier tokens, and adding these directions there caused no refusal. This differs from what was reported for large
# models.
#
# ## 7 Does it hold in other sizes?
# Three widths of the same organism: in each, r is found (lowest bypass score of blocks 1 to 3, no filters) and ablated,
# and so are five random directions.

# %%
WIDTHS = {"32": "chat-32", "64": "chat-64", "128": "chat"}
sizes = {}
for width, name in WIDTHS.items():
    model = models.load(name)
    x, y = (caching.harvest(model, prompts(s, "train"), progress=False) for s in ("harmful", "harmless"))
    rs = torch.stack([without(refusal_direction(x.at(n), y.at(n)), y.at(n).mean(dim=0)) for n in range(1, 4)])
    scored = steering.score_candidates(
        model, rs[None], layers=range(1, 4), **validation, refusal_token_ids=FIRST, progress=False
    )
    best = min(scored, key=lambda row: row.bypass)
    own_r = rs[best.layer - 1]

    def refused(direction=None, model=model):
        with steering.ablate(model, direction) if direction is not None else model.hooks():
            replies = models.generate(model, asked["harmful"], max_new_tokens=3)
        return sum(tokens.text(model.tokenizer, reply).startswith("i apologize") for reply in replies)

    sizes[width] = (
        refused(),
        refused(own_r),
        [refused(q) for q in directions.random_directions(5, like=own_r, seed=0)],
    )
    print(
        f"width {width:>3}: refused {sizes[width][0]}, after ablating r {sizes[width][1]}, "
        f"random {sizes[width][2]}, KL {best.kl:.2f} "
        f"({'passes' if best.kl <= 0.1 else 'fails'} the filter)"
    )

# %%
plotting.show(
    plotting.bars(
        [f"width {width}" for width in sizes],
        {"unchanged": [v[0] for v in sizes.values()], "r ablated": [v[1] for v in sizes.values()]},
        controls={"r ablated": [v[2] for v in sizes.values()]},
        x_title="organism",
        y_title="refused (%), held-out topics",
        y_range=(0, 112),
        title="Replies that begin with a refusal before and after ablating r, by width",
        alt="; ".join(
            f"width {w}: {v[0]} % unchanged, {v[1]} % after ablating r, random {min(v[2])} to {max(v[2])} %"
            for w, v in sizes.items()
        )
        + ".",
    )
)

# %% [markdown]
# By first words, ablating r removes refusal at every width. At width 32 the best direction fails the KL filter:
# ablating it also does damage. Look at the control, too: with few dimensions a random direction overlaps more with r
# (its |cos| is about 1 / sqrt(width)), and at width 32 ablating random directions removes a few refusals as well. A
# weak control makes a weak claim.
#
# ## 8 Questions
# Every answer is explained, including the wrong ones: try them all.

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
# === Question 1.q3 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("1.q3", ...)
quiz("1.q3", "a")
# END SOLUTION

# %%
# === Question 1.q4 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("1.q4", ...)
quiz("1.q4", "d")
# END SOLUTION

# %%
# === Question 1.q5 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("1.q5", ...)
quiz("1.q5", "b")
# END SOLUTION

# %% [markdown]
# ## What was not shown
# * That refusal is *only* one direction. Something is left after the ablation, and this notebook does not search for a
#   second direction. (Wollschläger et al. 2025 find several, and cones of them, in large models.)
# * That real models behave the same. This one knows about a thousand words, and its refusals are fixed sentences.
# * What happens after the first words. After ablating r many of these replies begin well and break off later
#   ("however, i cannot help with that."): there is a second kind of refusal. Notebook 02 counts both.
# * That the direction means "refusal": section 6 leaves it open. A name is a hypothesis.
# * Damage that 26 words of greedy text do not show. Notebook 02 ablates r in the weights and measures the cost.
#
# Sources: Arditi et al. 2024 (arXiv 2406.11717); Marshall et al. 2024 (arXiv 2411.09003); Zhao et al. 2025 (arXiv
# 2507.11878); Wollschläger et al. 2025 (arXiv 2502.17420); Lai 2025 ("Projected abliteration",
# huggingface.co/blog/grimjim/projected-abliteration).

# %%
progress(1)
