"""What the learner's notebook prints while every exercise, prediction and question is left open.

It is what the solution prints, since `checkpoint` hands on the solution's own answers, except where a cell speaks of
what the learner did. nbval compares this with a run of the learner's notebook (see conftest.py), which so fails where
an open exercise passes its check, where a given cell prints something else than in the solution, and where it stops.
"""

import contextlib
import copy
import io
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import chapters  # noqa: F401  (registers them)
import examination
from course_lib.grading.asking import predict, quiz
from course_lib.grading.card import progress
from course_lib.grading.checking import judge
from examination import marking
from tools import build

DONE = re.compile(r"^(\d+\.\d+) done: .*$", re.MULTILINE)
SCORED = re.compile(r"(turns out: .*) You predicted .*\n  (?:Right|Not so): .*$", re.MULTILINE)
OPEN_VALUE = re.compile(r'\("(\w[\w ]*):", .*"not done yet"')
OF_PREDICTIONS = re.compile(r"calibration\(\)|\Aif sureness:")
"""A cell that shows how sure a learner was: nothing, as long as nothing is predicted."""
CARD = re.compile(r"Progress in chapter (\d+)")


def expected_outputs(learners: Path) -> list[list[NotebookNode]]:
    """Return the outputs of each code cell of a learner's notebook, from the solution of the same name."""
    solution = learners.parents[1] / "solutions" / learners.name
    pairs = zip(*(nbformat.read(path, as_version=4).cells for path in (learners, solution)), strict=True)
    return [expected(cell.source, solved.outputs) for cell, solved in pairs if cell.cell_type == "code"]


def expected(source: str, solved: list[NotebookNode]) -> list[NotebookNode]:
    """Return the outputs of one cell, from its source for learners and its outputs in the solution."""
    marker = build.MARKER.match(source)
    if marker and marker[1] in ("Prediction", "Question"):
        return [printed(predict if marker[1] == "Prediction" else quiz, marker[2])]
    if marker and (value := OPEN_VALUE.search(source)):
        return [nbformat.v4.new_output("stream", text=f"{value[1]}: not done yet\n")]
    outputs = copy.deepcopy(solved)
    if "examination.mark_all(" in source:  # a report in which nothing was decided
        table = marking.table([marking.Marked("practice.json", "practice", {}, {})])
        outputs[0].text = table + outputs[0].text[outputs[0].text.index("\ndrawn:") :]
    if "examination.Report(" in source:
        saved = outputs[0].text[outputs[0].text.index("saved:") :]
        outputs[0].text = f"{examination.Report('practice')}\n{saved}"
    if OF_PREDICTIONS.search(source):
        return []  # nothing was predicted
    for output in outputs:
        if output.output_type == "stream":
            output.text = while_open(output.text)
        elif card := CARD.match(output.data.get("text/plain", "")):
            output.data["text/plain"] = repr(progress(int(card[1])))
    return outputs


def while_open(text: str) -> str:
    """Return what is printed instead, while nothing is done and nothing predicted."""
    text = DONE.sub(lambda done: judge(done[1], ...).message, text)
    text = SCORED.sub(r"\1 You made no prediction, so nothing is scored.", text)
    return text.replace(": going on with your version.", ": going on with the reference version.")


def printed(function, item: str) -> NotebookNode:
    """Return what a function prints about an item as the output of a cell."""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        function(item)
    return nbformat.v4.new_output("stream", text=stream.getvalue())
