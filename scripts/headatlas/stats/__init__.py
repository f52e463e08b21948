"""Statistics of arrays; numpy only. Knows nothing of files, models and tasks' texts."""
