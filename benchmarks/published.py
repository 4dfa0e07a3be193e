"""Published models' full shapes with random weights: what a harvest costs there, and what half precision changes.

Values of random weights mean nothing; time and memory depend on shapes only. On a CPU the smallest shape is measured, on a GPU
those from 1 to 8 billion parameters that fit into what is free.
"""

import time

import torch
import transformers
from torch import Tensor

from benchmarks import cases, harvest
from benchmarks.measure import Table, Way, peak_bytes, timed
from course_lib import caching, models, profiles

VOCABULARY = {"Qwen": 151936, "meta-llama": 128256, "gemma-2": 256000, "gemma-3": 262144}
INNER = {  # intermediate size, heads, key-value heads, head size: from the models' own pages and configurations, as we know them
    "google/gemma-3-270m-it": (2048, 4, 1, 256),
    "google/gemma-3-1b-it": (6912, 4, 1, 256),
    "Qwen/Qwen2.5-0.5B-Instruct": (4864, 14, 2, None),
    "Qwen/Qwen2.5-1.5B-Instruct": (8960, 12, 2, None),
    "Qwen/Qwen3-0.6B": (3072, 16, 8, 128),
    "Qwen/Qwen3-1.7B": (6144, 16, 8, 128),
    "Qwen/Qwen3-8B": (12288, 32, 8, 128),
    "meta-llama/Llama-3.2-1B-Instruct": (8192, 32, 8, None),
    "meta-llama/Llama-3.2-3B-Instruct": (8192, 24, 8, None),
    "google/gemma-2-2b-it": (9216, 8, 4, 256),
    "google/gemma-2-9b-it": (14336, 16, 8, 256),
}
ON_CPU = ("Qwen/Qwen2.5-0.5B-Instruct",)
ON_GPU = ("meta-llama/Llama-3.2-1B-Instruct", "meta-llama/Llama-3.2-3B-Instruct", "Qwen/Qwen3-8B")
FLOOR, OURS = "floor: bare forward, same batches", "`caching.harvest`"
HALF_PRECISION = 0.05
"""Most that values in bfloat16 may differ, as a share of the largest: sums in another order round differently."""


def family(name: str) -> str:
    """The architecture of a profile, as `transformers` calls it."""
    parts = {"Qwen2.5": "Qwen2", "Qwen3": "Qwen3", "Llama": "Llama", "gemma-2": "Gemma2", "gemma-3": "Gemma3"}
    return next(architecture for part, architecture in parts.items() if part in name)


def tied(name: str) -> bool:
    """Whether the output matrix of the original is its embedding."""
    return not name.endswith("8B")


def shape(profile: profiles.Profile) -> transformers.PretrainedConfig:
    """The full configuration of a profile's model."""
    inner, heads, shared, head_dim = INNER[profile.name]
    kind = family(profile.name)
    return getattr(transformers, f"{kind}{'Text' if kind == 'Gemma3' else ''}Config")(
        vocab_size=next(size for part, size in VOCABULARY.items() if part in profile.name),
        hidden_size=profile.d_model,
        num_hidden_layers=profile.n_layers,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        tie_word_embeddings=tied(profile.name),
        **({"head_dim": head_dim} if head_dim else {}),
    )


def tables(setting: cases.Setting) -> list[Table]:
    """Harvest at the shapes of published models."""
    if setting.quick:
        return [_table(cases.random_llama(setting), "float32", setting)]
    made = []
    for profile in map(profiles.get, ON_CPU if setting.device == "cpu" else ON_GPU):
        if setting.device != "cpu" and 4 * profile.memory_gb * 1e9 > torch.cuda.mem_get_info()[0]:
            continue  # the model, a plain one beside it, and one in float32
        made.append(_table(_case(profile, setting), profile.dtype, setting))
    return made


def _case(profile: profiles.Profile, setting: cases.Setting) -> cases.Case:
    """A checkpoint of the profile's full shape."""

    def build() -> transformers.PreTrainedModel:
        torch.manual_seed(0)
        with torch.device(setting.device):
            return transformers.AutoModelForCausalLM.from_config(shape(profile), dtype=getattr(torch, profile.dtype))

    return cases.of_random_weights(
        f"{profile.name}, random weights", build, 32 if setting.device == "cpu" else 512, setting.device
    )


def _table(case: cases.Case, dtype: str, setting: cases.Setting) -> Table:
    tolerance = 1e-4 if dtype == "float32" else HALF_PRECISION
    seconds, kept = _timed(case, dtype, tolerance, setting), _harvested(case.model, case.prompts)
    text = f"Last token's residual stream before every block, {len(case.prompts)} prompts, {case.tokens:,} tokens, {dtype}."
    notes = [
        f"{case.tokens / seconds[OURS]:,.0f} tokens a second, {seconds[FLOOR] / seconds[OURS]:.0%} of the bare forward's.",
        _memory(case, kept, setting),
        _forecast(case),
        _half_precision(case, kept, setting),
        *([_out_of_memory(case, kept, tolerance)] if setting.device != "cpu" else []),
    ]
    return Table(f"Harvest: {case.name}", text, seconds, OURS, notes)


def _timed(case: cases.Case, dtype: str, tolerance: float, setting: cases.Setting) -> dict[str, float]:
    model, prompts = case.model, case.prompts
    plain = transformers.AutoModelForCausalLM.from_pretrained(case.folder, dtype=getattr(torch, dtype))
    plain = plain.to(setting.device).eval()
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(models.n_layers(model))]
    ways = [
        Way(FLOOR, lambda: harvest.bare(plain.model, model, prompts)),
        Way(OURS, lambda: _harvested(model, prompts)),
        Way("the same, waiting for each batch to arrive", lambda: _waiting(model, prompts)),
        Way("transformers, `output_hidden_states`, unsorted batches", lambda: harvest.hidden_states(plain, prompts)),
        Way("TransformerLens `run_with_cache`, `names_filter`", lambda: harvest.with_cache(model, prompts, names)),
    ]
    return timed(ways, repeats=setting.repeats, device=setting.device, tolerance=tolerance)


def _harvested(model: models.CheckedBridge, prompts: list[list[int]]) -> Tensor:
    return caching.harvest(model, prompts, progress=False).values[:, 0]


def _waiting(model: models.CheckedBridge, prompts: list[list[int]]) -> Tensor:
    """Batch by batch, so that nothing is computed while the last batch is copied to the host."""
    parts = [None] * len(prompts)
    for batch in models.batches(model, prompts, batch_size=harvest.BATCH, equal_lengths=False):
        values = _harvested(model, [prompts[i] for i in batch.indices])
        for index, row in zip(batch.indices, values, strict=True):
            parts[index] = row
    return torch.stack(parts)


def _memory(case: cases.Case, kept: Tensor, setting: cases.Setting) -> str:
    peak = peak_bytes(lambda: _harvested(case.model, case.prompts), setting.device)
    weights = sum(p.numel() * p.element_size() for p in case.model.original_model.parameters())
    return (
        f"Memory: weights {weights / 2**30:.2f} GiB; beyond them {peak / 2**30:.2f} GiB at the peak on the {setting.device}, "
        f"for {kept.nbytes / 2**20:.0f} MiB that are kept."
    )


def _forecast(case: cases.Case) -> str:
    said = caching.forecast(case.model, case.prompts)
    begin = time.perf_counter()
    _harvested(case.model, case.prompts)
    return (
        f"`caching.forecast` said {said.seconds / (time.perf_counter() - begin):.1f} times what the harvest then took."
    )


def _half_precision(case: cases.Case, kept: Tensor, setting: cases.Setting) -> str:
    """How far bfloat16 is from float32 at the same weights: the stream, and a difference of means in it."""
    other = "bfloat16" if case.model.cfg.dtype == torch.float32 else "float32"
    twin = models.load(case.folder, device=setting.device, dtype=getattr(torch, other))
    got, half = _harvested(twin, case.prompts), len(case.prompts) // 2
    gap = ((got - kept).norm(dim=-1) / kept.norm(dim=-1)).mean(dim=0)[1:]
    means = [values[:half].mean(dim=0) - values[half:].mean(dim=0) for values in (kept, got)]
    cosines = torch.cosine_similarity(*means, dim=-1)[1:]
    return (
        f"bfloat16 beside float32: the stream differs by {gap[0]:.2%} of its length before block 1 and {gap[-1]:.2%} before the "
        f"last; differences of means of two random halves keep a cosine of at least {cosines.min():.3f}."
    )


def _out_of_memory(case: cases.Case, kept: Tensor, tolerance: float) -> str:
    """All prompts in one batch, in too little memory for it: the harvest must halve it and give the same."""
    torch.cuda.empty_cache()
    longest = max(map(len, case.prompts))
    repeated = [prompt for prompt in case.prompts if len(prompt) > longest // 2] * 8
    whole = peak_bytes(lambda: caching.harvest(case.model, repeated, batch_size=len(repeated), progress=False), "cuda")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + whole / 3) / total)
    try:
        got = caching.harvest(case.model, repeated, batch_size=len(repeated), progress=False).values[:, 0]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    expected = torch.stack([kept[case.prompts.index(prompt)] for prompt in repeated])
    gap = float((got - expected).abs().max() / expected.abs().max())
    verdict = "the same values" if gap <= tolerance else f"OTHER VALUES, by {gap:.2g} of the largest"
    return (
        f"Out of memory: {len(repeated)} prompts in one batch take {whole / 2**30:.1f} GiB; with a third of that allowed, "
        f"the batch was halved until it fitted, and gave {verdict}."
    )
