"""How the defaults were settled, on validation images."""
