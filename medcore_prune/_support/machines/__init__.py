"""Independent jobs: one after the other in this process, or side by side on many machines."""
