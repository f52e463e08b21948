"""The formats that jobs write and read for one another."""
