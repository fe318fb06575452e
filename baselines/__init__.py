"""Published pruning methods as recipes built from criteria, one a file."""
