"""Whether torch can compute on a device here."""

import torch

from .errors import MedcorePruneError


def require_device(device: str | torch.device) -> None:
    """Refuse a device that torch cannot use here, before something is put on it.

    Raises:
        MedcorePruneError: In one line, with torch's own reason.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise MedcorePruneError(
            f"device {device}: not usable here ({reason}); expected cpu, or cuda on a GPU"
        ) from error
