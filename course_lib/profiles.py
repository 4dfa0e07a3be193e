"""What differs from model to model, so that a notebook needs one constant: the name of the model.

A profile is data about one published chat model, or about the course's own: where it is and who may have it, how large
it is, which words begin its refusals, which dictionaries there are. All of it is in profiles.toml; nothing is fetched or
measured. What every profile leaves out, because only an organism has it: the role `<friend>`, base and twins and widths
of one recipe, a written truth to compare with.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from course_lib import judging, organism, tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

Kind = Literal["sae", "transcoder"]


USUAL_REFUSAL_WORDS = ("I", "As", "Sorry", "Unfortunately")
"""Words with which refusals of published chat models begin."""


@dataclass(frozen=True)
class Release:
    """Dictionaries of one kind for one model, as sae_lens names them."""

    kind: Kind
    release: str
    ids: tuple[tuple[int, str], ...]  # (layer, id in the release), layers in order
    # The model whose activations they were trained on. If it is a base model, expect a worse fit on the chat model.
    trained_on: str

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that have a dictionary."""
        return tuple(layer for layer, _ in self.ids)


@dataclass(frozen=True)
class Profile:
    """One model and what a notebook has to know about it."""

    name: str  # as `models.load` takes it
    revision: str  # commit on the hub; empty for what ships with the course
    licence: str
    gated: bool  # true if its owner lets in only those who accept the licence
    parameters: int
    n_layers: int
    d_model: int
    dtype: str  # the dtype in which `models.load` loads it
    # The smallest machine on which its weights and one edited copy fit; a T4 has 16 GB, an A100 40 or 80.
    hardware: Literal["laptop", "T4", "A100"]
    # Number of the chat template's tokens after the instruction: the candidate positions of the published selection.
    after_instruction: int
    refusal_words: tuple[str, ...]  # words, one token each, with which its refusals begin; see `refusal_token_ids`
    releases: tuple[Release, ...] = ()
    # How the refusals of an organism begin, in lower case; replies of other models are read by `judging.refuses`.
    refusal_openings: tuple[str, ...] = ()
    note: str = ""  # what else to expect

    @property
    def is_organism(self) -> bool:
        """True if it ships with the course. Only then are there other roles, twins, widths and a written truth."""
        return not self.revision

    @property
    def settings(self) -> SimpleNamespace:
        """How many requests, tokens and random directions a notebook takes for it; profiles.toml explains each."""
        return SimpleNamespace(**_SETTINGS["organism" if self.is_organism else "large"])

    @property
    def memory_gb(self) -> float:
        """Size of the weights alone, in 10^9 bytes. An edited copy needs as much again, activations come on top."""
        return self.parameters * {"float32": 4, "bfloat16": 2, "float16": 2}[self.dtype] / 1e9

    def of_kind(self, kind: Kind) -> Release:
        """Return its dictionaries of one kind. Raise ValueError if there are none."""
        found = [release for release in self.releases if release.kind == kind]
        if not found:
            raise ValueError(f"sae_lens knows no {kind} for {self.name!r}.")
        return found[0]

    def refuses(self, reply: str) -> bool:
        """Return True if a reply refuses in its first words; how often that errs is in docs/judge.md."""
        if self.refusal_openings:
            return reply.strip().lower().startswith(self.refusal_openings)
        return judging.refuses(reply)

    def refusal_token_ids(self, tokenizer: "Tokenizer") -> list[int]:
        """Return the ids of the tokens with which refusals begin, for `directions.refusal_score`.

        Raises:
            ValueError: A word that is not one token for this tokenizer, so that the profile is not this model's.
        """
        ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in self.refusal_words]
        if any(len(found) != 1 for found in ids):
            raise ValueError(f"{self.name!r} is not this model's profile: {self.refusal_words} are not one token each.")
        return [found[0] for found in ids]


def names() -> list[str]:
    """Return the names that `get` knows: the course's own model first, then published ones from small to large."""
    return [profile.name for profile in _PROFILES.values()]


def known(name: str) -> Profile | None:
    """Return the profile of a model, or None. As on the hub, upper and lower case do not matter."""
    return _PROFILES.get(name.lower())


def get(name: str) -> Profile:
    """Return the profile of a model. Raise ValueError if there is none.

    A fine-tune in a folder has the profile of the model it was made from:
    `dataclasses.replace(profiles.get("Qwen/Qwen2.5-0.5B-Instruct"), name="my/folder")`.

    Example:
        >>> get("Qwen/Qwen2.5-0.5B-Instruct").refusal_words
        ('I', 'As')
    """
    if name.lower() not in _PROFILES:
        raise ValueError(f"There is no profile of {name!r}, only of {', '.join(names())}.")
    return _PROFILES[name.lower()]


def of(name: str, model: Any) -> Profile:
    """Return the profile of a loaded model: the known one of this name, or what can be read off the model itself.

    Look at some replies before you trust what it says of refusals.

    Args:
        name: As it was given to `models.load`: a folder, a GGUF file, an adapter, a name on the hub.
        model: What `models.load` returned.

    Raises:
        ValueError: No word with which refusals usually begin is one token of this model; or its template opens a thought, so
            that what follows a prompt is no reply yet.
    """
    if found := known(name):
        return found
    asked = model.tokenizer.decode(tokens.chat_prompt(model.tokenizer, "hello", unknown_words="split"))
    if asked.rfind("<think>") > asked.rfind("</think>"):
        what = f"The template of {name!r} opens a thought, in which no reply can be judged by its first words"
        raise ValueError(f"{what}: write '</think>' behind its '<think>' in tokenizer.chat_template.")
    words = [w for w in USUAL_REFUSAL_WORDS if len(model.tokenizer(w, add_special_tokens=False)["input_ids"]) == 1]
    if not words:
        raise ValueError(f"No {' or '.join(USUAL_REFUSAL_WORDS)} is one token of {name!r}: make its Profile yourself.")
    weights = organism.folder("weights")
    shipped = name in {path.name for path in weights.iterdir()}
    layers = sorted(int(path.name[4:]) for path in weights.glob("dictionaries/*/sae-*") if path.parent.name == name)
    own = Release("sae", "", tuple((layer, f"sae-{layer}") for layer in layers), trained_on=name)
    unknown: Any = dict(revision="" if shipped else "not known", licence="not known", gated=False, hardware="laptop")
    return Profile(
        name=name,
        **unknown,
        parameters=sum(p.numel() for p in model.original_model.parameters()),
        n_layers=model.cfg.n_layers,
        d_model=model.cfg.d_model,
        dtype=str(next(model.original_model.parameters()).dtype).removeprefix("torch."),
        after_instruction=tokens.n_after_instruction(model.tokenizer),
        refusal_words=tuple(words),
        releases=(own,) if layers else (),
        note="No profile is known: its settings were read off the model, its refusals are judged by their words.",
    )


def _tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}


def _read() -> dict[str, Profile]:
    found = {}
    for model in _CONTENT["model"]:
        facts = _CONTENT["family"][model.pop("family")] | model
        facts["releases"] = [Release(**_tuples(entry)) for entry in facts.get("releases", [])]
        found[model["name"].lower()] = Profile(**_tuples(facts))
    return found


_CONTENT = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_SETTINGS, _PROFILES = _CONTENT["settings"], _read()
