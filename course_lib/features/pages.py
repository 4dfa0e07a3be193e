"""One feature on one page: a single HTML file without scripts and without the network.

Tokens are escaped, so that `<bos>` and `<assistant>` can be read. An activation is told three ways: by colour, by the
thickness of the line under the token, and in numbers when the mouse or the keyboard is on it; the token of the example has a
frame and its number beside the line.
"""

from html import escape
from pathlib import Path

from course_lib import store
from course_lib.features.records import Example, Feature, FeatureIndex, Label

STYLE = """
:root { color-scheme: light } body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
color: #1a202c; background: #fff } h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem }
h3 { font-size: 1rem; margin: .8rem 0 .2rem } table { border-collapse: collapse } td, th { padding: .1rem .9rem .1rem 0;
text-align: left; vertical-align: top } td.n { text-align: right; font-variant-numeric: tabular-nums }
.columns { display: flex; flex-wrap: wrap; gap: 0 2rem } ol { list-style: none; padding: 0; margin: .2rem 0 }
li { margin: .25rem 0; padding-left: 4.5rem; text-indent: -4.5rem } li b { display: inline-block;
width: 4rem; text-indent: 0; text-align: right; margin-right: .5rem; font-variant-numeric: tabular-nums }
.t { font-family: ui-monospace, monospace; font-size: .9rem; padding: .05rem .2rem; border-bottom: 0 solid #7b341e }
.s1 { background: #fdf0d5; border-bottom-width: 1px } .s2 { background: #fbd38d; border-bottom-width: 2px }
.s3 { background: #f6ad55; border-bottom-width: 3px } .s4 { background: #dd6b20; border-bottom-width: 4px }
.at { outline: 2px solid #1a202c } .note { color: #4a5568; font-size: .9rem } :focus { outline: 3px solid #2b6cb0 }
"""
LEGEND = (
    '<h2>Examples</h2>\n<p class="note">The number is the activation on the framed token. The darker a token and the thicker '
    "its line, the nearer to the feature's maximum; rest on it, or go there with the tab key, for its value.</p>"
)


def page(index: FeatureIndex, feature: int, *, folder: str | Path) -> Path:
    """The path of a page about one feature, `feature-12.html`, that any browser opens without a network.

    Shows density, the spread of its activations, the strongest examples and some of every quarter, what it writes to the
    logits, whose decoder directions are near, and its labels with author and score. It shows a corpus: what the feature
    does elsewhere it cannot show.

    Raises:
        ValueError: There is no such feature.
    """
    about, path = index.feature(feature), Path(folder) / f"feature-{feature}.html"
    Path(folder).mkdir(parents=True, exist_ok=True)
    store.write_atomically(path, _html(about, index).encode("utf-8"))
    return path


def _html(about: Feature, index: FeatureIndex) -> str:
    read, written = index.hook_names
    title = f"Feature {about.number} of {read}"
    parts = [_labels(about.labels), _numbers(about, index), _histogram(about), _tables(about)]
    if read != written:
        parts.insert(0, f"<p>Reads <code>{escape(read)}</code>, writes <code>{escape(written)}</code>.</p>")
    parts.append(LEGEND)
    parts += [_examples(name, examples, about.max) for name, examples in about.examples.items()]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _labels(labels: tuple[Label, ...]) -> str:
    if not labels:
        return '<p class="note">No label yet.</p>'
    return "\n".join(f"<p><strong>{escape(label.text)}</strong><br>{_scored(label)}</p>" for label in labels)


def _scored(label: Label) -> str:
    by = f'<span class="note">label by {escape(label.author)}; '
    if label.detection is None:
        return by + "not scored: a guess</span>"
    found, spread = label.detection, label.detection.f1
    quarters = ", ".join(f"{recall:.2f}" for recall in found.recall_by_quarter) or "too few"
    return (
        f"{by}rule: {escape(found.rule)}; F1 {spread.estimate:.2f} ({spread.low:.2f} to {spread.high:.2f}), balanced accuracy "
        f"{found.balanced_accuracy.estimate:.2f}, on {found.n_active} active and {found.n_silent} silent held-out tokens; "
        f"recall from the weakest quarter to the strongest: {quarters}</span>"
    )


def _numbers(about: Feature, index: FeatureIndex) -> str:
    if not about.n_active:
        return f"<p>Never active on the {index.n_tokens:,} tokens of this corpus.</p>"
    return (
        f"<p>Active on {about.n_active:,} of {index.n_tokens:,} tokens ({about.density:.3%}); maximum {about.max:.3f}, "
        f"mean where active {about.mean:.3f}.</p>"
    )


def _histogram(about: Feature, n_bins: int = 16) -> str:
    """Bars of equal width from 0 to the maximum, over the uniform sample."""
    if not about.sample:
        return ""
    counts = [0] * n_bins
    for value in about.sample:
        counts[min(n_bins - 1, int(value / about.max * n_bins))] += 1
    bars, width = [], about.max / n_bins
    for i, count in enumerate(counts):
        height = 80 * count / max(counts)
        bars.append(
            f'<rect x="{24 * i + 30}" y="{90 - height:.1f}" width="21" height="{height:.1f}" fill="#2b6cb0">'
            f"<title>{i * width:.2f} to {(i + 1) * width:.2f}: {count}</title></rect>"
        )
    half = about.sample[len(about.sample) // 2]
    n = len(about.sample)
    drawn = f"All {n} activations" if n == about.n_active else f"{n} of {about.n_active:,} activations, drawn at random"
    summary = f"{drawn}: half of them are at or below {half:.3f}, the maximum is {about.max:.3f}."
    return (
        f'<h2>How strongly</h2><svg role="img" aria-label="Histogram. {summary}" width="440" height="115">{"".join(bars)}'
        f'<line x1="30" y1="90" x2="414" y2="90" stroke="#1a202c"/><text x="30" y="108" font-size="13">0</text>'
        f'<text x="414" y="108" font-size="13" text-anchor="end">{about.max:.2f}</text>'
        f'<text x="26" y="20" font-size="13" text-anchor="end">{max(counts)}</text></svg>\n<p class="note">{summary}</p>'
    )


def _tables(about: Feature) -> str:
    near = [(f"feature {number}", f"{cosine:.2f}") for number, cosine in about.neighbours]
    tables = [
        _table("Fires on", "share of its activation", [(word, f"{share:.1%}") for word, share in about.fires_on]),
        _table("Pushes up", "logits per unit", [(word, f"{value:+.3f}") for word, value in about.promotes]),
        _table("Pushes down", "logits per unit", [(word, f"{value:+.3f}") for word, value in about.suppresses]),
        _table("Writes like", "cosine", near),
    ]
    note = "Pushes: the direct path to the logits alone, before the last norm's denominator; later layers are left out."
    return f'<div class="columns">{"".join(tables)}</div>\n<p class="note">{note}</p>'


def _table(title: str, unit: str, rows: list[tuple[str, str]]) -> str:
    lines = "".join(f'<tr><td>{_visible(name)}</td><td class="n">{escape(value)}</td></tr>' for name, value in rows)
    empty = "" if rows else '<tr><td colspan="2">nothing</td></tr>'
    return f'<section><h2>{title}</h2><table><tr><th></th><th class="note">{unit}</th></tr>{lines}{empty}</table></section>'


def _examples(name: str, examples: tuple[Example, ...], strongest: float) -> str:
    titles = {"top": "Strongest examples, each context once"}
    title = titles.get(name, f"From the quarter of its activations at {name}")
    if not examples:
        return f'<h3>{title}</h3>\n<p class="note">none in the sample</p>'
    rows = "\n".join(f"<li><b>{example.value:.2f}</b>{_line(example, strongest)}</li>" for example in examples)
    return f"<h3>{title}</h3>\n<ol>{rows}</ol>"


def _line(example: Example, strongest: float) -> str:
    pairs = zip(example.tokens, example.values, strict=True)
    return " ".join(_token(token, value, strongest, i == example.at) for i, (token, value) in enumerate(pairs))


def _token(token: str, value: float, strongest: float, centre: bool) -> str:
    shade = 0 if value <= 0 else 1 + min(3, int(4 * value / strongest))
    classes = " ".join(filter(None, ["t", f"s{shade}" if shade else "", "at" if centre else ""]))
    shown = f' title="{value:.3f}" aria-label="{escape(token)}, {value:.2f}" tabindex="0"' if shade else ""
    return f'<span class="{classes}"{shown}>{_visible(token)}</span>'


def _visible(token: str) -> str:
    return escape(token).replace("\n", "⏎").replace("\t", "⇥") or "(empty)"
