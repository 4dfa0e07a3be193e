"""Predictions, written down before a result is seen and scored afterwards, and quiz questions.

1. `predict("1.p1", guess, confidence=0.8)` records a guess, one of the options or an interval, and how sure you are.
   The last one before the result counts. A guess that makes no sense is refused with a reason, and an earlier one stays.
2. `reveal("1.p1", truth)` shows the truth and scores the guess by its Brier score, (confidence - hit) ** 2 with hit 1
   or 0: 0 is best, and always saying 50 % gets 0.25. See
   https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2
3. `quiz("1.q1", "b")` explains every option once an answer is given; the first answer counts.
"""

from typing import Any

from course_lib.grading import record
from course_lib.grading.expect import number
from course_lib.grading.registry import PREDICTIONS, QUESTIONS, Prediction, Wrong, chapter_of, find


def predict(item: str, guess: Any = ..., *, confidence: Any = ...) -> None:
    """Record a prediction and say so; without a guess, print what is asked.

    Args:
        item: id of the prediction, such as "1.p1".
        guess: a letter, or for a number the interval (low, high) in which you expect it.
        confidence: the probability, between 0 and 1, that your guess is right.

    Raises:
        ValueError: no such prediction.
    """
    asked = find(PREDICTIONS, item)
    if guess is ... or guess is None:
        print(_question(asked))
        return
    earlier = _last(item, "prediction")
    try:
        made = {
            "guess": _sensible_guess(asked, guess),
            "confidence": number(confidence, low=0, high=1, name="confidence"),
        }
    except Wrong as wrong:
        print(
            f"{item} not recorded: {wrong}; {wrong.try_next}" + (" Your earlier prediction stays." if earlier else "")
        )
        return
    if earlier and _last(item, "reveal") and made != {key: earlier[key] for key in made}:
        print(f"{item} was scored already; your prediction from then stands: {_in_words(asked, earlier)}.")
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
    made = _last(item, "prediction")
    if made is None:
        print(f"{item} turns out: {shown}. You made no prediction, so nothing is scored.")
        return
    hit = truth == made["guess"] if asked.options else made["guess"][0] <= truth <= made["guess"][1]
    brier = (made["confidence"] - hit) ** 2
    if not _last(item, "reveal"):
        record.add(chapter_of(item), "reveal", item, hit=hit, confidence=made["confidence"], brier=brier)
    print(f"{item} turns out: {shown}. You predicted {_in_words(asked, made)}.")
    print(f"  {'Right' if hit else 'Not so'}: Brier score {brier:.2f} (0 is best, always saying 50 % gets 0.25).")


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
        print(f'Answer with quiz("{item}", "..."), one of {", ".join(asked.options)}.')


def _question(asked: Prediction) -> str:
    options = [f"  {letter}) {text}" for letter, text in asked.options.items()]
    example = " or ".join(f'"{letter}"' for letter in asked.options) or f"(low, high), {_range(asked)}{asked.unit}"
    call = f'predict("{asked.id}", <guess>, confidence=<0 to 1>)'
    return "\n".join([f"{asked.id} {asked.text}", *options, f"Before you look: {call}, the guess {example}."])


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
    recorded = record.events(chapter_of(item), what, item)
    return recorded[-1] if recorded else None
