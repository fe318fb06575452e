"""What a training step sees: a batch, and the random changes of its images."""
