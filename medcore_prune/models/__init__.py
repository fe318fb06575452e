"""SAMs and how they are run: families and their blocks, groups of units, the protocol, losses, what tells two apart.

Offered as `mp.NAME`: build_sam, checkpointing, compile, computing, groups_of, kept_stems, Predictor, register_family,
require_aligned, set_attention, set_checkpointing, StructuredGroup.
"""
