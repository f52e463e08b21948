"""What the user writes, checked and documented."""
