"""What holds on the trained organisms holds on the shapes of published models: claims on random checkpoints of each.

Attribution on these shapes is in test_attribution.py and test_edges.py, which run every claim on them too.
"""

import pytest
import torch

from course_lib import abliteration, caching, directions, models, steering

FAMILIES = ["Llama", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3"]
AFTER = ["Gemma2", "Gemma3"]
"""Have norms after attention and MLP."""


@pytest.fixture(scope="module")
def direction():
    return 2.5 * torch.randn(32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def test_no_gain_of_a_norm_is_one_and_no_width_is_the_vocabularys(families, family):
    """Or a forgotten gain, and a matrix taken the wrong way round, would show in no test of these checkpoints."""
    network = families(family).original_model
    gains = [weight for name, weight in network.named_parameters() if "norm" in name and "weight" in name]
    offset = 1.0 if family.startswith("Gemma") else 0.0
    assert gains and all(float((gain + offset - 1).abs().mean()) > 0.1 for gain in gains)
    assert network.config.hidden_size != network.config.vocab_size


def test_a_harvest_is_the_hidden_states_of_plain_transformers(families, family_folder, prompts, family):
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(family_folder(family), dtype=torch.float32)
    model = families(family)
    names = [*(f"blocks.{layer}.hook_resid_pre" for layer in range(models.n_layers(model))), "ln_final.hook_out"]
    shortest = min(map(len, prompts))
    positions = [[*range(shortest - 1), len(prompt) - 1] for prompt in prompts]
    kept = caching.harvest(model, prompts, hook_names=names, positions=positions, progress=False)
    for prompt, columns, values in zip(prompts, positions, kept.values, strict=True):
        with torch.no_grad():
            states = plain(torch.tensor([prompt]), output_hidden_states=True).hidden_states
        expected = torch.stack([state[0, columns] for state in states], dim=1)
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)


def test_replies_are_those_of_plain_transformers(families, family_folder, prompts, family):
    """Beyond a sliding window, and from a cache."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(family_folder(family), dtype=torch.float32)
    for prompt in prompts[:2]:
        ids = torch.tensor([prompt])
        options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
        whole = plain.generate(ids, **options)[0].tolist()
        reply = models.generate(families(family), [prompt], max_new_tokens=8)[0]
        assert reply == whole[len(prompt) : len(prompt) + len(reply)] and len(reply) > 1


def test_prompts_of_several_lengths_get_the_replies_that_each_gets_alone(families, prompts, family):
    mixed = [prompt[:length] for prompt, length in zip(prompts * 2, (3, 9, 5, 4, 8), strict=False)]
    alone = [models.generate(families(family), [prompt], max_new_tokens=8)[0] for prompt in mixed]
    assert models.generate(families(family), mixed, max_new_tokens=8) == alone


def test_prompts_of_several_lengths_are_edited_at_their_last_token_as_each_is_alone(families, prompts, family):
    model, mixed = families(family), [prompt[:length] for prompt, length in zip(prompts, (3, 9, 5, 4, 8), strict=False)]
    direction = 9 * directions.random_directions(1, like=torch.ones(model.cfg.d_model), seed=0)[0]
    with steering.add(model, direction, layer=1, coefficient=1.0, positions="last"):
        alone = torch.cat([models.next_token_logits(model, [prompt]) for prompt in mixed])
        torch.testing.assert_close(models.next_token_logits(model, mixed), alone, rtol=1e-3, atol=1e-3)


def before_the_norms(model, direction):
    """Hooks that do what the edited weights do: nothing along r in the embedding, nothing along g * r before a norm."""
    r = directions.unit(direction)
    pairs = [("hook_embed", lambda x, hook: directions.project_out(x, r))]
    for layer, block in enumerate(model.blocks):
        for part, norm in (("attn.hook_out", block.ln1_post), ("mlp.hook_out", block.ln2_post)):
            along = directions.unit((1 + norm.weight) * r)
            pairs.append((f"blocks.{layer}.{part}", lambda x, hook, along=along: directions.project_out(x, along)))
    return model.hooks(pairs)


@pytest.mark.parametrize("family", AFTER)
def test_where_a_norm_follows_the_writers_edited_weights_compute_what_hooks_before_it_compute(
    families, prompts, direction, family
):
    """The other families are in test_abliteration.py. `steering.ablate` acts after the norm, so its logits differ."""
    model = families(family)
    edited = models.next_token_logits(abliteration.abliterate(model, direction), prompts)
    with before_the_norms(model, direction):
        hooked = models.next_token_logits(model, prompts)
    torch.testing.assert_close(edited, hooked, rtol=1e-4, atol=1e-4)
    assert (hooked - models.next_token_logits(model, prompts)).abs().max() > 0.1
    with steering.ablate(model, direction):
        assert (hooked - models.next_token_logits(model, prompts)).abs().max() > 0.01


@pytest.mark.parametrize("name", ["Mixtral", "GPT-2", "Falcon", "Gemma 4", "Cohere", "GPT-OSS"])
def test_every_method_is_right_or_refuses_on_other_architectures(name):
    """A sample of `python -m tools.architectures`, which writes docs/architectures.md."""
    from tools import architectures

    found = architectures.tried(name)
    assert found and not [row for row in found.items() if row[1][0] == "wrong"]
    page = architectures.PAGE.read_text(encoding="utf-8")
    assert architectures.row(name, found) in page


@pytest.mark.nightly
def test_the_page_of_architectures_is_what_comes_out():
    from tools import architectures

    results = {name: architectures.tried(name) for name in architectures.ARCHITECTURES}
    assert architectures.page(results) == architectures.PAGE.read_text(encoding="utf-8")
    assert "**wrong**" not in architectures.page(results)
