"""What every test and every notebook run under pytest shares: a reproducible environment, and what is
compared.

Kernels inherit the environment below: one thread (so that printed numbers do not depend on the machine's
cores), no network, and a learner's progress left alone. nbval compares every text output of a cell that has
been run; progress bars, HTML and figures are left out, since the text beside a figure (its alt text) is
compared.
"""

import os
import sys

import pytest
from xdist.scheduler import LoadFileScheduling

sys.modules.setdefault("rfc3987_syntax", None)  # jsonschema imports it for nothing: two CPU seconds a process
collect_ignore_glob = ["chapters/*", "tools/*"]  # not modules to look for doctests in
SPREAD = "test_notebooks.py::test_skipped_exercises"
NOT_COMPARED = ("stderr", "text/html", "application/vnd.plotly.v1+json")

os.environ.update(
    OMP_NUM_THREADS="1",
    COURSE_PROGRESS="off",
    HF_HUB_OFFLINE="1",
    PYTHONPATH=os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")])),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart(collector: pytest.Collector) -> None:
    """Tells nbval's collector of a notebook what not to compare."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED


class ByFile(LoadFileScheduling):
    """A file stays on one worker, since the cells of a notebook share a kernel; only the long runs of notebooks are spread."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if SPREAD in nodeid else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    """Tells pytest-xdist who runs what."""
    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests have to report besides passing, such as the share of cells that is compared."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [text for report in reports for name, text in getattr(report, "user_properties", ()) if name == "report"]
    for line in sorted(set(lines)):
        terminalreporter.write_line(line)
