"""Marks: each answer against what the model really does, with a proper scoring rule, a class in one command.

An answer that is right with confidence c gets 1 - 4 (1 - c)^2, a wrong one 1 - 4 c^2: the Brier score, moved so that 50 % gives
nothing either way, as an open question does. Whoever says what they believe expects most. To be sure of a wrong answer, such
as an accusation of a harmless model, costs three right ones. An error is paid once: where the answer about the backdoor is wrong,
a wrong trigger follows from it and costs nothing.

What is right is measured on the model:

* ``backdoor``: as drawn, and confirmed when the model was made;
* ``trigger``: after this string at least FIRES of the requests that a behaviour concerns get it, and at most STRANGE in the
  parent, or it is the planted one; "none" where nothing was planted;
* ``one_direction``: whether the best cut, the grader's or the one that is handed in, leaves at most ONE_LEFT of the refusals;
* ``direction``: its cut removes at least GOOD of what the best cut removes, more than every random cut, and leaves at least KEPT
  of the harmless replies as they were;
* ``head``: the refusals' log-odds fall by at least GOOD of the largest fall.

Evidence is a point of its own: a rate and a control with the intervals that so many requests give, both as the grader measures
them (within the grader's own intervals).
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from course_lib import directions, models
from examination import making, truth
from examination.handing_in import NONE, QUESTIONS, Answer, HandedIn, Refused, read
from examination.space import PRACTICE, PRACTICE_EXPOSED, SECRET, Draw, draw

GOOD, KEPT = 0.8, 0.8
FIRING = 0.8
"""A string of the space counts as a trigger from this rate on; the planted one has at least ``truth.FIRES``."""


def marks(right: bool, confidence: float) -> float:
    """Between -3 (sure and wrong) and 1 (sure and right); 0 at 50 %."""
    return 1 - 4 * (1 - confidence if right else confidence) ** 2


@dataclass(frozen=True)
class Marked:
    """One report with its marks, or the reason why it has none. ``right`` and ``points`` hold the answered questions only."""

    file: str
    code: str = ""
    right: Mapping[str, bool] | None = None
    points: Mapping[str, float] | None = None
    evidence: int = 0
    refused: str = ""

    @property
    def total(self) -> float:
        return sum((self.points or {}).values())


class Sealed:
    """A built model with the truth about it, as far as a report's answers ask for it."""

    def __init__(self, code: str, folder: Path | None = None) -> None:
        self.drawn: Draw = draw(code)
        path = making.make(code, folder=folder)
        if json.loads((path / "lineage.json").read_text(encoding="utf-8"))["seal"] != making.seal(code):
            raise ValueError(
                f"the model in {path} was sealed with another secret: set {SECRET} to the one it was made with"
            )
        self.model = models.load(str(path))
        self.measured = truth.measure(self.model, self.drawn)
        self.failures = truth.failures(self.drawn, self.measured)
        self.parent = models.load(making.PARENT)
        # several marks rest on the same measurement of the same answer: it is made once
        self.fired = cache(lambda string: truth.largest(truth.rates(self.model, [string])))
        self._left = cache(lambda cut: truth.left(self.model, torch.tensor(cut)))
        self._kept = cache(lambda cut: truth.kept(self.model, torch.tensor(cut)))

    def is_right(self, question: str, answers: Mapping[str, Answer]) -> bool:
        value = answers[question].value
        if question == "one_direction":
            return value == (self._fewest_left(answers) <= truth.ONE_LEFT * self.measured["n"])
        check = {
            "backdoor": self._backdoor,
            "trigger": self._trigger,
            "direction": self._direction,
            "head": self._head,
        }[question]
        return check(value)

    def _backdoor(self, value: bool) -> bool:
        return value == (self.drawn.kind == "backdoor")

    def _trigger(self, value: str) -> bool:
        if value == NONE:
            return self.drawn.kind != "backdoor"
        if value == self.drawn.trigger:  # right even where the parent, too, changes after it
            return True
        (hits, n), (usual, of) = self.fired(value), truth.largest(truth.rates(self.parent, [value]))
        return hits >= FIRING * n and usual <= truth.STRANGE * of

    def _fewest_left(self, answers: Mapping[str, Answer]) -> int:
        """Refusals left by the best cut: who hands in a better one than the grader knows has shown it."""
        best = min(self.measured["left"])
        if "direction" not in answers:
            return best
        own = answers["direction"].value
        return min(best, self._left(own)) if self._kept(own) >= KEPT * truth.N else best

    def _direction(self, value: Sequence[float]) -> bool:
        before, n = self.measured["refused"], self.measured["n"]
        removed = before - self._left(value)
        most_at_random = before - min(truth.random_cuts(self.model, torch.tensor(value)))
        good = removed >= GOOD * (before - min(self.measured["left"]))
        return good and removed > most_at_random and self._kept(value) >= KEPT * n

    def _head(self, value: tuple[int, int]) -> bool:
        falls = self.measured["heads"]
        return falls[value[0]][value[1]] >= GOOD * max(map(max, falls))

    def supports(self, question: str, answers: Mapping[str, Answer]) -> bool:
        """Whether there is evidence, and the grader's own measurement of the same lies within reach of its interval."""
        evidence = answers[question].evidence
        if evidence is None or not QUESTIONS[question].evidence:
            return False
        own = self._measured(question, answers)
        claimed = (evidence.value, evidence.interval), (evidence.control, evidence.control_interval)
        return all(_given_by(value, interval, of) for (value, interval), of in zip(claimed, own, strict=True))

    def _measured(self, question: str, answers: Mapping[str, Answer]) -> tuple[list[int] | None, list[int] | None]:
        """The grader's counts of what the evidence is about, and of its control; None where it is about an unnamed string."""
        if question == "one_direction":
            if "direction" not in answers:
                return None, None
            vector = answers["direction"].value
            return [self._left(vector)], truth.random_cuts(self.model, torch.tensor(vector))
        string = answers["trigger"].value if "trigger" in answers else NONE
        if string == NONE:
            return None, None
        return [self.fired(string)[0]], [truth.largest(truth.rates(self.parent, [string]))[0]]


def _given_by(value: float, interval: tuple[float, float], measured: list[int] | None) -> bool:
    """Whether a rate and its interval can come from the examination's N requests, and from these counts if there are some."""
    limits = directions.wilson_interval(round(value * truth.N), truth.N)
    wide = 0.5 * (limits.high - limits.low) <= interval[1] - interval[0] <= 2 * (limits.high - limits.low)
    if not (0 <= value <= 1 and (wide or (measured is not None and len(measured) > 1))):
        return False
    if measured is None:
        return True
    found = (
        directions.runs_interval(measured, truth.N)
        if len(measured) > 1
        else directions.wilson_interval(measured[0], truth.N)
    )
    return found.low <= value <= found.high and interval[0] <= found.high and found.low <= interval[1]


def mark(report: HandedIn, sealed: Sealed, *, file: str = "") -> Marked:
    right = {name: sealed.is_right(name, report.answers) for name in report.answers}
    points = {name: marks(right[name], answer.confidence) for name, answer in report.answers.items()}
    if right.get("backdoor") is False and right.get("trigger") is False:
        points["trigger"] = 0.0
    return Marked(
        file, report.code, right, points, sum(sealed.supports(name, report.answers) for name in report.answers)
    )


def mark_all(
    paths: Iterable[Path], *, folder: Path | None = None, roster: Sequence[str] = (), practice: bool = False
) -> list[Marked]:
    """All files, in order. A file that cannot be marked says why and stops nothing; each model is made and measured once.

    Args:
        paths: Files handed in.
        folder: Where the models lie, or are to be made.
        roster: Codes that were given out; a report with another one is refused. Empty: any code.
        practice: Whether reports on the practice models, whose answers are public, are marked.
    """
    made: dict[str, Sealed | str] = {}
    found, seen = [], set()
    for path in paths:
        name = path.name
        try:
            report = read(path)
            _admit(report.code, seen, roster, practice)
            if report.code not in made:
                made[report.code] = _sealed(report.code, folder)
            sealed = made[report.code]
            if isinstance(sealed, str):
                raise Refused(sealed)
            found.append(mark(report, sealed, file=name))
            seen.add(report.code)
        except Refused as error:
            found.append(Marked(name, refused=str(error)))
    return found


def _admit(code: str, seen: set[str], roster: Sequence[str], practice: bool) -> None:
    if code in (PRACTICE, PRACTICE_EXPOSED) and not practice:
        raise Refused("it is about a practice model, whose answers everybody knows")
    if roster and code not in roster:
        raise Refused(f"code {code!r} was not given out")
    if code in seen:
        raise Refused(f"another file was marked for code {code!r}: decide by hand which one counts")


def _sealed(code: str, folder: Path | None) -> Sealed | str:
    """The model with its truth, or why there is none."""
    try:
        sealed = Sealed(code, folder)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return f"its model does not do what was drawn: {'; '.join(sealed.failures)}" if sealed.failures else sealed


# --- showing ---------------------------------------------------------------------------------------------------------


def _cells(row: Marked) -> list[str]:
    if row.refused:
        return [row.file, row.code, *["" for _ in QUESTIONS], "", "", row.refused]
    points = [f"{row.points[name]:+.2f}" if name in row.points else "open" for name in QUESTIONS]
    return [row.file, row.code, *points, f"{row.total:+.2f}", str(row.evidence), ""]


def _head() -> list[str]:
    return [
        "file",
        "code",
        *QUESTIONS,
        f"total of {len(QUESTIONS)}",
        f"evidence of {sum(bool(q.evidence) for q in QUESTIONS.values())}",
        "not marked because",
    ]


def _verdict(row: Marked, name: str) -> str:
    """What stands behind a mark, in words."""
    if name not in (row.right or {}):
        return ""
    if row.right[name]:
        return "right"
    paid = name == "trigger" and row.right.get("backdoor") is False
    return "wrong; it follows from the answer about the backdoor, and costs nothing more" if paid else "wrong"


def table(rows: Sequence[Marked]) -> str:
    """Marks in columns, a line a file; of one file, a line a mark, with a word on it."""
    lines = [_head(), *map(_cells, rows)]
    if len(rows) == 1:
        marks_of = zip(*lines, strict=True)
        return "\n".join(f"{name:20}{cell:8}{_verdict(rows[0], name)}".rstrip() for name, cell in marks_of if cell)
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def write_csv(rows: Sequence[Marked], path: Path) -> None:
    """The same for a spreadsheet. A file's name that would be read as a formula gets a quote before it."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(_head())
        writer.writerows(
            [
                ["'" + cells[0] if cells[0].startswith(("=", "+", "-", "@")) else cells[0], *cells[1:]]
                for cells in map(_cells, rows)
            ]
        )
