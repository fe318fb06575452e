"""Searches how much each block keeps: refits at many counts, states of one cost, mutation, and what it comes to."""
