"""One page about one feature: on what it fires, with examples of every strength, and what it writes towards the logits."""

from collections.abc import Iterator, Sequence
from html import escape

from course_lib import features


def dashboard(index: features.FeatureIndex, feature: int) -> str:
    """Return HTML about one feature that needs no network: how often it is active, on what, and what it writes."""
    place = index.dictionary.cfg.metadata
    names = dict.fromkeys(filter(None, [place.hook_name, place.hook_name_out]))
    hook = escape(" -> ".join(names))
    head = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>Feature {feature}</title><h1>Feature {feature} of {hook}</h1>",
    ]
    return "\n".join([*head, *about(index, feature, level=2)])


def about(index: features.FeatureIndex, feature: int, *, level: int, n_examples: int = 12) -> Iterator[str]:
    """Yield the lines of a dashboard, to stand in a page that holds several.

    Args:
        index: Of the feature's dictionary.
        feature: Its number.
        level: Of the headings, 1 to 6.
        n_examples: Of the strongest; a third as many of each quarter.
    """
    found = index.feature(feature)
    yield f"<p>Active on {found.density:.3%} of {index.n_tokens:,} tokens, maximum {found.max:.3f}.</p>"
    yield f"<p>Fires on (share of its activation): {_listed(found.fires_on, '.1%')}.</p>"
    yield f"<p>Raises (logits per unit, direct path): {_listed(found.promotes, '+.3f')}.</p>"
    yield f"<p>Lowers: {_listed(found.suppresses, '+.3f')}.</p>"
    for name, excerpts in found.examples.items():
        title = "Strongest, each context once" if name == "top" else f"From the quarter of its activations at {name}"
        yield f"<h{level}>{title}</h{level}>"
        for excerpt in excerpts[: n_examples if name == "top" else n_examples // 3]:
            yield f"<p>{_line(excerpt, found.max)}</p>"


def _listed(pairs: Sequence[tuple[str, float]], form: str) -> str:
    return ", ".join(f"<code>{_visible(token)}</code> {value:{form}}" for token, value in pairs)


def _line(excerpt: features.Excerpt, maximum: float) -> str:
    """Return an excerpt as HTML: the darker a token and the thicker its line, the nearer to the feature's maximum."""
    words = []
    for i, (token, value) in enumerate(zip(excerpt.tokens, excerpt.values, strict=True)):
        share, text = value / maximum, _visible(token)
        style = f"background: rgb(221 107 32 / {0.6 * share:.2f}); border-bottom: {4 * share:.1f}px solid"
        text = f'<span title="{value:.3f}" style="{style}">{text}</span>' if value > 0 else text
        words.append(f"<b>{text}</b>" if i == excerpt.at else text)
    return f"{excerpt.values[excerpt.at]:.2f}: {' '.join(words)}"


def _visible(token: str) -> str:
    return escape(token).replace("\n", "⏎")
