"""Refits what is left of a pruned model to the unpruned one, block by block, without labels; searches what to leave.

Offered as `mp.NAME`: BlockCorrection, correct, CorrectionReport, CorrectionSettings, LayerCorrection, searched_plan.
"""
