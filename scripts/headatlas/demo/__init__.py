"""The built-in demo: its languages and the training of its model."""
