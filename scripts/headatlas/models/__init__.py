"""Loads a model, finds its heads, runs its layers again; torch and transformers."""
