"""Statistics of arrays; numpy and SciPy. Knows nothing about files, models and task texts."""
