"""Tables to figures; Altair."""
