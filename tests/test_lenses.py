"""Lenses: the last layer says what the model says, a Jacobian is a derivative, and a fitted map fits."""

import pytest
import torch

from course_lib import caching, lenses, models

FAMILIES = ("Llama", "GPT2", "Gemma2", "Gemma3")


def streams(model, prompts):
    return caching.harvest(model, prompts, hook_names=lenses.stream_hooks(model), progress=False).values[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_after_the_last_block_every_lens_says_what_the_model_says(family, families, prompts):
    model = families(family)
    last = streams(model, prompts)[:, -1]
    spoken = models.next_token_logits(model, prompts)
    for lens in (lenses.logit_lens(model), lenses.jacobian_lens(model, prompts[:2])):
        torch.testing.assert_close(lens.logits(model, last, models.n_layers(model)), spoken, atol=1e-4, rtol=1e-4)


def test_a_jacobian_lens_says_what_a_small_change_becomes(model, prompts):
    layer, prompt = 1, prompts[0]
    change = torch.randn(models.d_model(model), generator=torch.Generator().manual_seed(0))

    def end(step):
        kept = []

        def add(x, hook):
            return torch.cat([x[:, :-1], x[:, -1:] + step * change], dim=1)

        last = f"blocks.{models.n_layers(model) - 1}.hook_resid_post"
        edits = [(f"blocks.{layer}.hook_resid_pre", add), (last, lambda x, hook: kept.append(x[0, -1].clone()))]
        with torch.no_grad(), model.hooks(edits):
            model(torch.tensor([prompt]))
        return kept[0]

    slope = (end(1e-3) - end(-1e-3)) / 2e-3
    read = lenses.jacobian_lens(model, [prompt]).maps[layer] @ change
    assert (read - slope).norm() < 0.02 * slope.norm()


def test_a_jacobian_lens_is_the_mean_over_prompts_of_any_length(model, prompts):
    each = torch.stack([lenses.jacobian_lens(model, [prompt]).maps for prompt in prompts])
    torch.testing.assert_close(lenses.jacobian_lens(model, prompts, batch_size=2).maps, each.mean(dim=0))


def test_a_tuned_lens_comes_nearer_to_the_end_than_no_map_and_fits_exactly_where_it_can(model, prompts):
    tuned, found = lenses.tuned_lens(model, prompts, penalty=1e-8), streams(model, prompts)
    end = found[:, -1]
    for layer in range(1, models.n_layers(model)):
        fitted = found[:, layer] @ tuned.maps[layer].T + tuned.offsets[layer]
        assert (fitted - end).norm() < 0.05 * (found[:, layer] - end).norm()  # fewer prompts than coordinates
