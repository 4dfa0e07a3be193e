"""What the pages promise is there: names, commands, links, terms; and what is there is written about."""

import contextlib
import doctest
import importlib.util
import inspect
import io
import re
import runpy
import shlex
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tools import build, library

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "course_lib"
ROOMS = sorted({path.stem for path in LIBRARY.iterdir() if path.suffix in ("", ".py") and path.stem[:2] != "__"})
SOURCES = sorted((ROOT / "chapters").glob("*/[0-9]*.py"))
FOLDERS = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in folder.rglob("*.md"))])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

FIELD_TERMS = """ablate abliterate activation cache chat template coefficient d_model d_vocab direction
feature hook hook_name layer logit organism pos refusal score residual stream resid_mid resid_post
resid_pre steer"""


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def shipped(room: str) -> dict[str, object]:
    """Public functions and classes of a room: what it defines, or what its `__all__` offers."""
    module = importlib.import_module(f"course_lib.{room}")
    offered = {name: getattr(module, name) for name in getattr(module, "__all__", vars(module))}
    kinds = {name: x for name, x in offered.items() if inspect.isfunction(x) or inspect.isclass(x)}
    return {n: x for n, x in kinds.items() if x.__module__.startswith(module.__name__) and not n.startswith("_")}


def undocumented(name: str, thing: object) -> list[str]:
    """The thing itself and its own public methods, where they have no docstring."""
    parts = {name: thing}
    if inspect.isclass(thing):
        own = {n: m for n, m in vars(thing).items() if inspect.isfunction(m) or isinstance(m, property)}
        parts |= {f"{name}.{n}": m for n, m in own.items() if not n.startswith("_")}
    return [part for part, x in parts.items() if not (x.__doc__ or "").strip()]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_a_docstring(room):
    assert importlib.import_module(f"course_lib.{room}").__doc__
    assert [part for name, thing in shipped(room).items() for part in undocumented(name, thing)] == []


@pytest.mark.parametrize(
    "path", [path for path in [*SOURCES, *PAGES] if path.name not in ("CHANGELOG.md", "library.md")], ids=label
)
def test_every_library_name_that_is_mentioned_exists(path):
    text = re.sub(r"\w+\.py\b", "", read(path))
    rooms = "|".join(room for room in ROOMS if not re.search(rf"^ *{room} = ", text, flags=re.MULTILINE))  # a variable
    mentioned = {*re.findall(rf"(?<![\w.])({rooms})\.(\w+)\(", text)}
    mentioned |= {*re.findall(rf"`({rooms})\.(\w+)", text)}
    modules = {room: importlib.import_module(f"course_lib.{room}") for room in ROOMS}
    assert [f"{room}.{name}" for room, name in sorted(mentioned) if not hasattr(modules[room], name)] == []


def test_the_page_of_the_library_is_written_from_its_docstrings():
    assert read(library.PAGE) == library.page(), "run python -m tools.library"


def commands() -> list[tuple[str, str]]:
    """Every command line in a fenced block of a page, with the page."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```(?:\w*)\n(.*?)^```", read(page), flags=re.MULTILINE | re.DOTALL):
            lines = [line.split("#")[0].strip() for line in block.splitlines()]
            found += [(line, label(page)) for line in lines if re.match(r"python\d* ", line)]
    return found


def test_the_readme_opens_with_the_two_commands():
    readme = [line for line, page in commands() if page == "README.md"]
    assert readme[:2] == ["python course.py open", "python course.py test"]


@cache
def usage(program: str) -> str:
    """What a module or a file of this repository says when it is asked for help; it runs in this process."""
    run, name = (runpy.run_path, str(ROOT / program)) if program.endswith(".py") else (runpy.run_module, program)
    said, argv, path = io.StringIO(), sys.argv, list(sys.path)
    sys.argv = [program, "--help"]
    try:
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as stopped:
            run(name, run_name="__main__")
    finally:
        sys.argv, sys.path[:] = argv, path
    assert not stopped.value.code, f"{program} --help stops with {stopped.value.code}"
    return said.getvalue()


@pytest.mark.parametrize(("line", "page"), commands())
def test_every_command_on_a_page_exists(line, page):
    program, *arguments = shlex.split(line)[1:]
    if program == "-m":
        program, *arguments = arguments
        assert importlib.util.find_spec(program), f"{page}: there is no module {program}"
        if not (ROOT / program.split(".")[0]).exists():
            return  # pytest, pip: not ours
    else:
        assert (ROOT / program).is_file(), f"{page}: there is no file {program}"
    asked = [word for word in arguments[:1] if word.isalpha() or word.startswith("--")]
    assert [word for word in asked if word not in usage(program)] == [], f"{page}: {line}"


def targets(path: Path) -> list[str]:
    """Relative links of a page or of a notebook's text, images included."""
    text = re.sub(r"^```.*?^```", "", read(path), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """What a heading of the page is called in a link."""
    headings = re.findall(r"^#+ (.*)$", read(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=label)
def test_every_relative_link_leads_somewhere(path):
    starts = [ROOT / "notebooks", ROOT / "solutions"] if path in SOURCES else [path.parent]
    for link in targets(path):
        file, _, anchor = link.partition("#")
        for start in starts:
            target = (start / file).resolve() if file else path
            assert target.exists(), f"{link} in {label(path)}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors(target), f"{link} in {label(path)}"


def glossary() -> dict[str, str]:
    """Term -> its row, from the tables of the glossary."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|(.*)\|$", read(ROOT / "docs" / "glossary.md"), flags=re.MULTILINE)
    return dict(rows)


def test_the_glossary_explains_the_terms_of_the_field_in_alphabetical_order():
    terms = list(glossary())
    assert terms == sorted(terms, key=str.lower)
    words = " ".join(terms)
    assert [word for word in FIELD_TERMS.split() if word not in words] == []


@pytest.mark.parametrize("term", glossary())
def test_every_glossary_term_is_one_the_course_uses(term):
    files = [*SOURCES, *LIBRARY.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    text = spaced(" ".join(read(path) for path in files if path.name != "glossary.md"))
    assert all(spaced(word) in text for word in term.split(", "))


def spaced(text: str) -> str:
    """Lower case, and one kind of gap between words: project_out is project out."""
    return re.sub(r"[\s_-]+", " ", text.lower())


def test_every_notebook_stands_in_the_readme():
    readme = read(ROOT / "README.md")
    assert [source.stem for source in SOURCES if f"notebooks/{source.stem}.ipynb" not in readme] == []


def sheets() -> dict[str, str]:
    """Title line -> rows of each run sheet of the teaching page."""
    found = re.findall(
        r"^(\*\*[^\n]*\d+[- ]minute.*?)\n\n(\| from .*?)\n\n", read(ROOT / "docs" / "teaching.md"), re.M | re.S
    )
    return dict(found)


def seconds(title: str) -> dict[str, str]:
    """Notebook -> the machine's seconds, as the title of a run sheet tells them."""
    return dict(re.findall(r"\b(0\d[a-z]?) (\d+) s\b", title))


def items_of(notebook: str) -> set[str]:
    """What a notebook asks, by its marks: exercises, predictions, questions and decisions."""
    source = next(path for path in SOURCES if path.stem.startswith(f"{notebook}_"))
    return {cell.marker[1] for cell in build.read_source(source) if cell.marker}


def test_there_are_run_sheets_for_a_class_a_lab_and_a_workshop_and_for_each_later_chapter():
    titles = list(sheets())
    assert [re.search(r"(\d+)-minute (\w+)", title).groups() for title in titles[:4]] == [
        ("50", "class"), ("90", "class"), ("120", "lab"), ("180", "workshop")
    ]  # fmt: skip
    told = [name for title in titles[4:] for name in re.findall(r"\b0\d[a-z]?\b", title.split("**")[1].split(":")[1])]
    assert told == [source.stem.split("_")[0] for source in SOURCES if source.stem[:2] >= "02"]


@pytest.mark.parametrize("title", sheets(), ids=lambda title: title.split("**")[1])
def test_a_run_sheet_adds_up_and_names_exercises_with_their_minutes(title):
    import chapters  # noqa: F401  (registers what each notebook asks)
    from course_lib.grading.registry import EXERCISES, find

    rows = re.findall(r"^\| (\d+) \| (\d+) \| (.*) \|$", sheets()[title], flags=re.MULTILINE)
    starts, lengths = [int(row[0]) for row in rows], [int(row[1]) for row in rows]
    assert starts == [sum(lengths[:n]) for n in range(len(rows))]
    assert sum(lengths) == int(re.search(r"(\d+)[- ]minute", title)[1])
    known = set().union(*map(items_of, seconds(title)))
    for _, length, what in rows:
        asked = set(re.findall(r"\b\d\.[pqd]?\d+", what))
        assert asked <= known, f"{asked - known} stand in a notebook without seconds"
        named = re.findall(r"(\d)\.(\d+)(?:,| (?:and|to) \d\.(\d+))? \(?(\d+) min", what)
        for chapter, first, last, minutes in named:
            between = [f"{chapter}.{n}" for n in range(int(first), int(last or first) + 1)]
            assert set(between) <= known, what
            assert sum(find(EXERCISES, item).minutes for item in between) == int(minutes), what
        assert what.count(" min)") == len(named), what
        assert sum(int(minutes) for *_, minutes in named) <= int(length), what


@pytest.mark.parametrize("title", sheets(), ids=lambda title: title.split("**")[1])
def test_a_run_sheet_names_sections_that_the_notebook_has_with_what_is_asked_there(title):
    """A row names its notebook where it begins; every item of a row stands in the section that the row names."""
    notebook = ""
    for what in re.findall(r"^\| \d+ \| \d+ \| (.*) \|$", sheets()[title], flags=re.MULTILINE):
        notebook = (re.findall(r"^(0\d[a-z]?)[ :,]", what) or [notebook or min(seconds(title))])[0]
        section = re.match(r"(?:0\d[a-z]?, )?section (\d)", what)
        if section:
            here = what.split("; ")[0]  # behind it stands what is homework
            asked = set(re.findall(r"\b\d\.p?\d+", here))
            assert asked <= asked_in(notebook, section[1]), f"{notebook}: {what}"


def asked_in(notebook: str, section: str) -> set[str]:
    """What a numbered section of a notebook asks."""
    source = next(path for path in SOURCES if path.stem.startswith(f"{notebook}_"))
    now, found = "", {}
    for cell in build.read_source(source):
        if cell.kind == "markdown":
            now = (re.findall(r"^## (\d|\w+)", cell.text, flags=re.MULTILINE) or [now])[-1]
            found.setdefault(now, set())
        elif cell.marker:
            found.setdefault(now, set()).add(cell.marker[1])
    assert section in found, f"{notebook} has no section {section}"
    return found[section]


def test_a_notebooks_machine_seconds_are_the_same_on_every_sheet():
    told = {pair for title in sheets() for pair in seconds(title).items()}
    assert sorted(name for name, _ in told) == [source.stem.split("_")[0] for source in SOURCES]


def test_every_notebook_leads_to_the_content_note():
    assert [label(source) for source in SOURCES if "docs/content_note.md" not in read(source)] == []
    assert "docs/content_note.md" in read(ROOT / "README.md")


def test_every_change_is_filed_under_one_of_four_kinds():
    entries = re.findall(r"^\* (\S+)", read(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)
    assert entries
    assert set(entries) <= {"notebook:", "lib:", "organism:", "tool:"}


def test_citation_and_changelog_carry_the_version_of_the_package():
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in read(ROOT / "CITATION.cff")
    assert f"## {version}" in read(ROOT / "CHANGELOG.md")


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_no_page_waits_for_a_number(path):
    assert [line for line in read(path).splitlines() if "TODO" in line] == []


def test_doctests_of_the_library_are_part_of_the_test_command():
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert "--doctest-modules" in options["addopts"]
    assert "course_lib" in options["testpaths"]


@pytest.mark.parametrize("room", ["data", "directions"])
def test_rooms_that_can_show_cheap_examples_do(room):
    found = doctest.DocTestFinder().find(importlib.import_module(f"course_lib.{room}"))
    assert sum(len(test.examples) for test in found) > 0
