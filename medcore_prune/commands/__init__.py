"""`medcore-prune`: one command a file, and what they share."""
