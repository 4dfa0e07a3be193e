"""The two commands of the examination.

    python -m examination make ana-2026 ben-2026 --folder handout     make sealed models, one folder a code
    python -m examination grade reports/*.json --folder handout --csv marks.csv

Where marks depend on it, set the environment variable COURSE_EXAM_SECRET to the same text for both, and hand out the folders:
without the secret nobody can work out from a code what its model is.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from examination.space import SECRET

COMMANDS = ("make", "grade")


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands; 0 if everything was made, or marked."""
    parser = argparse.ArgumentParser(
        prog="python -m examination", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("items", nargs="*", metavar="CODE or FILE")
    parser.add_argument("--folder", type=Path, help="where the models lie (default: organisms/work/examination)")
    parser.add_argument("--csv", type=Path, help="grade: also write the table for a spreadsheet")
    parser.add_argument("--roster", type=Path, help="grade: a file with the codes that were given out, one a line")
    parser.add_argument("--practice", action="store_true", help="grade: mark reports on the practice models, too")
    parser.add_argument(
        "--card", action="store_true", help="make: measure a dozen codes and write their card (minutes)"
    )
    options = parser.parse_args(arguments)
    if not (options.items or options.card):
        parser.error("name at least one code, or one file")
    from examination import card, making  # after the help, which shall not wait for them

    if options.card:
        card.write()
        return 0
    options.folder = options.folder or making.FOLDER
    if options.command == "make":
        return _make(options.items, options.folder)
    return _grade(options)


def _make(codes: Sequence[str], folder: Path) -> int:
    from examination.making import make

    missed = 0
    for code in codes:
        try:
            print(f"{code}: {make(code, folder=folder)}", flush=True)
        except (ValueError, RuntimeError) as error:
            print(error, file=sys.stderr)
            missed += 1
    sealed = (
        "sealed with your secret"
        if os.environ.get(SECRET)
        else f"{SECRET} is not set: the source gives the answers away"
    )
    print(f"{len(codes) - missed} of {len(codes)} made; {sealed}")
    return int(missed > 0)


def _grade(options: argparse.Namespace) -> int:
    from examination.marking import mark_all, table, write_csv

    roster = options.roster.read_text(encoding="utf-8").split() if options.roster else ()
    rows = mark_all(map(Path, options.items), folder=options.folder, roster=roster, practice=options.practice)
    print(table(rows))
    if options.csv:
        write_csv(rows, options.csv)
    return int(any(row.refused for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
