"""Figures, by the experiment that they show."""
