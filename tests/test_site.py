"""The web pages: small, whole, the same twice, readable without a network, a mouse or eyes on the figures."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from pygments.styles import get_style_by_name
from test_browser import HAS_TRACES, chromium_launched

from tools import site

SOLUTIONS = sorted((site.ROOT / "solutions").glob("*.ipynb"))
VOID = {"meta", "link", "input", "br", "hr", "img"}


class Read(HTMLParser):
    """What a page holds: tags in order with their attributes, and which of them were left open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.badly_nested = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.badly_nested.append((tag, self.getpos()))

    def all(self, *names):
        return [(tag, attributes) for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site."""
    out = tmp_path_factory.mktemp("site") / "site"
    site.build(out)
    return out


@pytest.fixture(scope="module")
def pages(built):
    """Address -> what the page holds."""
    found = sorted(built.rglob("*.html"))
    return {path.relative_to(built).as_posix(): Read(path.read_text(encoding="utf-8")) for path in found}


def test_every_notebook_page_and_card_is_there_and_no_page_is_larger_than_a_megabyte(built, record_property):
    sizes = {path.relative_to(built).as_posix(): path.stat().st_size for path in built.rglob("*") if path.is_file()}
    names = [
        path.relative_to(site.ROOT).as_posix()
        for folder in ("docs", "organisms/cards")
        for path in (site.ROOT / folder).glob("*.md")
    ]
    wanted = {"index.html", *(re.sub("md$", "html", name) for name in names)}
    wanted |= {f"notebooks/{path.stem}.html" for path in SOLUTIONS}
    assert wanted <= set(sizes)
    largest = max((size, name) for name, size in sizes.items() if name.endswith(".html"))
    record_property("report", f"site: {sum(sizes.values()) / 1e6:.1f} MB, largest page {largest}")
    assert largest[0] <= 1_000_000 and sum(sizes.values()) < 15_000_000


def test_every_shipped_dictionary_has_a_page_with_the_features_that_notebooks_talk_about(built, pages):
    shipped = site.ROOT / "organisms/weights/dictionaries"
    folders = [path for name in ("base", "chat") for path in (shipped / name).iterdir() if path.is_dir()]
    assert len(folders) == 18
    for folder in folders:
        name = folder.relative_to(site.ROOT).as_posix() + ".html"
        slugs = {attributes.get("id") for tag, attributes in pages[name].all("h2")}
        named = site.NAMED.get("/".join(folder.parts[-2:]), {})
        assert len(slugs) == site.N_FEATURES and {f"feature-{number}" for number in named} <= slugs, name
        linked = [attributes["href"] for _, attributes in pages["index.html"].all("a")]
        assert name in linked
    danger = (built / "organisms/weights/dictionaries/chat/sae-1.html").read_text(encoding="utf-8")
    at = danger.index('id="feature-509"')
    assert "<code>ammonia</code>" in danger[at : danger.index("<h2", at)]
    notebook = {attributes["href"] for _, attributes in pages["notebooks/03a_look_up_and_hunt.html"].all("a")}
    assert "../organisms/weights/dictionaries/chat/sae-1.html" in notebook


def test_the_same_sources_give_the_same_bytes(built, tmp_path):
    site.build(tmp_path / "again")
    first, second = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (built, tmp_path / "again")
    )
    assert first == second
    one = "chat/sae-1"  # a build keeps what it says of dictionaries for the next one of this process
    assert site.described.__wrapped__(one) == site.described(one)


def test_pages_share_one_copy_of_each_script_and_style_and_name_nothing_elsewhere(built, pages):
    for name, page in pages.items():
        addresses = [a.get("src") or a.get("href") for tag, a in page.all("script", "link", "img", "iframe", "source")]
        addresses = [address for address in addresses if address and address != "data:,"]
        assert [address for address in addresses if not re.fullmatch(r"(\.\./)*assets/[\w.]+", address)] == [], name
    markup = {name: (built / name).read_text(encoding="utf-8") for name in pages}
    inline = {
        name: re.findall(r"<script(?![^>]*(?:src=|json))[^>]*>(.*?)</script>", text, re.DOTALL)
        for name, text in markup.items()
    }
    assert max(len(script) for scripts in inline.values() for script in scripts) < 20_000  # a call with its numbers
    scripts = [path.read_text(encoding="utf-8") for path in (built / "assets").glob("*.js")]
    assert [sum(mark in script for script in scripts) for mark in ("Plotly.register", "var CircuitsVis=")] == [1, 1]


def test_every_link_and_every_anchor_leads_somewhere(built, pages):
    ids = {name: {attributes.get("id") for _, attributes in page.tags} for name, page in pages.items()}
    broken = []
    for name, page in pages.items():
        for _, attributes in page.all("a"):
            address, _, anchor = attributes["href"].partition("#")
            if re.match(r"[a-z]+:", address):
                continue
            target = (built / name).parent.joinpath(address).resolve().relative_to(built.resolve()).as_posix()
            target = target if address else name
            if target not in pages or (anchor and anchor not in ids[target]):
                broken.append((name, attributes["href"]))
    assert broken == []
    index = json.loads((built / "assets" / "index.js").read_text(encoding="utf-8").partition("=")[2].rstrip(";\n"))
    assert [a for a, *_ in index if (found := a.partition("#")) and found[2] and found[2] not in ids[found[0]]] == []
    assert {a.partition("#")[0] for a, *_ in index} == set(pages)


def test_a_badge_of_another_place_becomes_a_link():
    page = site.Page("solutions/01_x.ipynb", "Notebooks")
    markup = site.markdown(page, {})("[![Open in Colab](https://a.example/badge.svg)](https://a.example/run)")
    assert markup.strip() == '<p><a href="https://a.example/run">Open in Colab</a></p>'


def test_links_of_the_sources_lead_to_pages():
    page = site.Page("solutions/01_x.ipynb", "Notebooks")
    address = site.Renderer(
        page,
        {name: site.target_of(name) for name in ("docs/glossary.md", "notebooks/02_y.ipynb", "solutions/02_y.ipynb")},
    ).address
    assert address("../docs/glossary.md#terms") == "../docs/glossary.html#terms"
    assert address("../notebooks/02_y.ipynb") == address("02_y.ipynb") == "../notebooks/02_y.html"
    assert address("../tools/build.py") == address("../../etc/passwd") == ""
    assert address("https://arxiv.org/abs/2406.11717") == "https://arxiv.org/abs/2406.11717"


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem.split("_")[0])
def test_every_figure_has_its_alt_text_for_screen_readers_and_on_request(path, built):
    text = (built / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    drawn = [output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    alts = ["".join(data["text/plain"]) for data in drawn if site.PLOTLY in data]
    labels = [html.unescape(label) for label in re.findall(r'role="img" aria-label="([^"]*)"', text)]
    assert labels == alts and all(alts)
    shown = re.findall(rf"<summary>{site.IN_WORDS}</summary><p>(.*?)</p>", text, re.DOTALL)
    assert [alt for alt in alts if alt not in map(html.unescape, shown)] == []
    assert len(shown) == len(alts) + text.count("CircuitsVis.render(")


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem.split("_")[0])
def test_an_answer_is_shown_only_when_its_fold_is_opened(path, built):
    text = (built / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
    open_text = re.sub(r'<details class="answer">.*?</details>', "", text, flags=re.DOTALL)
    stubs = {cell["id"]: "".join(cell["source"]) for cell in site.cells_of(f"notebooks/{path.name}")}
    answered = [
        cell for cell in site.cells_of(f"solutions/{path.name}") if "".join(cell["source"]) != stubs[cell["id"]]
    ]
    assert answered and text.count('<details class="answer">') == len(answered)
    for cell in answered:
        whole = site.code_block("".join(cell["source"]), site.PythonLexer())
        assert whole in text and whole not in open_text


def test_pages_have_landmarks_one_title_headings_in_order_and_closed_tags(pages):
    for name, page in pages.items():
        levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
        assert levels[0] == 1 and levels.count(1) == 1, name
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), name
        assert [len(page.all(tag)) for tag in ("main", "header", "footer", "title")] == [1] * 4, name
        assert len({a["aria-label"] for _, a in page.all("nav")}) == len(page.all("nav")) == 2, name
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids)) and not page.open and not page.badly_nested, name
        assert page.all("a")[0] == ("a", {"class": "skip", "href": "#content"}), name
        assert sum(a.get("aria-current") == "page" for _, a in page.all("a")) == 1, name


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    dark, light = sorted(map(luminance, (one.lstrip("#"), other.lstrip("#"))))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("number", "style"), [(0, site.LIGHT), (1, site.DARK)], ids=["light", "dark"])
def test_text_and_code_stand_out_from_their_ground(number, style):
    css = (site.FILES / "site.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w{6})", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[number]))
    for text in ("text", "quiet", "link"):
        assert min(contrast(colours[text], colours[ground]) for ground in ("ground", "raised")) >= 4.5, text
    assert contrast(colours["text"], colours["mark"]) >= 4.5
    code = {str(kind): look["color"] for kind, look in get_style_by_name(style) if look["color"]}
    code = {kind: colour for kind, colour in code.items() if not re.search("Generic|Error", kind)}
    assert {kind for kind, colour in code.items() if contrast(colour, colours["raised"]) < 4.5} == set()


def test_a_folder_with_something_else_is_left_alone_and_an_older_site_is_replaced(tmp_path, built, capsys):
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.png").write_bytes(b"cat")
    assert site.main(["--out", str(other)]) == 1
    assert "holds something else" in capsys.readouterr().out and [path.name for path in other.iterdir()] == ["cat.png"]
    old = tmp_path / "old"
    (old / site.STAMP).parent.mkdir(parents=True)
    (old / site.STAMP).touch()
    (old / "gone.html").touch()
    assert site.main(["--out", str(old)]) == 0
    assert not (old / "gone.html").exists() and (old / "index.html").exists()


# --- in a browser, from the disk ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    with chromium_launched() as browser:
        yield browser


def opened(browser, path, width=760, **settings):
    """A page opened from the disk, all figures drawn; it notes what it asks for elsewhere and what goes wrong."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
    page.elsewhere, page.wrong = [], []
    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or page.elsewhere.append(r.url))
    page.on("requestfailed", lambda request: page.wrong.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.wrong.append(message.text))
    page.goto(path.as_uri())
    page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", timeout=60_000)
    return page


def holds(page, path):
    """Everything is drawn, nothing was asked for elsewhere, and the page itself does not scroll sideways."""
    drawn = page.locator(".plot.js-plotly-plot").count()
    assert drawn == path.read_text(encoding="utf-8").count('class="plot"')
    assert page.evaluate(f"[...document.querySelectorAll('.plot')].every({HAS_TRACES})")
    assert page.locator("[id^=tokens-]").count() == page.locator("[id^=tokens-] :is(canvas, svg, img)").first.count()
    assert not page.elsewhere and not page.wrong, path.name
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path.name
    return drawn


def test_a_page_from_the_disk_draws_its_figures_is_found_and_is_used_by_keyboard(built, chromium):
    path = built / "notebooks" / "00_start_here.html"
    page = opened(chromium, path, width=400, color_scheme="dark")
    assert holds(page, path) == 3

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")

    page.get_by_label("Search all pages").fill("Bypass Score")
    page.get_by_role("link", name="bypass score (Glossary)").wait_for()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_url("**/docs/glossary.html#term-bypass-score")
    assert "Mean refusal score" in page.locator(":target").inner_text()
    assert not page.elsewhere and not page.wrong


@pytest.mark.nightly
def test_every_page_from_the_disk_is_whole_at_both_widths(built, chromium):
    for path in sorted(built.rglob("*.html")):
        for width in (400, 1280):
            page = opened(chromium, path, width=width)
            holds(page, path)
            page.close()
