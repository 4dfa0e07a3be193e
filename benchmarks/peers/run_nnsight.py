"""Last token's residual stream before every block by nnsight, in length-sorted batches.

python run_nnsight.py MODEL_FOLDER REQUEST.json OUT.npz
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from nnsight import NNsight
from transformers import AutoModelForCausalLM

BATCH = 64


def harvest(model: NNsight, n_layers: int, prompts: list[list[int]]) -> torch.Tensor:
    values = [torch.empty(0)] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for begin in range(0, len(order), BATCH):
        rows = order[begin : begin + BATCH]
        longest = max(len(prompts[i]) for i in rows)
        ids = torch.tensor([[*prompts[i], *[0] * (longest - len(prompts[i]))] for i in rows])
        last, here = torch.tensor([len(prompts[i]) - 1 for i in rows]), torch.arange(len(rows))
        with torch.no_grad(), model.trace(ids, use_cache=False):
            saved = list().save()
            for layer in range(n_layers):
                saved.append(model.layers[layer].input[here, last])
        for row, i in enumerate(rows):
            values[i] = torch.stack([state[row] for state in saved])
    return torch.stack(values)


def main(folder: str, request: str, out: str) -> None:
    torch.set_num_threads(1)
    asked = json.loads(Path(request).read_text())
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().model
    model, n_layers = NNsight(network), len(network.layers)
    values, seconds = harvest(model, n_layers, asked["prompts"]), []
    for _ in range(asked["repeats"]):
        start = time.process_time()
        harvest(model, n_layers, asked["prompts"])
        seconds.append(time.process_time() - start)
    np.savez(out, values=values.numpy(), seconds=median(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
