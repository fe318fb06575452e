"""What the loss says of every weight and unit: per-sample sums over images, kept on disk, read through views."""
