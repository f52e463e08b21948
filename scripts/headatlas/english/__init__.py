"""Builds the English question pack that ships in `config/tasks/english/`; runs only when the pack is rebuilt."""
