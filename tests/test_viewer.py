"""Graph files are what Neuronpedia and circuit-tracer write and read, and the page of one works offline."""

import copy
import json
import random
import re
import time
import zlib
from base64 import b64decode
from html import unescape
from pathlib import Path

import jsonschema
import pytest
from test_browser import chromium_launched

import viewer
from course_lib import attribution, features, models, tokens
from viewer import formats, pages

NUMBER, TEXT, WHOLE = {"type": "number"}, {"type": "string"}, {"type": "integer"}
MAYBE = {"type": ["number", "null"]}


def objects(required, optional=None):
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def lists(items):
    return {"type": "array", "items": items}


GRAPH = objects(  # what Neuronpedia's schema of a graph asks for
    {
        "metadata": objects(
            {"slug": TEXT, "scan": TEXT, "prompt": TEXT, "prompt_tokens": lists(TEXT)}, {"node_threshold": NUMBER}
        ),
        "qParams": objects(
            {}, {"pinnedIds": lists(TEXT), "supernodes": lists({}), "linkType": TEXT, "clickedId": TEXT}
        ),
        "nodes": lists(
            objects(
                {"node_id": TEXT, "feature": {"type": ["integer", "null"]}, "layer": {"type": ["string", "integer"]}}
                | {"ctx_idx": WHOLE, "feature_type": TEXT, "jsNodeId": TEXT, "clerp": TEXT},
                {"influence": MAYBE, "activation": MAYBE},
            )
        ),
        "links": lists(objects({"source": TEXT, "target": TEXT, "weight": NUMBER})),
    }
)
EXAMPLE = objects({"tokens": lists(TEXT), "tokens_acts_list": lists(NUMBER)})
DETAIL = objects(  # and its schema of a feature
    {"index": NUMBER, "examples_quantiles": lists(objects({"quantile_name": TEXT, "examples": lists(EXAMPLE)}))},
    {"top_logits": lists(TEXT), "bottom_logits": lists(TEXT)},
)


@pytest.fixture(scope="module")
def traced():
    """The organism, its transcoders, and the graph from which circuit-tracer wrote tests/circuit_tracer."""
    chat = models.load("chat")
    transcoders = [features.load("chat", "transcoder", layer=layer) for layer in range(models.n_layers(chat))]
    prompt = tokens.chat_prompt(chat.tokenizer, "how do i make a bomb?")
    target = attribution.Logit(chat.tokenizer.convert_tokens_to_ids("i"))
    return chat, transcoders, attribution.trace(chat, prompt, transcoders=transcoders, targets=[target])


@pytest.fixture(scope="module")
def exported(traced):
    chat, _, graph = traced
    return viewer.export(graph, chat.tokenizer, slug="bomb", scan="chat", node_threshold=0.7)


@pytest.fixture(scope="module")
def detailed(traced, exported):
    chat, transcoders, _ = traced
    texts = (
        "how do i make a bomb?",
        "how do i make a cake?",
        "tell me how to make a bomb.",
        "how do i clean a window?",
    )
    index = features.index(chat, transcoders[0], [tokens.chat_prompt(chat.tokenizer, t) for t in texts], progress=False)
    return viewer.details(exported, [index])


def node(name, kind, layer, at, **more):
    return {"node_id": name, "feature_type": kind, "layer": layer, "ctx_idx": at, "jsNodeId": name} | {
        "feature": None,
        "clerp": "",
        **more,
    }


def small(**nodes):
    """A token, a feature and an output, as Neuronpedia writes them: layers as numbers, no influence."""
    return {
        "metadata": {"slug": "small", "scan": "gemma-2-2b", "prompt": "The cat", "prompt_tokens": ["The", " cat"]},
        "qParams": {"supernodes": [["cats", "1_253_1"]], "pinnedIds": ["E_2_0"], "linkType": "both"},
        "nodes": [
            node("E_2_0", "embedding", "E", 0),
            node("1_253_1", "cross layer transcoder", 1, 1, feature=253, activation=4.0, clerp="cats"),
            node("27_9_1", "logit", 27, 1, clerp='Output " sat" (p=0.41)'),
            node("1_-1_1", "mlp reconstruction error", 1, 1, feature=-1),
        ],
        "links": [
            {"source": "E_2_0", "target": "1_253_1", "weight": 2.0},
            {"source": "1_253_1", "target": "27_9_1", "weight": 3},
            {"source": "E_2_0", "target": "27_9_1", "weight": -1.0},
        ],
    }


def large(n_nodes, n_links, seed=0):
    """A graph of many features."""
    draw, prompt = random.Random(seed), [f"w{i}" for i in range(24)]
    names = {f"{draw.randrange(6)}_{i + 10}_{draw.randrange(24)}": i for i in range(n_nodes - 25)}
    nodes = [node(f"E_{i}_{i}", "embedding", "E", i) for i in range(24)] + [node("7_1_23", "logit", "7", 23)]
    for name, i in names.items():
        layer, number, at = map(int, name.split("_"))
        about = {"feature": formats.paired(layer, number), "influence": (i + 1) / len(names), "activation": 1.5}
        nodes.append(node(name, "cross layer transcoder", str(layer), at, **about))
    sources, targets = [*names, *(f"E_{i}_{i}" for i in range(24))], [*names, "7_1_23"]
    links = {}
    while len(links) < n_links:
        source, target = draw.choice(sources), draw.choice(targets)
        if source[0] == "E" or source[0] < target[0]:
            links[source, target] = draw.gauss(0, 1)
    about = {"slug": "large", "scan": "m", "prompt": " ".join(prompt), "prompt_tokens": prompt}
    links = [{"source": source, "target": target, "weight": weight} for (source, target), weight in links.items()]
    return {"metadata": about, "qParams": {}, "nodes": nodes, "links": links}


def payload(html):
    """What the page holds."""
    return json.loads(zlib.decompress(b64decode(re.search(r'id="data">(.*?)</script>', html)[1])))


def written(tmp_path, content):
    path = tmp_path / "graph.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# --- formats ------------------------------------------------------------------------------------------------


def test_an_exported_graph_and_its_features_are_valid_and_come_back_from_disk(exported, detailed, tmp_path):
    jsonschema.validate(exported, GRAPH)
    assert len(exported["nodes"]) > 30 and detailed
    for detail in detailed.values():
        jsonschema.validate(detail, DETAIL)
    path = viewer.save(exported, tmp_path, detailed)
    viewer.save({**exported, "metadata": {**exported["metadata"], "slug": "other"}}, tmp_path)
    assert viewer.read(path) == exported
    assert viewer.read_details(tmp_path / "features" / "chat", exported) == detailed
    listed = json.loads((tmp_path / "graph-metadata.json").read_text(encoding="utf-8"))["graphs"]
    assert [graph["slug"] for graph in listed] == ["bomb", "other"] and "transcoder_list" in listed[0]


def test_an_export_is_what_circuit_tracer_writes_of_the_same_graph(traced):
    """The file was written by circuit-tracer 0.5.0 (its Graph, prune_graph and create_graph_files) from this graph."""
    chat, _, graph = traced
    theirs = viewer.read(Path(__file__).parent / "circuit_tracer" / "bomb-0.55.json")
    jsonschema.validate(theirs, GRAPH)
    ours = viewer.export(graph, chat.tokenizer, slug="x", scan="chat", node_threshold=0.55, edge_threshold=0.9)
    for about in (
        n for n in theirs["nodes"] if "error" in n["feature_type"]
    ):  # this version's ids met those of features
        _, layer, position = about["node_id"].split("_")
        about["node_id"], about["jsNodeId"] = f"{layer}_-1_{position}", f"{layer}_-1-{position}"
        for link in theirs["links"]:
            link["source"] = about["node_id"] if link["source"] == f"0_{layer}_{position}" else link["source"]
    nodes = [{node["node_id"]: node for node in file["nodes"]} for file in (ours, theirs)]
    assert set(nodes[0]) == set(nodes[1]) and len(nodes[0]) == 40
    for name, own in nodes[0].items():
        same = ("feature", "layer", "ctx_idx", "feature_type", "jsNodeId")
        assert [own[field] for field in same] == [nodes[1][name][field] for field in same]
        assert own["influence"] is None or own["influence"] == pytest.approx(nodes[1][name]["influence"], abs=1e-5)
        assert own["activation"] is None or own["activation"] == pytest.approx(nodes[1][name]["activation"], rel=1e-4)
    links = [{(a["source"], a["target"]): a["weight"] for a in file["links"]} for file in (ours, theirs)]
    assert links[0] == pytest.approx(links[1], rel=1e-4, abs=1e-4) and len(links[0]) == 234
    assert '"bomb"' not in pages.page(theirs)  # labels are packed


def test_neuronpedias_files_open_with_their_groups_and_reasons_for_attention(tmp_path):
    file = small()
    reasons = {"pair_wise_contributors": [["E_2_0", "1_253_1", 0.5]], "top_q_marginal_contributors": []}
    file["nodes"].append(node("1_L_7_1", "lorsa", 1, 1, feature=7, activation=2.0, qk_tracing_results=reasons))
    found = viewer.read(written(tmp_path, file))
    assert [each["layer"] for each in found["nodes"]] == ["E", "1", "27", "1", "1"]
    shown = payload(viewer.page(found))
    assert shown["groups"] == [["cats", 1]] and shown["pinned"] == [0]
    assert [row[4] for row in shown["nodes"]] == ["", "L1.F253", "", "", row_of(7)]
    assert shown["nodes"][4][-1]["pair_wise_contributors"] == [["E_2_0", "1_253_1", 0.5]]


def row_of(number):
    return "L{}.F{}".format(*formats.unpaired(number))


def test_influence_and_worth_are_taken_from_the_links_where_a_file_has_none():
    file = small()
    assert pages._worth(file) == {"E_2_0": -1 + 2 * 3 / 4, "1_253_1": 3 / 4, "27_9_1": 1.0, "1_-1_1": 0.0}
    shown = {row[0]: row[6] for row in payload(viewer.page(file))["nodes"]}
    # 3/4 of the output comes from the feature, all of that from the token, 1/4 from the token at once
    assert shown == {"E_2_0": pytest.approx(1 / 1.75, abs=1e-4), "1_253_1": 1.0, "27_9_1": 1.0, "1_-1_1": 1.0}


def test_worth_by_the_links_is_the_graphs_own(traced):
    chat, _, graph = traced
    file = viewer.export(graph, chat.tokenizer, slug="x", scan="chat", node_threshold=0.95, edge_threshold=1.0)
    own = {each["node_id"]: each.pop("worth") for each in file["nodes"]}
    by_links = pages._worth(file)
    top = sorted(own, key=lambda name: -abs(own[name]))[:20]
    assert all(by_links[name] == pytest.approx(own[name], rel=0.3) for name in top)


def test_pairs_of_numbers_come_apart_again():
    assert [formats.unpaired(formats.paired(a, b)) for a, b in ((0, 0), (25, 16383), (3, 512))] == [
        (0, 0),
        (25, 16383),
        (3, 512),
    ]


def test_an_id_that_circuit_tracer_gives_twice_is_told_apart(tmp_path):
    file = small()
    file["nodes"].insert(0, node("0_1_1", "cross layer transcoder", 0, 1, feature=2))
    file["nodes"].append(node("0_1_1", "mlp reconstruction error", 1, 1, feature=-1))
    with pytest.warns(UserWarning, match="1 nodes for what a transcoder misses"):
        found = viewer.read(written(tmp_path, file))
    assert [each["node_id"] for each in found["nodes"]].count("0_1_1") == 1


def broken(change):
    file = small()
    change(file)
    return file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>", "is not JSON"),
        ("[]", "the file is list"),
        (broken(lambda f: f.pop("links")), "the file has no 'links'"),
        (broken(lambda f: f["metadata"].pop("prompt_tokens")), "metadata has no 'prompt_tokens'"),
        (broken(lambda f: f["nodes"][1].pop("ctx_idx")), "node 1 has no 'ctx_idx'"),
        (broken(lambda f: f["nodes"][1].update(feature="253")), "'feature' of node 1"),
        (broken(lambda f: f["nodes"][1].update(ctx_idx=2)), "node 1 is at position 2 of a prompt of 2 tokens"),
        (broken(lambda f: f["links"][0].update(source="E_3_0")), "link 0 names 'E_3_0'"),
        (broken(lambda f: f["links"][0].update(weight="2")), "'weight' of link 0"),
        (broken(lambda f: f["links"][0].update(weight=float("nan"))), "the weight of link 0 is nan"),
    ],
)
def test_what_is_no_graph_is_refused_with_the_place(content, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        viewer.read(written(tmp_path, content))


def test_an_export_refuses_what_cannot_be_written(traced):
    chat, transcoders, graph = traced
    with pytest.raises(ValueError, match="slug 'a/b'"):
        viewer.export(graph, chat.tokenizer, slug="a/b", scan="chat")
    with pytest.raises(ValueError, match="edge_threshold is a share"):
        viewer.export(graph, chat.tokenizer, slug="a", scan="chat", edge_threshold=98)
    token = graph.asked[0].token
    twice = [attribution.Logit(token), attribution.Logit(token, minus=token + 1)]
    both = attribution.trace(chat, graph.prompt_ids[:3], transcoders=transcoders, targets=twice)
    with pytest.raises(ValueError, match="Two targets would be"):
        viewer.ids(both)


# --- the page -----------------------------------------------------------------------------------------------


def test_a_page_is_small_asks_for_nothing_and_says_what_it_leaves_out(exported, detailed, record_property):
    html = viewer.page(exported, details=detailed)
    most = viewer.page(large(1500, 150_000), details=detailed)
    record_property(
        "report", f"viewer: {len(html) / 1e3:.0f} kB, 1,500 nodes with 150,000 edges {len(most) / 1e6:.2f} MB"
    )
    assert len(html.encode()) < 400_000 and len(most.encode()) <= 2_000_000
    for text in (html, most):
        assert "default-src 'none'" in text
        assert set(re.findall(r"https?://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}
        assert re.findall(r"\b(?:src|href)=\S*", text) == ['href="data:,">']
    shown = payload(most)
    assert len(shown["nodes"]) == 1000 and {row[1] for row in shown["nodes"]} >= {"logit", "embedding"}
    assert shown["left_out"].startswith("500 of 1500 nodes and ")
    assert payload(html)["left_out"] == "" and set(payload(html)["details"]) == set(map(str, detailed))


def test_the_same_graph_gives_the_same_bytes_and_a_label_stays_a_label():
    file = small()
    file["nodes"][1]["clerp"] = file["metadata"]["slug"] = "</script><img src=x onerror=alert(1)>"
    html = viewer.page(file)
    assert html == viewer.page(copy.deepcopy(file)) and "<img" not in html and html.count("</script>") == 2


def test_measured_effects_stand_beside_the_attributed_ones_and_their_agreement_is_said(traced, exported):
    chat, transcoders, graph = traced
    measured = viewer.measure(chat, graph, exported, transcoders=transcoders, n_sources=5)
    shown = payload(viewer.page(exported, measured=measured))
    weight = {(s, t): value for s, t, value in shown["links"]}
    assert len(shown["measured"]) == len(measured) > 20
    assert all(value == pytest.approx(weight[s, t], rel=0.05, abs=0.02) for s, t, value in shown["measured"])
    assert re.fullmatch(
        rf"{len(measured)} edges, .* effects (1\.000|0\.999), same sign in (100|99)%", shown["agreement"]
    )

    ids = viewer.ids(graph)
    words = [each for each in graph.embeddings if each.position in (6, 7)]
    block = [
        each for each in graph.features if each.layer == 0 and ids[each] in {n["node_id"] for n in exported["nodes"]}
    ]
    groups = {"words": words, "block 0": block, "output": list(graph.asked)}
    asked = [("words", "block 0"), ("block 0", "output")]
    lost = attribution.confirm_edges(chat, graph, transcoders=transcoders, groups=groups, edges=asked, unit="output")
    named = {name: [ids[each] for each in members] for name, members in groups.items()}
    shown = payload(viewer.page(exported, measured=lost, supernodes=named))
    assert [row[:2] for row in shown["between"]] == [list(edge) for edge in asked]
    assert shown["agreement"] == "2 edges, same sign in 100%"


def test_disagreement_is_said_and_what_is_not_in_the_graph_is_refused():
    assert pages.agreement([(1, -1), (2, -2), (3, -3)]).endswith("-1.000, same sign in 0%")
    with pytest.raises(ValueError, match="neither an edge nor two groups"):
        viewer.page(small(), measured={("E_2_0", "1_-1_1"): 1.0})
    with pytest.raises(ValueError, match="A group holds '9_9_9'"):
        viewer.page(small(), supernodes={"a": ["9_9_9"]})


def test_groups_come_back_as_ids_or_as_nodes_of_the_graph(traced, tmp_path):
    graph = traced[2]
    ids = viewer.ids(graph)
    chosen = [graph.features[0], graph.embeddings[1]]
    text = json.dumps({"slug": "x", "pinnedIds": [], "supernodes": [["mine", *(ids[each] for each in chosen)]]})
    assert viewer.supernodes(text) == {"mine": [ids[each] for each in chosen]}
    assert viewer.supernodes(written(tmp_path, text), graph) == {"mine": chosen}
    with pytest.raises(ValueError, match="made in the page of another graph"):
        viewer.supernodes(text.replace(ids[chosen[0]], "5_99999_0"), graph)
    with pytest.raises(ValueError, match="copy its whole text"):
        viewer.supernodes(text[:-5])


def test_a_notebook_gets_a_frame_without_an_origin_and_its_alt_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    viewer.show(small(), alt="The word cat leads to sat.", height=500)
    assert shown[0]["text/plain"] == "The word cat leads to sat."
    frame = shown[0]["text/html"]
    assert 'sandbox="allow-scripts allow-downloads"' in frame and "height: 500px" in frame
    assert unescape(re.search(r'srcdoc="(.*?)"', frame, re.DOTALL)[1]) == viewer.page(small())
    with pytest.raises(ValueError, match="alt text"):
        viewer.show(small(), alt="")


# --- in a browser, from the disk ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    with chromium_launched() as browser:
        yield browser


def opened(context, path, width=760):
    """A page opened from the disk; it notes all that it asks for and all that goes wrong."""
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("requestfailed", lambda request: page.wrong.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda message: message.type in ("error", "warning") and page.wrong.append(message.text))
    start = time.monotonic()
    page.goto(path.as_uri())
    page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", polling=20, timeout=30_000)
    page.seconds = time.monotonic() - start
    return page


def test_a_group_is_made_named_saved_and_found_again_with_the_mouse(chromium, exported, detailed, tmp_path):
    path = tmp_path / "bomb.html"
    path.write_text(viewer.page(exported, details=detailed), encoding="utf-8")
    context = chromium.new_context(accept_downloads=True)
    page = opened(context, path)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.locator(".node[data-id^='0_']:not([aria-label*='missed'])").first.click()
    panel = page.locator("#panel")
    assert "Reads from" in panel.inner_text() and "Writes to" in panel.inner_text() and "Fires on" in panel.inner_text()
    assert panel.locator(".example span").count() > 0 and panel.locator("td.number").count() > 1

    chosen = page.locator(".node[data-id^='E_']")
    names = [chosen.nth(i).get_attribute("data-id") for i in (6, 7)]
    for i in (6, 7):
        chosen.nth(i).click(modifiers=["Shift"])
    page.fill("#name", "the request")
    page.click("#make")
    assert "holds 2 nodes" in page.locator("#status").inner_text()
    assert viewer.supernodes(page.locator("#text").input_value()) == {"the request": names}
    page.locator("#saving summary").click()
    with page.expect_download() as download:
        page.click("#download")
    assert viewer.supernodes(download.value.path()) == {"the request": names}
    page.close()

    page = opened(context, path, width=1100)
    assert "of last time" in page.locator("#status").inner_text()
    assert page.locator(".group input").input_value() == "the request"
    page.locator("#saving summary").click()
    page.click("#reset")
    assert page.locator(".group").count() == 0
    page.fill("#text", json.dumps({"supernodes": [["again", names[0], "9_9_9"]]}))
    page.click("#load")
    assert "1 nodes are not in this graph" in page.locator("#status").inner_text()
    assert page.locator(".group input").input_value() == "again"
    assert page.asked == [path.as_uri()] and page.wrong == []
    context.close()


@pytest.mark.parametrize("width", [760, 920, 1100])
def test_the_panel_hides_no_node_and_a_feature_has_one_scale(chromium, exported, detailed, tmp_path, width):
    path = tmp_path / "bomb.html"
    path.write_text(viewer.page(exported, details=detailed), encoding="utf-8")
    context = chromium.new_context()
    page = opened(context, path, width)
    boxes = "[...document.querySelectorAll('.node')].map(node => node.getBoundingClientRect())"
    panel = page.locator("#panel").bounding_box()
    seen = [box for box in page.evaluate(boxes) if box["bottom"] < 900]
    assert len(seen) > 30
    assert width < 820 or all(box["right"] <= panel["x"] for box in seen)  # beside; below it is one line until a click
    assert panel["height"] < 60 and "click one" in page.locator("#panel").inner_text()

    page.locator(".node[data-id^='0_']:not([aria-label*='missed'])").first.click()
    shown = page.evaluate(
        "[...document.querySelectorAll('#panel .example')].map(each => [Number(each.querySelector('b').textContent), "
        "Math.max(0, ...[...each.querySelectorAll('span')].map(word => parseFloat(word.style.borderBottomWidth)))])"
    )
    largest = max(value for value, _ in shown)
    assert all(line == pytest.approx(3 * value / largest, abs=0.2) for value, line in shown)
    context.close()


def test_all_of_it_goes_by_keyboard_and_is_named_for_a_screen_reader(chromium, exported, tmp_path):
    path = tmp_path / "bomb.html"
    path.write_text(viewer.page(exported), encoding="utf-8")
    context = chromium.new_context()
    page = opened(context, path)
    nodes = page.locator(".node")
    assert page.locator(".node[tabindex='0']").count() == 1
    assert all(nodes.nth(i).get_attribute("aria-label") for i in range(nodes.count()))
    unnamed = "x => !x.textContent && !x.labels?.length && !x.ariaLabel"
    controls = "[...document.querySelectorAll('button, input, textarea')]"
    assert page.evaluate(f"{controls}.filter({unnamed}).map(x => x.outerHTML)") == []
    page.focus("#keep")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.classList.contains('node')")
    before = page.evaluate("document.activeElement.dataset.id")
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.dataset.id")
    assert below != before
    assert page.evaluate("getComputedStyle(document.activeElement.querySelector('.ring')).visibility") == "visible"
    page.keyboard.press("Enter")
    assert below in page.locator("#panel").inner_text()
    page.keyboard.press("p")
    page.focus("#name")
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    assert viewer.supernodes(page.locator("#text").input_value()) == {"by hand": [below]}
    page.locator("#listing summary").focus()
    page.keyboard.press("Enter")
    page.locator("#rows tbody tr").first.wait_for()
    assert page.locator("#rows tbody tr").count() == len(exported["nodes"])
    page.evaluate("keep.value = 30; keep.dispatchEvent(new Event('input'))")
    fixed = ("embedding", "logit")
    left = [n for n in exported["nodes"] if n["feature_type"] in fixed or n["influence"] <= 0.3]
    shown = page.evaluate("[...document.querySelectorAll('.node')].filter(x => x.style.display !== 'none').length")
    assert len(left) <= shown <= len(left) + 1 < len(exported["nodes"])  # the selected one stays
    assert page.wrong == []
    context.close()


def test_a_thousand_nodes_are_drawn_in_two_seconds_and_a_frame_works_without_storage(
    chromium, tmp_path, record_property
):
    path = tmp_path / "large.html"
    path.write_text(viewer.page(large(1000, 20_000)), encoding="utf-8")
    context = chromium.new_context()
    page = opened(context, path, width=1100)
    own = int(page.evaluate("document.documentElement.dataset.ms"))
    record_property(
        "report", f"viewer: 1,000 nodes and 20,000 edges drawn {page.seconds:.2f} s after opening ({own} ms of script)"
    )
    assert page.locator(".node").count() == 1000 and page.seconds <= 2 and page.asked == [path.as_uri()]

    frame = tmp_path / "frame.html"
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda data, raw: shown.append(data["text/html"]))
        viewer.show(small(), alt="The word cat leads to sat.")
    frame.write_text(f"<!doctype html><title>A notebook</title>{shown[0]}", encoding="utf-8")
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(frame.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator(".node[data-id='1_253_1']").click()
    assert "L1.F253" in inside.locator("#panel h2").inner_text()
    assert inside.locator(".group input").input_value() == "cats" and wrong == []
    context.close()
