"""What every test and every notebook run under pytest shares: a reproducible environment, and what is compared.

Kernels inherit the environment below: one thread (so that printed numbers do not depend on the machine's cores), no
network, and a learner's progress left alone. nbval compares every text output of a cell with the one that the notebook
holds; a learner's notebook holds none, so it is compared with what `tests/left_open.py` expects of it. Progress bars,
HTML and figures are left out, since the text beside a figure (its alt text) is compared.
"""

import os
import sys
from collections import Counter

import pytest

sys.modules.setdefault("rfc3987_syntax", None)  # jsonschema imports it for nothing: two CPU seconds a process
collect_ignore_glob = ["chapters/*", "tools/*"]  # not modules to look for doctests in
DEAREST, DEAR_S = 15, 10
NOT_COMPARED = ("stderr", "text/html", "application/vnd.plotly.v1+json")

for name in ("COURSE_HOME", "COURSE_FIGURES"):  # whoever tests may have set them for work
    os.environ.pop(name, None)
os.environ.update(
    OMP_NUM_THREADS=os.environ.get("COURSE_THREADS", "1"),
    COURSE_PROGRESS="off",
    HF_HUB_OFFLINE="1",
    PYTHONPATH=os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")])),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart(collector: pytest.Collector) -> None:
    """Tell nbval's collector of a notebook what not to compare."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED
        collector.sanitize_patterns[r"(?m)^ +"] = ""  # Python 3.13 takes the indentation off a docstring


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """Give the cells of a learner's notebook the outputs with which nbval compares those of its run."""
    report = (yield).get_result()
    if hasattr(collector, "skip_compare") and collector.path.parent.name == "notebooks":
        from left_open import expected_outputs

        for item, outputs in zip(report.result, expected_outputs(collector.path), strict=True):
            item.cell.outputs, item.cell.execution_count = outputs, 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have to report besides passing, such as the share of compared cells, and the dearest files."""
    reports = [report for kind in ("passed", "failed", "") for report in terminalreporter.getreports(kind)]
    lines = [text for report in reports for name, text in getattr(report, "user_properties", ()) if name == "report"]
    seconds: Counter[str] = Counter()
    for report in reports:
        seconds[report.nodeid.split("::")[0]] += report.duration
    lines += [f"{taken:4.0f} s {name}" for name, taken in seconds.most_common(DEAREST) if taken > DEAR_S]
    for line in sorted(set(lines)):
        terminalreporter.write_line(line)
