"""Right and wrong answers to notebook 03."""

from collections import OrderedDict
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from bank import given, rates, right_claims, runs, wilson, wrong_claims

from course_lib import attribution, directions, features
from course_lib.grading.claims import claim

from .exercises import CONCEPTS

DANGEROUS = {frozenset(pair) for pair in (("bleach", "ammonia"), ("bleach", "acid"), ("peroxide", "vinegar"))}
RANDOM_AFTER, WARNED, LEFT_OTHERS = (
    [40, 40, 39, 40, 40, 40, 38, 40, 40, 40],
    {"dangerous": 34, "safe": 1},
    [40, 40, 39, 40, 40, 40, 40, 24],
)
GAPS = [-0.69, -0.07, 0.39]


@cache
def tested():
    """Feature k marks concept k; feature 8 is silent where it is, 9 marks the near misses, 10 is active on both."""
    contrasts = {}
    for k, concept in enumerate(CONCEPTS):
        first, second = torch.zeros(12, 11), torch.zeros(12, 11)
        first[:, k], second[:6, 8], second[:, 9] = torch.linspace(1, 2, 12), 1.0, 2.0
        first[:, 9], first[:, 10], second[:, 10] = 1.0, 1.0, 1.0
        if concept == "bleach":  # what finds danger also finds bleach, less well
            first[:10, CONCEPTS.index("danger")] = 1.0
        auroc = torch.tensor([directions.auroc(first[:, f], second[:, f]) for f in range(11)])
        contrasts[concept] = features.Contrast((), first, second, auroc)
    return contrasts


CONTEXT = {
    "3.1": lambda: (tested(),),
    "3.2": lambda: (DANGEROUS,),
    "3.5": lambda: (1, RANDOM_AFTER, 40),
    "3.6": lambda: (WARNED, 40),
    "3.7": lambda: (GAPS,),
    "3.8": lambda: (0, LEFT_OTHERS, 40),
}


def right_finds(**changes):
    return {concept: k for k, concept in enumerate(CONCEPTS)} | changes


# 3.2
def pair(one, two):
    return frozenset((one, two)) in DANGEROUS


def by_loop(strings, position):
    for first, second in map(tuple, DANGEROUS):
        if position > 1 and strings[position - 2 : position + 1] in ([first, "and", second], [second, "and", first]):
            return True
    return False


ORDERED = {tuple(sorted(p)) for p in DANGEROUS}


def by_slice(strings, position):
    match strings[max(0, position - 2) : position + 1]:
        case [one, "and", two]:
            return pair(one, two)
    return False


def by_text(strings, position):
    text = " ".join(strings[max(0, position - 2) : position + 1])
    return text in {f"{one} and {two}" for both in DANGEROUS for one in both for two in both - {one}}


def by_difference_of_sets(strings, position):
    if position < 2 or strings[position - 1] != "and":
        return False
    return any(not both ^ {strings[position], strings[position - 2]} for both in DANGEROUS)


# 3.3
def last_row(graph):
    return graph.edges[-1]


def edges_by(graph, row, keep=lambda node, last: node.position == last, value=float):
    last = len(graph.prompt_ids) - 1
    return {
        (n.layer, n.feature): value(e)
        for n, e in zip(graph.nodes, row, strict=True)
        if isinstance(n, attribution.Feature) and keep(n, last)
    }


def by_edge(graph):
    end = len(graph.prompt_ids) - 1
    nodes = [n for n in graph.features if n.position == end]
    return {(n.layer, n.feature): last_row(graph)[graph.nodes.index(n)].item() for n in nodes}


def by_index(graph):
    place = {node: k for k, node in enumerate(graph.nodes)}
    row = graph.edges[place[graph.asked[0]]].tolist()
    own = [n for n in graph.nodes if type(n) is attribution.Feature and n.position + 1 == len(graph.prompt_ids)]
    return {(n.layer, n.feature): row[place[n]] for n in own}


def numpy_keys(graph):
    return {tuple(map(np.int64, key)): np.float64(edge) for key, edge in edges_by(graph, last_row(graph)).items()}


def with_errors(graph):
    return {
        (getattr(n, "layer", None), getattr(n, "feature", None), n.position): float(e)
        for n, e in zip(graph.nodes, last_row(graph), strict=True)
    }


# 3.4
def new_values(acts, values):
    new = acts.clone()
    for feature, value in values.items():
        new[..., feature] = value
    return new


def at_token(change):
    """x with `change(here, dictionary, values)` in the place of the token at the position."""

    def edited(x, dictionary, values, position):
        out = x.clone()
        out[:, position] = change(x[:, position], dictionary, values)
        return out

    return edited


def shift(change):
    """As `at_token`: `change(old, wanted)`, both [prompt, feature], times the features' decoder rows is added."""

    def moved(here, d, values):
        old, wanted = d.encode(here)[:, list(values)], torch.tensor(list(values.values()))
        return here + change(old, wanted) @ d.W_dec[list(values)]

    return at_token(moved)


def with_error(here, d, values):
    acts = d.encode(here)
    return d.decode(new_values(acts, values)) + here - d.decode(acts)


def by_difference(here, d, values):
    acts = d.encode(here)
    return here + (new_values(acts, values) - acts) @ d.W_dec


def by_prompt(x, dictionary, values, position):
    """Prompt by prompt and feature by feature; the old activations are read once."""
    out = []
    for prompt in x:
        tokens = list(prompt)
        acts = dictionary.encode(prompt[None, position])[0]
        for feature, value in values.items():
            tokens[position] = tokens[position] + (value - acts[feature]) * dictionary.W_dec[feature]
        out.append(torch.stack(tokens))
    return torch.stack(out)


def by_mask(x, dictionary, values, position):
    """Everything is encoded, one token is kept."""
    acts = dictionary.encode(x)
    edited = dictionary.decode(new_values(acts, values)) + x - dictionary(x)
    here = torch.zeros(x.shape[1], 1)
    here[position] = 1
    return torch.where(here > 0, edited, x)


def in_place(x, d, values, position):
    x[:, position] = with_error(x[:, position], d, values)
    return x


def one_after_the_other(here, d, values):
    """Reads the second feature after the first was set, which may have changed it."""
    for feature, value in values.items():
        here = here + (value - d.encode(here)[:, feature, None]) * d.W_dec[feature]
    return here


def unit_rows(here, d, values):
    acts = d.encode(here)
    return here + (new_values(acts, values) - acts) @ (d.W_dec / d.W_dec.norm(dim=1, keepdim=True))


def projected(here, d, values):
    rows = d.W_dec[list(values)]
    return here + (torch.tensor(list(values.values())) - here @ rows.T / rows.pow(2).sum(dim=1)) @ rows


def every_token(x, d, values, position):
    return with_error(x, d, values)


def sliced(x, d, values, position):
    out, one = x.clone(), slice(position, position + 1)
    out[:, one] = with_error(x[:, one], d, values)
    return out


def first_prompt(x, d, values, position):
    out = x.clone()
    out[0, position] = with_error(x[:, position], d, values)[0]
    return out


def one_feature(which):
    """Sets one of the features only."""
    return at_token(lambda here, d, values: with_error(here, d, dict([list(values.items())[which]])))


# 3.7
def verdict(half, word="undecided", middle=None):
    three = torch.tensor(GAPS)
    at = float(three.mean()) if middle is None else middle
    return {"low": at - half, "high": at + half, "verdict": word}


ERROR = float(torch.tensor(GAPS).std()) / 3**0.5
T = 4.303 * ERROR


def no_danger(after, others, n):
    return (after, n), (others, n)


def warning(warned, n):
    return (warned["dangerous"], n), (warned["safe"], n)


def shared(left, others, n):
    return (left, n), (others, n)


# what strangers wrote
OTHER = SimpleNamespace(prompt_ids=range(20))
"""Stands for a graph of the notebook, of a longer prompt."""


def nothing_after_the_loop(strings, position):
    for both in DANGEROUS:
        if position > 1 and strings[position - 1] == "and" and both == {strings[position - 2], strings[position]}:
            return True


def last_and(strings, position):
    before = [k for k in range(1, position) if strings[k] == "and"]
    return bool(before) and pair(strings[before[-1] - 1], strings[position])


def three_words(strings, position):
    three = set(strings[position - 2 : position + 1])
    return "and" in three and any(both <= three for both in DANGEROUS)


def by_end_of_text(strings, position):
    said = " ".join(strings[: position + 1])
    return any(said.endswith((f"{a} and {b}", f"{b} and {a}")) for a, b in map(tuple, DANGEROUS))


def by_beginning(strings, position):
    two, both = strings[position - 2 : position + 1 : 2], [tuple(p) for p in DANGEROUS]
    return (
        position > 1
        and strings[position - 1] == "and"
        and any((two[0], True) in ((a, two[1].startswith(b)), (b, two[1].startswith(a))) for a, b in both)
    )


def first_place(strings, position):
    at = strings.index(strings[position])
    return at > 1 and strings[at - 1] == "and" and pair(strings[at - 2], strings[at])


def by_slices(strings, position):
    before = tuple(strings[max(0, position - 2) : position + 1])
    return any(before in ((a, "and", b), (b, "and", a)) for a, b in map(tuple, DANGEROUS))


def one_expression(strings, position):
    return np.bool_(strings[position - 1] == "and") & np.bool_(
        position > 1 and any(p == {strings[position - 2], strings[position]} for p in DANGEROUS)
    )


def counted_among_kept(graph):
    kept = [n for n in graph.features if n.position == len(graph.prompt_ids) - 1]
    return {(n.layer, n.feature): float(last_row(graph)[k]) for k, n in enumerate(kept)}


def from_offset(graph):
    row, own = graph.edges[-len(graph.asked)], enumerate(graph.features)
    return {(n.layer, n.feature): row[k].item() for k, n in own if n.position + 1 == len(graph.prompt_ids)}


def other_length(graph):
    return edges_by(graph, last_row(graph), keep=lambda n, last: n.position == len(OTHER.prompt_ids) - 1)


def other_dictionary(x, dictionary, values, position):
    return at_token(lambda here, d, values: here + (here @ OWN_W_ENC)[:, :1] * values[next(iter(values))])(
        x, None, values, position
    )


OWN_W_ENC = torch.ones(4, 4)


def of_ten_runs(after, others, n):
    own = directions.runs_interval(others, n)
    return rates(wilson(after, n), (sum(others) / 10 / n, (own.low, own.high)))


def ninety(after, others, n):
    return claim(
        directions.wilson_interval(after, n, level=0.9), control=directions.runs_interval(others, n, level=0.9)
    )


def mean_of_limits(left, others, n):
    own = [directions.wilson_interval(each, n) for each in others]
    low, high = (sum(limits) / len(own) for limits in zip(*((each.low, each.high) for each in own), strict=True))
    return rates(wilson(left, n), (sum(others) / len(others) / n, (low, high)))


def lowest_to_highest(left, others, n):
    return rates(wilson(left, n), (sum(others) / len(others) / n, (min(others) / n, max(others) / n)))


def other_counts(counts, n):
    return rates(wilson(WARNED["dangerous"], 40), wilson(WARNED["safe"], 40))


def keys_unpacked(counts, n):
    dangerous, safe = counts
    return rates(wilson(dangerous, n), wilson(safe, n))


def of_forty(after, others, n):
    return rates(wilson(min(after, 40), 40), runs([min(each, 40) for each in others], 40))


def mean_of_whole_counts(left, left_others, n):
    limits = runs(left_others, n)[1]
    return rates(wilson(left, n), (round(sum(left_others) / len(left_others)) / n, limits))


def normal(count, n):
    """A rate with the limits of the normal approximation, where there are many prompts."""
    p, half = count / n, 1.96 * (count * (n - count) / n**3) ** 0.5
    return (p, (p - half, p + half)) if n > 500 else wilson(count, n)


def edges_taken(graph):
    """Right edges, and zeros in their place in the graph."""
    found = edges_by(graph, last_row(graph))
    last_row(graph).zero_()
    return found


def rows_grow(x, dictionary, values, position):
    """The right result, from a dictionary that is another one afterwards."""
    edited = x.clone()
    here = x[:, position]
    old = dictionary.encode(here)
    edited[:, position] = here + dictionary.decode(new_values(old, values)) - dictionary.decode(old)
    dictionary.W_dec *= 2
    return edited


def clamped_at(limit):
    def change(here, d, values):
        old = d.encode(here)
        new = new_values(old, {k: limit(v) for k, v in values.items()})
        return here + d.decode(new) - d.decode(old)

    return at_token(change)


def around_gap(middle):
    """A verdict whose interval is as wide as it should be, and lies elsewhere."""
    half = 4.303 * float(torch.tensor(GAPS).std()) / 3**0.5
    return {"low": middle - half, "high": middle + half, "verdict": "undecided"}


def edges_times(factor):
    def answer(graph):
        place = {
            (n.layer, n.feature): k for k, n in enumerate(graph.features) if n.position == len(graph.prompt_ids) - 1
        }
        return {
            key: edge * factor(float(graph.values[place[key]]))
            for key, edge in edges_by(graph, last_row(graph)).items()
        }

    return answer


RIGHT = {
    "3.1": [
        given(lambda tested: {c: int(contrast.auroc.argmax()) for c, contrast in tested.items()}),
        given(lambda tested: {c: contrast.auroc.argmax() for c, contrast in tested.items()}),
        right_finds(),
        right_finds(other=3),
        {concept: np.int64(k) for concept, k in right_finds().items()},
        OrderedDict(reversed(list(right_finds().items()))),
    ],
    "3.2": [
        lambda strings, position: 1 if by_slice(strings, position) else 0,
        by_slices,
        one_expression,
        lambda s, p: p >= 2 and s[p - 1] == "and" and pair(s[p - 2], s[p]),
        by_loop,
        by_slice,
        by_text,
        by_difference_of_sets,
    ],
    "3.3": [
        from_offset,
        lambda g: edges_by(g, last_row(g)),
        lambda g: edges_by(g, last_row(g), value=lambda edge: edge),
        by_edge,
        by_index,
        numpy_keys,
    ],
    "3.4": [
        lambda x, dictionary, values, position: at_token(with_error)(x, dictionary, values, position),
        at_token(by_difference),
        shift(lambda old, wanted: wanted - old),
        by_prompt,
        by_mask,
    ],
    "3.5": right_claims(no_danger),
    "3.6": right_claims(warning),
    "3.7": [
        verdict(T),
        verdict(T, "UNDECIDED"),
        verdict(T) | {"mean": -0.12},
        dict(zip(("low", "high", "verdict"), (*np.float64([-1.4693, 1.2227]), "undecided"), strict=True)),
        {"verdict": "undecided", "low": torch.tensor(-1.469), "high": torch.tensor(1.223)},
        {"low": -1.47, "high": 1.22, "verdict": "undecided"},
    ],
    "3.8": right_claims(shared),
}

WRONG = {
    "3.1": {
        "a place in the list": (dict.fromkeys(CONCEPTS, 8), "feature 8 for every concept"),
        "counted from 1": ({c: k + 1 for k, c in enumerate(CONCEPTS)}, "one too high"),
        "rows of the best": (right_finds(bleach=[SimpleNamespace(feature=0)]), "list of the best rows"),
        "in another order": (dict(zip(sorted(CONCEPTS), range(8), strict=True)), "is a find for harmful request"),
        "danger's for bleach": (right_finds(bleach=CONCEPTS.index("danger")), "finds danger rather than bleach"),
        "a list": (list(range(8)), "not a dictionary"),
        "one missing": ({c: k for k, c in enumerate(CONCEPTS) if c != "danger"}, "no find for danger"),
        "counted from the end": (right_finds(refusal=-1), "no feature -1"),
        "a float": (right_finds(bleach=3.0), "not a whole number"),
        "no such feature": (right_finds(warning=512), "no feature 512"),
        "silent": (right_finds(danger=8), "silent where danger is"),
        "near misses": (right_finds(**{"harmful request": 9}), "prefers the near misses"),
        "active on both": (right_finds(ammonia=10), "tells ammonia from its near misses less well"),
    },
    "3.2": {
        "one pair written down": (
            lambda strings, k: by_slice(strings, k) and {strings[k - 2], strings[k]} == {"bleach", "ammonia"},
            "of 3 dangerous pairs it knows 1 only: ammonia with bleach",
        ),
        "looks ahead": (lambda s, p: pair(s[p], s[p + 2]) and s[p + 1] == "and", "words after the position"),
        "two of any pairs": (
            lambda s, p: (
                p > 1 and s[p - 1] == "and" and s[p] != s[p - 2] and {s[p], s[p - 2]} <= frozenset.union(*DANGEROUS)
            ),
            None,
        ),
        "both in one pair": (
            lambda s, p: p > 1 and s[p - 1] == "and" and any(s[p] in both and s[p - 2] in both for both in DANGEROUS),
            None,
        ),
        "not before another and": (lambda s, p: by_slice(s, p) and s[p + 1 : p + 2] != ["and"], None),
        "the first mixture alone": (lambda s, p: by_slice(s, p) and not any(by_slice(s, q) for q in range(p)), None),
        "a part of and": (lambda s, p: p > 1 and s[p - 1] in "and" and pair(s[p - 2], s[p]), None),
        "ends on and": (lambda s, p: p > 1 and s[p - 1].endswith("and") and pair(s[p - 2], s[p]), None),
        "three words in any order": (three_words, "in any order"),
        "the text ends on a pair": (by_end_of_text, "a longer word"),
        "a word that begins with a cleaner": (by_beginning, "a longer word"),
        "first place of the word": (first_place, "another place"),
        "nothing in a reply": (lambda s, p: by_slice(s, p) and "<assistant>" not in s[:p], None),
        "not where the two were mixed before": (lambda s, p: by_slice(s, p) and not by_slice(s, p - 2), None),
        "not after a mark, nor where it is advised against": (
            lambda s, p: by_slice(s, p) and (p < 3 or s[p - 3] not in (".", ",", "?", "not", "no", "without")),
            None,
        ),
        "the first hundred words": (lambda s, p: p < 100 and by_slice(s, p), None),
        "a pair with anything between": (lambda s, p: p > 1 and pair(s[p - 2], s[p]), 'ask for the "and"'),
        "with bleach only": (
            lambda s, p: p > 1 and s[p - 1] == "and" and "bleach" in (s[p - 2], s[p]) and pair(s[p - 2], s[p]),
            "of 3 dangerous pairs it knows 2 only",
        ),
        "one order": (lambda s, p: p > 1 and s[p - 1] == "and" and (s[p - 2], s[p]) in ORDERED, None),
        "joined by with": (lambda s, p: p > 1 and s[p - 1] in ("and", "with", ",") and pair(s[p - 2], s[p]), '"and"'),
        "no and": (lambda s, p: p > 1 and (pair(s[p - 2], s[p]) or pair(s[p - 1], s[p])), '"and"'),
        "wraps around": (lambda s, p: s[p - 1] == "and" and pair(s[p - 2], s[p]), "wraps around"),
        "first cleaner": (
            lambda s, p: any(
                pair(s[p], s[q]) and s[p - 1 if q < p else p + 1] == "and" for q in (p - 2, p + 2) if 0 <= q < len(s)
            ),
            "fires on the first cleaner",
        ),
        "anywhere in the prompt": (lambda s, p: any(pair(a, b) for a in s for b in s), None),
        "any pair so far": (lambda s, p: any(pair(a, s[p]) for a in s[:p]), "do not meet"),
        "the word itself": (lambda s, p: any(s[p] in both for both in DANGEROUS), "without its partner"),
        "not a bool": (
            lambda s, p: "dangerous" if p > 1 and s[p - 1] == "and" and pair(s[p - 2], s[p]) else "",
            "not True or False",
        ),
        "on the word and": (
            lambda s, p: 0 < p < len(s) - 1 and s[p] == "and" and pair(s[p - 1], s[p + 1]),
            "misses the word",
        ),
        "always": (lambda s, p: True, "without its partner"),
        "a tuple looked up among frozensets": (
            lambda s, p: p > 1 and s[p - 1] == "and" and (s[p - 2], s[p]) in DANGEROUS,
            "it is never True",
        ),
        "once mixed, always mixed": (lambda s, p: any(by_slice(s, k) for k in range(p + 1)), "fires after the mixture"),
        "guard off by one": (lambda s, p: p > 2 and by_slice(s, p), "at the very beginning"),
        "the last and so far": (last_and, "words between the two are passed over"),
        "without capitals": (lambda s, p: by_slice([word.lower() for word in s], p), "capital letters or spaces"),
        "not at the end": (lambda s, p: by_slice(s, p) and p < len(s) - 1, "ends the prompt"),
        "nothing after the loop": (nothing_after_the_loop, "the one past a loop"),
    },
    "3.3": {
        "times activation": (edges_times(lambda value: value), "multiplied by the features' activations"),
        "by activation": (edges_times(lambda value: 1 / value), "divided by the features' activations"),
        "where the last token stands first": (
            lambda g: edges_by(g, last_row(g), lambda n, _: n.position == g.prompt_ids.index(g.prompt_ids[-1])),
            None,
        ),
        "as many positions as tokens differ": (
            lambda g: edges_by(g, last_row(g), lambda n, _: n.position == len(set(g.prompt_ids)) - 1),
            None,
        ),
        "features below 512": (
            lambda g: edges_by(g, last_row(g), lambda n, last: n.position == last and n.feature < 512),
            None,
        ),
        "taken out of the graph": (edges_taken, "changed `graph` in place"),
        "shares": (
            lambda g: {k: e / sum(edges_by(g, last_row(g)).values()) for k, e in edges_by(g, last_row(g)).items()},
            "divided by their sum",
        ),
        "position before feature": (
            lambda g: {
                (n.position, n.feature): e
                for n, e in zip(g.nodes, g.edges[-1].tolist(), strict=True)
                if isinstance(n, attribution.Feature) and n.position == len(g.prompt_ids) - 1
            },
            "(position, feature)",
        ),
        "last position of a feature": (
            lambda g: edges_by(g, last_row(g), keep=lambda n, _: n.position == max(f.position for f in g.features)),
            "no feature is active at the last token",
        ),
        "counted among the kept": (counted_among_kept, "columns are counted"),
        "another prompt's length": (other_length, "it reads position"),
        "ten of them": (
            lambda g: dict(sorted(edges_by(g, last_row(g)).items(), key=lambda pair: -abs(pair[1]))[:10]),
            "entries are missing",
        ),
        "all positions": (lambda g: edges_by(g, last_row(g), keep=lambda n, last: True), "other positions"),
        "first position wins": (
            lambda g: {
                (n.layer, n.feature): float(e)
                for n, e in reversed(list(zip(g.nodes, last_row(g), strict=True)))
                if isinstance(n, attribution.Feature)
            },
            "earlier position",
        ),
        "absolute": (lambda g: edges_by(g, last_row(g).abs()), "lost their sign"),
        "positive only": (lambda g: {k: v for k, v in edges_by(g, last_row(g)).items() if v > 0}, "negative edges"),
        "total effect": (lambda g: edges_by(g, g.total_effect()[0]), "total effect"),
        "influence": (lambda g: edges_by(g, g.influence), "influence"),
        "activations": (
            lambda g: {
                (n.layer, n.feature): float(v)
                for n, v in zip(g.nodes, g.values, strict=True)
                if isinstance(n, attribution.Feature) and n.position == len(g.prompt_ids) - 1
            },
            "activations",
        ),
        "all but the target": (
            lambda g: {
                (n.layer, n.feature): float(e)
                for n, e in zip(g.nodes, last_row(g), strict=True)
                if n.position == len(g.prompt_ids) - 1 and not isinstance(n, attribution.Logit)
            },
            "not every node is a feature",
        ),
        "column": (lambda g: edges_by(g, g.edges[:, -1]), "another node"),
        "feature before layer": (
            lambda g: {key[::-1]: edge for key, edge in edges_by(g, last_row(g)).items()},
            "layer comes first",
        ),
        "shallow models": (
            lambda g: edges_by(g, last_row(g), keep=lambda n, last: n.position == last and n.layer < 5),
            "entries are missing",
        ),
        "last feature's row": (lambda g: edges_by(g, g.edges[len(g.features) - 1]), "last feature"),
        "summed": (lambda g: edges_by(g, g.edges.sum(dim=0)), "other features"),
        "nodes as keys": (
            lambda g: {
                n: float(e)
                for n, e in zip(g.nodes, last_row(g), strict=True)
                if isinstance(n, attribution.Feature) and n.position == 2
            },
            "keys are nodes",
        ),
        "errors and tokens too": (with_errors, "not (layer, feature)"),
        "a list": (lambda g: last_row(g).tolist(), "dictionary"),
    },
    "3.4": {
        "below 0 cut off": (clamped_at(lambda v: max(v, 0.0)), "values below 0 were cut off"),
        "sizes": (clamped_at(abs), "values below 0 lost their sign"),
        "above 1 cut off": (clamped_at(lambda v: min(v, 1.0)), "values above 1 were cut off"),
        "rows grow": (rows_grow, "changed `dictionary` in place"),
        "decoded": (at_token(lambda here, d, v: d.decode(new_values(d.encode(here), v))), "error is lost"),
        "decoded without bias": (at_token(lambda here, d, v: new_values(d.encode(here), v) @ d.W_dec), "error is lost"),
        "decoded one way, encoded back another": (
            at_token(lambda here, d, v: new_values(d.encode(here), v) @ d.W_dec + here - d(here)),
            "a part of the error",
        ),
        "error taken away": (
            at_token(lambda here, d, v: d.decode(new_values(d.encode(here), v)) - here + d(here)),
            "taken away",
        ),
        "error of the new": (at_token(lambda here, d, v: here), "nothing was changed"),
        "added": (shift(lambda old, wanted: wanted.expand_as(old)), "on top of what was there"),
        "sign": (shift(lambda old, wanted: old - wanted), "sign"),
        "scaled": (shift(lambda old, wanted: (wanted - 1) * old), "as factors"),
        "ablated": (shift(lambda old, wanted: -old), "not put in"),
        "encoder direction": (
            at_token(lambda here, d, v: here + (new_values(d.encode(here), v) - d.encode(here)) @ d.W_enc.T),
            "encoder direction",
        ),
        "unit rows": (at_token(unit_rows), "unit vectors"),
        "projection": (at_token(projected), "not the feature's activation"),
        "same for all prompts": (shift(lambda old, wanted: wanted - old.mean(dim=0, keepdim=True)), "same change"),
        "active features only": (shift(lambda old, wanted: (wanted - old) * (old > 0)), "inactive features"),
        "one after the other": (at_token(one_after_the_other), "encoded anew for each"),
        "the difference decoded": (
            at_token(lambda here, d, v: here + d.decode(new_values(d.encode(here), v) - d.encode(here))),
            "the decoder's own constant",
        ),
        "all others off": (
            at_token(lambda here, d, v: d.decode(new_values(0 * d.encode(here), v)) + here - d(here)),
            "all features that are not in `values`",
        ),
        "no value of 0": (
            at_token(lambda here, d, v: with_error(here, d, {k: value for k, value in v.items() if value})),
            "not set to the value 0",
        ),
        "first feature": (one_feature(0), "only the first of the features"),
        "last feature": (one_feature(-1), "only the last of the features"),
        "every token": (every_token, "every token"),
        "last token": (lambda x, d, v, p: at_token(with_error)(x, d, v, -1), "last token"),
        "counted from the other end": (lambda x, d, v, p: at_token(with_error)(x, d, v, -1 - p), "from the wrong end"),
        "first prompt": (first_prompt, "only the first prompt"),
        "not where there is one token": (
            lambda x, d, v, p: x.clone() if x.shape[1] == 1 else at_token(with_error)(x, d, v, p),
            None,
        ),
        "the first eight features": (at_token(lambda here, d, v: with_error(here, d, dict(list(v.items())[:8]))), None),
        "x itself where nothing changes": (
            lambda x, d, v, p: x if torch.allclose(out := at_token(with_error)(x, d, v, p), x) else out,
            "x itself comes back",
        ),
        "small changes left out": (
            at_token(lambda here, d, v: torch.where((new := with_error(here, d, v)).sub(here).abs() < 1e-3, here, new)),
            None,
        ),
        "one token returned": (lambda x, d, v, p: with_error(x[:, p], d, v), "shape"),
        "in place": (in_place, "in place"),
        "whole values": (shift(lambda old, wanted: wanted.trunc() - old), None),
        "values above 0": (shift(lambda old, wanted: wanted.relu() - old), None),
        "another dictionary": (other_dictionary, "never reads its argument `dictionary`"),
        "a slice, empty at -1": (sliced, "at position -1 nothing was changed"),
        "activations returned": (lambda x, d, v, p: new_values(d.encode(x), v), None),
    },
    "3.5": wrong_claims(no_danger, *CONTEXT["3.5"]())
    | {
        "1 for none in all runs": (
            lambda after, others, n: rates(wilson(after, n), runs(others if any(others) else [1], n)),
            "it is right for this notebook's numbers only, or ones like them: the control",
        ),
        "one run without a width": (
            lambda after, others, n: rates(
                wilson(after, n),
                runs(others, n) if len(others) > 1 else (others[0] / n, (others[0] / n, others[0] / n)),
            ),
            "the control's interval has no width",
        ),
        "of ten runs": (of_ten_runs, "divided by 10, however many runs there are"),
        "90 %": (ninety, "gives 95 % by default"),
        "mean count rounded": (
            lambda after, others, n: rates(wilson(after, n), wilson(round(sum(others) / len(others)), n)),
            "rounded to a whole count",
        ),
        "n fixed": (of_forty, "divided by 40, whatever n is"),
        "no longer refused": (
            lambda after, others, n: rates(wilson(n - after, n), runs([n - each for each in others], n)),
            "n minus after",
        ),
    },
    "3.6": wrong_claims(warning, *CONTEXT["3.6"]())
    | {
        "in the order of the dictionary": (
            lambda warned, n: rates(*(wilson(count, n) for count in warned.values())),
            "swapped",
        ),
        "never all": (
            lambda warned, n: rates(wilson(min(warned["dangerous"], n - 1), n), wilson(warned["safe"], n)),
            "the value",
        ),
        "normal, of many": (
            lambda warned, n: rates(normal(warned["dangerous"], n), wilson(warned["safe"], n)),
            "goes beyond 0 or 1",
        ),
        "of a thousand at most": (
            lambda warned, n: rates(
                *(wilson(count * min(n, 1000) // n, min(n, 1000)) for count in (warned["dangerous"], warned["safe"]))
            ),
            "is not that of 3000 prompts",
        ),
        "the keys unpacked": (keys_unpacked, "a dictionary unpacks to its keys"),
        "none as control": (
            lambda warned, n: rates(wilson(warned["dangerous"], n), wilson(0, n)),
            "it gives 0 whatever it is given",
        ),
        "the notebook's counts": (other_counts, "never reads its arguments `counts` and `n`, and reads the notebook's"),
        "of both": (
            lambda warned, n: rates(wilson(warned["dangerous"], 2 * n), wilson(warned["safe"], 2 * n)),
            "the value",
        ),
    },
    "3.7": {
        "around the median": (around_gap(sorted(GAPS)[1]), "around the median gap"),
        "around the middle": (around_gap((min(GAPS) + max(GAPS)) / 2), "middle of the lowest and the highest"),
        "around another number": (around_gap(1.0), "as wide as it should be"),
        "bootstrap": (
            {
                "low": (found := directions.bootstrap_interval(torch.tensor(GAPS))).low,
                "high": found.high,
                "verdict": "undecided",
            },
            "a bootstrap of three values",
        ),
        "90 %": (verdict(2.92 * ERROR), "one of 90 %"),
        "half as wide": (verdict(T / 2), "half as wide"),
        "low too high": (verdict(T) | {"low": -1.2}, "`low` is off"),
        "a word": ("undecided", "not a dictionary"),
        "no verdict": ({"low": -1.47, "high": 1.22}, "not a dictionary"),
        "normal": (verdict(1.96 * ERROR), "1.96"),
        "one standard error": (verdict(ERROR), "one standard error"),
        "not divided": (verdict(4.303 * ERROR * 3**0.5), "root of 3"),
        "by the root of 2": (verdict(4.303 * ERROR * 1.5**0.5), "divided by the root of 2"),
        "four values": (verdict(3.182 * ERROR), "3.182"),
        "one limit": (verdict(T) | {"high": float(torch.tensor(GAPS).mean())}, "one limit is the mean itself"),
        "divided by n": (verdict(4.303 * float(torch.tensor(GAPS).std(correction=0)) / 3**0.5), "n - 1"),
        "range": ({"low": -0.69, "high": 0.39, "verdict": "undecided"}, "maximum gap"),
        "over prompts": ({"low": -0.77, "high": -0.59, "verdict": "refuted"}, "far too narrow"),
        "sign": (verdict(T, middle=-float(torch.tensor(GAPS).mean())), "sign"),
        "around zero": (verdict(T, middle=0.0), "around 0"),
        "around the first": (verdict(T, middle=GAPS[0]), "first training"),
        "refuted": (verdict(T, "refuted"), "does not follow"),
        "accepted": (verdict(T, "accepted"), "does not follow"),
        "no word of the three": (verdict(T, "rejected"), "not among"),
        "upside down": (verdict(-T), "upside down"),
    },
    "3.8": {"mean rounded to a whole count": (mean_of_whole_counts, None)}
    | wrong_claims(shared, *CONTEXT["3.8"]())
    | {
        "highest": (lambda left, others, n: rates(wilson(left, n), wilson(max(others), n)), "the highest of"),
        "none where all runs have as many": (
            lambda left, others, n: rates(wilson(0 if {left} == {*others} else left, n), runs(others, n)),
            "the value",
        ),
        "the first fifty": (lambda left, others, n: rates(wilson(left, n), runs(others[:50], n)), "the control"),
        "each count once": (
            lambda left, others, n: rates(wilson(left, n), runs(sorted(set(others)), n)),
            "each count once",
        ),
        "first eight": (
            lambda left, others, n: rates(wilson(left, n), runs(others[:8], n)),
            "this notebook's numbers only",
        ),
        "n times the runs": (
            lambda left, others, n: rates(wilson(left, n), runs(others, n * len(others))),
            "n is the prompts of one run",
        ),
        "lowest to highest": (lowest_to_highest, "from the lowest to the highest run"),
        "mean of the limits": (mean_of_limits, "the mean of the runs' own limits"),
        "first run left out": (
            lambda left, others, n: rates(wilson(left, n), runs(others[1:], n)),
            "without the first run",
        ),
    },
}
