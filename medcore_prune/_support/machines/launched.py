"""What `torchrun` says in the environment of the processes that it starts; read without torch."""

import os


def processes() -> int:
    """How many processes `torchrun` started for this command, on all machines; 1 where it did not."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def processes_here() -> int:
    """How many of them share the memory of this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if processes() > 1 else 1
