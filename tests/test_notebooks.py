"""Claims about the notebooks as files, and what is compared when a learner's notebook is run.

That each cell runs, and that its text output is as stored, is tested by nbval, which pytest runs on every notebook of
`notebooks/` and `solutions/` (see the options in pyproject.toml). A learner's notebook holds no outputs: what nbval
compares its run with, while all is left open, is worked out from the solution by `left_open.py`.
"""

import ast
import dis
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import left_open
import nbformat
import pytest

import chapters  # noqa: F401  (registers them)
from course_lib.grading import registry
from tools import build

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {path.stem: path for path in build.sources(ROOT)}
NAMES = list(SOURCES)
MIN_COMPARED = 0.9
MAX_LINES, MAX_WIDTH = 12, 100
MIN_PREDICTIONS, MIN_QUESTIONS = 1, 2  # in each notebook
MAX_WORDS_BEFORE_A_FIGURE = 150
MIN_ALT_TEXT = 40
SPEAKS_OF_THE_LEARNER = re.compile(
    rf"\A{build.MARKER.pattern}|\b(check|checkpoint|reveal|progress)\(|sure\[|mark_all\(|{left_open.OF_PREDICTIONS.pattern}"
)
LOADS = re.compile(r"""(src|href|import|fetch)\s*[=(]?\s*["'](https?:)?//""")


def cells(folder, name, kind="code"):
    notebook = nbformat.read(ROOT / folder / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


# --- files --------------------------------------------------------------------------------------------------


def test_there_is_one_source_for_every_notebook_and_the_other_way_round():
    for folder in ("notebooks", "solutions"):
        assert [path.stem for path in sorted((ROOT / folder).glob("*.ipynb"))] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_notebooks_are_equal_to_a_rebuild(name):
    changed = build.build(SOURCES[name], check=True)
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


@pytest.mark.parametrize("name", NAMES)
def test_every_check_of_the_complete_notebook_finds_the_worked_answer_right(name):
    checked = [
        (item, cell)
        for cell in cells("solutions", name)
        for call, item in build.CALL.findall(cell.source)
        if call == "check"
    ]
    said = {item: "".join(output.get("text", "") for output in cell.outputs) for item, cell in checked}
    assert said and [item for item, text in said.items() if f"{item} done: " not in text] == []


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
    assert compared >= MIN_COMPARED * len(complete), f"no compared text output in {bare}"


@pytest.mark.parametrize("name", NAMES)
def test_a_code_cell_is_short(name, record_property):
    """At most 100 characters a line; at most 12 lines, but for one cell in ten and for folded figures."""
    learner = cells("notebooks", name)
    wide = [cell.id for cell in learner if max(map(len, cell.source.split("\n"))) > MAX_WIDTH]
    shown = [cell for cell in learner if "figure" not in cell.metadata.get("tags", ())]
    long = [cell.id for cell in shown if sum(bool(line.strip()) for line in cell.source.split("\n")) > MAX_LINES]
    record_property("report", f"{name}: {len(long)} of {len(learner)} code cells have more than {MAX_LINES} lines")
    assert not wide and len(long) <= len(learner) / 10, (wide, long)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_an_alt_text_and_needs_no_network(name):
    for cell in cells("solutions", name):
        for output in cell.outputs:
            data = output.get("data", {})
            if build.PLOTLY in data:
                assert len(data.get("text/plain", "")) >= MIN_ALT_TEXT, f"{cell.id}: the figure has no alt text"
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
    assert words <= MAX_WORDS_BEFORE_A_FIGURE


@pytest.mark.parametrize("chapter", sorted({name[:2] for name in NAMES}))
def test_the_notebooks_of_a_chapter_ask_all_that_it_registers_once(chapter):
    asked = {
        name: [found for cell in cells("solutions", name) if (found := build.MARKER.match(cell.source))]
        for name in NAMES
        if name.startswith(chapter)
    }
    marked = [found for each in asked.values() for found in each]
    known = {"Exercise": registry.EXERCISES, "Prediction": registry.PREDICTIONS, "Question": registry.QUESTIONS}
    for kind, items in known.items():
        used = sorted(found[2] for found in marked if found[1] == kind)
        assert used == sorted(item.id for item in registry.items_of(items, int(chapter)))
    for name, each in asked.items():
        if chapter != "00":  # the start is too short for them all
            assert sum(found[1] == "Prediction" for found in each) >= MIN_PREDICTIONS, name
            assert sum(found[1] == "Question" for found in each) >= MIN_QUESTIONS, name


# --- learners' notebooks ------------------------------------------------------------------------------------

SOUND = [  # a learner's cell, and what the same cell prints in the solution
    ("from chapters import check, checkpoint, predict, progress, quiz, reveal", ""),
    (
        '# === Prediction 0.p1 (keep this line) ===\npredict("0.p1", ...)',
        "0.p1 recorded: 1 to 1 of 4 replies, 80 % sure.\n",
    ),
    (
        "# === Exercise 0.2 (keep this line) ===\nname = ...\n"
        'print("name:", name if name is not ... else "not done yet")',
        "name: blocks.3.hook_resid_pre\n",
    ),
    ('check("0.2", name)', "0.2 done: name a hook\n"),
    ('name = checkpoint("0.2", name)\nprint(name)', "0.2: going on with your version.\nblocks.3.hook_resid_pre\n"),
    (
        'print("given")\nreveal("0.p1", 1)',
        "given\n0.p1 turns out: 1 of 4 replies. You predicted 1 to 1 of 4 replies, 80 % sure.\n"
        "  Right: interval score 0.00 (0 is best, naming all that is possible gets 1).\n",
    ),
    ('# === Question 0.q1 (keep this line) ===\nquiz("0.q1", ...)', "0.q1 ...\nYour answer a) is right.\n"),
    ("progress(0)", "Progress in chapter 00\n  0.1   done  ..."),
]
FAULTY = [
    ("print(name[:6])", "stream\n"),  # prints something else, after the checkpoint
    ("print(1)", ""),  # prints something where the solution prints nothing
    ('check("0.2", name)', "0.2 done: name a hook\n"),  # passes its check
    ("1 / 0", ""),
]


def outputs_of(text):
    if text.startswith("Progress"):
        return [nbformat.v4.new_output("execute_result", data={"text/plain": text})]
    return [nbformat.v4.new_output("stream", text=text)] if text else []


def test_a_planted_fault_in_a_learners_notebook_is_found_and_nothing_else_is(tmp_path):
    learner = [nbformat.v4.new_code_cell(source) for source, _ in SOUND + FAULTY]
    solution = [nbformat.v4.new_code_cell(source, outputs=outputs_of(text)) for source, text in SOUND + FAULTY]
    for folder, made in (("notebooks", learner), ("solutions", solution)):
        (tmp_path / folder).mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=made), tmp_path / folder / "00_tiny.ipynb")
    shutil.copy(ROOT / "conftest.py", tmp_path)
    command = "-m pytest --nbval --nbval-current-env -p no:xdist -q -rf --color=no notebooks".split()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    run = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    failed = [int(number) for number in re.findall(r"^FAILED .*::Cell (\d+)", run.stdout, re.MULTILINE)]
    assert failed == list(range(len(SOUND), len(SOUND + FAULTY))), run.stdout + run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_open_exercise_is_expected_to_fail_its_check_and_each_given_cell_to_print_what_the_solution_prints(name):
    learner, complete = cells("notebooks", name), cells("solutions", name)
    expected = left_open.expected_outputs(ROOT / "notebooks" / f"{name}.ipynb")
    for cell, solved, outputs in zip(learner, complete, expected, strict=True):
        text = "".join(output.get("text", "") for output in outputs)
        checked = [item for call, item in build.CALL.findall(cell.source) if call == "check"]
        assert all(f"{item} not done yet" in text for item in checked), cell.id
        assert outputs == solved.outputs or SPEAKS_OF_THE_LEARNER.search(cell.source), cell.id
        assert bool(outputs) == bool(solved.outputs) or left_open.OF_PREDICTIONS.search(cell.source), cell.id


def test_the_notebooks_run_with_one_thread_and_without_a_progress_file():
    assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["COURSE_PROGRESS"] == "off"


def reads_and_binds(source: str) -> tuple[set[str], set[str], set[str]]:
    """Names that a cell reads before it binds them, also inside its functions; that its loops bind; that it binds otherwise."""
    tree = ast.parse(source)
    targets = [loop.target for loop in ast.walk(tree) if isinstance(loop, ast.For)]
    top = compile(tree, "cell", "exec")
    read, bound, inner = set(), set(), []
    for step in dis.get_instructions(top):
        if step.opname == "LOAD_NAME" and step.argval not in bound:
            read.add(step.argval)
        elif step.opname == "STORE_NAME":
            bound.add(step.argval)
        inner += [step.argval] if isinstance(step.argval, types.CodeType) else []
    while inner:
        steps = list(dis.get_instructions(inner.pop()))
        read |= {step.argval for step in steps if step.opname == "LOAD_GLOBAL"} - bound
        inner += [step.argval for step in steps if isinstance(step.argval, types.CodeType)]
    loops = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)} & bound
    assigned = {
        node.id
        for part in ast.walk(tree)
        for target in (part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)])
        if isinstance(part, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr)
        for node in ast.walk(target)
        if isinstance(node, ast.Name)
    }
    return read, loops - assigned, bound - (loops - assigned)


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_reads_what_a_loop_of_another_cell_left_behind(name):
    """The verdict on an exercise must not hang on the order in which cells ran."""
    left: dict[str, str] = {}
    leaks = []
    for cell in cells("solutions", name):
        read, loops, assigned = reads_and_binds(cell.source)
        leaks += [f"{cell.id} reads {name!r}, left behind by a loop of {left[name]}" for name in read & left.keys()]
        left = {key: value for key, value in left.items() if key not in assigned} | dict.fromkeys(loops, cell.id)
    assert not leaks


def test_a_name_left_behind_by_a_loop_is_found():
    assert reads_and_binds("for layer in range(3):\n    x = layer") == ({"range"}, {"layer"}, {"x"})
    assert "layer" in reads_and_binds("def f():\n    return [layer for _ in x]\nf()")[0]
    assert "layer" not in reads_and_binds("layer = 2\nprint(layer)")[0]
