"""The numbers in README.md are those of the code they speak of."""

import importlib
import re
from pathlib import Path

import pytest
from test_notebooks import cells, is_compared

from course_lib import profiles
from factory.__main__ import RECIPES
from tools import build, minutes

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


SOURCES = build.sources(ROOT)


def stated(source):
    """Minutes that the table of notebooks gives to the notebook of a source."""
    return int(re.search(rf"notebooks/{source.stem}\.ipynb\)[^|]*\|[^|]*\| (\d+) \|", README)[1])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_minutes_of_each_notebook_are_those_of_the_rule_and_an_hour_at_most(source):
    """The rule counts what stands in this one notebook: its exercises, its lines, its words; not what is under Further."""
    assert 0.85 < stated(source) / minutes.of(source).total < 1.55  # more where strangers, reading cold, took more
    assert stated(source) <= 60 and stated(source) % 5 == 0


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_says_the_minutes_that_the_table_says(source):
    opening = next(cell.text for cell in build.read_source(source) if cell.kind == "markdown")
    assert re.findall(r"bout\s+(\d+)\s+minutes", opening)[:1] == [str(stated(source))]


def test_what_stands_under_further_is_not_counted_and_what_stands_after_it_is(tmp_path):
    parts = ["# 09", "## Further 1", "## Further 2: questions", "### a part of it", "## Results"]
    source = tmp_path / "09_x.py"
    source.write_text("".join(f"# %% [markdown]\n# {part}\n# {'word ' * 220}\n\n" for part in parts), encoding="utf-8")
    found = minutes.of(source)
    assert found.total == pytest.approx(2, abs=0.1) and found.further == pytest.approx(3, abs=0.1)


def test_every_width_has_its_card():
    for width in RECIPES:
        name = "chat" if width == max(RECIPES) else f"chat-{width}"
        assert (ROOT / "organisms" / "cards" / f"{name}.md").is_file()


def test_the_page_of_published_models_says_how_many_requests_are_scored():
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "real_models.md").read_text(encoding="utf-8"))
    large = profiles.get("Qwen/Qwen2.5-0.5B-Instruct").settings
    assert f"They read {large.n_train} requests of each set where" in page
    assert f"scores candidates on {large.n_validation} where" in page
