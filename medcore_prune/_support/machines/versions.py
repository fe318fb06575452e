"""What must be the same on all machines, for results to be the same to the bit."""

import platform

import torch

from ..version import __version__


def versions() -> dict[str, str]:
    """Versions, and what torch takes its kernels by, by name."""
    return {
        "medcore-prune": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "instructions of the processor (ATEN_CPU_CAPABILITY)": torch.backends.cpu.get_cpu_capability(),
    }
