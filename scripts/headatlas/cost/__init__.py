"""What a run will cost: counted from the config and its items, before any job runs."""
