"""The numbers in README.md are those of the code they speak of."""

import importlib
import re
from pathlib import Path

from test_notebooks import cells, is_compared

import chapters  # noqa: F401  (registers them)
from course_lib.grading import registry
from factory.__main__ import RECIPES

ROOT = Path(__file__).resolve().parent.parent
README = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
BANKS = [
    importlib.import_module(f"chapters.{path.parent.name}.answers")
    for path in sorted((ROOT / "chapters").glob("*/answers.py"))
]


def test_the_number_of_wrong_and_right_answers_and_the_named_share():
    wrong = [named for bank in BANKS for answers in bank.WRONG.values() for _, named in answers.values()]
    right = [answer for bank in BANKS for answers in bank.RIGHT.values() for answer in answers]
    share = 100 * sum(named is not None for named in wrong) // len(wrong)
    assert f"({len(wrong)} in all, all rejected, {share} % with a message that names the mistake)" in README
    assert f"written differently ({len(right)}, all accepted)" in README


def test_the_share_of_compared_cells():
    code = [cell for path in sorted((ROOT / "solutions").glob("*.ipynb")) for cell in cells("solutions", path.stem)]
    share = 100 * sum(map(is_compared, code)) // len(code)
    assert f"(now: {share} %)" in README


def test_the_minutes_of_each_notebook_leave_room_for_more_than_its_exercises():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        number = int(path.stem[:2])
        exercises = sum(exercise.minutes for exercise in registry.items_of(registry.EXERCISES, number))
        stated = int(re.search(rf"notebooks/{path.stem}\.ipynb\).*?\| (\d+) \|", README)[1])
        assert exercises < stated <= 90


def test_every_width_has_its_card():
    for width in RECIPES:
        name = "chat" if width == max(RECIPES) else f"chat-{width}"
        assert (ROOT / "organisms" / "cards" / f"{name}.md").is_file()
