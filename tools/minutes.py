"""How long a notebook takes, worked out from what stands in it: `python -m tools.minutes`.

A sitting is what does not stand under a heading "Further" (which reaches to the next heading of its rank): reading (220
words a minute), given code (3.3 s a line, a folded figure half a minute), the minutes that each exercise states, and a
minute for each prediction and each question. The 3.3 s were fitted to readings with a watch of the eight notebooks that
the course had before it was cut into sittings (27 to 155 minutes); the rule then was off by 12 % in the mean, by 31 % at
most. Of messages read, wrong tries and tables pondered it knows nothing: strangers who read the fourteen notebooks cold
took 1.0 to 1.6 times as long by their own estimates, and a notebook announces theirs where it is more.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import chapters  # noqa: F401  (registers what each notebook asks)
from course_lib.grading import registry
from tools import build

WORDS_A_MINUTE, LINE, FIGURE, ASKED = 220, 0.055, 0.5, 1.0


@dataclass(frozen=True)
class Sitting:
    """Minutes of one notebook by what they are spent on, and of its parts under "Further"."""

    reading: float
    code: float
    exercises: float
    asked: float
    further: float = 0.0

    @property
    def total(self) -> float:
        """Minutes without what stands under "Further"."""
        return self.reading + self.code + self.exercises + self.asked


def of(source: Path) -> Sitting:
    """Return the minutes that the notebook of a source takes."""
    cells = build.read_source(source)
    core = _spent([cell for cell, needed in zip(cells, _needed(cells), strict=True) if needed])
    return Sitting(*core, further=sum(_spent(cells)) - sum(core))


def _needed(cells: list[build.Cell]) -> list[bool]:
    """Return of each cell whether it stands outside of "Further"."""
    needed, found = True, []
    for cell in cells:
        headings = re.findall(r"^## (.*)$", cell.text, flags=re.MULTILINE) if cell.kind == "markdown" else []
        needed = "Further" not in headings[-1] if headings else needed
        found.append(needed)
    return found


def _spent(cells: list[build.Cell]) -> tuple[float, float, float, float]:
    marks = [cell.marker for cell in cells if cell.marker]
    words = sum(len(cell.text.split()) for cell in cells if cell.kind == "markdown")
    code = [cell for cell in cells if cell.kind == "code"]
    read = [build.learners_text(cell) for cell in code if "figure" not in cell.tags]
    lines = sum(bool(line.strip()) for text in read for line in text.split("\n"))
    figures = sum("figure" in cell.tags for cell in code)
    exercises = sum(registry.find(registry.EXERCISES, item).minutes for kind, item in marks if kind == "Exercise")
    asked = sum(kind in ("Prediction", "Question") for kind, _ in marks)
    return words / WORDS_A_MINUTE, LINE * lines + FIGURE * figures, float(exercises), ASKED * asked


def main() -> int:
    """Print a line a notebook; return the exit status."""
    print("notebook                          minutes  reading  code  exercises  asked  further")
    for path in build.sources(build.ROOT):
        each = of(path)
        print(
            f"{path.stem:33} {each.total:7.0f} {each.reading:8.0f} {each.code:5.0f} {each.exercises:10.0f} {each.asked:6.0f} "
            f"{each.further:8.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
