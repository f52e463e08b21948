"""File formats that pass data between jobs."""
