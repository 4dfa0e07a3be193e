"""One page about one feature: on what it fires, with examples of every strength, and what it writes towards the logits."""

from collections.abc import Sequence
from html import escape

from course_lib import features


def dashboard(index: features.FeatureIndex, feature: int) -> str:
    """Return HTML about one feature that needs no network: how often it is active, on what, and what it writes."""
    about, place = index.feature(feature), index.dictionary.cfg.metadata
    names = dict.fromkeys(filter(None, [place.hook_name, place.hook_name_out]))
    hook = escape(" -> ".join(names))
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>Feature {feature}</title><h1>Feature {feature} of {hook}</h1>",
        f"<p>Active on {about.density:.3%} of {index.n_tokens:,} tokens, maximum {about.max:.3f}.</p>",
        f"<p>Fires on (share of its activation): {_listed(about.fires_on, '.1%')}.</p>",
        f"<p>Raises (logits per unit, direct path): {_listed(about.promotes, '+.3f')}.</p>",
        f"<p>Lowers: {_listed(about.suppresses, '+.3f')}.</p>",
    ]
    for name, excerpts in about.examples.items():
        title = "Strongest, each context once" if name == "top" else f"From the quarter of its activations at {name}"
        parts += [f"<h2>{title}</h2>", *(f"<p>{_line(excerpt, about.max)}</p>" for excerpt in excerpts)]
    return "\n".join(parts)


def _listed(pairs: Sequence[tuple[str, float]], form: str) -> str:
    return ", ".join(f"<code>{_visible(token)}</code> {value:{form}}" for token, value in pairs)


def _line(excerpt: features.Excerpt, maximum: float) -> str:
    """Return an excerpt as HTML: the darker a token and the thicker its line, the nearer to the feature's maximum."""
    words = []
    for i, (token, value) in enumerate(zip(excerpt.tokens, excerpt.values, strict=True)):
        share, text = value / maximum, _visible(token)
        style = f"background: rgb(221 107 32 / {share:.2f}); border-bottom: {4 * share:.1f}px solid"
        text = f'<span title="{value:.3f}" style="{style}">{text}</span>' if value > 0 else text
        words.append(f"<b>{text}</b>" if i == excerpt.at else text)
    return f"{excerpt.values[excerpt.at]:.2f}: {' '.join(words)}"


def _visible(token: str) -> str:
    return escape(token).replace("\n", "⏎")
