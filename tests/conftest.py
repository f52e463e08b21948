"""Each folder of tests is a tier, and its name a marker: `pytest tests/unit` and `pytest -m unit` run the same."""

from pathlib import Path

TIERS = {"unit", "workflow", "slurm"}  # tests/canary marks its own


def pytest_collection_modifyitems(items):
    """Mark each test with its folder."""
    here = Path(__file__).parent
    for item in items:
        if (tier := item.path.relative_to(here).parts[0]) in TIERS:
            item.add_marker(tier)
