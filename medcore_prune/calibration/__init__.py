"""What the loss says of every weight and unit: per-sample sums over images, kept on disk, read through views.

Offered as `mp.NAME`: block_sensitivity, calibrate, calibration_estimate, Collector, get_collector, Need,
register_collector, Statistics.
"""
