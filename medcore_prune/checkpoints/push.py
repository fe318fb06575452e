"""Put a model on Hugging Face's Hub: its file and its card. Needs the extra `hub`."""

import shutil
import tempfile
from pathlib import Path

from torch import nn

from .._support.errors import CheckpointError
from ..evaluation.figures import Figures
from .card import model_card
from .header import is_pruned_file
from .hub import FILE_NAME, SCHEME, endpoint, refuse, require_hub
from .pruned import save


def push(
    model: nn.Module | str | Path,
    name: str,
    *,
    figures: Figures | None = None,
    license: str | None = None,
    private: bool = True,
    revision: str | None = None,
) -> str:
    """Upload a model as `model.safetensors`, with its `model_card` as `README.md`, in one commit.

    The model's page is made where there is none; a card that is there is replaced. The header that goes with it names
    data sets and hashes of images, and no image.

    Args:
        model: A model, or a file that `save` wrote.
        name: `user/name`.
        figures: What an evaluation measured of it, for the card: `read_figures`.
        license: Its licence, for the card, in the Hub's spelling.
        private: Whether a page that is made now is seen by its owner alone.
        revision: A branch that is there; by default the main one.

    Returns:
        The address that `load` takes, with the commit, so that it always gives this very model.

    Raises:
        CheckpointError: The extra is not installed, a file that `save` did not write, or the Hub refuses.
        MetricError: The figures are those of another model.
    """
    hub = require_hub()
    if not isinstance(model, nn.Module) and not is_pruned_file(model):
        raise CheckpointError(f"{model}: expected a file that medcore_prune.save wrote; nothing was uploaded")
    address = f"{SCHEME}{name}"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / FILE_NAME
        if isinstance(model, nn.Module):
            save(model, place)
        else:
            shutil.copyfile(model, place)
        card = model_card(place, figures, license=license, address=address)
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        try:
            api = hub.HfApi(endpoint=endpoint())
            api.create_repo(name, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=name, folder_path=folder, revision=revision, commit_message="Model and card of medcore-prune"
            )
        except Exception as error:
            refuse(address, error)
    return f"{address}@{done.oid}"
