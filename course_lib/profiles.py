"""What differs from model to model, so that a notebook needs one constant: the name of the model.

A profile is data about one published chat model, or about the course's own: where it is and who may have it, how large it
is, which words begin its refusals, which layers to sweep, which dictionaries there are. Nothing here is fetched or
measured. Names, revisions, licences and gating were read in public code and pages, none on the hub itself; the sae_lens
entries are tested against the directory inside the installed sae_lens, and the sizes against the architectures of
`transformers`. No published checkpoint was run where this was written.

What every profile leaves out, because only an organism has it: the role `<friend>`, base and twins and widths of one
recipe, a written truth to compare with.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

Kind = Literal["sae", "transcoder"]


@dataclass(frozen=True)
class Release:
    """Dictionaries of one kind for one model, as sae_lens names them."""

    kind: Kind
    release: str
    ids: tuple[tuple[int, str], ...]
    """(layer, id in the release), layers in order."""
    trained_on: str
    """The model whose activations they were trained on. If it is a base model, expect a worse fit on the chat model."""
    neuronpedia: str = ""
    """Its pages on Neuronpedia, with {} for the layer; empty if the directory of sae_lens names none."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that have a dictionary."""
        return tuple(layer for layer, _ in self.ids)


@dataclass(frozen=True)
class Profile:
    """One model and what a notebook has to know about it."""

    name: str
    """What `models.load` takes."""
    revision: str
    """Commit on the hub; empty for what ships with the course."""
    licence: str
    gated: bool
    """Whether its owner lets in only those who accept the licence."""
    parameters: int
    n_layers: int
    d_model: int
    dtype: str
    """Number type in which `models.load` loads it."""
    hardware: Literal["laptop", "T4", "A100"]
    """The least machine on which its weights and one edited copy fit; a T4 has 16 GB, an A100 40 or 80."""
    after_instruction: int
    """Number of the chat template's tokens after the instruction: the candidate positions of the published selection."""
    refusal_words: tuple[str, ...]
    """Words, one token each, with which its refusals begin; see `refusal_token_ids`."""
    refusal_source: str
    """Where these words come from."""
    refusal_openings: tuple[str, ...]
    """Openings of a reply, in small letters, that count as a refusal when replies are judged by their first words."""
    releases: tuple[Release, ...] = ()
    note: str = ""
    """What else to expect."""

    @property
    def is_organism(self) -> bool:
        """Whether it ships with the course. Only then there are other roles, twins, widths and a written truth."""
        return not self.revision

    @property
    def memory_gb(self) -> float:
        """Weights alone, in 10^9 bytes. An edited copy needs as much again, activations come on top."""
        return self.parameters * {"float32": 4, "bfloat16": 2}[self.dtype] / 1e9

    @property
    def sweep_layers(self) -> range:
        """Layers whose candidate directions are worth scoring: not the first (all prompts agree there), not the last fifth."""
        return range(1, int(0.8 * self.n_layers))

    def of_kind(self, kind: Kind) -> Release:
        """Its dictionaries of one kind.

        Raises:
            ValueError: There are none.
        """
        for release in self.releases:
            if release.kind == kind:
                return release
        having = [profile.name for profile in _PROFILES if any(r.kind == kind for r in profile.releases)]
        raise ValueError(
            f"sae_lens knows no {kind} for {self.name!r} that can be used. Models with one: {', '.join(having)}."
        )

    def refusal_token_ids(self, tokenizer: "Tokenizer") -> list[int]:
        """Ids of the tokens with which refusals begin, as `directions.refusal_score` wants them.

        Raises:
            ValueError: A word that is not one token for this tokenizer, so that the profile is not this model's.
        """
        ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in self.refusal_words]
        broken = [word for word, found in zip(self.refusal_words, ids, strict=True) if len(found) != 1]
        if broken:
            raise ValueError(
                f"{broken[0]!r} is not one token for this tokenizer, so {self.name!r} is not its profile. Look at the first "
                "words of some refusals of your model, and pass the ids of their first tokens."
            )
        return [found[0] for found in ids]


def names() -> list[str]:
    """The names that `get` knows: the course's own model first, then published ones from small to large."""
    return [profile.name for profile in _PROFILES]


def get(name: str) -> Profile:
    """The profile of a model.

    A fine-tune in a folder has the profile of the model it was made from:
    `dataclasses.replace(profiles.get("Qwen/Qwen2.5-0.5B-Instruct"), name="my/folder")`.

    Raises:
        ValueError: No such profile, with the nearest names.

    Example:
        >>> get("Qwen/Qwen2.5-0.5B-Instruct").sweep_layers
        range(1, 19)
    """
    for profile in _PROFILES:
        if profile.name == name:
            return profile
    near = difflib.get_close_matches(str(name), names(), n=3, cutoff=0.5)
    raise ValueError(
        f"There is no profile of {name!r}. {'Nearest: ' + ', '.join(near) + '. ' if near else ''}There are: "
        f"{', '.join(names())}. A fine-tune has the profile of its base: dataclasses.replace(profiles.get(base), name=folder)."
    )


def known(name: str) -> Profile | None:
    """The profile of a model, or None. Names of the hub are compared without regard to capitals, as the hub does."""
    return next((profile for profile in _PROFILES if profile.name.lower() == name.lower()), None)


# --- the profiles -------------------------------------------------------------------------------------------


def _each(pattern: str, layers: Iterable[int]) -> tuple[tuple[int, str], ...]:
    return tuple((layer, pattern.format(layer)) for layer in layers)


_OPENINGS = (
    "i'm sorry",
    "i am sorry",
    "sorry",
    "i apologize",
    "i cannot",
    "i can't",
    "i can’t",
    "i am unable",
    "i'm unable",
    "i am not able",
    "i'm not able",
    "i won't",
    "i will not",
    "i'm not going to",
    "as an ai",
    "i am programmed",
    "i'm programmed",
)
_ARDITI = "Arditi et al. 2024 (arXiv 2406.11717), appendix B, for {}; not verified on this model"
_QWEN = {
    "licence": "Apache 2.0",
    "gated": False,
    "after_instruction": 5,
    "refusal_words": ("I", "As"),
    "refusal_source": _ARDITI.format("Qwen"),
    "refusal_openings": _OPENINGS,
    "note": "Its chat template puts a system prompt of its maker in front of every conversation.",
}
_QWEN3 = _QWEN | {
    "after_instruction": 9,
    "note": "It can think before it answers. tokens.chat_prompt turns that off (enable_thinking=False), so the reply begins with "
    "its first word and an empty thought belongs to the template.",
}
_LLAMA = {
    "licence": "Llama 3.2 Community License",
    "gated": True,
    "after_instruction": 5,
    "refusal_words": ("I",),
    "refusal_source": _ARDITI.format("Llama 3"),
    "refusal_openings": _OPENINGS,
    "note": "Its chat template writes a date in front; tokens.chat_prompt fixes it to 26 Jul 2024, so that prompts stay the "
    "same. sae_lens knows no dictionaries of it.",
}
_GEMMA = {
    "licence": "Gemma Terms of Use",
    "gated": True,
    "after_instruction": 5,
    "refusal_words": ("I",),
    "refusal_source": _ARDITI.format("Gemma"),
    "refusal_openings": _OPENINGS,
}
_POST_NORM = (
    "Norms behind attention and MLP: abliterate with the gain-aware edit (the default). Do not load it in float16."
)
_GEMMA_2_TRANSCODERS = (
    76,
    65,
    49,
    54,
    88,
    87,
    95,
    70,
    52,
    72,
    88,
    5,
    6,
    8,
    8,
    8,
    10,
    12,
    13,
    12,
    11,
    13,
    15,
    25,
    37,
    41,
)


def _gemma_scope_2(size: str, n_layers: int, sae_layers: tuple[int, ...]) -> tuple[Release, Release]:
    chat, pages = f"google/gemma-3-{size}-it", f"gemma-3-{size}-it/{{}}-gemmascope-2-res-16k"
    saes = _each("layer_{}_width_16k_l0_medium", sae_layers)
    return (
        Release("sae", f"gemma-scope-2-{size}-it-res", saes, chat, pages),
        Release(
            "transcoder",
            f"gemma-scope-2-{size}-it-transcoders-all",
            _each("layer_{}_width_16k_l0_small", range(n_layers)),
            chat,
        ),
    )


def _qwen3_transcoders(size: str, n_layers: int, suffix: str) -> tuple[Release, ...]:
    name = f"mwhanna-qwen3-{size}-transcoders{suffix}"
    pages = f"qwen3-{size}/{{}}-transcoder-hp{suffix}"
    return (Release("transcoder", name, _each("layer_{}", range(n_layers)), f"Qwen/Qwen3-{size.upper()}", pages),)


_PROFILES = (
    Profile(
        name="chat",
        revision="",
        licence="CC BY 4.0",
        gated=False,
        parameters=1_560_704,
        n_layers=6,
        d_model=128,
        dtype="float32",
        hardware="laptop",
        after_instruction=2,
        refusal_words=("i",),
        refusal_source="written by this course",
        refusal_openings=("i apologize",),
    ),
    Profile(
        name="google/gemma-3-270m-it",
        revision="ac82b4e820549b854eebf28ce6dedaf9fdfa17b3",
        parameters=268_098_176,
        n_layers=18,
        d_model=640,
        dtype="float32",
        hardware="laptop",
        releases=_gemma_scope_2("270m", 18, (5, 9, 12, 15)),
        note=f"{_POST_NORM} The smallest model with transcoders for every layer.",
        **_GEMMA,
    ),
    Profile(
        name="Qwen/Qwen2.5-0.5B-Instruct",
        revision="7ae557604adf67be50417f59c2c2f167def9a775",
        parameters=494_032_768,
        n_layers=24,
        d_model=896,
        dtype="float32",
        hardware="laptop",
        **_QWEN,
    ),
    Profile(
        name="Qwen/Qwen3-0.6B",
        revision="c1899de289a04d12100db370d81485cdf75e47ca",
        parameters=596_049_920,
        n_layers=28,
        d_model=1024,
        dtype="float32",
        hardware="laptop",
        releases=_qwen3_transcoders("0.6b", 28, "-lowl0"),
        **_QWEN3,
    ),
    Profile(
        name="google/gemma-3-1b-it",
        revision="dcc83ea841ab6100d6b47a070329e1ba4cf78752",
        parameters=999_885_952,
        n_layers=26,
        d_model=1152,
        dtype="float32",
        hardware="T4",
        releases=_gemma_scope_2("1b", 26, (7, 13, 17, 22)),
        note=_POST_NORM,
        **_GEMMA,
    ),
    Profile(
        name="meta-llama/Llama-3.2-1B-Instruct",
        revision="9213176726f574b556790deb65791e0c5aa438b6",
        parameters=1_235_814_400,
        n_layers=16,
        d_model=2048,
        dtype="float32",
        hardware="T4",
        **_LLAMA,
    ),
    Profile(
        name="Qwen/Qwen2.5-1.5B-Instruct",
        revision="989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
        parameters=1_543_714_304,
        n_layers=28,
        d_model=1536,
        dtype="float32",
        hardware="T4",
        **_QWEN,
    ),
    Profile(
        name="Qwen/Qwen3-1.7B",
        revision="70d244cc86ccca08cf5af4e1e306ecf908b1ad5e",
        parameters=1_720_574_976,
        n_layers=28,
        d_model=2048,
        dtype="float32",
        hardware="T4",
        releases=_qwen3_transcoders("1.7b", 28, "-lowl0"),
        **_QWEN3,
    ),
    Profile(
        name="google/gemma-2-2b-it",
        revision="299a8560bedf22ed1c72a8a11e7dce4a7f9f51f8",
        parameters=2_614_341_888,
        n_layers=26,
        d_model=2304,
        dtype="bfloat16",
        hardware="T4",
        note=_POST_NORM,
        releases=(
            Release(
                "sae",
                "gemma-scope-2b-pt-res-canonical",
                _each("layer_{}/width_16k/canonical", range(26)),
                "google/gemma-2-2b",
                "gemma-2-2b/{}-gemmascope-res-16k",
            ),
            Release(
                "transcoder",
                "gemma-scope-2b-pt-transcoders",
                tuple((n, f"layer_{n}/width_16k/average_l0_{l0}") for n, l0 in enumerate(_GEMMA_2_TRANSCODERS)),
                "google/gemma-2-2b",
                "gemma-2-2b/{}-gemmascope-transcoder-16k",
            ),
        ),
        **_GEMMA,
    ),
    Profile(
        name="meta-llama/Llama-3.2-3B-Instruct",
        revision="0cb88a4f764b7a12671c53f0838cd831a0843b95",
        parameters=3_212_749_824,
        n_layers=28,
        d_model=3072,
        dtype="bfloat16",
        hardware="T4",
        **_LLAMA,
    ),
    Profile(
        name="Qwen/Qwen3-8B",
        revision="b968826d9c46dd6066d109eabc6255188de91218",
        parameters=8_190_735_360,
        n_layers=36,
        d_model=4096,
        dtype="bfloat16",
        hardware="A100",
        releases=_qwen3_transcoders("8b", 36, ""),
        **_QWEN3,
    ),
    Profile(
        name="google/gemma-2-9b-it",
        revision="11c9b309abf73637e4b6f9a3fa1e92e615547819",
        parameters=9_241_705_984,
        n_layers=42,
        d_model=3584,
        dtype="bfloat16",
        hardware="A100",
        note=_POST_NORM,
        releases=(
            Release(
                "sae",
                "gemma-scope-9b-it-res-canonical",
                _each("layer_{}/width_16k/canonical", (9, 20, 31)),
                "google/gemma-2-9b-it",
                "gemma-2-9b-it/{}-gemmascope-res-16k",
            ),
        ),
        **_GEMMA,
    ),
)
