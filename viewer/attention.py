"""Where each token of a prompt attends, to hover over and click: circuitsvis' drawing, offline and named by its content."""

import hashlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike

from course_lib import plotting
from viewer.formats import rounded


def show_attention(token_strings: Sequence[str], patterns: Mapping[str, ArrayLike], *, title: str, alt: str) -> None:
    """Display where each token of a prompt attends, one pattern ``[query, key]`` per head name; hover, click.

    Offline: circuitsvis stores its script with the output, once a call, which costs 1.3 MB of the notebook file. A
    notebook that JupyterLab does not trust runs no script and shows a plain list, where the last token attends.

    Raises:
        ValueError: No title or alt text; a pattern that is not one row and one column a token.
    """
    from circuitsvis.attention import attention_heads
    from IPython.display import display

    if not title.strip() or not alt.strip():
        raise ValueError("A drawing needs a title, and alt must say what there is to see.")
    n, tables = len(token_strings), {name: np.asarray(pattern, float) for name, pattern in patterns.items()}
    if wrong := [f"{name!r} has shape {table.shape}" for name, table in tables.items() if table.shape != (n, n)]:
        raise ValueError(f"{', '.join(wrong)}, but {n} x {n} is needed: one row and one column for each token.")
    visible = [text.replace("\n", "⏎") or "∅" for text in token_strings]
    rows = []
    for name, table in tables.items():
        strongest = np.argsort(-table[-1], kind="stable")[:3]
        rows.append(f"{name}: " + ", ".join(f"{visible[k]} {table[-1, k]:.2f}" for k in strongest))
    listed = f"{visible[-1]} looks at, by head: " + " | ".join(rows)
    escaped = [text.replace("<", "‹").replace(">", "›") for text in visible]  # circuitsvis sets them as HTML, too
    weights = np.array([[[rounded(value, 4) for value in row] for row in table] for table in tables.values()])
    look = dict(max_value=1.0, min_value=0.0, positive_color=plotting.STYLES[0].colour, mask_upper_tri=True)
    drawing = attention_heads(weights, escaped, list(tables), **look).local_src
    display({"text/html": _page(drawing, title, alt, listed), "text/plain": f"{alt}\n{listed}"}, raw=True)


def _page(drawing: str, caption: str, alt: str, listed: str) -> str:
    """Return the drawing with its element named by content: circuitsvis names it at random, so no two outputs agree."""
    at_random = drawing.split('id="', 1)[1].split('"', 1)[0]
    name = "tokens-" + hashlib.sha256(drawing.replace(at_random, "").encode()).hexdigest()[:12]
    # The list stands where the script will draw.
    drawing = drawing.replace(at_random, name).replace("/>", f">{escape(listed)}", 1)
    return (
        f'<figure style="margin: 8px 0" aria-label="{escape(alt)}"><figcaption><b>{escape(caption)}</b></figcaption>'
        f"{drawing}</div></figure>"
    )
