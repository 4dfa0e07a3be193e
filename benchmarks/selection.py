"""The published selection of a refusal direction: all scores of all candidates, and only what decides."""

import torch
from torch import Tensor

from benchmarks import cases
from benchmarks.measure import Table, Way, timed
from course_lib import caching, directions, models, steering


def tables(setting: cases.Setting) -> list[Table]:
    """Layers x positions on an organism in which a candidate passes the filters."""
    name, n_train, n = ("chat-64", 32, 8) if setting.quick else ("chat", 128, 64)
    model, positions = models.load(name, device=setting.device), ("last_instruction", -2, "reply")
    found = [
        caching.harvest(model, cases.encoded(model, kind, "train", n_train), positions=positions, progress=False)
        for kind in ("harmful", "harmless")
    ]
    candidates = directions.difference_of_means(found[0].values, found[1].values)
    arguments = {
        "harmful": cases.encoded(model, "harmful", "validation", n),
        "harmless": cases.encoded(model, "harmless", "validation", n),
        "refusal_token_ids": model.tokenizer.convert_tokens_to_ids(["i"]),
        "positions": positions,
        "progress": False,
    }

    def winner(candidate: directions.Candidate) -> Tensor:
        place = positions.index(candidate.position), candidate.layer
        return torch.tensor([*place, candidate.bypass, candidate.induce, candidate.kl])

    def exhaustive() -> Tensor:
        rows = steering.score_candidates(model, candidates, **arguments)
        return winner(directions.select(rows, n_layers=models.n_layers(model)))

    sweep = "`steering.sweep`"
    ways = [
        Way(sweep, lambda: winner(steering.sweep(model, candidates, **arguments).winner)),
        Way("`steering.score_candidates`, all scores", exhaustive),
    ]
    swept = steering.sweep(model, candidates, **arguments)
    table = Table(
        f"Selection sweep: {name}",
        f"{candidates.shape[0]} positions x {candidates.shape[1]} layers, {n} + {n} validation prompts; both find "
        f"layer {swept.winner.layer}, position {swept.winner.position}.",
        timed(ways, repeats=setting.repeats, device=setting.device),
        sweep,
    )
    table.notes = [
        f"Forward-equivalents (tokens x share of the layers that they ran through): {swept.cost:,.0f} against "
        f"{swept.exhaustive_cost:,.0f}, {swept.exhaustive_cost / swept.cost:.1f} times fewer. On a model as small as "
        "this one time falls less, because small batches and hooks cost the same for fewer layers."
    ]
    return [table]
