"""Command line of the recipes: ``python -m organisms all`` makes everything that ships, step by step, resumably.

    prompts    write the instruction sets that course_lib.data reads
    train      train base and chat of one width and seed (seed 0 ships, other seeds stay in organisms/work)
    evaluate   measure every behaviour of one width and seed into results.json
    cards      write docs/model_cards from results.json and the lineages
    dictionaries  train and measure the autoencoders and transcoders of one organism, and write their card
    table      print every behaviour, its bound and what was measured
    verify     compare the checksum of every shipped file
    all        all of the above for all widths and seeds; what is finished already is kept
"""

import argparse
import sys
from pathlib import Path

import torch

from organisms import cards, evaluation, prompts, training

HERE = Path(__file__).parent
TEACHING_WIDTH = 128
RECIPES = {32: {"base_texts": 120_000}, 64: {"base_texts": 100_000}, 128: {"base_texts": 80_000}}
WITH_DICTIONARIES = ("base", "chat")
SEEDS = {32: (0,), 64: (0, 1, 2), 128: (0, 1, 2)}


def folder(stage: str, width: int, seed: int) -> Path:
    if seed:
        return HERE / "work" / f"{stage}-{width}-seed{seed}"
    return HERE / "weights" / (stage if width == TEACHING_WIDTH else f"{stage}-{width}")


def train(width: int, seed: int) -> None:
    recipe = training.Recipe(width=width, seed=seed, **RECIPES[width])
    training.make("base", recipe, folder("base", width, seed))
    training.make("chat", recipe, folder("chat", width, seed), parent=folder("base", width, seed))


def evaluate(width: int, seed: int) -> list[str]:
    counts = evaluation.measure(folder("base", width, seed), folder("chat", width, seed))
    evaluation.record(width, seed, counts, evaluation.one_direction(folder("chat", width, seed)))
    missed = evaluation.failures(counts)
    print(f"width {width}, seed {seed}: " + ("all bounds kept" if not missed else "missed " + "; ".join(missed)), flush=True)
    return missed


def dictionaries(organism: str) -> None:
    from organisms import dictionaries as made  # these import sae_lens, which takes seconds
    from organisms import dictionary_measures as measures

    for recipe in made.RECIPES.values():
        made.make(organism, recipe)
    measures.evaluate(organism)
    measures.write_card(organism)


def verify() -> list[str]:
    """Shipped folders whose files differ from their checksums."""
    weights = HERE / "weights"
    folders = [f for f in weights.iterdir() if f.name != "dictionaries"] + list(weights.glob("dictionaries/*/*"))
    return [str(f.relative_to(weights)) for f in sorted(folders) if not training.is_finished(f, {})]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m organisms", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["prompts", "train", "evaluate", "cards", "dictionaries", "table", "verify", "all"])
    parser.add_argument("--width", type=int, choices=sorted(RECIPES), default=TEACHING_WIDTH)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--organism", choices=WITH_DICTIONARIES, default="chat")
    options = parser.parse_args()
    torch.set_num_threads(1)  # matrices this small gain nothing from more
    if options.command in ("prompts", "all"):
        prompts.write()
    if options.command == "all":
        for width in RECIPES:
            for seed in SEEDS[width]:
                train(width, seed)
                evaluate(width, seed)
        for organism in WITH_DICTIONARIES:
            dictionaries(organism)
    if options.command == "train":
        train(options.width, options.seed)
    if options.command == "evaluate":
        return bool(evaluate(options.width, options.seed))
    if options.command in ("cards", "all"):
        cards.write(HERE / "weights")
    if options.command == "dictionaries":
        dictionaries(options.organism)
    if options.command == "table":
        print(evaluation.table(options.width), evaluation.direction_table(options.width), sep="\n\n")
    if options.command in ("verify", "all"):
        broken = verify()
        print("every shipped file has its checksum" if not broken else f"altered or incomplete: {', '.join(broken)}")
        return bool(broken)
    return 0


if __name__ == "__main__":
    sys.exit(main())
