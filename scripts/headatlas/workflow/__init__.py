"""What the rules need: targets, settings, provenance, recovery."""
