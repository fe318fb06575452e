"""Models as files: SAM checkpoints, pruned models, ONNX files in float and int8.

Offered as `mp.NAME`: export_onnx, Int8Recipe, load, load_checkpoint, load_sam, model_card, OnnxModel, push,
quantise_onnx, save, save_transformers.
"""
