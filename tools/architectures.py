"""Run the library on small random checkpoints of many architectures, beside plain transformers, and write docs/architectures.md.

    python -m tools.architectures            all of them (about a minute), and the page
    python -m tools.architectures Falcon     these only, printed

Each checkpoint has three blocks, random weights, gains and biases that are neither one nor zero, and is saved and loaded as a
user would do it. A method is *right* if its numbers are those of plain transformers with plain hooks; *refused* if it raises
an error in words before any number is returned; all else is *wrong*.
"""

import contextlib
import io
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]
PAGE = ROOT / "docs" / "architectures.md"
CLOSE = 2e-4
"""How far numbers may differ, relative to the largest: float32 in another order of sums."""
LEFT = 1e-4
"""How much of a direction may be left, relative to what was there."""
LAYER, WIDTH = 1, 32
REFUSALS = (ValueError, MemoryError, ImportError)

SHAPE: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
MLP = {"intermediate_size": 48}
GROUPED = MLP | {"num_key_value_heads": 2}
EXPERTS = GROUPED | {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
GEMMA = GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", GROUPED),
    "Mistral": ("mistral", GROUPED | {"sliding_window": 16}),
    "Mixtral": ("mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "Qwen 2": ("qwen2", GROUPED),
    "Qwen 2 MoE": ("qwen2_moe", EXPERTS | {"shared_expert_intermediate_size": 24}),
    "Qwen 3": ("qwen3", GROUPED | {"head_dim": 8}),
    "Qwen 3 MoE": ("qwen3_moe", EXPERTS | {"head_dim": 8}),
    "Qwen 3 Next": (
        "qwen3_next",
        EXPERTS
        | {
            "head_dim": 8,
            "shared_expert_intermediate_size": 24,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        },
    ),
    "Gemma": ("gemma", GROUPED | {"head_dim": 8}),
    "Gemma 2": ("gemma2", GEMMA),
    "Gemma 3": ("gemma3_text", GEMMA),
    "Gemma 4": (
        "gemma4_text",
        GROUPED
        | {
            "head_dim": 8,
            "global_head_dim": 8,
            "sliding_window": 16,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 0,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
    ),
    "Phi": ("phi", MLP),
    "Phi 3": ("phi3", GROUPED),
    "OLMo": ("olmo", GROUPED),
    "OLMo 2": ("olmo2", GROUPED),
    "OLMo 3": ("olmo3", GROUPED | {"sliding_window": 16}),
    "OLMoE": ("olmoe", EXPERTS),
    "GPT-2": ("gpt2", {}),
    "GPT-Neo": ("gpt_neo", MLP | {"attention_types": [[["global", "local", "global"], 1]], "window_size": 16}),
    "GPT-J": ("gptj", {"rotary_dim": 4}),
    "GPT-NeoX": ("gpt_neox", MLP),
    "OPT": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": WIDTH}),
    "Falcon": ("falcon", {"multi_query": True, "new_decoder_architecture": False, "parallel_attn": True}),
    "Falcon H1": (
        "falcon_h1",
        GROUPED
        | {
            "mamba_d_ssm": 32,
            "mamba_n_heads": 4,
            "mamba_d_head": 8,
            "mamba_n_groups": 1,
            "mamba_d_state": 8,
            "mamba_chunk_size": 8,
        },
    ),
    "MPT": ("mpt", {"d_model": WIDTH, "n_heads": 4, "n_layers": 3, "max_seq_len": 128}),
    "BLOOM": ("bloom", {}),
    "Cohere": ("cohere", GROUPED),
    "Cohere 2": ("cohere2", GROUPED | {"sliding_window": 16}),
    "HunYuan": ("hunyuan_v1_dense", GROUPED | {"head_dim": 8}),
    "LFM2": ("lfm2", GROUPED | {"layer_types": ["conv", "full_attention", "conv"]}),
    "Mamba": ("mamba", {"state_size": 8}),
    "SmolLM3": ("smollm3", GROUPED),
    "Granite": ("granite", GROUPED | {"residual_multiplier": 0.5, "embedding_multiplier": 3.0, "logits_scaling": 2.0}),
    "StableLM": ("stablelm", GROUPED),
    "StarCoder 2": ("starcoder2", GROUPED),
    "GLM 4": ("glm4", GROUPED | {"head_dim": 8}),
    "GPT-OSS": ("gpt_oss", EXPERTS | {"head_dim": 8, "num_local_experts": 4, "sliding_window": 16}),
}


class WrongError(Exception):
    """Raised by a check for a number that is not the right one."""


# --- checkpoints ----------------------------------------------------------------------------------------------------


def save(name: str, folder: Path) -> Any:
    """Write a small checkpoint of the architecture; return the plain model, in evaluation mode."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "organisms" / "weights" / "chat-32")
    kind, special = ARCHITECTURES[name]
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SHAPE, "vocab_size": len(tokenizer), **ids, **special})
    plain = AutoModelForCausalLM.from_config(config).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in plain.parameters():
            if weight.ndim == 1:  # gains and biases: a forgotten one shows
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def layers_of(plain: Any) -> nn.ModuleList:
    """The decoder's blocks: the longest list of modules that is outermost."""
    return next(m for m in plain.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)


@contextlib.contextmanager
def entering(plain: Any, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A context in which `change` is made to what enters a block of the plain model."""

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

    handle = layers_of(plain)[layer].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def streams(network: Any, ids: list[int]) -> list[Tensor]:
    """What enters each block, by plain hooks, and what leaves the last one."""
    seen: list[Tensor] = []

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"])[0])

    def after(module: nn.Module, args: tuple, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).reshape(-1, WIDTH))

    blocks = layers_of(network)
    handles = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks]
    handles.append(blocks[-1].register_forward_hook(after))
    try:
        network(torch.tensor([ids]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@torch.no_grad()
def last_logits(network: Any, ids: list[int]) -> Tensor:
    return network(torch.tensor([ids]), use_cache=False).logits[0, -1].float()


def equal(got: Tensor, right: Tensor, what: str) -> None:
    """Raise unless two tensors are equal up to rounding."""
    far = float((got - right).abs().max()) / max(1e-6, float(right.abs().max()))
    if not far <= CLOSE:
        raise WrongError(f"{what} differ by {far:.2g} of the largest")


# --- methods --------------------------------------------------------------------------------------------------------


class Case(SimpleNamespace):
    """A model as the library opens it, the plain one, and prompts of several lengths."""

    model: Any
    plain: Any
    folder: Path
    prompts: list[list[int]]
    r: Tensor

    @property
    def ids(self) -> list[int]:
        return self.prompts[0]


def load(case: Case) -> None:
    from course_lib import models

    case.model = models.load(str(case.folder))
    equal(case.model(torch.tensor([case.ids]))[0, -1].detach(), last_logits(case.plain, case.ids), "logits")


def harvest(case: Case) -> None:
    from course_lib import caching

    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(3)]
    kept = caching.harvest(
        case.model, case.prompts, hook_names=names, positions=[[-1]] * len(case.prompts), progress=False
    )
    for values, prompt in zip(kept.values, case.prompts, strict=True):
        right = torch.stack([stream[-1] for stream in streams(case.plain, prompt)[:3]])
        equal(values[0], right, "activations")


def generate(case: Case) -> None:
    from course_lib import models

    for prompts in ([case.ids], case.prompts):
        for prompt, reply in zip(prompts, models.generate(case.model, prompts, max_new_tokens=5), strict=True):
            so_far = list(prompt)
            for token in reply:  # without a cache
                logits = last_logits(case.plain, so_far)
                if float(logits.max() - logits[token]) > CLOSE * float(logits.abs().max()):
                    raise WrongError(f"token {len(so_far) - len(prompt)} of a reply is not the likeliest")
                so_far.append(token)


def left_along(network: Any, case: Case, usual: list[Tensor]) -> float:
    """How much of r is in what leaves each block, relative to `usual`. (A hook at the first block's input acts inside it.)"""
    pairs = list(zip(streams(network, case.ids), usual, strict=True))[1:]
    return max(float((now @ case.r).abs().max() / (then @ case.r).abs().max()) for now, then in pairs)


def ablate(case: Case) -> None:
    from course_lib import steering

    usual = streams(case.plain, case.ids)
    with steering.ablate(case.model, 3 * case.r):
        if (share := left_along(case.model.original_model, case, usual)) > LEFT:
            raise WrongError(f"{share:.1%} of the direction is left in the stream")


def add(case: Case) -> None:
    from course_lib import models, steering

    with steering.add(case.model, case.r, layer=LAYER, coefficient=2.0):
        got = models.next_token_logits(case.model, [case.ids])[0]
    with entering(case.plain, LAYER, lambda x: x + 2.0 * case.r):
        equal(got, last_logits(case.plain, case.ids), "logits")


def abliterate(case: Case) -> None:
    from course_lib import abliteration

    usual, before = streams(case.plain, case.ids), last_logits(case.plain, case.ids)
    edited = abliteration.abliterate(case.model, case.r)
    if (share := left_along(edited.original_model, case, usual)) > LEFT:
        raise WrongError(f"{share:.1%} of the direction is left in the stream of the edited copy")
    with abliteration.abliterated(case.model, case.r) as edit:
        if (share := left_along(case.model.original_model, case, usual)) > LEFT:
            raise WrongError(f"{share:.1%} of the direction is left while the edit lasts")
        if (back := max(matrix.given_back for matrix in edit.report())) > LEFT:
            raise WrongError(f"the report says {back:.1g}")
    equal(last_logits(case.model.original_model, case.ids), before, "logits after the edit")


def direct_logit(case: Case) -> None:
    from course_lib import attribution, edges

    parts = edges.direct_logit(case.model, case.ids, target=attribution.Logit(11, minus=12))
    logits = before_cap(case)
    equal(torch.tensor(sum(parts.values())), logits[11] - logits[12], "the sum of the parts and the logit difference")


def before_cap(case: Case) -> Tensor:
    cap = getattr(case.plain.config, "final_logit_softcapping", None)
    logits = last_logits(case.plain, case.ids)
    return cap * torch.atanh(logits / cap) if cap else logits


def patching(case: Case) -> None:
    from course_lib import attribution, patching

    clean, corrupted, target = case.prompts[0], case.prompts[1], attribution.Logit(11, minus=12)
    got = patching.patch_residual(case.model, clean, corrupted_ids=corrupted, target=target)[LAYER, 2]

    def difference(ids: list[int]) -> Tensor:
        logits = last_logits(case.plain, ids)
        return logits[11] - logits[12]

    there = streams(case.plain, clean)[LAYER][2]

    def put(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 2] = there
        return x

    low, high = difference(corrupted), difference(clean)
    with entering(case.plain, LAYER, put):
        patched = difference(corrupted)
    if not getattr(case.plain.config, "final_logit_softcapping", None):  # recovery is of logits before the cap
        equal(got, (patched - low) / (high - low), "recoveries")


def features(case: Case) -> None:
    from course_lib import models, steering

    generator = torch.Generator().manual_seed(3)
    rows, columns = torch.randn(6, WIDTH, generator=generator), torch.randn(WIDTH, 6, generator=generator)
    dictionary = SimpleNamespace(
        W_dec=rows,
        W_enc=columns,
        encode=lambda x: (x @ columns).relu(),
        decode=lambda f: f @ rows,
        cfg=SimpleNamespace(d_sae=6, d_in=WIDTH, metadata=SimpleNamespace(hook_name=f"blocks.{LAYER}.hook_resid_pre")),
    )
    with steering.scale_features(case.model, dictionary, {2: 3.0}):
        got = models.next_token_logits(case.model, [case.ids])[0]
    with entering(case.plain, LAYER, lambda x: x + 2.0 * (x @ columns[:, 2]).relu()[..., None] * rows[2]):
        equal(got, last_logits(case.plain, case.ids), "logits")


def eap(case: Case) -> None:
    from course_lib import attribution, edges

    clean, corrupted, target = case.prompts[0], case.prompts[1], attribution.Logit(11, minus=12)
    scores = edges.eap(case.model, [clean], corrupted_prompts=[corrupted], targets=[target])
    got = scores.values[scores.sources.index("embedding"), -1]
    here, there = streams(case.plain, clean), streams(case.plain, corrupted)
    step = 0.03

    def moved(sign: float) -> Tensor:
        """Logit difference with the embeddings' difference, scaled, added to what leaves the last block."""
        change = sign * step * (here[0] - there[0])

        def add_to_output(module: nn.Module, args: tuple, output: Any) -> Any:
            return (output[0] + change, *output[1:]) if isinstance(output, tuple) else output + change

        handle = layers_of(case.plain)[-1].register_forward_hook(add_to_output)
        try:
            logits = last_logits(case.plain, clean).double()
        finally:
            handle.remove()
        return logits[11] - logits[12]

    slope = (moved(1) - moved(-1)) / (2 * step)
    if getattr(case.plain.config, "final_logit_softcapping", None):
        return  # scores are of logits before the cap
    if abs(float(slope - got)) > 0.03 * max(1e-2, abs(float(slope))):
        raise WrongError(f"an edge scores {float(got):.3g}, its slope is {float(slope):.3g}")


def graph(case: Case) -> None:
    from course_lib import attribution

    generator = torch.Generator().manual_seed(4)
    transcoders = []
    for layer in range(3):
        encoder, decoder = torch.randn(WIDTH, 5, generator=generator), torch.randn(5, WIDTH, generator=generator)
        about = SimpleNamespace(hook_name=f"blocks.{layer}.mlp.hook_in")
        transcoders.append(
            SimpleNamespace(
                W_enc=encoder,
                b_enc=torch.zeros(5),
                W_dec=decoder,
                b_dec=torch.ones(WIDTH),
                encode=lambda x, encoder=encoder: (x @ encoder).relu(),
                cfg=SimpleNamespace(metadata=about, normalize_activations="none"),
            )
        )
    target = attribution.Logit(11, minus=12)
    found = attribution.trace(case.model, case.ids, transcoders=transcoders, targets=[target])
    logits = before_cap(case)
    equal(found.values[-1], logits[11] - logits[12], "the target's value and the logit difference")
    traced = [*range(len(found.features)), len(found.values) - 1]
    equal((found.edges.sum(dim=1) + found.constants)[traced], found.values[traced], "sums of edges and values")
    last = attribution.Logit(11, minus=12, position=len(case.ids) - 1)
    groups = {"tokens": found.embeddings, "block 0": [f for f in found.features if f.layer == 0], "logit": [last]}
    drawn = found.group(groups)
    wanted = [(source, "logit") for source in ("tokens", "block 0")]
    ran = attribution.confirm_edges(case.model, found, transcoders=transcoders, groups=groups, edges=wanted)
    for edge in wanted:
        equal(torch.tensor(ran[edge]), torch.tensor(drawn.get(edge, 0.0)), "a run without a group and its edge")


def fingerprint(case: Case) -> None:
    from course_lib import models, store

    before = store.fingerprint(case.model.original_model)
    models.next_token_logits(case.model, [case.prompts[-1] * 4])
    if before != store.fingerprint(case.model.original_model):
        raise WrongError("a long prompt changes it")
    if before != store.fingerprint(models.load(str(case.folder)).original_model):
        raise WrongError("the same folder has another one")
    weight = next(case.model.original_model.parameters()).data
    old = weight.flatten()[0].clone()
    weight.view(-1)[0] += 1e-3
    changed = store.fingerprint(case.model.original_model)
    weight.view(-1)[0] = old
    if changed == before:
        raise WrongError("an edited weight does not change it")


def probe(case: Case) -> None:
    from course_lib import caching, directions, probing

    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(20, 900, (7,), generator=generator).tolist() for _ in range(24)]
    labels = torch.arange(24) % 2 == 0
    examples = probing.Examples(
        caching.harvest(case.model, prompts, hook_names=[f"blocks.{LAYER}.hook_resid_pre"], progress=False),
        labels,
        [str(number // 2) for number in range(24)],
        prompts,
    )
    split = probing.split_by_topic(examples.topics, labels)
    report = probing.evaluate(examples, split, n_random=5, n_shuffles=2)
    x, fitted, test = (
        torch.stack([streams(case.plain, ids)[LAYER][-1] for ids in prompts]),
        split["train"],
        split["test"],
    )
    right = x[fitted][labels[fitted]].mean(dim=0) - x[fitted][~labels[fitted]].mean(dim=0)
    equal(report.probe.direction, right, "the probe and the difference of means")
    scores = x[test] @ right
    equal(
        torch.tensor(report.auroc.estimate),
        torch.tensor(directions.auroc(scores[labels[test]], scores[~labels[test]])),
        "AUROCs",
    )


def dictionary(case: Case) -> None:
    import sae_lens

    from course_lib import features as library

    torch.manual_seed(6)
    sae = sae_lens.StandardSAE(sae_lens.StandardSAEConfig(d_in=WIDTH, d_sae=7, apply_b_dec_to_input=False)).eval()
    sae.cfg.metadata.hook_name, sae.cfg.metadata.prepend_bos = f"blocks.{LAYER}.hook_resid_post", False
    found = library.by_prompt(case.model, sae, case.ids).top(7)
    right = sae.encode(streams(case.plain, case.ids)[LAYER + 1][-1]).detach()
    equal(torch.tensor([row.value for row in found]), right[[row.feature for row in found]], "activations")
    if len(found) != int((right > 0).sum()):
        raise WrongError(f"{len(found)} features are active, and not {int((right > 0).sum())}")
    error = library.reconstruction(case.model, sae, case.prompts)
    after = torch.cat([streams(case.plain, ids)[LAYER + 1][1:] for ids in case.prompts])
    missed = (after - sae.decode(sae.encode(after))).pow(2).sum() / (after - after.mean(dim=0)).pow(2).sum()
    equal(torch.tensor(1 - error.variance_explained), missed.detach(), "what a dictionary misses")


METHODS: dict[str, Callable[[Case], None]] = {
    "load": load,
    "harvest": harvest,
    "generate": generate,
    "ablate": ablate,
    "add": add,
    "abliterate": abliterate,
    "direct logit": direct_logit,
    "patching": patching,
    "features": features,
    "EAP": eap,
    "graph": graph,
    "fingerprint": fingerprint,
    "probe": probe,
    "dictionary": dictionary,
}


def verdict(method: Callable[[Case], None], case: Case) -> tuple[str, str]:
    """("right" | "refused" | "wrong", why)."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            method(case)
    except WrongError as error:
        return "wrong", str(error)
    except REFUSALS as error:
        return "refused", str(error).split("\n")[0].replace(repr(str(case.folder)), "the folder")
    except Exception as error:  # an error without words of ours
        return "wrong", f"{type(error).__name__}: {traceback.format_exception_only(error)[-1].strip()[:150]}"
    return "right", ""


def tried(name: str) -> dict[str, tuple[str, str]]:
    """The verdict on each method for one architecture."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = save(name, Path(folder))
        generator = torch.Generator().manual_seed(2)
        prompts = [torch.randint(20, 900, (n,), generator=generator).tolist() for n in (9, 9, 6, 12)]
        r = torch.nn.functional.normalize(torch.randn(WIDTH, generator=generator), dim=0)
        case = Case(plain=plain, folder=Path(folder), prompts=prompts, r=r, model=None)
        found = {"load": verdict(load, case)}
        if found["load"][0] == "right":
            found |= {method: verdict(run, case) for method, run in METHODS.items() if method != "load"}
        return found


def row(name: str, found: dict[str, tuple[str, str]]) -> str:
    """The line of one architecture."""
    shown = {"right": "right", "refused": "refused", "wrong": "**wrong**"}
    cells = [shown[found[method][0]] if method in found else "" for method in METHODS]
    return f"| {name} | " + " | ".join(cells) + " |"


def page(results: dict[str, dict[str, tuple[str, str]]]) -> str:
    """The page in Markdown."""
    lines = [
        "# Architectures",
        "",
        f"Small random checkpoints of {len(results)} architectures, saved and loaded as a user would, beside plain",
        "transformers with plain hooks. *Right*: the same numbers. *Refused*: an error that says why, before any number.",
        "Written by `python -m tools.architectures`. Graphs and dictionaries are tried with random transcoders and a random",
        "autoencoder. An empty cell: the model was not opened.",
        "",
        "| | " + " | ".join(METHODS) + " |",
        "|---" * (1 + len(METHODS)) + "|",
    ]
    lines += [row(name, found) for name, found in results.items()]
    reasons = [
        (name, method, *why) for name, found in results.items() for method, why in found.items() if why[0] != "right"
    ]
    lines += ["", "## Why", ""]
    for kind in ("wrong", "refused"):
        lines += [f"* {name}, {method}, {kind}: {why}" for name, method, found, why in reasons if found == kind]
    return "\n".join(lines) + "\n"


def main(wanted: list[str]) -> int:
    """Run the command; return its exit status: 1 where anything is wrong."""
    torch.set_num_threads(1)
    results = {}
    for name in wanted or ARCHITECTURES:
        results[name] = tried(name)
        print(
            name,
            {method: found for method, found in results[name].items() if found[0] != "right"} or "right",
            flush=True,
        )
    if not wanted:
        PAGE.write_text(page(results), encoding="utf-8", newline="\n")
    return int(any(found[0] == "wrong" for methods in results.values() for found in methods.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
