"""Checks, checkpoints and hints: what a learner calls around an exercise.

1. `check("1.3", answer, ...)` says "done", "not done yet", or what is wrong, where, and what to try. It never
   raises for a learner. With the environment variable COURSE_CHECKS=raise it raises AssertionError instead,
   which is how the tests know that an unsolved notebook fails at exactly its checks.
2. `answer = checkpoint("1.3", answer, ...)` hands on the learner's answer if it is right, else the reference,
   so that every exercise can be skipped.
3. `hint("1.3")` shows the next of three hints, and at the last one where the worked answer lies.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch

from course_lib.grading import record
from course_lib.grading.answers import NotDone, describe, learners_line, prepared
from course_lib.grading.registry import EXERCISES, Exercise, Wrong, find, notebook_of

_TIPS = {
    "NameError": "define that name in your cell, or run the cells above; check its spelling.",
    "TypeError": "print the types in that line, and keep the function's first line as it was given.",
    "IndexError": "print the length or shape of what is indexed in that line.",
    "KeyError": "print the keys that exist.",
    "AttributeError": "print `type(...)` of what stands before the dot.",
    "RuntimeError": "print the shapes of the tensors in that line.",
    "ZeroDivisionError": "find out why the denominator is 0.",
    "RecursionError": "see where your function calls itself.",
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check: `state` is "done", "wrong" or "not done"; `message` is what the learner
    reads."""

    state: str
    message: str


def check(item: str, answer: Any, *context: Any) -> None:
    """Prints whether the answer to exercise `item` is right and, if not, what is wrong, where, and what to
    try.

    Args:
        item: the exercise's id, such as "1.3".
        answer: the learner's function or value; `...` and None mean "not done yet".
        context: what the exercise's check needs besides, in the order the notebook gives it.

    Raises:
        ValueError: there is no such exercise.
        AssertionError: the answer is not right, and COURSE_CHECKS=raise.
    """
    verdict = judge(item, answer, *context)
    if verdict.state != "not done":
        record.add(notebook_of(item), "check", item, passed=verdict.state == "done")
    if verdict.state != "done" and os.environ.get("COURSE_CHECKS") == "raise":
        raise AssertionError(verdict.message)
    print(verdict.message)


def checkpoint(item: str, answer: Any, *context: Any) -> Any:
    """Returns the learner's answer if it passes the check, else the reference answer; says which of the two.

    Raises:
        ValueError: there is no such exercise.
    """
    if judge(item, answer, *context).state == "done":
        print(f"{item}: going on with your version.")
        return answer
    print(f"{item}: going on with the reference version.")
    return find(EXERCISES, item).reference(*context)


def hint(item: str) -> None:
    """Prints the next hint of exercise `item`; the last one also says where the worked answer lies.

    Raises:
        ValueError: there is no such exercise.
    """
    exercise = find(EXERCISES, item)
    notebook = notebook_of(item)
    shown = min(len(record.events(notebook, "hint", item)), len(exercise.hints) - 1)
    record.add(notebook, "hint", item)
    print(f"Hint {shown + 1} of {len(exercise.hints)} for {item}: {exercise.hints[shown]}")
    if shown + 1 == len(exercise.hints):
        print(f'The worked answer stands in solutions/{notebook:02d}_*.ipynb, in the cell "Exercise {item}".')


def judge(item: str, answer: Any, *context: Any) -> Verdict:
    """Returns the verdict on an answer without printing or recording it.

    Checks may draw random numbers: they always draw the same ones, and the notebook's own generator is put
    back.
    """
    exercise = find(EXERCISES, item)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            remark = exercise.check(prepared(answer), *context)
    except NotDone:
        return Verdict("not done", _not_done(exercise))
    except Wrong as wrong:
        return Verdict("wrong", _not_right(item, wrong.what, wrong.where, wrong.try_next))
    except (Exception, SystemExit) as error:  # a learner's code may raise anything; the notebook goes on
        return Verdict("wrong", _raised(exercise, error, answer, context))
    return Verdict("done", f"{item} done: {remark or exercise.title}")


def _not_done(exercise: Exercise) -> str:
    return (
        f"{exercise.id} not done yet: write your answer in place of the ... in the cell marked "
        f'"Exercise {exercise.id}". hint("{exercise.id}") helps; the notebook goes on without it.'
    )


def _not_right(item: str, what: str, where: str, try_next: str) -> str:
    lines = [f"{item} not right yet: {what}", f"  where: {where}" if where else "", f"  try:   {try_next}"]
    return "\n".join(line for line in [*lines, f'  stuck: hint("{item}")'] if line)


def _raised(exercise: Exercise, error: BaseException, answer: Any, context: tuple[Any, ...]) -> str:
    problem = f"{type(error).__name__}: {error}".rstrip(": ")
    tip = _TIPS.get(type(error).__name__, "run your code on a small example in a cell of its own, and print as you go.")
    where = learners_line(error, answer)
    if where:
        return _not_right(exercise.id, f"your code raised {problem}", where, tip)
    given, wanted = describe(answer), describe(exercise.reference(*context))
    if given != wanted:
        return _not_right(exercise.id, f"you gave {given}, and {wanted} is asked for", "", f"hand on {wanted}.")
    return _not_right(exercise.id, f"your answer could not be used ({problem})", "", tip)
