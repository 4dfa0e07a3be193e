"""What the notebooks promise as files, and what happens when exercises are left open.

That each cell runs, and that its text output is as stored, is tested by nbval, which pytest runs on every
notebook of `notebooks/` and `solutions/` (see the options in pyproject.toml).

The tests that run cells here do so in this process, one fresh namespace a notebook, which shares the imports.
"""

import ast
import contextlib
import io
import os
import re
from pathlib import Path

import nbformat
import pytest

import chapters  # noqa: F401  (registers them)
from course_lib.grading import record, registry
from tools import build

ROOT = Path(__file__).resolve().parent.parent
NAMES = [path.parent.name for path in sorted((ROOT / "chapters").glob("[0-9]*/notebook.py"))]
LEAST_COMPARED = 0.9
LEAST_PREDICTIONS, LEAST_QUESTIONS = 3, 5
MOST_WORDS_BEFORE_A_FIGURE = 150
SHORTEST_ALT_TEXT = 40
LOADS = re.compile(r"""(src|href|import|fetch)\s*[=(]?\s*["'](https?:)?//""")


def cells(folder, name, kind="code"):
    notebook = nbformat.read(ROOT / folder / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def exercises_of(name):
    marked = [cell.marker for cell in build.read_source(ROOT / "chapters" / name / "notebook.py")]
    return [item for kind, item in filter(None, marked) if kind == "Exercise"]


# --- files --------------------------------------------------------------------------------------------------


def test_there_is_one_source_for_every_notebook_and_the_other_way_round():
    for folder in ("notebooks", "solutions"):
        assert [path.stem for path in sorted((ROOT / folder).glob("*.ipynb"))] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_notebooks_are_equal_to_a_rebuild(name):
    changed = build.build(ROOT / "chapters" / name / "notebook.py", check=True)
    assert not changed, f"{changed} differ from a rebuild: run python tools/build.py"


@pytest.mark.parametrize("name", NAMES)
def test_the_learners_notebook_carries_no_outputs_and_no_answers(name):
    learner, complete = cells("notebooks", name), cells("solutions", name)
    assert not any(cell.outputs or cell.execution_count for cell in learner)
    answered = [mine.id for mine, full in zip(learner, complete, strict=True) if mine.source != full.source]
    marked = [cell.id for cell in complete if build.MARKER.match(cell.source)]
    assert answered == marked, "every marked cell, and no other, differs between the two notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_the_complete_notebook_was_run_from_top_to_bottom_in_one_go(name):
    counts = [cell.execution_count for cell in cells("solutions", name)]
    assert counts == list(range(1, len(counts) + 1))


def is_compared(cell):
    """Whether nbval compares a text output of this cell."""
    ignored = "nbval-ignore-output" in cell.metadata.get("tags", ()) or "NBVAL_IGNORE_OUTPUT" in cell.source
    texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return bool(cell.execution_count) and not ignored and any(text.strip() for text in texts)


@pytest.mark.parametrize("name", NAMES)
def test_nine_in_ten_code_cells_have_a_text_output_that_is_compared(name, record_property):
    complete = cells("solutions", name)
    bare = [cell.id for cell in complete if not is_compared(cell)]
    compared = len(complete) - len(bare)
    record_property("report", f"{name}: text output compared in {compared} of {len(complete)} code cells")
    assert compared >= LEAST_COMPARED * len(complete), f"no compared text output in {bare}"


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_an_alt_text_and_needs_no_network(name):
    for cell in cells("solutions", name):
        for output in cell.outputs:
            data = output.get("data", {})
            if build.PLOTLY in data:
                assert len(data.get("text/plain", "")) >= SHORTEST_ALT_TEXT, f"{cell.id}: the figure has no alt text"
                assert "Figure({" not in data["text/plain"], f"{cell.id}: show figures with plotting.show"
            assert not any(mime.startswith("image/") for mime in data), f"{cell.id}: an image without alt text"
            assert not LOADS.search(data.get("text/html", "")), f"{cell.id}: HTML that needs the network"


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("00")])
def test_the_first_figure_comes_before_many_words(name):
    words = 0
    for cell in nbformat.read(ROOT / "solutions" / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            words += len(cell.source.split())
        elif any(build.PLOTLY in output.get("data", {}) for output in cell.outputs):
            break
    assert words <= MOST_WORDS_BEFORE_A_FIGURE


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_has_its_predictions_and_questions_and_every_exercise_in_it(name):
    marked = [build.MARKER.match(cell.source) for cell in cells("solutions", name)]
    used = {kind: {m[2] for m in marked if m and m[1] == kind} for kind in ("Exercise", "Prediction", "Question")}
    number = int(name.split("_")[0])
    known = {"Exercise": registry.EXERCISES, "Prediction": registry.PREDICTIONS, "Question": registry.QUESTIONS}
    for kind, items in known.items():
        assert used[kind] == {item.id for item in registry.items_of(items, number)}
    if number > 0:  # the start is too short for them all
        assert len(used["Prediction"]) >= LEAST_PREDICTIONS and len(used["Question"]) >= LEAST_QUESTIONS


# --- runs ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def as_in_a_notebook(monkeypatch):
    """Cells run beside the learner's notebooks, with no progress from before and nothing printed."""
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr(record, "_in_memory", {})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def run(source, namespace, cell_id):
    """Runs one cell, its last expression included."""
    exec(compile(ast.parse(source), f"<{cell_id}>", "exec"), namespace)


def is_exercise(cell, items):
    marker = build.MARKER.match(cell.source)
    return bool(marker) and marker[1] == "Exercise" and marker[2] in items


def stub_fails(learner, at, namespace):
    """Whether an exercise left open is found so by its check, with all before it solved; on a copy of the namespace."""
    item, copy = build.MARKER.match(learner[at].source)[2], dict(namespace)
    for cell in learner[at:]:
        try:
            run(cell.source, copy, f"{cell.id}, skipped: {item}")
        except AssertionError:
            return (
                item in [name for call, name in build.CALL.findall(cell.source) if call == "check"]
                or cell is learner[at]
            )
        if ("check", item) in build.CALL.findall(cell.source):
            return False
    return False


@pytest.mark.parametrize("name", NAMES)
def test_skipped_exercises_fail_at_their_checks_alone_and_the_notebook_goes_on(name, monkeypatch):
    """Runs the notebook with a stub at every other exercise and checks that raise. At the exercises between them the stub
    is tried, too, and then left.

    One run for each exercise takes ten times as long and can find little more: an answer is used up to its checkpoint
    only, which puts the reference in its place. (nbval runs the notebook with all skipped at once.)
    """
    monkeypatch.setenv("COURSE_CHECKS", "raise")
    everything = exercises_of(name)
    skipped = everything[::2]
    namespace, failed = {"__name__": "__main__"}, []
    learner, complete = cells("notebooks", name), cells("solutions", name)
    with as_in_a_notebook(monkeypatch):
        for at, (stub, cell) in enumerate(zip(learner, complete, strict=True)):
            if is_exercise(cell, everything) and not is_exercise(cell, skipped):
                assert stub_fails(learner, at, namespace), cell.id
            try:
                run((stub if is_exercise(cell, skipped) else cell).source, namespace, f"{cell.id}, skipped: {skipped}")
            except AssertionError:
                failed += [item for call, item in build.CALL.findall(cell.source) if call == "check"] or [cell.id]
    assert failed == skipped


def test_the_notebooks_run_with_one_thread_and_without_a_progress_file():
    assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["COURSE_PROGRESS"] == "off"
