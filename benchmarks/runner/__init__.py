"""How an experiment runs: settings, inputs, jobs, and the store of its results."""
