"""Models on Hugging Face's Hub: `hf://user/name`, one safetensors file and its card. Needs the extra `hub`.

Nothing that is fetched is executed: only files that end in `.safetensors` are, and `load` checks what they hold.
"""

import os
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from .._support.errors import CheckpointError

SCHEME, FILE_NAME, SUFFIX = "hf://", "model.safetensors", ".safetensors"
_PART = r"[\w.-]+"
_ADDRESS = re.compile(rf"hf://(?P<repo>{_PART}/{_PART})(?:/(?P<file>[^@]+))?(?:@(?P<revision>[^@\s]+))?", re.ASCII)
_REASONS = {
    "OfflineModeIsEnabled": "the Hub is switched off here (HF_HUB_OFFLINE), and the file was not fetched before",
    "LocalEntryNotFoundError": "the Hub cannot be reached, and the file was not fetched before: is there a network?",
    "GatedRepoError": "access must be granted on its page first, and `hf auth login` given here",
    "RepositoryNotFoundError": "there is no such model, or it is private: `hf auth login`",
    "RevisionNotFoundError": "it has no such revision",
    "HFValidationError": "that is no name of a model",
}
"""What the Hub's errors mean, the more particular first."""


def is_address(path: object) -> bool:
    """Whether a path names a model on the Hub."""
    return isinstance(path, str) and path.startswith(SCHEME)


def require_hub() -> Any:
    """Return `huggingface_hub`, or refuse in one line that says how to install it."""
    if find_spec("huggingface_hub") is None:
        raise CheckpointError('the Hub needs huggingface_hub: pip install "medcore-prune[hub]"')
    return import_module("huggingface_hub")


def endpoint() -> str | None:
    """Return the server that `HF_ENDPOINT` names, None for the Hub itself."""
    return os.environ.get("HF_ENDPOINT") or None


def fetch(address: str) -> Path:
    """Fetch a model's file into the Hub's own cache, where it stays.

    Args:
        address: `hf://user/name`, with a file's place where it is not `model.safetensors`, and `@revision` (a branch, a
            tag or a commit) to always get the same: `hf://user/name/small.safetensors@1f3c0ab`.

    Returns:
        The file.

    Raises:
        CheckpointError: The extra is not installed, no such address, file, model or revision, a file that is no
            safetensors, or the Hub cannot be reached.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise CheckpointError(f"{address}: expected hf://user/name, hf://user/name@revision or hf://user/name/file")
    repo, name, revision = found["repo"], found["file"] or FILE_NAME, found["revision"]
    if not name.endswith(SUFFIX):
        raise CheckpointError(
            f"{address}: {name} is no {SUFFIX} file, and others may hold code that runs when they are read: ask its "
            "author for what medcore_prune.save wrote"
        )
    hub = require_hub()
    try:
        return Path(hub.hf_hub_download(repo, name, revision=revision, endpoint=endpoint()))
    except Exception as error:
        # those of the Hub, of the network and of its client have nothing in common
        if "EntryNotFoundError" in _kinds(error) and "LocalEntryNotFoundError" not in _kinds(error):
            _refuse_content(hub, address, repo, name, revision, error)
        refuse(address, error)


def refuse(address: str, error: Exception) -> NoReturn:
    """Say in one line why the Hub did not do what it was asked for."""
    lines = str(error).splitlines() or [type(error).__name__]
    reason = next((text for kind, text in _REASONS.items() if kind in _kinds(error)), lines[0][:200])
    raise CheckpointError(f"{address}: {reason}") from error


def _kinds(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _refuse_content(hub: Any, address: str, repo: str, name: str, revision: str | None, error: Exception) -> NoReturn:
    """Say what the model's page holds in place of a file that we read."""
    try:
        files = hub.HfApi(endpoint=endpoint()).list_repo_files(repo, revision=revision)
    except Exception:
        files = []
    shown = ", ".join(sorted(files)[:8]) or "nothing that can be listed"
    others = [file for file in files if file.endswith(SUFFIX)]
    advice = f"hf://{repo}/{others[0]} names another" if others else "only safetensors files of this package are read"
    raise CheckpointError(f"{address} holds no {name}, but {shown}: {advice}") from error
