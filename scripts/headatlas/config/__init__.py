"""The config: schema, checks and messages."""
