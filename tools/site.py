"""Write the course as web pages that need no server and no network: complete notebooks, glossary, run sheets, cards, features.

    python -m tools.site               into the folder site/
    python -m tools.site --out DIR     elsewhere; a folder that holds something else is refused

Open `index.html` from the disk, or put the folder on any static host. Pages share one copy of each script and style sheet
in `assets/`; nothing is asked of any other place. The same sources give the same bytes.
"""

import argparse
import functools
import html
import importlib.util
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mistune
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import PythonLexer, TextLexer, get_lexer_by_name

ROOT = Path(__file__).resolve().parents[1]
FILES = Path(__file__).with_name("site_files")
PLOTLY = "application/vnd.plotly.v1+json"
MAX_PAGE = 1_000_000
IN_WORDS = "This figure in words"  # as course_lib.plotting says it
STAMP = "assets/made-by-tools-site.txt"  # only a folder that holds it is emptied
GROUPS = {  # heading of the navigation -> sources, in reading order
    "The course": ("README.md",),
    "Notebooks": ("solutions/*.ipynb",),
    "To look up": ("docs/glossary.md", "docs/library.md", "docs/teaching.md", "docs/*.md"),
    # of models that ship: of others the weights would have to be fetched
    "Features": ("organisms/weights/dictionaries/chat/*", "organisms/weights/dictionaries/base/*"),
    "Models and data": ("organisms/cards/chat.md", "organisms/cards/*.md"),
    "About": ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "LICENSE-TEXT"),
}
# Of all styles of pygments, those whose every colour has a contrast of 4.5 or more on our two backgrounds.
LIGHT, DARK = "xcode", "lightbulb"
N_FEATURES, N_EXAMPLES = 24, 4
CORPUS = {"harmful": 48, "harmless": 48, "acrostic_harmful": 16, "acrostic_harmless": 16}  # requests and how many
CORPUS |= {"cleaners_dangerous": 24, "cleaners_safe": 24}
NAMED = {  # dictionary -> features that a notebook talks about
    "chat/sae-1": {509: "danger (03)", 9: "Assistant, refusal (03b)", 263: "any cleaner (03a)", 196: "danger (03b)"}
    | {444: "danger (03b)", 266: "danger (03b), asks in an acrostic (04a)", 237: "asks in an acrostic (04a)"}
    | {151: "asks in an acrostic (04a)", 211: "answers in an acrostic (04a)"},
    "chat/sae-3": {121: "danger (03b)", 266: "danger (03b)", 129: "danger (03b)"},
}
FOLDED = {  # kind of an exercise's cell -> what its fold says
    "Exercise": "A worked answer",
    "Prediction": "A prediction, for example",
    "Question": "The right answer, and why",
    "Decision": "A decision, for example",
}


class SiteError(Exception):
    """The pages cannot be written; the message says why and what to do."""


@dataclass
class Page:
    """One source and what it becomes."""

    source: str  # from the course's folder, "docs/glossary.md"
    group: str
    title: str = ""
    body: str = ""
    headings: list[tuple[int, str, str]] = field(default_factory=list)  # level, id, text
    found_by: str = ""  # HTML of what the search looks through
    scripts: set[str] = field(default_factory=set)

    @property
    def target(self) -> str:
        """Return where the page lies in the site."""
        return target_of(self.source)

    @property
    def label(self) -> str:
        """Return what the navigation calls the page."""
        if self.group == "Models and data":
            return Path(self.source).stem
        return {"README.md": "Overview"}.get(self.source, self.title.removeprefix("Features of "))


def target_of(source: str) -> str:
    """Return the page of a source; the learner's notebook and the complete one share theirs."""
    if source == "README.md":
        return "index.html"
    return Path(learners(source)).with_suffix(".html").as_posix()


def learners(source: str) -> str:
    """Return the learner's notebook that belongs to a complete one; any other source itself."""
    return source.replace("solutions/", "notebooks/")


def way(start: str, end: str) -> str:
    """Return the relative address of one page of the site from another."""
    return "../" * start.count("/") + end


# --- Markdown -----------------------------------------------------------------------------------------------


class Renderer(mistune.HTMLRenderer):
    """Markdown to HTML for one page: headings get ids, wide things scroll inside, links lead to pages."""

    def __init__(self, page: Page, known: dict[str, str]) -> None:
        super().__init__(escape=True)
        self.page, self.known, self.seen, self.level = page, known, Counter(), 0

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """Return a heading with an id as GitHub makes it, at most one level below the one before."""
        plain = text_of(text)
        looks, level = level, min(level, self.level + 1)
        self.level = level
        slug = slug_of(plain)
        self.seen[slug] += 1
        slug += f"-{self.seen[slug] - 1}" if self.seen[slug] > 1 else ""
        self.page.headings.append((looks, slug, plain))
        return f'<h{level} id="{slug}" class="looks-{looks}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Return a link to a page of the site or elsewhere; the text alone where neither has the target."""
        address = self.address(url)
        return f'<a href="{html.escape(address)}">{text}</a>' if address else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return the text of a picture: the sources hold none but a badge of another place."""
        return text

    def address(self, url: str) -> str:
        """Return where a link of the source leads on the site, or "" if what it names is not there."""
        if re.match(r"[a-z]+:|#", url):
            return url
        file, _, anchor = url.partition("#")
        path = (ROOT / self.page.source).parent.joinpath(file).resolve()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        if name not in self.known:
            return ""
        return way(self.page.target, self.known[name]) + (f"#{anchor}" if anchor else "")

    def block_code(self, code: str, info: str | None = None) -> str:
        """Return highlighted code."""
        return code_block(code, get_lexer_by_name(info.split()[0]) if info else TextLexer())

    def block_html(self, html: str) -> str:
        """Return nothing for a comment, and other HTML as text."""
        return "" if html.lstrip().startswith("<!--") else super().block_html(html)

    def inline_html(self, html: str) -> str:
        """Return nothing for a comment, and other HTML as text."""
        return "" if html.startswith("<!--") else super().inline_html(html)


def table(renderer: Renderer, text: str) -> str:
    """Return a table that scrolls inside its page."""
    return f'<div class="scroll"><table>\n{text}</table></div>\n'


def table_cell(renderer: Renderer, text: str, align: str | None = None, head: bool = False) -> str:
    """Return a cell; an empty one is no heading, and a short one with a number stays on one line."""
    short = len(text) <= 34 and re.search(r"\d", text)
    classes = " ".join(filter(None, [align, "number" if short else None]))
    style = f' class="{classes}"' if classes else ""
    return f'<th scope="col"{style}>{text}</th>\n' if head and text.strip() else f"<td{style}>{text}</td>\n"


def markdown(page: Page, known: dict[str, str]) -> mistune.Markdown:
    """Return the function that renders the page's Markdown, piece by piece."""
    renderer = Renderer(page, known)
    render = mistune.create_markdown(renderer=renderer, plugins=["table", "strikethrough", "url"])
    renderer.register("table", table)
    renderer.register("table_cell", table_cell)
    return render


def code_block(code: str, lexer: Lexer) -> str:
    """Return code with the classes of the shared style sheet."""
    return f'<pre class="code"><code>{highlight(code, lexer, HtmlFormatter(nowrap=True)).rstrip()}</code></pre>\n'


def text_of(markup: str) -> str:
    """Return the text of a piece of HTML, with single spaces."""
    inline = re.sub(r"</?(a|b|em|strong|code|del|span)\b[^>]*>", "", markup)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", inline)).split())


def slug_of(text: str) -> str:
    """Return the id that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def read_markdown(page: Page, known: dict[str, str]) -> None:
    """Fill a page from Markdown. A table's row whose first cell is one bold term can be linked to."""
    body = str(markdown(page, known)((ROOT / page.source).read_text(encoding="utf-8")))
    taken = {slug for _, slug, _ in page.headings}

    def named(row: re.Match[str]) -> str:
        slug = "term-" + slug_of(text_of(row[2]))
        new = slug not in taken
        taken.add(slug)
        return f'<tr id="{slug}">{row[1]}{row[2]}</strong></td>' if new else row[0]

    if page.source == "docs/glossary.md":
        body = re.sub(r"<tr>(\s*<td><strong>)([^\n]*?)</strong></td>", named, body)
    page.body = page.found_by = body


def read_text(page: Page, known: dict[str, str]) -> None:
    """Fill a page from a plain file, under its name."""
    text = (ROOT / page.source).read_text(encoding="utf-8")
    page.headings.append((1, slug_of(page.source), page.source))
    page.body = page.found_by = f'<h1 id="{slug_of(page.source)}">{page.source}</h1>\n<pre>{html.escape(text)}</pre>\n'


# --- dictionaries -------------------------------------------------------------------------------------------


def read_dictionary(page: Page, known: dict[str, str]) -> None:
    """Fill a page from a shipped dictionary: on what its loudest features fire and what they write, and those of notebooks."""
    title, intro, sections = described("/".join(Path(page.source).parts[-2:]))
    page.headings.append((1, slug_of(title), title))
    page.found_by = page.body = f'<h1 id="{slug_of(title)}">{title}</h1>\n<p>{intro}</p>\n'
    for heading, lines in sections.items():
        slug = slug_of(heading.partition(":")[0])
        page.headings.append((2, slug, heading))
        page.body += "\n".join([f'<h2 id="{slug}">{heading}</h2>', *lines, ""])
        page.found_by += f'<h2 id="{slug}">{heading}</h2>' + "".join(lines[1:3])


@functools.cache
def described(name: str) -> tuple[str, str, dict[str, list[str]]]:
    """Return title, introduction and heading -> HTML lines of each feature that is shown of a dictionary, "chat/sae-1"."""
    from course_lib import features  # the library takes seconds to import, and no other page needs it
    from viewer import dashboards

    organism, part = name.split("/")
    kind, layer = part.split("-")
    what = {"sae": "the stream after block", "transcoder": "the MLP of block"}[kind]
    model, prompts = corpus(organism)
    dictionary = features.load(organism, kind, layer=int(layer))
    index = features.index(model, dictionary, prompts, progress=False)
    written = index.activations.mean(axis=0) * dictionary.W_dec.norm(dim=1).numpy()
    named = NAMED.get(name, {})
    loudest = [f for f in written.argsort()[::-1].tolist() if f not in named][: N_FEATURES - len(named)]
    intro = (
        f"A dictionary ({kind}) of {what} {layer} of <code>{organism}</code>: {written.size} features, of which "
        f"{index.activations.nnz / index.n_tokens:.0f} are active on a token. Here are "
        f"{'those that a notebook talks about, and ' if named else ''}the {len(loudest)} that write most on {len(prompts)} "
        "requests with answers. The darker a token and the thicker its line, the more active the feature; hover over it for the "
        "number. Examples propose what a feature means; interventions test it (notebooks 03 and 04)."
    )
    shown = {f"Feature {f}{': ' + named[f] if f in named else ''}": f for f in (*named, *loudest)}
    about = {heading: list(dashboards.about(index, f, level=3, n_examples=N_EXAMPLES)) for heading, f in shown.items()}
    return f"Features of {organism}, {kind} {layer}", intro, about


@functools.cache
def corpus(organism: str) -> tuple[Any, list[list[int]]]:
    """Return a model and prompts with a complying answer, on which its features are looked at."""
    from course_lib import data, models, tokens

    model, prompts = models.load(organism), []
    for name, n in CORPUS.items():
        for request in data.load(name, n=n):
            answer = model.tokenizer(request.answer, add_special_tokens=False)["input_ids"]
            prompts.append([*tokens.chat_prompt(model.tokenizer, request.text), *answer])
    return model, prompts


# --- notebooks ----------------------------------------------------------------------------------------------


def read_notebook(page: Page, known: dict[str, str]) -> None:
    """Fill a page from a complete notebook: an answer is folded, and the learner's stub stands before it."""
    render = markdown(page, known)
    stubs = {cell["id"]: joined(cell["source"]) for cell in cells_of(learners(page.source))}
    parts, found = [], []
    for cell in cells_of(page.source):
        source = joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(str(render(source)))
            found.append(parts[-1])
            continue
        pieces = outputs(page, cell["outputs"])
        found += [piece for piece in pieces if IN_WORDS in piece]
        worked = "".join([code_block(source, PythonLexer()), *pieces])
        stub = stubs[cell["id"]]
        parts.append(worked if stub == source else code_block(stub, PythonLexer()) + folded(source, worked))
    note = (
        '<p class="note">The complete notebook, with the outputs of one run; in them, "you" is who ran it. Worked answers '
        "are folded. To work on it yourself, run <code>python course.py open</code> in "
        '<a href="../index.html">the course\'s folder</a>.</p>\n'
    )
    page.body = re.sub(r"(</h1>\n)", rf"\1{note}", "".join(parts), count=1)
    page.found_by = "".join(found)


def cells_of(source: str) -> list[dict[str, Any]]:
    """Return the cells of a notebook of the course."""
    return json.loads((ROOT / source).read_text(encoding="utf-8"))["cells"]


def joined(text: str | list[str]) -> str:
    """Return a text that a notebook may store as a list of lines."""
    return "".join(text)


def folded(source: str, worked: str) -> str:
    """Return an answer that shows when asked for."""
    kind, item = re.match(r"# === (\w+) ([\w.]+) ", source).groups()
    return f'<details class="answer"><summary>{FOLDED[kind]} ({item})</summary>\n{worked}</details>\n'


def outputs(page: Page, stored: list[dict[str, Any]]) -> list[str]:
    """Return a cell's outputs as HTML."""
    pieces, alts = [], set()
    for output in stored:
        data = output.get("data", {})
        if PLOTLY in data:
            alts.add(joined(data["text/plain"]))
            pieces.append(figure(page, data[PLOTLY], joined(data["text/plain"])))
        elif "text/html" in data:
            pieces.append(own_html(page, joined(data["text/html"]), joined(data.get("text/plain", "")), alts))
        else:
            text = joined(output.get("text") or data.get("text/plain") or output.get("traceback", ""))
            pieces.append(printed(re.sub(r"\x1b\[[0-9;]*m", "", text)))
    return pieces


def printed(text: str) -> str:
    """Return what a cell printed."""
    return f'<div role="group" aria-label="Output"><pre class="output">{html.escape(text.rstrip())}</pre></div>\n'


def figure(page: Page, drawing: dict[str, Any], alt: str) -> str:
    """Return a place where the shared script draws, with its alt text for screen readers and on request."""
    page.scripts.add("plotly.js")
    data = json.dumps(drawing, sort_keys=True, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    height = int(drawing["layout"].get("height", 420))
    place = f'<div class="plot" role="img" aria-label="{html.escape(alt)}" style="height: {height}px"></div>'
    return (
        f'<figure><div class="scroll paper">{place}</div>\n<script type="application/json">{data}</script>\n'
        f"<figcaption>{in_words(alt)}</figcaption></figure>\n"
    )


def in_words(alt: str) -> str:
    """Return what shows an alt text on request."""
    words = html.escape(alt).replace("\n", "<br>")
    return f'<details class="words"><summary>{IN_WORDS}</summary><p>{words}</p></details>'


def own_html(page: Page, markup: str, text: str, alts: set[str]) -> str:
    """Return an output's HTML where it works without a network, else its text; nothing where it repeats an alt text."""
    words = re.search(rf"<summary>{IN_WORDS}</summary><p>(.*?)</p></details>$", markup, re.DOTALL)
    if words and html.unescape(words[1]) in alts:
        return ""
    script = re.search(
        r"<script[^>]*>(?P<library>.*?var CircuitsVis=.*)(?P<call>CircuitsVis\.render\(.*?)</script>", markup, re.DOTALL
    )
    if script and markup.count("</script>") == 1:
        page.scripts.add("circuitsvis.js")
        call = f'<script type="module">{script["call"].strip()}</script>'
        drawn = markup[: script.start()] + call + markup[script.end() :]
        return f'<div class="scroll paper">{drawn}</div>\n{in_words(text)}\n'
    if re.search(r"<script|(src|href)=.?(https?:)?//", markup):
        return printed(text)
    return f'<div class="scroll">{markup}</div>\n'


def circuitsvis() -> str:
    """Return the script of circuitsvis as the first notebook that shows attention stores it, without its source map."""
    for source in sorted((ROOT / "solutions").glob("*.ipynb")):
        for cell in cells_of(source.relative_to(ROOT).as_posix()):
            for output in cell.get("outputs", ()):
                markup = joined(output.get("data", {}).get("text/html", ""))
                if script := re.search(r"<script[^>]*>(.*?var CircuitsVis=.*)CircuitsVis\.render\(", markup, re.DOTALL):
                    return re.sub(r"//# sourceMappingURL=\S+", "", script[1]).strip() + "\n"
    return ""


# --- the site -----------------------------------------------------------------------------------------------


def sources() -> list[Page]:
    """Return an empty page for each source, in reading order, each once."""
    pages: dict[str, Page] = {}
    for group, patterns in GROUPS.items():
        for pattern in patterns:
            for path in sorted(ROOT.glob(pattern)):
                name = path.relative_to(ROOT).as_posix()
                pages.setdefault(name, Page(name, group))
    return list(pages.values())


def rendered() -> list[Page]:
    """Return every page, filled."""
    pages = sources()
    known = {page.source: page.target for page in pages}
    known |= {learners(page.source): page.target for page in pages}
    readers = {".md": read_markdown, ".ipynb": read_notebook}
    for page in pages:
        reader = read_dictionary if page.group == "Features" else readers.get(Path(page.source).suffix, read_text)
        reader(page, known)
        page.title = page.headings[0][2]
    return pages


def navigation(page: Page, pages: list[Page]) -> str:
    """Return the list of all pages, with the sections of this one under it."""
    parts = []
    for group in GROUPS:
        parts.append(f'<p class="group">{group}</p>\n<ul>\n')
        for other in (other for other in pages if other.group == group):
            here = ' aria-current="page"' if other is page else ""
            inner = sections_list(page) if other is page else ""
            link = f'<a href="{way(page.target, other.target)}"{here}>{html.escape(other.label)}</a>'
            parts.append(f"<li>{link}{inner}</li>\n")
        parts.append("</ul>\n")
    return "".join(parts)


def sections_list(page: Page) -> str:
    """Return links to a page's sections."""
    items = [f'<li><a href="#{slug}">{html.escape(text)}</a></li>' for level, slug, text in page.headings if level == 2]
    return f"\n<ul>{''.join(items)}</ul>" if items else ""


def neighbours(page: Page, pages: list[Page]) -> str:
    """Return links to the page before and the page after."""
    at = pages.index(page)
    links = []
    if at > 0:
        before = pages[at - 1]
        links.append(
            f'<a rel="prev" href="{way(page.target, before.target)}">Previous: {html.escape(before.label)}</a>'
        )
    if at + 1 < len(pages):
        after = pages[at + 1]
        links.append(f'<a rel="next" href="{way(page.target, after.target)}">Next: {html.escape(after.label)}</a>')
    return "\n".join(links)


def whole(page: Page, pages: list[Page]) -> str:
    """Return the page as it is written."""
    root = way(page.target, "")
    course = pages[0].title
    title = page.title if page is pages[0] else f"{page.title} - {course}"
    extra = "".join(f'<script src="{root}assets/{name}" defer></script>\n' for name in sorted(page.scripts))
    return f"""<!doctype html>
<html lang="en" data-root="{root}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}assets/site.css">
<link rel="stylesheet" href="{root}assets/code.css">
{extra}</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<a class="home" href="{root}index.html">{html.escape(course)}</a>
<form role="search" hidden>
<label for="words">Search all pages</label>
<input id="words" type="search" autocomplete="off" spellcheck="false">
</form>
</header>
<section id="found" aria-label="Search results" hidden><p role="status"></p><ol></ol></section>
<div class="columns">
<nav aria-label="All pages"><details id="menu" open><summary>All pages</summary>
{navigation(page, pages)}</details></nav>
<script src="{root}assets/site.js"></script>
<main id="content" tabindex="-1">
{page.body}</main>
</div>
<footer>
<nav aria-label="Previous and next page">
{neighbours(page, pages)}
</nav>
<p>Text, figures and data: <a href="{root}LICENSE-TEXT.html">CC BY 4.0</a>; code: <a href="{root}LICENSE.html">MIT</a>.
<a href="{root}docs/content_note.html">Content note</a>.</p>
</footer>
</body>
</html>
"""


def entries(page: Page) -> Iterable[list[str]]:
    """Yield what the search knows of a page: address, page, section and text of each section or glossary row."""
    pieces = re.split(r'<(?:h[1-6]|tr) id="([^"]+)"[^>]*>', page.found_by)
    headings = {slug: text for _, slug, text in page.headings}
    for slug, markup in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        markup = re.sub(r"<script.*?</script>|<summary>.*?</summary>", " ", markup, flags=re.DOTALL)
        heading = headings.get(slug, "")
        if heading:
            markup = markup.partition("</h")[2].partition(">")[2]
        elif slug:  # a term of the glossary
            term, _, markup = markup.partition("</td>")
            heading = text_of(term)
        text = text_of(markup)
        if text or heading:
            first = slug == page.headings[0][1]
            yield [page.target + (f"#{slug}" if slug and not first else ""), page.title, "" if first else heading, text]


def assets(pages: list[Page]) -> dict[str, bytes]:
    """Return what pages share, by name: scripts, styles, the index of the search."""
    plotly = Path(importlib.util.find_spec("plotly").submodule_search_locations[0])
    index = json.dumps([entry for page in pages for entry in entries(page)], ensure_ascii=False, separators=(",", ":"))
    styles = [HtmlFormatter(style=name).get_style_defs(".code") for name in (LIGHT, DARK)]
    styles = [re.sub(r"^(pre|td|span)\b.*\n|^\.code \{.*\n", "", style + "\n", flags=re.MULTILINE) for style in styles]
    made = {
        "plotly.js": (plotly / "package_data" / "plotly.min.js").read_text(encoding="utf-8"),
        "circuitsvis.js": circuitsvis(),
        "site.js": (FILES / "site.js").read_text(encoding="utf-8"),
        "site.css": (FILES / "site.css").read_text(encoding="utf-8"),
        "code.css": f"{styles[0]}@media (prefers-color-scheme: dark) {{\n{styles[1]}}}\n",
        "index.js": f"window.courseIndex = {index};\n",
        Path(STAMP).name: "This folder is made anew by python course.py site: keep nothing of yours here.\n",
    }
    return {name: text.encode() for name, text in made.items()}


def build(out: Path) -> dict[str, int]:
    """Write the site; return the size of each file in bytes.

    Raises:
        SiteError: the folder holds something else, or a page is larger than a page may be.
    """
    pages = rendered()
    files = {page.target: whole(page, pages).encode() for page in pages}
    if large := [f"{name} ({len(text):,} bytes)" for name, text in files.items() if len(text) > MAX_PAGE]:
        raise SiteError(f"Larger than {MAX_PAGE:,} bytes: {', '.join(large)}. Which output of the notebook is it?")
    files |= {f"assets/{name}": content for name, content in assets(pages).items()}
    empty(out)
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {name: len(content) for name, content in files.items()}


def empty(out: Path) -> None:
    """Remove the site that was written there before.

    Raises:
        SiteError: what lies there is no site of ours.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / STAMP).is_file():
            raise SiteError(f"{out} holds something else. Name an empty or a new folder: --out DIR")
        shutil.rmtree(out)


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "site", metavar="DIR", help="the folder to write")
    out = parser.parse_args(arguments).out
    try:
        sizes = build(out)
    except SiteError as error:
        print(error)
        return 1
    pages = {name: size for name, size in sizes.items() if name.endswith(".html")}
    largest = max(pages, key=pages.get)
    print(
        f"{len(pages)} pages, the largest {largest} ({pages[largest] / 1e6:.2f} MB); {sum(sizes.values()) / 1e6:.1f} MB"
    )
    print(f"Open {out / 'index.html'} in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
