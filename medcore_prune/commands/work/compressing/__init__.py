"""What `medcore-prune compress` does: every step of a compression in one folder."""
