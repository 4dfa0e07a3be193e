"""Writes tests/golden/circuit_tracer_chat.npz: `python -m benchmarks.golden`.

What circuit-tracer, in an environment of its own, finds at the acrostic prompt on the shipped chat organism with the
shipped transcoders: all active features, all edges into the logit, and 5,000 edges drawn from the rest, half of them
from the largest. Make it again whenever the organism or its transcoders are trained again.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks import peers
from benchmarks.tracing import acrostic
from course_lib import models

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "circuit_tracer_chat.npz"


def main() -> int:
    model, weights = models.load("chat", device="cpu"), models.weights_folder()
    prompt, token = acrostic(model)
    request = {"prompt_ids": prompt, "tokens": [token], "repeats": 1}
    found = peers.run("circuit-tracer", [str(weights / "chat"), str(weights / "dictionaries" / "chat")], request)
    edges, n_features = found["edges"], len(found["features"])
    places = np.argwhere(edges[:n_features] != 0)
    sizes = np.abs(edges[places[:, 0], places[:, 1]])
    drawn = np.random.default_rng(0).choice(len(places), 2500, replace=False)
    chosen = places[np.unique(np.concatenate([np.argsort(sizes)[-2500:], drawn]))]
    np.savez_compressed(
        GOLDEN,
        prompt_ids=np.array(prompt, dtype=np.int16),
        token=np.int16(token),
        features=found["features"],
        logit_edges=edges[-1, : edges.shape[1] - 1],
        places=chosen.astype(np.int16),
        edges=edges[chosen[:, 0], chosen[:, 1]],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
