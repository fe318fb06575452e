"""Training: one loop, which adapts a checkpoint and recovers a pruned model, once or in a cascade."""
