"""Checks, messages, predictions, claims and progress: what a learner calls in a notebook.

Answers live in the learner's notebook and are handed over explicitly: `check("1.3", my_function)`. What each exercise
asks, and the mistakes its check knows by name, is written beside its notebook in `chapters/`, as are the wrong answers
that every check must refuse. These checks are there to learn by: they run beside the learner's code and are no
protection against cheating.
"""
