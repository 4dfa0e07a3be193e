"""Files from the Hugging Face hub, each way of failing said in words that help.

1. `sizes` asks what would be fetched, so that too large a model is refused before the download.
2. `snapshot` fetches it, or takes the local cache, which is used without asking the network when it is complete.
3. `explained` turns what the client raises into an error that names the cause (gated, no such name, no such revision, no
   network, too slow) and the next step. All of them are `OSError`s.

A token is only looked for, never read out. Several addresses of the hub are served by HF_ENDPOINT, which is respected.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset"]
_OWN_SETS = "Or give a folder with its file; or use the course's own sets, which need no network: data.load('harmful')."


def cached(name: str, *, revision: str, files: Sequence[str], without: Sequence[str] = ()) -> Path | None:
    """The folder with a model's files if the local cache holds all of them, else None. No network is asked."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=list(files), ignore_patterns=list(without), local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(found)


def sizes(
    name: str, *, revision: str, files: Sequence[str], without: Sequence[str] = (), instead: str = ""
) -> dict[str, int]:
    """File name -> bytes of what `snapshot` would fetch of a model.

    Raises:
        OSError: As in `explained`, or a disk on which they do not fit.
    """
    from huggingface_hub import constants, snapshot_download

    with explained(name, instead=instead), _no_bars():
        found = snapshot_download(
            name, revision=revision, allow_patterns=list(files), ignore_patterns=list(without), dry_run=True
        )
    missing, folder = sum(file.file_size for file in found if file.will_download), Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    if missing > free:
        raise OSError(
            f"{name!r} would take {missing / 1e9:.1f} GB on the disk, and {free / 1e9:.1f} GB are free where the cache lies "
            f"({folder}). Make room, or set HF_HOME to a folder on another disk and start the notebook again."
        )
    return {file.filename: file.file_size for file in found}


def snapshot(name: str, *, revision: str, files: Sequence[str], without: Sequence[str] = (), instead: str = "") -> Path:
    """The folder with a model's files that match `files` and not `without`. An interrupted download goes on where it stopped.

    Raises:
        OSError: As in `explained`.
    """
    from huggingface_hub import snapshot_download

    with explained(name, instead=instead):
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=list(without))
        )


def dataset_files(name: str, *, revision: str) -> list[str]:
    """Every file name of a data set.

    Raises:
        OSError: As in `explained`.
    """
    from huggingface_hub import HfApi

    with explained(name, kind="dataset", instead=_OWN_SETS):
        return HfApi().list_repo_files(name, revision=revision, repo_type="dataset")


def dataset_file(name: str, file: str, *, revision: str, folder: Path) -> Path:
    """One file of a data set, fetched into `folder` and not into the cache.

    Raises:
        OSError: As in `explained`.
    """
    from huggingface_hub import hf_hub_download

    with explained(name, kind="dataset", instead=_OWN_SETS):
        return Path(hf_hub_download(name, file, revision=revision, repo_type="dataset", local_dir=folder))


@contextlib.contextmanager
def explained(name: str, *, kind: Kind = "model", instead: str = "") -> Iterator[None]:
    """A context in which the client's errors are raised again as what they mean, with the next step.

    Args:
        name: Owner and name on the hub.
        kind: What it is.
        instead: A sentence at the end: what works without it.

    Raises:
        PermissionError: Gated, and there is no token, or its account has not been let in; or a token that is not valid.
        FileNotFoundError: No such name or (with the name right) no such revision or file.
        TimeoutError: A connection that is too slow.
        ConnectionError: No network, and it is not in the local cache.
        OSError: Whatever else the hub answers.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, httpx2.TransportError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise  # this machine's disk, not the hub
        raise _meaning(error, name, kind, f" {instead}" if instead else "") from error


def _meaning(error: Exception, name: str, kind: Kind, instead: str) -> OSError:
    """The error to raise for what the client raised, or for what that was raised from."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    causes = list(_chain(error))
    status = next((cause.response.status_code for cause in causes if isinstance(cause, errors.HfHubHTTPError)), None)
    if any(isinstance(cause, errors.GatedRepoError) for cause in causes):
        return PermissionError(_gated(name, page, _has_token()) + instead)
    if any(isinstance(cause, errors.RevisionNotFoundError) for cause in causes):
        return FileNotFoundError(
            f"{name!r} is on the hub, but not in the revision asked for: its owner may have removed it. Look at "
            f"{page}/commits/main, or take the newest with revision='main'.{instead}"
        )
    if any(isinstance(cause, errors.RemoteEntryNotFoundError) for cause in causes):
        return FileNotFoundError(
            f"{name!r} is on the hub, but a file that is needed is not there: see {page}.{instead}"
        )
    if any(isinstance(cause, errors.RepositoryNotFoundError | errors.HFValidationError) for cause in causes):
        return FileNotFoundError(
            f"There is no {name!r} on the hub, or it is private. Check the spelling, owner/name, at {page}.{instead}"
        )
    if status == 401:
        return PermissionError(
            f"The hub does not accept your access token: it is wrong or has expired. Make a new one at "
            f"https://huggingface.co/settings/tokens (type: read).{instead}"
        )
    if status is not None:
        return OSError(f"The hub answered {status} for {name!r}. Try again in a few minutes.{instead}")
    return _connection(causes, name, instead)


def _connection(causes: list[BaseException], name: str, instead: str) -> OSError:
    import httpx2

    if any(isinstance(cause, httpx2.TimeoutException) for cause in causes):
        return TimeoutError(
            f"Could not fetch {name!r}: the connection to the hub is too slow or stands still. Run the cell again; what has come "
            f"is kept. If it stops again, set HF_HUB_DOWNLOAD_TIMEOUT=60 (seconds) before Python starts.{instead}"
        )
    return ConnectionError(
        f"Could not fetch {name!r}: the Hugging Face hub cannot be reached, and it is not in the local cache. Check the "
        f"spelling, the network, a proxy in between (HTTPS_PROXY), and that HF_HUB_OFFLINE is not set; or give a folder.{instead}"
    )


def _gated(name: str, page: str, has_token: bool) -> str:
    steps = (
        "Your account has a token here, but has not been let in."
        if has_token
        else "There is no access token on this machine."
    )
    return (
        f"{name!r} is gated: its owner lets in those who accept the licence. {steps} (1) Sign in at {page} and accept it. "
        "(2) Make a token of type 'read' at https://huggingface.co/settings/tokens. (3) Give it to this machine: "
        "`hf auth login` in a terminal, or the variable HF_TOKEN (in Colab: the key symbol on the left). Never write a token "
        "into a notebook."
    )


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bar for what is only asked and not fetched."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those from which it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
