"""How much of the model a dictionary keeps, beside a random dictionary that keeps as many numbers.

1. Variance explained: one minus the squared error over the squared distance from the mean, over all tokens.
2. L0, the mean number of active features on a token, and the share of features that are never active.
3. Loss recovered: the dictionary's output is put where the model's own activation was, its error left out, and the model
   predicts on. 1 if it predicts as well as before, 0 if no better than with the mean in its place.
4. The same by KL divergence from the unchanged predictions, in which gains and losses do not cancel.
5. The control: random directions of the same number and L0.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from torch import Tensor

from course_lib import models
from course_lib.features import running

RELU = ("standard", "transcoder")
"""What sae_lens calls dictionaries whose features are active above zero, without a threshold."""
Edits = list[tuple[str, Callable]]
"""(hook name, function) pairs."""


@dataclass(frozen=True)
class Reconstruction:
    """What a dictionary explains on some prompts, the first token of each left out. Losses in nats a token."""

    variance_explained: float
    """1 is perfect, 0 no better than the mean; below 0 is possible."""
    l0: float
    dead_share: float
    """Share of features never active on these tokens: on few tokens many are silent that are not dead."""
    loss: dict[str, float]
    """Of the next token: "original", "spliced" (the dictionary's output), "mean" and "zero" in its place."""
    kl: dict[str, float]
    """From the original predictions."""
    n_tokens: int

    @property
    def loss_recovered(self) -> float:
        """1: as good as the original; 0: as bad as the mean. Where the mean costs next to nothing, it says nothing."""
        return (self.loss["mean"] - self.loss["spliced"]) / (self.loss["mean"] - self.loss["original"])

    @property
    def kl_recovered(self) -> float:
        """1: predictions did not move; 0: as far as with the mean; below 0: farther."""
        return 1 - self.kl["spliced"] / self.kl["mean"]


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def reconstruction(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    prompts: models.Prompts,
    *,
    weights: running.Weights = "own",
    progress: bool = False,
) -> Reconstruction:
    """Variance explained, L0, dead features, and the loss with the dictionary's output spliced in.

    Says nothing about whether the features are the model's own parts, nor whether one of them means one thing. Compare it
    with `reconstruction(model, random_like(model, dictionary, prompts), prompts)`.

    Raises:
        ValueError: A dictionary that does not fit the model, prompts that cannot be run, or active hooks.
    """
    read, written = gathered(model, dictionary, prompts, weights, progress)
    mean = written.mean(dim=0)
    name = running.hooks(dictionary)[1]
    beside = copy.deepcopy(dictionary).to(model.cfg.device)
    conditions = {
        "spliced": spliced(beside),
        "mean": replaced(name, mean),
        "zero": replaced(name, torch.zeros_like(mean)),
    }
    usable = [prompt for prompt in prompts if len(prompt) > 1]
    found = effects(model, usable, conditions)
    active, output = _through(dictionary, read)
    return Reconstruction(
        1 - unexplained(written, output),
        float(active.sum()) / len(read),
        float((active == 0).float().mean()),
        {name: each["loss_nats"] for name, each in found.items()},
        {name: each["kl_nats"] for name, each in found.items()},
        len(read),
    )


@jaxtyped(typechecker=beartype)
def random_like(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    prompts: models.Prompts,
    *,
    seed: int = 0,
    weights: running.Weights = "own",
) -> torch.nn.Module:
    """A random dictionary of the same class, size and, on these prompts, the same L0: the control of every look-up.

    Its decoder directions are random and of one length, the one that reconstructs best; its encoder is their transpose,
    about the mean; one threshold (of a ReLU dictionary: one bias) gives the same number of active features. Needs
    n_tokens * d_sae numbers of memory, so give some hundred prompts. `attribution` and `index` take it like any other
    dictionary.

    Raises:
        ValueError: As for `reconstruction`; or a dictionary that is neither of the JumpReLU nor of the ReLU kind.
    """
    if not hasattr(dictionary, "threshold") and dictionary.cfg.architecture() not in RELU:
        raise ValueError(
            f"A random control is made of JumpReLU and ReLU dictionaries; this is a {type(dictionary).__name__}, which decides "
            "otherwise what is active. Load another dictionary."
        )
    read, written = gathered(model, dictionary, prompts, weights, progress=False)
    return randomised(dictionary, read, written, seed=seed)


def gathered(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    prompts: models.Prompts,
    weights: running.Weights,
    progress: bool,
) -> tuple[Float[Tensor, "token d_in"], Float[Tensor, "token d_out"]]:
    """What the dictionary reads and is to write, for every token but the first of each prompt, after all checks."""
    running.check(model, dictionary, weights)
    running.check_prompts(model, dictionary, prompts)
    if models.has_hooks(model):
        raise ValueError("The model has active hooks, and the measurement would not say so. Leave the context first.")
    parts = running.parts(model, dictionary, prompts, progress=progress, what="read")
    pairs = [(part.read.flatten(0, 1), part.written.flatten(0, 1)) for part in parts]
    read, written = zip(*pairs, strict=True)
    return torch.cat(read), torch.cat(written)


# --- parts, for measurements of one's own -------------------------------------------------------------------


def unexplained(written: Float[Tensor, "token d_out"], output: Float[Tensor, "token d_out"]) -> float:
    """Fraction of variance unexplained (FVU): squared error over squared distance from the mean, over all tokens."""
    return float((written - output).pow(2).sum() / (written - written.mean(dim=0)).pow(2).sum())


@torch.no_grad()
def randomised(
    dictionary: running.Dictionary,
    read: Float[Tensor, "token d_in"],
    written: Float[Tensor, "token d_out"],
    *,
    seed: int = 0,
) -> torch.nn.Module:
    """A random dictionary of the same class, size and L0 on these activations: see `random_like`."""
    control = copy.deepcopy(dictionary)
    directions = torch.randn(control.W_dec.shape, generator=torch.Generator().manual_seed(seed))
    directions /= directions.norm(dim=1, keepdim=True)
    centre = read.mean(dim=0)
    n_active = int((dictionary.encode(read) > 0).sum())
    found = ((read - centre) @ directions.T).relu()
    threshold = found.flatten().topk(n_active).values[-1]
    jumps = hasattr(control, "threshold")  # a ReLU has the threshold taken off, a JumpReLU has not
    parts = torch.where(found > threshold, found if jumps else found - threshold, 0) @ directions
    scale = (parts * (written - written.mean(dim=0))).sum() / parts.pow(2).sum()
    control.W_enc.data, control.W_dec.data = directions.T.contiguous(), directions * scale
    control.b_dec.data = written.mean(dim=0)
    subtracted = control.cfg.apply_b_dec_to_input
    control.b_enc.data = torch.zeros_like(control.b_enc) if subtracted else -centre @ control.W_enc
    if jumps:
        control.threshold.data = torch.full_like(control.threshold, threshold)
    else:
        control.b_enc.data -= threshold
    return control


def spliced(dictionary: running.Dictionary) -> Edits:
    """Hooks that put the dictionary's output where it belongs, at every position but the first."""
    seen: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: object) -> None:
        seen["read"] = activation

    def write(activation: Tensor, hook: object) -> Tensor:
        return torch.cat([activation[:, :1], dictionary(seen["read"])[:, 1:].to(activation)], dim=1)

    read, written = running.hooks(dictionary)
    return [(read, keep), (written, write)]


def replaced(name: str, value: Float[Tensor, " d_out"]) -> Edits:
    """A hook that writes one vector at every position but the first: mean or zero ablation."""

    def write(activation: Tensor, hook: object) -> Tensor:
        return torch.cat([activation[:, :1], value.to(activation).expand_as(activation[:, 1:])], dim=1)

    return [(name, write)]


@torch.no_grad()
def effects(model: models.CheckedBridge, prompts: models.Prompts, conditions: Mapping[str, Edits]) -> dict[str, dict]:
    """Condition -> mean next-token loss, and KL divergence of its predictions from the original ones, in nats a token.

    "original" is among them. The loss can gain as well as lose by an edit; the KL divergence counts every change.
    """
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in ("original", *conditions)}
    n = 0
    for batch in models.batches(model, prompts, batch_size=64, equal_lengths=True):
        targets = batch.tokens[:, 1:].flatten()
        original = _log_probs(model, batch.tokens, [])
        n += len(targets)
        for name, edits in {"original": [], **conditions}.items():
            found = _log_probs(model, batch.tokens, edits) if edits else original
            divergence = F.kl_div(found, original, log_target=True, reduction="sum")
            sums[name] += torch.stack([F.nll_loss(found, targets, reduction="sum"), divergence]).double()
    return {name: {"loss_nats": float(total[0]) / n, "kl_nats": float(total[1]) / n} for name, total in sums.items()}


def _log_probs(
    model: models.CheckedBridge, ids: Int[Tensor, "batch pos"], edits: Edits
) -> Float[Tensor, "token d_vocab"]:
    with model.hooks(edits):
        logits = model.original_model(ids, use_cache=False).logits[:, :-1]
    return logits.flatten(0, 1).log_softmax(dim=-1)


def _through(
    dictionary: running.Dictionary, read: Float[Tensor, "token d_in"]
) -> tuple[Int[Tensor, " d_sae"], Float[Tensor, "token d_out"]]:
    """How often each feature is active, and the output, in parts that fit into memory."""
    counts, outputs = torch.zeros(running.d_sae(dictionary), dtype=torch.int64), []
    for part in read.split(max(1, running.BATCH_NUMBERS // running.d_sae(dictionary))):
        found = dictionary.encode(part)
        counts += (found > 0).sum(dim=0)
        outputs.append(dictionary.decode(found))
    return counts, torch.cat(outputs)
