"""Criteria and recipes: what makes one number a unit out of weights and statistics."""
