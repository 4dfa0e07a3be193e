"""Sparse dictionaries of a model's activations: open one, read it honestly, look features up, name them.

1. A sparse autoencoder ("sae") rewrites the residual stream after a block as a sum of few features (Bricken et al.
   2023, https://transformer-circuits.pub/2023/monosemantic-features); a transcoder ("transcoder") reads what a block's
   MLP reads and writes what it writes as a sum of few features (Dunefsky et al. 2024,
   https://arxiv.org/abs/2406.11944). `shipped.py` opens those of the organisms, `published.py` those of real models.
2. What a dictionary leaves over comes first (`measuring.py`): variance explained, L0, dead features and the loss with its
   output spliced in, beside a random dictionary of the same size.
3. An index of a corpus (`indexing.py`, `records.py`): how often each feature is active and on what, with examples of every
   strength and not only the strongest, and what it writes towards the logits. Both, since they rarely coincide
   (Arad et al. 2025, https://arxiv.org/abs/2505.20063).
4. Look-up (`lookup.py`): by token, prompt, contrast, label, logit and neighbour.
5. A label is a guess by somebody. It predicts where the feature is active, and is scored on held-out prompts
   (`labels.py`; detection scoring, https://arxiv.org/abs/2410.13928).
6. A page for one feature that opens without a network (`pages.py`).

Dictionaries are sae_lens' own objects, with `encode`, `decode`, `W_enc`, `W_dec`, `b_enc`, `b_dec`;
`cfg.metadata.hook_name` and `hook_name_out` name the hooks they read and write. The first token of a prompt (`<bos>`) is
left out of all that is measured here: it is one constant vector, and the dictionaries were trained without it. This room
alone imports sae_lens, and only when a dictionary is opened.
"""

from course_lib.features.indexing import index
from course_lib.features.labels import Detection, Label, detection, propose_label
from course_lib.features.lookup import (
    Contrast,
    ContrastRow,
    by_contrast,
    by_label,
    by_logit,
    by_neighbour,
    by_prompt,
    by_token,
)
from course_lib.features.measuring import Reconstruction, random_like, reconstruction
from course_lib.features.pages import page
from course_lib.features.published import neuronpedia_url, published, releases
from course_lib.features.records import Example, Feature, FeatureIndex, Ranking, Row, load_index
from course_lib.features.shipped import load, names

__all__ = [
    "Contrast",
    "ContrastRow",
    "Detection",
    "Example",
    "Feature",
    "FeatureIndex",
    "Label",
    "Ranking",
    "Reconstruction",
    "Row",
    "by_contrast",
    "by_label",
    "by_logit",
    "by_neighbour",
    "by_prompt",
    "by_token",
    "detection",
    "index",
    "load",
    "load_index",
    "names",
    "neuronpedia_url",
    "page",
    "propose_label",
    "published",
    "random_like",
    "reconstruction",
    "releases",
]
