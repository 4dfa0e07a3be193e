"""One set of versions: requirements.lock, pyproject.toml, environment.yml and course.py say the same."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import course

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK_LINES = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
LOCK = {canonicalize_name((entry := Requirement(line)).name): entry for line in LOCK_LINES}
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]


def test_every_line_of_the_lock_pins_one_exact_public_version():
    for entry in LOCK.values():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(entry.specifier)), f"{entry} is not an exact public version"
    assert len(LOCK) == len(LOCK_LINES), "a package stands in the lock twice"


@pytest.mark.parametrize("direct", DIRECT, ids=lambda requirement: requirement.name)
def test_pyproject_gives_a_range_that_holds_the_version_of_the_lock(direct):
    locked = LOCK[canonicalize_name(direct.name)]
    assert locked.marker is None
    assert direct.specifier.contains(next(iter(locked.specifier)).version)
    assert {clause.operator for clause in direct.specifier} == {">=", "<"}


def test_conda_installs_the_lock_with_torch_first():
    lines = [line.strip() for line in (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()]
    from_pip = lines[lines.index("- pip:") + 1 :]
    assert from_pip == [f"- {course.torch_requirement()}", "- -r requirements.lock", "- -e ."]


def test_conda_installs_a_python_that_the_project_accepts():
    conda = re.search(r"- python=(\S+)", (ROOT / "environment.yml").read_text(encoding="utf-8"))[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda)


def test_the_setup_script_accepts_the_pythons_that_pyproject_accepts():
    oldest, too_new = (".".join(map(str, v)) for v in (course.OLDEST_PYTHON, course.FIRST_PYTHON_TOO_NEW))
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(f">={oldest},<{too_new}")


def test_what_is_installed_is_what_the_lock_says():
    differing = {}
    for name, entry in LOCK.items():
        if entry.marker is None or entry.marker.evaluate():
            try:
                found = version(name).split("+")[0]
            except PackageNotFoundError:
                found = None
            if not (found and entry.specifier.contains(found, prereleases=True)):
                differing[name] = f"{found} is installed, {entry.specifier} is locked"
    assert not differing, f"{differing}: run python course.py test"


@pytest.mark.parametrize("package", ["uvloop", "pexpect", "ptyprocess", "appnope", "colorama", "pywinpty"])
def test_packages_of_one_platform_are_marked_so(package):
    if package in LOCK:
        assert "sys_platform" in str(LOCK[package].marker)


def test_the_course_and_its_organisms_are_in_the_package():
    import setuptools

    found = setuptools.find_namespace_packages(
        str(ROOT), include=["course_lib*", "chapters*", "factory*", "examination*", "lab*", "viewer*", "organisms*"]
    )
    assert {
        "course_lib",
        "course_lib.grading",
        "chapters",
        "factory",
        "examination",
        "lab",
        "viewer",
        "organisms",
    } <= set(found)
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert set(setup["package-data"]["organisms"]) >= {"**/*"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such limit")
@pytest.mark.parametrize("gb, refused", [(2, True), (4, False)])
def test_too_little_memory_is_said_before_anything_is_loaded(gb, refused):
    """What is loaded first is left out here: below a limit of 2 GB it would end in words that help nobody."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({gb} * 10**9,) * 2); import course_lib"
    run = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ("MemoryError" in run.stderr) == refused
    if refused:
        assert "leaves it 2.0 GB of memory, and the course needs 3, better 4" in run.stderr


def test_the_documented_command_registers_a_kernel_of_this_python_whose_figures_need_no_extension(tmp_path):
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    _, *arguments = shlex.split(re.search(r"^\.venv/bin/python -m ipykernel install .*", page, flags=re.MULTILINE)[0])
    arguments[arguments.index("--user")] = f"--prefix={tmp_path}"
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=60)
    spec = json.loads(next(tmp_path.rglob("kernel.json")).read_text(encoding="utf-8"))
    assert spec["argv"][0] == sys.executable and spec["env"] == {"COURSE_FIGURES": "html"}
