"""The process in which the complete notebook runs, once, and from which every child is forked.

It runs the notebook's cells in order, with a stand-in for `chapters`, so that neither checks nor worked answers of what
comes are in its memory. Before each exercise it forks a *bench* for each job; a bench forks the judge, and then one child
a learner, which so has the names of the notebook as they are at that exercise, and nothing after it.
"""

import builtins
import contextlib
import gc
import io
import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

from lab import isolation
from lab.isolation import Limits


def stand_in() -> types.ModuleType:
    """Return a module `chapters` that has the names which notebooks import, and no answers."""
    from course_lib.grading.claims import claim, supported

    made = types.ModuleType("chapters")
    made.__path__ = []  # type: ignore[attr-defined]
    for name in ("check", "hint", "predict", "progress", "quiz", "reveal", "calibration"):
        setattr(made, name, lambda *args, **kwargs: None)
    made.checkpoint = lambda item, answer=..., *context: answer  # type: ignore[attr-defined]
    made.claim, made.supported = claim, supported  # type: ignore[attr-defined]
    return made


LOADED = "model "
"""What the names of such models begin with among the notebook's names; no notebook can use such a name."""


class _Quiet:
    """What `get_ipython()` is to a learner's cell here: whatever is asked of it does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class Stage:
    """The run of one notebook."""

    def __init__(self) -> None:
        import torch

        from course_lib import plotting

        torch.set_num_threads(1)
        plotting.show = lambda *args, **kwargs: None
        sys.modules["chapters"] = stand_in()
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        self.names |= {"display": lambda *args, **kwargs: None, "get_ipython": _Quiet}

    def cell(self, source: str) -> None:
        """Run one cell of the complete notebook."""
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, "<notebook>", "exec"), self.names)

    def load(self, models: list[str]) -> None:
        """Load models that checks bring along, so that judge and children have the same ones."""
        # no import, as `chapters` is a stand-in here
        drawn = runpy.run_path(str(Path(__file__).parents[1] / "chapters" / "drawn.py"))
        for name in models:
            self.names.setdefault(f"{LOADED}{name}", drawn["other"](name))

    def exercise(self, orders: list[str]) -> None:
        """Mark one exercise: a bench for each order, and wait for all."""
        gc.collect()
        gc.freeze()  # what is here already is not looked through, and so not copied, in every child
        children = {}
        for order in orders:
            about = json.loads(Path(order).with_suffix(".limits").read_text())
            in_all = SETTING_UP_S + about["answers"] * 2 * _at_most(Limits(**about["limits"]))
            if (child := os.fork()) == 0:
                status = 1
                try:
                    isolation.die_with_parent()
                    bench(self.names, order)
                    status = 0
                finally:
                    os._exit(status)
            children[child] = time.monotonic() + in_all
        for child, until in children.items():
            _await(child, until)


SETTING_UP_S = 1800
"""What the complete notebook's own cells between an exercise and its check may take."""


def _at_most(limits: Limits) -> float:
    """Return how many seconds a judge may take for one answer before it is ended: it stops itself earlier."""
    return 3 * limits.wall_s + 10


def _await(child: int, until: float) -> None:
    """Wait for a child; end it if it is late."""
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)  # what it forked dies with it
            os.waitpid(child, 0)
            return
        time.sleep(0.02)


def bench(names: dict[str, Any], order: str) -> None:
    """See one order through: fork its judge, and another one for the rest where a judge is lost with an answer."""
    about = json.loads(Path(order).with_suffix(".limits").read_text())
    begun, why = 0, ""
    while begun < about["answers"]:
        more, why = _judged(names, order, about, begun, why)
        if not why or not more:  # all done; or it was lost before any answer, and so would be the next one
            return
        begun += more
    if why:
        _judged(names, order, about, begun, why)  # only tells of the last one


def _judged(names: dict[str, Any], order: str, about: dict[str, Any], start: int, why: str) -> tuple[int, str]:
    """Fork a judge, make children for it, one at a time; return how many, and how it was lost: "", "late", "died"."""
    limits = Limits(**about["limits"])
    mine, theirs = socket.socketpair()
    if (judge := os.fork()) == 0:
        status = 1
        try:
            isolation.die_with_parent()
            mine.close()
            from lab import judging

            judging.run(theirs, names, json.loads(Path(order).read_text(encoding="utf-8")), start, why)
            status = 0
        except BaseException:  # noqa: B036
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    theirs.close()
    made, n = None, 0
    try:
        mine.settimeout(SETTING_UP_S)
        while mine.recv(1) == b"s":
            n += 1
            inner, outer = socket.socketpair()
            made = Guarded(names, inner, limits, about["trust"], isolation.NOBODY - about["slot"])
            inner.close()
            mine.settimeout(_at_most(limits))
            socket.send_fds(mine, [b"s"], [outer.fileno()])
            outer.close()
            if mine.recv(1) != b"e":
                break
            said, made = json.dumps(made.end()).encode(), None
            mine.sendall(len(said).to_bytes(4, "big") + said)
        lost = "died"
    except TimeoutError:
        lost = "late"
    except OSError:
        lost = "died"
    if made:
        made.end()
    mine.close()
    if lost == "late":
        os.kill(judge, signal.SIGKILL)
    _, status = os.waitpid(judge, 0)
    return n, lost if status else ""


class Guarded:
    """One learner's child, and the guard that shut it off and waits for it."""

    def __init__(self, names: dict[str, Any], end: socket.socket, limits: Limits, trust: bool, uid: int) -> None:
        self.trust, self.uid = trust, uid
        self.root = tempfile.mkdtemp(prefix="root-")
        self.reads, writes = os.pipe()
        self.guard = os.fork()
        if self.guard == 0:
            try:
                os.close(self.reads)
                self._guard(names, end, limits, writes)
            except BaseException as error:  # noqa: B036
                _tell(writes, {"why": f"{type(error).__name__}: {error}"[:300]})
            finally:
                os._exit(0)
        os.close(writes)
        self.child = int.from_bytes(_first(self.reads, 4), "big")

    def _guard(self, names: dict[str, Any], end: socket.socket, limits: Limits, writes: int) -> None:
        isolation.die_with_parent()
        isolation.note_size()
        with contextlib.suppress(OSError):  # where memory runs out, the learner's process goes first
            Path("/proc/self/oom_score_adj").write_text("1000")
        if not self.trust:
            isolation.leave_the_machine(self.root)
            isolation.die_with_parent()  # new rights may have undone it
        child = os.fork()
        if child == 0:
            try:
                _become_learner(names, end, limits, self.trust, self.uid)
            finally:
                os._exit(70)
        end.close()
        os.write(writes, child.to_bytes(4, "big"))
        _, status = os.waitpid(child, 0)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = {"cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss // 1024}
        ended |= {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"status": os.WEXITSTATUS(status)}
        _tell(writes, ended)

    def end(self) -> dict[str, Any]:
        """Kill what runs, wait for the guard, and return what it says."""
        if self.child:
            for number in (-self.child, self.child) if self.trust else (self.child,):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(number, signal.SIGKILL)
        said = b""
        while select.select([self.reads], [], [], 30)[0] and (part := os.read(self.reads, 4096)):
            said += part
        os.close(self.reads)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.guard, signal.SIGKILL)
        os.waitpid(self.guard, 0)
        shutil.rmtree(self.root, ignore_errors=True)
        try:
            return json.loads(said)
        except ValueError:
            return {"why": "its guard died"}


def _become_learner(names: dict[str, Any], end: socket.socket, limits: Limits, trust: bool, uid: int) -> None:
    import torch

    from lab import learner
    from lab.wire import Channel

    # makes anew the pool that a fork leaves behind: several threads of an answer would race for it
    torch.set_num_threads(1)
    if trust:
        os.setsid()
        isolation.set_limits(limits)
        isolation.die_with_parent()
    else:
        isolation.give_up_everything(limits, end.fileno(), uid)
    learner.forget_the_way_here(names)
    learner.Learner(Channel(end), names).serve()


def _tell(writes: int, what: dict[str, Any]) -> None:
    os.write(writes, json.dumps(what).encode())


def _first(reads: int, n: int) -> bytes:
    said = b""
    while len(said) < n and (part := os.read(reads, n - len(said))):
        said += part
    return said if len(said) == n else b"\0" * n


def main() -> int:
    """Run a notebook as the lines on standard input say; answer each with a line on the file that is named first."""
    isolation.die_with_parent()
    replies = os.fdopen(int(sys.argv[1]), "w")
    commands = os.fdopen(os.dup(0), "r")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    import lab.learner  # noqa: F401  (once, for all children)

    stage = Stage()
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in commands:
        command = json.loads(line)
        try:
            ((what, asked),) = command.items()
            {"cell": stage.cell, "models": stage.load, "orders": stage.exercise}[what](asked)
            said = {"ok": True}
        except Exception as error:
            said = {"ok": False, "why": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(said), file=replies, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
