"""Models as files: SAM checkpoints, pruned models, ONNX.

Offered as `mp.NAME`: export_onnx, load, load_checkpoint, load_sam, save.
"""
