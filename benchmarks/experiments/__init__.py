"""The experiments that reproduce the paper, one a file."""
