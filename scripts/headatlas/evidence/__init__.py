"""Tables and sentences about maps; polars."""
