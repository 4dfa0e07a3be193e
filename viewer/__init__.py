"""Attribution graphs to click through, offline: made of the library's graphs, or of files of Neuronpedia and circuit-tracer.

1. `export(graph, tokenizer, ...)` makes the file's dict of `attribution.trace`'s graph, `read(path)` of a published file.
2. `details(file, indexes)` says what features fire on and write; `measure` what taking a node out does.
3. `page(file, ...)` is one HTML page, `show(file, alt=...)` the same in a notebook.
4. `supernodes(text, graph)` gives the groups that were made in the page back, as nodes of the graph.
5. `dashboard(index, feature)` is one page about one feature of a dictionary, `show_attention` where tokens look.
"""

from viewer.attention import show_attention
from viewer.dashboards import dashboard
from viewer.formats import details, export, ids, measure, read, read_details, save, supernodes
from viewer.pages import page, show

__all__ = [
    "dashboard",
    "details",
    "export",
    "ids",
    "measure",
    "page",
    "read",
    "read_details",
    "save",
    "show",
    "show_attention",
    "supernodes",
]
