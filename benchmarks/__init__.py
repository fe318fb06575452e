"""medcore-bench: experiments, runner, tables, plots, report."""
