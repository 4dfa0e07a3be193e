"""End to end: JupyterLab in a real browser opens a notebook, runs it all, and draws its figures offline."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tools import build

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge", "chrome")
MAC_BROWSERS = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
START_S, RUN_S = 120, 420
FIGURE = ".jp-Notebook .js-plotly-plot"
HAS_TRACES = "figure => figure.querySelector('svg.main-svg .trace, svg.main-svg .hm image, svg.main-svg .point')"


def find_browser():
    """Returns the path of a Chromium-like browser, or None."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    found += [path for path in MAC_BROWSERS if os.path.exists(path)]
    return found[0] if found else None


@pytest.fixture
def notebook(tmp_path, request):
    """A copy of a learner's notebook, so that running it changes nothing here."""
    original = next((ROOT / "notebooks").glob(f"{request.param}_*.ipynb"))
    (tmp_path / "work").mkdir()
    return Path(shutil.copy(original, tmp_path / "work"))


@pytest.fixture
def lab(tmp_path, notebook, request):
    """The address of a JupyterLab server with a state of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    state = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    state |= {f"JUPYTERLAB_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    show_every_cell = tmp_path / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    show_every_cell.parent.mkdir(parents=True)
    show_every_cell.write_text('{"windowingMode": "none"}', encoding="utf-8")
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", "--no-browser"]
    if request.param == "without extensions":
        state["COURSE_FIGURES"] = "html"
        options.append(f"--LabApp.labextensions_path={tmp_path / 'none'}")
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={notebook.parent}", "--allow-root"]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env={**os.environ, **state}, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for_server(address, server, tmp_path / "lab.log")
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)


def wait_for_server(address, server, log):
    """Returns when the server answers; fails with its log when it does not start."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=5) as answer:
                json.load(answer)
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def chromium_launched():
    """A headless browser; where there is none the test is skipped."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium or Chrome on the PATH: the end-to-end test needs one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page():
    """A page of a headless browser that reaches this machine only; other requests are noted and refused."""
    with chromium_launched() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.refused = []

        def refuse(route):
            page.refused.append(route.request.url)
            route.abort()

        page.route(lambda url: not url.startswith(("http://127.0.0.1:", "data:", "blob:")), refuse)
        yield page


def run_all_cells(page):
    """Clicks Run > Run All Cells once the kernel is ready; returns the prompts when no cell is waiting."""
    page.locator(".jp-StatusBar-TextItem", has_text=re.compile(r"\| Idle$")).wait_for(timeout=START_S * 1000)
    page.locator(".jp-Notebook .jp-MarkdownCell, .jp-Notebook .jp-CodeCell").first.click()
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-item:not(.lm-mod-disabled)", has_text=re.compile("^Run All Cells")).click()
    prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(x => x.textContent.trim())"
    page.wait_for_function(f"{prompts}.some(text => /^\\[[*1]/.test(text))", timeout=START_S * 1000)
    page.wait_for_function(f"!{prompts}.some(text => text.startsWith('[*'))", timeout=RUN_S * 1000)
    return page.evaluate(prompts)


def stored_figures(name):
    """Returns how many figures the complete notebook of the same name holds."""
    notebook = nbformat.read(ROOT / "solutions" / name, as_version=4)
    return sum(build.PLOTLY in o.get("data", {}) for cell in notebook.cells for o in cell.get("outputs", ()))


@pytest.mark.parametrize(
    ("lab", "notebook"),
    [
        ("with extensions", "00"),
        ("without extensions", "00"),
        pytest.param("with extensions", "01a", marks=pytest.mark.nightly),
    ],
    indirect=True,
)
def test_a_notebook_runs_in_jupyterlab_and_draws_its_figures_offline(page, lab, notebook, tmp_path):
    page.goto(f"{lab}/lab/tree/{notebook.name}", timeout=START_S * 1000)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=START_S * 1000)
    prompts = run_all_cells(page)
    first_figure = page.locator(FIGURE).first
    first_figure.scroll_into_view_if_needed()
    page.wait_for_function(f"[...document.querySelectorAll('{FIGURE}')].every({HAS_TRACES})", timeout=60_000)
    page.screenshot(path=str(tmp_path / "notebook.png"))

    errors = page.locator('.jp-Notebook [data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()
    assert not errors
    assert all(re.fullmatch(r"\[\d+\]:?", prompt) for prompt in prompts), f"cells that did not run: {prompts}"
    assert page.locator(FIGURE).count() == stored_figures(notebook.name) > 0
    assert not page.refused, f"the network was asked for {page.refused[:3]}"
