"""The methods that score heads, and knock-outs; torch."""
