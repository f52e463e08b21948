"""From text to checked items."""
