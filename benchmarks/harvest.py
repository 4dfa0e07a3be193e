"""The last token's residual stream before every block: `caching.harvest`, its floor, and how others get it."""

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks import cases, peers
from benchmarks.measure import Table, Way, peak_bytes, timed
from course_lib import caching, models

BATCH = 64


def tables(setting: cases.Setting) -> list[Table]:
    """Residual stream of the last token, all layers."""
    return [_table(case, setting) for case in (cases.organism(setting), cases.random_llama(setting))]


def _table(case: cases.Case, setting: cases.Setting) -> Table:
    model, prompts = case.model, case.prompts
    plain = AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32).to(setting.device).eval()
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(models.n_layers(model))]
    harvest = "`caching.harvest`"
    ways = [
        Way("floor: bare forward, same batches", lambda: bare(plain.model, model, prompts)),
        Way(harvest, lambda: caching.harvest(model, prompts, progress=False).values[:, 0]),
        Way("plain loop: transformers, one prompt at a time", lambda: _one_by_one(plain, prompts)),
        Way("transformers, `output_hidden_states`, unsorted batches", lambda: hidden_states(plain, prompts)),
        Way("TransformerLens `run_with_cache`, `names_filter`", lambda: with_cache(model, prompts, names)),
        Way("TransformerLens `run_with_cache`, everything", lambda: with_cache(model, prompts, None)),
    ]
    table = Table(
        f"Harvest: {case.name}",
        f"Last token's residual stream before every block, {len(prompts)} prompts, {case.tokens:,} tokens.",
        timed(ways, repeats=setting.repeats, device=setting.device),
        harvest,
    )
    kept = caching.harvest(model, prompts, progress=False).values.nbytes
    if setting.peers and setting.device == "cpu":
        request = {"prompts": prompts, "repeats": setting.repeats}
        ours = caching.harvest(model, prompts, progress=False).values[:, 0]
        table.seconds["nnsight, in its own environment"] = peers.nnsight(case.folder, request, ours)
    peak = peak_bytes(lambda: caching.harvest(model, prompts, progress=False), setting.device)
    bounded = peak_bytes(lambda: caching.harvest(model, prompts, batch_size=4, progress=False), setting.device)
    table.notes = [
        f"Memory beyond the model: kept {kept / 2**20:.1f} MiB; at the peak {peak / kept:.1f} times that, with batches "
        f"of at most 4 prompts {bounded / kept:.1f} times. The difference is one batch's activations.",
        "The harvest stops when the last hook has fired, so the last block is not run; the floor runs it.",
    ]
    return table


@torch.no_grad()
def bare(body: torch.nn.Module, model: models.CheckedBridge, prompts: list[list[int]]) -> None:
    for batch in models.batches(model, prompts, batch_size=BATCH, equal_lengths=False):
        body(batch.tokens, use_cache=False)


@torch.no_grad()
def _one_by_one(plain: torch.nn.Module, prompts: list[list[int]]) -> Tensor:
    rows = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=plain.device)
        states = plain.model(ids, use_cache=False, output_hidden_states=True).hidden_states[:-1]
        rows.append(torch.stack([state[0, -1] for state in states]).cpu())
    return torch.stack(rows)


def _padded(prompts: list[list[int]], device: str | torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=device)
    return ids, torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)


@torch.no_grad()
def hidden_states(plain: torch.nn.Module, prompts: list[list[int]]) -> Tensor:
    parts = []
    for begin in range(0, len(prompts), BATCH):
        ids, last = _padded(prompts[begin : begin + BATCH], plain.device)
        states = plain(ids, use_cache=False, output_hidden_states=True).hidden_states[:-1]
        parts.append(torch.stack([state[torch.arange(len(ids)), last] for state in states], dim=1).cpu())
    return torch.cat(parts)


@torch.no_grad()
def with_cache(model: models.CheckedBridge, prompts: list[list[int]], names: list[str] | None) -> Tensor:
    parts = []
    layers = range(models.n_layers(model))
    for begin in range(0, len(prompts), BATCH):
        ids, last = _padded(prompts[begin : begin + BATCH], model.cfg.device)
        _, cache = model.run_with_cache(ids, names_filter=names)
        kept = [cache[f"blocks.{layer}.hook_resid_pre"][torch.arange(len(ids)), last] for layer in layers]
        parts.append(torch.stack(kept, dim=1).cpu())
    return torch.cat(parts)
