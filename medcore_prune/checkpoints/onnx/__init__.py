"""Models as ONNX files: exported, in float and int8, described, and run."""
