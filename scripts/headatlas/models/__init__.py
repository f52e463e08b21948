"""Loads a model, finds its heads, reruns its layers; torch and transformers."""
