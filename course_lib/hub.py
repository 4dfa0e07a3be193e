"""Models from the Hugging Face hub, and each way of not getting one said in words that help.

1. `cached` looks into the local cache, and asks no network.
2. `parameters` asks how large a model is, so that one that is too large is refused before the download.
3. `download` fetches its files without its pickles, and goes on where an interrupted download stopped.
4. `explained` turns what the client raises into an error that names the cause (gated, no such name or revision, no
   network, too slow) and the next step.

A token is only looked for, never read out. A mirror is used where HF_ENDPOINT says so.
"""

import contextlib
import errno
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SAID = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
FILES: dict[str, Any] = {  # what is fetched of a model: no pickles, no copies in other formats
    "allow_patterns": ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
    "ignore_patterns": ["original/*", "onnx/*", "consolidated*"],
}

DISK = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EMFILE, errno.EIO, errno.EPERM)
"""Errors of this machine's disk, which say themselves what is wrong."""


def cached(name: str, revision: str) -> Path | None:
    """Return the folder with a model's files if the local cache holds all of them, else None."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return download(name, revision, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def parameters(name: str, revision: str) -> int:
    """Return a lower bound of a model's number of parameters, from the size of its files (4 bytes a number at most)."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    found = HfApi().model_info(name, revision=revision, files_metadata=True).siblings or []
    sizes = {file.rfilename: file.size or 0 for file in found if file.rfilename.endswith(".safetensors")}
    return sum(sizes[file] for file in filter_repo_objects(sizes, **FILES)) // 4


def download(name: str, revision: str, *, local_files_only: bool = False) -> Path:
    """Return the folder with a model's files, fetched where the local cache does not hold them."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision, local_files_only=local_files_only, **FILES))


@contextlib.contextmanager
def explained(name: str, *, instead: str = "") -> Iterator[None]:
    """A context in which the hub client's errors are raised again as what they mean, with the next step.

    Args:
        name: Owner and name on the hub.
        instead: A sentence at the end: what works without it.

    Raises:
        PermissionError: Gated, and there is no token or its account has not been let in.
        FileNotFoundError: No such name; or, with the name right, no such revision or file.
        TimeoutError: A connection that is too slow.
        ConnectionError: No network, and it is not in the local cache.
        OSError: Whatever else the hub answers; this machine's own disk errors as they are.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, httpx2.TransportError, OSError) as error:
        if isinstance(error, OSError) and error.errno in DISK:
            raise
        kind, meaning = _meaning(error, name)
        raise kind(f"{meaning} {instead}".strip()) from error


def _meaning(error: BaseException, name: str) -> tuple[type[OSError], str]:
    """Return the kind and the words for what the client raised, or for what that was raised from."""
    import httpx2
    from huggingface_hub import errors

    causes = list(_chain(error))
    for kind, raised, meaning in (
        (PermissionError, errors.GatedRepoError, _SAID["gated"]),
        (FileNotFoundError, (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError), _SAID["no_revision"]),
        (FileNotFoundError, (errors.RepositoryNotFoundError, errors.HFValidationError), _SAID["no_name"]),
        (OSError, errors.HfHubHTTPError, _SAID["trouble"]),
        (TimeoutError, httpx2.TimeoutException, _SAID["slow"]),
    ):
        for cause in causes:
            if isinstance(cause, raised):
                return kind, meaning.format(name=name, error=cause)
    return ConnectionError, _SAID["unreachable"].format(name=name)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, and those from which it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
