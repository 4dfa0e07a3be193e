"""A learner's notebook, read as data: where its answers are, and which of its cells each answer stands on.

Nothing of it is run here. An answer is found by the id of its cell, else by the marker line, else by its name, so it
survives Colab (which drops ids and metadata), VS Code and edited markers. Outputs, records, and the learner's own check,
checkpoint and progress cells are ignored.
"""

import ast
import builtins
import hashlib
import json
import os
import re
import resource
import select
import signal
import stat
import symtable
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import isolation, material
from lab.material import Material

MAX_BYTES = 40_000_000
"""A figure of circuitsvis stores over a megabyte each, so honest files are large; a source never is."""
MAX_SOURCE = 100_000
READ_SECONDS, READ_MEMORY = 20, 3 << 30
"""What reading one file may take; the memory is beside what this process has."""
COURSE_CALLS = {"check", "checkpoint", "hint", "predict", "progress", "quiz", "reveal", "calibration"}
TOUCHES = {
    "ctypes": "ctypes", "gc": "the memory of the process", "inspect": "the call stack", "socket": "the network",
    "subprocess": "other programs", "multiprocessing": "other processes", "pickle": "pickles", "marshal": "pickles",
}  # fmt: skip
TOUCHED_TEXT = {
    "solutions/": "the complete notebooks", "references.json": "the worked answers", ".progress": "the record",
    "_getframe": "the call stack", "/proc/": "other processes", "os.environ": "the environment",
    "course_lib.grading": "the checks", "sys.modules": "loaded modules", "os._exit": "the end of the process",
    "os.fork": "other processes", "__subclasses__": "all classes", "exercises": "",
}  # fmt: skip


NAMED = re.compile(r"""\b(?:check|checkpoint|quiz|predict|reveal)\(["'](\d{1,3}\.\w+)["']""")


HELP = re.compile(r"\?{1,2}\s*[%\w.*]+|[%\w.*\[\]]+\?{1,2}")
"""A line that asks IPython for help: `name?`, `?name`, `name??`. A comment that asks something is none."""


class Unreadable(Exception):
    """Raised for a file that is no notebook: the message says why."""


@dataclass
class Answer:
    """One learner's answer to one exercise, as text."""

    source: str
    helpers: list[str] = field(default_factory=list)
    """Parts of the learner's other cells that the answer uses, in order."""
    remarks: list[str] = field(default_factory=list)
    """What a teacher may want to look at."""
    shape: str = ""
    """The answer with its own names and texts taken out, to find near-identical ones."""


@dataclass
class Submission:
    """One notebook of one learner."""

    learner: str
    file: str
    digest: str = ""
    notebook: str | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    """Exercises that are not as they were handed out."""
    quizzes: dict[str, str] = field(default_factory=dict)
    predictions: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why it could not be read; it then has no answers."""
    remarks: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Exercises whose name a later cell without a mark defines as well."""


# --- files ----------------------------------------------------------------------------------------------------------


def collect(folder: Path) -> list[tuple[str, Path]]:
    """Return learner and path of each notebook in a folder: `NAME.ipynb`, or any names in a sub-folder a learner."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            found += [(path.name, inner) for inner in sorted(_notebooks_below(path))]
        elif path.suffix.lower() == ".ipynb":
            found.append((path.stem, path))
    return found


def _notebooks_below(folder: Path, depth: int = 4) -> Iterator[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return  # not to be read: its learner has no notebook here, and the others are marked
    for path in inside:
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if path.is_dir() and not path.is_symlink():
            if depth:
                yield from _notebooks_below(path, depth - 1)
        elif path.suffix.lower() == ".ipynb":
            yield path


def read_safely(learner: str, path: Path, folder: Path, key: str | None) -> Submission:
    """Return one submission, read in a child with limits: whatever the file does to a parser, the next one is read."""
    made = Submission(_clean(learner), _clean(path.relative_to(folder).as_posix()))
    try:
        raw = read_bytes(path)
    except Unreadable as why:
        made.problem = str(why)
        made.digest = hashlib.sha256(f"{made.file} {why}".encode()).hexdigest()[:16]
        return made
    made.digest = hashlib.sha256(raw).hexdigest()[:16]
    text = _in_child(lambda: json.dumps(asdict(parse(raw, made, key))))
    if text is None:
        made.problem = "the file could not be read: it is nested too deeply, or takes too long"
        return made
    fields = json.loads(text)
    fields["answers"] = {item: Answer(**answer) for item, answer in fields["answers"].items()}
    return Submission(**fields)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file of a sane size.

    Raises:
        Unreadable: a link, a device, too large, no permission.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        what = "it is a link, not a file" if path.is_symlink() else error.strerror or "unknown"
        raise Unreadable(f"the file cannot be opened: {what}") from None
    with os.fdopen(handle, "rb") as stream:
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable("it is no regular file")
        if about.st_size > MAX_BYTES:
            raise Unreadable(
                f"{about.st_size / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB: clear the outputs and hand in again"
            )
        return stream.read(MAX_BYTES + 1)


def _in_child(work: Callable[[], str]) -> str | None:
    """Return what `work` returns, worked out in a child with limits; None if the child died or took too long."""
    reads, writes = os.pipe()
    if (child := os.fork()) == 0:
        try:
            size = isolation.size_now() + READ_MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            resource.setrlimit(resource.RLIMIT_CPU, (READ_SECONDS, READ_SECONDS))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with os.fdopen(writes, "wb") as stream:
                stream.write(work().encode("utf-8", "replace") + b"\n.")
        finally:
            os._exit(0)
    os.close(writes)
    parts, until = [], time.monotonic() + 5 * READ_SECONDS
    try:
        while select.select([reads], [], [], max(0.0, until - time.monotonic()))[0]:
            if not (part := os.read(reads, 1 << 20)):
                break
            parts.append(part)
    finally:
        os.close(reads)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    text = b"".join(parts)
    return text[:-2].decode("utf-8", "replace") if text.endswith(b"\n.") else None


# --- a notebook -----------------------------------------------------------------------------------------------------


def parse(raw: bytes, made: Submission, key: str | None) -> Submission:
    """Fill in a submission from the bytes of its file; what is wrong with the file goes into `problem`."""
    try:
        cells = _code_cells(raw)
        made.notebook = key or _key(cells)
        course = material.load(made.notebook)
    except Unreadable as why:
        made.problem = str(why)
        return made
    except ValueError as why:
        made.problem = f"{why}: is this notebook one of the course's?"
        return made
    found = _answers(cells, course)
    for item, at in found.items():
        source = cells[at[-1]][1]
        if source.strip() != course.items[item].stub.strip():
            made.answers[item] = answer = Answer(source, shape=_shape(source))
            answer.helpers = list(_helpers(source, at[-1], cells, course, found))
            answer.remarks += _remarks("\n".join([*answer.helpers, source]), item)
            if len(at) > 1:
                answer.remarks.append(f"{len(at)} cells answer it: the last was marked")
    given, marked = {text.strip() for text in course.given.values()}, {n for at in found.values() for n in at}
    for item, at in found.items():
        later = [n for n in range(at[-1] + 1, len(cells)) if n not in marked and cells[n][1].strip() not in given]
        if any(_defines(cells[n][1], course.items[item].answer) for n in later):
            made.elsewhere.append(item)
    missing = [item for item in course.items if item not in found]
    if missing:
        made.remarks.append(f"no cell found for {', '.join(missing)}")
    for _, source in cells:
        _calls(source, course, made)
    return made


def _code_cells(raw: bytes) -> list[tuple[str, str]]:
    """Return id and source of each code cell.

    Raises:
        Unreadable: no JSON, no notebook.
    """
    try:
        whole = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unreadable("it is no text: is it a notebook at all?") from None
    except (ValueError, RecursionError):
        raise Unreadable("it is not JSON: was it cut off, or renamed to .ipynb?") from None
    if not isinstance(whole, dict):
        raise Unreadable("it is JSON and no notebook")
    cells = whole.get("cells")
    if cells is None and isinstance(whole.get("worksheets"), list):
        raise Unreadable("a notebook of format 3: open it in JupyterLab, save it, and hand in again")
    if not isinstance(cells, list):
        raise Unreadable("it is JSON and no notebook: it has no list of cells")
    kept = []
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code" and isinstance(cell.get("source"), str | list):
            about = cell.get("metadata")
            own = cell.get("id") or (about.get("id") if isinstance(about, dict) else "")
            source = material.text_of(cell).replace("\r\n", "\n")
            if len(source) <= MAX_SOURCE:
                kept.append((own if isinstance(own, str) else "", _without_magics(_clean(source))))
    if not kept:
        raise Unreadable("it has no code cell")
    return kept


def _without_magics(source: str) -> str:
    """Return a cell in plain Python: lines for the notebook's machine or for a shell do nothing."""
    lines = source.split("\n")
    try:
        ast.parse(source)
        return source  # a % may open a line of ordinary Python
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    for n, line in enumerate(lines):
        bare = line.strip()
        if bare.startswith(("%", "!")) or HELP.fullmatch(line.rstrip()):
            lines[n] = line[: len(line) - len(line.lstrip())] + "pass"
    return "\n".join(lines)


def _key(cells: Sequence[tuple[str, str]]) -> str:
    """Return which notebook this is: the one that most of its marked cells and cell ids belong to."""
    known = {key: material.load(key) for key in material.keys()}
    home = {
        item: key for key, course in known.items() for item in (*course.items, *course.questions, *course.predictions)
    }
    votes = dict.fromkeys(known, 0)
    for own, source in cells:
        named = [(found[1], 3)] if (found := material.marker(source)) else []
        for item, weight in [*named, *((call, 1) for call in NAMED.findall(source))]:
            if item in home:
                votes[home[item]] += weight
        if (begin := own.split("-")[0]) in votes:
            votes[begin] += 1
    if not any(votes.values()):
        raise Unreadable(
            "no cell of it bears a mark of the course (# === Exercise 1.2 ...): name the notebook by --notebook"
        )
    return max(known, key=lambda key: votes[key])


def _answers(cells: Sequence[tuple[str, str]], course: Material) -> dict[str, list[int]]:
    """Return for each exercise the cells that answer it; the last is the one to mark."""
    by_id = {item.cell: item.id for item in course.items.values()}
    marked: dict[str, list[int]] = {}
    for n, (own, source) in enumerate(cells):
        by_marker = found[1] if (found := material.marker(source)) and found[0] == "Exercise" else None
        claims = [item for item in (by_marker, by_id.get(own)) if item in course.items]
        if len(set(claims)) == 2 and course.items[claims[1]].answer in binds(source):
            claims.reverse()  # a marker was pasted over: the cell defines what its id says
        if claims:
            marked.setdefault(claims[0], []).append(n)
    taken = {n for at in marked.values() for n in at}
    for item in course.items.values():
        at = marked.get(item.id, [])
        mine = [n for n in at if item.answer in binds(cells[n][1])]
        if not mine:  # the marked cell is gone, or the answer stands in another
            mine = [n for n, cell in enumerate(cells) if n not in taken and _defines(cell[1], item.answer)]
        written = [n for n in mine if cells[n][1].strip() != item.stub.strip()]
        if chosen := written or mine or at:
            marked[item.id] = chosen
    return marked


def _defines(source: str, name: str) -> bool:
    """Return whether a cell gives a name a value of its own, rather than what `checkpoint` hands on."""
    return any(
        name in _bound(statement)
        and not (calls := _called(statement)) & {"checkpoint"}
        or name in _bound(statement)
        and not calls
        for statement in _body(source)
    )


def _calls(source: str, course: Material, made: Submission) -> None:
    """Note the quizzes and predictions of one cell: constant calls only, and the first of several."""
    for node in ast.walk(ast.Module(_body(source), [])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            item = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if node.func.id == "quiz" and item in course.questions and isinstance(node.args[1], ast.Constant):
                letter = node.args[1].value
                if isinstance(letter, str):
                    made.quizzes.setdefault(item, letter.strip().lower()[:20])
            if node.func.id == "predict" and item in course.predictions:
                if not (isinstance(node.args[1], ast.Constant) and node.args[1].value is ...):
                    words = [*node.args[1:], *(word.value for word in node.keywords)]
                    made.predictions.setdefault(item, ", ".join(map(_unparsed, words))[:80])


# --- what an answer stands on ----------------------------------------------------------------------------------------


def _helpers(
    source: str, place: int, cells: Sequence[tuple[str, str]], course: Material, found: dict[str, list[int]]
) -> Iterator[str]:
    """Yield the statements of the learner's other cells that an answer uses, each cell's together.

    Another exercise's answer is not taken from the learner: the worked one stands in, which is the same if theirs is right.
    Given cells count as they were handed out; what a learner added to one counts as their own.
    """
    answers = {item.answer for item in course.items.values()}
    given = {text.strip() for text in course.given.values()}
    theirs = {name for text in course.given.values() for name in binds(text)}
    marked = {n for at in found.values() for n in at}
    own: list[tuple[int, list[ast.stmt], set[str]]] = []
    for n, (cell, text) in enumerate(cells):
        if n == place or text.strip() in given:
            continue
        kept = answers if n in marked or cell not in course.given else theirs
        own.append((n, _body(text), kept))
    order = [each for each in own if each[0] < place] + [each for each in own if each[0] > place]
    wanted, chosen = _free(source) - {course.items[i].answer for i in course.items}, dict[int, set[int]]()
    seen: set[str] = set()
    while wanted - seen:
        name = min(wanted - seen)
        seen.add(name)
        homes = [each for each in order if name not in each[2] and any(name in _bound(s) for s in each[1])]
        before = [each for each in homes if each[0] < place]
        for n, body, _ in (before or homes)[-1:]:
            for k, statement in enumerate(body):
                if name in _bound(statement) or name in _changed(statement):
                    chosen.setdefault(n, set()).add(k)
                    wanted |= _free(_unparsed(statement))
    stars = [
        (n, k)
        for n, body, _ in order
        for k, s in enumerate(body)
        if isinstance(s, ast.ImportFrom) and s.names[0].name == "*"
    ]
    for n, k in stars:
        chosen.setdefault(n, set()).add(k)
    bodies = {n: body for n, body, _ in order}
    for n in sorted(chosen, key=lambda n: (n > place, n)):
        yield "\n".join(_unparsed(bodies[n][k]) for k in sorted(chosen[n]))


def _body(source: str) -> list[ast.stmt]:
    """Return the statements of a cell; none if it is no Python."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _unparsed(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):
        return ""


def binds(source: str) -> set[str]:
    """Return the names that a cell binds at its top level."""
    return {name for statement in _body(source) for name in _bound(statement)}


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    names = set[str]()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names


def _changed(statement: ast.stmt) -> set[str]:
    """Return the names whose value a statement may change without binding them: x[k] = ..., x.append(...)."""
    names = set[str]()
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return names
    for node in ast.walk(statement):
        inner = node.func if isinstance(node, ast.Call) else node
        if isinstance(inner, ast.Subscript | ast.Attribute) and (
            isinstance(node, ast.Call) or isinstance(node.ctx, ast.Store)
        ):
            while isinstance(inner, ast.Subscript | ast.Attribute):
                inner = inner.value
            if isinstance(inner, ast.Name):
                names.add(inner.id)
    return names


def _called(statement: ast.stmt) -> set[str]:
    return {
        node.func.id for node in ast.walk(statement) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def _free(source: str) -> set[str]:
    """Return the names that a piece of code takes from outside."""
    try:
        module = symtable.symtable(source, "answer", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    tables = [module]
    for table in tables:
        tables += table.get_children()
    used = {
        s.get_name() for t in tables for s in t.get_symbols() if s.is_referenced() and (s.is_global() or t is module)
    }
    bound = {s.get_name() for s in module.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    return used - bound - set(dir(builtins)) - COURSE_CALLS


# --- for the teacher to look at --------------------------------------------------------------------------------------


def _remarks(source: str, item: str) -> list[str]:
    """Return what an answer reaches for that no answer needs: a hint to look, never a verdict."""
    touched = {why for text, why in TOUCHED_TEXT.items() if why and text in source}
    tree = ast.Module(_body(source), [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            touched |= {TOUCHES[name.split(".")[0]] for name in names if name.split(".")[0] in TOUCHES}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "checkpoint":
            touched.add("`checkpoint`, which hands out the course's answer")
    return [f"it reaches for {why}" for why in sorted(touched)]


def _shape(source: str) -> str:
    """Return an answer with its local names and its texts taken out; "" where it is too short to tell anything."""
    tree = ast.Module(_body(source), [])
    names: dict[str, str] = {}
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in bound:
            node.id = names.setdefault(node.id, f"v{len(names)}")
        elif isinstance(node, ast.arg):
            node.arg = names.setdefault(node.arg, f"v{len(names)}")
        elif (
            isinstance(node, ast.FunctionDef)
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
        ):
            node.body = node.body[1:] or [ast.Pass()]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and "print" in _called(node):
            node.value = ast.Constant(None)
    text = _unparsed(tree)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if len(text) > 120 else ""


def _clean(text: str) -> str:
    """Return a text without lone halves of characters, which no file could hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
