"""From scores to a smaller model: levels, budgets, plans, costs, removal and its proof."""
