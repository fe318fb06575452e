"""`medcore-prune`: a command a file here, its options and its help, importable without torch; `work/` does the work."""
