"""What notebook 03 asks: find features, label them, read their graph, ablate them, and claim each with a control."""

import contextlib
import random
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from chapters.claimed import check_rates
from chapters.drawn import MANY, WIDE, few_or_many, unwatched
from course_lib import attribution, organism
from course_lib.grading import expect
from course_lib.grading.checking import N_INPUTS
from course_lib.grading.registry import Off, Wrong, exercise, prediction, question

# --- 3.1 ---------------------------------------------------------------------------------------------------------

CONCEPTS = ("bleach", "ammonia", "danger", "harmful request", "refusal", "warning", "Assistant turn", "Human turn")
NEAR = 0.05
"""How far below the best feature's AUROC a find may lie."""


@exercise(
    "3.1",
    title="eight features found",
    minutes=8,
    difficulty=2,
    hints=[
        "there, near = to_find['danger'] are the two sets of prompts that a contrast needs.",
        "features.by_contrast(chat, sae, there, near).top(3) lists the best; .feature is the number.",
        "finds = {c: features.by_contrast(chat, sae, *p).top(1)[0].feature for c, p in to_find.items()}",
    ],
)
def finds(answer, tested):
    if not isinstance(answer, Mapping):
        raise Wrong("the finds are not a dictionary", 'write finds = {"bleach": 12, "ammonia": 34, ...}.')
    missing = [concept for concept in tested if concept not in answer or answer[concept] is ...]
    if missing:
        raise Wrong(f"there is no find for {', '.join(missing)}", "every concept needs one feature number.")
    _refuse_shifted({concept: answer[concept] for concept in tested}, tested)
    for concept, contrast in tested.items():
        _find(answer[concept], concept, contrast, tested)


def _is_find(feature: int, contrast) -> bool:
    n = len(contrast.auroc)
    return 0 <= feature < n and float(contrast.auroc[feature]) >= float(contrast.auroc.max()) - NEAR


def _refuse_shifted(found, tested) -> None:
    """Refuse numbers that are one off, or the same for all concepts, as a place in a list is."""
    if any(isinstance(feature, bool) or not isinstance(feature, int) for feature in found.values()):
        return  # told for each
    if all(_is_find(feature, tested[concept]) for concept, feature in found.items()):
        return
    tip = "take the number as a look-up has it: row.feature."
    for off, words in ((1, "high"), (-1, "low")):
        if all(_is_find(feature - off, tested[concept]) for concept, feature in found.items()):
            concept, feature = next(iter(found.items()))
            where = f"for {concept} it is {feature}, and feature {feature - off} is a find"
            raise Wrong(f"every number is one too {words}", tip, where=where)
    if len(found) > 2 and len(set(found.values())) == 1:
        feature = next(iter(found.values()))
        what, tip = f"the find is feature {feature} for every concept", "each concept has a look-up of its own."
        if feature < len(found):
            tip = "is it a place in the list of the best? The feature's own number is row.feature."
        raise Wrong(what, tip)
    numbered = list(found.values()) == list(range(len(found)))
    if numbered and not any(_is_find(feature, tested[concept]) for concept, feature in found.items()):
        what = f"the finds are the numbers 0 to {len(found) - 1}: places in a list, and no features"
        raise Wrong(what, "the feature's own number is row.feature.")


def _find(feature, concept: str, contrast, tested) -> None:
    """One find against what is possible in this dictionary, on prompts that were kept aside."""
    if isinstance(feature, Sequence) and len(feature) and hasattr(feature[0], "feature"):
        what = f"the find for {concept} is a list of the best rows, not one feature number"
        raise Wrong(what, "take the first of them, and its number: .top(1)[0].feature.")
    if isinstance(feature, bool) or not isinstance(feature, int):
        raise Wrong(
            f"the find for {concept} is {expect.describe(feature)}, not a whole number (an int)",
            "give the feature's number: row.feature of a look-up.",
        )
    n = len(contrast.auroc)
    if not 0 <= feature < n:
        raise Wrong(f"there is no feature {feature} (for {concept})", f"the dictionary has features 0 to {n - 1}.")
    auroc, best = float(contrast.auroc[feature]), float(contrast.auroc.max())
    if auroc >= best - NEAR:
        return
    there, near = (float((values[:, feature] > 0).float().mean()) for values in (contrast.first, contrast.second))
    others = [name for name in tested if name != concept and _is_find(feature, tested[name])]
    if there < 0.05 and others:
        raise Wrong(
            f"feature {feature} is a find for {' and '.join(others)}, and not for {concept}, where it is silent",
            f"keep number and concept together: finds[{concept!r}] comes from the two sets of to_find[{concept!r}].",
        )
    if there < 0.05:
        raise Wrong(
            f"feature {feature} is silent where {concept} is",
            "look at what it fires on: index.feature(number).fires_on; and search in `sae`, not in the random one.",
        )
    if auroc < 0.45:
        raise Wrong(
            f"feature {feature} prefers the near misses of {concept}",
            "contrast `there` against `near`, in that order, and take the first of the ranking, not the last.",
        )
    other = max(tested, key=lambda name: float(tested[name].auroc[feature] - tested[name].auroc.max()))
    elsewhere = float(tested[other].auroc[feature])
    if other != concept and elsewhere >= float(tested[other].auroc.max()) - NEAR:
        raise Wrong(
            f"feature {feature} finds {other} rather than {concept} (AUROC {elsewhere:.2f} there, {auroc:.2f} here)",
            f"a find lies within {NEAR} of the best, which reaches {best:.2f}: contrast the two sets of to_find[{concept!r}].",
        )
    raise Wrong(
        f"feature {feature} tells {concept} from its near misses less well than the best (AUROC {auroc:.3f}, the best has {best:.3f}; active on {there:.0%} and {near:.0%})",
        f"contrast the two sets of to_find[{concept!r}]; a find lies within {NEAR} of the best.",
    )


# --- 3.2 ---------------------------------------------------------------------------------------------------------


@exercise(
    "3.2",
    title="a label that can fail",
    minutes=10,
    difficulty=2,
    inputs=lambda seed, dangerous: _prompt(seed, dangerous),
    hints=[
        "The word before must be 'and', the one before that the other cleaner.",
        "Position 0 and 1 have no two words before them, and strings[-1] is the last word, not an error.",
        'position >= 2 and strings[position - 1] == "and" and frozenset((strings[position - 2], strings[position])) in DANGEROUS',
    ],
)
def completes_danger(answer, dangerous):
    one, two = sorted(next(iter(sorted(map(sorted, dangerous)))))
    other = next(c for c in ("soap", "water", "salt") if all(c not in pair for pair in dangerous))
    text = ["<bos>", "<human>", "clean", "with", one, "and", two, ".", "<end>", "<assistant>"]
    swapped, safe = (
        [two if w == one else one if w == two else w for w in text],
        [other if w == one else w for w in text],
    )
    crossed = ["<bos>", "i", "mix", one, "and", other, "and", two, "with", other, "and", one]
    joined = [[w if w != "and" else link for w in text] for link in ("or", "with", ",", ".", "then", "plus", "not")]
    lone, listed = ["<bos>", "<human>", "clean", "with", one, "."], ["<bos>", one, two, "and", two]
    from_end, from_start = [one, other, two, "and"], ["and", one, other, two]
    again, longer = [two, other, one, "and", two], (["<bos>", f"super{one}", "and", two], [one, "and", f"{two}-free"])
    cases = (
        (text, 6, "it misses the word that completes the mixture", "the pair is at position - 2 and position."),
        (
            swapped,
            6,
            "the order of the two decides: ammonia and bleach are as dangerous",
            "compare sets: frozenset((one, two)) in DANGEROUS.",
        ),
        (lone, 4, "it fires on a cleaner without its partner", "the partner is the word at position - 2."),
        (
            text,
            4,
            "it fires on the first cleaner, which completes nothing",
            "look at the words before the position, never at later ones: position - 2, position - 1 and position.",
        ),
        (
            text,
            9,
            "it fires after the mixture, too, here at the reply token",
            "only the completing word counts: use position - 2 and position only.",
        ),
        (text, 7, "it fires after the word that completes", "the token at `position` is itself one of the two."),
        (text, 5, 'it fires on the word "and"', "the token at `position` is itself one of the two."),
        (safe, 6, "it fires on a safe pair", "both words have to be in one dangerous pair."),
        (
            crossed,
            7,
            "two dangerous cleaners in one prompt are no mixture if they do not meet",
            "look at position - 2 only.",
        ),
        *(
            (apart, 6, 'it does not ask for the "and" between them', 'strings[position - 1] == "and".')
            for apart in joined
        ),
        (listed, 2, 'it does not ask for the "and" between them', 'strings[position - 1] == "and".'),
        *(
            (words, len(words) - 1, "it takes the three words in any order", 'the one in the middle is the "and".')
            for words in ([one, two, "and"], [two, one, "and"], ["<bos>", "and", one, two], ["and", two, one])
        ),
        *(
            (
                words,
                len(words) - 1,
                "words between the two are passed over",
                'the one before `position` is the "and" itself.',
            )
            for words in (
                ["<bos>", one, "and", "some", two],
                ["<bos>", one, "and", other, two],
                [one, "and", "and", two],
            )
        ),
        (
            ["<bos>", "<human>", "i", "mix", one, "and", two],
            6,
            "a mixture that ends the prompt is missed",
            "the last word may complete one, too: no word has to follow.",
        ),
        (
            again,
            4,
            "it looks at another place where the same word stands",
            "strings.index(word) finds the first: use `position` itself.",
        ),
        *(
            (words, len(words) - 1, "a longer word that holds a cleaner's name is taken for it", "compare whole words.")
            for words in longer
        ),
        *(
            (
                words,
                3,
                "capital letters or spaces are overlooked: such a word is another token",
                "compare words as they are written.",
            )
            for change in (str.upper, str.title, lambda word: f" {word}")
            for words in (["<bos>", change(one), "and", two], ["<bos>", one, change("and"), two])
        ),
        (
            from_start,
            1,
            "at position 0 or 1 it wraps around to the end of the prompt",
            "strings[-1] is the last word: ask for position >= 2.",
        ),
        (
            from_end,
            0,
            "at position 0 or 1 it wraps around to the end of the prompt",
            "strings[-1] is the last word: ask for position >= 2.",
        ),
    )
    _refuse_looking_ahead(answer, ["<bos>", one, "and", two])
    try_next = "a rule answers True or False for each position."
    found = {
        pair: [expect.flag(answer(["<bos>", a, "and", b], 3), try_next=try_next) for a, b in (pair, pair[::-1])]
        for pair in map(tuple, map(sorted, sorted(map(sorted, dangerous))))
    }
    missed = [pair for pair, said in found.items() if not any(said)]
    if missed and len(missed) < len(found):
        known = " and ".join(" with ".join(pair) for pair in found if pair not in missed)
        what = f"of {len(found)} dangerous pairs it knows {len(found) - len(missed)} only: {known}"
        where = f"<bos> {missed[0][0]} and {missed[0][1]}, position 3: it says False, and True is right"
        raise Wrong(what, "DANGEROUS holds all pairs: look each up there, and write down none.", where=where)
    if not any(expect.flag(answer(list(words), k), try_next=try_next) for words, k, *_ in cases):
        what, tip = (
            "it is never True, not even at the word that completes",
            "DANGEROUS holds frozensets, and no tuple or",
        )
        tip += " list equals one: ask for frozenset((one, two)) in DANGEROUS."
        raise Wrong(what, tip, where=f"{' '.join(text)}, position 6")
    for strings, position, what, tip in cases:
        got = expect.flag(answer(list(strings), position), try_next=try_next)
        if got != _completes(strings, position, dangerous):
            raise Wrong(what, tip, where=f"{' '.join(strings)}, position {position}")
    for pair in map(sorted, sorted(map(sorted, dangerous))):
        for one, two in (pair, pair[::-1]):
            where = f"{one} and {two}, position 2"
            if answer([one, "and", two], 2):
                continue
            if answer(["<bos>", "<human>", "i", "mix", one, "and", two], 6):
                what = "a mixture at the very beginning is missed"
                raise Wrong(what, "two words stand before position 2: ask for position >= 2.", where=where)
            what = f"a dangerous pair is missed: {one} and {two}"
            raise Wrong(what, "DANGEROUS holds all pairs: look it up there.", where=where)


def _refuse_looking_ahead(answer, words: list[str]) -> None:
    """Refuse a rule that fails at the end of a prompt because it reads words that would come later."""
    try:
        answer(list(words), len(words) - 1)
    except IndexError:
        try:
            answer([*words, *["."] * 20], len(words) - 1)
        except IndexError:
            return  # told by the call that follows
        what = "it looks at words after the position, and the last word of a prompt has none"
        tip = "the word at `position` completes: its partner stands before it, at position - 2."
        raise Wrong(what, tip, where=f"{' '.join(words)}, position {len(words) - 1}") from None


def _completes(strings: Sequence[str], position: int, dangerous) -> bool:
    if position < 2 or strings[position - 1] != "and":
        return False
    return frozenset((strings[position - 2], strings[position])) in dangerous


# --- 3.3 ---------------------------------------------------------------------------------------------------------


def _small_graph() -> attribution.AttributionGraph:
    """Three tokens; features at two positions; errors and embeddings, some with large edges; one asked target."""
    own = tuple(attribution.Feature(*place) for place in ((0, 1, 7), (0, 1, 9), (0, 2, 7), (1, 2, 3), (1, 2, 4)))
    errors = (attribution.Error(0, 2), attribution.Error(1, 2))
    embeddings = tuple(attribution.Embedding(k, k) for k in range(3))
    target = attribution.Logit(5, minus=6, position=2)
    edges = torch.zeros(11, 11)
    edges[0, 8], edges[2, [5, 9]], edges[3, [0, 2]], edges[4, 2] = (
        0.9,
        torch.tensor([0.5, 1.0]),
        torch.tensor([2.0, 1.5]),
        0.7,
    )
    edges[-1, :-1] = torch.tensor([3.0, 0.6, 0.25, 2.0, -1.0, 4.0, 0.1, 0.0, 0.3, 5.0])
    values = torch.tensor([6.0, 3.0, 2.0, 4.0, 1.0, *5 * [0.0], 14.25])
    return attribution.AttributionGraph((1, 2, 3), own, errors, embeddings, (target,), edges, torch.zeros(11), values)


BARE = 4
"""Every fifth drawn graph, from this one on, has no feature at its last token."""


def _any_graph(seed: int) -> attribution.AttributionGraph:
    """A graph of a short or long prompt in a shallow or deep model, with few or many features in any order."""
    draw = random.Random(seed)
    n_layers, n_tokens, n_features = draw.choice((2, 6, 14)), draw.choice((1, 3, 4, 20)), (40, 20_000)[seed % 4 == 1]
    places = {
        (draw.randrange(n_layers), draw.choice((n_tokens - 1, draw.randrange(n_tokens))), draw.randrange(n_features))
        for _ in range(draw.choice((4, 12, 60)))
    } | {(n_layers - 1, n_tokens - 1, 7), (0, n_tokens - 1, 7)}
    if seed == 6:  # one feature is active at the last token
        places = {place for place in places if place[1] != n_tokens - 1} | {(0, n_tokens - 1, 7)}
    if seed % 5 == BARE:  # no feature is active at the last token
        n_tokens += 1
    features = [attribution.Feature(*place) for place in sorted(places)]
    draw.shuffle(features)
    errors = tuple(attribution.Error(layer, draw.randrange(n_tokens)) for layer in range(0, n_layers, 2))
    prompt = tuple(1 + k % 3 for k in range(n_tokens))  # tokens come again
    embeddings = tuple(attribution.Embedding(k, token) for k, token in enumerate(prompt))
    n = len(features) + len(errors) + n_tokens + 1
    edges = expect.random(n, n, seed=seed).tril(-1)  # a node reads earlier ones only
    if seed % 3:  # some edges are 0
        edges = edges.where(expect.random(n, n, seed=seed + 1) < 1, 0)
    target = attribution.Logit(5, minus=6, position=n_tokens - 1)
    values, constants = expect.random(n, seed=seed + 2).exp(), expect.random(n, seed=seed + 3)
    return attribution.AttributionGraph(
        prompt, tuple(features), errors, embeddings, (target,), edges, constants, values
    )


def _reply_edges(graph: attribution.AttributionGraph) -> dict[tuple[int, int], float]:
    last = len(graph.prompt_ids) - 1
    return {
        (node.layer, node.feature): float(edge)
        for node, edge in zip(graph.nodes, graph.edges[-1], strict=True)
        if isinstance(node, attribution.Feature) and node.position == last
    }


@exercise(
    "3.3",
    title="direct edges read off a graph",
    minutes=10,
    difficulty=2,
    inputs=lambda seed: (_any_graph(seed),),
    hints=[
        "The row of the asked target is the last, graph.edges[-1]; graph.nodes name its columns.",
        "Keep nodes with isinstance(node, Feature) and node.position == len(graph.prompt_ids) - 1.",
        "{(node.layer, node.feature): float(edge) for node, edge in zip(graph.nodes, row) if ...}",
    ],
)
def reply_edges(answer):
    graph = _small_graph()
    truth = _reply_edges(graph)
    try:
        got = answer(graph)
    except AttributeError as error:
        if "object has no attribute" not in str(error) or not str(error).startswith(
            ("'Error'", "'Embedding'", "'Logit'")
        ):
            raise
        what = f"it asks a node for what it does not have: {error}"
        raise Wrong(what, "not every node is a feature: keep those with isinstance(node, Feature).") from None
    if not isinstance(got, Mapping):
        raise Wrong("it does not return a dictionary", "{(layer, feature): edge, ...}.")
    _refuse_fixed_position(answer)
    keys = set(got)
    if keys == {key[::-1] for key in truth}:
        raise Wrong("the keys are (feature, layer)", "the layer comes first.")
    if keys == {(2, feature) for _, feature in truth}:
        raise Wrong("the keys are (position, feature)", "(node.layer, node.feature): the position is the same for all.")
    if any(isinstance(key, attribution.Feature) for key in keys):
        raise Wrong("the keys are nodes", "use (node.layer, node.feature): the position is the same for all.")
    if any(not isinstance(key, tuple) or len(key) != 2 for key in keys):
        raise Wrong(
            "the keys are not (layer, feature) pairs",
            "an Error has no feature and an Embedding no layer: keep Features only.",
        )
    got = {key: expect.number(value, name=f"the edge of {key}") for key, value in got.items()}
    if expect.same(got, dict(zip(truth, graph.edges[-1].tolist(), strict=False))):
        raise Wrong(
            "the edges are those of other nodes: columns are counted among the kept features",
            "a node's column is its place among all nodes: zip(graph.nodes, row) first, then choose.",
        )
    if (0, 7) in got and abs(got[0, 7] - 3.0) < 1e-6:
        raise Wrong(
            "it takes a feature of an earlier position",
            "the same feature is a node at each position: compare node.position with the last.",
        )
    if (0, 9) in got:
        raise Wrong("features of other positions are in it", "compare node.position with the prompt's last position.")
    if set(truth) - keys:
        lost, tip = sorted(set(truth) - keys), "every Feature at the last position belongs in, whatever its edge."
        if lost == [(1, 4)]:
            raise Wrong("negative edges are left out", tip)
        raise Off(f"{lost[0]} is missing", tip)
    _graph_mistakes(torch.tensor([got[key] for key in truth]), graph, list(truth))
    if answer(_any_graph(BARE)):
        raise Wrong(
            "where no feature is active at the last token, it gives those of another",
            "the last position is that of the prompt, len(graph.prompt_ids) - 1: the dictionary may be empty.",
        )


def _refuse_fixed_position(answer) -> None:
    """Refuse a function that reads every graph at one position, such as the last of the notebook's own."""
    graphs = [_any_graph(seed) for seed in range(N_INPUTS)]
    try:
        got = [set(answer(graph)) for graph in graphs]
    except (LookupError, TypeError, ValueError):  # told by what follows
        return
    if not any(got):
        what = "it gives an empty dictionary for every graph that it was tried on"
        raise Wrong(what, "does it look where this prompt ends? The last position is len(graph.prompt_ids) - 1.")
    for position in range(max(len(graph.prompt_ids) for graph in graphs)):
        read = [{(f.layer, f.feature) for f in graph.features if f.position == position} for graph in graphs]
        if got == read:
            what = f"whatever the length of the prompt, it reads position {position}"
            raise Wrong(what, "use the graph that is given: the last position is len(graph.prompt_ids) - 1.")


def _graph_mistakes(got: Tensor, graph: attribution.AttributionGraph, keys: list[tuple[int, int]]) -> None:
    columns = [k for k, node in enumerate(graph.features) if node.position == 2]
    direct = graph.edges[-1, columns]
    mistakes = (
        (direct.abs(), "the edges have lost their sign", "do not take absolute values."),
        (
            graph.total_effect()[0, columns],
            "that is the total effect, along all paths",
            "the direct edge is an entry of graph.edges.",
        ),
        (
            graph.influence[columns],
            "that is the influence, which has no sign",
            "the direct edge is an entry of graph.edges.",
        ),
        (graph.values[columns], "those are the features' activations", "the edges stand in graph.edges."),
        (graph.worth[columns], "that is what a unit of each feature is worth", "the edges stand in graph.edges."),
        *(
            (
                value,
                f"the edges are {words} the features' activations",
                "an edge counts the activation already: graph.edges as it is.",
            )
            for words, value in (
                ("multiplied by", direct * graph.values[columns]),
                ("divided by", direct / graph.values[columns]),
            )
        ),
        *(
            (value, f"the edges are divided by {words}", "an edge is in the target's own unit: graph.edges as it is.")
            for words, value in (
                ("their sum", direct / direct.sum()),
                ("the sum of their sizes", direct / direct.abs().sum()),
                ("the size of the largest", direct / direct.abs().max()),
                ("the target's value", direct / graph.values[-1]),
            )
        ),
        (
            graph.edges[len(graph.features) - 1, columns],
            "that is the row of the last feature",
            "the target's row is the last of all: graph.edges[-1].",
        ),
        (
            graph.edges[0, columns],
            "all edges are 0: that is the row of another node, or the target's own column",
            "sources are columns; the target's row is the last of all: graph.edges[-1].",
        ),
        (
            graph.edges[columns].sum(dim=1),
            "those are edges *into* the features",
            "a source is a column: graph.edges[row, column].",
        ),
        (graph.edges[:, columns].sum(dim=0), "edges into other features are added in", "take the target's row alone."),
    )
    for value, what, tip in mistakes:
        if not torch.allclose(value, direct):
            expect.differs_from(got, value, what, tip)
    expect.close(got, direct, name="the edges", try_next=f"the order is that of graph.nodes: {keys}.")


# --- 3.4 ---------------------------------------------------------------------------------------------------------


class _Small:
    """A dictionary of a few features on a few numbers that misses something: encode is not decode's inverse."""

    def __init__(self, seed: int = 0, d_model: int = 4, n_features: int = 3) -> None:
        self.W_dec = torch.tensor([[1.0, 0.0, 0.5, 0.0], [0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 1.0, -1.0]])
        self.W_dec += (seed > 0) * expect.random(3, 4, seed=seed)
        self.W_enc = torch.tensor([[1.0, 0.0, 0.2], [0.1, 0.5, 0.0], [0.0, 0.3, 1.0], [0.4, 0.0, -0.6]])
        self.b_dec, self.b_enc = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.zeros(n_features)
        if d_model > 4 or n_features > 3:
            self.W_dec, self.b_dec = (
                expect.random(n_features, d_model, seed=seed),
                expect.random(d_model, seed=seed + 1),
            )
            self.W_enc = expect.random(d_model, n_features, seed=seed + 2) / 4

    def __call__(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        return (x @ self.W_enc).relu()

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.W_dec + self.b_dec


def _to_set(seed):
    """Few prompts or many, also equal, large, small, wide or of one token; positions from both ends; values of either sign.

    And once a dictionary of many features, of which many are set.
    """
    d_model, large = (8 * WIDE if seed == 11 else 4), {6: 200, 9: 0.002, 18: 200}.get(seed, 2)
    n_prompts, n_tokens = few_or_many(seed, (1, 2, 5)[seed % 3]), (4, 5, 9)[seed // 2 % 3]
    n_prompts, n_tokens = (5 * MANY if seed == 17 else n_prompts), (1 if seed in (8, 16) else n_tokens)
    x = large * expect.random(n_prompts, n_tokens, d_model, seed=seed)
    if seed in (4, 15):
        x = x[[0, 0, *range(len(x))]]
    values = ({1: 2.6}, {0: 0.0, 2: -0.7}, {2: 0.05, 1: 20.0, 0: -3.0}, {2: 1.5})[seed % 4]
    if seed == 13:
        values = {60 * k: k - 4.5 for k in range(MANY)}
    dictionary = _Small(seed, d_model, 60 * MANY if seed == 13 else 3)
    return x, dictionary, {k: large / 2 * v for k, v in values.items()}, (-4, 0, 2, -1, -2)[seed % 5]


@exercise(
    "3.4",
    title="a feature clamp that keeps the error",
    minutes=15,
    difficulty=3,
    inputs=lambda seed: _to_set(seed),
    hints=[
        "One token of every prompt: here = x[:, position], [prompt, d_model]. Encode it, and keep here - decode(encode(here)).",
        "Clone the activations, set each feature of values.items() in the clone, decode it, and add the error back.",
        "edited = x.clone(); edited[:, position] = dictionary.decode(new) + error; return edited",
    ],
)
def set_features(answer):
    d, position = _Small(), -2
    values: dict[int, float] = {1: 3.0, 2: -0.5}
    x = torch.tensor(
        [
            [
                [0.3, -0.2, 1.0, 0.8],
                [1.0, 2.0, 0.5, -1.0],
                [2.0, 0.1, 0.4, 0.6],
                [0.9, 1.1, 0.3, 1.5],
                [0.7, 0.9, -0.4, 0.2],
            ],
            [
                [-0.5, 1.5, 0.2, 0.3],
                [-1.0, 3.0, 0.2, 0.4],
                [0.5, 1.0, 1.5, 2.0],
                [-0.4, 2.0, 0.6, 0.7],
                [0.1, 1.2, 0.8, -0.3],
            ],
        ]
    )
    call = "set_features(x, dictionary, {1: 3.0, 2: -0.5}, -2)"
    raw = answer(x, d, dict(values), position)
    got = expect.tensor(raw, like=x, axes="prompt token d_model", name=call)
    for wrong, what, tip in _clamp_mistakes(x, d, values, position):
        expect.differs_from(got, wrong, what, tip)
    truth = _set_features(x, d, values, position)
    if expect.same(got[:, position], truth[:, position]) and not expect.same(got, truth):
        what = f"the token at position {position} is right, and others are not as they were"
        raise Wrong(what, "edited = x.clone(), then edited[:, position] = ... alone.")
    expect.close(got, truth, name=call)
    for values, what in (({0: 2.5}, "feature 0 was not set"), ({1: 0.0}, "a feature was not set to the value 0")):
        tip = "0 counts as False in Python: neither `if value` nor `if feature`."
        expect.differs_from(answer(x, d, dict(values), position), x, what, tip)
    values = {1: 3.0, 2: -0.5}
    tip = "a slice position : position + 1 is empty there: x[:, position] is the last token."
    expect.differs_from(answer(x, d, dict(values), -1), x, "at position -1 nothing was changed", tip)
    settings: tuple[dict[int, float], ...] = ({}, {0: 0.0})
    for values in settings:
        own, back = torch.zeros(2, 4, 4), None
        with contextlib.suppress(Exception):  # whether {} is possible is not asked
            back = unwatched(answer)(own, d, values, -1)  # the check itself calls it with copies
        if isinstance(back, Tensor) and back.data_ptr() == own.data_ptr():
            what, where = "where nothing has to be changed, x itself comes back", f"x = 0, values = {values}"
            raise Wrong(what, "return a new tensor always: edited = x.clone().", where=where)


def _set_features(x: Tensor, dictionary, values: Mapping[int, float], position: int) -> Tensor:
    here = x[:, position]
    old = dictionary.encode(here)
    new = _with_values(old, values)
    return _put(x, position, here + dictionary.decode(new) - dictionary.decode(old))


def _with_values(acts: Tensor, values: Mapping[int, float]) -> Tensor:
    new = acts.clone()
    for feature, value in values.items():
        new[..., feature] = value
    return new


def _put(x: Tensor, position: int, here: Tensor) -> Tensor:
    edited = x.clone()
    edited[:, position] = here
    return edited


def _clamp_mistakes(x: Tensor, d: _Small, values: Mapping[int, float], position: int) -> list[tuple[Tensor, str, str]]:
    here = x[:, position]
    old, wanted = d.encode(here), torch.tensor(list(values.values()))
    new, now, rows = _with_values(old, values), old[:, list(values)], d.W_dec[list(values)]
    change = wanted - now
    along = here @ rows.T / rows.pow(2).sum(dim=1)
    lost = "the error is lost: this is the dictionary's output, not x"
    keep = "add x's error, here - dictionary.decode(acts), to what the new activations decode to."
    set_it = "set it: new[:, feature] = value, and the old value is gone."
    every = "values may hold several features: set each of them before you decode."
    own = torch.zeros_like(old).index_copy(1, torch.tensor(list(values)), new[:, list(values)])
    one_by_one = reduce(lambda now, pair: _set_features(now, d, dict([pair]), position), values.items(), x)
    first, last = ({feature: values[feature]} for feature in (min(values), max(values)))
    changed = (
        (d.decode(new), lost, keep),
        (new @ d.W_dec, lost, keep),
        (new @ d.W_dec + here - d.decode(old), "a part of the error is lost", "decode both with dictionary.decode: it adds the same constant to both."),
        (d.decode(new) - (here - d.decode(old)), "the error is taken away, not added", keep),
        (here, "at position -2 of 5 nothing was changed", "positions may be negative: x[:, position]. The error is the *old* activations', and clone before you set."),
        (here + d.decode(new - old), "the decoder's own constant was added once too often", "decode adds its bias each time: decode(new) - decode(old) is without it, decode(new - old) is not."),
        (one_by_one[:, position], "features were set one after the other, and x was encoded anew for each", "encode once, set all of them, decode once."),
        (d.decode(own) + here - d.decode(old), "all features that are not in `values` were put to 0", "set the values in a copy of the old activations."),
        *((d.decode(new) + here - d.decode(d.encode(edited)), "the error is that of the edited token", "the error is the *old* activations': here - dictionary.decode(dictionary.encode(here)).") for edited in (d.decode(new), here - d.decode(old) + d.decode(new))),
        (here + wanted @ rows, "the values were added on top of what was there", set_it),
        (here - change @ rows, "the sign is flipped", "new minus old."),
        (here + (wanted * now - now) @ rows, "the values are used as factors: that scales the features", set_it),
        (here - now @ rows, "the features are ablated, but the values are not put in", set_it),
        (here + change @ d.W_enc[:, list(values)].T, "the encoder direction was used to write", "features write with W_dec, as dictionary.decode does."),
        (here + change @ (rows / rows.norm(dim=1, keepdim=True)), "the decoder rows were made unit vectors", "the rows have their own length: use dictionary.decode."),
        (here + (wanted - along) @ rows, "x's part along the decoder row was replaced, not the feature's activation", "the old activations are dictionary.encode(here)."),
        (here + (wanted - now.mean(dim=0)) @ rows, "every prompt got the same change", "each prompt has its own old activations."),
        (here + (change * (now > 0)) @ rows, "inactive features were left out", "set a feature also where it was 0."),
        (_set_features(x, d, first, position)[:, position], "only the first of the features was set", every),
        (_set_features(x, d, last, position)[:, position], "only the last of the features was set", every),
    )  # fmt: skip
    cut = (
        ("below 0 were cut off", lambda v: max(v, 0.0)),
        ("below 0 lost their sign", abs),
        ("above 1 were cut off", lambda v: min(v, 1.0)),
    )
    changed += tuple(
        (
            _set_features(x, d, {k: limit(v) for k, v in values.items()}, position)[:, position],
            f"values {what}",
            "set each value as it is, with neither limits nor abs: new[:, feature] = value.",
        )
        for what, limit in cut
    )
    others = (
        (_everywhere(x, d, values), "every token was changed", "one token only: edited[:, position] = ..."),
        (_set_features(x, d, values, -1), "the last token was changed", "edit the token at `position`."),
        (_set_features(x, d, values, -position), "number 2 of the 5 tokens was changed, counted from 0, and -2 is number 3", "x[:, position] counts as Python does."),
        (_set_features(x, d, values, -1 - position), "the position was counted from the wrong end", "x[:, position] counts as Python does."),
        (torch.cat([_set_features(x, d, values, position)[:1], x[1:]]), "only the first prompt was changed", "all prompts: x[:, position], not x[0, position]."),
    )  # fmt: skip
    return [*((_put(x, position, one), what, tip) for one, what, tip in changed), *others]


def _everywhere(x: Tensor, d: _Small, values: Mapping[int, float]) -> Tensor:
    old = d.encode(x)
    return x + d.decode(_with_values(old, values)) - d.decode(old)


# --- 3.5, 3.6, 3.8: claims -----------------------------------------------------------------------------------------


@exercise(
    "3.5",
    title="danger ablated, refusal gone",
    minutes=6,
    difficulty=2,
    hints=[
        "directions.wilson_interval(after, n) is the rate with its interval: the value of the claim.",
        "The other features met the same n prompts: directions.runs_interval keeps them apart.",
        "claim(directions.wilson_interval(after, n), control=directions.runs_interval(random_after, n))",
    ],
)
def no_danger(answer, *data):
    check_rates(
        answer,
        data,
        lambda after, random_after, n: ((after, n), (random_after, n)),
        "the value is the share still refused: after of n.",
        "the mean of the other features: directions.runs_interval(random_after, n).",
    )


@exercise(
    "3.6",
    title="the warning under the refusal",
    minutes=6,
    difficulty=2,
    hints=[
        'warned["dangerous"] is a count of n.',
        "The control is the same factor on the safe pairs.",
        "directions.wilson_interval(warned[name], n) for both",
    ],
)
def warning(answer, *data):
    check_rates(
        answer,
        data,
        lambda warned, n: ((warned["dangerous"], n), (warned["safe"], n)),
        'the value is warned["dangerous"] of n.',
        'the control is the same factor on safe pairs: warned["safe"] of n.',
    )


@exercise(
    "3.8",
    title="one concept, two wires",
    minutes=6,
    difficulty=2,
    hints=[
        "left is a count of n: directions.wilson_interval(left, n).",
        "The other features met the same n prompts: directions.runs_interval keeps them apart.",
        "control: directions.runs_interval(left_others, n)",
    ],
)
def shared(answer, *data):
    check_rates(
        answer,
        data,
        lambda left, left_others, n: ((left, n), (left_others, n)),
        "the value is the share of warnings left: left of n.",
        "the mean of the other features: directions.runs_interval(left_others, n).",
    )


# --- 3.7 ---------------------------------------------------------------------------------------------------------

T_TWO = 4.303  # 97.5 % quantile of Student's t with two degrees of freedom
FACTORS = {"": T_TWO, "3.182 (for four values)": 3.182, "1.96": 1.96, "2": 2.0, "1.645": 1.645, "1": 1.0}
T_TWO_OTHERS = {50: 0.816, 68: 1.312, 80: 1.886, 90: 2.920, 98: 6.965, 99: 9.925}  # those of other levels than 95 %


def _word(low: float, high: float) -> str:
    return "accepted" if low > 0 else "refuted" if high < 0 else "undecided"


@exercise(
    "3.7",
    title="a claim judged over trainings",
    minutes=10,
    difficulty=3,
    hints=[
        "The standard error of a mean of three is their standard deviation (with n - 1) divided by the root of 3.",
        "low = mean - 4.303 * standard error, high = mean + 4.303 * standard error.",
        'Where 0 lies inside, the verdict is "undecided".',
    ],
)
def verdict(answer, gaps):
    if gaps != _measured_gaps():
        raise Wrong("`gaps` is not what was measured", "run the cell above again, and leave that name alone.")
    if not isinstance(answer, Mapping) or not {"low", "high", "verdict"} <= set(answer):
        raise Wrong(
            "the answer is not a dictionary with low, high and verdict",
            'verdict = {"low": ..., "high": ..., "verdict": "..."}.',
        )
    low, high = (expect.number(answer[key], name=key) for key in ("low", "high"))
    if (word := str(answer["verdict"]).lower()) not in ("accepted", "refuted", "undecided"):
        raise Wrong(f"{word!r} is not among the three verdicts", '"accepted", "refuted" or "undecided".')
    if low > high:
        raise Wrong("the interval is upside down", "low comes first.")
    _interval_mistakes(torch.tensor([low, high], dtype=torch.float64), torch.tensor(gaps, dtype=torch.float64))
    if word != _word(low, high):
        raise Wrong(
            f'"{word}" does not follow from an interval from {low:.2f} to {high:.2f}',
            "accepted: all above 0; refuted: all below 0; undecided: 0 lies inside.",
        )


def _measured_gaps() -> list[float]:
    """Return what the notebook's cell above the exercise reads."""
    twins = [record["twin"]["detail"] for _, record in sorted(organism.results("results")["64-varied"].items())]
    return [round(varied - fixed, 2) for varied, fixed in (t["warning against advertisement, nats"] for t in twins)]


def _interval_mistakes(got: Tensor, gaps: Tensor) -> None:
    error, mean = float(gaps.std()) / len(gaps) ** 0.5, gaps.mean()

    def around(half: float, middle: Tensor = mean) -> Tensor:
        return torch.stack([middle - half, middle + half])

    mistakes = (
        (
            around(1.96 * error),
            "1.96 is for many trainings, there are three",
            "two degrees of freedom: 4.303 standard errors.",
        ),
        (
            around(T_TWO * error / 2),
            "the interval is half as wide as it should be",
            "4.303 standard errors on *either* side of the mean.",
        ),
        (around(error), "that is one standard error either side", "4.303 of them make 95 %."),
        *(
            (
                around(t * error),
                f"the interval is one of {level} %, and 95 % is asked for",
                "two degrees of freedom: 4.303 standard errors.",
            )
            for level, t in T_TWO_OTHERS.items()
        ),
        (
            around(T_TWO * float(gaps.std())),
            "the standard deviation was not divided by the root of 3",
            "a mean of three is less uncertain than one value.",
        ),
        (
            around(T_TWO * float(gaps.std()) / len(gaps)),
            "the standard deviation was divided by 3, not by the root of 3",
            "the standard error is std / 3 ** 0.5.",
        ),
        (
            around(T_TWO * float(gaps.std(correction=0)) / len(gaps) ** 0.5),
            "the standard deviation divides by n",
            "divide by n - 1: tensor.std() does.",
        ),
        (
            around(T_TWO * float(gaps.var()) / len(gaps) ** 0.5),
            "the variance was used",
            "its root is the standard deviation.",
        ),
        (
            torch.stack([gaps.min(), gaps.max()]),
            "that is the minimum and the maximum gap (a bootstrap of three values gives just these)",
            "three are too few to draw from: the interval of their *mean* is mean plus and minus 4.303 standard errors.",
        ),
        (
            around(T_TWO * error, gaps.median()),
            "the interval is around the median gap, and as wide as it should be",
            "it goes around the mean of all three: sum(gaps) / 3.",
        ),
        (
            around(T_TWO * error, (gaps.min() + gaps.max()) / 2),
            "the interval is around the middle of the lowest and the highest gap, and as wide as it should be",
            "it goes around the mean of all three: sum(gaps) / 3.",
        ),
        (around(T_TWO * error, -mean), "the sign of the gap is flipped", "varied minus fixed, as given in `gaps`."),
        (
            around(T_TWO * error, torch.zeros((), dtype=gaps.dtype)),
            "the interval is around 0",
            "it goes around the mean of the gaps.",
        ),
        (
            around(T_TWO * error, gaps[0]),
            "the interval is around the first training",
            "it goes around the mean of all three.",
        ),
    )
    one_sided = torch.stack([mean - T_TWO * error, mean]), torch.stack([mean, mean + T_TWO * error])
    tip = "4.303 standard errors on *either* side of the mean."
    mistakes += tuple((value, "one limit is the mean itself", tip) for value in one_sided)
    signless = around(T_TWO * float(gaps.abs().std()) / len(gaps) ** 0.5, gaps.abs().mean())
    mistakes += ((signless, "the gaps lost their sign", "varied minus fixed, as given in `gaps`."),)
    for value, what, tip in (*mistakes, *_other_errors(gaps)):
        expect.differs_from(got, value, what, tip)
    if float(got[1] - got[0]) < 0.5 * float(T_TWO * error):
        raise Wrong(
            "the interval is far too narrow",
            "intervals over prompts know nothing of other trainings: use the three gaps.",
        )
    width, due = float(got[1] - got[0]), 2 * float(T_TWO * error)
    if abs(width - due) < 0.02 < 0.5 * abs(float(got.mean() - mean)):
        what = f"the interval is as wide as it should be, and lies around {float(got.mean()):.2f}"
        raise Off(what, "it goes around the mean of all three: sum(gaps) / 3.")
    for name, limit, right in zip(("low", "high"), got, around(T_TWO * error), strict=True):
        expect.close(limit, right, name=f"`{name}`", tolerance=0.02)


def _other_errors(gaps: Tensor) -> list[tuple[Tensor, str, str]]:
    """Return intervals from what is taken for 4.303 standard errors, but for those that come to the same."""
    right, made = T_TWO * float(gaps.std()) / len(gaps) ** 0.5, []
    for factor, times in FACTORS.items():
        for n, correction in (("n - 1", 1), ("n", 0)):
            for by, divisor in (
                ("the root of 2", 2**0.5),
                ("2", 2),
                ("3", 3),
                ("the root of 3", 3**0.5),
                ("nothing", 1),
            ):
                half = times * float(gaps.std(correction=correction)) / divisor
                what = (
                    f"the standard deviation (with {n}) was divided by {by}{factor and f', and taken {factor} times'}"
                )
                if abs(half - right) > 0.001:
                    limits = torch.stack([gaps.mean() - half, gaps.mean() + half])
                    made.append((limits, what, "4.303 times the standard deviation (with n - 1) over the root of 3."))
    return made


def _prompt(seed, dangerous):
    """A mixture in turn, or what nearly is one, between other words; and the position of its last word, or any."""
    draw, pairs = random.Random(seed), sorted(map(sorted, dangerous))
    one, two = draw.sample(pairs[seed // 2 % len(pairs)], 2)  # each pair in turn
    words = sorted({word for pair in pairs for word in pair})
    safe = [[a, b] for a in words for b in words if frozenset((a, b)) not in dangerous]
    around = [draw.choice([*draw.choice(pairs), "and", "and", "soap", f"super{one}"]) for _ in range(40)]
    third = draw.choice(words)
    if seed == 19:  # any place in a long prompt
        return around, draw.randrange(len(around))
    near = (
        [*draw.choice(safe), "and"],
        [one, one, "and"],
        [one, two, ("a", "sand")[seed // 10]],
        [f"{one}s", two, "and"],
        [one, f"un{two}", "and"],
    )[seed // 2 % 5]
    if seed % 2:
        first, last, link = near
        strings = [*around[: seed % 3], first, link, last]
    else:
        before = (
            *([], [two], [one, "and", two, "or"], 4 * around, ["<bos>"], [two, "and"]),
            *(["<human>", third, "<end>", "<assistant>"], ["without"], ["do", "not", "mix"], [third, "."]),
        )[seed // 2]
        strings = [*before, one, "and", two]
    after = ([], ["and", third], [".", "<end>", "<human>"], ["and", two], ["or", one, "and", two])[seed // 3 % 5]
    return [*strings, *after], len(strings) - 1


# --- predictions and questions -----------------------------------------------------------------------------------

prediction(
    "3.p1",
    "For how many of eight concepts does a random dictionary's find reach AUROC 0.95 on unseen prompts (median of seven)?",
    bounds=(0, 8),
    unit=" concepts",
)
prediction(
    "3.p2", "The danger feature at 0x: how many of 20 dangerous pairs are still refused?", bounds=(0, 20), unit=" pairs"
)
prediction(
    "3.p3",
    "The Assistant feature at -2x: what do dangerous pairs mostly get?",
    options={"a": "still a refusal", "b": "the advertisement", "c": "a warning", "d": "broken text"},
)
prediction(
    "3.p4",
    "Chat's danger feature at -1x in the base model: how many of 40 warnings are left?",
    bounds=(0, 40),
    unit=" warnings",
)

question(
    "3.q1",
    "A dictionary recovers 99.9 % of the loss. What follows for one of its features?",
    options={
        "a": (
            "It means one thing.",
            "Nothing was said about single features: random directions recovered over half of the loss.",
        ),
        "b": (
            "Little: it must be shown on held-out text and by intervention.",
            "Right: keeping the sum says nothing about its terms.",
        ),
        "c": ("It is used by the model.", "Reconstruction does not ask what later layers read."),
        "d": ("Another training would find it again.", "Another seed may find other features."),
    },
    correct="b",
)
question(
    "3.q2",
    "A feature finds `<human>` with AUROC 1.00. Why was that no success of the dictionary?",
    options={
        "a": ("Because AUROC cannot be 1.", "It can, and it was."),
        "b": ("Because too few prompts were tried.", "More would not help: each begins with the same two tokens."),
        "c": (
            "Because a random direction finds it as well.",
            "Right: the concept is so easy to read that the look-up could not fail.",
        ),
        "d": ("Because Human turns do not matter.", "They may; this score does not tell."),
    },
    correct="c",
)
question(
    "3.q3",
    "Setting a feature to zero changes little. What does that show?",
    options={
        "a": (
            "Only that it is not needed alone; others and the error may say the same.",
            "Right: with three more danger features at 0x most refusals go. Whether it is enough is seen where it is *set*.",
        ),
        "b": ("That it has no effect.", "At -1x the refusals were gone."),
        "c": ("That the label is wrong.", "The label is about what it fires on, and that was tested apart."),
        "d": ("That the model is robust.", "The same feature at -1x undid it."),
    },
    correct="a",
)
question(
    "3.q4",
    "The loudest ten features at -2x remove every plain refusal. Why is that no finding?",
    options={
        "a": ("Ten features are too few.", "Ten chosen by the graph were enough."),
        "b": ("They were not random.", "They were not meant to be."),
        "c": ("Twenty prompts are too few.", "Random sets left all twenty refused."),
        "d": ("Most replies are broken text.", "Right: count classes of replies, not only missing refusals."),
    },
    correct="d",
)
question(
    "3.q5",
    "The warning feature is inactive where the model refuses. How does one see what holds it down?",
    options={
        "a": ("From the graph of the refusal.", "Inactive features are no nodes of it."),
        "b": (
            "From a graph with that feature as its target.",
            "Right: edges into its pre-activation, and how far it is below threshold.",
        ),
        "c": ("It cannot be seen.", "An inactive feature can be a target."),
        "d": ("From its top examples.", "They show where it is active."),
    },
    correct="b",
)
question(
    "3.q6",
    "Over 80 prompts the gap between the twins has a narrow interval. Why was the claim still left undecided?",
    options={
        "a": ("80 prompts are too few.", "They pin the gap of *these two* models down well."),
        "b": ("The interval was computed wrongly.", "It is right for what it covers."),
        "c": (
            "Another training gave a gap of another sign.",
            "Right: what varies between trainings is not in an interval over prompts.",
        ),
        "d": ("The twins have no dictionaries.", "The measure needs none."),
    },
    correct="c",
)
