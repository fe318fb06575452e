"""The commands of `medcore-prune`, one a file, each a click command called `command`."""
