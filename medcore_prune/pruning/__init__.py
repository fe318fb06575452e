"""From scores to a smaller model: levels, budgets, plans, costs, removal and its proof.

Offered as `mp.NAME`: all_but_units, automatic_plan, block_times, BlockTimes, count, heads_by_layer, Level, make_plan,
masked, parameter_masks, Plan, plan, plan_from_scores, prune, regular_level, Target, traceable, verify.
"""
