"""Direct parts sum, patching equals a plain loop, and gradients of edges agree with brute force."""

import pytest
import torch

from benchmarks.tracing import exact_edges
from course_lib import edges, models, patching, tokens
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


# --- direct logit attribution -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [TARGET, Logit(7), Logit(3, minus=8, position=2)], ids=str)
def test_the_parts_sum_to_the_logit_difference(case, target):
    model, prompt, _ = case
    parts = edges.direct_logit(model, prompt, target=target)
    assert len(parts) == 2 + models.n_layers(model) * (model.cfg.n_heads + 1)
    assert sum(parts.values()) == pytest.approx(difference(model, prompt, target), abs=1e-4)


def test_a_part_is_what_was_written_times_the_frozen_last_norm_and_the_unembedding(case):
    model, prompt, _ = case
    parts = edges.direct_logit(model, prompt, target=TARGET)
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([prompt]))
    gain = (cache["ln_final.hook_out"] / cache["ln_final.hook_in"])[0, -1]
    read = gain * (model.W_U[:, 7] - model.W_U[:, 9])
    mlp = float(cache["blocks.1.hook_mlp_out"][0, -1] @ read)
    head = cache["blocks.2.attn.hook_z"][0, -1, 1] @ model.blocks[2].attn.W_O[1]
    if "blocks.2.ln1_post.hook_in" in cache:
        head = head * (cache["blocks.2.ln1_post.hook_out"] / cache["blocks.2.ln1_post.hook_in"])[0, -1]
    assert parts["L1.MLP"] == pytest.approx(mlp, abs=1e-4)
    assert parts["L2.H1"] == pytest.approx(float(head @ read), abs=1e-4)


# --- activation patching ------------------------------------------------------------------------------------


def test_patched_residuals_and_heads_equal_a_plain_loop(case, monkeypatch):
    model, clean, corrupted = case
    monkeypatch.setattr(patching, "BATCH_SIZE", 5)
    residual = patching.patch_residual(model, clean, corrupted_ids=corrupted, target=TARGET)
    heads = patching.patch_heads(model, clean, corrupted_ids=corrupted, target=TARGET)
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
            assert float(residual[layer, place]) == pytest.approx(found, abs=1e-3)
        for head in range(model.cfg.n_heads):
            name = f"blocks.{layer}.attn.hook_z"

            def put_head(z, hook, name=name, head=head):
                return torch.where((torch.arange(model.cfg.n_heads) == head)[:, None], cache[name], z)

            with model.hooks([(name, put_head)]):
                found = (difference(model, corrupted) - low) / (high - low)
            assert float(heads[layer, head]) == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize(
    ("corrupted", "message"), [([1, 2, 3], "corrupted one 3: use one length"), (None, "same logit difference")]
)
def test_a_pair_that_would_give_no_recovery_is_refused(random_case, corrupted, message):
    model, clean, _ = random_case
    for patch in (patching.patch_residual, patching.patch_heads):
        with pytest.raises(ValueError, match=message):
            patch(model, clean, corrupted_ids=corrupted or clean, target=TARGET)


def test_active_hooks_and_a_run_that_is_not_finite_are_refused(random_case, checkpoint):
    model, clean, corrupted = random_case
    with model.hooks([("hook_embed", lambda x, hook: 2 * x)]), pytest.raises(ValueError, match="active hooks"):
        patching.patch_heads(model, clean, corrupted_ids=corrupted, target=TARGET)
    broken = models.load(str(checkpoint))
    broken.blocks[3].mlp.out.original_component.weight[0, 0] = float("nan")
    for call in (
        lambda: patching.patch_heads(broken, clean, corrupted_ids=corrupted, target=TARGET),
        lambda: edges.direct_logit(broken, clean, target=TARGET),
        lambda: edges.eap(broken, [clean], corrupted_prompts=[corrupted], targets=[TARGET]),
    ):
        with pytest.raises(ValueError, match=r"not finite .* first in blocks\.3\.mlp\.out\.hook_out"):
            call()


# --- edges --------------------------------------------------------------------------------------------------


def estimated(model, clean, corrupted, steps=1):
    return edges.eap(model, [clean], corrupted_prompts=[corrupted], targets=[TARGET], steps=steps)


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_an_exact_edge_into_the_logits_equals_a_hook_on_what_the_last_norm_reads(random_case):
    model, clean, corrupted = random_case
    with torch.no_grad():
        _, good = model.run_with_cache(torch.tensor([clean]))
        _, bad = model.run_with_cache(torch.tensor([corrupted]))
    name = "blocks.1.hook_mlp_out"
    with model.hooks([("ln_final.hook_in", lambda x, hook: x - good[name] + bad[name])]):
        lost = difference(model, clean)
    source = estimated(model, clean, corrupted).sources.index("L1.MLP")
    found = float(exact_edges(model, clean, corrupted, TARGET)[source, -1])
    assert found == pytest.approx(difference(model, clean) - lost, abs=1e-4)


def test_scores_are_what_small_changes_of_each_edge_cost(case):
    """Corrupted by little, and as little the other way: the difference has no second order."""
    scores = estimated(*case)
    lost = (exact_edges(*case, TARGET, share=0.02) - exact_edges(*case, TARGET, share=-0.02)) / 0.04
    torch.testing.assert_close(scores.values, lost, rtol=0.05, atol=3e-3)
    assert float(scores.values.abs().max()) > 10 * 3e-3


def test_scores_correlate_with_whole_changes(random_case):
    there = estimated(*random_case).exists
    exact = exact_edges(*random_case, TARGET)[there]
    assert correlation(estimated(*random_case).values[there], exact) > 0.6
    assert correlation(estimated(*random_case, steps=20).values[there], exact) > 0.6
    assert abs(correlation(exact[torch.randperm(len(exact))], exact)) < 0.3


def test_node_scores_are_attribution_patching(random_case):
    model, clean, corrupted = random_case
    scores = estimated(*random_case).nodes()
    with torch.no_grad():
        _, bad = model.run_with_cache(torch.tensor([corrupted]))
        _, good = model.run_with_cache(torch.tensor([clean]))
    for layer in (1, 2):
        name = f"blocks.{layer}.hook_mlp_out"
        probe, change = torch.zeros((), requires_grad=True), good[name] - bad[name]
        with torch.enable_grad(), model.hooks([(name, lambda x, hook, d=change, p=probe: x + p * d)]):
            logits = model(torch.tensor([clean]))[0, -1]
            expected = torch.autograd.grad(logits[7] - logits[9], probe)[0]
        assert scores[f"L{layer}.MLP"] == pytest.approx(float(expected), rel=1e-2, abs=1e-4)


def test_scores_of_several_pairs_are_means(random_case):
    model, clean, corrupted = random_case
    both = edges.eap(model, [clean, corrupted], corrupted_prompts=[corrupted, clean], targets=[TARGET, TARGET])
    one, other = estimated(model, clean, corrupted), estimated(model, corrupted, clean)
    torch.testing.assert_close(both.values, (one.values + other.values) / 2)
    assert not models.has_hooks(model)
