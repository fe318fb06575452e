"""Training: one loop, which adapts a checkpoint and recovers a pruned model, once or in a cascade.

Offered as `mp.NAME`: adapt, AdaptSettings, cascade, Cascaded, recover, recovery_estimate, RecoveryHistory,
RecoverySettings, RecoveryStore, RecoveryWeights, second_pass, seconds_per_step, TensorBoardLog.
"""
