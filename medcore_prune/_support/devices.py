"""Whether torch can compute on a device here, what the processor is called, and what gives memory back."""

import ctypes
import platform
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from .errors import MedcorePruneError


def require_device(device: str | torch.device) -> None:
    """Refuse a device that torch cannot use here, with torch's own reason, before something is put on it."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise MedcorePruneError(
            f"device {device}: not usable here ({reason}); expected cpu, or cuda on a GPU"
        ) from error


def pinned_for(values: Tensor, device: torch.device) -> Tensor:
    """Return values in memory that a CUDA device copies from by itself; for other devices as they are."""
    return values.pin_memory() if device.type == "cuda" else values


def free_bytes(device: torch.device) -> int:
    """Bytes that may still be taken on a CUDA device: its free memory, and what PyTorch holds and does not use."""
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserve


def processor(place: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the system tells it; its architecture where it does not."""
    if place.is_file():
        for line in place.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


_HALF = (torch.float16, torch.bfloat16)


def precision_of(model: nn.Module) -> torch.dtype:
    """Return the number type of a model's first weights, in which its inputs are; float32 where it has none."""
    first = next(model.parameters(), None)
    return torch.float32 if first is None else first.dtype


def refuse_half(model: nn.Module, what: str = "model") -> None:
    """Refuse to run a model, called `what`, with weights of half precision; cutting and saving one needs no run."""
    if (dtype := precision_of(model)) in _HALF:
        raise MedcorePruneError(
            f"the {what} has weights of {dtype}, which SAM's own layers do not compute in: call .float() on it "
            "first and save it in half precision afterwards"
        )


def require_default_dtype() -> None:
    """Refuse to run a model under another default number type than float32, which SAM's prompt encoder computes in."""
    if (dtype := torch.get_default_dtype()) != torch.float32:
        raise MedcorePruneError(
            f"torch's default dtype is {dtype}, in which boxes and positions would be computed too: expected "
            "torch.float32, so call torch.set_default_dtype(torch.float32) first; weights keep their own number type"
        )


def give_back_freed() -> None:
    """Give memory that was freed back to the system where the C library is glibc; elsewhere nothing is done.

    Images that are gone lie between small things that stay, as a packed mask of each: after ten thousand of them the
    process would hold gigabytes that nothing uses.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
