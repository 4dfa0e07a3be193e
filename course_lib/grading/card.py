"""The progress card of a notebook: exercises done, questions right at first, calibration of predictions."""

from dataclasses import dataclass
from html import escape

from course_lib.grading import record
from course_lib.grading.registry import EXERCISES, PREDICTIONS, QUESTIONS, Exercise, load, notebook_of


@dataclass(frozen=True)
class Row:
    """One exercise on the card: how often it was checked until it was right, and how many hints were read."""

    exercise: Exercise
    done: bool
    tries: int
    hints: int


@dataclass(frozen=True)
class Calibration:
    """Scored predictions: how many, the share that was right, mean confidence, mean Brier score."""

    n: int
    share_right: float
    mean_confidence: float
    brier: float


@dataclass(frozen=True)
class Card:
    """What was done in one notebook; prints as text, shows as a table in a notebook."""

    notebook: int
    rows: tuple[Row, ...]
    questions: int
    answered: int
    right_at_first: int
    predictions: int
    calibration: Calibration | None

    @property
    def done(self) -> int:
        """How many exercises are done."""
        return sum(row.done for row in self.rows)

    def summary(self) -> list[str]:
        """Returns the card's sentences."""
        left = sum(row.exercise.minutes for row in self.rows if not row.done)
        more = f" (about {left} minutes left)" if left else ""
        return [
            f"Score: {self.done + self.right_at_first} of {len(self.rows) + self.questions} points "
            + "(one for each exercise done and each question right at the first try).",
            f"Exercises: {self.done} of {len(self.rows)} done{more}.",
            f"Questions: {self.answered} of {self.questions} answered, {self.right_at_first} right at first.",
            _calibration_sentence(self.calibration, self.predictions),
        ]

    def __repr__(self) -> str:
        rows = [
            f"  {row.exercise.id:<5} {_state(row):<5} {row.exercise.title} "
            f"({row.exercise.minutes} min, tries {row.tries}, hints {row.hints})"
            for row in self.rows
        ]
        return "\n".join([f"Progress in notebook {self.notebook:02d}", *rows, *self.summary()])

    def _repr_html_(self) -> str:
        heads = "".join(f'<th scope="col">{h}</th>' for h in ("Exercise", "State", "Minutes", "Tries", "Hints"))
        rows = "".join(
            f'<tr><th scope="row">{escape(row.exercise.id)} {escape(row.exercise.title)}</th>'
            f"<td>{_state(row)}</td><td>{row.exercise.minutes}</td><td>{row.tries}</td><td>{row.hints}</td></tr>"
            for row in self.rows
        )
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.summary())
        head = f"<caption>Progress in notebook {self.notebook:02d}</caption><thead><tr>{heads}</tr></thead>"
        return f"<table>{head}<tbody>{rows}</tbody></table><ul>{sentences}</ul>"


def progress(notebook: int) -> Card:
    """Returns the progress card of one notebook.

    Args:
        notebook: its number, for example 1.

    Raises:
        ValueError: the notebook has no checks.
    """
    load(notebook)
    questions = [item for item in QUESTIONS if notebook_of(item) == notebook]
    firsts = [answers[0]["right"] for item in questions if (answers := record.events(notebook, "answer", item))]
    return Card(
        notebook=notebook,
        rows=tuple(_row(EXERCISES[item]) for item in sorted(EXERCISES, key=_order) if notebook_of(item) == notebook),
        questions=len(questions),
        answered=len(firsts),
        right_at_first=sum(firsts),
        predictions=sum(notebook_of(item) == notebook for item in PREDICTIONS),
        calibration=_calibration(notebook),
    )


def _row(exercise: Exercise) -> Row:
    notebook = notebook_of(exercise.id)
    passed = [event["passed"] for event in record.events(notebook, "check", exercise.id)]
    tries = passed.index(True) + 1 if True in passed else len(passed)
    hints = min(len(record.events(notebook, "hint", exercise.id)), len(exercise.hints))
    return Row(exercise, done=True in passed, tries=tries, hints=hints)


def _calibration(notebook: int) -> Calibration | None:
    scored = list({event["item"]: event for event in reversed(record.events(notebook, "reveal"))}.values())
    if not scored:
        return None

    def mean(key: str) -> float:
        return sum(event[key] for event in scored) / len(scored)

    return Calibration(len(scored), mean("hit"), mean("confidence"), mean("brier"))


def _calibration_sentence(calibration: Calibration | None, predictions: int) -> str:
    if calibration is None:
        return f"Predictions: none of {predictions} scored yet."
    c = calibration
    return (
        f"Predictions: {c.n} of {predictions} scored; right in {100 * c.share_right:.0f} %, while you were "
        f"{100 * c.mean_confidence:.0f} % sure on average; mean Brier score {c.brier:.2f} "
        "(0 is best, always saying 50 % gets 0.25)."
    )


def _state(row: Row) -> str:
    return "done" if row.done else "open"


def _order(item: str) -> tuple[int, ...]:
    """Exercises by number, 1.9 before 1.10, in whatever order their checks are written."""
    return tuple(int(part) for part in item.split("."))
