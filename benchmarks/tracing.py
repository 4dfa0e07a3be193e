"""Attribution: estimates beside the exact interventions that they stand for, and graphs beside circuit-tracer's."""

import torch

from benchmarks import cases, peers
from benchmarks.measure import Table, Way, timed
from course_lib import attribution, data, features, models, tokens
from course_lib.attribution import Logit


def tables(setting: cases.Setting) -> list[Table]:
    """Edges between components, and graphs of features."""
    return [_edges(setting), _graph(setting)]


def _pair(model: models.CheckedBridge) -> tuple[list[int], list[int]]:
    """The first matched pair of a harmful and a harmless request of one length."""
    pairs = zip(*(cases.encoded(model, name, "validation", 40) for name in ("harmful", "harmless")), strict=True)
    return next((harmful, harmless) for harmful, harmless in pairs if len(harmful) == len(harmless))


def _edges(setting: cases.Setting) -> Table:
    name = "chat-32" if setting.quick else "chat-64"
    model = models.load(name, device=setting.device)
    clean, corrupted = _pair(model)
    target = Logit(model.tokenizer.convert_tokens_to_ids("i"), minus=model.tokenizer.convert_tokens_to_ids("to"))
    arguments = {"corrupted_prompts": [corrupted], "target": target}
    found: dict[str, attribution.EdgeScores] = {}

    def keep(way: str, scores: attribution.EdgeScores) -> None:
        found[way] = scores

    eap, eap_ig, exact = "`attribution.eap`", "`attribution.eap`, 5 steps (EAP-IG)", "`attribution.exact_edges`"
    ways = [
        Way("floor: bare forward of both prompts", lambda: _forward(model, [clean, corrupted])),
        Way("`attribution.direct_logit`", lambda: _nothing(attribution.direct_logit(model, clean, target=target))),
        Way(eap, lambda: keep(eap, attribution.eap(model, [clean], **arguments))),
        Way(eap_ig, lambda: keep(eap_ig, attribution.eap(model, [clean], steps=5, **arguments))),
        Way(
            exact, lambda: keep(exact, attribution.exact_edges(model, [clean], progress=False, **arguments)), once=True
        ),
    ]
    seconds = timed(ways, repeats=setting.repeats, device=setting.device)
    there = found[exact].exists
    table = Table(
        f"Attribution of edges between components: {name}",
        f"One pair of prompts of {len(clean)} tokens, {int(there.sum()):,} edges.",
        seconds,
        eap,
    )
    for way in (eap, eap_ig):
        both = torch.stack([found[way].values[there], found[exact].values[there]])
        table.notes.append(
            f"{way}: correlation with the exact edges {torch.corrcoef(both)[0, 1]:.3f}, "
            f"{seconds[exact] / seconds[way]:.0f} times faster."
        )
    return table


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
        return attribution.graph(model, prompt, transcoders=transcoders, targets=[Logit(token)])

    ours, made = "`attribution.graph`", graph()
    ways = [
        Way("floor: bare forward of the prompt", lambda: _forward(model, [prompt])),
        Way(ours, lambda: _nothing(graph())),
    ]
    table = Table(
        "Attribution graph of an acrostic: chat",
        f"{len(prompt)} tokens, {made.n_features:,} feature nodes, {made.edges.numel():,} possible edges.",
        timed(ways, repeats=setting.repeats, device=setting.device),
        ours,
    )
    if setting.peers and setting.device == "cpu":
        request = {"prompt_ids": prompt, "tokens": [token], "repeats": setting.repeats}
        name = "circuit-tracer, in its own environment"
        table.seconds[name], gap, n_edges = peers.circuit_tracer("chat", request, made)
        table.notes = [f"{n_edges:,} edges compared with circuit-tracer's: the largest difference is {gap:.1e}."]
    return table
