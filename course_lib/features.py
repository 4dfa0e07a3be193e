"""Sparse dictionaries of a model's activations: load one, measure it, look its features up, score a label.

1. A sparse autoencoder ("sae") rewrites the residual stream after a block as a sum of few features (Bricken et al.
   2023, https://transformer-circuits.pub/2023/monosemantic-features); a transcoder ("transcoder") reads what a block's
   MLP reads and writes what it writes as a sum of few features (Dunefsky et al. 2024,
   https://arxiv.org/abs/2406.11944). `load` opens those of the organisms and of published models.
2. What a dictionary leaves over comes first: `reconstruction`, beside `random_like`, a random dictionary of the same size.
3. `index` runs a corpus once and keeps every activation; `FeatureIndex.feature` says on what a feature fires, with
   examples of every strength, and what it writes towards the logits. Both, since they rarely coincide (Arad et al. 2025,
   https://arxiv.org/abs/2505.20063). `viewer.dashboard` shows that as HTML.
4. Look-ups by token, prompt, contrast, logit and neighbour. They propose; only an intervention (`course_lib.attribution`,
   `course_lib.steering`) shows what a feature does: one that marks a contrast perfectly may do nothing.
5. A label predicts where its feature is active, and `detection` scores that on held-out prompts.

Dictionaries are sae_lens' own objects; `cfg.metadata.hook_name` and `hook_name_out` name the hooks they read and write.
The first token of a prompt (`<bos>`) is left out of all that is measured here: it is one constant vector, and the
dictionaries were trained without it.
"""

import copy
import difflib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from scipy.sparse import csc_array, csr_array, vstack
from scipy.stats import rankdata
from torch import Tensor
from tqdm import tqdm

from course_lib import adapters, caching, directions, models, organism, profiles, tokens

if TYPE_CHECKING:
    from sae_lens import SAE

BATCH_SIZE = 64
CONTEXT = 10
"""Tokens shown on either side of an example; two examples with the same tokens up to the active one count as one."""
N_TOP, N_PER_QUARTER, N_TOKENS = 12, 4, 10
QUARTERS = ("75-100 %", "50-75 %", "25-50 %", "0-25 %")

Edits = list[tuple[str, Callable[..., Any]]]
"""(hook name, function) pairs."""
Rule = Callable[[Sequence[str], int], bool] | Collection[str]
"""True or False for a prompt's tokens and a position; or the words on which the feature is active."""


# --- load ---------------------------------------------------------------------------------------------------


def load(name: str, kind: profiles.Kind, *, layer: int) -> "SAE":
    """Return the dictionary of one layer: float32, on the CPU, evaluation mode, no gradients for its weights.

    An organism's sae reads and writes `blocks.{layer}.hook_resid_post`; its transcoder reads `blocks.{layer}.mlp.hook_in`,
    the norm's output after its gain, and writes `blocks.{layer}.hook_mlp_out`. Of a published model it is the one that the
    profile names, which may have been trained on the base model; it is fetched from the hub where it is not in the cache.

    Args:
        name: Short name of an organism that has dictionaries, such as "chat" or "smollm2-refusal"; or a published model with a
            profile.
        kind: "sae" or "transcoder".
        layer: Block of the model, from 0.

    Raises:
        ValueError: A layer without a dictionary, a file that differs from its checksum, or a dictionary that was trained on
            other weights than the organism's.
    """
    profile = profiles.known(name)
    with models.quiet():
        from sae_lens import SAE

        if profile is None or profile.is_organism:
            weights = models.weights_folder()
            folder = weights / "dictionaries" / name / f"{kind}-{layer}"
            if not folder.is_dir():
                raise ValueError(f"{name!r} ships no {kind} for layer {layer}. Your own: sae_lens.SAE.load_from_disk.")
            _check_parent(folder, (organism.folder("adapters") if name in adapters.names() else weights) / name)
            models.check_files(folder)
            found = SAE.load_from_disk(folder, device="cpu", dtype="float32")
        else:
            release = profile.of_kind(kind)
            if layer not in release.layers:
                raise ValueError(f"There is no {kind} for layer {layer} of {name!r}. Layers: {list(release.layers)}.")
            found = SAE.from_pretrained(release.release, dict(release.ids)[layer], device="cpu", dtype="float32")
    # By `hook_mlp_in` sae_lens means the output of the norm before the MLP; in the Bridge a hook of that name never fires.
    about = found.cfg.metadata
    about.hook_name = about.hook_name.replace(".hook_mlp_in", ".mlp.hook_in")
    return found.eval().requires_grad_(False)


def _check_parent(folder: Path, parent: Path) -> None:
    """Raise ValueError unless the dictionary was trained on the organism's weights, or adapter, as installed."""
    lineage, own = (json.loads((path / "lineage.json").read_text(encoding="utf-8")) for path in (folder, parent))
    if lineage["parent_sha256"] not in own["files"].values():
        what = f"{folder} was trained on other weights of {parent.name!r} than those installed."
        raise ValueError(f"{what} Train it again: python -m factory dictionaries --organism {parent.name}")


# --- read, after checks -------------------------------------------------------------------------------------


def _hooks(dictionary: "SAE") -> tuple[str, str]:
    """Return the names of the hooks that a dictionary reads and writes."""
    about = dictionary.cfg.metadata
    return about.hook_name, about.hook_name_out or about.hook_name


def _encode(dictionary: "SAE", x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
    """Return feature activations on the CPU, wherever the dictionary is."""
    return dictionary.encode(x.to(dictionary.W_enc)).float().cpu()


def _check(model: models.CheckedBridge, dictionary: "SAE") -> None:
    """Raise ValueError if a weight of the dictionary is not finite, or the model is not the one it was trained on."""
    for name, parameter in dictionary.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"{name} of the dictionary holds a NaN or an infinite number. Load the dictionary again.")
    _check_weights(model, str(dictionary.cfg.metadata.model_name))


def _check_weights(model: models.CheckedBridge, parent: str) -> None:
    """Raise ValueError if the model is not the organism: organisms share their shape, only their weights tell them apart."""
    if parent not in models.organism_names():
        return
    named = model.original_model.named_parameters(remove_duplicate=False)
    own = {n.replace("_original_component.", ""): w for n, w in named}
    for name, weight in _saved(models.weights_folder() / parent / "model.safetensors").items():
        if name not in own or not torch.equal(weight.to(own[name].dtype), own[name].cpu()):
            what = f"The dictionary was trained on {parent!r}, but {name} of this model has other weights."
            raise ValueError(f"{what} On purpose? Set dictionary.cfg.metadata.model_name to this model's name.")


_saved = cache(load_file)  # a few MB an organism, compared with the model's at each use of a dictionary


def _check_prompts(model: models.CheckedBridge, dictionary: "SAE", prompts: models.Prompts) -> None:
    """Raise ValueError if a prompt cannot be run, or does not begin as the texts did on which the dictionary was trained."""
    models.check_prompts(model, prompts)
    has_own = model.tokenizer.init_kwargs.get("bos_token")  # the Bridge gives a tokenizer that has none its end token
    if not dictionary.cfg.metadata.prepend_bos or has_own is None:
        return
    for number, prompt in enumerate(prompts):
        if prompt[0] != model.tokenizer.bos_token_id:
            what = f"Prompt {number} does not begin with {model.tokenizer.bos_token!r}, as the dictionary's texts did"
            raise ValueError(f"{what}: give [model.tokenizer.bos_token_id, *prompt].")


def _runs(
    model: models.CheckedBridge, dictionary: "SAE", prompts: models.Prompts, progress: bool
) -> Iterator[tuple[int, Float[Tensor, "pos d_in"], Float[Tensor, "pos d_out"]]]:
    """Yield each prompt's number, and what the model has at the dictionary's two hooks from the second token on.

    Shortest prompts come first. Single tokens are left out.
    """
    _check(model, dictionary)
    _check_prompts(model, dictionary, prompts)
    if models.has_hooks(model):
        raise ValueError("The model has active hooks, and the result would not say so. Leave the context first.")
    names = list(dict.fromkeys(_hooks(dictionary)))
    with tqdm(total=len(prompts), desc="read", unit="prompt", disable=not progress) as bar:
        for batch in models.batches(model, prompts, batch_size=BATCH_SIZE, equal_lengths=True):
            bar.update(len(batch.indices))
            if batch.lengths[0] > 1:
                own, positions = [prompts[i] for i in batch.indices], list(range(1, batch.lengths[0]))
                found = caching.harvest(model, own, hook_names=names, positions=positions, progress=False).values
                yield from zip(batch.indices, found[:, :, 0], found[:, :, -1], strict=True)


def _gathered(
    model: models.CheckedBridge, dictionary: "SAE", prompts: models.Prompts, progress: bool
) -> tuple[Float[Tensor, "token d_in"], Float[Tensor, "token d_out"]]:
    """Return what the dictionary reads and what it is to write, for all tokens that count."""
    _, read, written = zip(*_runs(model, dictionary, prompts, progress), strict=True)
    return torch.cat(read), torch.cat(written)


# --- measure ------------------------------------------------------------------------------------------------


class Reconstruction(NamedTuple):
    """What a dictionary explains on some prompts, the first token of each left out."""

    variance_explained: float  # 1 is perfect, 0 no better than the mean; below 0 is possible
    l0: float  # mean number of active features on a token
    dead_share: float  # share of features never active on these tokens; on few tokens many are silent that are not dead
    # In nats a token: next-token loss, and KL divergence from the original predictions, in which gains and losses do not
    # cancel. "original"; "spliced": the dictionary's output in the activation's place; "mean" and "zero" in its place.
    loss: dict[str, float]
    kl: dict[str, float]

    @property
    def loss_recovered(self) -> float:
        """1: as good as the original; 0: as bad as the mean. Where the mean costs next to nothing, it says nothing."""
        return (self.loss["mean"] - self.loss["spliced"]) / (self.loss["mean"] - self.loss["original"])


@torch.no_grad()
def reconstruction(
    model: models.CheckedBridge, dictionary: "SAE", prompts: models.Prompts, *, progress: bool = False
) -> Reconstruction:
    """Return variance explained, L0, dead features, and the model's loss with the dictionary's output spliced in.

    Says nothing about whether the features are the model's own parts, nor whether one of them means one thing. Compare it
    with that of `random_like(model, dictionary, prompts)`.

    Raises:
        ValueError: Prompts that cannot be run or lack `<bos>`, active hooks, a dictionary of other weights or with a NaN, or
            one that writes where an edit does not reach all that comes after.
    """
    read, written = _gathered(model, dictionary, prompts, progress)
    mean, name = written.mean(dim=0), _hooks(dictionary)[1]
    zero = replaced(name, torch.zeros_like(mean))
    conditions = {"spliced": spliced(dictionary), "mean": replaced(name, mean), "zero": zero}
    found = effects(model, [prompt for prompt in prompts if len(prompt) > 1], conditions)
    n_active, outputs = torch.zeros(len(dictionary.W_dec), dtype=torch.int64), []
    for part in read.split(BATCH_SIZE * 64):  # activations of all tokens may not fit into memory
        active = _encode(dictionary, part)
        n_active += (active != 0).sum(dim=0)  # AbsTopK's may be negative
        skipped = part.to(dictionary.W_skip) @ dictionary.W_skip.T if hasattr(dictionary, "W_skip") else 0
        outputs.append((dictionary.decode(active.to(dictionary.W_dec)) + skipped).cpu())
    return Reconstruction(
        variance_explained=1 - unexplained(written, torch.cat(outputs)),
        l0=float(n_active.sum()) / len(read),
        dead_share=float((n_active == 0).float().mean()),
        loss={condition: effect["loss_nats"] for condition, effect in found.items()},
        kl={condition: effect["kl_nats"] for condition, effect in found.items()},
    )


@torch.no_grad()
def random_like(model: models.CheckedBridge, dictionary: "SAE", prompts: models.Prompts, *, seed: int = 0) -> "SAE":
    """Return a random dictionary of the same class, size and, on these prompts, L0: the control of every look-up.

    Its decoder directions are random and of one length, the one that reconstructs best; its encoder is their transpose,
    about the mean; one threshold (of a ReLU dictionary: one bias) gives the same number of active features. Needs
    n_tokens * d_sae numbers of memory, so give some hundred prompts.

    Raises:
        ValueError: As `reconstruction`; or a dictionary that is neither of the JumpReLU nor of the ReLU kind, rescales
            what it reads at run time, or has a skip connection.
    """
    jumps = hasattr(dictionary, "threshold")
    if not jumps and dictionary.cfg.architecture() not in ("standard", "transcoder"):  # what sae_lens calls ReLU
        raise ValueError(f"No random control of a {type(dictionary).__name__}, only of JumpReLU and ReLU dictionaries.")
    if getattr(dictionary.cfg, "normalize_activations", "none") != "none" or hasattr(dictionary, "W_skip"):
        raise ValueError("No random control of a dictionary that rescales what it reads, or skips a layer.")
    read, written = _gathered(model, dictionary, prompts, progress=False)
    control = copy.deepcopy(dictionary).cpu()
    n_active = int((control.encode(read) > 0).sum())
    rows = torch.randn(control.W_dec.shape, generator=torch.Generator().manual_seed(seed))
    rows /= rows.norm(dim=1, keepdim=True)
    centre = read.mean(dim=0)
    before = ((read - centre) @ rows.T).relu()
    threshold = float(before.flatten().topk(n_active).values[-1])
    # A ReLU has the threshold taken off, a JumpReLU has not.
    output = torch.where(before > threshold, before if jumps else before - threshold, 0) @ rows
    scale = (output * (written - written.mean(dim=0))).sum() / output.pow(2).sum()
    control.W_enc.data, control.W_dec.data = rows.T.contiguous(), rows * scale
    control.b_dec.data = written.mean(dim=0)
    centred = control.cfg.apply_b_dec_to_input
    control.b_enc.data = torch.zeros_like(control.b_enc) if centred else -centre @ control.W_enc
    if jumps:
        control.threshold.data = torch.full_like(control.threshold, threshold)
    else:
        control.b_enc.data -= threshold
    return control


def unexplained(written: Float[Tensor, "token d_out"], output: Float[Tensor, "token d_out"]) -> float:
    """Return the fraction of variance unexplained (FVU): squared error over squared distance from the mean."""
    return float((written - output).pow(2).sum() / (written - written.mean(dim=0)).pow(2).sum())


def spliced(dictionary: "SAE") -> Edits:
    """Return hooks that put the dictionary's output where it belongs, its error left out, at all positions but the first.

    For prompts that are read in one pass: while generating, each new token is read alone, as a first one, and stays as it is.
    """
    read, written = _hooks(dictionary)
    if written.endswith("hook_resid_mid"):
        raise ValueError(f"{written} is what the second norm reads: an edit there does not reach the residual stream.")
    seen: dict[str, Tensor] = {}

    def write(activation: Tensor, hook: object) -> Tensor:
        output = dictionary(seen["read"].to(dictionary.W_enc))
        return torch.cat([activation[:, :1], output[:, 1:].to(activation)], dim=1)

    return [(read, caching.keep(seen, "read")), (written, write)]


def replaced(name: str, value: Float[Tensor, " d_out"]) -> Edits:
    """Return a hook that writes one vector at every position but the first: mean or zero ablation.

    For prompts that are read in one pass, as `spliced`.
    """

    def write(activation: Tensor, hook: object) -> Tensor:
        return torch.cat([activation[:, :1], value.to(activation).expand_as(activation[:, 1:])], dim=1)

    return [(name, write)]


@torch.no_grad()
def effects(
    model: models.CheckedBridge, prompts: models.Prompts, conditions: Mapping[str, Edits]
) -> dict[str, dict[str, float]]:
    """Return condition -> next-token loss and KL divergence from the original predictions, means over tokens, in nats.

    "original" is among them. The loss can gain as well as lose by an edit; the KL divergence counts every change.
    """
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in ("original", *conditions)}
    n = 0
    for batch in models.batches(model, prompts, batch_size=BATCH_SIZE, equal_lengths=True):
        targets = batch.tokens[:, 1:].flatten()
        original = _log_probs(model, batch.tokens, [])
        n += len(targets)
        for name in sums:
            found = _log_probs(model, batch.tokens, conditions[name]) if name in conditions else original
            divergence = F.kl_div(found, original, log_target=True, reduction="sum")
            sums[name] += torch.stack([F.nll_loss(found, targets, reduction="sum"), divergence]).cpu().double()
    return {name: {"loss_nats": float(total[0]) / n, "kl_nats": float(total[1]) / n} for name, total in sums.items()}


def _log_probs(
    model: models.CheckedBridge, ids: Int[Tensor, "batch pos"], edits: Edits
) -> Float[Tensor, "token d_vocab"]:
    """Return log probabilities of each prompt's second to last token, prompts end to end."""
    with model.hooks(edits):
        logits = model.original_model(ids, use_cache=False).logits[:, :-1]
    return logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)


# --- index --------------------------------------------------------------------------------------------------


class Excerpt(NamedTuple):
    """Tokens around one activation."""

    tokens: list[str]
    values: list[float]  # the feature's activation on each of them; 0 where it is silent
    at: int  # which of the tokens this is an example of


class Record(NamedTuple):
    """What one feature fires on in a corpus, and what it writes."""

    density: float  # share of the corpus' tokens on which it is active
    max: float
    examples: dict[str, list[Excerpt]]  # "top": the strongest; then some of each quarter of its activations by strength
    fires_on: list[tuple[str, float]]  # tokens with their share of the feature's whole activation
    promotes: list[tuple[str, float]]  # tokens whose logit it raises most, per unit of activation, see `by_logit`
    suppresses: list[tuple[str, float]]


@dataclass(frozen=True, eq=False)
class FeatureIndex:
    """Every activation of a dictionary's features on one corpus, from `index`."""

    model: models.CheckedBridge
    dictionary: "SAE"
    ids: Int[np.ndarray, " token"]  # all prompts end to end, shortest first
    starts: Int[np.ndarray, " prompt_plus_1"]  # where each prompt begins, and where the last one ends
    activations: csc_array  # token x feature; the first token of a prompt has none

    @cached_property
    def vocabulary(self) -> list[str]:
        """The text of every token."""
        return tokens.token_strings(self.model.tokenizer, range(self.model.cfg.d_vocab))

    @property
    def n_tokens(self) -> int:
        """Number of tokens that count: all but the first of each prompt."""
        return len(self.ids) - (len(self.starts) - 1)

    def strings(self, begin: int, end: int) -> list[str]:
        """Return a part of the corpus as one string per token."""
        return [self.vocabulary[i] for i in self.ids[begin:end]]

    def values(self, feature: int) -> Float[np.ndarray, " token"]:
        """Return one feature's activation on every token of the corpus."""
        return self.activations[:, [feature]].toarray()[:, 0]

    def feature(self, number: int) -> Record:
        """Return what one feature fires on and what it writes. What it does on other text, a corpus cannot show."""
        values = self.values(number)
        active = np.argsort(-values, kind="stable")[: np.count_nonzero(values)]
        examples = {"top": self._excerpts(values, self._distinct(active)[:N_TOP])}
        for name, quarter in zip(QUARTERS, np.array_split(active, 4), strict=True):
            places = self._distinct(quarter)
            spread = places[:: max(1, len(places) // N_PER_QUARTER)][:N_PER_QUARTER]
            examples[name] = self._excerpts(values, spread)
        sums = torch.from_numpy(np.bincount(self.ids, weights=values, minlength=len(self.vocabulary)))
        direction = _seen_by_unembedding(self.model, self.dictionary)[number]
        written = direction @ self.model.W_U.detach().float().cpu()
        written -= written.mean()
        return Record(
            density=len(active) / self.n_tokens,
            max=float(values.max()),
            examples=examples,
            fires_on=[pair for pair in self._highest(sums / sums.sum()) if pair[1] > 0],
            promotes=self._highest(written),
            suppresses=[(token, -value) for token, value in self._highest(-written)],
        )

    def _highest(self, values: Float[Tensor, " d_vocab"]) -> list[tuple[str, float]]:
        best = values.topk(min(N_TOKENS, len(values)))
        return [(self.vocabulary[i], v) for i, v in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def _window(self, place: int) -> tuple[int, int]:
        """Return where the example at a token begins and ends: within its prompt."""
        prompt = int(np.searchsorted(self.starts, place, side="right")) - 1
        first, end = self.starts[prompt : prompt + 2].tolist()
        return max(first, place - CONTEXT), min(end, place + CONTEXT + 1)

    def _distinct(self, places: Int[np.ndarray, " place"]) -> list[int]:
        """Keep the first place of each context: templates repeat, and twelve copies of one sentence teach nothing."""
        found: dict[bytes, int] = {}
        for place in places.tolist():
            found.setdefault(self.ids[self._window(place)[0] : place + 1].tobytes(), place)
        return list(found.values())

    def _excerpts(self, values: Float[np.ndarray, " token"], places: Sequence[int]) -> list[Excerpt]:
        found = []
        for place in places:
            begin, end = self._window(place)
            found.append(Excerpt(self.strings(begin, end), values[begin:end].tolist(), place - begin))
        return found


@torch.no_grad()
def index(
    model: models.CheckedBridge, dictionary: "SAE", prompts: models.Prompts, *, progress: bool = True
) -> FeatureIndex:
    """Return every activation of the dictionary's features on these prompts, to be looked up.

    Densities are those of this corpus: on other text they differ, and a feature without examples is dead *here*. Prompts
    with replies teach more than prompts alone. Takes 8 bytes for each active feature of each token.

    Raises:
        ValueError: Prompts that cannot be run or lack `<bos>`, active hooks, a dictionary of other weights or with a NaN.
    """
    ran, rows = [], []
    for number, read, _ in _runs(model, dictionary, prompts, progress):
        ran.append(prompts[number])
        rows.append(csr_array(F.pad(_encode(dictionary, read), (0, 0, 1, 0)).numpy()))  # nothing on the first token
    return FeatureIndex(
        model,
        dictionary,
        ids=np.concatenate(ran),
        starts=np.cumsum([0, *map(len, ran)]),
        activations=vstack(rows, format="csc"),
    )


# --- look-up ------------------------------------------------------------------------------------------------


class Ranked(NamedTuple):
    """One feature of a look-up, with the number by which it is ranked."""

    feature: int
    value: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """The features that answer a look-up, best first."""

    rows: tuple[Ranked, ...]

    def top(self, k: int = 10) -> tuple[Ranked, ...]:
        """Return the k best."""
        return self.rows[:k]


@dataclass(frozen=True, eq=False)
class Contrast(Ranking):
    """How each feature differs between two sets of prompts; ranked by AUROC, then by difference.

    Best of hundreds of features: the first one is partly luck. Look at it again on prompts that were not part of the
    choice.
    """

    first: Float[Tensor, "n_first d_sae"]
    second: Float[Tensor, "n_second d_sae"]
    auroc: Float[Tensor, " d_sae"]
    """Chance that a prompt of the first set has more of it than one of the second; ties count half."""

    @property
    def difference(self) -> Float[Tensor, " d_sae"]:
        """Mean activation on the first set minus that on the second."""
        return self.first.mean(dim=0) - self.second.mean(dim=0)


def by_token(index: FeatureIndex, token: str | int) -> Ranking:
    """Rank the features that are active on a token of the index's corpus by F1 of the rule "active exactly on this token".

    A feature that needs more than the token (a mixture, a role) is found too, if it is often active on it.

    Raises:
        ValueError: Text that is not one token, or a token that the corpus does not hold.
    """
    occurs = index.ids == _token_id(index.vocabulary, token)
    if not occurs.any():
        raise ValueError(f"The corpus of this index does not hold {token!r}. Make an index of prompts that do.")
    hits = torch.from_numpy(index.activations[occurs].count_nonzero(axis=0)).float()
    totals = torch.from_numpy(index.activations.count_nonzero(axis=0)) + int(occurs.sum())
    return _ranking(hits / (totals / 2), hits > 0)


@torch.no_grad()
def by_prompt(
    model: models.CheckedBridge,
    dictionary: "SAE",
    prompt_ids: models.Prompt,
    *,
    position: int | str = "last",
    index: FeatureIndex | None = None,
) -> Ranking:
    """Rank the features that are active at one position of one prompt; with an index, in units of each feature's maximum.

    Without the index the largest numbers belong to the loudest features; with it, to those that are near their own
    maximum. Active hooks apply: the same look-up inside `steering.ablate` shows what is left.

    Raises:
        ValueError: As `index`; the prompt's first token, or an index of another dictionary.
    """
    values = _at(model, dictionary, [prompt_ids], position)[0]
    active = values > 0
    if index is not None:
        if not torch.equal(index.dictionary.W_enc, dictionary.W_enc):
            raise ValueError("The index is of another dictionary. Make one of this dictionary: features.index.")
        largest = torch.from_numpy(index.activations.max(axis=0).toarray())
        values, active = values / largest.clamp(min=1e-6), active & (largest > 0)
    return _ranking(values, active)


@torch.no_grad()
def by_contrast(
    model: models.CheckedBridge,
    dictionary: "SAE",
    first: models.Prompts,
    second: models.Prompts,
    *,
    position: int | str = "last",
) -> Contrast:
    """Rank all features by how well their activation at one position tells the first set of prompts from the second.

    Raises:
        ValueError: As `by_prompt`.

    Example:
        `features.by_contrast(chat, sae, dangerous, safe).top(3)`
    """
    one, other = (_at(model, dictionary, prompts, position) for prompts in (first, second))
    ranks = torch.from_numpy(rankdata(torch.cat([one, other]).numpy(), axis=0))  # all columns at once, not one by one
    auroc = ((ranks[: len(one)].sum(dim=0) - len(one) * (len(one) + 1) / 2) / (len(one) * len(other))).float()
    order = (one.mean(dim=0) - other.mean(dim=0)).argsort(descending=True, stable=True)
    order = order[auroc[order].argsort(descending=True, stable=True)]
    return Contrast(tuple(map(Ranked, order.tolist(), auroc[order].tolist())), one, other, auroc)


def by_logit(
    model: models.CheckedBridge, dictionary: "SAE", token: str | int, *, minus: str | int | None = None
) -> Ranking:
    """Rank all features by how far one unit of activation raises a token's logit.

    Less the mean over the vocabulary, on which no prediction depends, or less another token's logit. An approximation: the
    direct path alone, W_dec times the last norm's gain, through the unembedding. Later layers, which may undo it, are left
    out, and so is the last norm's denominator, by which all of it is divided at any one place (ranks stay). A feature of an
    early layer speaks to later layers first, and its direct effect says little.

    Raises:
        ValueError: Text that is not one token; a dictionary of other weights or with a NaN.
    """
    _check(model, dictionary)
    vocabulary = tokens.token_strings(model.tokenizer, range(model.cfg.d_vocab))
    W_U = model.W_U.detach().float().cpu()
    other = W_U.mean(dim=1) if minus is None else W_U[:, _token_id(vocabulary, minus)]
    return _ranking(_seen_by_unembedding(model, dictionary) @ (W_U[:, _token_id(vocabulary, token)] - other))


def by_neighbour(dictionary: "SAE", feature: int) -> Ranking:
    """Rank all other features by the cosine of their decoder directions with this one's: what writes alike."""
    rows = F.normalize(dictionary.W_dec.detach().float().cpu(), dim=1)
    return _ranking(rows @ rows[feature], torch.arange(len(rows)) != feature)


def _ranking(values: Float[Tensor, " d_sae"], kept: Bool[Tensor, " d_sae"] | None = None) -> Ranking:
    """Return the values in descending order, of the features in `kept`."""
    order = values.argsort(descending=True, stable=True)
    order = order if kept is None else order[kept[order]]
    return Ranking(tuple(map(Ranked, order.tolist(), values[order].tolist())))


def _at(
    model: models.CheckedBridge, dictionary: "SAE", prompts: models.Prompts, position: int | str
) -> Float[Tensor, "prompt d_sae"]:
    """Return the features' activations at one position of each prompt."""
    _check(model, dictionary)
    _check_prompts(model, dictionary, prompts)
    for number, prompt in enumerate(prompts):
        if tokens.position_index(model.tokenizer, prompt, position) == 0:
            raise ValueError(f"Position {position!r} of prompt {number} is its first token: no feature describes it.")
    read = _hooks(dictionary)[0]
    found = caching.harvest(model, prompts, hook_names=[read], positions=[position], progress=False)
    return _encode(dictionary, found.values[:, 0, 0])


def _seen_by_unembedding(model: models.CheckedBridge, dictionary: "SAE") -> Float[Tensor, "d_sae d_model"]:
    """Return decoder directions as the unembedding meets them: after the last norm's gain, centred where it centres."""
    rows = dictionary.W_dec.detach().float().cpu()
    if model.cfg.normalization_type in ("LN", "LNPre"):
        rows = rows - rows.mean(dim=1, keepdim=True)
    return rows * models.norm_weight(model, model.ln_final).cpu()


def _token_id(vocabulary: Sequence[str], token: str | int) -> int:
    """Return the id of a token given as text or as an id. Raise ValueError if the text is not that of one token."""
    if isinstance(token, int):
        return token
    ids = [number for number, text in enumerate(vocabulary) if text == token]
    if len(ids) != 1:
        near = difflib.get_close_matches(token, vocabulary, n=3)
        raise ValueError(f"{token!r} is the text of {len(ids)} tokens {ids}, not of one. Nearest: {near}.")
    return ids[0]


# --- labels and pages ---------------------------------------------------------------------------------------


class Detection(NamedTuple):
    """How well a rule tells the tokens on which a feature is active from those on which it is silent."""

    # Mean of recall and specificity: 0.5 says nothing, 1 is perfect. Forgives a rule that is too broad, where the feature
    # is rare: "any cleaner" scores nearly as well as "two cleaners that react". Interval over prompts (bootstrap).
    balanced_accuracy: directions.Interval
    precision: float  # falls when a rare feature is predicted too often
    recall_by_quarter: list[float]  # on the weakest quarter of the feature's activations, ..., on the strongest


def detection(index: FeatureIndex, feature: int, *, rule: Rule) -> Detection:
    """Score how well a rule predicts, from the tokens alone, where a feature is active on the index's corpus.

    Detection scoring of Paulo et al. (2024, https://arxiv.org/abs/2410.13928), with a rule in the place of a language model.
    Make the index of prompts that nobody looked at when the label was written, near misses among them. A high score says
    that the rule describes *when* the feature is active, not what the model uses it for.

    Args:
        index: Of held-out prompts.
        feature: Its number.
        rule: Words, such as {"bleach", "ammonia"}; or a function of a prompt's tokens and a position, which must not look
            behind the position: the model cannot either.

    Raises:
        ValueError: A word that is not one token, or a feature that is never or always active there.
    """
    if not callable(rule):
        rule = {rule} if isinstance(rule, str) else set(rule)
        for word in rule:
            _token_id(index.vocabulary, word)
    said, values, every = [], [], torch.from_numpy(index.values(feature))
    for start, end in pairwise(index.starts.tolist()):
        strings, positions = index.strings(start, end), range(1, end - start)
        answers = [rule(strings, i) if callable(rule) else strings[i] in rule for i in positions]
        said.append(torch.tensor(answers, dtype=torch.bool))
        values.append(every[start + 1 : end])
    counts = torch.stack([_confusion(own > 0, answers) for own, answers in zip(values, said, strict=True)])
    hit, missed, false_alarm, correct = counts.sum(dim=0).tolist()
    if not hit + missed or not false_alarm + correct:
        raise ValueError(f"Feature {feature} is active on all or none of these tokens: there is nothing to tell apart.")
    strengths, predicted = torch.cat(values), torch.cat(said)[torch.cat(values) > 0]
    predicted = predicted[strengths[strengths > 0].argsort(stable=True)].float()
    quarter = torch.arange(len(predicted)) * 4 // len(predicted)
    return Detection(
        directions.bootstrap_interval(counts, _balanced_accuracy, n_resamples=1000),
        precision=hit / max(1.0, hit + false_alarm),
        recall_by_quarter=[float(predicted[quarter == q].mean()) for q in range(4)],
    )


def _confusion(active: Bool[Tensor, " token"], predicted: Bool[Tensor, " token"]) -> Float[Tensor, " 4"]:
    """Return the numbers of hits, misses, false alarms and correct silences."""
    return torch.bincount(2 * (~active).long() + (~predicted).long(), minlength=4).float()


def _balanced_accuracy(counts: Float[Tensor, "prompt 4"]) -> Tensor:
    hit, missed, false_alarm, correct = counts.sum(dim=0)
    return (hit / (hit + missed).clamp(min=1) + correct / (correct + false_alarm).clamp(min=1)) / 2
