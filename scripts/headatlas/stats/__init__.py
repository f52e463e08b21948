"""Statistics of arrays; numpy and SciPy. Knows nothing of files, models and tasks' texts."""
