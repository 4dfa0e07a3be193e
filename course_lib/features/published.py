"""Dictionaries that others have published for real models, by the release and id under which sae_lens knows them.

sae_lens carries a directory of releases (https://decoderesearch.github.io/SAELens), so that what there is can be asked, and
a wrong name refused, without a network. Only the weights of one dictionary are fetched, from the Hugging Face hub, and
kept in its cache.
"""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib import hub, models
from course_lib.features import running

if TYPE_CHECKING:
    from sae_lens import SAE

PICKLED = ("connor_rob_hook_z", "deepseek_r1", "dictionary_learning_1", "goodfire", "qwen_scope")
"""Formats that sae_lens opens with `torch.load`."""


def releases(model_name: str) -> dict[str, tuple[str, ...]]:
    """Release -> ids of its dictionaries, of the models whose name holds `model_name` ("gpt2", "gemma-2-2b").

    From the directory inside the installed sae_lens, without a network. Releases that lie as pickles are left out.

    Raises:
        ValueError: No release is for such a model, with the nearest names.
    """
    usable = {name: release for name, release in _directory().items() if release.conversion_func not in PICKLED}
    found = {name: tuple(entry.saes_map) for name, entry in usable.items() if model_name.lower() in entry.model.lower()}
    if not found or not model_name:
        known = sorted({entry.model for entry in usable.values()})
        raise ValueError(f"sae_lens knows no dictionaries of {model_name!r}. {_nearest(model_name, known)}")
    return dict(sorted(found.items()))


def published(release: str, sae_id: str | Path, *, device: str = "cpu") -> "SAE":
    """A published dictionary in float32, evaluation mode, no gradients for weights; for example
    `published("gpt2-small-res-jb", "blocks.8.hook_resid_pre")`.

    Takes 8 * d_in * d_sae bytes of memory beside the model: 151 MB for GPT-2 small with 24,576 features, 302 MB for Gemma 2 2B
    with 16,384.

    Args:
        release: As in `releases(model_name)`; or a folder, in which `sae_id` is a dictionary in sae_lens' own format.
        sae_id: As listed there.
        device: Where to.

    Raises:
        ValueError: Before any download: an unknown release or id, with the nearest names, or a release whose files are
            pickles, which are never loaded.
        OSError: It is not in the local cache and cannot be fetched, with the reason and the next step.
    """
    if Path(release).is_dir():
        return _from_folder(Path(release) / sae_id, device)
    known = _directory()
    if release not in known:
        raise ValueError(f"sae_lens knows no release {release!r}. {_nearest(release, sorted(known))}")
    if sae_id not in known[release].saes_map:
        near = _nearest(str(sae_id), list(known[release].saes_map))
        raise ValueError(f"Release {release!r} has no dictionary {str(sae_id)!r}. {near}")
    if known[release].conversion_func in PICKLED:
        raise ValueError(
            f"Release {release!r} lies as pickles, which can run code when they are opened and are never loaded. Choose "
            f"another: features.releases({known[release].model!r})."
        )
    return _fetched(release, str(sae_id), device)


def neuronpedia_url(dictionary: running.Dictionary, feature: int) -> str:
    """Address of a published feature's page on Neuronpedia. Nothing is fetched: whether the page exists is not known.

    Raises:
        ValueError: No such feature; a dictionary without an entry there, as those of the organisms.
    """
    running.check_feature(feature, running.d_sae(dictionary))
    name = dictionary.cfg.metadata.neuronpedia_id
    if not name:
        raise ValueError("This dictionary is not on Neuronpedia. Make a page of your own: features.page.")
    return f"https://neuronpedia.org/{name}/{feature}"


def _directory() -> dict[str, Any]:
    with models.quiet():
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

        return get_pretrained_saes_directory()


def _from_folder(folder: Path, device: str) -> "SAE":
    for name in ("cfg.json", "sae_weights.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder / name} is missing, so there is no dictionary in sae_lens' format in this folder."
            )
    models.check_files(folder)
    with models.quiet():
        from sae_lens import SAE

        return SAE.load_from_disk(folder, device=device, dtype="float32").eval().requires_grad_(False)


def _fetched(release: str, sae_id: str, device: str) -> "SAE":
    from sae_lens import SAE

    instead = (
        f"This was {sae_id!r} of {release!r}. Dictionaries that ship with the course need no network: features.names()."
    )
    with hub.explained(_directory()[release].repo_id, instead=instead), models.quiet():
        found = SAE.from_pretrained(release, sae_id, device=device, dtype="float32")
    return _at_the_bridges_hook(found).eval().requires_grad_(False)


def _at_the_bridges_hook(dictionary: "SAE") -> "SAE":
    """Where it reads, by the name that the place has in TransformerBridge.

    sae_lens says `hook_mlp_in` for Gemma Scope 2's transcoders, and means (`hf_hook_name`) the output of the norm before the MLP.
    In TransformerLens that name is the input of this norm, and in the Bridge it never fires.
    """
    about = dictionary.cfg.metadata
    if str(about.hook_name).endswith(".hook_mlp_in"):
        about.hook_name = about.hook_name.replace(".hook_mlp_in", ".mlp.hook_in")
    return dictionary


def _nearest(given: str, known: list[str]) -> str:
    near = [name for name in known if given and given in name][:5] or difflib.get_close_matches(
        given, known, n=5, cutoff=0.3
    )
    return (
        f"Nearest: {', '.join(near)}."
        if near
        else f"There are: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}."
    )
