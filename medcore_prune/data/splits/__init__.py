"""Who trains, validates and tests: splits by group, what lies beside a checkpoint, near duplicates."""
