"""What calibration can collect, one kind a class; a collector of one's own joins them by `register_collector`."""
