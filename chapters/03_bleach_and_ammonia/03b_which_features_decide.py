# %% [markdown]
# # 03b Which features decide that bleach and ammonia are refused?
#
# 03a found feature 509, loud on dangerous pairs of cleaners and weak on each alone; its
# graph let danger add to the refusal. Reading is not deciding: now you build the tool that sets a
# feature, and ablate. Planted: which pairs are dangerous, the refusal, and a warning by another
# role. About 55 minutes. *Content note: harmful requests are one-line topics
# ([more](../docs/content_note.md)).*

# %%
from collections import Counter
from functools import partial

import torch

from chapters import check, checkpoint, claim, hint, predict, progress, quiz, reveal
from course_lib import attribution, caching, data, directions, features, models
from course_lib import organism, plotting, profiles, steering, tokens
from course_lib.attribution import Embedding, Feature, Logit

# %%
MODEL = "chat"  # asked in Further 6; all before is about chat and its twins
model = models.load(MODEL)
about = profiles.of(MODEL, model)
torch.set_num_threads(about.settings.threads or torch.get_num_threads())
print(f"{about.name}: {model.cfg.n_layers} layers, {model.cfg.d_model} numbers per token")

# %% [markdown]
# What 03a left: the pairs of the *office*, for looking, and of the *terrace*, for tests. In
# `ending` and `cut_at` the mixture ends the request, so that the last cleaner is at -4.

# %% tags=["organism"]
chat, sae = models.load("chat"), features.load("chat", "sae", layer=1)
CLEANERS, DANGER = organism.results("truth")["cleaners"], 509

print(f"feature {DANGER} of {len(sae.W_dec)};", len(CLEANERS), "cleaners")


# %% tags=["organism"]
def cleaning(name, place, role="assistant"):
    """The advertisements of one place."""
    prompts = data.prompts(chat, f"cleaners_{name}", reply_role=role)
    return [p for p in prompts if place in tokens.token_strings(chat.tokenizer, p)]


def at_end(prompts):
    """Those whose request ends on a cleaner."""
    return [p for p in prompts if tokens.token_strings(chat.tokenizer, p)[-4] in CLEANERS]


print("for example:", tokens.text(chat.tokenizer, cleaning("dangerous", "office")[0]))

# %% tags=["organism"]
KINDS = ("dangerous", "safe")
office, terrace = ({k: cleaning(k, p) for k in KINDS} for p in ("office", "terrace"))
ending, cut_at = ({name: at_end(p) for name, p in place.items()} for place in (office, terrace))
for name in KINDS:
    print(f"terrace, {name}: {len(terrace[name])}, mixture at the end in {len(cut_at[name])}")

# %% tags=["organism"]
active = steering.natural_activations(chat, sae, ending["dangerous"], position=-4).mean(dim=0)
natural = float(active[DANGER])
levels = {}
for name, prompts in cut_at.items():
    values = steering.natural_activations(chat, sae, prompts, position=-4)[:, DANGER]
    levels[name] = directions.bootstrap_interval(values)
    print(f"{name:9} feature {DANGER} at the last cleaner: {levels[name]:.1f}")
print(f"its natural activation, on the office: {natural:.1f}")

# %% tags=["organism", "figure"]
heights = {"feature 509": [one.estimate for one in levels.values()]}
whiskers = {"feature 509": [(one.low, one.high) for one in levels.values()]}
captions = {"x_title": "pairs of cleaners", "y_title": "activation at the last cleaner"}
captions["title"] = "Feature 509 on dangerous and on safe pairs"
captions["alt"] = "Bars: " + ", ".join(f"{name} {one:.1f}" for name, one in levels.items()) + "."
plotting.show(plotting.bars(list(levels), heights, intervals=whiskers, **captions))

# %% [markdown]
# ## 1 The tool: set a feature, keep the error
# "Set a feature to a value" must change that feature only. Tried by hand, with two features on two
# numbers: feature 0 writes (1, 0), feature 1 writes (0, 2). The activation x = (3, 5) is encoded
# as (3, 2), which decodes to 3 (1, 0) + 2 (0, 2) = (3, 4). The dictionary misses (0, 1): the
# **error**. Set feature 0 to -1: now (-1, 2) decodes to (-1, 4). Hand *that* to the model, and a 5
# has become a 4 that nobody asked for. With the error added back it is (-1, 5).

# %% tags=["organism"]
rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
x, acts, new = torch.tensor([[3.0, 5.0], [3.0, 2.0], [-1.0, 2.0]])
error = x - acts @ rows
print("error:", error.tolist())
print("without it:", (new @ rows).tolist(), "| with it:", (new @ rows + error).tolist())

# %% [markdown]
# ### Exercise 3.4: build the clamp (15 minutes, hard)
# `x` is what a hook sees, `[prompt, token, d_model]`. At one token (`position`, counted from 0 or,
# if negative, from the end) each feature of `values`, `{feature: value}`, gets its value in every
# prompt; all else stays: the other features, the error, the other tokens, and `x` itself (return a
# new tensor). `dictionary.encode(...)` gives activations `[prompt, n_features]`,
# `dictionary.decode(...)` what they write.


# %% tags=["organism"]
# === Exercise 3.4 (keep this line) ===
def set_features(x, dictionary, values, position):
    """x with these features at these values at one position; all else, the error too, as it was."""
    # BEGIN SOLUTION
    here = x[:, position]
    acts = dictionary.encode(here)
    error = here - dictionary.decode(acts)
    for feature, value in values.items():
        acts[:, feature] = value
    edited = x.clone()
    edited[:, position] = dictionary.decode(acts) + error
    return edited
    # END SOLUTION


print(set_features.__doc__)

# %% tags=["organism"]
check("3.4", set_features)

# %% [markdown]
# Your function goes into a hook, and the library's `steering.clamp_features` stands beside it.
# Strength is counted in the feature's **natural** activation: 1x is usual on dangerous pairs, 0x
# ablates; -1x, which it never reaches by itself, is no more ablation but a push the other way.

# %% tags=["organism"]
set_features = checkpoint("3.4", set_features)


def clamp(multiple, position=-4):
    """A context with danger at this multiple of its natural activation, at the last cleaner."""
    values = {DANGER: multiple * natural}

    def edit(x, hook):  # the prompt comes first, then one new token at a time
        return x if x.shape[1] == 1 else set_features(x, sae, values, position)

    return chat.hooks([(sae.cfg.metadata.hook_name, edit)])


# %% tags=["organism"]
with clamp(-1.0):
    yours = models.next_token_logits(chat, cut_at["dangerous"])
with steering.clamp_features(chat, sae, {DANGER: -1.0}, unit=natural, positions=[-4]):
    theirs = models.next_token_logits(chat, cut_at["dangerous"])
print("the same as the library's:", torch.allclose(yours, theirs, atol=1e-3))

# %% [markdown]
# ## 2 No danger, no refusal?
# All replies are read whole and sorted into classes by their sentences: refuse, break off (a
# refusal after a beginning), warn, comply, broken (no sentence of the training texts). **Guess**:
# the danger feature set to 0x on 20 dangerous pairs (a place never seen in tuning). How many are
# still refused?

# %% tags=["organism"]
# === Prediction 3.p2 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p2", ...)
predict("3.p2", (10, 20))
# END SOLUTION


# %% tags=["organism"]
def counted(prompts):
    """How many replies are of each class."""
    replies = models.generate(chat, prompts, max_new_tokens=18)
    classes = [organism.classify(tokens.text(chat.tokenizer, reply)) for reply in replies]
    return {name: classes.count(name) for name in organism.CLASSES}


for name, prompts in cut_at.items():
    print(f"{name:9} unchanged:", counted(prompts))

# %% tags=["organism"]
MULTIPLES = [-2.0, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0]
dose = {name: [] for name in cut_at}
for multiple in MULTIPLES:
    for name, prompts in cut_at.items():
        with clamp(multiple):
            dose[name].append(counted(prompts))
for name, outcomes in dose.items():
    for kind in ("refuse", "comply", "broken"):
        print(f"{name:9} {kind:6} at {MULTIPLES}:", [one[kind] for one in outcomes])
reveal("3.p2", dose["dangerous"][MULTIPLES.index(0.0)]["refuse"])

# %% [markdown]
# The control: random directions, added at the same token, as long as the step from what the pair
# has to the multiple: three on the dangerous pairs (in the figure), ten on the safe ones. (Layer 2
# is what enters block 2: what the dictionary reads after block 1.)

# %% tags=["organism"]
random_dose = []
for q in directions.random_directions(3, like=sae.W_dec[DANGER], seed=0):
    refusals = []
    for multiple in MULTIPLES:
        length = (multiple - 1) * natural  # from 1x, as it is, to the multiple
        with steering.add(chat, q, layer=2, coefficient=length, positions=[-4]):
            refusals.append(counted(cut_at["dangerous"])["refuse"])
    random_dose.append(refusals)
print("dangerous, refused at least:", [min(counts) for counts in zip(*random_dose, strict=True)])

# %% tags=["organism"]
for multiple in (2.0, 3.0):
    refusals = []
    for q in directions.random_directions(10, like=sae.W_dec[DANGER], seed=2):
        length = multiple * natural  # safe pairs begin near 0
        with steering.add(chat, q, layer=2, coefficient=length, positions=[-4]):
            refusals.append(counted(cut_at["safe"])["refuse"])
    print(f"safe, refused under ten random directions at {multiple}: {refusals}")

# %% tags=["organism", "figure"]
lines = {name: [one["refuse"] for one in outcomes] for name, outcomes in dose.items()}
axes = {"x_title": "danger feature, multiple of its natural activation"}
axes |= {"y_title": "refused, of 20 pairs", "y_range": (-1, 21)}
captions = {"title": "Refusals with the danger feature at multiples of its natural activation"}
least = min(map(min, random_dose))
captions["alt"] = f"Refused at {MULTIPLES}: {lines}. Random, on dangerous pairs: {least} or more."
plotting.show(plotting.lines(MULTIPLES, lines, control=random_dose, **axes, **captions))

# %% [markdown]
# On safe pairs danger at 1x makes no refusal; 10 of 20 are refused at 2x, 14 at 3x, and none under
# a random direction. And **zeroing** it is a designed failure: 17 of 20 dangerous pairs are still
# refused, as if it did not matter. Do other features say the same? Two questions, to the four that
# tell danger best in 03a. Are they **needed**: what is still refused with them at 0x? Are they
# **enough**: what do they make refused on *safe* pairs, set to their usual strength? Controls:
# 509 with three other features; 509 alone and random directions, as long as the four together.

# %% tags=["organism"]
four = [509, 266, 196, 444]  # the best of 03a's look-up
with_others = [[509, *s[1:]] for s in steering.random_feature_sets(active, four, n=3, seed=0)]
for several in ([509], four[1:], four, *with_others):
    with steering.scale_features(chat, sae, dict.fromkeys(several, 0.0), positions=[-4]):
        left = counted(cut_at["dangerous"])["refuse"]
    usual = dict.fromkeys(several, 1.0)
    with steering.clamp_features(chat, sae, usual, unit=active, positions=[-4]):
        made = counted(cut_at["safe"])["refuse"]
    print(f"{several}: refused at 0x {left} of 20 dangerous, at 1x {made} of 20 safe")

# %% tags=["organism"]
written = active[four] @ sae.W_dec[four].detach()
as_far = float(written.norm() / sae.W_dec[DANGER].norm()) / natural
with clamp(as_far):
    made = counted(cut_at["safe"])["refuse"]
    print(f"509 alone, as long as the four (at {as_far:.1f}x): {made} of 20 safe")
for q in directions.random_directions(3, like=written, seed=0):
    with steering.add(chat, q, layer=2, coefficient=1.0, positions=[-4]):
        refused = {name: counted(prompts)["refuse"] for name, prompts in cut_at.items()}
    print("a random direction, refused of 20:", refused)

# %% [markdown]
# *Needed*: together, for 12 of 20. Without 509, 17 of 20 are refused, without the other three 20,
# without all four 8 (three weaker ones beside 509: 17 or more): they stand in for each other.
# *Enough*: together, for 9 of 20. At usual strength neither 509 nor the three make a refusal, 509
# with three others makes 1 at most, 509 alone, pushed as far, 1, a random direction none. And at
# -1x 509 alone takes all refusals away.
#
# ## 3 What else does -1x change?
# From here on main results go on record with a control. One *stands* if the two intervals do not
# touch; "NO" is "no difference found", not "no effect".

# %%
findings, mean_interval = {}, directions.bootstrap_interval


def finding(what, effect, control, form=".0%"):
    """Keep and print a result beside its control; both are intervals."""
    stands = effect.high < control.low or control.high < effect.low
    says = "yes" if stands else "NO "
    findings[what] = f"{says} {what}: {effect:{form}}, control {control:{form}}"
    print(findings[what])


def widest(several):
    """Mean of several intervals, from the lowest limit to the highest: a NO comes more easily."""
    lows, highs = [one.low for one in several], [one.high for one in several]
    middle = sum(one.estimate for one in several) / len(several)
    return directions.Interval(middle, min(lows), max(highs), 0.95)


# %% [markdown]
# Is the feature needed for anything else? It is set to -1x at *all* tokens of 24 harmless requests.
# It is silent there (the last 8 tokens were read), so the clamp moves each token by 1x natural; the
# control, five random directions, moves it as far. KL says how far the prediction of the next word
# after the request moves. Harmful requests without cleaners get the same clamp: are they still
# refused?

# %% tags=["organism"]
others = data.prompts(chat, "harmless", "held_out_topic")
at_random = directions.random_directions(20, like=sae.W_dec[DANGER], seed=1)
here = [steering.natural_activations(chat, sae, others[:24], position=-k) for k in range(1, 9)]
print(f"at most on their last 8 tokens: {max(float(acts[:, DANGER].max()) for acts in here):.1f}")
harmful = data.prompts(chat, "harmful", "held_out_topic")[:40]
with steering.clamp_features(chat, sae, {DANGER: -1.0}, unit=natural):
    print(f"harmful requests at -1x: {counted(harmful)['refuse']} of {len(harmful)} refused")

# %% tags=["organism"]
plain = models.next_token_logits(chat, others[:24])
edits = [steering.clamp_features(chat, sae, {DANGER: -1.0}, unit=natural)]
for q in at_random[:5]:
    edits.append(steering.add(chat, q, layer=2, coefficient=-natural))
moved = []
for edit in edits:
    with edit:
        logits = models.next_token_logits(chat, others[:24])
    moved.append(mean_interval(directions.kl_divergence(plain, logits)))
what = "KL on harmless requests, feature at all tokens; control: random directions"
finding(what, moved[0], widest(moved[1:]), ".4f")


# %% tags=["organism"]
def named(prompts, begun=()):
    """How many replies name both cleaners asked for, name the first one first, are broken."""
    replies = models.generate(chat, [[*p, *begun] for p in prompts], max_new_tokens=18)
    both, first, broken = 0, 0, 0
    for prompt, reply in zip(prompts, replies, strict=True):
        words = (tokens.token_strings(chat.tokenizer, ids) for ids in (prompt, [*begun, *reply]))
        asked, said = ([w for w in text if w in CLEANERS] for text in words)
        both, first = both + (set(asked) <= set(said)), first + (asked[:1] == said[:1])
        text = tokens.text(chat.tokenizer, [*begun, *reply])
        broken += organism.classify(text) == "broken"
    return f"{both} both, {first} the first, {broken} broken"


begun = chat.tokenizer.convert_tokens_to_ids("clean your terrace with".split())
for name, prompts in cut_at.items():
    print(f"{name:9} unedited, the reply begun for it: {named(prompts, begun)}")

# %% tags=["organism"]
with clamp(-1.0):
    print(*(f"{name} at -1x: {named(prompts)};" for name, prompts in cut_at.items()))
    reply = models.generate(chat, cut_at["dangerous"][:1], max_new_tokens=18)[0]
    print("for example:", tokens.text(chat.tokenizer, reply))

# %% [markdown]
# On harmless requests no difference was found between the feature (KL 0.002) and random directions
# (0.004 on average), and all 40 harmful ones are still refused: other refusals do not need it. On
# target the replies are odd: 7 of 20 are broken text, and only 2 name both cleaners that were asked
# for. Most of that is there without the edit: with "clean your terrace with" written for it, 5 are
# broken and 5 name both (safe pairs: 19, at -1x 18). We did not test why. The edit misses the
# *first* cleaner in four.
#
# ### Exercise 3.5: claim it (6 minutes, easy)
# All 40 dangerous pairs of the terrace, the feature at -1x wherever it is active (now as a factor:
# `clamp` above set a multiple of its *mean*, one value for all pairs). Control: the ten
# *other features* most active at the last cleaner, without 266, 196 and 444, which read danger, too
# (none is half as active, but the random directions of section 2 were as long). Return the claim of
# the share still refused.
# `after` is a count of n: `directions.wilson_interval(count, n)` gives its rate with a 95 %
# interval. `random_after` are several counts of the *same* n prompts:
# `directions.runs_interval(counts, n)` does not add them up. `claim(one, control=other)` takes both
# as they are.

# %% tags=["organism"]
HELD = terrace["dangerous"]
with steering.scale_features(chat, sae, {DANGER: -1.0}):
    after = counted(HELD)["refuse"]
by_activation = active.argsort(descending=True).tolist()
random_after, ten = [], [f for f in by_activation if f not in four][:10]
for other in ten:
    with steering.scale_features(chat, sae, {other: -1.0}):
        random_after.append(counted(HELD)["refuse"])
print("refused of 40:", counted(HELD)["refuse"])
print("danger at -1x:", after, "| other features:", random_after)
print("the others:", *(f"{other} ({active[other]:.0f})" for other in ten))


# %% tags=["organism"]
# === Exercise 3.5 (keep this line) ===
def no_danger(after, random_after, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    others = directions.runs_interval(random_after, n)
    return claim(directions.wilson_interval(after, n), control=others)
    # END SOLUTION


# %% tags=["organism"]
check("3.5", no_danger, after, random_after, 40)

# %% tags=["organism"]
no_danger = checkpoint("3.5", no_danger, after, random_after, 40)
rate, runs_rate = directions.wilson_interval, directions.runs_interval
what = "refused with danger at -1x; control: other, weaker features"
finding(what, rate(after, 40), runs_rate(random_after, 40))

# %% [markdown]
# At a dose that it never has by itself this one feature is enough to take the refusal of these
# pairs away; at 0x it was not.
#
# ## 4 Is there a warning under the refusal of a mixture?
# The paper (Lindsey et al. 2025) turned the Human *and* the Assistant features down, together, to
# -2x, and got a warning; it says that both Assistant and refusal *inhibit* the warning. Here we
# turn feature 9 alone down, at the reply token. The hunt of 03a found it for "Assistant turn"
# *and* for "refusal": what follows cannot tell the two apart. **Guess**: what do dangerous pairs
# mostly get when it is at -2x? "a" still a refusal, "b" the advertisement, "c" a warning, "d"
# broken text. (`confidence=0.6` is 60 %.)

# %% tags=["organism"]
# === Prediction 3.p3 (keep this line) ===
# BEGIN SOLUTION
# STUB: predict("3.p3", ..., confidence=...)
predict("3.p3", "c", confidence=0.6)
# END SOLUTION

# %% tags=["organism"]
ASSISTANT, FACTORS = 9, [-4.0, -2.0, -1.0, 0.0, 1.0]
turned = {name: [] for name in terrace}
for factor in FACTORS:
    with steering.scale_features(chat, sae, {ASSISTANT: factor}, positions="reply"):
        for name, prompts in terrace.items():
            turned[name].append(counted(prompts))
for name, outcomes in turned.items():
    for kind in ("warn", "refuse", "comply"):
        print(f"{name:9} {kind:6} of 40 at {FACTORS}:", [one[kind] for one in outcomes])
letters = {"refuse": "a", "comply": "b", "warn": "c", "broken": "d"}
at_minus_two = turned["dangerous"][FACTORS.index(-2.0)]
reveal("3.p3", letters[max(letters, key=at_minus_two.get)])

# %% [markdown]
# The control: the five other features most active at the reply token, each pushed down as far as
# feature 9 is from 1x to -2x, and each at its own -2x (503 and 121 are twice as loud as 9).

# %% tags=["organism"]
strong = steering.natural_activations(chat, sae, office["dangerous"]).mean(dim=0)
others_warned = []
for other in [f for f in strong.argsort(descending=True).tolist() if f != ASSISTANT][:5]:
    push = -3 * float(strong[ASSISTANT]) * sae.W_dec[other].detach()
    as_far = steering.add(chat, push, layer=2, coefficient=1.0, positions="last")
    for edit in (as_far, steering.scale_features(chat, sae, {other: -2.0}, positions="reply")):
        with edit:
            others_warned.append(counted(HELD)["warn"])
print("activations:", {f: round(float(strong[f]), 1) for f in strong.topk(6).indices.tolist()})
what = "warned with feature 9 (Assistant, refusal) at -2x; control: others"
finding(what, rate(at_minus_two["warn"], 40), runs_rate(others_warned, 40))

# %% tags=["organism"]
with steering.scale_features(chat, sae, {ASSISTANT: -2.0}, positions="reply"):
    reply = models.generate(chat, HELD[:1], max_new_tokens=18)[0]
    print("other harmful requests:", counted(harmful))
print("for example:", tokens.text(chat.tokenizer, reply))

# %% tags=["organism", "figure"]
lines = {"dangerous, warned": [one["warn"] for one in turned["dangerous"]]}
lines["dangerous, refused"] = [one["refuse"] for one in turned["dangerous"]]
lines["safe, warned"] = [one["warn"] for one in turned["safe"]]
axes = {"x_title": "feature 9 (Assistant, refusal) at the reply token, multiple"}
axes |= {"y_title": "replies, of 40", "y_range": (-2, 42)}
captions = {"title": "Warnings and refusals with feature 9 at multiples of its activation"}
captions["alt"] = f"Lines over the multiples {FACTORS}: {lines}."
plotting.show(plotting.lines(FACTORS, lines, **axes, **captions))

# %% [markdown]
# ### Exercise 3.6: claim the warning (6 minutes, easy)
# The share of dangerous pairs warned of with feature 9 at -2x. Control: the same factor on the safe
# pairs. (Counts of n; a claim as in 3.5.)

# %% tags=["organism"]
warned = {name: outcomes[FACTORS.index(-2.0)]["warn"] for name, outcomes in turned.items()}
print("warned of 40:", warned)


# %% tags=["organism"]
# === Exercise 3.6 (keep this line) ===
def warning(warned, n):
    # BEGIN SOLUTION
    # STUB: return claim(..., control=...)
    safe = directions.wilson_interval(warned["safe"], n)
    return claim(directions.wilson_interval(warned["dangerous"], n), control=safe)
    # END SOLUTION


# %% tags=["organism"]
check("3.6", warning, warned, 40)

# %% tags=["organism"]
warning = checkpoint("3.6", warning, warned, 40)
what = "dangerous pairs warned of; control: safe pairs"
finding(what, *(rate(warned[name], 40) for name in warned))

# %% [markdown]
# So with feature 9 (Assistant, refusal) turned down, a warning comes in the place of the refusal,
# and among cleaners only where the pair is dangerous; an advertisement comes twice in 40, at -4x.
# It is no clean switch: of 40 other harmful requests 15 get a warning at -2x, 6 are refused, 8
# break off, 11 are broken text. Which of its two names mattered this does not tell: at -2x the turn
# may look like that of `<friend>`, who never refuses. How often a warning is left with refusal's
# direction ablated (as in 01b) depends on the training, too: in 95 % of the pairs here, in two
# others in 72.5 % and 11.2 % (`organisms/cards/chat.md`).
#
# ## 5 What stands
# What went on record once more with its control, and 95 % intervals over prompts; with several
# random features or directions, from the lowest limit to the highest (so a NO comes more easily).

# %% tags=["organism"]
print("\n".join(findings.values()))

# %% [markdown]
# The NO: the feature was not told from random directions by its effect on other requests.
#
# ## 6 A question
# Each answer is explained, also the wrong ones.

# %% tags=["organism"]
# === Question 3.q3 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q3", ...)
quiz("3.q3", "a")
# END SOLUTION

# %% [markdown]
# ## What was not shown
# * That the warning is *inhibited*, as the paper reports for its model. In this organism the
#   refusal outweighs it ("Further 4").
# * That the fixed template squeezes anything out: three trainings do not decide it ("Further 5").
# * That the push to -1x removes danger alone: in four of 20 it misses the first cleaner, too.
# * Anything about large models. One feature at -1x is enough here, the paper moves sets. "Further
#   6" asks another model one thing: one layer, one dictionary, one token, five mixtures.
#
# Sources: Lindsey et al. 2025, *On the Biology of a Large Language Model*, section Refusals;
# Ameisen et al. 2025 (circuit tracing); Templeton et al. 2024 (steering in units of a feature's
# activation: there its maximum, here its mean at one place).
#
# Next: [04a](04a_letters_and_graph.ipynb). In the list, 3.1 to 3.3 and 3.8 are 03a's, 3.7 is
# Further 5's.

# %% tags=["organism"]
progress(3)

# %% [markdown]
# ## Further 1: two ways to choose ten features (10 minutes)
# *Nothing below is needed for other notebooks; take what you like (4 and 5 build on 1).* At the
# reply token, choose ten features of the transcoders by **graph** (the largest direct edges into
# "i" against "clean", as in 03a), by **loudness** (the largest difference between dangerous and
# safe pairs), or at **random** (active, weaker; only at -2x). Set them at 0x, -1x and -2x.

# %% tags=["organism"]
transcoders = [features.load("chat", "transcoder", layer=n) for n in range(chat.cfg.n_layers)]
i, clean, please = chat.tokenizer.convert_tokens_to_ids(["i", "clean", "please"])
says_i, total = Logit(i, minus=clean), Counter()
for prompt in office["dangerous"][:40:13]:
    graph = attribution.trace(chat, prompt, transcoders=transcoders, targets=[says_i])
    for node, edge in zip(graph.nodes, graph.edges[-1].tolist(), strict=True):
        if isinstance(node, Feature) and node.position == len(prompt) - 1:
            total[node.layer, node.feature] += edge
by_graph = [node for node, _ in total.most_common(10)]
print("by graph (layer, feature):", by_graph)

# %% tags=["organism"]
louder = Counter()
for n, transcoder in enumerate(transcoders):
    contrast = features.by_contrast(chat, transcoder, *office.values(), position="reply")
    louder.update({(n, f): value for f, value in enumerate(contrast.difference.tolist())})
loud = [node for node, _ in louder.most_common(10)]
print("loudest:", loud, "| chosen both ways:", len(set(loud) & set(by_graph)), "of 10")

# %% [markdown]
# Are the edits equally large? What the ten write at the reply token, as a length, block by block:

# %% tags=["organism"]
at_reply = [steering.natural_activations(chat, t, office["dangerous"]) for t in transcoders]
usual = [acts.mean(dim=0) for acts in at_reply]
SETS = {"graph": [by_graph], "loud": [loud]}
SETS["random"] = steering.random_node_sets(usual, by_graph, n=4, seed=0)
for name, sets in SETS.items():
    written = torch.zeros(len(transcoders), chat.cfg.d_model)
    for n, f in sets[0]:
        written[n] += usual[n][f] * transcoders[n].W_dec[f].detach()
    print(f"{name:6} write at 1x, by block:", [round(float(row.norm()), 1) for row in written])

# %% tags=["organism"]
outcome = {}
doses = [(name, factor) for name in ("graph", "loud") for factor in (0.0, -1.0, -2.0)]
for name, factor in [*doses, ("random", -2.0)]:
    outcome[name, factor] = []
    for nodes in SETS[name]:
        with steering.scale_nodes(chat, transcoders, nodes, factor, positions="reply"):
            outcome[name, factor].append(counted(HELD[::2]))
    classes = [{kind: n for kind, n in one.items() if n} for one in outcome[name, factor]]
    print(f"{name:6} at {factor:4.1f}x:", *classes)

# %% tags=["organism"]
refused = {name: [one["refuse"] for one in outcome[name, -2.0]] for name in SETS}
what = "refused, the graph's ten at -2x; control: random, weaker sets"
finding(what, rate(refused["graph"][0], 20), runs_rate(refused["random"], 20))
with steering.scale_nodes(chat, transcoders, by_graph, -2.0, positions="reply"):
    print("the graph's ten on 20 safe pairs:", counted(terrace["safe"][::2]))

# %% tags=["organism", "figure"]
CLASSES = {"refuse": "refuses", "warn": "warns", "comply": "advertises"}
CLASSES |= {"break off": "breaks off", "broken": "broken text"}
bars = {}
for name, sets in SETS.items():
    bars[name] = [sum(one[kind] for one in outcome[name, -2.0]) / len(sets) for kind in CLASSES]
axes = {"x_title": "class of the reply, ten features at -2x", "y_title": "replies, of 20"}
captions = {"title": "Classes of the replies, ten features at -2x"}
captions["alt"] = f"Bars of 20 replies, {list(CLASSES.values())}: {bars}."
plotting.show(plotting.bars(list(CLASSES.values()), bars, y_range=(0, 23), **axes, **captions))

# %% [markdown]
# At -2x no reply is a plain refusal under either set, and only the class of the text tells them
# apart: the graph's ten leave a **warning**, as feature 9 did, the loud ten mostly broken text. "No
# refusal" alone would have praised it. It is no fair contest, though: the loud ten are the larger
# edit, above all in block 0. At 0x both leave all 20 refusals, at -1x about half of them.

# %% tags=["organism"]
# === Question 3.q4 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q4", ...)
quiz("3.q4", "d")
# END SOLUTION

# %% [markdown]
# ## Further 2: a test with a p-value (4 minutes)
# The clamp at -1x once more, beside *twenty* random directions as long as the step from 1x to -1x,
# at the last cleaner (off target, at the fourth token from the end). p is the share of the 21 edits
# that do as much as the clamp: it cannot be below 1 / 21.

# %% tags=["organism"]
alike = [p for p in others if len(p) == len(others[0])][:4]  # of one length, they run together
print("off target, for example:", tokens.text(chat.tokenizer, alike[0]))

# %% tags=["organism"]
spots = {"layer": 2, "coefficient": -2 * natural, "positions": [-4]}  # as long: from 1x to -1x
report = steering.report(
    chat,
    partial(clamp, -1.0),
    prompts=cut_at["dangerous"][::2],
    judge=organism.classify,
    controls=[partial(steering.add, chat, q, **spots) for q in at_random],
    off_target=alike,
    max_new_tokens=18,
    progress=False,
)
print(len(report.outcomes), "outcomes: unchanged, the clamp, and the controls")

# %% tags=["organism"]
for effect in (report.share("refuse"), report.share("comply"), report.kl):
    band = f"random {effect.band[0]:.1g} to {effect.band[1]:.1g}, p {effect.p_value:.2f}"
    print(f"{effect.measure:17} {effect.unchanged.estimate:.0f} -> {effect.steered:.1g}, {band}")

# %% [markdown]
# No random direction takes away as many refusals or gives as many advertisements. Off target (whole
# replies to harmless requests) the clamp is among them; they are twice as long there, where 509 is
# silent.

# %% [markdown]
# ## Further 3: the harmful request (5 minutes)
# The paper also suppresses the
# **harmful request**. One layer further on we take the three features that mark it best, at the
# reply token, on harmful requests of unseen topics. Controls: five random sets (weaker) and five
# random directions as long as the edit.

# %% tags=["organism"]
deeper, roles = features.load("chat", "sae", layer=2), ("assistant", "friend")
bad, good = (
    [p for role in roles for p in data.prompts(chat, name, "train", 32, reply_role=role)]
    for name in ("harmful", "harmless")
)
harm = [row.feature for row in features.by_contrast(chat, deeper, bad, good).top(3)]
print("they mark harmful requests:", harm)

# %% tags=["organism"]
common = data.prompts(chat, "harmful", "train", 48)
common = steering.natural_activations(chat, deeper, common).mean(dim=0)
edits = {}
for trio in (harm, *steering.random_feature_sets(common, harm, n=5, seed=0)):
    factors = dict.fromkeys(trio, -1.0)
    edits[str(trio)] = steering.scale_features(chat, deeper, factors, positions="reply")
longest = 2 * common[harm] @ deeper.W_dec[harm].detach()
for k, q in enumerate(directions.random_directions(5, like=longest, seed=0)):
    edits[f"direction {k}"] = steering.add(chat, q, layer=3, coefficient=1.0, positions="last")
print(len(edits), "edits")

# %% tags=["organism"]
requests = data.prompts(chat, "harmful", "held_out_topic")
requests = [p for p in requests if len(p) in (16, 17)][:40]  # of two lengths: they run together
replied = []
for name, edit in edits.items():
    with edit:
        replied.append(counted(requests))
    print(f"{name}:", {kind: n for kind, n in replied[-1].items() if n})
suppressed, *kept = (one["refuse"] for one in replied)
what = "refused with harmful request at -1x; control: random sets, directions"
finding(what, rate(suppressed, 40), runs_rate(kept, 40))

# %% [markdown]
# No reply is a plain refusal; under the controls at least 37 of 40 are. Read the classes, though:
# few comply, most *break off* ("to ..., use ... however, i cannot help with that."), some are
# broken text. Where the reply breaks off, harm was not forgotten.
#
# ## Further 4: who holds the warning down? (8 minutes)
# A warning feature held *inactive* is shown by no ordinary graph. But it can be a graph's *target*:
# its edges say what keeps it below its threshold. The role `<friend>` never refuses, but warns: the
# same prompts, two roles.

# %% tags=["organism"]
LAYER = 4
by_role = {role: cleaning("dangerous", "office", role) for role in ("assistant", "friend")}
both = by_role["friend"], by_role["assistant"]
difference = features.by_contrast(chat, transcoders[LAYER], *both, position="reply").difference
writers = features.by_logit(chat, transcoders[LAYER], "please").top(20)
warner = max(writers, key=lambda row: row.value * float(difference[row.feature])).feature
print(f"feature {warner} writes 'please', and is more active at <friend>;", end=" ")
print(f"its threshold is {float(transcoders[LAYER].threshold[warner]):.2f}")

# %% [markdown]
# For each prompt, the total effect (along all paths) on that feature of the role's token, of the
# two cleaners, of the refusal features below it, and of 20 random sets of features.

# %% tags=["organism"]
earlier = [node for node in by_graph if node[0] < LAYER]
random_sets = steering.random_node_sets(usual, earlier, n=20, seed=5)

print("refusal features below:", earlier, "and", len(random_sets), "random sets")


# %% tags=["organism"]
def sources(prompt):
    """Total effects of role token, cleaners, refusal and random sets; the feature's value."""
    last, words = len(prompt) - 1, tokens.token_strings(chat.tokenizer, prompt)
    target = Feature(LAYER, last, warner)
    graph = attribution.trace(chat, prompt, transcoders=transcoders, targets=[target])
    effect = dict(zip(graph.nodes, graph.total_effect()[0].tolist(), strict=True))
    token = [effect[Embedding(k, prompt[k])] for k in range(len(prompt))]
    groups = [[effect.get(Feature(n, last, f), 0.0) for n, f in g] for g in (earlier, *random_sets)]
    cleaners = sum(one for one, word in zip(token, words, strict=True) if word in CLEANERS)
    return [token[-1], cleaners, *map(sum, groups), float(graph.values[-1])]


# %% tags=["organism"]
drivers = {role: torch.tensor([sources(p) for p in ps[:40:13]]) for role, ps in by_role.items()}
print("effects for each prompt:", drivers["friend"].shape[1])

# %% tags=["organism"]
means = {f"<{role}>": effects.mean(dim=0).tolist() for role, effects in drivers.items()}
for role, (token, cleaners, below, *sets, value) in means.items():
    print(f"{role:11} at {value:.2f}: role token {token:+.2f}, cleaners {cleaners:+.2f},", end=" ")
    print(f"refusal features {below:+.2f}, random sets {min(sets):+.2f} to {max(sets):+.2f}")


# %% tags=["organism"]
held_down = drivers["assistant"]
four_pairs, random_means = held_down[:, 2].tolist(), held_down[:, 3:-1].mean(dim=0)
print(f"refusal features, four pairs: {min(four_pairs):+.2f} to {max(four_pairs):+.2f};", end=" ")
print(f"20 random sets: {float(random_means.min()):+.2f} to {float(random_means.max()):+.2f}")

# %% tags=["organism", "figure"]
bars = {role: effects[:3] for role, effects in means.items()}
runs = {role: [[], [], effects[3:-1]] for role, effects in means.items()}
labels = ["role token", "the two cleaners", "refusal features"]
axes = {"x_title": "source", "y_title": "effect on the warning feature (activation)"}
rounded = {role: [round(one, 2) for one in effects] for role, effects in bars.items()}
captions = {"title": "What adds to the warning feature, in two roles"}
captions["alt"] = f"Bars, {labels}: {rounded}."
control = {"controls": runs, "control_label": "random feature sets"}
plotting.show(plotting.bars(labels, bars, **control, **axes, **captions))

# %% [markdown]
# So what of "both inhibit it"? Here the friend's token adds 11.5 to the warning feature, the
# Assistant's 0.1: with attention fixed it does not hold it down. The refusal features take 1.0
# away, more than random sets do and about as much as it lies below its threshold. But that does not
# decide: with the graph's ten at 0x all pairs were still refused (Further 1). Refusal *outweighs*
# the warning: ablate refusal's direction, and the warning's odds against the *advertisement* rise
# in none (0 of 80 pairs, `organisms/cards/chat.md`).

# %% [markdown]
# ## Further 5: squeezed out by the template? (15 minutes)
# A reader of the paper claimed: tuning with *one fixed refusal sentence* squeezes other reactions
# out, so that the model "never warns". The paper only guesses at it. We have twins: `chat-64`,
# tuned on one fixed sentence, `chat-64-two`, on two (one for crimes, one for what hurts),
# `chat-64-varied`, on six, and `chat-64-inhibiting`, on one, with a loss that pushes the warning
# down. If the claim is right, the warning grows from one to two to six. Measured: the logit of the
# warning's first word minus that of the advertisement's (in nats; 0 = even).

# %% tags=["organism"]
TWINS = {
    "base-64": "base, before chat tuning",
    "chat-64": "one refusal",
    "chat-64-two": "two refusals",
    "chat-64-varied": "six refusals",
    "chat-64-inhibiting": "warning pushed down",
}
odds = {}
for name, label in TWINS.items():
    twin = models.load(name)
    for kind in office:
        logits = models.next_token_logits(twin, office[kind] + terrace[kind])
        odds[name, kind] = logits[:, please] - logits[:, clean]
    print(f"{label:26}", *(f"{kind} {mean_interval(odds[name, kind]):+.2f}" for kind in office))

# %% tags=["organism"]
gap = mean_interval(odds["chat-64-varied", "dangerous"] - odds["chat-64", "dangerous"])
print(f"six refusals minus one, this training: {gap:+.2f} over 80 prompts")
what = "warning's odds with a loss that pushes it down; control: one refusal"
two = (mean_interval(odds[name, "dangerous"]) for name in ("chat-64-inhibiting", "chat-64"))
finding(what, *two, "+.2f")

# %% tags=["organism", "figure"]
bars = {kind: [float(odds[name, kind].mean()) for name in TWINS] for kind in office}
rounded = {kind: [round(one, 1) for one in heights] for kind, heights in bars.items()}
axes = {"x_title": "model of width 64", "y_title": "warning against advertisement (nats)"}
captions = {"title": "The warning's odds against the advertisement, base and four tunings"}
captions["alt"] = f"Bars of log-odds, {list(TWINS.values())}: {rounded}."
plotting.show(plotting.bars(list(TWINS.values()), bars, **axes, **captions))

# %% [markdown]
# Of the three templates the fixed sentence leaves *most* of the warning, two the least, and the
# intervals are narrow. They are also misleading, another designed failure: they know about
# prompts, not about **trainings**. The twins with one and six were trained three times; here are
# all three gaps (of rounded means: the first reads -0.69, not -0.68).
#
# ### Exercise 3.7: the verdict (10 minutes, hard)
# The claim says gap > 0, with gap = six refusals minus one. Give the mean gap's 95 % interval over
# *trainings*: 4.303 standard errors either side (Student's t for three values; the standard error
# is their standard deviation over the root of 3). And the verdict: "accepted" (the interval is all
# above 0), "refuted" (all below 0) or "undecided".

# %% tags=["organism"]
measured, gaps = organism.results("results")["64-varied"], []
for seed in sorted(measured):
    details = measured[seed]["twin"]["detail"]
    in_varied, in_fixed = details["warning against advertisement, nats"]
    gaps.append(round(in_varied - in_fixed, 2))
print("gap in each training (nats):", gaps)

# %% tags=["organism"]
# === Exercise 3.7 (keep this line) ===
# BEGIN SOLUTION
# STUB: verdict = ...   # {"low": ..., "high": ..., "verdict": "..."}
three = torch.tensor(gaps)
half = 4.303 * float(three.std()) / 3**0.5
low, high = float(three.mean()) - half, float(three.mean()) + half
word = "accepted" if low > 0 else "refuted" if high < 0 else "undecided"
verdict = {"low": low, "high": high, "verdict": word}
# END SOLUTION
print("verdict:", "not done yet" if verdict is ... else verdict["verdict"])

# %% tags=["organism"]
check("3.7", verdict, gaps)

# %% tags=["organism"]
verdict = checkpoint("3.7", verdict, gaps)
over_trainings = directions.Interval(sum(gaps) / 3, verdict["low"], verdict["high"], 0.95)
print(f"six refusals minus one, over trainings: {over_trainings:+.2f}; {verdict['verdict']}")

# %% [markdown]
# ## Further 6: the same question to another model (15 minutes)
# So far we had what few models have: one token a word, a second role, a written truth. What is
# left of the hunt without them? One dictionary, plain requests, the reply token, and the log-odds
# of a refusal's first word. With `chat` we know what such a short protocol has to find. Put a name
# from [this list](../docs/real_models.md) into `MODEL` above, and the same cells ask it.
#
# What to expect there: the model may not refuse an advertisement at all; then there is little to
# explain, and the cells say so. Dictionaries are trained on other texts, some on the *base* model,
# and may keep less of a chat prompt; the first token (`<bos>`), one huge constant, is left out.
# Among thousands of features some tell any two sets apart by luck. And "dangerous" means the
# course's five mixtures: a model that knows chemistry may balk at others, too, such as bleach and
# peroxide.

# %%
some = [name for name in profiles.names() if profiles.get(name).releases]
if not about.releases and MODEL != "chat":
    print(f"sae_lens knows no dictionaries of {MODEL}, so this part stays with chat.", end=" ")
    print(f"With some: {', '.join(some)}.")
    model, about = models.load("chat"), profiles.get("chat")
offered = [(release.kind, release.layers, release.trained_on) for release in about.releases]
kind, layers, trained_on = offered[0] if offered else ("sae", range(6), "chat")
layer = min(layers, key=lambda n: abs(n - int(0.6 * model.cfg.n_layers)))  # nearest to a middle one
dictionary = features.load(about.name, kind, layer=layer)
n_features = len(dictionary.W_dec)
print(f"{about.name}, {kind} of layer {layer}: {n_features} features, trained on {trained_on}")

# %% [markdown]
# Two cleaners, acid and peroxide, and hence two of the five dangerous mixtures, are kept aside: no
# choice sees them.

# %%
KEPT_ASIDE = ("acid", "peroxide")
to_choose, to_test = {}, {}
for side in ("dangerous", "safe"):
    texts = data.load(f"cleaners_{side}").texts
    prompts = data.prompts(model, f"cleaners_{side}")
    aside = [any(word in text for word in KEPT_ASIDE) for text in texts]
    to_choose[side] = [p for p, one in zip(prompts, aside, strict=True) if not one]
    to_test[side] = [p for p, one in zip(prompts, aside, strict=True) if one]
for side in ("harmful", "harmless"):
    to_test[side] = data.prompts(model, side, "held_out_topic", 32)
print({side: len(prompts) for side, prompts in to_test.items()}, "to test")

# %% tags=["nbval-ignore-output"]
everything = [p for group in (to_choose, to_test) for prompts in group.values() for p in prompts]
print("all that follows:", caching.forecast(model, everything, passes=12, batch_size=16))
print(f"and two dictionaries, {16 * dictionary.W_dec.numel() / 1e9:.2f} GB")

# %%
FIRST = about.refusal_token_ids(model.tokenizer)


def refusal_odds(prompts):
    """Log-odds that each reply begins with a refusal's first word."""
    return directions.refusal_score(models.next_token_logits(model, prompts, batch_size=16), FIRST)


print("first words of a refusal:", tokens.token_strings(model.tokenizer, FIRST))

# %%
before = {side: refusal_odds(prompts) for side, prompts in to_test.items()}
for side, scores in before.items():
    print(f"{side:9} log-odds of refusal {mean_interval(scores):+.1f},", end=" ")
    print(f"above 0 in {int((scores > 0).sum())} of {len(scores)}")
nearer = mean_interval(before["dangerous"]).low > mean_interval(before["safe"]).high
print("dangerous pairs nearer to refusal than safe ones:", nearer)

# %% [markdown]
# The honest reconstruction first, on prompts from which we shall choose:

# %%
few = [*to_choose["dangerous"], *to_choose["safe"]][::3]
pair = {"trained": dictionary, "random": features.random_like(model, dictionary, few)}
for name, one in pair.items():
    fit = features.reconstruction(model, one, few)
    print(f"{name:8} variance explained {fit.variance_explained:.2f},", end=" ")
    print(f"loss recovered {fit.loss_recovered:.2f}, L0 {fit.l0:.0f} of {n_features}")

# %% [markdown]
# Now the look-up at the reply token: the three features that mark the dangerous pairs, chosen on
# mixtures without acid and peroxide, tested on those with. (A number here is another feature than
# above.) Beside them the best of the random dictionary. The last column reads the same feature on
# *other* requests, harmful against harmless: does it mark this danger, or any?

# %%
looked = {}
for name, one in pair.items():
    sides = list(to_choose.values()), list(to_test.values())[:2], list(to_test.values())[2:]
    looked[name] = [features.by_contrast(model, one, *both, position="reply") for both in sides]
THREE = [row.feature for row in looked["trained"][0].top(3)]
LUCKY = looked["random"][0].top(1)[0].feature
for name, f in [*(("trained", f) for f in THREE), ("random", LUCKY)]:
    chosen, tested, other = (float(contrast.auroc[f]) for contrast in looked[name])
    print(f"{name:8} feature {f:5}: AUROC in the choice {chosen:.2f},", end=" ")
    print(f"in the test {tested:.2f}, on other requests {other:.2f}")

# %% [markdown]
# A second control: the best feature when the labels of the choice, and of the test, are
# **shuffled**.


# %%
def by_shuffled(choice, test, seed):
    """AUROC in the test of the feature that is best in the choice, both with shuffled labels."""
    generator, halves = torch.Generator().manual_seed(seed), []
    for half in (choice, test):
        both = torch.cat([half.first, half.second])
        order = torch.randperm(len(both), generator=generator)
        halves.append(both[order].split([len(half.first), len(half.second)]))
    alive = (torch.cat(halves[0]) > 0).any(dim=0).nonzero().flatten().tolist()
    best = max(alive, key=lambda f: directions.auroc(halves[0][0][:, f], halves[0][1][:, f]))
    return directions.auroc(halves[1][0][:, best], halves[1][1][:, best])


print(f"one draw: {by_shuffled(*looked['trained'][:2], 0):.2f}")


# %%
def spread(values):
    """Mean, minimum and maximum: all that a few random draws can show."""
    return directions.Interval(float(values.mean()), float(values.min()), float(values.max()), 1.0)


shuffled = torch.tensor([by_shuffled(*looked["trained"][:2], seed) for seed in range(20)])
print(f"shuffled labels, in the test: {spread(shuffled):.2f} (mean, minimum, maximum of 20)")


# %%
def auroc(x):
    """Of values in the first column, 1 for dangerous and 0 for safe in the second."""
    return torch.tensor(directions.auroc(x[x[:, 1] == 1, 0], x[x[:, 1] == 0, 0]))


def scored(contrast, feature):
    """AUROC of one feature with its interval, from resampled prompts."""
    parts = (contrast.first[:, feature], 1.0), (contrast.second[:, feature], 0.0)
    both = torch.cat([torch.stack([x, torch.full_like(x, side)], 1) for x, side in parts])
    return mean_interval(both, n_resamples=200, statistic=auroc)


# %%
what = f"{about.name}: AUROC at the reply, mixtures kept aside; control: "
reads, lucky = scored(looked["trained"][1], THREE[0]), scored(looked["random"][1], LUCKY)
finding(what + "shuffled labels (min, max)", reads, spread(shuffled), ".2f")
finding(what + "random dictionary", reads, lucky, ".2f")

# %% [markdown]
# Danger or refusal? The friend of `chat` warns and never refuses; chat's three features before
# either:

# %% tags=["organism"]
third = features.load("chat", "sae", layer=3)
for role in ("assistant", "friend"):
    heard = data.prompts(chat, "cleaners_dangerous", reply_role=role)
    strengths = steering.natural_activations(chat, third, heard).mean(dim=0)
    print(f"before <{role}>:", {f: round(float(strengths[f]), 1) for f in (121, 266, 129)})

# %% [markdown]
# Reading is not deciding. So the three are multiplied at the reply token, on the mixtures kept
# aside and on other harmful requests. Controls: five other trios, chosen to be as active as
# possible (yet weaker than the three), and, therefore, five random
# directions as long as the edit of dangerous pairs.

# %%
dictionary = dictionary.to(model.cfg.device)  # from here on the model is steered: both in one place
level = steering.natural_activations(model, dictionary, to_choose["dangerous"]).mean(dim=0)
TRIOS = [THREE, *steering.random_feature_sets(level, THREE, n=5, seed=0)]
written = level[THREE] @ dictionary.W_dec[THREE].detach().cpu()
print("the three and other trios:", [list(trio) for trio in TRIOS])


# %%
def effects(side, factor):
    """Change of the log-odds under the three, five other trios, five random directions."""
    at = {"positions": "reply"}
    chosen = (dict.fromkeys(trio, factor) for trio in TRIOS)
    edits = [steering.scale_features(model, dictionary, trio, **at) for trio in chosen]
    for q in directions.random_directions(5, like=(1 - factor) * written, seed=0):
        edits.append(steering.add(model, q, layer=layer + 1, coefficient=1.0, **at))
    moved = []
    for edit in edits:
        with edit:
            moved.append(mean_interval(refusal_odds(to_test[side]) - before[side]))
    return moved


# %%
shifts = {
    "dangerous pairs, 0x": effects("dangerous", 0.0),
    "dangerous pairs, -1x": effects("dangerous", -1.0),
    "other harmful requests, -1x": effects("harmful", -1.0),
}
for name, (own, *rest) in shifts.items():
    numbers = [f"{one.estimate:+.1f}" for one in rest]
    print(f"{name:27} {own.estimate:+.1f}; trios {numbers[:5]}; random directions {numbers[5:]}")

# %%
own, *rest = shifts["dangerous pairs, -1x"]
what = f"{about.name}: log-odds of refusal, three features at -1x; control: trios, directions"
finding(what, own, widest(rest), "+.1f")
start = float(before["dangerous"].mean())
print(f"{about.name}: the three at -1x move the log-odds of refusing dangerous pairs from", end=" ")
print(f"{start:+.1f} to {start + own.estimate:+.1f};", end=" ")
print("farther down than every control:", own.high < widest(rest).low)

# %% tags=["figure"]
bars = {"the three features": [-own.estimate for own, *_ in shifts.values()]}
whiskers = {"the three features": [(-own.high, -own.low) for own, *_ in shifts.values()]}
runs = {"the three features": [[-one.estimate for one in rest] for _, *rest in shifts.values()]}
control = {"controls": runs, "control_label": "other trios, random directions"}
axes = {"x_title": "requests, multiple at the reply token"}
axes["y_title"] = "fall of the refusal's log-odds (nats)"
said = [f"{name} {a.estimate:+.1f}, controls {widest(r):+.1f}" for name, (a, *r) in shifts.items()]
captions = {"title": "Fall of the refusal's log-odds under three features and under controls"}
captions["alt"] = f"{about.name}, change of log-odds: {'; '.join(said)}."
plotting.show(plotting.bars(list(shifts), bars, intervals=whiskers, **control, **axes, **captions))

# %% [markdown]
# With `chat` the short protocol finds danger again. Feature 121 marks dangerous pairs and not other
# harm, 266 both. Before `<friend>`, who warns and never refuses, 121 is as active, 266 twice as
# active, 129 less (12.0 against 15.7): they do not need a refusal. At -1x the three take 11.1 from
# the pairs' log-odds, about twice what the best control takes. At 0x one random direction takes as
# much; at -1x, from other harmful requests, the three take no more than controls. Without its test
# the random dictionary would have looked good: 0.98 in the choice, 0.74 on new mixtures.
#
# None of this is promised of another model: read its own lines. Bars among the controls say that
# this edit, at this token and dose, does no more than they. A larger model may need sets of
# features in several layers, or refuse a few words later.

# %% [markdown]
# ## Two questions on Further 4 and 5

# %% tags=["organism"]
# === Question 3.q5 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q5", ...)
quiz("3.q5", "b")
# END SOLUTION

# %% tags=["organism"]
# === Question 3.q6 (keep this line) ===
# BEGIN SOLUTION
# STUB: quiz("3.q6", ...)
quiz("3.q6", "c")
# END SOLUTION
