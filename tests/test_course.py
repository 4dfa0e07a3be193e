"""The set-up script: what it refuses, what it installs in which order, that it is quiet the second time."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import course

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """A copy of the project's lock in an empty folder; every command is noted instead of run."""
    (tmp_path / "requirements.lock").write_text("# a lock\ntorch==1.2.3\nnumpy==4.5.6\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    monkeypatch.setattr(course, "ROOT", str(tmp_path))
    monkeypatch.setattr(course, "LOCK", str(tmp_path / "requirements.lock"))
    monkeypatch.setattr(course, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(course, "STAMP", str(tmp_path / ".venv" / "installed.txt"))
    monkeypatch.setenv("COURSE_TORCH_INDEX", "")
    calls = []
    statuses = {}

    def call(command, **_):
        calls.append(command)
        status = statuses.get(len(calls), 0)
        if isinstance(status, BaseException):
            raise status
        return status

    def make_venv():
        python = Path(course.venv_python())
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()

    class Process:
        def __init__(self, command, **_):
            calls.append(command)

        def wait(self):
            return 0

    monkeypatch.setattr(course.subprocess, "call", call)
    monkeypatch.setattr(course.subprocess, "Popen", Process)
    monkeypatch.setattr(course, "make_venv", make_venv)
    return tmp_path, calls, statuses


def test_torch_is_installed_before_the_rest_and_the_library_last(sandbox):
    root, calls, _ = sandbox
    course.set_up()
    assert [command[-1] for command in calls] == ["torch==1.2.3", str(root / "requirements.lock"), str(root)]


@pytest.mark.parametrize("status, asked", [(0, 3), (1, 4)], ids=["had", "not had"])
def test_without_a_gpu_torch_comes_without_cuda_if_it_can_be_had(sandbox, monkeypatch, capsys, status, asked):
    _, calls, statuses = sandbox
    monkeypatch.setattr(course.sys, "platform", "linux")
    monkeypatch.setattr(course, "has_nvidia", lambda: False)
    monkeypatch.delenv("COURSE_TORCH_INDEX")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    statuses[1] = status
    course.set_up()
    assert calls[0][-3:] == ["--index-url", course.CPU_INDEX, "torch==1.2.3"] and "--no-deps" in calls[0]
    assert len(calls) == asked and ("several GB, and slower" in capsys.readouterr().out) == bool(status)


@pytest.mark.parametrize("why", ["a GPU", "a lab's own mirror", "another system"])
def test_torch_comes_from_the_ordinary_index_where_there_is(sandbox, monkeypatch, why):
    _, calls, _ = sandbox
    monkeypatch.setattr(course.sys, "platform", "darwin" if why == "another system" else "linux")
    monkeypatch.setattr(course, "has_nvidia", lambda: why == "a GPU")
    monkeypatch.delenv("COURSE_TORCH_INDEX")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    if why == "a lab's own mirror":
        monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    course.set_up()
    assert len(calls) == 3 and "--index-url" not in calls[0]


def test_a_folder_that_cannot_be_written_to_is_said(sandbox, monkeypatch, capsys):
    def refuse():
        raise PermissionError(13, "Permission denied", "installed.txt")

    monkeypatch.setattr(course, "set_up", refuse)
    assert course.main(["open"]) == 1 and "cannot be written to" in capsys.readouterr().out


def test_the_second_time_installs_nothing(sandbox, capsys):
    _, calls, _ = sandbox
    course.set_up()
    calls.clear()
    course.set_up()
    assert calls == [] and "Everything is installed" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_is_installed(sandbox, changed):
    root, calls, _ = sandbox
    course.set_up()
    calls.clear()
    (root / changed).write_text("torch==1.2.4\n", encoding="utf-8")
    course.set_up()
    assert len(calls) == 3


def test_line_endings_of_another_system_are_no_change(sandbox):
    root, calls, _ = sandbox
    course.set_up()
    calls.clear()
    lock = root / "requirements.lock"
    lock.write_bytes(lock.read_bytes().replace(b"\n", b"\r\n"))
    course.set_up()
    assert calls == []


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_interrupted_installation_is_taken_up_again(sandbox, step, capsys, monkeypatch):
    _, calls, statuses = sandbox
    monkeypatch.setattr(course, "refuse_unfit_python", lambda: None)
    statuses[step] = KeyboardInterrupt()
    assert course.main(["test"]) == 130
    assert not os.path.exists(course.STAMP)
    assert "Run the same command again" in capsys.readouterr().out
    calls.clear()
    statuses.clear()
    assert course.main(["test"]) == 0
    assert len(calls) == 4 and os.path.exists(course.STAMP)


def test_an_interrupted_upgrade_does_not_pass_for_the_old_installation(sandbox):
    root, _, statuses = sandbox
    course.set_up()
    old = (root / "requirements.lock").read_text(encoding="utf-8")
    (root / "requirements.lock").write_text(old.replace("4.5.6", "7.8.9"), encoding="utf-8")
    statuses[5] = 1
    with pytest.raises(course.SetupError):
        course.set_up()
    (root / "requirements.lock").write_text(old, encoding="utf-8")
    assert course.installed() is None


def test_a_damaged_stamp_counts_as_not_installed(sandbox):
    course.set_up()
    Path(course.STAMP).write_bytes(b"\xff\xfe\x00")
    assert course.installed() is None


def test_a_failing_pip_ends_with_advice_and_no_stamp(sandbox, capsys, monkeypatch):
    _, calls, statuses = sandbox
    monkeypatch.setattr(course, "refuse_unfit_python", lambda: None)
    statuses[2] = 1
    assert course.main(["open"]) == 1
    out = capsys.readouterr().out
    assert "pip stopped with status 1" in out and "proxy" in out and "run the same command again" in out
    assert len(calls) == 2 and not os.path.exists(course.STAMP)


def test_a_full_disk_is_named(sandbox, monkeypatch, capsys):
    _, calls, statuses = sandbox
    free = [20e9]
    monkeypatch.setattr(course.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free[0]}))
    statuses[1] = 1
    free[0] = 1e9
    with pytest.raises(course.SetupError, match=r"Only 1.0 GB are free"):
        course.set_up()
    assert calls == []
    Path(course.VENV).mkdir()
    free[0] = 1e8
    with pytest.raises(course.SetupError, match="The disk is full"):
        course.set_up()


def test_pip_keeps_its_own_settings(sandbox, monkeypatch):
    seen = []
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setattr(course.subprocess, "call", lambda _, env, **__: seen.append(env) or 0)
    course.set_up()
    assert all(env["PIP_INDEX_URL"] == "https://mirror.example/simple" for env in seen) and len(seen) == 3


def test_open_hands_its_options_to_jupyterlab(sandbox):
    root, calls, _ = sandbox
    assert course.main(["open", "--no-browser", "--port", "8890"]) == 0
    command = calls[-1]
    assert command[1:3] == ["-m", "jupyterlab"] and command[-3:] == ["--no-browser", "--port", "8890"]
    assert f"--ServerApp.root_dir={root}" in command
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in command


def test_test_hands_its_options_to_pytest(sandbox):
    _, calls, _ = sandbox
    assert course.main(["test", "-k", "steering"]) == 0
    assert calls[-1][1:] == [
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "-k",
        "steering",
    ]


def test_site_hands_on_a_folder_that_is_named_from_where_the_command_was_given(sandbox, tmp_path, monkeypatch):
    root, calls, _ = sandbox
    monkeypatch.chdir(tmp_path)
    assert course.main(["site", "--out", "pages"]) == 0
    assert calls[-1][1:] == ["-m", "tools.site", "--out", str(tmp_path / "pages")]
    assert course.main(["site"]) == 0
    assert calls[-1][-1] == str(Path(root) / "site")


@pytest.mark.parametrize("arguments, status", [([], 0), (["help"], 0), (["open", "--help"], 0), (["opne"], 2)])
def test_help_is_shown_for_help_and_for_unknown_commands(arguments, status, capsys):
    assert course.main(arguments) == status
    out = capsys.readouterr().out
    assert "course.py open" in out and ("no command" in out) == (status == 2)


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10), (3, 15)])
def test_an_unfit_python_is_refused_with_the_way_on(version):
    with pytest.raises(course.SetupError, match=r"needs Python 3\.11 or newer.*\n.*python\.org"):
        course.refuse_unfit_python(version)


def test_a_32_bit_python_is_refused():
    with pytest.raises(course.SetupError, match="64-bit"):
        course.refuse_unfit_python(bits=32)


def test_an_intel_mac_is_refused(monkeypatch):
    monkeypatch.setattr(course.sys, "platform", "darwin")
    monkeypatch.setattr(course.platform, "machine", lambda: "x86_64")
    with pytest.raises(course.SetupError, match="Intel"):
        course.refuse_unfit_python()


def test_an_old_python_can_read_the_script():
    ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(course, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(course.SetupError, match=r"apt install python3\.\d+-venv"):
        course.make_venv()


def test_a_broken_environment_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(course, "VENV", str(tmp_path / ".venv"))
    python = Path(course.venv_python())
    python.parent.mkdir(parents=True)
    python.write_text("not a program", encoding="utf-8")
    made = []
    monkeypatch.setattr("venv.EnvBuilder.create", lambda self, where: made.append((self.clear, where)))
    course.make_venv()
    assert made == [(True, course.VENV)]


def test_the_script_needs_only_the_standard_library_and_runs_from_anywhere(tmp_path):
    command = [sys.executable, "-I", "-S", str(ROOT / "course.py"), "help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "course.py test" in done.stdout
    assert course.ROOT == str(ROOT)
