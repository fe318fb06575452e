"""Recovered models kept by content: the same recovery is never computed twice, and a killed one goes on."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from .._support.errors import ResultsError
from .._support.files import atomic_write, read_json_file, sha256_of, write_json_atomic
from .._support.memo import Memo
from .._support.records import Record
from .._support.tensor_file import load_tensors
from .._support.torch_file import unshared
from ..data.splits.split import Data
from ..models.calls.call import on_models
from .recover import RecoveryHistory, recover, recovery_key
from .settings import DEFAULT_RECOVERY, RecoverySettings


@dataclass(frozen=True)
class _Entry(Record, format=1):
    """What `history.json` holds."""

    key: str
    weights_sha256: str
    history: Mapping[str, Any]


class RecoveryStore:
    """A folder with one subfolder a recovery: `weights.safetensors` and `history.json`, or the state of a killed one.

    The history is written last and holds the weights' hash, so that it alone says that a recovery is done.

    Args:
        folder: It need not exist. Several processes may share it; each key is worked on by one at a time.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def key(
        self, model: nn.Module, teacher: nn.Module, data: Data, settings: RecoverySettings = DEFAULT_RECOVERY
    ) -> str:
        """Name of a recovery: see `recovery.recovery_key`."""
        return recovery_key(model, teacher, data, settings)

    def has(self, key: str) -> bool:
        """Whether a recovery is done."""
        return self._history(key).is_file()

    @on_models("model", "teacher")
    def recover(
        self,
        model: nn.Module,
        teacher: nn.Module,
        data: Data,
        settings: RecoverySettings = DEFAULT_RECOVERY,
        progress: bool = True,
    ) -> tuple[nn.Module, RecoveryHistory]:
        """Return the recovered model, from the store where it is there.

        Args:
            model: The pruned model; left as it is.
            teacher, data, settings, progress: As for `recovery.recover`.

        Returns:
            A recovered copy of the model in evaluation mode, which remembers its plan as the model does, and the
            history.

        Raises:
            ResultsError: Stored files are damaged.
            DataError, MedcorePruneError: As for `recovery.recover`.
        """
        key = self.key(model, teacher, data, settings)
        recovered = copy.deepcopy(model)
        state = self._place(key) / "state.pt"
        memo = Memo(
            self._history(key),
            read=lambda _: self._load(key, recovered),
            write=lambda _, history: self._save(key, recovered, history),
            waiting_for="recovery",
        )
        history = memo.get_or_make(
            lambda: recover(recovered, teacher, data, settings, state_path=state, progress=progress)
        )
        state.unlink(missing_ok=True)
        return recovered, history

    def _place(self, key: str) -> Path:
        return self.folder / key[:32]

    def _weights(self, key: str) -> Path:
        return self._place(key) / "weights.safetensors"

    def _history(self, key: str) -> Path:
        return self._place(key) / "history.json"

    def _save(self, key: str, model: nn.Module, history: RecoveryHistory) -> None:
        weights = self._weights(key)
        with atomic_write(weights) as temporary:
            state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
            save_file(unshared(state), temporary)
        write_json_atomic(self._history(key), _Entry(key, sha256_of(weights), history.to_dict()).values())

    def _load(self, key: str, model: nn.Module) -> RecoveryHistory:
        """Read a finished recovery into `model`, nothing where a file is damaged."""
        place = self._place(key)
        try:
            entry = _Entry.of(read_json_file(self._history(key)))
            if entry.key != key:
                raise ValueError("of another recovery")
            if entry.weights_sha256 != sha256_of(self._weights(key)):
                raise ValueError("the weights are not those that were written")
            history = RecoveryHistory.from_dict(entry.history)
            model.load_state_dict(load_tensors(self._weights(key)))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ResultsError(f"{place}: a damaged recovery ({error}): remove the folder to do it again") from error
        model.eval()
        return history
