"""Marks for a class, from notebooks nobody trusts.

    python course.py grade FOLDER                      one .ipynb a learner, or a sub-folder a learner
    python course.py grade FOLDER --out marks --jobs 4 --lms canvas
    python course.py grade --export OUT                notebooks for nbgrader instead

In FOLDER, a learner's name is that of the file, or of the sub-folder. Written are marks.csv (a column an exercise: done,
wrong, open, timeout, crash, refused, regrade), feedback/NAME.html, summary.csv, alike.csv. Needs Linux. See docs/teaching.md.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python course.py grade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="where the learners' notebooks are")
    parser.add_argument("--out", type=Path, help="where to write (default: FOLDER-marks beside the folder)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="answers that run at once (default 1)")
    parser.add_argument("--notebook", metavar="NN", help="which notebook it is, where its cells do not say")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ITEM", help="mark this exercise only; may be repeated"
    )
    parser.add_argument("--lms", choices=("canvas", "moodle"), help="also write a table that this one imports")
    parser.add_argument(
        "--seed", type=int, help="of the drawn inputs (default: this machine's own, kept in your cache folder)"
    )
    parser.add_argument(
        "--seconds", type=float, default=20, metavar="S", help="of computing an answer may take (default 20)"
    )
    parser.add_argument(
        "--part", metavar="K/N", help="judge one of N parts and write no marks: for several machines with one --out"
    )
    parser.add_argument(
        "--trust", action="store_true", help="run answers with your own rights: for notebooks that you wrote"
    )
    parser.add_argument(
        "--export", type=Path, metavar="OUT", help="write notebooks for nbgrader into OUT, and mark nothing"
    )
    options = parser.parse_args(arguments)
    if options.export:
        from lab import nbgrader

        return nbgrader.main([str(options.export)])
    if options.folder is None or not options.folder.is_dir():
        parser.error(
            "name the folder in which the learners' notebooks are"
            + (f": {options.folder} is none" if options.folder else "")
        )
    if options.jobs < 1 or options.seconds < 1:
        parser.error("--jobs and --seconds are at least 1")
    before = {
        number: signal.signal(number, _ended) for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if number
    }
    try:
        return _grade(options)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def _printable(text: str) -> str:
    """Return a text that may hold a learner's words without what steers a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _grade(options: argparse.Namespace) -> int:
    if not hasattr(os, "fork"):
        print("Marking needs Linux: on Windows run the same command in WSL 2.", file=sys.stderr)
        return 3
    from lab import isolation, marking, material, reports

    known = [item for key in material.keys() for item in material.load(key).items]
    if unknown := [item for item in options.only if item not in known]:
        print(f"There is no exercise {', '.join(unknown)}; an id looks like 3.4.", file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that cannot show a learner's words stops nothing
    folder = options.folder.resolve()
    out = (options.out or folder.with_name(f"{folder.name}-marks")).resolve()
    if out == folder or folder in out.parents:
        print("Write the marks outside the folder of the notebooks: --out elsewhere.", file=sys.stderr)
        return 2
    part = None
    if options.part:
        k, _, n = options.part.partition("/")
        if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
            print(f"--part is K/N, such as 1/4; this is {options.part!r}.", file=sys.stderr)
            return 2
        if options.seed is None:
            print("With --part give --seed, the same number on every machine.", file=sys.stderr)
            return 2
        part = int(k), int(n)
    limits = isolation.Limits(cpu_s=options.seconds, wall_s=4.5 * options.seconds)
    how = marking.Options(
        out, options.jobs, options.trust, options.notebook, tuple(options.only), options.seed, limits, part
    )
    try:
        marked = marking.grade(folder, how, lambda text: print(_printable(text), flush=True))
    except isolation.IsolationError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt as why:  # Ctrl+C, the end of a session, or of a batch job's time
        print("\nInterrupted. The same command goes on where it stopped.", file=sys.stderr)
        return 128 + (why.args[0] if why.args else signal.SIGINT)
    if part:
        print(f"part {options.part} is judged. When all are, the same command without --part writes the marks.")
        return 0
    print(_printable("\n".join(reports.lines(marked))))
    print(f"written to {out}:", ", ".join(reports.write(marked, out, options.lms)))
    again = sum(mark.state == "regrade" for each in marked for mark in each.marks.values())
    if again:
        print(f"{again} answers have to be marked again: run the same command once more.")
    return 4 if again else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
