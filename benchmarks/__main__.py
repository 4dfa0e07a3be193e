"""`python -m benchmarks [NAME ...] [--quick] [--device cuda] [--peers] [--write]`."""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import cases, editing, harvest, published, tracing

BENCHMARKS = {
    "harvest": harvest.tables,
    "editing": editing.tables,
    "tracing": tracing.tables,
    "published": published.tables,
}
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
LIBRARIES = ("torch", "transformers", "transformer-lens", "sae-lens")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; times mean nothing")
    parser.add_argument("--device", default="cpu", help="cpu (one thread, CPU seconds) or cuda (seconds of the wall)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each way; the median is shown")
    parser.add_argument("--peers", action="store_true", help="also libraries that need an environment of their own")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown or (asked.quick and asked.write):
        parser.error(f"unknown: {unknown}; there are {list(BENCHMARKS)}" if unknown else "--quick is never written")
    torch.set_num_threads(1)
    setting = cases.Setting(asked.device, asked.quick, 1 if asked.quick else asked.repeats, asked.peers)
    for name in asked.names or BENCHMARKS:
        text = "\n\n".join(table.markdown() for table in BENCHMARKS[name](setting)) + f"\n\n{described(setting)}"
        print(text + "\n", flush=True)
        if asked.write:
            PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    return 0


def described(setting: cases.Setting) -> str:
    """How it was measured, without date and host, so that a page changes when a number does."""
    clock = "CPU seconds, one thread" if setting.device == "cpu" else f"seconds, {torch.cuda.get_device_name()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{clock}; median of {setting.repeats}; float32 where nothing else is said; {libraries}."


def replaced(page: str, name: str, text: str) -> str:
    """The page with the part between the markers of this benchmark replaced.

    Raises:
        ValueError: The page has not exactly one pair of these markers.
    """
    begin, end = BEGIN.format(name), END.format(name)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"{PAGE.name} must hold {begin} and, after it, {end} once each.")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    sys.exit(main())
