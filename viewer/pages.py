"""One HTML page from a graph file: no request, no library, at most 2 MB; and its display in a notebook."""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from viewer.formats import OUTPUT, TOKEN, Details, File, check, is_feature, place, rounded

TEMPLATE = Path(__file__).with_name("template.html")
MAX_BYTES, MAX_NODES, MAX_LINKS = 2_000_000, 1000, 60_000
HEIGHT = 900
"""Pixels of the frame in a notebook; the page scrolls inside."""
Measured = Mapping[Any, float]
"""(source, target) -> measured effect. Both are node ids, in the unit of the file's weights; or both are names of groups, in
logits of the output (`confirm_edges(..., unit="output")`)."""


def page(
    file: File,
    *,
    measured: Measured | None = None,
    supernodes: Mapping[str, Iterable[str]] | None = None,
    details: Details | None = None,
    title: str | None = None,
    n_examples: int = 3,
) -> str:
    """Return a graph as one HTML page that asks for nothing: to be written to a file, or shown by `show`.

    Of a graph with more than 1,000 nodes the most influential are drawn, and the page says so; likewise the largest edges,
    as many as fit into 2 MB.

    Args:
        file: From `export` or `read`.
        measured: What interventions showed, beside the file's weights; `measure` gives them for single edges.
        supernodes: Name -> node ids; without them, those that the file holds.
        details: What features fire on and write, from `details` or `read_details`.
        title: What the page is called; by default the file's slug.
        n_examples: Examples of each quantile that are shown; three times as many of the first.

    Raises:
        ValueError: A file that is not a graph; a measured edge or a group's node that it does not hold.
    """
    check(file)
    shown, left_out = _largest(file)
    number = {node["node_id"]: i for i, node in enumerate(shown)}
    worth = _worth(file)
    joined = [a for a in file["links"] if a["source"] in number and a["target"] in number]
    joined.sort(key=lambda a: -abs(a["weight"] * worth.get(a["target"], 1.0)))
    links = [[number[a["source"]], number[a["target"]], rounded(a["weight"], 3)] for a in joined]
    groups = _groups(file, supernodes, number)
    pairs, between, agrees = _measured(file, measured or {}, groups, number, worth)
    about = file["metadata"]
    kept = {node["feature"] for node in shown if place(node)}
    payload: dict[str, Any] = {
        "title": title or about["slug"],
        **{name: about[name] for name in ("slug", "scan", "prompt", "prompt_tokens")},
        "nodes": [_compact(node, worth.get(node["node_id"]), details or {}) for node in shown],
        "measured": pairs,
        "between": between,
        "agreement": agrees,
        "groups": groups,
        "clicked": number.get(file["qParams"].get("clickedId")),
        "pinned": [number[i] for i in file["qParams"].get("pinnedIds", ()) if i in number],
        "details": {n: _trimmed(d, n_examples) for n, d in (details or {}).items() if n in kept},
    }
    n_links = min(len(links), MAX_LINKS)
    while True:
        what = f"{left_out} of {len(file['nodes'])} nodes" if left_out else ""
        if n_links < len(links):
            what += f"{' and ' if what else ''}{len(links) - n_links} of {len(links)} edges"
        payload["left_out"] = what
        payload["links"] = links[:n_links]
        html = _filled(payload)
        if len(html.encode()) <= MAX_BYTES:
            return html
        if n_links < 100:
            raise ValueError(f"The page would be {len(html) / 1e6:.1f} MB: give a smaller n_examples.")
        n_links //= 2


def _filled(payload: Mapping[str, Any]) -> str:
    packed = zlib.compress(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode(), 9)
    html = TEMPLATE.read_text(encoding="utf-8").replace("{{title}}", escape(str(payload["title"])))
    return html.replace("{{data}}", base64.b64encode(packed).decode())


def _largest(file: File) -> tuple[list[File], int]:
    """Return the nodes that are drawn, each with its influence, and how many are not."""
    nodes = file["nodes"]
    if not any(isinstance(node.get("influence"), int | float) for node in nodes):
        nodes = _with_influence(file)

    def rank(number: int) -> tuple[bool, float]:
        return nodes[number]["feature_type"] not in (TOKEN, OUTPUT), nodes[number].get("influence") or 0

    ranked = sorted(range(len(nodes)), key=rank)
    return [nodes[i] for i in sorted(ranked[:MAX_NODES])], max(0, len(nodes) - MAX_NODES)


def _with_influence(file: File) -> list[File]:
    """Return the nodes with the cumulative influence that circuit-tracer writes, from the links; outputs count alike."""
    size = np.abs([link["weight"] for link in file["links"]])
    _, target = _ends(file)
    into = np.bincount(target, size, len(file["nodes"]))
    total = _along_paths(file, size / np.maximum(into, 1e-10)[target], 1.0)[1]
    order = np.argsort(-total, kind="stable")
    cumulative = np.empty(len(order))
    cumulative[order] = np.cumsum(total[order]) / max(total.sum(), 1e-10)
    return [{**node, "influence": float(c)} for node, c in zip(file["nodes"], cumulative, strict=True)]


def _worth(file: File) -> dict[str, float]:
    """Return what one unit of each node's value is worth at the outputs, along all paths: the file's own, or by its links.

    Nothing where a feature's activation is not known: the edges of such a graph cannot be multiplied along a path.
    """
    nodes = file["nodes"]
    if all("worth" in node for node in nodes):
        return {node["node_id"]: node["worth"] for node in nodes}
    if not all(node.get("activation") for node in nodes if is_feature(node)):
        return {}
    unit = np.array([node.get("activation") or 1.0 for node in nodes])
    own, beyond = _along_paths(file, np.array([link["weight"] for link in file["links"]], float), unit)
    return {node["node_id"]: rounded(value) for node, value in zip(nodes, own + beyond, strict=True)}


def _ends(file: File) -> tuple[np.ndarray, np.ndarray]:
    """Return the source and the target of every link, by their places among the nodes."""
    number = {node["node_id"]: i for i, node in enumerate(file["nodes"])}
    source, target = ([number[link[end]] for link in file["links"]] for end in ("source", "target"))
    return np.array(source, int), np.array(target, int)


def _along_paths(file: File, weight: np.ndarray, unit: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return each output's share of 1, and the sum over all paths to them of the product of weights, each over its unit.

    Outputs count by their probability, where the file says it, as in circuit-tracer.
    """
    (source, target), nodes = _ends(file), file["nodes"]
    outputs = np.array([(node.get("token_prob") or 1.0) * (node["feature_type"] == OUTPUT) for node in nodes])
    outputs /= max(outputs.sum(), 1e-10)
    step, total = outputs, np.zeros(len(nodes))
    for _ in nodes:  # a path has at most as many edges as there are nodes
        step = np.bincount(source, weight * step[target], len(nodes)) / unit
        total += step
        if not step.any():
            break
    return outputs, total


def _compact(node: File, worth: float | None, details: Details) -> list[Any]:
    where, detail = place(node), details.get(node.get("feature", -1))
    name = f"L{where[0]}.F{where[1]}" if where else ""
    label = node["clerp"] or (_seen(detail) if detail else "")
    influence, activation = node.get("influence"), node.get("activation")
    return [
        node["node_id"],
        node["feature_type"],
        str(node["layer"]),
        node["ctx_idx"],
        name,
        label,
        None if influence is None else round(influence, 4),
        None if activation is None else rounded(activation, 3),
        None if worth is None else rounded(worth, 4),
        node.get("feature"),
        {key: rows[:8] for key, rows in (node.get("qk_tracing_results") or {}).items() if isinstance(rows, list)},
    ]


def _seen(detail: Mapping[str, Any]) -> str:
    """Return a label of a feature nobody named: the token that its examples are strongest on, and what it writes most."""
    tops = [e for quantile in detail["examples_quantiles"][:1] for e in quantile["examples"]]
    peaks = Counter(e["tokens"][int(np.argmax(e["tokens_acts_list"]))] for e in tops if e["tokens_acts_list"])
    parts = [f'on "{token}"' for token, _ in peaks.most_common(1)]
    return ", ".join([*parts, *(f'writes "{token}"' for token in detail.get("top_logits", ())[:1])])


def _trimmed(detail: Mapping[str, Any], n_examples: int) -> list[Any]:
    quantiles = []
    for place_of, quantile in enumerate(detail["examples_quantiles"]):
        examples = quantile["examples"][: n_examples * (3 if place_of == 0 else 1)]
        rows = [[e["tokens"], [rounded(value, 2) for value in e["tokens_acts_list"]]] for e in examples]
        quantiles.append([quantile["quantile_name"], rows])
    return [quantiles, detail.get("top_logits", [])[:10], detail.get("bottom_logits", [])[:10]]


def _groups(file: File, given: Mapping[str, Iterable[str]] | None, number: Mapping[str, int]) -> list[list[Any]]:
    """Return [name, node, ...] with each node by its number; nodes of the file's own groups that it lacks are left out."""
    named = file["qParams"].get("supernodes", ()) if given is None else [[name, *ids] for name, ids in given.items()]
    if given is not None and (lost := {i for _, *members in named for i in members} - set(number)):
        raise ValueError(f"A group holds {min(map(str, lost))!r}, which is no drawn node of this graph.")
    return [[str(name), *(number[i] for i in members if i in number)] for name, *members in named]


def _measured(
    file: File, measured: Measured, groups: list[list[Any]], number: Mapping[str, int], worth: Mapping[str, float]
) -> tuple[list[list[Any]], list[list[Any]], str]:
    """Return measured edges of nodes [source, target, value], those of groups by name, and a sentence on the agreement."""
    weight = {(link["source"], link["target"]): link["weight"] for link in file["links"]}
    members = {name: set(numbers) for name, *numbers in groups}
    pairs, between, attributed = [], [], []
    for (source, target), value in measured.items():
        if (source, target) in weight:
            attributed.append((weight[source, target], value))
            if source in number and target in number:
                pairs.append([number[source], number[target], rounded(value, 3)])
        elif source in members and target in members:
            between.append([source, target, rounded(value, 3)])
            ends = members[source], members[target]
            inside = [(w, t) for (s, t), w in weight.items() if number.get(s) in ends[0] and number.get(t) in ends[1]]
            attributed.append((sum(w * worth.get(t, 1.0) for w, t in inside), value))
        else:
            raise ValueError(
                f"({source!r}, {target!r}) was measured, but is neither an edge nor two groups of this graph."
            )
    return pairs, between, agreement(attributed)


def agreement(pairs: Iterable[tuple[float, float]]) -> str:
    """Return in words how (attributed, measured) effects agree: their correlation, and how many have the same sign."""
    both = np.array(list(pairs), dtype=float).reshape(-1, 2)
    if not len(both):
        return ""
    same = float((np.sign(both[:, 0]) == np.sign(both[:, 1])).mean())
    known = len(both) > 2 and bool((both.std(axis=0) > 0).all())
    correlation = f"correlation with the attributed effects {np.corrcoef(both.T)[0, 1]:.3f}, " if known else ""
    return f"{len(both)} edges, {correlation}same sign in {same:.0%}"


def show(file: File, *, alt: str, height: int = HEIGHT, **options: Any) -> None:
    """Display the page of a graph in JupyterLab, Colab or a saved notebook; its alt text is what the tests compare.

    Groups made here end with the cell: copy their text into `supernodes`, or download them. A page that is opened from
    the disk remembers them.

    Args:
        file: From `export` or `read`.
        alt: What there is to see, for readers who do not see it.
        height: Of the frame, in pixels.
        options: Those of `page`.

    Raises:
        ValueError: As `page`; no alt text.
    """
    from IPython.display import display

    if len(alt.split()) < 3:
        raise ValueError("Say in the alt text what there is to see: the output, and what leads to it.")
    # The frame has no origin of its own: what a published graph's labels hold cannot reach the notebook.
    frame = f'sandbox="allow-scripts allow-downloads" style="width: 100%; height: {height}px; border: 1px solid #CCC"'
    html = f'<iframe title="{escape(alt)}" {frame} srcdoc="{escape(page(file, **options))}"></iframe>'
    fold = f"<details><summary>This graph in words</summary><p>{escape(alt)}</p></details>"
    display({"text/html": html + fold, "text/plain": alt}, raw=True)
