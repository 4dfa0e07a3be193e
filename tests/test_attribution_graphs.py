"""Every edge of an attribution graph is what an intervention does, and bad input is refused."""

from functools import cache

import pytest
import torch

from course_lib import attribution, models, tokens
from course_lib.attribution import Embedding, Error, Feature, Logit


class Transcoder(torch.nn.Module):
    """A JumpReLU transcoder with the names that sae_lens gives its own."""

    def __init__(self, W_enc, b_enc, W_dec, b_dec, threshold):
        super().__init__()
        self.cfg = type("Config", (), {"normalize_activations": "none"})()
        for name, value in locals().copy().items():
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value)

    def encode(self, x):
        before = x @ self.W_enc + self.b_enc
        return before.clamp(min=0) * (before > self.threshold)


def fitted(model, prompts, *, d_sae=96, seed=0):
    """One transcoder per layer: random encoder, decoder fitted by least squares. Its error is far from zero."""
    random = torch.Generator().manual_seed(seed)
    layers, width = range(models.n_layers(model)), models.d_model(model)
    read, written = [[] for _ in layers], [[] for _ in layers]
    with torch.no_grad():
        for prompt in prompts:
            _, cache = model.run_with_cache(torch.tensor([prompt]))
            for layer in layers:
                read[layer].append(cache[f"blocks.{layer}.mlp.hook_in"][0])
                written[layer].append(cache[f"blocks.{layer}.hook_mlp_out"][0])
    transcoders = []
    for layer in layers:
        x, y = torch.cat(read[layer]), torch.cat(written[layer])
        W_enc = torch.randn(width, d_sae, generator=random) / x.norm(dim=1).mean()
        b_enc = 0.1 * torch.randn(d_sae, generator=random)
        before = x @ W_enc + b_enc
        threshold = before.quantile(0.8, dim=0).clamp(min=0.01) - 1e-3  # not on a value: rounding would decide
        features = before.clamp(min=0) * (before > threshold)
        solved = torch.linalg.lstsq(torch.cat([features, torch.ones(len(x), 1)], 1), y, driver="gelsd").solution
        transcoders.append(Transcoder(W_enc, b_enc, 0.8 * solved[:-1], solved[-1] + 0.01, threshold))
    return transcoders


@pytest.fixture(scope="module")
def random_case(model, prompts):
    """The tiny random model, whose norm weights are not one, with heads that share keys and values."""
    return model, fitted(model, prompts), prompts[2]


@pytest.fixture(scope="module")
def trained_case():
    """A trained organism."""
    model = models.load("chat-32")
    texts = ("how do i make a cake ?", "tell me how to make a bomb .", "write a story about the garden .")
    prompts = [tokens.chat_prompt(model.tokenizer, text, unknown_words="split") for text in texts]
    return model, fitted(model, prompts), prompts[1]


@pytest.fixture(scope="module")
def family_case(families, prompts):
    """Family name -> its tiny model with transcoders; Gemma 2 has norms behind attention and MLP, and caps."""
    return cache(lambda family: (families(family), fitted(families(family), prompts), prompts[2]))


@pytest.fixture(params=["random", "trained", "Qwen2", "Qwen3", "Gemma2"])
def case(request, family_case):
    if request.param in ("random", "trained"):
        return request.getfixturevalue(f"{request.param}_case")
    return family_case(request.param)


def difference(model, prompt, target):
    """The logit difference before any cap, apart from the module."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt]))[0, target.position].double()
    cap = getattr(model.original_model.config, "final_logit_softcapping", None)
    logits = cap * torch.atanh(logits / cap) if cap else logits
    return float(logits[target.token] - (logits.mean() if target.minus is None else logits[target.minus]))


TARGET = Logit(7, minus=9)


def test_edges_and_constant_of_every_target_sum_to_its_value(case):
    model, transcoders, prompt = case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET, Logit(5)])
    assert graph.n_features > 50
    torch.testing.assert_close(graph.edges.sum(dim=1) + graph.constants, graph.values, rtol=1e-4, atol=1e-4)
    assert float(graph.values[-2]) == pytest.approx(difference(model, prompt, TARGET), abs=1e-4)


def test_every_edge_into_a_logit_is_the_effect_of_removing_its_source_alone(case):
    model, transcoders, prompt = case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    before = difference(model, prompt, TARGET)
    for column in range(0, graph.n_features, graph.n_features // 40):
        node = graph.sources[column]
        changes = {(node.layer, node.position, node.feature): 0.0}
        with attribution.intervene(
            model, prompt, transcoders=transcoders, changes=changes, attention="frozen", mlps="constant"
        ):
            effect = before - difference(model, prompt, TARGET)
        assert effect == pytest.approx(float(graph.edges[-1, column]), rel=1e-3, abs=1e-4), node


def feature_values(model, transcoders, prompt, features):
    """Pre-activations as the model has them, read at every MLP's input."""
    names = [f"blocks.{layer}.mlp.hook_in" for layer in range(models.n_layers(model))]
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([prompt]), names_filter=names)
    before = [t_(cache[name][0]) for t_, name in zip(map(pre, transcoders), names, strict=True)]
    return torch.stack([before[node.layer][node.position, node.feature] for node in features])


def pre(transcoder):
    return lambda x: x @ transcoder.W_enc + transcoder.b_enc


def frozen(case, changes, mlps="constant"):
    model, transcoders, prompt = case
    return attribution.intervene(model, prompt, transcoders=transcoders, changes=changes, attention="frozen", mlps=mlps)


def test_every_edge_into_a_feature_is_the_effect_on_its_pre_activation(case):
    model, transcoders, prompt = case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    features = graph.targets[: graph.n_features]
    before = feature_values(model, transcoders, prompt, features)
    torch.testing.assert_close(before, graph.values[: graph.n_features], rtol=1e-4, atol=1e-5)
    for column in range(0, graph.n_features // 2, graph.n_features // 20):
        with frozen(case, {graph.sources[column]: 0.0}):
            effect = before - feature_values(model, transcoders, prompt, features)
        torch.testing.assert_close(effect, graph.edges[: graph.n_features, column], rtol=1e-3, atol=1e-4)


def without(model, node, errors):
    """A context in which an embedding or an error is not written. Inside the frozen model."""
    name = "hook_embed" if isinstance(node, Embedding) else f"blocks.{node.layer}.hook_mlp_out"

    def remove(activation, hook):
        gone = torch.zeros_like(activation)
        row = activation[:, node.position] if isinstance(node, Embedding) else errors[node.layer][node.position]
        gone[:, node.position] = row
        return activation - gone

    return model.hooks([(name, remove)])


def missed(case):
    """Error vectors, computed apart from the module."""
    model, transcoders, prompt = case
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([prompt]))
    return [
        cache[f"blocks.{i}.hook_mlp_out"][0] - t.encode(cache[f"blocks.{i}.mlp.hook_in"][0]) @ t.W_dec - t.b_dec
        for i, t in enumerate(transcoders)
    ]


def test_edges_of_embeddings_and_errors_are_interventions_too(case):
    model, transcoders, prompt = case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    before, errors = difference(model, prompt, TARGET), missed(case)
    with frozen(case, {}):
        for node in graph.sources[graph.n_features :: 2]:
            with without(model, node, errors):
                effect = before - difference(model, prompt, TARGET)
            assert effect == pytest.approx(graph.edge(node, graph.asked[0]), rel=1e-3, abs=1e-4), node


def test_the_total_effect_is_the_change_along_all_paths_of_the_local_replacement_model(case):
    model, transcoders, prompt = case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    before, total = difference(model, prompt, TARGET), graph.total_effect()[0]
    step = 0.01
    found = []
    for column in range(0, graph.n_features, graph.n_features // 20):
        less = float(graph.values[column]) * (1 - step)
        with frozen(case, {graph.sources[column]: less}, mlps="transcoders"):
            found.append((before - difference(model, prompt, TARGET)) / step)
    expected = total[: graph.n_features : graph.n_features // 20]
    error = (torch.tensor(found) - expected).abs()
    assert float(error.median()) < 1e-3 * float(expected.abs().max())  # a few cross a threshold even so
    assert float((total[: graph.n_features] - graph.edges[-1, : graph.n_features]).abs().max()) > 0.01


def test_an_inactive_feature_is_a_target_like_any_other(case):
    model, transcoders, prompt = case
    position, transcoder = len(prompt) - 1, transcoders[-1]
    layer = len(transcoders) - 1
    values = feature_values(model, transcoders, prompt, [Feature(layer, position, f) for f in range(96)])
    number = int((transcoder.threshold - values).argmax())
    asked = Feature(layer, -1, number)
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[asked])
    node = Feature(layer, position, number)
    assert graph.asked == (node,) and node not in graph.sources
    assert float(graph.values[-1]) == pytest.approx(float(values[number]), abs=1e-4)
    assert float(graph.values[-1]) < float(transcoder.threshold[number])
    assert float(graph.edges[-1].sum() + graph.constants[-1]) == pytest.approx(float(values[number]), abs=1e-4)
    source = graph.sources[int(graph.edges[-1, : graph.n_features].abs().argmax())]
    with frozen(case, {source: 0.0}):
        effect = values[number] - feature_values(model, transcoders, prompt, [node])[0]
    assert float(effect) == pytest.approx(graph.edge(source, node), rel=1e-3, abs=1e-4)


# --- scores -------------------------------------------------------------------------------------------------


def test_scores_and_influence_equal_a_plain_power_series_over_the_square_matrix(random_case):
    model, transcoders, prompt = random_case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET, Logit(5)], weights=[3, 1])
    nodes = [*graph.sources, *graph.asked]
    n, f = len(nodes), graph.n_features
    square = torch.zeros(n, n)
    square[:f, : len(graph.sources)] = graph.edges[:f].abs()
    square[len(graph.sources) :, : len(graph.sources)] = graph.edges[f:].abs()
    square = square / square.sum(dim=1, keepdim=True).clamp(min=1e-10)
    start = torch.zeros(n)
    start[-2:] = torch.tensor([0.75, 0.25])
    influence = start @ (torch.linalg.inv(torch.eye(n) - square) - torch.eye(n))
    torch.testing.assert_close(graph.influence, influence[:-2], rtol=1e-4, atol=1e-6)
    is_error = torch.tensor([isinstance(node, Error) for node in nodes])
    is_token = torch.tensor([isinstance(node, Embedding) for node in nodes])
    tokens_, errors = float(influence[is_token].sum()), float(influence[is_error].sum())
    assert graph.replacement_score == pytest.approx(tokens_ / (tokens_ + errors), abs=1e-4)
    output = influence + start
    explained = 1 - square[:, is_error].sum(dim=1)
    assert graph.completeness_score == pytest.approx(float((explained * output).sum() / output.sum()), abs=1e-4)
    assert 0 < graph.replacement_score < graph.completeness_score < 1


def test_transcoders_without_error_score_one(random_case):
    model, _, prompt = random_case
    graph = attribution.graph(model, prompt, transcoders=perfect(model, prompt), targets=[TARGET])
    assert graph.replacement_score > 0.999 and graph.completeness_score > 0.999


def perfect(model, prompt):
    """More features than tokens, so that the fit on this one prompt is exact."""
    transcoders = fitted(model, [prompt], d_sae=400)
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([prompt]))
    for layer, transcoder in enumerate(transcoders):
        features = transcoder.encode(cache[f"blocks.{layer}.mlp.hook_in"][0])
        rest = cache[f"blocks.{layer}.hook_mlp_out"][0] - transcoder.b_dec
        transcoder.W_dec = torch.linalg.lstsq(features, rest, driver="gelsd").solution
    return transcoders


def test_without_an_active_feature_only_errors_and_embeddings_are_left(random_case):
    model, transcoders, prompt = random_case
    silent = [Transcoder(t.W_enc, t.b_enc, t.W_dec, t.b_dec, t.threshold + 1e6) for t in transcoders]
    graph = attribution.graph(model, prompt, transcoders=silent, targets=[TARGET])
    assert graph.n_features == 0 and graph.replacement_score < 1
    assert float(graph.edges.sum() + graph.constants[0]) == pytest.approx(difference(model, prompt, TARGET), abs=1e-4)


def test_the_batch_size_does_not_change_the_graph(random_case):
    model, transcoders, prompt = random_case
    whole, cut = (
        attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET], batch_size=size)
        for size in (512, 7)
    )
    torch.testing.assert_close(whole.edges, cut.edges, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.constants, cut.constants, rtol=1e-4, atol=1e-5)


# --- pruning and groups -------------------------------------------------------------------------------------


def test_pruning_keeps_the_share_of_influence_and_embeddings_and_targets(random_case):
    model, transcoders, prompt = random_case
    whole = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    pruned = whole.prune(node_share=0.6, edge_share=0.9)
    assert 0 < pruned.n_features < whole.n_features
    assert pruned.targets[: pruned.n_features] == pruned.sources[: pruned.n_features]
    assert pruned.asked == whole.asked and pruned.replacement_score == whole.replacement_score
    assert sum(isinstance(node, Embedding) for node in pruned.sources) == len(prompt)
    for target in pruned.targets:
        for source in pruned.sources:
            assert pruned.edge(source, target) in (0.0, whole.edge(source, target))
    everything = whole.prune(node_share=1.0, edge_share=1.0)
    reached = [whole.sources.index(node) for node in everything.sources]
    torch.testing.assert_close(everything.influence, whole.influence[reached], rtol=1e-4, atol=1e-6)
    assert float(everything.influence.sum()) == pytest.approx(float(whole.influence.sum()), rel=1e-4)


def test_edges_between_groups_are_sums_of_their_nodes_edges(random_case):
    model, transcoders, prompt = random_case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    early = [node for node in graph.sources[: graph.n_features] if node.layer == 0][:5]
    late = [node for node in graph.sources[: graph.n_features] if node.layer == 3][-5:]
    result = graph.group({"early": early, "late": late, "answer": [graph.asked[0]]})
    for i, targets in enumerate((early, late, [graph.asked[0]])):
        for j, sources in enumerate((early, late, [])):
            expected = sum(graph.edge(source, target) for source in sources for target in targets)
            assert float(result.edges[i, j]) == pytest.approx(expected, abs=1e-4)
    assert result.names == ("early", "late", "answer")


def places_of(prompt):
    """Three places that hold every position of a prompt."""
    n = len(prompt)
    return {"first": range(n // 3), "middle": range(n // 3, 2 * n // 3), "last": range(2 * n // 3, n)}


def grouped(case):
    """A graph of a case, and its groups by place: words, block 0, the later blocks, the output."""
    model, transcoders, prompt = case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    return graph, graph.by_place(places_of(prompt), blocks=[[0], range(1, models.n_layers(model))])


def test_by_place_puts_every_word_and_feature_into_one_group_and_leaves_the_rest_out(random_case):
    graph, groups = grouped(random_case)
    members = [node for nodes in groups.values() for node in nodes]
    assert len(members) == len(set(members))
    assert set(members) == {node for node in (*graph.sources, *graph.asked) if not isinstance(node, Error)}
    for (_, row), nodes in groups.items():
        assert all((node.layer == 0) == (row == 1) for node in nodes if isinstance(node, Feature))
        assert all(isinstance(node, Embedding) == (row == 0) for node in nodes)
    assert groups["output", 3] == list(graph.asked)
    fewer = graph.by_place({"here": [1, 2]}, blocks=[[0]])
    assert {node.position for node in fewer["here", 1]} <= {1, 2} and ("here", 2) not in fewer


def test_what_a_source_adds_in_all_is_the_worth_of_what_it_adds_directly(random_case):
    model, transcoders, prompt = random_case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET, Logit(5)], weights=[3, 1])
    expected = torch.tensor([0.75, 0.25]) @ graph.total_effect()
    torch.testing.assert_close(graph.worth @ graph.edges, expected, rtol=1e-3, atol=1e-3)


def test_every_edge_between_groups_is_what_taking_the_source_group_out_costs_the_target_group(case):
    graph, groups = grouped(case)
    model, transcoders, _ = case
    for unit in ("value", "share", "output"):
        edges = graph.group(groups, unit=unit).top(12)
        measured = attribution.confirm(model, graph, transcoders=transcoders, groups=groups, edges=edges, unit=unit)
        assert list(measured) == list(edges)
        largest = max(map(abs, edges.values()))
        for edge, value in edges.items():
            assert measured[edge] == pytest.approx(value, rel=2e-3, abs=1e-4 * largest), edge
        assert abs(measured[next(iter(edges))]) > 10 * 1e-4 * largest
    assert not models.has_hooks(model)


def test_strongest_edges_into_a_group_all_have_a_way_to_it_and_come_largest_first(random_case):
    graph, groups = grouped(random_case)
    sums = graph.group(groups, unit="output")
    output = ("output", 3)
    edges = sums.top(9, into=output)
    reached = {output}
    for source, target in edges:
        assert target in reached and edges[source, target] == sums.at(source, target)
        reached.add(source)
    into_output = [abs(sums.at(name, output)) for name in groups if name != output]
    assert next(iter(edges))[1] == output and abs(next(iter(edges.values()))) == max(into_output)
    free = [abs(value) for value in sums.top(6).values()]
    assert free == sorted(free, reverse=True) and free[0] >= max(map(abs, edges.values()))
    existing = sum(a != b and sums.at(a, b) != 0 for a in groups for b in groups)
    assert len(sums.top(10_000)) == existing


def test_shares_are_of_what_the_target_group_has(random_case):
    graph, groups = grouped(random_case)
    plain, shares = (graph.group(groups, unit=unit) for unit in ("value", "share"))
    value = sum(float(graph.values[graph.targets.index(node)]) for node in groups["last", 2])
    assert shares.at(("last", 1), ("last", 2)) == pytest.approx(plain.at(("last", 1), ("last", 2)) / value, rel=1e-4)
    assert shares.at(("last", 1), ("first", 0)) == 0.0


def test_top_lists_are_in_order(random_case):
    model, transcoders, prompt = random_case
    graph = attribution.graph(model, prompt, transcoders=transcoders, targets=[TARGET])
    shares = [share for _, share in graph.top(5)]
    assert shares == sorted(shares, reverse=True) and shares[0] == float(graph.influence.max())
    sizes = [abs(edge) for _, edge in graph.top_edges(graph.asked[0], 5)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == float(graph.edges[-1].abs().max())


# --- interventions ------------------------------------------------------------------------------------------


def test_no_change_leaves_the_logits_as_they_are(case):
    model, transcoders, prompt = case
    before = models.next_token_logits(model, [prompt])
    for attention in ("free", "frozen"):
        for mlps in ("model", "transcoders", "constant"):
            with attribution.intervene(
                model, prompt, transcoders=transcoders, changes={}, attention=attention, mlps=mlps
            ):
                after = models.next_token_logits(model, [prompt])
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_with_free_attention_the_real_model_runs_on_a_shifted_mlp_output(case):
    model, transcoders, prompt = case
    layer, position, number = 1, len(prompt) - 2, 5  # near enough for a sliding window
    seen = {}

    def read(activation, hook):
        seen["x"] = activation

    def shift(activation, hook):
        old = transcoders[layer].encode(seen["x"])[0, position, number]
        moved = activation.clone()
        moved[0, position] += (4.0 - old) * transcoders[layer].W_dec[number]
        return moved

    hooks = [(f"blocks.{layer}.mlp.hook_in", read), (f"blocks.{layer}.hook_mlp_out", shift)]
    with model.hooks(hooks):
        expected = models.next_token_logits(model, [prompt])
    changes = {(layer, position, number): 4.0}
    with attribution.intervene(model, prompt, transcoders=transcoders, changes=changes):
        found = models.next_token_logits(model, [prompt])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with attribution.intervene(model, prompt, transcoders=transcoders, changes=changes, attention="frozen"):
        still = models.next_token_logits(model, [prompt])
    assert not torch.allclose(still, found, atol=1e-3)


def test_generation_goes_on_from_the_changed_prompt_and_nothing_stays_behind(random_case):
    model, transcoders, prompt = random_case
    before = models.generate(model, [prompt], max_new_tokens=4)
    changes = {(layer, -1, number): 9.0 for layer in range(4) for number in range(20)}
    with attribution.intervene(model, prompt, transcoders=transcoders, changes=changes, attention="frozen"):
        first = int(models.next_token_logits(model, [prompt])[0].argmax())
        changed = models.generate(model, [prompt], max_new_tokens=4)
    assert changed[0][0] == first and changed != before
    with pytest.raises(KeyboardInterrupt):
        with attribution.intervene(model, prompt, transcoders=transcoders, changes=changes):
            raise KeyboardInterrupt
    assert not models.has_hooks(model)
    assert models.generate(model, [prompt], max_new_tokens=4) == before


# --- refusals -----------------------------------------------------------------------------------------------


def asked_for(random_case, **changed):
    model, transcoders, prompt = random_case
    given = {"transcoders": transcoders, "targets": [TARGET]} | changed
    return attribution.graph(model, given.pop("prompt", prompt), **given)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": []}, "is empty"),
        ({"prompt": [[1, 2, 3]]}, r"One prompt .* is expected"),
        ({"prompt": [1] * 65}, "reads at most 64"),
        ({"targets": []}, "list of different targets"),
        ({"targets": [TARGET, TARGET]}, "list of different targets"),
        ({"targets": [7]}, "A target is a Logit or a Feature"),
        ({"targets": [Logit(117)]}, "outside the vocabulary of 0 to 116"),
        ({"targets": [Logit(7, position=40)]}, "Position 40 lies outside a prompt of"),
        ({"targets": [Feature(4, 0, 0)]}, "layers 0 to 3"),
        ({"targets": [Feature(0, 0, 96)]}, "features 0 to 95"),
        ({"weights": [1, 1]}, "1 numbers, one per target"),
        ({"weights": [-1]}, "none negative"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_a_graph_of_something_that_does_not_exist_is_refused(random_case, changed, message):
    with pytest.raises(ValueError, match=message):
        asked_for(random_case, **changed)


def test_transcoders_that_do_not_fit_are_refused(random_case):
    _, transcoders, _ = random_case
    with pytest.raises(ValueError, match="3 transcoders were given for a model of 4 layers"):
        asked_for(random_case, transcoders=transcoders[:3])
    t = transcoders[0]
    wide = Transcoder(torch.zeros(48, 96), t.b_enc, torch.zeros(96, 48), torch.zeros(48), t.threshold)
    with pytest.raises(ValueError, match="layer 2 reads 48 numbers"):
        asked_for(random_case, transcoders=[t, t, wide, t])
    few = Transcoder(t.W_enc[:, :50], t.b_enc[:50], t.W_dec[:50], t.b_dec, t.threshold[:50])
    with pytest.raises(ValueError, match="differ in their number of features"):
        asked_for(random_case, transcoders=[t, t, few, t])


def test_transcoders_of_another_place_or_kind_are_refused(random_case):
    _, transcoders, _ = random_case
    t = transcoders[0]
    for attribute, value, message in (
        ("cfg", {"metadata": type("M", (), {"hook_name": "blocks.2.mlp.hook_in"})}, "at place 0 was trained on"),
        ("cfg", {"normalize_activations": "layer_norm"}, "normalises its input"),
        ("W_skip", torch.zeros(32, 32), "skip path"),
    ):
        odd = Transcoder(t.W_enc, t.b_enc, t.W_dec, t.b_dec, t.threshold)
        setattr(odd, attribute, type("Config", (), value)() if attribute == "cfg" else value)
        with pytest.raises(ValueError, match=message):
            asked_for(random_case, transcoders=[odd, *transcoders[1:]])


def test_a_feature_whose_activation_is_not_its_pre_activation_is_refused(random_case):
    _, transcoders, _ = random_case
    t = transcoders[0]

    class Squared(Transcoder):
        def encode(self, x):
            return super().encode(x) ** 2

    with pytest.raises(ValueError, match="differ from their pre-activations"):
        asked_for(random_case, transcoders=[Squared(t.W_enc, t.b_enc, t.W_dec, t.b_dec, t.threshold), *transcoders[1:]])


def test_a_hooked_model_and_a_model_of_another_shape_are_refused(random_case, families):
    _, transcoders, prompt = random_case
    with frozen(random_case, {}), pytest.raises(ValueError, match="active hooks"):
        asked_for(random_case)
    with pytest.raises(ValueError, match="blocks.0.ln1 of this model is not the one this module splits up"):
        attribution.graph(families("GPT2"), prompt, transcoders=transcoders[:3], targets=[TARGET])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({(0, 0, 96): 1.0}, {}, "features 0 to 95"),
        ({(0, 99, 0): 1.0}, {}, "Position 99 lies outside"),
        ({(9, 0, 0): 1.0}, {}, "layers 0 to 3"),
        ({(0, 0, 0): float("nan")}, {}, "finite value"),
        ({(0, 0, 0): 1.0, Feature(0, 0, 0): 2.0}, {}, "changed twice"),
        ({}, {"attention": "thawed"}, "one of free, frozen"),
        ({}, {"mlps": "none"}, "one of model, transcoders, constant"),
    ],
)
def test_an_impossible_intervention_is_refused_before_the_context_is_entered(random_case, changes, options, message):
    model, transcoders, prompt = random_case
    with pytest.raises(ValueError, match=message):
        attribution.intervene(model, prompt, transcoders=transcoders, changes=changes, **options)


def test_another_prompt_in_the_context_is_refused(random_case):
    model, _, prompt = random_case
    with frozen(random_case, {}), pytest.raises(ValueError, match="Open a context for each prompt"):
        models.next_token_logits(model, [prompt[:-2]])


def test_a_node_that_the_graph_does_not_have_is_refused(random_case):
    graph = asked_for(random_case)
    with pytest.raises(ValueError, match="no source"):
        graph.edge(Feature(0, 0, 99), graph.asked[0])
    with pytest.raises(ValueError, match="no target"):
        graph.top_edges(Logit(3))
    with pytest.raises(ValueError, match="has no node"):
        graph.group({"a": [Error(9, 0)]})
    with pytest.raises(ValueError, match="more than one place"):
        graph.group({"a": [graph.sources[0]], "b": [graph.sources[0]]})
    with pytest.raises(ValueError, match="unit must be one of value, share, output"):
        graph.group({"a": [graph.sources[0]]}, unit="logits")
    with pytest.raises(ValueError, match="no group 'b'"):
        graph.group({"a": [graph.sources[0]]}).at("b", "a")
    with pytest.raises(ValueError, match="node_share must be above 0"):
        graph.prune(node_share=0)


def test_what_cannot_be_confirmed_is_refused_before_any_run(random_case):
    model, transcoders, prompt = random_case
    graph = asked_for(random_case)
    groups = {"lost": [Error(0, 1)], "words": [graph.sources[-1]], "answer": [graph.asked[0]]}
    for edge, message in (
        (("lost", "answer"), "'lost' holds an error"),
        (("answer", "words"), "'answer' holds an error or a target"),
        (("words", "b"), "no group 'b'"),
    ):
        with pytest.raises(ValueError, match=message):
            attribution.confirm(model, graph, transcoders=transcoders, groups=groups, edges=[edge])
    with frozen(random_case, {}), pytest.raises(ValueError, match="active hooks"):
        attribution.confirm(model, graph, transcoders=transcoders, groups=groups, edges=[("words", "answer")])
