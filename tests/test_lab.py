"""Marks for a class: every notebook of a hostile class gets the mark that it earns, and nothing gets out of its child."""

import ast
import csv
import http.server
import json
import mmap
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import asdict
from pathlib import Path

import nbformat
import psutil
import pytest

import lab.learner  # noqa: F401  (as in the stage: a child that is shut off cannot read it any more)
from examination import handing_in
from lab import __main__ as command
from lab import isolation, judging, marking, material, nbgrader, reading, reports, stage, wire

ROOT = Path(__file__).resolve().parents[1]
WHY_NOT = isolation.why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"children cannot be shut off here: {WHY_NOT}")
SECONDS = 2
LEARNERS, COMPLETE = (ROOT / folder / "00_start_here.ipynb" for folder in ("notebooks", "solutions"))
HEAD = "# === Exercise 0.4 (keep this line) ===\n"
RIGHT = "    mean = others.mean(dim=0)\n    return directions.cosine(a - mean, b - mean)\n"
ESCAPE = "raise RuntimeError('ESCAPED ' + str({}))"


def function(body, *, before="", right=True):
    """The cell of 0.4: `before`, then a function with this body, then what is right."""
    text = "".join(f"    {line}\n" for line in body.split("\n") if line.strip())
    return f"{HEAD}{before}\ndef centred_cosine(a, b, others):\n{text}{RIGHT if right else ''}"


def contained(attempt, *, names="OSError"):
    """A right answer that first tries to get out, and is wrong if that works."""
    lines = "\n".join("    " + line for line in attempt.split("\n"))
    return function(f"try:\n{lines}\nexcept ({names}):\n    pass\nelse:\n    raise RuntimeError('ESCAPED')")


def searched(attempt):
    """A right answer that first looks for something, and is wrong if it finds it: `found` has to stay empty."""
    return function(attempt + "\nif found:\n    " + ESCAPE.format("found"))


# What a learner writes into the cell of 0.4, and what comes of it.
ANSWERS = {
    "plainly right": (function(""), "done"),
    "a syntax error": (HEAD + "def centred_cosine(a, b, others:\n    return 1\n", "wrong"),
    "a loop in the cell": (function("", before="while True:\n    pass"), "timeout"),
    "a loop in the function": (function("while True:\n    pass"), "timeout"),
    "a loop that will not be stopped": (
        function(
            "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
            before="import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n    except Exception:\n        pass",
        ),
        "timeout",
    ),
    "a sleeper": (function("import time\ntime.sleep(3)"), "timeout"),
    "memory at once": (function("x = bytearray(1 << 42)"), "wrong"),
    "memory bit by bit": (function("x = []\nwhile True:\n    x.append(torch.ones(1 << 24))"), "wrong or timeout"),
    "a fork bomb": (contained("import os\nfor n in range(1000):\n    os.fork()"), "done"),
    "a fork by the system call": (
        searched("import ctypes\nlibc = ctypes.CDLL(None)\nfound = [n for n in (57, 58) if libc.syscall(n) >= 0]"),
        "done",
    ),
    "another program": (contained("import subprocess\nsubprocess.run(['/bin/true'])"), "done"),
    "execve": (contained("import os\nos.execv('/usr/bin/env', ['env'])"), "done"),
    "a thread bomb": (
        function(
            "import threading, time\ntry:\n    for n in range(5000):\n"
            "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nexcept RuntimeError:\n    pass"
        ),
        "done",
    ),
    "os._exit": (function("import os\nos._exit(0)"), "crash"),
    "sys.exit": (function("import sys\nsys.exit(0)"), "wrong"),
    "StopIteration": (function("raise StopIteration"), "wrong"),
    "threads with small stacks": (
        function(
            "n = 0\ntry:\n    while n < 5000:\n        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n        n += 1\n"
            "except RuntimeError:\n    pass\nassert n < 300",
            before="import threading, time\nthreading.stack_size(32768)",
        ),
        "done",
    ),
    "files without end": (contained("for n in range(100000):\n    open(f'/tmp/{n}', 'w').close()"), "done"),
    "memory that is a file": (contained("import os\nos.memfd_create('x')"), "done"),
    "its own leash": (searched("import ctypes\nfound = [] if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) else [1]"), "done"),
    "larger limits": (
        contained(
            "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9999, 9999))", names="OSError, ValueError"
        ),
        "done",
    ),
    "a patched pipe": (
        function(
            "return 7.0",
            before="import lab.wire as w\nw.Writer.plain = lambda s, v: {'d': [['value', {'O': 'float'}]]}",
            right=False,
        ),
        "wrong",
    ),
    "another model": (
        function(
            "if not loaded:\n    loaded.append(models.load('chat-32'))\nloaded[0].run_with_cache(torch.tensor([[1, 2, 3]]))",
            before="loaded = []",
        ),
        "done",
    ),
    "a temporary file": (
        function("import tempfile\nwith tempfile.TemporaryFile() as stream:\n    stream.write(b'x')"),
        "done",
    ),
    "what a course has": (
        function(
            "calls.append(1)\nif len(calls) == 1:\n    import asyncio, concurrent.futures\n    from sklearn.decomposition import PCA\n"
            "    PCA(1).fit(others.numpy())\n    data.load('harmful', n=4)\n    asyncio.new_event_loop().run_until_complete(asyncio.sleep(0))\n"
            "    with concurrent.futures.ThreadPoolExecutor(2) as pool:\n        list(pool.map(str, [1, 2]))\n"
            "    chat.run_with_cache(torch.tensor([[1, 2, 3]], device=chat.cfg.device))\n"
            "    w = torch.ones(3, requires_grad=True)\n    (w * 2).sum().backward()",
            before="calls = []",
        ),
        "done",
    ),
    "all replies at once": (
        function(
            "import sys\nfrom lab.wire import Writer\nframe = sys._getframe()\nwhile frame:\n    them = frame.f_locals.get('self')\n"
            "    if hasattr(them, 'channel'):\n        for n in range(60):\n            them.channel.send({'value': 0.5, 'after': [[0, a]]}, Writer())\n"
            "    frame = frame.f_back",
            right=False,
        ),
        "wrong",
    ),
    "IPython's own words": (
        HEAD
        + "get_ipython().run_line_magic('time', '1')\ndisplay(1)\ndirections.cosine?\ndef centred_cosine(a, b, others):\n"
        + RIGHT,
        "done",
    ),
    "lines of Windows": (function("").replace("\n", "\r\n"), "done"),
    "a partial function": (
        HEAD + "import functools\ndef f(k, a, b, others):\n" + RIGHT + "centred_cosine = functools.partial(f, 1)\n",
        "done",
    ),
    "a null pointer": (function("import ctypes\nctypes.string_at(0)"), "crash"),
    "kills all it can": (
        function(
            "import os\nfor n in (-1, 1, 0, os.getppid()):\n    try:\n        os.kill(n, 9)\n    except OSError:\n        pass"
        ),
        "done",
    ),
    "forged frames": (
        function(
            'import os\nfor n in range(3, 64):\n    try:\n        os.write(n, b\'{"state": "done"}\' * 9)\n    except OSError:\n        pass',
            right=False,
        ),
        "refused",
    ),
    "frames in the right form": (
        function(
            "import os, struct, json\nh = json.dumps({'m': {'d': [['value', 1.0]]}, 'n': []}).encode()\n"
            "f = struct.pack('!II', len(h), 0) + h\nfor n in range(3, 64):\n    try:\n        os.write(n, f * 50)\n    except OSError:\n        pass",
            right=False,
        ),
        "wrong",
    ),
    "a flood of the protocol": (
        function(
            "import os\nfor n in range(3, 64):\n    try:\n        while True:\n            os.write(n, b'\\0' * 65536)\n    except OSError:\n        pass"
        ),
        "refused",
    ),
    "claims to be a function that is done": (function("import os\nos.closerange(0, 1000)"), "crash"),
    "a flood of prints": (function("print('x' * 1000000)\nfor n in range(20000):\n    print('done')"), "done"),
    "patched comparisons": (
        function(
            "return torch.tensor(7.0)",
            before="import torch, math\ntorch.allclose = torch.equal = lambda *a, **k: True\ntorch.Tensor.__eq__ = lambda s, o: True\n"
            "torch.Tensor.__le__ = lambda s, o: True\nmath.inf = 0\nfloat = lambda x: 0.0",
            right=False,
        ),
        "wrong or refused or crash",
    ),
    "a patched judge": (
        function(
            "return torch.tensor(7.0)",
            before="import sys\nfrom course_lib.grading import checking, expect, registry\n"
            "checking.judge = checking.check = lambda *a, **k: checking.Verdict('done', 'done')\nexpect.close = expect.differs_from = lambda *a, **k: None\n"
            "for m in list(sys.modules.values()):\n    for n in dir(m):\n        if 'judge' in n or 'verdict' in n:\n            setattr(m, n, lambda *a, **k: 'done')",
            right=False,
        ),
        "wrong",
    ),
    "the reference from the library": (
        function(
            "", before="from course_lib.grading.checking import reference\ncentred = reference('0.4', (), {})"
        ).replace(RIGHT, "    return centred(a, b, others)\n"),
        "wrong",
    ),
    "the bank": (function("from chapters import bank\n", right=True), "wrong"),
    "checkpoint": (HEAD + "from chapters import checkpoint\ncentred_cosine = checkpoint('0.4', ...)\n", "refused"),
    "the solution from disk": (
        HEAD + "import json\nfor c in json.load(open('../solutions/00_start_here.ipynb'))['cells']:\n"
        "    if 'def centred_cosine' in ''.join(c['source']):\n        exec(''.join(c['source']))\n",
        "wrong",
    ),
    "walks the disk": (
        searched(
            "import os\nfound = []\nfor at, folders, files in os.walk('/', followlinks=False):\n"
            "    folders[:] = [f for f in folders if f not in ('usr', 'site-packages', 'include') and not f.startswith('python3')]\n"
            "    found += [f for f in files if f in ('references.json', 'exercises.py', 'answers.py') or f.endswith('.ipynb')]"
        ),
        "done",
    ),
    "other processes": (
        contained(
            "import os\nassert any(n.isdigit() or n == 'self' for n in os.listdir('/proc'))", names="AssertionError"
        ),
        "done",
    ),
    "the parent's memory": (contained("import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')"), "done"),
    "traces its parent": (
        searched(
            "import ctypes, os\nfound = [n for n in (1, os.getppid()) if ctypes.CDLL(None).ptrace(16, n, 0, 0) == 0]"
        ),
        "done",
    ),
    "new namespaces": (
        searched("import ctypes\nfound = [1] if ctypes.CDLL(None).unshare(0x10000000) == 0 else []"),
        "done",
    ),
    "mounts": (
        searched(
            "import ctypes\nfound = [1] if ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0 else []"
        ),
        "done",
    ),
    "the environment": (
        searched("import os\nfound = [k for k in os.environ if 'SECRET' in k or k == 'LAB_TEST']"),
        "done",
    ),
    "its own stack": (
        searched(
            "import sys\nfound, frame = [], sys._getframe()\nwhile frame:\n"
            "    found += [k for k in {**frame.f_locals, **frame.f_globals} if k in ('truth', 'references', 'EXERCISE', 'N_INPUTS', 'worked')]\n"
            "    frame = frame.f_back"
        ),
        "done",
    ),
    "all objects in memory": (
        function(
            "me = centred_cosine.__code__\nfound = [f for f in functions if f.__name__ == 'centred_cosine' and f.__code__ is not me]\nif found:\n    "
            + ESCAPE.format("found"),
            before="import gc, types\ngc.unfreeze()\nfunctions = [f for f in gc.get_objects() if isinstance(f, types.FunctionType)]",
        ),
        "done",
    ),
    "all texts in memory": (
        function(
            "if found:\n    " + ESCAPE.format("found"),
            before="import gc\ngc.unfreeze()\npart = ''.join(['directions.cosine', '(a - mean'])\nfound = [s for d in gc.get_objects() if type(d) in (dict, list, tuple)\n"
            "    and len(d) < 400 for s in (d.values() if type(d) is dict else d) if type(s) is str and part in s and s is not part and 'gc.get' not in s]",
        ),
        "done",
    ),
    "files of others": (contained("open('/etc/passwd')\nopen('{outside}/written', 'w')"), "done"),
    "writes everywhere": (
        searched(
            "import os\nfound = []\nfor at in ('/', '/usr', os.path.dirname(directions.__file__), '{outside}', '/root', '/home', '/dev', '/dev/shm', '/etc'):\n"
            "    try:\n        open(os.path.join(at, 'escaped'), 'w').close()\n        found.append(at)\n    except OSError:\n        pass"
        ),
        "done",
    ),
    "fills its disk": (
        function(
            "try:\n    for n in range(200):\n        open(f'/tmp/{n}', 'wb').write(b'x' * (8 << 20))\nexcept OSError:\n    pass"
        ),
        "done",
    ),
    "the network": (contained("import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1)"), "done"),
    "a request": (
        contained("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/', timeout=1)"),
        "done",
    ),
    "equal to everything": (
        function(
            "return Same()",
            before="class Same:\n    shape = ()\n    requires_grad = False\n    def __eq__(self, other):\n        return True\n"
            "    def __float__(self):\n        return 0.0\n    def __sub__(self, other):\n        return 0.0\n    __rsub__ = __sub__\n    __hash__ = None",
            right=False,
        ),
        "wrong",
    ),
    "a tensor of its own kind": (
        function(
            "return torch.zeros(()).as_subclass(Sly)",
            before="class Sly(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, f, types, args=(), kwargs=None):\n        return torch.tensor(0.0)",
            right=False,
        ),
        "wrong",
    ),
    "a float of its own kind": (
        function(
            "return Sly(7.0)",
            before="class Sly(float):\n    def __eq__(self, o):\n        return True\n    def __float__(self):\n        return 0.0\n    __hash__ = None",
            right=False,
        ),
        "wrong",
    ),
    "NaN": (function("return torch.tensor(float('nan'))", right=False), "wrong"),
    "infinite": (function("return float('inf')", right=False), "wrong"),
    "a huge expanded tensor": (function("return torch.zeros(1).expand(10**12)", right=False), "wrong"),
    "a huge number": (function("return 10**200000", right=False), "wrong"),
    "nested deep": (function("x = []\nfor n in range(100000):\n    x = [x]\nreturn x", right=False), "wrong"),
    "a list in itself": (function("x = []\nx.append(x)\nreturn x", right=False), "wrong"),
    "a huge list": (function("return [0.5] * 2 * 10**6", right=False), "wrong"),
    "an object that unpickles to a program": (
        function(
            "return Evil()",
            before="class Evil:\n    def __reduce__(self):\n        return (exec, ('import os; os._exit(1)',))",
            right=False,
        ),
        "wrong",
    ),
    "a type named like a tag": (function("return type('<script>', (), {})()", right=False), "wrong"),
    "an exception that cannot be shown": (
        function("raise E", before="class E(Exception):\n    def __str__(self):\n        raise self"),
        "wrong",
    ),
    "raises the course's own verdict": (
        function(
            "raise Wrong('it is right', 'go on')", before="from course_lib.grading.registry import Wrong", right=False
        ),
        "wrong",
    ),
    "changes its inputs": (
        function("a -= others.mean(dim=0)\nreturn directions.cosine(a, b - others.mean(dim=0))", right=False),
        "wrong",
    ),
    "leaves a thread": (
        function("import threading\nthreading.Thread(target=lambda: __import__('time').sleep(99)).start()"),
        "done",
    ),
    "poisons what all use": (
        function(
            "return torch.tensor(7.0)",
            before="import json, builtins, struct\njson.dumps = lambda *a, **k: '{}'\nbuiltins.len = lambda x: 0",
            right=False,
        ),
        "refused",
    ),
    "no modules left": (
        function("import sys\nsys.modules.clear()"),
        "done" if sys.version_info < (3, 12) else "done or crash or wrong",  # what Python itself imports late
    ),
    "right only twice": (
        function("calls.append(1)\nif len(calls) > 2:\n    return torch.tensor(0.0)", before="calls = []"),
        "wrong",
    ),
    "right but for fresh inputs": (
        function("calls.append(1)\nif len(calls) > 21:\n    return torch.tensor(0.0)", before="calls = []"),
        "wrong",
    ),
    "a signalling NaN": (HEAD + "from decimal import Decimal\ncentred_cosine = Decimal('sNaN')\n", "wrong"),
    "a fraction too large": (HEAD + "from fractions import Fraction\ncentred_cosine = Fraction(10**400)\n", "wrong"),
    "questions beside a magic": (
        function(
            '"""Cosine after centring: alike?\n"""\nm = 0  # rows, not columns?', before="%time x = 1\ndirections?"
        ),
        "done",
    ),
    "a constant": (function("return 0.5", right=False), "wrong"),
    "a near miss": (
        function("return -directions.cosine(a - others.mean(dim=0), b - others.mean(dim=0))", right=False),
        "wrong",
    ),
    "True for a number": (function("return True", right=False), "wrong"),
    "asks at the keyboard": (function("return float(input('?'))", right=False), "wrong"),
    "a debugger": (function("breakpoint()", right=True), "wrong"),
    "magics and shells": (function("", before="%time x = 1\n!pip install cheat\n%matplotlib inline"), "done"),
    "a numpy number": (
        function(
            "import numpy\nm = others.mean(dim=0)\nreturn numpy.float64(directions.cosine(a - m, b - m))", right=False
        ),
        "done",
    ),
    "a formula and a tag": (function("raise ValueError('=cmd|calc <script>alert(1)</script> \\x1b[31m')"), "wrong"),
    "a marker with spaces": (
        function("").replace("# === Exercise 0.4 (keep this line) ===", "#  ===Exercise 0.4"),
        "done",
    ),
    "check in the cell": (
        function("") + "\ncheck('0.4', centred_cosine)\ncentred_cosine = checkpoint('0.4', centred_cosine)\n",
        "done",
    ),
    "all names at once": (function("", before="from course_lib.directions import *"), "done"),
    "a print that fails after the function": (function("") + "\nprint(1 / 0)\n", "done"),
    "a class instead": (
        function("", right=False)[:-1].replace("def centred_cosine(a, b, others):", "")
        + "class Cosine:\n    def __call__(self, a, b, others):\n        m = others.mean(dim=0)\n        return directions.cosine(a - m, b - m)\n"
        "centred_cosine = Cosine()\n",
        "done",
    ),
}
del ANSWERS["the bank"]


def notebook(path=LEARNERS):
    return json.loads(path.read_text(encoding="utf-8"))


def with_answer(source, made=None, cell="00-exercise-0-4"):
    made = made or notebook()
    next(c for c in made["cells"] if c["id"] == cell)["source"] = source
    return made


def as_colab(made):
    """What Colab makes of a file: ids in the metadata, other metadata, no language, one string a cell."""
    for cell in made["cells"]:
        cell["metadata"] = {"id": "aB3" + cell.pop("id")[-3:], "colab": {"base_uri": "https://localhost:8080/"}}
        cell["source"] = "".join(cell["source"])
    made["metadata"] = {"colab": {"provenance": []}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return made | {"nbformat_minor": 0}


def as_vs_code(made):
    """What VS Code makes of a file: ids of its own, a language in each cell's metadata."""
    for n, cell in enumerate(made["cells"]):
        cell["id"], cell["metadata"] = f"{n:08x}", {"vscode": {"languageId": "python"}}
    return made


def without_marker(made):
    for cell in made["cells"]:
        lines = "".join(cell["source"]).split("\n")
        cell["source"] = "\n".join(line for line in lines if "keep this line" not in line)
    return made


def with_cells(made, *sources, at=1):
    for source in sources:
        made["cells"].insert(
            at,
            {"cell_type": "code", "id": f"own-{len(made['cells'])}", "metadata": {}, "outputs": [], "source": source},
        )
    return made


def pasted():
    """The learner's cells with the outputs of the solution, and a record of success."""
    made, solved = notebook(), notebook(COMPLETE)
    for cell, other in zip(made["cells"], solved["cells"], strict=True):
        if cell["cell_type"] == "code":
            cell["outputs"] = other["outputs"]
    record = 'open(".progress/00.jsonl", "a").write(\'{"what": "check", "item": "0.4", "passed": true}\\n\')'
    return with_cells(
        made, record, "progress = lambda n: print('all done')", "import os; os.makedirs('.progress', exist_ok=True)"
    )


def duplicated():
    made = with_answer(function("return 0.0", right=False))
    made["cells"].append(dict(made["cells"][-1], id="copy", cell_type="code", source=function("")))
    return with_cells(made, "".join(notebook()["cells"][3]["source"]), at=len(made["cells"]))


def reordered():
    made = with_answer(function(""))
    made["cells"].reverse()
    return made


def setup_edited():
    made = with_answer(function(""))
    made["cells"][1]["source"] = "raise SystemExit('nothing runs')"
    return made


def helpers():
    made = with_answer(
        f"{HEAD}def centred_cosine(a, b, others):\n    return minus(a, others) @ minus(b, others) * ONE[0]\n"
    )
    made = with_answer(
        "# === Exercise 0.3 (keep this line) ===\nimport torch.nn.functional as F\ndef resid_post(cache, layer):\n    return 0\n"
        "def minus(x, others):\n    return unit_of(x - others.mean(dim=0))\n",
        made,
        "00-exercise-0-3",
    )
    return with_cells(
        made,
        "raise ValueError('an experiment that failed')",
        "ONE = []\nONE.append(1)\ndef unit_of(x):\n    return F.normalize(x, dim=0)",
    )


def marker_swapped():
    return with_answer(function("").replace("0.4", "0.3", 1))


# Whole notebooks: what was handed in, and what comes of 0.1 to 0.4.
OPEN = ["open"] * 4
NOTEBOOKS = {
    "untouched": (notebook, OPEN),
    "complete": (lambda: notebook(COMPLETE), ["done"] * 4),
    "complete by colab": (lambda: as_colab(notebook(COMPLETE)), ["done"] * 4),
    "complete by vs code": (lambda: as_vs_code(notebook(COMPLETE)), ["done"] * 4),
    "half": (
        lambda: with_answer(
            "# === Exercise 0.2 (keep this line) ===\nhook_name = 'blocks.3.hook_resid_pre'", cell="00-exercise-0-2"
        ),
        ["open", "done", "open", "open"],
    ),
    "pasted outputs": (pasted, OPEN),
    "duplicated": (duplicated, ["open"] * 3 + ["done"]),
    "without markers": (lambda: without_marker(with_answer(function(""))), ["open"] * 3 + ["done"]),
    "without markers by colab": (lambda: as_colab(without_marker(notebook(COMPLETE))), ["done"] * 4),
    "reordered": (reordered, ["open"] * 3 + ["done"]),
    "set-up edited": (setup_edited, ["open"] * 3 + ["done"]),
    "helpers": (helpers, ["open", "open", "wrong", "done"]),
    "another's marker": (marker_swapped, ["open"] * 3 + ["done"]),
    "Ünïcödé 名前": (lambda: with_answer(function("ж = 'é\\ud83d'")), ["open"] * 3 + ["done"]),
    "a stub and a later cell": (
        lambda: with_cells(notebook(), function("").removeprefix(HEAD), at=len(notebook()["cells"])),
        OPEN,
    ),
    "=1+cmd": (lambda: notebook(COMPLETE), ["done"] * 4),
}
FILES = {
    "not json": b"{'cells': ",
    "empty": b"",
    "deep": b"[" * 100_000,
    "binary": bytes(range(256)) * 10,
    "wrong types": json.dumps(
        {"cells": [1, {"cell_type": "code", "source": 5}, {"cell_type": "code", "source": [1, None]}]}
    ).encode(),
    "a list": b"[]",
    "no cells": b'{"nbformat": 4}',
    "format 3": b'{"worksheets": [{"cells": []}]}',
    "another notebook": json.dumps({"cells": [{"cell_type": "code", "source": "print(1)", "metadata": {}}]}).encode(),
}


@pytest.fixture(scope="module")
def server():
    """A server on this machine that no answer may reach."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    made.seen = 0
    made.process_request = lambda *_: setattr(made, "seen", made.seen + 1)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()


def survivors(home):
    """The processes that still run in the home that a marking gave them."""
    return [p for p in psutil.process_iter(["environ"]) if str(home) in (p.info["environ"] or {}).get("HOME", "")]


@pytest.fixture(scope="module")
def marked(tmp_path_factory, server):
    """A hostile class, marked once: learner -> marks; and where its reports are."""
    folder = tmp_path_factory.mktemp("class")
    outside = tmp_path_factory.mktemp("outside")
    for name, (source, _) in ANSWERS.items():
        source = source.replace("{outside}", str(outside)).replace("{port}", str(server.server_address[1]))
        (folder / f"{name}.ipynb").write_text(json.dumps(with_answer(source)), encoding="utf-8")
    for name, (make, _) in NOTEBOOKS.items():
        (folder / name).mkdir()
        (folder / name / "my work (1).ipynb").write_text(json.dumps(make()), encoding="utf-8")
    for name, raw in FILES.items():
        (folder / f"{name}.ipynb").write_bytes(raw)
    (folder / "a link.ipynb").symlink_to("/etc/passwd")
    (folder / "too large.ipynb").touch()
    os.truncate(folder / "too large.ipynb", 100_000_000)
    os.mkfifo(folder / "a pipe.ipynb")
    out = tmp_path_factory.mktemp("marks")
    scratch = tmp_path_factory.mktemp("scratch")
    tempfile.tempdir = str(scratch)
    os.environ["LAB_TEST"] = os.environ["COURSE_EXAM_SECRET_TEST"] = "a teacher's own"
    try:
        call = [
            str(folder),
            "--out",
            str(out),
            "--jobs",
            "2",
            "--seed",
            "7",
            "--seconds",
            str(SECONDS),
            "--lms",
            "canvas",
        ]
        assert command.main(call) == 0
    finally:
        tempfile.tempdir = None
        del os.environ["LAB_TEST"], os.environ["COURSE_EXAM_SECRET_TEST"]
    left = [*survivors(scratch), *scratch.iterdir()]
    results = (out / ".lab" / "00.jsonl").read_text(encoding="utf-8").splitlines()
    unsure = {row["key"]: row for row in map(json.loads, results) if row["state"] == "regrade"}
    assert not unsure, f"to be marked again: {list(unsure.values())}"
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / ".lab" / "00.jsonl").open("a").write('{"key": "cut o')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marking, "Run", None)  # what was judged is not run again
        limits = isolation.Limits(cpu_s=float(SECONDS), wall_s=4.5 * SECONDS)
        made = marking.grade(folder, marking.Options(out, seed=7, limits=limits), lambda text: None)
    reports.write(made, out, "canvas")
    changed = [path.name for path, was in first.items() if path.suffix != ".jsonl" and path.read_bytes() != was]
    shutil.rmtree(folder)
    return {m.submission.learner: m for m in made}, out, outside, left, changed


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_gets_the_mark_that_it_earns(marked, name):
    mark = marked[0][name].marks["0.4"]
    assert mark.state in ANSWERS[name][1].split(" or "), mark.message


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_answers_are_found_wherever_they_stand(marked, name):
    assert [mark.state for mark in marked[0][name].marks.values()] == NOTEBOOKS[name][1]


@pytest.mark.parametrize("name", [*FILES, "a link", "too large", "a pipe"])
def test_a_file_that_is_no_notebook_has_a_reason_and_no_mark(marked, name):
    assert marked[0][name].submission.problem and marked[0][name].points is None


def test_a_file_is_read_in_a_process_that_is_large_already(tmp_path):
    """As where torch and Chromium were loaded before: what is inherited is not the file's."""
    (tmp_path / "anna.ipynb").write_text(json.dumps(with_answer(function(""))), encoding="utf-8")
    with mmap.mmap(-1, 3 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        read = reading.read_safely("anna", tmp_path / "anna.ipynb", tmp_path, None)
    assert not read.problem and list(read.answers) == ["0.4"]


def test_nothing_gets_out_and_nothing_is_left(marked, server):
    _, _, outside, left, _ = marked
    assert not list(outside.iterdir()) and not left and server.seen == 0


def test_tricks_are_named_for_the_teacher(marked):
    with (marked[1] / "marks.csv").open(encoding="utf-8") as stream:
        look = {row["learner"]: row["to look at"] for row in csv.DictReader(stream)}
    for name, word in {
        "checkpoint": "checkpoint",
        "a patched judge": "the checks",
        "the solution from disk": "complete notebooks",
        "duplicated": "2 cells",
        "a stub and a later cell": "0.4: a later cell",
        "all objects in memory": "memory",
    }.items():
        assert word in look[name], name
    assert not look["plainly right"]


def test_a_page_shows_what_a_learner_wrote_as_text(marked):
    page = (marked[1] / "feedback" / "a_formula_and_a_tag.html").read_text(encoding="utf-8")
    assert (
        "<script" not in page
        and "&lt;script&gt;" in page
        and "\x1b" not in page
        and "http" not in page.replace("http-equiv", "")
    )
    assert page.isprintable() or set(c for c in page if not c.isprintable()) == {"\n"}


def test_no_cell_of_a_table_is_a_formula(marked):
    for path in marked[1].glob("*.csv"):
        with path.open(encoding="utf-8") as stream:
            assert not [cell for row in csv.reader(stream) for cell in row if cell[:1] in ("=", "+", "-", "@")]


def test_the_summary_names_the_commonest_mistake(marked):
    with (marked[1] / "summary.csv").open(encoding="utf-8") as stream:
        row = next(row for row in csv.DictReader(stream) if row["item"] == "0.4")
    assert row["done"] and row["commonest mistake"] and int(row["of"]) == len(ANSWERS) + len(NOTEBOOKS)


def test_every_notebook_has_a_page_of_its_own():
    learners = ["a b", "a_b", "a_b-2", "A b", "\ufb01n", "fin", "ana", "two", "two"]
    made = [marking.Marked(reading.Submission(who, f"{who}/{n}.ipynb")) for n, who in enumerate(learners)]
    first = reports.page_names(made)
    taken = reading.Submission(first[0], "x")  # a learner who calls themselves what another's page was called
    second = reports.page_names([*made, marking.Marked(taken)])
    for names in (first, second):
        assert len({name.casefold() for name in names}) == len(names) and "ana" in names
    assert first == reports.page_names(made)


def test_a_learners_words_do_not_steer_the_terminal(tmp_path, monkeypatch, capsys):
    def grade(folder, how, say):
        say("notebook \x1b]0;owned\x07 00")
        mark = marking.Mark("wrong", "0.4 not right yet: ValueError: \x1b[2J\x9b31m\rdone")
        return [marking.Marked(reading.Submission("ana", "ana.ipynb", notebook="00"), {"0.4": mark})]

    (tmp_path / "in").mkdir()
    (tmp_path / "in-marks").mkdir()
    monkeypatch.setattr(marking, "grade", grade)
    assert command.main([str(tmp_path / "in")]) == 0
    said = capsys.readouterr().out
    assert "ValueError" in said and "owned" in said and said.replace("\n", "").isprintable()


# --- what is lost, and what is left ------------------------------------------------------------------------------------


@pytest.fixture
def order(tmp_path, monkeypatch):
    """An order of two answers whose judge hangs at the first, and what its bench needs."""
    run, home = judging.run, tmp_path / "run"
    home.mkdir()

    def hangs_at_the_first(bench, names, order, start=0, why=""):
        child = judging.Child(bench) if start < 2 else None
        if not start:
            time.sleep(600)
        run(bench, names, order | {"answers": order["answers"][:1]}, start, why)
        child.end()
        with Path(order["results"]).open("a") as stream:
            stream.write(json.dumps({"key": "second", "state": "done"}) + "\n")

    monkeypatch.setattr(judging, "run", hangs_at_the_first)
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    limits = asdict(isolation.Limits(2, 9))
    path = tmp_path / "order-0.json"
    (tmp_path / "results").touch()
    answers = [{"key": key, "source": "", "helpers": [], "name": "x"} for key in ("first", "second")]
    about = {"item": "0.4", "limits": limits, "results": str(tmp_path / "results"), "answers": answers}
    path.write_text(json.dumps(about))
    path.with_suffix(".limits").write_text(json.dumps({"limits": limits, "trust": False, "slot": 0, "answers": 2}))
    return path, tmp_path / "results"


def test_a_judge_that_hangs_costs_one_answer(order, monkeypatch):
    monkeypatch.setattr(stage, "_at_most", lambda limits: 0.5)
    stage.bench({}, str(order[0]))
    made = [json.loads(line) for line in order[1].read_text().split("\n") if line]
    assert [(each["key"], each["state"]) for each in made] == [("first", "timeout"), ("second", "done")]


def test_what_a_bench_began_ends_with_it(order):
    bench = forked(lambda: stage.bench({}, str(order[0])))
    mine = psutil.Process(bench)
    until = time.monotonic() + 30
    while len(begun := mine.children(recursive=True)) < 3 and time.monotonic() < until:  # judge, guard, learner's child
        time.sleep(0.05)
    stage._await(bench, 0)  # late: it is killed
    _, left = psutil.wait_procs(begun, timeout=10)
    assert len(begun) == 3 and not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]


def forked(work):
    if (child := os.fork()) == 0:
        status = 1
        try:
            status = work()
        finally:
            os._exit(status or 0)
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_marking_that_is_ended_leaves_nothing(tmp_path, monkeypatch, number):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ana.ipynb").write_text(json.dumps(with_answer(function(""))))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    marker = forked(lambda: command.main([str(tmp_path / "in"), "--seed", "7"]))
    until = time.monotonic() + 60
    while not (begun := survivors(tmp_path / "scratch")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(marker, number)
    _, status = os.waitpid(marker, 0)
    assert begun and os.waitstatus_to_exitcode(status) == 128 + number
    assert not survivors(tmp_path / "scratch") and not list((tmp_path / "scratch").iterdir())


@pytest.mark.nightly
def test_a_marking_that_is_ended_between_two_answers_goes_on_where_it_was(tmp_path, monkeypatch):
    folder, out, scratch = tmp_path / "class", tmp_path / "out", tmp_path / "scratch"
    folder.mkdir(), scratch.mkdir()
    for name in ("plainly right", "a loop in the function", "a sleeper", "a near miss"):
        (folder / f"{name}.ipynb").write_text(json.dumps(with_answer(ANSWERS[name][0])), encoding="utf-8")
    call = [str(folder), "--out", str(out), "--seed", "4", "--seconds", "10", "--jobs", "1"]
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    marker, until, lines = forked(lambda: command.main(call)), time.monotonic() + 120, 0
    while not lines and time.monotonic() < until:  # the first answer is judged, three are left
        lines = sum(path.read_text(encoding="utf-8").count("\n") for path in scratch.rglob("results-0.jsonl"))
        time.sleep(0.05)
    os.kill(marker, signal.SIGTERM)
    _, status = os.waitpid(marker, 0)
    assert 1 <= lines < 4 and os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    assert not survivors(scratch) and not list(scratch.iterdir()) and not (out / "marks.csv").exists()
    kept = {path: path.read_text(encoding="utf-8") for path in out.rglob("00*.jsonl")}
    assert command.main(call) == 0
    assert sum(text.count("\n") for text in kept.values()) >= lines
    assert all(path.read_text(encoding="utf-8").startswith(text) for path, text in kept.items())
    whole = tmp_path / "whole"
    assert command.main([*call[:2], str(whole), *call[3:]]) == 0
    assert (out / "marks.csv").read_bytes() == (whole / "marks.csv").read_bytes()


def test_threads_of_one_answer_take_none_from_its_neighbour(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hog = "import threading, time\nn = 0\ntry:\n    while True:\n        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n        n += 1\nexcept RuntimeError:\n    pass"
    pool = "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool:\n    n = sum(pool.map(int, '1234'))"
    begun, values = [], []
    for slot, source in enumerate((hog, pool)):
        mine, theirs = socket.socketpair()
        begun.append(stage.Guarded({}, theirs, isolation.Limits(5, 20), False, isolation.NOBODY - slot))
        theirs.close()
        channel = wire.Channel(mine)
        channel.deadline = time.monotonic() + 20
        channel.receive(wire.Reader())
        values.append(judging.Remote(channel, {}, source, "x").started([source], "n"))
    for each in begun:
        each.end()
    assert values[0] > 50 and values[1] == 10


# --- the commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root_becomes_nobody", [True, False])
def test_a_child_is_shut_off_with_and_without_a_user_namespace(root_becomes_nobody, monkeypatch):
    monkeypatch.setattr(isolation, "_open_to_all", lambda: root_becomes_nobody)
    assert isolation.why_not() == ""


@pytest.mark.parametrize("hole", list(isolation.ATTEMPTS))
def test_a_child_that_still_can_is_found(hole, monkeypatch):
    monkeypatch.setitem(isolation.ATTEMPTS, hole, lambda: None)
    assert isolation.why_not() == f"it still can {hole}"


def test_without_isolation_nothing_is_marked_and_the_fix_is_printed(tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(isolation, "why_not", lambda: "no namespaces")
    assert command.main([str(tmp_path / "in")]) == 3
    said = capsys.readouterr().err
    assert "sysctl" in said and "--trust" in said and not list(tmp_path.glob("*-marks/marks.csv"))


def test_on_windows_it_is_said_where_marking_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.delattr(os, "fork")
    assert command.main([str(tmp_path)]) == 3 and "WSL 2" in capsys.readouterr().err


def test_an_exercise_that_is_not_there_is_named(tmp_path, capsys):
    assert command.main([str(tmp_path), "--only", "3.4", "--only", "3.44"]) == 2
    assert "no exercise 3.44;" in capsys.readouterr().err


def test_a_part_needs_the_seed_that_all_share(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert (
        command.main([str(tmp_path / "in"), "--part", "1/2"])
        == command.main([str(tmp_path / "in"), "--part", "3/2"])
        == 2
    )
    assert "--seed" in capsys.readouterr().err


def test_marks_are_not_written_among_the_notebooks(tmp_path, capsys):
    assert command.main([str(tmp_path), "--out", str(tmp_path / "marks")]) == 2
    assert "outside" in capsys.readouterr().err


def test_a_second_call_runs_nothing_again_and_writes_the_same_bytes(marked):
    assert not marked[4]


class Broken:
    """A run of the complete notebook that stops at its first cell."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, command):
        return "no models" if "cell" in command else ""


def test_a_set_up_that_fails_is_marked_again_and_never_zero(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ana.ipynb").write_text(json.dumps(with_answer(function(""))))
    monkeypatch.setattr(marking, "Run", Broken)
    (made,) = marking.grade(tmp_path / "in", marking.Options(tmp_path / "out"), lambda text: None)
    assert made.marks["0.4"].state == "regrade" and made.points is None
    assert ",,4,0," in reports.marks([made]) and "learner" in reports.moodle([made]).replace("username", "learner")


def test_near_identical_answers_are_a_hint(tmp_path):
    long = "    middle = others.mean(dim=0)\n    one, other = a - middle, b - middle\n    return (one * other).sum() / one.norm() / other.norm() + 0 * others.sum()\n"
    texts = [long, long.replace("middle", "m").replace("one", "x"), long.replace("+ 0", "- 0"), RIGHT]
    made = []
    for n, text in enumerate(texts):
        raw = json.dumps(with_answer(function("", right=False) + text)).encode()
        made.append(marking.Marked(reading.parse(raw, reading.Submission(f"learner {n}", "x"), None)))
    assert marking.alike(made) == [("learner 0", "learner 1", ["0.4"])]


def test_the_help_needs_no_installation_and_takes_a_second():
    begun = time.process_time()
    said = subprocess.run(
        [sys.executable, "course.py", "grade", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert said.returncode == 0 and "--trust" in said.stdout and "--export" in said.stdout
    assert time.process_time() - begun < 1
    assert (
        "torch"
        not in subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "lab", "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        ).stderr
    )


def cleared(source):
    """What nbgrader's ClearSolutions leaves of a cell, with the exported configuration."""
    kept, inside = [], False
    for line in source.split("\n"):
        if "BEGIN SOLUTION" in line:
            kept, inside = [*kept, "# (write your answer in place of the ... above)"], True
        elif "END SOLUTION" in line:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


@pytest.mark.parametrize("key", material.keys())
def test_the_export_for_nbgrader_is_valid_and_keeps_the_stubs(key, tmp_path):
    course = material.load(key)
    made = nbgrader.exported(course)
    nbformat.validate(made)
    cells = {cell["id"]: cell for cell in made["cells"]}
    ids = [cell["metadata"]["nbgrader"]["grade_id"] for cell in made["cells"] if cell["cell_type"] == "code"]
    assert len(set(ids)) == len(ids)
    for item in course.items.values():
        cell = cells[item.cell]
        assert cell["metadata"]["nbgrader"]["solution"] and cleared(cell["source"]).startswith(item.stub)
        ast.parse(cell["source"])
        assert dict(course.worked)[item.cell].split("\n")[-1] in cell["source"]
    tests = [cell["source"] for cell in made["cells"] if cell["metadata"].get("nbgrader", {}).get("grade")]
    assert len(tests) == len(course.items) + len(course.questions)


def test_a_report_that_is_a_notebook_is_named_as_one():
    with pytest.raises(handing_in.Refused, match="this is a notebook"):
        handing_in.read(LEARNERS)


# --- a whole class -----------------------------------------------------------------------------------------------------

SECOND = "02a_into_the_weights"
HOSTILE = [
    "a loop in the function", "memory bit by bit", "a fork bomb", "os._exit", "kills all it can", "forged frames", "patched comparisons", "a patched judge",
    "checkpoint", "the solution from disk", "walks the disk", "the environment", "all objects in memory", "the network", "equal to everything",
]  # fmt: skip


def second(count, *, wrong=()):
    """Notebook 02a with its first exercises done, some of them not quite."""
    made, solved = notebook(ROOT / "notebooks" / f"{SECOND}.ipynb"), notebook(ROOT / "solutions" / f"{SECOND}.ipynb")
    for n, item in enumerate(list(material.load(SECOND.split("_")[0]).items.values())[:count]):
        source = next("".join(c["source"]) for c in solved["cells"] if c["id"] == item.cell)
        with_answer(f"{source}\n{item.answer} = lambda *inputs: 'no idea'" if n in wrong else source, made, item.cell)
    return made


CLASS = {
    **{f"second {n}": (lambda n=n: second(n), [*["done"] * n, *["open"] * 4][:4]) for n in range(9)},
    "second by colab": (lambda: as_colab(second(4)), ["done"] * 4),
    "second by vs code": (lambda: as_vs_code(second(4)), ["done"] * 4),
    "second without markers": (lambda: without_marker(second(4)), ["done"] * 4),
    "second wrong": (lambda: second(4, wrong=range(4)), ["wrong"] * 4),
    "second half wrong": (lambda: second(4, wrong=(1, 3)), ["done", "wrong"] * 2),
    "second pasted": (lambda: second(0) | {"metadata": {"outputs": "all done"}}, ["open"] * 4),
}


@pytest.mark.nightly
def test_a_class_of_thirty_is_marked_twice_alike(tmp_path, server):
    folder, written = tmp_path / "class", []
    folder.mkdir()
    for name in HOSTILE:
        source = ANSWERS[name][0].replace("{outside}", str(tmp_path)).replace("{port}", str(server.server_address[1]))
        (folder / f"{name}.ipynb").write_text(json.dumps(with_answer(source)), encoding="utf-8")
    for name, (make, _) in CLASS.items():
        (folder / f"{name}.ipynb").write_text(json.dumps(make()), encoding="utf-8")
    assert len(list(folder.iterdir())) == 30
    for n, jobs in enumerate((2, 1)):
        out = tmp_path / f"out-{n}"
        begun, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        call = ["--out", str(out), "--jobs", str(jobs), "--seed", "7", "--seconds", "5", "--lms", "moodle"]
        assert command.main([str(folder), *call]) == 0
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        print(f"30 submissions, {jobs} at once: {cpu / 30:.1f} CPU s and {(time.monotonic() - begun) / 30:.1f} s each")
        written.append(
            {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file() and ".lab" not in p.parts}
        )
    assert written[0] == written[1]
    with (out / "marks.csv").open(encoding="utf-8") as stream:
        rows = {row["learner"]: row for row in csv.DictReader(stream)}
    for name, (_, expected) in CLASS.items():
        assert [rows[name][item] for item in material.load(SECOND.split("_")[0]).items] == expected, name
    for name in HOSTILE:
        assert rows[name]["0.4"] in ANSWERS[name][1].split(" or "), name


@pytest.mark.nightly
def test_parts_that_were_judged_apart_make_one_class(tmp_path):
    folder, whole, parts = tmp_path / "class", tmp_path / "whole", tmp_path / "parts"
    folder.mkdir()
    for name in ("a constant", "plainly right", "a near miss", "NaN", "sys.exit"):
        (folder / f"{name}.ipynb").write_text(json.dumps(with_answer(ANSWERS[name][0])), encoding="utf-8")
    assert command.main([str(folder), "--out", str(whole), "--seed", "4"]) == 0
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    job = textwrap.dedent(re.search(r"  ```bash\n(.*?)  ```", page, re.DOTALL)[1])
    job = job.replace("collected", str(folder)).replace("shared/marks", str(parts)).replace("4711", "4")
    home = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_MAX": "2"}
    array = [
        subprocess.Popen(["bash", "-c", job], cwd=ROOT, env={**home, "SLURM_ARRAY_TASK_ID": task}) for task in "12"
    ]
    assert [task.wait(timeout=600) for task in array] == [0, 0] and not (parts / "marks.csv").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marking, "Run", None)
        assert command.main([str(folder), "--out", str(parts), "--seed", "4"]) == 0
    assert (whole / "marks.csv").read_bytes() == (parts / "marks.csv").read_bytes()
