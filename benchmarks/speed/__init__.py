"""What calibration, metrics, attention and a whole compression cost, beside what one would otherwise use."""
