"""The builder: two good notebooks from one source, or a refusal that names the cell and the rule."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from tools import build

SOURCE = '''# %% [markdown]
# # A tiny notebook

# %%
import sys

print("ready")
print("a progress bar", file=sys.stderr)

# %%
# === Prediction 99.p1 (keep this line) ===
# BEGIN SOLUTION
# STUB: guess = ...
guess = 7
# END SOLUTION

# %% [markdown]
# ## Exercise 99.1

# %%
# === Exercise 99.1 (keep this line) ===
def double(x):
    """Returns twice x."""
    if x == 0:
        # BEGIN SOLUTION
        return 0
        # END SOLUTION
    # BEGIN SOLUTION
    # STUB: answer = ...
    # STUB: return answer
    return 2 * x
    # END SOLUTION

# %% tags=["nbval-ignore-output"]
def check(item, answer):
    print(item, answer(2))


checkpoint = check
check("99.1", double)

# %%
checkpoint("99.1", double)
'''
LEARNERS_EXERCISE = '''# === Exercise 99.1 (keep this line) ===
def double(x):
    """Returns twice x."""
    if x == 0:
        ...
    answer = ...
    return answer'''
COMPLETE_EXERCISE = '''# === Exercise 99.1 (keep this line) ===
def double(x):
    """Returns twice x."""
    if x == 0:
        return 0
    return 2 * x'''


def write(root: Path, text: str = SOURCE) -> Path:
    path = root / "chapters" / "99_tiny" / "99_tiny.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one source, built once for all tests that only look."""
    root = tmp_path_factory.mktemp("project")
    build.build(write(root))
    return root


def notebook(root: Path, folder: str):
    return nbformat.read(root / folder / "99_tiny.ipynb", as_version=4)


def test_the_learner_gets_stubs_and_the_complete_notebook_answers(project):
    learner, complete = notebook(project, "notebooks"), notebook(project, "solutions")
    assert learner.cells[4].source == LEARNERS_EXERCISE and complete.cells[4].source == COMPLETE_EXERCISE
    assert learner.cells[2].source.endswith("\nguess = ...") and complete.cells[2].source.endswith("\nguess = 7")


def test_both_notebooks_have_the_same_cells_with_the_same_ids(project):
    ids = [[cell.id for cell in notebook(project, folder).cells] for folder in ("notebooks", "solutions")]
    assert ids[0] == ids[1]
    assert ids[0][:3] == ["99-c000", "99-c001", "99-prediction-99-p1"] and ids[0][4] == "99-exercise-99-1"


def test_the_learners_notebook_has_no_outputs_and_the_complete_one_has_text_only(project):
    assert not any(cell.get("outputs") for cell in notebook(project, "notebooks").cells)
    first = notebook(project, "solutions").cells[1]
    assert [output.text for output in first.outputs] == ["ready\n"] and first.execution_count == 1


def test_only_tags_are_left_of_the_cells_metadata(project):
    for folder in ("notebooks", "solutions"):
        assert [dict(c.metadata) for c in notebook(project, folder).cells if c.metadata] == [
            {"tags": ["nbval-ignore-output"]}
        ]


def test_the_files_are_valid_notebooks_with_sorted_keys(project):
    for folder in ("notebooks", "solutions"):
        text = (project / folder / "99_tiny.ipynb").read_text(encoding="utf-8")
        nbformat.validate(nbformat.reads(text, as_version=4))
        assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def test_the_worked_answer_is_kept_with_what_it_needs_and_nothing_that_follows_it(tmp_path):
    text = (
        "# %%\nimport os.path, math\nfrom torch import nn as layers, float32\nlimit = 3\n\n# %%\n"
        f"{MARK}\none = 1\n# BEGIN SOLUTION\n# STUB: answer = ...\n"
        "answer = [math.pi, layers, os, len(x), limit, one, *(n for n in y.items)]\n# END SOLUTION\nprint(answer)\n\n"
        '# %%\ncheck("99.1", answer, x, y.items)\n\n# %%\nanswer = checkpoint("99.1", answer, x, y.items)\n'
    )
    worked = build.references(build.read_source(write(tmp_path, text)))["99.1"]
    assert (worked["answer"], worked["context"], worked["notebook"]) == ("answer", ["x", "y.items"], ["limit", "y"])
    imports = ["from torch import nn as layers", "import math", "import os.path"]
    assert sorted(worked["code"][:3]) == imports and worked["code"][3] == "one = 1"
    assert len(worked["code"]) == 5 and worked["code"][4].startswith("answer = [")


def test_a_rebuild_is_equal_byte_for_byte_even_when_it_is_executed_again(project):
    source = project / "chapters" / "99_tiny" / "99_tiny.py"
    files = [project / folder / "99_tiny.ipynb" for folder in ("notebooks", "solutions")]
    files.append(source.with_name("references.json"))
    before = [path.read_bytes() for path in files]
    assert build.build(source) == [] and build.build(source, execute=True) == []
    assert [path.read_bytes() for path in files] == before


def test_the_check_finds_every_change_but_outputs_and_writes_nothing(tmp_path, project):
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    source = tmp_path / "chapters" / "99_tiny" / "99_tiny.py"
    assert build.build(source, check=True) == []

    complete = tmp_path / "solutions" / "99_tiny.ipynb"
    complete.write_text(complete.read_text("utf-8").replace("ready\\n", "other\\n", 1), "utf-8")
    assert "other" in complete.read_text("utf-8") and build.build(source, check=True) == []

    learner = tmp_path / "notebooks" / "99_tiny.ipynb"
    for path in (learner, complete):
        text = path.read_text("utf-8")
        path.write_text(text.replace("A tiny notebook", "A tidy notebook"), "utf-8")
        assert build.build(source, check=True) == [path.relative_to(tmp_path).as_posix()]
        assert "A tidy notebook" in path.read_text("utf-8")
        path.write_text(text, "utf-8")

    write(tmp_path, SOURCE.replace("2 * x", "x + x"))
    assert build.build(source, check=True) == ["solutions/99_tiny.ipynb", "chapters/99_tiny/references.json"]


def test_outputs_are_made_anew_when_the_source_changed(tmp_path):
    source = write(tmp_path, "# %%\nprint(1)\n")
    build.build(source)
    write(tmp_path, "# %%\nprint(2)\n")
    assert build.build(source) == ["notebooks/99_tiny.ipynb", "solutions/99_tiny.ipynb"]  # no exercise in it changed
    assert notebook(tmp_path, "solutions").cells[0].outputs[0].text == "2\n"


def test_a_figure_keeps_its_plotly_form_and_its_text():
    data = {build.PLOTLY: {"data": []}, "text/html": "<div>", "text/plain": "A rising line."}
    output = nbformat.v4.new_output("display_data", data=data)
    assert set(build.cleaned([output])[0].data) == {build.PLOTLY, "text/plain"}


LONG = "\n".join(f"x{i} = {i}" for i in range(38))
MARK = "# === Exercise 99.1 (keep this line) ==="
REFUSED = {
    "a solution outside an exercise": (MARK + "\ndef double", "def double"),
    "has no solution": ("        # BEGIN SOLUTION\n        return 0\n        # END SOLUTION\n", "        return 0\n"),
    "every '# BEGIN SOLUTION' needs one": ("    return 2 * x\n    # END SOLUTION", "    return 2 * x"),
    "is marked 2 times": ("# %% tags", f"# %%\n{MARK}\n# BEGIN SOLUTION\n# END SOLUTION\n\n# %% tags"),
    "is misspelt": (MARK, "# === Exercise 99-1 (keep this line) ==="),
    "not the first line of its cell": (MARK, f"import os\n{MARK}"),
    "has no check": ('check("99.1", double)\n\n# %%', "\n# %%"),
    "has no checkpoint": ('checkpoint("99.1", double)', ""),
    "is checked, but no cell is marked": ('check("99.1", double)\n\n', 'check("99.1", double)\ncheck("99.2", 1)\n\n'),
    "put check and checkpoint into two cells": ('check("99.1", double)\n\n# %%\n', 'check("99.1", double)\n'),
    "left over": ('print("ready")', 'print("ready")  # END SOLUTION'),
    "lines of code, 40 at most": ('print("ready")', LONG),
    "a solution in a markdown cell": ("# ## Exercise 99.1", "# ## Exercise 99.1\n# # BEGIN SOLUTION"),
    "a raw cell": ("# %% [markdown]", "# %% [raw]"),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_a_source_that_breaks_a_rule_is_refused(tmp_path, rule):
    old, new = REFUSED[rule]
    text = SOURCE
    if rule == "has no solution":
        text = text.replace("# %% tags", "# %%\n# === Exercise 99.3 (keep this line) ===\nx = 1\n\n# %% tags")
    else:
        assert old in text
        text = text.replace(old, new, 1)
    with pytest.raises(build.SourceError, match=rule):
        build.read_source(write(tmp_path, text))


def test_a_refused_source_writes_nothing(tmp_path):
    source = write(tmp_path, SOURCE.replace(MARK, ""))
    with pytest.raises(build.SourceError):
        build.build(source)
    assert not list(tmp_path.rglob("*.ipynb"))


def test_a_failing_cell_stops_the_build_before_anything_is_written(tmp_path):
    source = write(tmp_path, "# %%\n1 / 0\n")
    with pytest.raises(build.CellExecutionError, match="ZeroDivisionError"):
        build.build(source)
    assert not list(tmp_path.rglob("*.ipynb"))


@pytest.mark.parametrize("arguments, word", [(["77"], "no notebook"), (["--check"], "up to date")])
def test_the_command_says_what_it_did(arguments, word, capsys, monkeypatch, project):
    monkeypatch.setattr(build, "ROOT", project)
    assert build.main(arguments) == (1 if word == "no notebook" else 0)
    assert word in capsys.readouterr().out
