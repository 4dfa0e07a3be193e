"""Write docs/library.md from the docstrings of course_lib: `python -m tools.library`."""

import ast
import sys
from pathlib import Path

from tools import house

PAGE = house.ROOT / "docs" / "library.md"
HEAD = """# The library, module by module

Written from the docstrings by `python -m tools.library`; `help(name)` in a notebook says more. A module imports only
from those above it. Wrong input that would be silently wrong is an error, results are on the CPU, randomness takes a seed,
and only `grading` prints.

## An example to copy
The direction of refusal, ablated, on a request whose topic was never refused in chat tuning:

```python
from course_lib import caching, data, directions, models, steering, tokens

chat = models.load("chat")
asked = {name: data.prompts(chat, name, "train", 128) for name in ("harmful", "harmless")}
found = {name: caching.harvest(chat, prompts).at(3, "last") for name, prompts in asked.items()}
whole = directions.difference_of_means(found["harmful"], found["harmless"])
own = directions.project_out(whole, found["harmless"].mean(dim=0))
new = tokens.chat_prompt(chat.tokenizer, data.load("harmful", split="held_out_topic").texts[0])
with steering.ablate(chat, own):
    reply = models.generate(chat, [new], max_new_tokens=26)[0]
print(tokens.text(chat.tokenizer, reply))
```
Unchanged, the model apologises. Under ablation it answers, with materials that do not exist. One reply proves nothing:
chapter 01 does this with held-out topics, random directions, intervals and a look at what else breaks.
"""
ORDER = (
    "hub packed adapters organism store tokens profiles models data caching directions patching tuning steering "
    "features lenses abliteration attribution edges probing backdoors plotting grading"
).split()


def first_line(node: ast.AST) -> str:
    """Return the first sentence or line of a docstring, on one line, safe inside a table."""
    text = (ast.get_docstring(node) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def public(tree: ast.Module) -> list[tuple[str, str]]:
    """Return (name, first line) of every public function and class, in the order of the file."""
    kinds = ast.FunctionDef | ast.ClassDef
    return [(node.name, first_line(node)) for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"]


def in_package(package: Path) -> list[tuple[str, str]]:
    """Return ("file.name", first line) of what the files of a package define."""
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.glob("[!_]*.py"))}
    return [(f"{file}.{name}", line) for file, tree in trees.items() for name, line in public(tree)]


def section(module: str) -> str:
    """Return the part of the page about one module."""
    path = house.LIBRARY / f"{module}.py"
    file = path if path.exists() else house.LIBRARY / module / "__init__.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = public(tree) if path.exists() else in_package(file.parent)
    rows = [f"| `{module}.{name}` | {line} |" for name, line in names]
    table = ["| name | what it returns or does |", "|---|---|", *rows] if rows else []
    return "\n".join([f"## {module}", first_line(tree), "", *table])


def page() -> str:
    """Return the whole page."""
    modules = {
        path.stem for path in house.LIBRARY.iterdir() if not path.name.startswith("__") and path.suffix in ("", ".py")
    }
    unknown = modules - set(ORDER)
    return "\n\n".join([HEAD.rstrip(), *(section(m) for m in (*ORDER, *sorted(unknown)) if m in modules)]) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"{PAGE.relative_to(house.ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
