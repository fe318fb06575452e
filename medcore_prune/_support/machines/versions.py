"""What must be the same on all machines, for results to be the same to the bit."""

import platform

import torch

from ..version import __version__


def versions(device: str = "cpu") -> dict[str, str]:
    """Versions, and what torch takes its kernels by, by name; on `cuda` the GPU too."""
    found = {
        "medcore-prune": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "instructions of the processor (ATEN_CPU_CAPABILITY)": torch.backends.cpu.get_cpu_capability(),
    }
    if device == "cuda":
        found["GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found
