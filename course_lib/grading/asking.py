"""Predictions, written down before a result is seen and scored afterwards, and quiz questions.

1. `predict("1.p1", (low, high))` records the range that you are 80 % sure holds a number; `predict("1.p2", "b",
   confidence=0.7)` one of several options, and how sure you are. The last one before the result counts, and none after
   it. A guess that makes no sense is refused with a reason, and an earlier one stays.
2. `reveal("1.p1", truth)` shows the truth and scores. A range gets its interval score: its width and, if it misses, 10
   times (2 / (1 - 0.8)) the distance, both in parts of the possible range; 0 is best, and naming all that is possible
   gets 1 (Winkler 1972, https://doi.org/10.1080/01621459.1972.10481224). An option gets its Brier score, (confidence -
   hit) ** 2 with hit 1 or 0: 0 is best, and always saying 50 % gets 0.25 (Brier 1950,
   https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2).
3. `quiz("1.q1", "b")` explains every option once an answer is given; the first answer counts.
"""

from typing import Any

from course_lib.grading import record
from course_lib.grading.expect import number
from course_lib.grading.registry import PREDICTIONS, QUESTIONS, Prediction, Wrong, chapter_of, find

LEVEL = 0.8
"""How sure one is meant to be of a range: scores of ranges at different levels could not be compared."""


def predict(item: str, guess: Any = ..., *, confidence: Any = ...) -> None:
    """Record a prediction and say so; without a guess, print what is asked.

    Args:
        item: id of the prediction, such as "1.p1".
        guess: a letter, or for a number the range (low, high) that you are 80 % sure holds it.
        confidence: for a letter, the probability between 0 and 1 that it is right.

    Raises:
        ValueError: no such prediction.
    """
    asked = find(PREDICTIONS, item)
    if guess is ... or guess is None:
        print(_question(asked))
        return
    earlier = _last(item, "prediction")
    try:
        made = {"guess": _sensible_guess(asked, guess), "confidence": _sensible_confidence(asked, confidence)}
    except Wrong as wrong:
        stays = " Your earlier prediction stays." if earlier else ""
        print(f"{item} not recorded: {wrong}; {wrong.try_next}{stays}")
        return
    if _last(item, "reveal") and not (earlier and made == {key: earlier[key] for key in made}):
        stands = f"your prediction from then stands: {_in_words(asked, earlier)}" if earlier else "nothing is scored"
        where = f"to begin this chapter's record again, delete every {chapter_of(item):02d}.jsonl in .progress"
        print(f"{item}: the result has been shown already; {stands} ({where}).")
        return
    record.add(chapter_of(item), "prediction", item, **made)
    print(f"{item} recorded: {_in_words(asked, made)}.")


def reveal(item: str, truth: Any) -> None:
    """Print the truth beside the recorded prediction and score it; without a prediction, print the truth only.

    Args:
        item: id of the prediction, such as "1.p1".
        truth: the letter of the true option, or the measured number.

    Raises:
        ValueError: no such prediction.
        Wrong: a truth that is not possible for it.
    """
    asked = find(PREDICTIONS, item)
    truth = _sensible_guess(asked, truth) if asked.options else _within_bounds(asked, truth, "the truth")
    shown = f"{truth}) {asked.options[truth]}" if asked.options else f"{truth:.4g}{asked.unit}"
    made, seen = _last(item, "prediction"), _last(item, "reveal")
    if made is None:
        if not seen:
            record.add(chapter_of(item), "reveal", item)  # from here on it is known
        print(f"{item} turns out: {shown}. You made no prediction, so nothing is scored.")
        return
    if asked.options:
        hit = truth == made["guess"]
        scored = {"brier": (made["confidence"] - hit) ** 2}
        in_words = f"Brier score {scored['brier']:.2f} (0 is best, always saying 50 % gets 0.25)"
    else:
        hit = made["guess"][0] <= truth <= made["guess"][1]
        scored = {"interval_score": _interval_score(asked, made["guess"], truth)}
        in_words = f"interval score {scored['interval_score']:.2f} (0 is best, naming all that is possible gets 1)"
    # The card goes by the last one: the notebook's own comes after any trial.
    if seen is None or seen.get("truth") != truth:
        record.add(chapter_of(item), "reveal", item, truth=truth, hit=hit, confidence=made["confidence"], **scored)
    print(f"{item} turns out: {shown}. You predicted {_in_words(asked, made)}.")
    print(f"  {'Right' if hit else 'Not so'}: {in_words}.")


def quiz(item: str, letter: Any = ...) -> None:
    """Print the question; with a letter, also whether it is right and what is to be said on every option.

    Args:
        item: id of the question, such as "1.q1".
        letter: the chosen option.

    Raises:
        ValueError: no such question.
    """
    asked = find(QUESTIONS, item)
    print(f"{item} {asked.text}")
    letter = letter.strip().lower() if isinstance(letter, str) else letter
    answered = letter in list(asked.options)
    if answered:
        right = letter == asked.correct
        record.add(chapter_of(item), "answer", item, letter=letter, right=right)
        print(f"Your answer {letter}) is {'right' if right else 'not right'}.")
    for key, (text, explanation) in asked.options.items():
        print(f"  {key}) {text}")
        if answered:
            print(f"     {'yes' if key == asked.correct else 'no'}: {explanation}")
    if not answered:
        print("" if letter is ... else f"{letter!r} is no option. ", end="")
        print(f'Answer with quiz("{item}", "..."), one of {", ".join(asked.options)}.')


def _question(asked: Prediction) -> str:
    options = [f"  {letter}) {text}" for letter, text in asked.options.items()]
    if asked.options:
        letters = " or ".join(f'"{letter}"' for letter in asked.options)
        call = f'predict("{asked.id}", <guess>, confidence=<0 to 1>), the guess {letters}'
    else:
        call = f'predict("{asked.id}", (low, high)), {_range(asked)}{asked.unit}, so that you are 80 % sure'
    return "\n".join([f"{asked.id} {asked.text}", *options, f"Before you look: {call}."])


def _sensible_confidence(asked: Prediction, confidence: Any) -> float:
    if asked.options:
        if confidence is ...:
            raise Wrong("it lacks how sure you are", "give confidence=..., between 0 and 1.")
        sure = number(confidence, low=0, high=1, name="confidence")
        if sure < 1 / len(asked.options) - 0.01:
            what = f"with {len(asked.options)} options {sure:.0%} is less than chance"
            raise Wrong(what, "name the option that you hold most likely, and how likely it is.")
        return sure
    if confidence not in (..., LEVEL):
        raise Wrong("a range is always meant for 80 %", "leave confidence out, and choose the width accordingly.")
    return LEVEL


def _interval_score(asked: Prediction, guess: list[float], truth: float) -> float:
    low, high = guess
    missed_by = max(low - truth, truth - high, 0.0)
    return (high - low + 2 / (1 - LEVEL) * missed_by) / (asked.bounds[1] - asked.bounds[0])


def _sensible_guess(asked: Prediction, guess: Any) -> Any:
    if asked.options:
        guess = guess.strip().lower() if isinstance(guess, str) else guess
        if guess not in list(asked.options):
            raise Wrong(f"{guess!r} is not an option", "give one of " + ", ".join(map(repr, asked.options)) + ".")
        return guess
    if not isinstance(guess, tuple | list) or len(guess) != 2:
        raise Wrong(f"{guess!r} is not an interval", f"give (low, high), {_range(asked)}.")
    low, high = (_within_bounds(asked, limit, "a limit") for limit in guess)
    if low > high:
        raise Wrong("the interval is upside down", "give the lower limit first.")
    if (low, high) == asked.bounds:
        raise Wrong("that interval holds every possible value, so it predicts nothing", "make it narrower.")
    return [low, high]


def _within_bounds(asked: Prediction, value: Any, name: str) -> float:
    return number(value, low=asked.bounds[0], high=asked.bounds[1], name=name)


def _range(asked: Prediction) -> str:
    return f"within {asked.bounds[0]:g} to {asked.bounds[1]:g}"


def _in_words(asked: Prediction, made: dict[str, Any]) -> str:
    guess = made["guess"]
    said = f"{guess}) {asked.options[guess]}" if asked.options else f"{guess[0]:g} to {guess[1]:g}{asked.unit}"
    return f"{said}, {round(100 * made['confidence'])} % sure"


def _last(item: str, what: str) -> dict[str, Any] | None:
    return next(reversed(record.events(chapter_of(item), what, item)), None)
