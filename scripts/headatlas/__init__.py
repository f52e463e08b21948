"""Head Atlas: which attention heads of a causal language model matter for which cognitive task."""
