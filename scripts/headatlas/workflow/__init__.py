"""What the rules ask: targets, settings, provenance, recovery."""
