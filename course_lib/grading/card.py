"""Progress card of a chapter: exercises done, questions right at first, calibration of predictions."""

from dataclasses import dataclass
from html import escape
from statistics import mean
from typing import Any, Literal

from course_lib.directions import Interval, wilson_interval
from course_lib.grading import record
from course_lib.grading.registry import EXERCISES, MODULES, PREDICTIONS, QUESTIONS, Exercise, items_of


@dataclass(frozen=True)
class Row:
    """One exercise on the card: how often it was checked until it was right, and how many hints were read."""

    id: str
    title: str
    minutes: int
    state: Literal["done", "open"]
    tries: int
    hints: int


@dataclass(frozen=True)
class Card:
    """What was done in one chapter; prints as text, and shows as a table in a notebook."""

    chapter: int
    rows: list[Row]
    n_questions: int
    right_at_first: list[bool]
    n_predictions: int
    scored: list[dict[str, Any]]

    def sentences(self) -> list[str]:
        """Return the score, then what was done of exercises, questions and predictions."""
        n, done, right = len(self.rows), sum(row.state == "done" for row in self.rows), sum(self.right_at_first)
        minutes = sum(row.minutes for row in self.rows if row.state == "open")
        left = f" (about {minutes} minutes left)" if minutes else ""
        return [
            f"Score: {done + right} of {n + self.n_questions} points "
            "(one for each exercise done and each question right at the first try).",
            f"Exercises: {done} of {n} done{left}.",
            f"Questions: {len(self.right_at_first)} of {self.n_questions} answered, {right} right at first.",
            f"Predictions: {len(self.scored) or 'none'} of {self.n_predictions} scored{_calibrated(self.scored) or ' yet'}.",
        ]

    def __repr__(self) -> str:
        told = "  {id:<5} {state:<5} {title} ({minutes} min, tries {tries}, hints {hints})"
        rows = [told.format(**vars(row)) for row in self.rows]
        return "\n".join([f"Progress in chapter {self.chapter:02d}", *rows, *self.sentences()])

    def _repr_html_(self) -> str:
        heads = "".join(f'<th scope="col">{h}</th>' for h in ("Exercise", "State", "Minutes", "Tries", "Hints"))
        told = '<tr><th scope="row">{}</th><td>{state}</td><td>{minutes}</td><td>{tries}</td><td>{hints}</td></tr>'
        rows = "".join(told.format(escape(f"{row.id} {row.title}"), **vars(row)) for row in self.rows)
        head = f"<caption>Progress in chapter {self.chapter:02d}</caption><thead><tr>{heads}</tr></thead>"
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences())
        return f"<table>{head}<tbody>{rows}</tbody></table><ul>{sentences}</ul>"


def progress(chapter: int) -> Card:
    """Return the progress card of one chapter.

    Args:
        chapter: its number, for example 1.
    """
    exercises = sorted(items_of(EXERCISES, chapter), key=lambda exercise: int(exercise.id.split(".")[1]))
    questions = items_of(QUESTIONS, chapter)
    answers = [record.events(chapter, "answer", question.id) for question in questions]
    last_reveals = {event["item"]: event for event in record.events(chapter, "reveal")}
    return Card(
        chapter=chapter,
        rows=[_row(chapter, exercise) for exercise in exercises],
        n_questions=len(questions),
        right_at_first=[given[0]["right"] for given in answers if given],
        n_predictions=len(items_of(PREDICTIONS, chapter)),
        scored=[event for event in last_reveals.values() if "hit" in event],
    )


@dataclass(frozen=True)
class Sureness:
    """Predictions of about one confidence: how sure they were on average, and how many came true."""

    name: str
    stated: float
    hits: int
    n: int
    found: Interval
    """Share that came true, with its 95 % interval."""

    def __str__(self) -> str:
        return f"{self.name}: {self.stated:.0%} sure on average, {self.hits} of {self.n} came true, {self.found:.0%}"


def calibration() -> list[Sureness]:
    """Return the scored predictions of the whole course, grouped by how sure they were; groups without any are left out."""
    scored = [event for chapter in sorted(MODULES) for event in progress(chapter).scored]
    groups = {"ranges, meant for 80 %": [event for event in scored if "interval_score" in event]}
    choices = [event for event in scored if "brier" in event]
    for name, low, high in (("at most 60 %", 0.0, 0.6), ("60 to 80 %", 0.6, 0.8), ("more than 80 %", 0.8, 1.0)):
        groups[f"choices, {name} sure"] = [event for event in choices if low < event["confidence"] <= high]
    return [_sureness(name, events) for name, events in groups.items() if events]


def _sureness(name: str, events: list[dict[str, Any]]) -> Sureness:
    hits, n = sum(event["hit"] for event in events), len(events)
    return Sureness(name, mean(event["confidence"] for event in events), hits, n, wilson_interval(hits, n))


def _calibrated(scored: list[dict[str, Any]]) -> str:
    parts = []
    for key, score, what in (
        ("interval_score", "interval score", "ranges held the result, 80 % were meant to"),
        ("brier", "Brier score", "choices were right, you were {:.0f} % sure on average"),
    ):
        if events := [event for event in scored if key in event]:
            sure, points = _sureness(score, events), mean(event[key] for event in events)
            parts.append(f"; {sure.hits} of {sure.n} {what.format(100 * sure.stated)}; mean {score} {points:.2f}")
    return "".join(parts)


def _row(chapter: int, exercise: Exercise) -> Row:
    passed = [event["passed"] for event in record.events(chapter, "check", exercise.id)]
    tries = passed.index(True) + 1 if True in passed else len(passed)
    hints = min(len(record.events(chapter, "hint", exercise.id)), len(exercise.hints))
    return Row(exercise.id, exercise.title, exercise.minutes, "done" if True in passed else "open", tries, hints)
