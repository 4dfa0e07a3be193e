"""What the teacher and the learners get: tables and one static page a learner. The same input gives the same bytes."""

import csv
import hashlib
import html
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab import material
from lab.marking import STATES, Marked, alike

NUMBERS = re.compile(r"-?\d[\d.e+-]*")
WORDS = {
    "done": "done", "wrong": "not right yet", "open": "not done", "timeout": "took too long", "crash": "ended its process",
    "refused": "does not count", "regrade": "will be marked again",
}  # fmt: skip
STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
pre { background: #f4f4f4; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; }
.state { font-weight: 600; } .done { color: #0a5c36; } .wrong, .crash, .timeout, .refused { color: #8a1c1c; }
.open, .regrade { color: #555; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .8rem .15rem 0; }
""".strip()


def write(marked: Sequence[Marked], out: Path, lms: str | None) -> list[str]:
    """Write all reports into a folder; return the names of the files."""
    files = {"marks.csv": marks(marked), "summary.csv": summary(marked), "alike.csv": alike_table(marked)}
    if lms:
        files[f"{lms}.csv"] = {"canvas": canvas, "moodle": moodle}[lms](marked)
    for name, text in files.items():
        _write(out / name, text)
    (out / "feedback").mkdir(exist_ok=True)
    for name, each in zip(page_names(marked), marked, strict=True):
        _write(out / "feedback" / f"{name}.html", page(each))
    return [*files, "feedback/"]


def page_names(marked: Sequence[Marked]) -> list[str]:
    """Return a name for each page, no two alike, capitals or not: the learner's; where that clashes, the file's digest, too."""
    books = Counter(each.submission.learner for each in marked)
    seen: Counter[tuple[str, str]] = Counter()
    plain, digests = [], []
    for each in marked:
        s = each.submission
        name = re.sub(r"[^\w.-]", "_", s.learner).encode()[:120].decode(errors="ignore").strip(".") or "_"
        plain.append(name + (f"-{s.notebook}" if books[s.learner] > 1 and s.notebook is not None else ""))
        seen[s.learner, s.file] += 1
        whole = f"{s.learner}\n{s.file}\n{seen[s.learner, s.file]}"
        digests.append(hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest())
    length, names = 0, plain
    while len(clashing := Counter(map(_same_file, names))) < len(names):
        length += 8
        names = [
            f"{plain[n]}-{digests[n][:length]}" if clashing[_same_file(name)] > 1 or name != plain[n] else name
            for n, name in enumerate(names)
        ]
    return names


def _same_file(name: str) -> str:
    """Return what a disk may take a name for: capitals, and letters that are written in two ways, are one to some."""
    return unicodedata.normalize("NFKC", name).casefold()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def table(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV in which no cell can start a formula in a spreadsheet."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
    return stream.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else "".join(c if c.isprintable() else " " for c in str(value))
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _items(marked: Sequence[Marked]) -> tuple[list[str], list[str]]:
    books = sorted({m.submission.notebook for m in marked if m.marks and m.submission.notebook is not None})
    asked = {item for m in marked for item in m.marks}
    exercises = [item for n in books for item in material.load(n).items if item in asked]
    return exercises, [item for n in books for item in material.load(n).questions]


def marks(marked: Sequence[Marked]) -> str:
    """Return the table of marks: a row a notebook, a column an exercise."""
    exercises, questions = _items(marked)
    rows: list[list[object]] = [
        ["learner", "notebook", "file", "points", "of", "quizzes right", *exercises, *questions, "to look at"]
    ]
    for each in marked:
        s = each.submission
        right = sum(state == "right" for state in each.quizzes.values()) if each.quizzes else None
        look = [s.problem, *s.remarks] + [
            f"{item}: {r}" for item, a in s.answers.items() if item in each.marks for r in a.remarks
        ]
        look += [
            f"{item}: a later cell without its mark answers it, too, and was not marked"
            for item in s.elsewhere
            if item in each.marks and each.marks[item].state != "done"
        ]
        states = [each.marks[item].state if item in each.marks else None for item in exercises]
        rows.append(
            [s.learner, s.notebook, s.file, each.points, len(each.marks) or None, right, *states]
            + [*(each.quizzes.get(item) for item in questions), "; ".join(filter(None, look))]
        )
    return table(rows)


def summary(marked: Sequence[Marked]) -> str:
    """Return how the class did in each exercise: counts, and the commonest mistake in the check's own words."""
    exercises, questions = _items(marked)
    rows: list[list[object]] = [["item", "title", "done", "of", *STATES[1:], "commonest mistake", "how often"]]
    for item in exercises:
        here = [m.marks[item] for m in marked if item in m.marks]
        counts = Counter(mark.state for mark in here)
        mistakes = Counter(_mistake(item, mark.message) for mark in here if mark.state == "wrong")
        common = min(mistakes, key=lambda m: (-mistakes[m], m)) if mistakes else None
        title = material.having(item).items[item].title
        rows.append(
            [
                item,
                title,
                counts["done"],
                len(here),
                *(counts[s] for s in STATES[1:]),
                common,
                mistakes[common] if common else None,
            ]
        )
    for item in questions:
        answers = Counter(m.quizzes[item] for m in marked if item in m.quizzes)
        rows.append([item, "question", answers["right"], answers.total(), answers["wrong"], answers["open"]])
    return table(rows)


def _mistake(item: str, message: str) -> str:
    first = message.split("\n")[0].removeprefix(f"{item} not right yet: ")
    return NUMBERS.sub("...", first)[:200]


def lines(marked: Sequence[Marked]) -> list[str]:
    """Return the class's results in words: "3.4: 17 of 30 done; commonest mistake (5): ..."."""
    exercises, _ = _items(marked)
    said = []
    for item in exercises:
        here = [m.marks[item] for m in marked if item in m.marks]
        done = sum(mark.state == "done" for mark in here)
        mistakes = Counter(_mistake(item, mark.message) for mark in here if mark.state == "wrong")
        common = min(mistakes, key=lambda m: (-mistakes[m], m)) if mistakes else None
        said.append(
            f"{item}: {done} of {len(here)} done"
            + (f"; commonest mistake ({mistakes[common]}): {common}" if common else "")
        )
    return said


def alike_table(marked: Sequence[Marked]) -> str:
    """Return pairs of learners with rare long answers in common."""
    return table(
        [
            ["one", "other", "answers alike", "which"],
            *([a, b, len(items), " ".join(items)] for a, b, items in alike(marked)),
        ]
    )


def _by_learner(marked: Sequence[Marked]) -> tuple[list[str], dict[str, dict[str, Marked]]]:
    found: dict[str, dict[str, Marked]] = {}
    for each in marked:
        if each.submission.notebook is not None and each.marks:
            found.setdefault(each.submission.learner, {})[each.submission.notebook] = each
    return sorted({n for mine in found.values() for n in mine}), found


def canvas(marked: Sequence[Marked]) -> str:
    """Return a table for Canvas' "Import grades": a learner is found by what stands in SIS Login ID."""
    books, learners = _by_learner(marked)
    names = [f"{material.load(n).name}" for n in books]
    rows: list[list[object]] = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *names]]
    most = [max(len(mine[n].marks) for mine in learners.values() if n in mine) for n in books]
    rows.append(["    Points Possible", "", "", "", "", *most])
    rows += [
        [who, "", "", who, "", *(mine[n].points if n in mine else None for n in books)]
        for who, mine in sorted(learners.items())
    ]
    return table(rows)


def moodle(marked: Sequence[Marked]) -> str:
    """Return a table for Moodle's "Import grades from CSV": map `username`, then each column to a grade item."""
    books, learners = _by_learner(marked)
    names = [material.load(n).name for n in books]
    rows: list[list[object]] = [["username", *names, *(f"{name} feedback" for name in names)]]
    for who, mine in sorted(learners.items()):
        said = [
            "; ".join(f"{i} {WORDS[m.state]}" for i, m in mine[n].marks.items()) if n in mine else None for n in books
        ]
        rows.append([who, *(mine[n].points if n in mine else None for n in books), *said])
    return table(rows)


def page(each: Marked) -> str:
    """Return a learner's feedback: one static page, everything in it escaped."""
    s = each.submission
    parts = [f"<h1>{_safe(s.learner)}</h1>", f"<p>{_safe(s.file)}</p>"]
    if s.problem:
        parts.append(f"<p class='wrong'>This notebook could not be read: {_safe(s.problem)}.</p>")
    if s.remarks:
        parts.append(f"<p>{_safe('; '.join(s.remarks))}.</p>")
    if each.marks:
        course = material.load(s.notebook or "")
        done = sum(mark.state == "done" for mark in each.marks.values())
        again = sum(mark.state == "regrade" for mark in each.marks.values())
        parts.append(
            f"<p>{done} of {len(each.marks)} exercises done"
            + (f", {again} to be marked again." if again else ".")
            + "</p>"
        )
        for item, mark in each.marks.items():
            title = f"{item} {_safe(course.items[item].title)}"
            parts.append(f"<h2>{title}: <span class='state {mark.state}'>{WORDS[mark.state]}</span></h2>")
            parts.append(f"<pre>{_safe(mark.message)}</pre>")
        parts += _quizzes(each)
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_safe(s.learner)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<style>\n{STYLE}\n</style></head>\n<body>\n<main>\n{body}\n</main>\n</body></html>\n"
    )


def _quizzes(each: Marked) -> list[str]:
    course, parts = material.load(each.submission.notebook or ""), []
    if each.quizzes:
        rows = []
        for item, state in each.quizzes.items():
            letter = each.submission.quizzes.get(item, "") if state != "open" else ""
            why = (course.questions[item]["options"] or {}).get(letter, ("", ""))[1]
            rows.append(f"<tr><td>{item}</td><td>{_safe(letter)}</td><td>{state}</td><td>{_safe(why)}</td></tr>")
        parts += ["<h2>Questions</h2>", "<table><tr><th></th><th>answer</th><th></th><th></th></tr>", *rows, "</table>"]
    if each.submission.predictions:
        rows = [
            f"<tr><td>{item}</td><td>{_safe(said)}</td></tr>"
            for item, said in sorted(each.submission.predictions.items())
        ]
        parts += ["<h2>Predictions (shown, not marked)</h2>", "<table>", *rows, "</table>"]
    return parts


def _safe(text: str) -> str:
    """Return a text as HTML that shows it, without what no page can hold."""
    return html.escape("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))
