"""Criteria and recipes: what makes one number a unit out of weights and statistics.

Offered as `mp.NAME`: available_baselines, available_criteria, Baseline, build_criterion, Criterion, get_baseline,
get_criterion, register_baseline, register_criterion, scores_frame, unit_scores, WeightScores.
"""
