"""Importance criteria, one a file."""
