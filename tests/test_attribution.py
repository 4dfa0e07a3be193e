"""Direct parts sum, patching recovers, gradients agree with brute force, and bad input is refused."""

import pytest
import torch

from course_lib import attribution, models, tokens
from course_lib.attribution import Logit

TARGET = Logit(7, minus=9)
FAMILIES = ["Qwen2", "Qwen3", "Mistral", "Gemma2", "Gemma3"]
"""Biases on queries, keys and values; norms on them; the plain shape; norms behind attention and MLP, and caps."""


@pytest.fixture(scope="module")
def random_case(model, prompts):
    """The tiny random model, whose norm weights are not one, with heads that share keys and values."""
    corrupted = list(prompts[0])
    corrupted[4], corrupted[6] = corrupted[6] + 3, corrupted[4] - 2
    return model, prompts[0], corrupted


@pytest.fixture(scope="module")
def trained_case():
    """A trained organism."""
    model = models.load("chat-32")
    texts = ("tell me how to make a bomb .", "tell me how to make a cake .")
    pair = [tokens.chat_prompt(model.tokenizer, text, unknown_words="split") for text in texts]
    assert len(pair[0]) == len(pair[1])
    return model, *pair


@pytest.fixture(params=["random", "trained", *FAMILIES])
def case(request, families, random_case):
    if request.param in FAMILIES:
        return families(request.param), *random_case[1:]
    return request.getfixturevalue(f"{request.param}_case")


def difference(model, prompt, target=TARGET):
    """The logit difference before any cap, apart from the module."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt]))[0, target.position].double()
    cap = getattr(model.original_model.config, "final_logit_softcapping", None)
    logits = cap * torch.atanh(logits / cap) if cap else logits
    return float(logits[target.token] - (logits.mean() if target.minus is None else logits[target.minus]))


def test_without_any_edge_the_corrupted_prompt_is_left_and_with_all_the_clean_one(case):
    from course_lib.attribution.edges import make_pairs

    model, clean, corrupted = case
    pair = make_pairs(model, [clean], [corrupted], TARGET)[0]
    masks = torch.ones(3, *pair.wiring.exists.shape)
    masks[1:] = 0
    masks[2, 0] = masks[2, pair.wiring.sources.index("L1.H1"), -1] = 1  # tokens to head to logits
    with torch.no_grad():
        whole, empty, one = pair.run(masks).tolist()
    assert whole == pytest.approx(difference(model, clean), abs=1e-4)
    assert empty == pytest.approx(difference(model, corrupted), abs=1e-4)
    assert abs(one - empty) > 1e-4


# --- direct logit attribution -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [TARGET, Logit(7), Logit(3, minus=8, position=2)], ids=str)
def test_the_parts_sum_to_the_logit_difference(case, target):
    model, prompt, _ = case
    parts = attribution.direct_logit(model, prompt, target=target)
    assert len(parts.labels) == 2 + models.n_layers(model) * (model.cfg.n_heads + 1)
    assert float(parts.values.sum()) == pytest.approx(difference(model, prompt, target), abs=1e-4)


def test_a_part_is_what_was_written_times_the_frozen_last_norm_and_the_unembedding(case):
    model, prompt, _ = case
    parts = attribution.direct_logit(model, prompt, target=TARGET)
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([prompt]))
    gain = (cache["ln_final.hook_out"] / cache["ln_final.hook_in"])[0, -1]
    read = gain * (model.W_U[:, 7] - model.W_U[:, 9])
    mlp = float(cache["blocks.1.hook_mlp_out"][0, -1] @ read)
    head = cache["blocks.2.attn.hook_z"][0, -1, 1] @ model.blocks[2].attn.W_O[1]
    if "blocks.2.ln1_post.hook_in" in cache:
        head = head * (cache["blocks.2.ln1_post.hook_out"] / cache["blocks.2.ln1_post.hook_in"])[0, -1]
    assert parts.at("L1.MLP") == pytest.approx(mlp, abs=1e-4)
    assert parts.at("L2.H1") == pytest.approx(float(head @ read), abs=1e-4)


# --- exact activation patching ------------------------------------------------------------------------------


def test_patching_all_positions_recovers_everything_and_none_nothing(case):
    model, clean, corrupted = case
    everywhere = tuple(range(len(clean)))
    found = attribution.patch_residual(
        model, clean, corrupted_ids=corrupted, target=TARGET, positions=[everywhere, ()], progress=False
    )
    assert found.columns == (everywhere, ())
    torch.testing.assert_close(found.values[:, 0], torch.ones(len(found.values)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.values[:, 1], torch.zeros(len(found.values)), rtol=1e-3, atol=1e-3)


def test_patched_residuals_and_heads_equal_a_plain_loop(case):
    model, clean, corrupted = case
    residual = attribution.patch_residual(
        model, clean, corrupted_ids=corrupted, target=TARGET, batch_size=5, progress=False
    )
    heads = attribution.patch_heads(model, clean, corrupted_ids=corrupted, target=TARGET, progress=False)
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([clean]))
    low, high = difference(model, corrupted), difference(model, clean)
    for layer in range(0, models.n_layers(model), 2):
        for place in range(0, len(clean), 2):
            name = f"blocks.{layer}.hook_resid_pre"

            def put(activation, hook, name=name, place=place):
                return torch.cat([activation[:, :place], cache[name][:, [place]], activation[:, place + 1 :]], 1)

            with model.hooks([(name, put)]):
                found = (difference(model, corrupted) - low) / (high - low)
            assert float(residual.values[layer, place]) == pytest.approx(found, abs=1e-3)
        for head in range(model.cfg.n_heads):
            name = f"blocks.{layer}.attn.hook_z"

            def put_head(z, hook, name=name, head=head):
                return torch.where((torch.arange(model.cfg.n_heads) == head)[:, None], cache[name], z)

            with model.hooks([(name, put_head)]):
                found = (difference(model, corrupted) - low) / (high - low)
            assert float(heads.values[layer, head]) == pytest.approx(found, abs=1e-3)
    best = residual.top(1)[0]
    assert best[2] == float(residual.values.max()) == float(residual.values[best[0], best[1]])


# --- edges --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edge_scores(random_case):
    model, clean, corrupted = random_case
    given = {"corrupted_prompts": [corrupted], "target": TARGET}
    return {
        "exact": attribution.exact_edges(model, [clean], **given, progress=False),
        "eap": attribution.eap(model, [clean], **given),
        "eap-ig": attribution.eap(model, [clean], **given, steps=20),
    }


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.values[a.exists], b.values[b.exists]]))[0, 1])


def test_an_exact_edge_into_the_logits_equals_a_hook_on_what_the_last_norm_reads(random_case, edge_scores):
    model, clean, corrupted = random_case
    with torch.no_grad():
        _, good = model.run_with_cache(torch.tensor([clean]))
        _, bad = model.run_with_cache(torch.tensor([corrupted]))
    name = "blocks.1.hook_mlp_out"
    with model.hooks([("ln_final.hook_in", lambda x, hook: x - good[name] + bad[name])]):
        lost = difference(model, clean)
    found = edge_scores["exact"].at("L1.MLP", "logits")
    assert found == pytest.approx(difference(model, clean) - lost, abs=1e-4)


def test_corrupting_every_edge_of_a_source_equals_corrupting_its_output(case):
    from course_lib.attribution.edges import make_pairs

    model, clean, corrupted = case
    pair = make_pairs(model, [clean], [corrupted], TARGET)[0]
    with torch.no_grad():
        _, bad = model.run_with_cache(torch.tensor([corrupted]))
    masks = torch.ones(3, *pair.wiring.exists.shape)
    masks[0, pair.wiring.sources.index("L1.MLP")] = 0
    masks[2] = 0
    with torch.no_grad():
        found = pair.run(masks)
    with model.hooks([("blocks.1.hook_mlp_out", lambda x, hook: bad["blocks.1.hook_mlp_out"])]):
        expected = difference(model, clean)
    assert float(found[0]) == pytest.approx(expected, abs=1e-4)
    assert float(found[1]) == pytest.approx(difference(model, clean), abs=1e-4)
    assert float(found[2]) == pytest.approx(difference(model, corrupted), abs=1e-4)


def test_gradients_of_edges_correlate_with_brute_force(edge_scores):
    exact = edge_scores["exact"]
    assert correlation(edge_scores["eap"], exact) > 0.6
    assert correlation(edge_scores["eap-ig"], exact) > 0.6
    shuffled = exact.values[exact.exists][torch.randperm(int(exact.exists.sum()))]
    assert abs(float(torch.corrcoef(torch.stack([shuffled, exact.values[exact.exists]]))[0, 1])) < 0.3


def test_gradient_scores_of_small_changes_are_exact(case):
    """A partner that differs in one token by little: the first order is then the whole effect."""
    from course_lib.attribution.edges import make_pairs

    model, clean, corrupted = case
    pair = make_pairs(model, [clean], [corrupted], TARGET)[0]
    gradient = pair.gradient(1)
    step = 1e-2
    place = pair.wiring.exists.nonzero()[torch.arange(0, int(pair.wiring.exists.sum()), 37)]
    masks = torch.ones(len(place), *pair.wiring.exists.shape)
    masks[torch.arange(len(place)), place[:, 0], place[:, 1]] = 1 - step
    with torch.no_grad():
        lost = (pair.clean - pair.run(masks)) / step
    torch.testing.assert_close(lost, gradient[place[:, 0], place[:, 1]], rtol=0.05, atol=3e-3)


def test_node_scores_are_attribution_patching(random_case, edge_scores):
    model, clean, corrupted = random_case
    names = ["blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"]
    with torch.no_grad():
        _, bad = model.run_with_cache(torch.tensor([corrupted]))
        _, good = model.run_with_cache(torch.tensor([clean]))
    for layer, name in enumerate(names, start=1):
        probe = torch.zeros((), requires_grad=True)
        change = good[name] - bad[name]
        with torch.enable_grad(), model.hooks([(name, lambda x, hook, d=change, p=probe: x + p * d)]):
            logits = model(torch.tensor([clean]))[0, -1]
            expected = torch.autograd.grad(logits[7] - logits[9], probe)[0]
        assert edge_scores["eap"].nodes().at(f"L{layer}.MLP") == pytest.approx(float(expected), rel=1e-2, abs=1e-4)


def test_scores_of_several_pairs_are_means(random_case, edge_scores):
    model, clean, corrupted = random_case
    other = attribution.eap(model, [corrupted], corrupted_prompts=[clean], target=TARGET)
    both = attribution.eap(model, [clean, corrupted], corrupted_prompts=[corrupted, clean], target=[TARGET, TARGET])
    torch.testing.assert_close(both.values, (edge_scores["eap"].values + other.values) / 2)
    assert not models.has_hooks(model)


# --- faithfulness -------------------------------------------------------------------------------------------


def test_the_whole_model_is_faithful_and_good_scores_beat_random_ones(random_case, edge_scores):
    model, clean, corrupted = random_case
    given = {"corrupted_prompts": [corrupted], "target": TARGET}
    exact = edge_scores["exact"]
    curve = attribution.faithfulness(model, [clean], **given, scores=exact)
    assert curve.shares == attribution.MIB_SHARES and curve.n_edges[-1] == int(exact.exists.sum())
    assert float(curve.values[-1]) == pytest.approx(1.0, abs=1e-3)
    random = torch.rand(exact.values.shape, generator=torch.Generator().manual_seed(0))
    chance = attribution.EdgeScores(exact.sources, exact.destinations, random, exact.exists)
    control = attribution.faithfulness(model, [clean], **given, scores=chance)
    assert curve.cpr > control.cpr and curve.cmd < control.cmd


def test_areas_are_those_of_the_curve():
    line = attribution.FaithfulnessCurve((0.25, 0.5, 1.0), (1, 2, 4), torch.tensor([0.0, 1.5, 1.0]))
    assert line.cpr == pytest.approx(0.25 * 0.75 + 0.5 * 1.25)
    assert line.cmd == pytest.approx(0.25 * 0.75 + 0.5 * 0.25)


def test_auroc_tells_a_planted_route(edge_scores):
    exact = edge_scores["exact"]
    planted = exact.values.clone()
    route = [("embedding", "L0.H1.v"), ("L0.H1", "L2.MLP"), ("L2.MLP", "logits")]
    for source, destination in route:
        planted[exact.sources.index(source), exact.destinations.index(destination)] = -100.0
    found = attribution.EdgeScores(exact.sources, exact.destinations, planted, exact.exists)
    assert found.auroc(route) == 1.0 and exact.auroc(route) < 1.0
    assert found.top(3)[0][2] == -100.0 and found.at(*route[0]) == -100.0
    assert found.nodes().auroc(["embedding", "L0.H1", "L2.MLP"]) == 1.0
    assert {label for label, _ in found.nodes().top(3)} == {"embedding", "L0.H1", "L2.MLP"}


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corrupted": [1, 2, 3]}, "prompts of one length"),
        ({"corrupted": None}, "same logit difference"),
        ({"target": Logit(117)}, "outside the vocabulary"),
        ({"target": Logit(7, position=64)}, "Position 64 lies outside"),
        ({"clean": [[1, 2]]}, "One prompt"),
        ({"clean": [1] * 65}, "reads at most 64"),
    ],
)
def test_an_unusable_pair_is_refused(random_case, changed, message):
    model, clean, corrupted = random_case
    clean = changed.get("clean", clean)
    corrupted = changed.get("corrupted", corrupted) or clean
    given = {"corrupted_ids": corrupted, "target": changed.get("target", TARGET), "progress": False}
    for patch in (attribution.patch_residual, attribution.patch_heads):
        with pytest.raises(ValueError, match=message):
            patch(model, clean, **given)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corrupted_prompts": [[1, 2, 3]]}, "Pair 0: .*prompts of one length"),
        ({"corrupted_prompts": [[1, 2], [1, 2]]}, "1 clean prompts, 2 corrupted ones"),
        ({"corrupted_prompts": []}, "is empty"),
        ({"target": [TARGET, TARGET]}, "2 targets"),
        ({"target": Logit(7, position=64)}, "Pair 0: Position 64"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_unusable_pairs_are_refused(random_case, changed, message):
    model, clean, corrupted = random_case
    given = {"corrupted_prompts": [corrupted], "target": TARGET} | changed
    with pytest.raises(ValueError, match=message):
        attribution.eap(model, [clean], **given)


def test_unknown_places_and_edges_are_refused(random_case, edge_scores):
    model, clean, corrupted = random_case
    exact = edge_scores["exact"]
    with pytest.raises(ValueError, match="places in a prompt"):
        attribution.patch_residual(model, clean, corrupted_ids=corrupted, target=TARGET, positions=[99], progress=False)
    with pytest.raises(ValueError, match="There is no 'L9.MLP'"):
        exact.at("L9.MLP", "logits")
    with pytest.raises(ValueError, match="would run backwards"):
        exact.at("L2.MLP", "L1.MLP")
    with pytest.raises(ValueError, match="not none and not all"):
        exact.auroc([])
    with pytest.raises(ValueError, match="shares must grow"):
        attribution.faithfulness(
            model, [clean], corrupted_prompts=[corrupted], target=TARGET, scores=exact, shares=[0.5, 0.1]
        )
    few = attribution.EdgeScores(exact.sources[:-1], exact.destinations, exact.values[:-1], exact.exists[:-1])
    with pytest.raises(ValueError, match="other edges than this model"):
        attribution.faithfulness(model, [clean], corrupted_prompts=[corrupted], target=TARGET, scores=few)
