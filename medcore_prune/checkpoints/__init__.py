"""Models as files: SAM checkpoints, pruned models, ONNX."""
