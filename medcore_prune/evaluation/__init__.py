"""How good masks and contours are, what it costs, and how sure that is.

Offered as `mp.NAME`: BoundaryLeverage, compare_latency, Estimate, evaluate, evaluate_mask, evaluation_estimate,
Latency, measure_latency, require_memory.
"""
