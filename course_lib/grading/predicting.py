"""Predictions, written down before a result is seen and scored afterwards.

1. `predict("1.p1", guess, confidence=0.8)` records a guess, one of the options or an interval, and how sure
   you are.
2. `reveal("1.p1", truth)` shows the truth and scores the guess by its Brier score, (confidence - hit) ** 2
   with hit 1 or 0: 0 is best, and always saying 50 % gets 0.25. See
   https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2

The first revealed guess counts. A guess that makes no sense is refused with a reason, and an earlier one
stays.
"""

from typing import Any

from course_lib.grading import record
from course_lib.grading.expect import number
from course_lib.grading.registry import PREDICTIONS, Prediction, Wrong, find, notebook_of


def predict(item: str, guess: Any = ..., *, confidence: Any = ...) -> None:
    """Records a prediction and says so; without a guess, shows what is asked.

    Args:
        item: the prediction's id, such as "1.p1".
        guess: a letter, or for a number the interval (low, high) that you expect it in.
        confidence: the probability, between 0 and 1, that your guess is right.

    Raises:
        ValueError: there is no such prediction.
    """
    asked = find(PREDICTIONS, item)
    if guess is ... or guess is None:
        print(_question(asked))
        return
    try:
        guess, confidence = _sensible_guess(asked, guess), _sensible_confidence(confidence)
    except Wrong as wrong:
        earlier = " Your earlier prediction stays." if _recorded(asked) else ""
        print(f"{item} not recorded: {wrong.what}; {wrong.try_next}{earlier}")
        return
    earlier = _recorded(asked)
    if earlier and _revealed(item) and (earlier["guess"], earlier["confidence"]) != (guess, confidence):
        print(f"{item} was scored already; your prediction from then stands: {_in_words(asked, earlier)}.")
        return
    event = {"guess": guess, "confidence": confidence}
    record.add(notebook_of(item), "prediction", item, **event)
    print(f"{item} recorded: {_in_words(asked, event)}.")


def reveal(item: str, truth: Any) -> None:
    """Prints the truth beside the recorded prediction and scores it; without a prediction, prints the truth
    only.

    Args:
        item: the prediction's id, such as "1.p1".
        truth: the letter of the true option, or the measured number.

    Raises:
        ValueError: there is no such prediction, or the truth is not possible for it.
    """
    asked = find(PREDICTIONS, item)
    try:
        truth = _sensible_truth(asked, truth)
    except Wrong as wrong:
        raise ValueError(f"reveal({item!r}): {wrong.what}; {wrong.try_next}") from None
    shown = f"{truth}) {asked.options[truth]}" if asked.options else f"{truth:.4g}{asked.unit}"
    made = _recorded(asked)
    if made is None:
        print(f"{item} turns out: {shown}. You made no prediction, so nothing is scored.")
        return
    hit = truth == made["guess"] if asked.options else made["guess"][0] <= truth <= made["guess"][1]
    brier = (made["confidence"] - hit) ** 2
    if not _revealed(item):
        record.add(notebook_of(item), "reveal", item, hit=bool(hit), confidence=made["confidence"], brier=brier)
    print(f"{item} turns out: {shown}. You predicted {_in_words(asked, made)}.")
    outcome = "Right" if hit else "Not so"
    print(f"  {outcome}: Brier score {brier:.2f} (0 is best, always saying 50 % gets 0.25).")


def _question(asked: Prediction) -> str:
    options = [f"  {letter}) {text}" for letter, text in asked.options.items()]
    if asked.bounds:
        example = f"(low, high), within {asked.bounds[0]:g} to {asked.bounds[1]:g}{asked.unit}"
    else:
        example = " or ".join(f'"{letter}"' for letter in asked.options)
    call = f'predict("{asked.id}", <guess>, confidence=<0 to 1>)'
    return "\n".join([f"{asked.id} {asked.text}", *options, f"Before you look: {call}, the guess {example}."])


def _sensible_guess(asked: Prediction, guess: Any) -> Any:
    if asked.options:
        guess = guess.strip().lower() if isinstance(guess, str) else guess
        if not isinstance(guess, str) or guess not in asked.options:
            raise Wrong(f"{guess!r} is not an option", "give one of " + ", ".join(map(repr, asked.options)) + ".")
        return guess
    if not isinstance(guess, tuple | list) or len(guess) != 2:
        raise Wrong(
            f"{guess!r} is not an interval", f"give (low, high), within {asked.bounds[0]:g} to {asked.bounds[1]:g}."
        )
    low, high = (number(limit, low=asked.bounds[0], high=asked.bounds[1], name="a limit") for limit in guess)
    if low > high:
        raise Wrong("the interval is upside down", "give the lower limit first.")
    if (low, high) == tuple(map(float, asked.bounds)):
        raise Wrong("that interval holds every possible value, so it predicts nothing", "make it narrower.")
    return [low, high]


def _sensible_confidence(confidence: Any) -> float:
    if confidence is ... or confidence is None:
        raise Wrong("your confidence is missing", "add confidence=0.7 if you are 70 % sure.")
    if isinstance(confidence, int | float) and 1 < confidence <= 100:
        raise Wrong(f"confidence {confidence:g} is above 1", f"write {confidence / 100:g} for {confidence:g} %.")
    return number(confidence, low=0.0, high=1.0, name="confidence")


def _sensible_truth(asked: Prediction, truth: Any) -> Any:
    if asked.options:
        return _sensible_guess(asked, truth)
    return number(truth, low=asked.bounds[0], high=asked.bounds[1], name="the truth")


def _in_words(asked: Prediction, made: dict[str, Any]) -> str:
    guess = made["guess"]
    said = f"{guess}) {asked.options[guess]}" if asked.options else f"{guess[0]:g} to {guess[1]:g}{asked.unit}"
    return f"{said}, {round(100 * made['confidence'])} % sure"


def _recorded(asked: Prediction) -> dict[str, Any] | None:
    made = record.events(notebook_of(asked.id), "prediction", asked.id)
    sensible = [event for event in made if _is_sensible(asked, event["guess"])]
    return sensible[-1] if sensible else None


def _is_sensible(asked: Prediction, guess: Any) -> bool:
    try:
        _sensible_guess(asked, guess)
    except Wrong:
        return False
    return True


def _revealed(item: str) -> bool:
    return bool(record.events(notebook_of(item), "reveal", item))
