"""On a hosted machine such as Colab: what is there stays, what is missing comes, and no restart is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import course
from tools import build, on_model

ROOT = Path(__file__).parents[1]
IMAGE = {  # of the shape of a Colab image: a CUDA torch with its family, older versions of what the lock pins newer
    "torch": "2.9.0+cu126",
    "torchvision": "0.24.0+cu126",
    "triton": "3.5.0",
    "nvidia-cublas-cu12": "12.6.4.1",
    "numpy": "2.0.2",
    "pandas": "2.2.2",
    "pyarrow": "18.1.0",
    "ipython": "7.34.0",
    "ipykernel": "6.17.1",
    "requests": "2.32.4",
    "tqdm": "4.67.1",
    "scikit-learn": "1.6.1",
    "scipy": "1.16.3",
    "psutil": "5.9.5",
    "safetensors": "0.8.0",
    "transformers": "4.57.1",
    "plotly": "5.24.1",
}


def test_torch_its_family_and_what_is_loaded_stay_in_the_versions_of_the_machine():
    kept = course.kept_here(IMAGE, loaded={"pandas", "ipython", "a-stranger"})
    assert {name: kept[name] for name in ("torch", "torchvision", "triton", "nvidia-cublas-cu12")} == {
        name: IMAGE[name] for name in ("torch", "torchvision", "triton", "nvidia-cublas-cu12")
    }
    assert kept["pandas"] == "2.2.2" and kept["numpy"] == "2.0.2" and "a-stranger" not in kept
    assert "transformers" not in kept and "plotly" not in kept  # not loaded: the lock's version may come


def test_what_the_course_imports_comes_in_the_locks_version_and_no_torch_and_no_jupyter_with_it():
    wanted = course.wanted_here(course.direct_requirements(), course.kept_here(IMAGE, loaded=set()))
    names = {line.split("==")[0] for line in wanted}
    assert {"transformers", "transformer-lens", "sae-lens", "huggingface_hub", "circuitsvis", "plotly"} <= names
    assert not names & {"torch", "numpy", "pyarrow", "jupyterlab", "ipykernel", "scikit-learn", "scipy"}
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert all(line in lock for line in wanted)


def test_a_package_that_is_loaded_already_is_not_asked_for_in_another_version():
    kept = course.kept_here(IMAGE, loaded={"plotly"})
    wanted = course.wanted_here(course.direct_requirements(), kept)
    assert kept["plotly"] == "5.24.1" and not any(line.startswith("plotly==") for line in wanted)


def test_loaded_packages_are_found_by_what_this_process_has_imported(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "playwright"]:  # another test's file may load it
        monkeypatch.delitem(sys.modules, name)
    loaded = course.loaded_packages()
    assert {"pytest", "nbformat"} <= loaded and "playwright" not in loaded


@pytest.fixture
def machine(monkeypatch):
    """A hosted machine on which pip is only noted; `changes` is what it would change."""
    calls, changes, have = [], {}, dict(IMAGE)

    def call(command):
        constraints = Path(command[command.index("--constraint") + 1]).read_text()
        calls.append((command, constraints))
        have.update(changes)
        return changes.get("status", 0)

    monkeypatch.setattr(course, "installed_here", lambda: dict(have))
    monkeypatch.setattr(course, "loaded_packages", lambda: {"pandas"})
    monkeypatch.setattr(course.subprocess, "call", call)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return calls, changes, have


def test_pip_is_told_what_must_stay_and_what_is_missing(machine, capsys):
    calls, _, _ = machine
    course.here()
    (command, constraints), *more = calls
    assert not more and "torch==2.9.0+cu126\n" in constraints and "pandas==2.2.2\n" in constraints
    assert "transformer-lens==3.9.0" in command and not any(part.startswith("torch==") for part in command)
    assert capsys.readouterr().out.endswith("Ready.\n")


def test_the_lack_of_a_gpu_is_said_before_anything_is_installed(machine, capsys, monkeypatch):
    calls, _, _ = machine
    monkeypatch.setattr(course, "install_beside", lambda *_: calls.append(capsys.readouterr().out))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    course.here()
    assert "no GPU" in calls[0] and "Change runtime type" in calls[0]


def test_a_gpu_is_named(machine, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Tesla T4")
    course.here()
    assert capsys.readouterr().out.startswith("GPU: Tesla T4.")


def test_a_torch_that_was_replaced_all_the_same_is_noticed(machine):
    machine[1]["torch"] = "2.13.0"
    with pytest.raises(course.SetupError, match="changed torch.*fresh machine"):
        course.here()


def test_a_conflict_is_said_with_the_way_out(machine):
    machine[1]["status"] = 1
    with pytest.raises(course.SetupError, match=r"(?s)status 1.*conflict.*python course.py open"):
        course.here()


def test_a_machine_without_torch_is_not_a_hosted_one(machine):
    machine[2].pop("torch")
    with pytest.raises(course.SetupError, match=r"(?s)no PyTorch.*python course.py open"):
        course.here()


# --- with the package mirror: python -m pytest -m network tests/test_hosted.py ------------------------------


def stub(folder: Path, name: str, version: str) -> None:
    """A package that is nothing but its metadata, so that pip finds it installed."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "INSTALLER").write_text("pip\n")
    (about / "RECORD").write_text("")


def other_python() -> str:
    """A Python of another version than this one if there is one, as Colab's is."""
    import shutil

    candidates = [f"python3.{minor}" for minor in (12, 13, 14) if minor != sys.version_info.minor]
    managed = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.1[234].*/bin/python"))
    return next(
        (found for found in map(shutil.which, candidates) if found and "shims" not in found),
        str((managed or [sys.executable])[0]),
    )


@pytest.mark.network
def test_pip_plans_to_leave_a_preinstalled_cuda_torch_alone(tmp_path):
    """A fresh environment of another Python with the metadata of an image: a plan of pip's, nothing is installed."""
    python = other_python()
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True)
    inside = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    place = subprocess.run(
        [inside, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for name, version in IMAGE.items():
        stub(Path(place), name, version)
    kept = course.kept_here(IMAGE, loaded={"pandas", "ipython", "requests"})
    (tmp_path / "kept.txt").write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
    wanted = course.wanted_here(course.direct_requirements(), kept)
    command = [
        inside,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--report",
        tmp_path / "plan.json",
        "-c",
        tmp_path / "kept.txt",
    ]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    plan = {
        course.canonical(entry["metadata"]["name"]): entry["metadata"]["version"]
        for entry in json.loads((tmp_path / "plan.json").read_text())["install"]
    }
    assert not set(plan) & set(kept), "what had to stay would be replaced"
    assert not [name for name in plan if name.startswith(("torch", "nvidia", "triton"))]
    assert plan["transformer-lens"] == "3.9.0" and plan["transformers"] == "5.23.0"


# --- badge and set-up cell ----------------------------------------------------------------------------------


def test_without_an_address_no_notebook_has_a_badge():
    assert build.REPOSITORY == os.environ.get("COURSE_REPOSITORY", "") and build.colab_cells("01_topic", "") == []


def test_with_an_address_badge_and_set_up_cell_stand_after_the_title_and_do_nothing_elsewhere(monkeypatch, capsys):
    monkeypatch.setattr(build, "REPOSITORY", "somebody/course")
    title, code = build.Cell("markdown", "# 01 A question?"), build.Cell("code", "print(1)")
    for complete in (True, False):
        notebook = build.built("01_topic", [title, code], complete=complete)
        assert [cell.id for cell in notebook.cells] == ["01-c000", "01-badge", "01-colab", "01-c001"]
        nbformat.validate(notebook)
    assert "github/somebody/course/blob/main/notebooks/01_topic.ipynb" in notebook.cells[1].source
    exec(notebook.cells[2].source, {})
    assert capsys.readouterr().out == "" and "google.colab" not in sys.modules


# --- a notebook on another model ----------------------------------------------------------------------------


def test_the_constant_is_replaced_and_a_cell_that_stops_is_named(tmp_path, monkeypatch):
    cells = ['MODEL = "chat"\nprint(MODEL)', "raise ValueError('for a reason')", "print('going on')"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text, id=f"c{i}") for i, text in enumerate(cells)]
    )
    nbformat.write(notebook, tmp_path / "01_topic.ipynb")
    done = on_model.run(tmp_path / "01_topic.ipynb", "owner/name", tmp_path / "kept")
    assert done.problems == ["c1: ValueError: for a reason"] and (done.peak_gb or 0) < 1
    assert str(done).startswith("1 cells stopped, ")
    kept = nbformat.read(tmp_path / "kept" / "01_topic.ipynb", as_version=4)
    assert kept.cells[0].outputs[0].text == "owner/name\n" and kept.cells[2].outputs[0].text == "going on\n"


def test_a_notebook_with_two_constants_or_none_is_refused(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")]), tmp_path / "01_topic.ipynb")
    assert on_model.run(tmp_path / "01_topic.ipynb", "owner/name", None).problems == [
        "MODEL stands in 0 places, one is needed"
    ]
