"""What calibration can collect: sums over samples, one kind of statistics a file."""
