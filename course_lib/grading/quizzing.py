"""Quiz questions: every option is explained once an answer is given; the first answer counts."""

from typing import Any

from course_lib.grading import record
from course_lib.grading.registry import QUESTIONS, Question, find, notebook_of


def quiz(item: str, letter: Any = ...) -> None:
    """Prints the question; with a letter, also whether it is right and what is to be said on every option.

    Args:
        item: the question's id, such as "1.q1".
        letter: the chosen option.

    Raises:
        ValueError: there is no such question.
    """
    asked = find(QUESTIONS, item)
    print(f"{item} {asked.text}")
    letter = letter.strip().lower() if isinstance(letter, str) else letter
    if not isinstance(letter, str) or letter not in asked.options:
        _print_options(asked, letter)
        return
    record.add(notebook_of(item), "answer", item, letter=letter, right=letter == asked.correct)
    print(f"Your answer {letter}) is {'right' if letter == asked.correct else 'not right'}.")
    for key, option in asked.options.items():
        print(f"  {key}) {option.text}\n     {'yes' if key == asked.correct else 'no'}: {option.explanation}")


def _print_options(asked: Question, letter: Any) -> None:
    for key, option in asked.options.items():
        print(f"  {key}) {option.text}")
    if letter is not ... and letter is not None:
        print(f"{letter!r} is not an option; nothing was recorded.")
    print(f'Answer with quiz("{asked.id}", "..."), one of {", ".join(asked.options)}.')
