"""Attribution: estimates beside the exact interventions that they estimate, and graphs beside circuit-tracer's."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import cases, peers
from benchmarks.measure import Table, Way, timed
from course_lib import attribution, data, edges, features, models, patching, tokens
from course_lib.attribution import Logit


def tables(setting: cases.Setting) -> list[Table]:
    """Edges between components, and graphs of features."""
    return [_edges(setting), _graph(setting)]


def _pair(model: models.CheckedBridge) -> tuple[list[int], list[int]]:
    """The first matched pair of a harmful and a harmless request of one length."""
    pairs = zip(*(data.prompts(model, name, "validation", 40) for name in ("harmful", "harmless")), strict=True)
    return next((harmful, harmless) for harmful, harmless in pairs if len(harmful) == len(harmless))


def _edges(setting: cases.Setting) -> Table:
    name = "chat-32" if setting.quick else "chat-64"
    model = models.load(name, device=setting.device)
    clean, corrupted = _pair(model)
    target = Logit(model.tokenizer.convert_tokens_to_ids("i"), minus=model.tokenizer.convert_tokens_to_ids("to"))
    arguments = {"corrupted_prompts": [corrupted], "targets": [target]}
    found: dict[str, Tensor] = {}

    def keep(way: str, scores: Tensor) -> None:
        found[way] = scores

    eap, eap_ig, exact = "`edges.eap`", "`edges.eap`, 5 steps (EAP-IG)", "one run for every edge, exact"
    ways = [
        Way("floor: bare forward of both prompts", lambda: _forward(model, [clean, corrupted])),
        Way("`edges.direct_logit`", lambda: _nothing(edges.direct_logit(model, clean, target=target))),
        Way(eap, lambda: keep(eap, edges.eap(model, [clean], **arguments).values)),
        Way(eap_ig, lambda: keep(eap_ig, edges.eap(model, [clean], steps=5, **arguments).values)),
        Way(exact, lambda: keep(exact, exact_edges(model, clean, corrupted, target)), once=True),
    ]
    seconds = timed(ways, repeats=setting.repeats, device=setting.device)
    there = edges.wiring(model)[1]
    table = Table(
        f"Attribution of edges between components: {name}",
        f"One pair of prompts of {len(clean)} tokens, {int(there.sum()):,} edges.",
        seconds,
        eap,
    )
    for way in (eap, eap_ig):
        both = torch.stack([found[way][there], found[exact][there]])
        table.notes.append(
            f"{way}: correlation with the exact edges {torch.corrcoef(both)[0, 1]:.3f}, "
            f"{seconds[exact] / seconds[way]:.0f} times faster."
        )
    return table


@torch.no_grad()
def exact_edges(
    model: models.CheckedBridge, clean: list[int], corrupted: list[int], target: Logit, share: float = 1.0
) -> Tensor:
    """Return what the clean logit difference loses when one edge is corrupted, by a run for each [source, destination].

    A destination, and no other, reads the stream with a share of what the corrupted prompt changes of the source's output.
    """
    destinations, exists = edges.wiring(model)
    change = share * (
        edges.written(attribution.record(model, corrupted)) - edges.written(attribution.record(model, clean))
    )
    ids, lost = torch.tensor([clean], device=model.cfg.device), torch.zeros(exists.shape)
    whole = target.value(patching.run_logits(model, ids))
    for column, destination in enumerate(destinations):
        sources = exists[:, column].nonzero()[:, 0]
        hooks = _corrupt(model, destination, change[sources])
        left = target.value(patching.run_logits(model, ids.expand(len(sources), -1), hooks))
        lost[sources, column] = (whole - left).cpu()
    return lost


def _corrupt(model: models.CheckedBridge, destination: str, change: Tensor) -> list[tuple[str, Callable]]:
    """Hooks that add a change [batch, pos, d_model] to the stream that one destination reads."""
    layer, *head = destination.split(".")
    if not head or head == ["MLP"]:
        name = "ln_final" if not head else f"blocks.{layer[1:]}.ln2"
        return [(f"{name}.hook_in", lambda stream, hook: stream + change)]
    (number, kind), block = head, model.blocks[int(layer[1:])]
    weight, read = getattr(block.attn, f"W_{kind.upper()}"), {}

    def project(activation: Tensor, hook: object) -> Tensor:
        before, after = (x * attribution.gain(model, block.ln1, x) for x in (read["x"], read["x"] + change))
        moved = activation.clone().view(*activation.shape[:2], len(weight), -1)
        moved[:, :, int(number[1:])] += (after - before) @ weight[int(number[1:])]
        return moved.view_as(activation)

    name = f"blocks.{layer[1:]}"
    return [(f"{name}.ln1.hook_in", attribution.keep(read, "x")), (f"{name}.attn.{kind}.hook_out", project)]


def _forward(model: models.CheckedBridge, prompts: list[list[int]]) -> None:
    models.next_token_logits(model, prompts)


def _nothing(_: object) -> None:
    """For ways that compute something else than the others, so that there is nothing to compare."""


def acrostic(model: models.CheckedBridge) -> tuple[list[int], int]:
    """The first harmful acrostic, and the token with which the model answers it."""
    prompt = tokens.chat_prompt(model.tokenizer, data.load("acrostic_harmful").texts[0])
    return prompt, int(models.next_token_logits(model, [prompt])[0].argmax())


def _graph(setting: cases.Setting) -> Table:
    model = models.load("chat", device=setting.device)
    transcoders = [
        features.load("chat", "transcoder", layer=n).to(setting.device) for n in range(models.n_layers(model))
    ]
    prompt, token = acrostic(model)
    if setting.quick:
        prompt = prompt[:4]

    def graph() -> attribution.AttributionGraph:
        return attribution.trace(model, prompt, transcoders=transcoders, targets=[Logit(token)])

    ours, made = "`attribution.trace`", graph()
    ways = [
        Way("floor: bare forward of the prompt", lambda: _forward(model, [prompt])),
        Way(ours, lambda: _nothing(graph())),
    ]
    table = Table(
        "Attribution graph of an acrostic: chat",
        f"{len(prompt)} tokens, {len(made.features):,} feature nodes, "
        f"{(len(made.features) + 1) * (len(made.nodes) - 1):,} possible edges.",
        timed(ways, repeats=setting.repeats, device=setting.device),
        ours,
    )
    if setting.peers and setting.device == "cpu":
        request = {"prompt_ids": prompt, "tokens": [token], "repeats": setting.repeats}
        name = "circuit-tracer, in its own environment"
        table.seconds[name], gap, n_edges = peers.circuit_tracer("chat", request, made)
        table.notes = [f"{n_edges:,} edges compared with circuit-tracer's: the largest difference is {gap:.1e}."]
    return table
