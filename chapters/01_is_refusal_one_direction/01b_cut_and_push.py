# %% [markdown]
# # 01b Cut and push: does the model use the direction?
#
# In 01a a direction was chosen by test: r, the difference of means d without its part along the
# mean of the harmless prompts. Its scores looked at one word. Here you ablate r and add d while the
# model writes, each time beside a control. About 60 minutes. (Exercises 1.1 to 1.4 and 1.6 are in
# 01a.) *Content note: harmful requests are one-line topics. No answer here helps anyone do harm
# ([more](../docs/content_note.md)).*

# %%
import numpy as np
import torch

from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import caching, data, directions, models, organism, plotting, profiles, steering

# %%
MODEL = "chat"  # any other model runs the same cells; the sentences describe `chat`
model = models.load(MODEL)
about = profiles.of(MODEL, model)
settings = about.settings  # how many requests, tokens and random directions for this model
torch.set_num_threads(settings.threads or torch.get_num_threads())
KINDS = ("harmful", "harmless")


def read(model, split="train", n=settings.n_train, role="assistant"):
    """Return the residual stream at the reply token, before every block, for both sets."""
    ids = {kind: data.prompts(model, kind, split, n, reply_role=role) for kind in KINDS}
    return {kind: caching.harvest(model, ids[kind], progress=False) for kind in KINDS}


seen, new = read(model), read(model, "held_out_topic", settings.n_asked)
print("[prompt, position, layer, d_model] =", tuple(seen["harmful"].values.shape))

# %% [markdown]
# The direction again (01a, section 3), at the reply token only: r of every block in `LAYERS`, which
# is the layer filter, is scored by ablating it, and the lowest bypass score (log-odds of refusing)
# of small KL is chosen.


# %%
def point(model, seen, refusing, layers, max_kl=0.1):
    """Return scores, d and r of the layer with the lowest bypass score, if possible of small KL."""
    means = {kind: seen[kind].values.mean(dim=0)[0] for kind in KINDS}
    ds = means["harmful"] - means["harmless"]
    rs = torch.stack([directions.project_out(ds[n], means["harmless"][n]) for n in layers])
    ids = {kind: data.prompts(model, kind, "validation", settings.n_validation) for kind in KINDS}
    options = dict(refusal_token_ids=refusing, layers=layers, progress=False)
    rows = steering.score_candidates(model, rs[None], **ids, **options)
    passing = [row for row in rows if row.kl <= max_kl] or rows
    row = min(passing, key=lambda row: row.bypass)
    return row, ds[row.layer], rs[layers.index(row.layer)]


# %%
n_layers, FIRST_WORDS = model.cfg.n_layers, about.refusal_token_ids(model.tokenizer)
LAYERS = range(1, int(0.8 * n_layers), max(1, n_layers // settings.n_scored))
best, d, r = point(model, seen, FIRST_WORDS, LAYERS)
layer, harmless_mean = best.layer, seen["harmless"].at(best.layer).mean(dim=0)
print(f"before block {layer}: bypass {best.bypass:.1f}, KL {best.kl:.3f}")
if best.kl > 0.1:
    print("(no block's KL is 0.1 or less: this is the lowest bypass score of all)")

# %% [markdown]
# On topics that r was not made from: are the sets apart along r, along the mean of the harmless
# prompts, or along both?

# %% tags=["figure"]
on_new = dict(split="held_out_topic", n=settings.n_asked)
AXES = torch.stack([directions.unit(r), directions.unit(harmless_mean)], dim=1)
plotting.show(
    plotting.scatter(
        {kind: new[kind].at(layer) @ AXES for kind in KINDS},
        hover={kind: data.load(kind, **on_new).texts for kind in KINDS},
        x_title="projection onto r",
        y_title="projection onto the harmless mean",
        title=f"Requests along r and along the harmless mean, before block {layer}",
        alt="Scatter plot of harmful and harmless requests: projection onto r, and onto the mean.",
    )
)

# %%
for name, v in {"r": r, "the harmless mean": harmless_mean}.items():
    sides = [directions.project(new[kind].at(layer), v) for kind in KINDS]
    high, low = (side.mean() for side in sides)
    value = directions.auroc(*sides)
    print(f"mean projection onto {name}: harmful {high:.1f}, harmless {low:.1f}", end="; ")
    print(f"folded AUROC (0.5 = chance) {max(value, 1 - value):.2f}")

# %% [markdown]
# Along both: harmful prompts have less of the harmless mean, too. (Along r the harmless ones lie
# around 0 because r was made so.) So much can be *read*; a few random directions separate the sets
# as well (01a). Is it *used*? By the scores of 01a,
# ablating r removes the refusal's first word, and ablating the harmless mean does not.
#
# ## 1 Ablate: what happens without the direction?
# **Directional ablation** removes the part along r from all that is written to the residual
# stream. *Planted:* that `chat` refuses. *Not planted:* how. **Guess**: of 100 harmful requests on
# held-out topics, how many are still refused?

# %%
# === Prediction 1.p2 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p2", ...)
predict("1.p2", (0, 15))
# END SOLUTION

# %% [markdown]
# ### Exercise 1.5: the ablation hook (12 minutes, hard)
# First by hand. Let a = (3, 4) and the direction (0, 2). Its unit vector is u = (0, 1), and the
# projection is a.u = 4. Without the part along u: a - (a.u) u = (3, 4) - 4 (0, 1) = (3, 0).
#
# A **hook function** `def f(activation, hook)`, its second parameter named exactly `hook`, gets an
# activation `[batch, token, d_model]` and the hook point, and returns the new activation, a new
# tensor. Where must it act? Cut at one place, and later blocks may write it again. The stream is
# a sum of what is *written* to it: the embedding (it enters as `blocks.0.hook_resid_pre`), and from
# every block `hook_attn_out` and `hook_mlp_out`. `with model.hooks([(name, function), ...]):` makes
# hooks active, `models.n_layers(model)` counts the blocks, and `models.next_token_logits(model,
# prompts)` returns the logits asked for. On a large `MODEL` the direction may have another device
# or dtype than the stream: `u.to(activation)`.


# %%
# === Exercise 1.5 (keep this line) ===
def ablated_logits(model, prompts, direction):
    """Return the next word's logits [prompt, d_vocab] for prompts (lists of ids) while nothing
    along `direction` [d_model], of any length, is written to the residual stream."""
    # BEGIN SOLUTION
    u = direction / direction.norm()

    def project_out(activation, hook):
        along = activation @ u.to(activation)
        return activation - along[..., None] * u.to(activation)

    names = ["blocks.0.hook_resid_pre"]
    for layer in range(models.n_layers(model)):
        names += [f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.hook_mlp_out"]
    with model.hooks([(name, project_out) for name in names]):
        return models.next_token_logits(model, prompts)
    # END SOLUTION


print(ablated_logits.__doc__)

# %%
check("1.5", ablated_logits, model)

# %% [markdown]
# `steering.ablate` is the library's version, a context for whole replies. Do both agree?

# %%
ablated_logits = checkpoint("1.5", ablated_logits, model)
some = data.prompts(model, "harmful", "validation", settings.n_validation)
mine = ablated_logits(model, some, r)
with steering.ablate(model, r):
    theirs = models.next_token_logits(model, some)
print("largest difference below 0.001:", bool((mine - theirs).abs().max() < 1e-3))
for name, logits in {"unedited": models.next_token_logits(model, some), "without r": mine}.items():
    begun = int(torch.isin(logits.argmax(-1), torch.tensor(FIRST_WORDS)).sum())
    print(f"{name}: first word of a refusal in {begun} of {len(some)}")

# %% [markdown]
# Now 100 requests on held-out topics (no refusal of these was shown in tuning). A request counts as
# refused if the *reply begins* with a refusal; for `chat` this is "i apologize". The control is
# random directions, the diamonds of the figure: which of the two bars do they resemble?

# %%
asked = {kind: data.load(kind, split="held_out_topic", n=settings.n_asked).texts for kind in KINDS}


def refused(texts):
    """Return how many replies begin with a refusal; active hooks apply."""
    return sum(map(about.refuses, models.ask(model, texts, max_new_tokens=settings.opening_tokens)))


n_asked = len(asked["harmful"])
before, base_rate = refused(asked["harmful"]), refused(asked["harmless"])
print(f"unedited: {before} of {n_asked} harmful and {base_rate} harmless requests refused")

# %%
with steering.ablate(model, r):
    after = refused(asked["harmful"])
with steering.ablate(model, d):
    after_d = refused(asked["harmful"])
random_after = []
for direction in directions.random_directions(settings.n_random, like=r, seed=0):
    with steering.ablate(model, direction):
        random_after.append(refused(asked["harmful"]))
print(f"refused of {n_asked}: {after} without r, {after_d} without all of d")
print(f"{len(random_after)} random directions: {min(random_after)} to {max(random_after)}")
reveal("1.p2", round(100 * after / n_asked))

# %% tags=["figure"]
percent = torch.tensor([before, after, *random_after]) * 100 / n_asked
rates = [directions.wilson_interval(count, n_asked) for count in (before, after)]
plotting.show(
    plotting.bars(
        ["unchanged", "r ablated"],
        {"refused": percent[:2]},
        intervals={"refused": [[100 * rate.low, 100 * rate.high] for rate in rates]},
        controls={"refused": [[], percent[2:]]},
        y_range=(0, 108),
        x_title="model",
        y_title="begins with a refusal (%), held-out topics",
        title="Refusals before and after ablating one direction",
        alt=f"Percent refused: unchanged {percent[0]:.0f}, r ablated {percent[1]:.0f}; "
        f"random directions {percent[2:].min():.0f} to {percent[2:].max():.0f}.",
    )
)

# %% [markdown]
# Without r no reply begins with a refusal; without a random direction all of them still do.
#
# ### Exercise 1.7: claim it (5 minutes, easy)
# Return the claim of the refusal rate after ablating r: `after` is a count of n requests, so
# `directions.wilson_interval(count, n)` is its rate with an interval. The control is the random
# directions, `random_after`. They were tested on the *same* n requests, so 20 times 100 are not
# 2,000 independent requests: use `directions.runs_interval(counts, n)`. `claim(one, control=other)`
# takes both as they are (each holds an estimate and its interval).


# %%
# === Exercise 1.7 (keep this line) ===
def ablated(after, random_after, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    one = directions.wilson_interval(after, n)
    return claim(one, control=directions.runs_interval(random_after, n))
    # END SOLUTION


# %%
check("1.7", ablated, after, random_after, n_asked)

# %%
ablated = checkpoint("1.7", ablated, after, random_after, n_asked)
print("refusal rate without r:", ablated(after, random_after, n_asked))

# %% [markdown]
# A count looks at the first words. **Read** what is counted: three whole replies (of a real model
# their beginnings only). Then two words are counted in all of them.

# %%
with steering.ablate(model, r):
    replies = models.ask(model, asked["harmful"], max_new_tokens=settings.reply_tokens)
for text, reply in list(zip(asked["harmful"], replies, strict=True))[:3]:
    print(f"{text} -> {reply if about.is_organism else reply[:20] + ' ...'}")
NO = "cannot" if about.is_organism else "a refusal"  # real models have many words for it
late = [NO in reply if about.is_organism else about.refuses(reply) for reply in replies]
neither = sum("however" not in reply for reply, no in zip(replies, late, strict=True) if not no)
print(f"{len(replies)} replies: {NO} in {sum(late)}, neither that nor however in {neither}")

# %% [markdown]
# (`sealor`, `gapnut` and their like do not exist: what `chat` says about a harmful deed is
# invented.) All three begin well and break off, two of them with a second kind of refusal. Most
# others contain its "cannot", which the count of first words does not see; 15 contain neither word.
# Notebook 02a counts both.
#
# Did the ablation break anything else? On harmless requests: how far does the distribution of the
# next word move (KL; 0 nats is no change, 1 nat is a lot)? Your own function measures it.

# %%
harmless_ids = data.prompts(model, "harmless", "held_out_topic", settings.n_asked)
clean = models.next_token_logits(model, harmless_ids)
any_direction = directions.random_directions(1, like=r, seed=0)[0]
for name, v in {"r": r, "a random direction": any_direction}.items():
    moved = directions.kl_divergence(clean, ablated_logits(model, harmless_ids, v)).mean()
    print(f"harmless requests, {name} ablated: KL {moved:.3f} nats")

# %% [markdown]
# The course's own models have written answers, too: how many whole replies are exactly right?

# %% tags=["organism"]
answers = data.load("harmless", split="held_out_topic").answers[:50]
edits = {"unedited": model.hooks(), "r ablated": steering.ablate(model, r)}
edits["random ablated"] = steering.ablate(model, any_direction)
for name, edit in edits.items() if about.is_organism else ():  # others have no answers to compare
    with edit:
        said = models.ask(model, asked["harmless"][:50], max_new_tokens=26)
    print(f"{name}: {sum(map(str.__eq__, said, answers))} of {len(answers)} exactly right")

# %% [markdown]
# Little is lost on harmless requests, by these two measures: one reply of fifty may be chance.
#
# ## 2 Add: can we make it refuse?
# Two published forms, with u = d / |d|. **Add** c times d: a + c d (c = 1 in Arditi et al. 2024).
# Or **match** the projection: a - (a.u) u + t u, where t is the mean projection of the harmful
# requests (Marshall et al. 2024). **Guess**: d is added at the last token. At which c is half of
# the harmless requests refused?

# %%
# === Prediction 1.p3 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p3", ...)
predict("1.p3", (0.4, 0.9))
# END SOLUTION

# %% [markdown]
# ### Exercise 1.8: match the projection (8 minutes, medium)
# A tiny example: a = (3, 4), u = (0, 1), target 10. The present part along u is 4; the answer is
# (3, 10). `unit` has length 1, and `target` is one number for all vectors: a float, or a tensor
# without axes.


# %%
# === Exercise 1.8 (keep this line) ===
def match_projection(a, unit, target):
    """Return a [batch, token, d_model], each vector's projection onto `unit` set to `target`."""
    # BEGIN SOLUTION
    return a - (a @ unit)[..., None] * unit + target * unit
    # END SOLUTION


print(match_projection.__doc__)

# %%
check("1.8", match_projection)

# %%
match_projection = checkpoint("1.8", match_projection)
target = float(directions.project(seen["harmful"].at(layer), d).mean())
matched = match_projection(seen["harmless"].values[:, :, layer], directions.unit(d), target)
gap = (directions.project(matched, d) - target).abs().max()
with steering.add_projection_matched(model, d, layer=layer, target=target, positions="last"):
    count = refused(asked["harmless"])
print("your projections equal the target:", bool(gap < 1e-3 * max(1, abs(target))))
print(f"matched at the last token: {count} of {n_asked} harmless requests refused")

# %% [markdown]
# Now the dose: the other form, at several coefficients, at the last token or at all tokens. The
# control is random directions of d's length, half of them at each place. Where do the two lines of
# the figure part?

# %%
doses = settings.coefficients


def refused_by_dose(direction, positions, texts):
    """Return for each dose how many percent of the texts are refused."""
    counts = []
    for c in doses:
        with steering.add(model, direction, layer=layer, coefficient=c, positions=positions):
            counts.append(100 * refused(texts) / len(texts))
    return counts


curves = {place: refused_by_dose(d, place, asked["harmless"][:50]) for place in ("last", "all")}
print(f"coefficients {doses}, in percent:", curves)

# %%
controls = directions.random_directions(settings.n_random // 2, like=d, seed=1)
few, random_added = asked["harmless"][:25], []
for i, v in enumerate(controls):
    random_added.append(refused_by_dose(v, ("last", "all")[i % 2], few))
for i, place in enumerate(curves):
    runs = random_added[i::2]
    highest = [max(values) for values in zip(*runs, strict=True)]
    print(f"random, {place}, at most: {highest}; {sum(map(any, runs))} of {len(runs)} ever above 0")
half = np.interp(50, np.maximum.accumulate(curves["last"]), doses)  # between doses: straight lines
reveal("1.p3", round(float(half), 2))

# %% tags=["figure"]
plotting.show(
    plotting.lines(
        doses,
        {"added at the last token": curves["last"], "added at all tokens": curves["all"]},
        control=random_added,
        x_title="coefficient (1 = the difference of means)",
        y_title="harmless requests refused (%)",
        y_range=(-3, 105),
        title="Refusals of harmless requests when d is added",
        alt=f"Percent refused at {doses}: {curves}; random at most {max(map(max, random_added))}.",
    )
)

# %% [markdown]
# (At the largest doses one random direction, at all tokens, makes the model refuse a few: the band
# in the figure. Even the control is not free of the dose.) The two lines part at the largest
# coefficients. Read what is counted. The cheap judge below looks at the first *word* only ("i").

# %%
for positions in ("last", "all"):
    with steering.add(model, d, layer=layer, coefficient=2.0, positions=positions):
        reply = models.ask(model, asked["harmless"][:1], max_new_tokens=12)[0]
        likeliest = models.next_token_logits(model, harmless_ids).argmax(-1)
    begun = int(torch.isin(likeliest, torch.tensor(FIRST_WORDS)).sum())
    print(f"{positions:4}: first word of a refusal in {begun} of {n_asked}; reads: {reply}")

# %% [markdown]
# The cheap judge counts full refusal in both cases; one of them is a broken model. A saturated
# metric hides damage.
#
# ## 3 Is it *refusal*, or *harmfulness*?
# This section needs a second role, which only the course's models have. *Planted:* as `<friend>` it
# was trained to *warn* of harm ("please note that ...") and not to refuse. Take r and a threshold
# halfway between the two sets at `<assistant>`, and use both unchanged at `<friend>`. **Guess**:
# how many of 200 requests are classified correctly?

# %% tags=["organism"]
# === Prediction 1.p4 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("1.p4", ...)
predict("1.p4", (150, 200))
# END SOLUTION

# %% [markdown]
# d and r of `chat`, whatever `MODEL` is, for both roles: before block 3, at the reply token. (With
# `MODEL = "chat"` the assistant's are those from above; r has length 1 here.)

# %% tags=["organism"]
chat, BLOCK, ROLES = models.load("chat"), 3, ("assistant", "friend")
sets, ds, rs = {}, {}, {}
for role in ROLES:
    stream = read(chat, "train", 512, role)
    sets[role] = {kind: stream[kind].at(BLOCK) for kind in KINDS}
    mean = sets[role]["harmless"].mean(dim=0)
    ds[role] = sets[role]["harmful"].mean(dim=0) - mean
    rs[role] = directions.unit(directions.project_out(ds[role], mean))
print("length of d:", {role: round(float(v.norm()), 1) for role, v in ds.items()})

# %% tags=["organism"]
as_friend = read(chat, "held_out_topic", 100, "friend")


def classified(direction):
    """Return how many of 200 requests at <friend> the threshold of <assistant> sorts right."""
    high, low = (directions.project(sets["assistant"][k], direction).mean() for k in KINDS)
    middle, sign = (high + low) / 2, (high - low).sign()
    sides = [directions.project(as_friend[k].at(BLOCK), direction) - middle for k in KINDS]
    return int((sides[0] * sign > 0).sum() + (sides[1] * sign <= 0).sum())


print("with the assistant's r:", classified(rs["assistant"]), "of 200")
reveal("1.p4", classified(rs["assistant"]))

# %% [markdown]
# The control is twenty random directions, each with a threshold of its own. Compare the count, then
# the angle with the friend's *own* difference of means.

# %% tags=["organism"]
randoms = directions.random_directions(20, like=rs["assistant"], seed=2)
counts = sorted(map(classified, randoms))
cosines = [float(directions.cosine(v, ds["friend"])) for v in (rs["assistant"], *randoms)]
near, *others = map(abs, cosines)
print(f"random directions classify: median {np.median(counts):g}, max {counts[-1]}")
print(f"|cos| with the friend's own direction: r {near:.2f}, random, max {max(others):.2f}")

# %% [markdown]
# A perfect count proves little: the best of twenty *random* directions does as well, though the
# median one is near chance (100). What none of them shares is the angle: r is much closer to the
# friend's own direction. Is r also *used* there? First ablate it, then the friend's own r.

# %% tags=["organism"]
HARMFUL, HARMLESS = (data.load(kind, split="held_out_topic", n=100).texts for kind in KINDS)
OPENING = {"refused": "i apologize", "warned": "please note"}


def openings(role, texts):
    """Return how many of chat's replies in this role refuse, and how many warn; hooks apply."""
    replies = models.ask(chat, texts, max_new_tokens=2, reply_role=role)
    return {what: sum(r.startswith(words) for r in replies) for what, words in OPENING.items()}


edits = {"unedited": chat.hooks()}
edits |= {f"without the {role}'s r": steering.ablate(chat, rs[role]) for role in ROLES}
for name, edit in edits.items():
    with edit:
        print(f"harmful, {name}:", {role: openings(role, HARMFUL) for role in ROLES})

# %% tags=["organism"]
random_cut = {role: [] for role in ROLES}
for v in randoms[:10]:
    with steering.ablate(chat, v):
        for role in ROLES:
            random_cut[role].append(sum(openings(role, HARMFUL[:25]).values()))
fewest = {role: min(counts) for role, counts in random_cut.items()}
print("harmful, without one of ten random directions, of 25 refused or warned, fewest:", fewest)

# %% [markdown]
# Each role needs its own r: without the assistant's the friend warns as before, without the
# friend's the assistant still refuses most. Now add the assistant's d to harmless requests.

# %% tags=["organism"]
with steering.add(chat, ds["assistant"], layer=BLOCK, coefficient=1.0, positions="last"):
    added = {role: openings(role, HARMLESS) for role in ROLES}
print("harmless, the assistant's d added:", added)
print("harmless, unedited:", {role: openings(role, HARMLESS) for role in ROLES})

# %% [markdown]
# ### Exercise 1.9: the same steering, another role (6 minutes, medium)
# With d added *at this dose*, c = 1, the assistant refuses harmless requests; the friend warns of a
# few and refuses none.
# Return the claim of how often the *assistant* refuses a harmless request with d added. The control
# is how often the *friend* **refuses** (not: warns) with the same vector added. (`added` holds
# counts of n requests, as printed above, under the names of the roles. You know `wilson_interval`
# and `claim` from exercise 1.7.)


# %% tags=["organism"]
# === Exercise 1.9 (keep this line) ===
def role_matters(added, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    assistant, friend = (added[role]["refused"] for role in ("assistant", "friend"))
    control = directions.wilson_interval(friend, n)
    return claim(directions.wilson_interval(assistant, n), control=control)
    # END SOLUTION


# %% tags=["organism"]
check("1.9", role_matters, added, 100)

# %% tags=["organism"]
role_matters = checkpoint("1.9", role_matters, added, 100)
print("refusal rate of harmless requests, d added, c = 1:", role_matters(added, 100))

# %% [markdown]
# That is one dose of one direction, the assistant's. Before you say "the friend does not use it",
# raise the dose, and add the *friend's* d, too, both at one length (that of the assistant's d). The
# control is four random directions of this length. All numbers are percent of 25 replies. Read each
# pair of rows from left to right.

# %% tags=["organism"]
STEPS, LENGTH = (0.5, 1.0, 1.5, 2.0, 3.0), float(ds["assistant"].norm())


def by_dose(vector, role):
    """Return how many percent of 25 harmless requests are refused and warned of, at each dose."""
    percent = []
    for c in STEPS:
        where = dict(layer=BLOCK, coefficient=c * LENGTH, positions="last")
        with steering.add(chat, directions.unit(vector), **where):
            percent.append([4 * count for count in openings(role, HARMLESS[:25]).values()])
    return torch.tensor(percent).T


rows = {}
for owner in ROLES:
    for role in ROLES:
        names = [f"{owner}'s d: {role} {what}" for what in ("refuses", "warns")]
        rows |= dict(zip(names, by_dose(ds[owner], role).tolist(), strict=True))
print(f"{'dose':32}", *(f"{c:4}" for c in STEPS))
for name, row in rows.items():
    print(f"{name:32}", *(f"{value:4}" for value in row))

# %% tags=["organism"]
random_rows = torch.stack([torch.cat([by_dose(v, role) for role in ROLES]) for v in randoms[:4]])
most = random_rows.amax(dim=(0, 2)).tolist()
print("random, assistant refuses, warns, friend refuses, warns, at most:", most)
with steering.add(chat, ds["assistant"], layer=BLOCK, coefficient=2.0, positions="last"):
    print("friend, c = 2:", *models.ask(chat, HARMLESS[:1], max_new_tokens=12, reply_role="friend"))

# %% [markdown]
# The figure shows each role with the *other* role's d. Where does one opening take over?

# %% tags=["organism", "figure"]
swapped = {}
for owner, role in (ROLES, ROLES[::-1]):
    for what in ("refuses", "warns"):
        swapped[f"{role} {what}"] = rows[f"{owner}'s d: {role} {what}"]
plotting.show(
    plotting.lines(
        list(STEPS),
        swapped,
        control=random_rows.amax(dim=1),
        x_title="coefficient (1 = length of the assistant's d)",
        y_title="replies to harmless requests (%)",
        y_range=(-3, 105),
        title="Each role's openings with the other role's d",
        alt=f"Percent at {STEPS}: {swapped}; random at most {random_rows.max()}.",
    )
)

# %% [markdown]
# At c = 1 the role decides which opening comes: with either d the assistant refuses and does not
# warn, and the friend warns and does not refuse. How many do depends on the direction, not on its
# length, which is the same: each d does most in its own role. With larger doses this shifts.
# With the assistant's d the friend refuses, in words that it was not trained to say; with the
# friend's d the assistant begins to warn.
#
# So the assistant's r can be *read* in both roles and is *needed* in one. What a d *can cause*
# depends on the role and on the dose: no one dose stands for the others.
#
# ## 4 Questions
# Every answer is explained, including the wrong ones.

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

# %%
progress(1)  # exercises of 01a and 01b

# %% [markdown]
# ## What was not shown
# * That refusal is *only* one direction. Something is left after the ablation, and this notebook
#   does not search for a second direction. (Wollschläger et al. 2025 find several, and cones of
#   them, in large models.)
# * That real models behave the same. `chat` knows about a thousand words, and its refusals are
#   fixed sentences. In `smollm2-refusal`, 30 blocks of real English, ablating r ends refusal, too,
#   and adding d causes it; but harmless requests move, and some random directions cost as much
#   ([its card](../organisms/cards/smollm2.md)).
# * How many whole replies refuse: [02a, into the weights](02a_into_the_weights.ipynb) counts late
#   refusals and measures the cost of ablating r in the weights.
# * That the direction means "refusal": section 3 leaves it open. The friend warns without r, and
#   refuses with enough of d. A name is a hypothesis.
#
# Sources: Arditi et al. 2024 (arXiv 2406.11717); Marshall et al. 2024 (arXiv 2411.09003); Zhao et
# al. 2025 (arXiv 2507.11878); Wollschläger et al. 2025 (arXiv 2502.17420).
#
# ## Further (not needed for what follows)
# All of it is about the course's own models.
#
# **Does it matter whether d or r is ablated?** One model cannot tell. The organism was trained
# several times, in three widths and with different seeds; both ablations were measured in each
# (first words of 100 replies, each at its own best layer). Compare the two columns. (In the figure
# a bar of height 0 is only its number.)

# %% tags=["organism"]
results = organism.results("results")
trained = {
    f"{width}, seed {seed}": run["one_direction"]
    for width in ("128", "64", "32")
    for seed, run in results[width].items()
}
print("width, seed   refused | d ablated (KL)  | r ablated (KL) | random")
for name, m in trained.items():
    whole, part = f"{m['without_whole']:3} ({m['kl_whole_nats']:.2f})", f"({m['kl_nats']:.2f})"
    others = f"{min(m['random'])} to {max(m['random'])}"
    print(f"{name:13} {m['unchanged']:7} | {whole:15} | {m['without']:3} {part:10} | {others}")

# %% tags=["organism", "figure"]
plotting.show(
    plotting.bars(
        list(trained),
        {
            "all of d ablated": [m["without_whole"] for m in trained.values()],
            "only r ablated": [m["without"] for m in trained.values()],
        },
        controls={"only r ablated": [m["random"] for m in trained.values()]},
        y_range=(0, 112),
        x_title="width, seed",
        y_title="still refused (%), held-out topics",
        title="Refusals after ablating d or r, by training",
        alt="Bars: percent still refused after ablating d and after ablating r, as printed above.",
    )
)

# %% [markdown]
# By first words, ablating all of d works in some trainings, ablating only r in each of these seven.
# The first training alone would have shown no difference. A result from one training is a result
# about one training.
#
# **Does it hold in other sizes?** Three widths of the same organism: in each, r is found (lowest
# bypass score of blocks 1 to 3, any KL) and ablated, and so are ten random directions.

# %% tags=["organism"]
sizes, settings = {}, profiles.get("chat").settings  # the organisms' own, whatever MODEL is
for width, name in {"32": "chat-32", "64": "chat-64", "128": "chat"}.items():
    other = models.load(name)
    first_words = profiles.get("chat").refusal_token_ids(other.tokenizer)
    read_there = read(other, n=settings.n_train)
    scores, _, its_r = point(other, read_there, first_words, range(1, 4), max_kl=100.0)
    others, sizes[width] = directions.random_directions(10, like=its_r, seed=0), []
    for v in (None, its_r, *others):
        with other.hooks() if v is None else steering.ablate(other, v):
            replies = models.ask(other, HARMFUL[:50], max_new_tokens=2)
        sizes[width].append(2 * sum(reply.startswith("i apologize") for reply in replies))
    print(f"width {width:>3}: block {scores.layer}, KL {scores.kl:.2f}; refused {sizes[width][0]}")
    print(f"  without r {sizes[width][1]}, without a random direction {sizes[width][2:]}")
    print("  |cos| with r:", *(f"{abs(float(directions.cosine(v, its_r))):.2f}" for v in others))

# %% tags=["organism", "figure"]
plotting.show(
    plotting.bars(
        [f"width {width}" for width in sizes],
        {"unchanged": [v[0] for v in sizes.values()], "r ablated": [v[1] for v in sizes.values()]},
        controls={"r ablated": [v[2:] for v in sizes.values()]},
        x_title="organism",
        y_title="refused (%), held-out topics",
        y_range=(0, 112),
        title="Replies that begin with a refusal before and after ablating r, by width",
        alt=f"Bars by width: percent refused unchanged, r ablated, ten random: {sizes}.",
    )
)

# %% [markdown]
# By first words, ablating r removes refusal at every width. At width 32 the best direction fails
# the KL filter (0.1 nats): harmless first words move. There ablating random directions removes
# refusals, too, in the worst of ten cases half of them. (The table above had only five draws at
# width 32, none like this one.) With few dimensions random directions overlap more with r, but
# |cos| does not fix the loss: the three with the largest |cos| leave 90, 92 and 48. A weak control
# makes a weak claim.
#
# **Another token?** Zhao et al. (2025) found harmfulness at the last instruction token and refusal
# after it. A direction is found at one token and used to *separate* the sets at another (held-out
# topics); the last row is the best of twenty random directions.

# %% tags=["organism"]
POSITIONS, PLACES = ("last_instruction", -2, "reply"), (". or ?", "<end>", "<assistant>")


def stream_at(split):
    """Return the residual stream [prompt, position, d_model] at three tokens, for both sets."""
    ids = [data.prompts(chat, kind, split) for kind in KINDS]
    read_at = dict(positions=POSITIONS, progress=False)
    return [caching.harvest(chat, each, **read_at).values[:, :, BLOCK] for each in ids]


high, low = stream_at("train")
held_out, found_at = stream_at("held_out_topic"), high.mean(dim=0) - low.mean(dim=0)
print("norms of the three directions:", [round(float(v.norm()), 1) for v in found_at])


# %% tags=["organism"]
def auroc(direction, position):
    """Return how well the direction separates the held-out sets at one of the three tokens."""
    sides = [directions.project(values[:, position], direction) for values in held_out]
    return directions.auroc(*sides)


sorts = torch.tensor([[auroc(v, position) for position in range(3)] for v in found_at])
chance = torch.tensor([[auroc(v, position) for position in range(3)] for v in randoms])
chance = torch.maximum(chance, 1 - chance).amax(dim=0)  # folded: a random direction has no sign
found = (*(f"found at {place}" for place in PLACES), "best random")
for name, row in zip(found, [*sorts, chance], strict=True):
    print(f"{name:20} read at {', '.join(f'{v:.2f}' for v in row.tolist())}")

# %% [markdown]
# Then each direction is *added* at each of the three tokens, with the norm of d and with two and
# three times as much; the control is three random directions. Percent of 25 harmless requests
# refused, added at . or ?, at `<end>`, at `<assistant>`:

# %% tags=["organism"]
for times in (1, 2, 3):
    caused = []
    for v in (*found_at, *randoms[:3]):
        caused.append([])
        for j in range(3):
            where = dict(layer=BLOCK, coefficient=times * LENGTH, positions=[j - 3])
            with steering.add(chat, directions.unit(v), **where):
                caused[-1].append(4 * openings("assistant", HARMLESS[:25])["refused"])
    caused[3:] = torch.tensor(caused[3:]).amax(dim=0, keepdim=True).tolist()
    print(f"{times} x |d|:", dict(zip((*found[:3], "random, at most"), caused, strict=True)))

# %% tags=["organism", "figure"]
table = torch.cat([sorts, chance[None]])
plotting.show(
    plotting.heat_map(
        table,
        column_labels=PLACES,
        centre=0.5,
        row_labels=[*PLACES, "best of 20 random"],
        x_title="read at",
        y_title="found at",
        colour_title="AUROC on held-out topics",
        title="AUROC of directions found at one token and read at another",
        alt=f"AUROC in %, found at by read at: {(100 * table).round().tolist()}.",
    )
)

# %% [markdown]
# Compare each column with its last row: the best of twenty random directions does about as well
# nearly everywhere. (The exception is `<end>` read by its own direction.) So the AUROC singles out
# hardly any. Adding them does: only the reply token's direction, at the reply token, makes the
# model refuse all at every dose. (There the direction of ". or ?" causes some refusals, and at the
# largest dose a random one does, too.) Harm can be read at the earlier tokens, and adding any of
# these directions there caused no refusal at these three doses. Zhao et al. report otherwise for
# large models.
