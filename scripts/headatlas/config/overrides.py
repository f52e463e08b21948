"""What Snakemake's `--config` leaves undone: inside braces it takes every number for a text.

`--config 'compute={layers_per_job: 8}'` gives `{"layers_per_job": "8"}`, and so does `config:` in a profile.
Imported at parse time.
"""

from collections.abc import Mapping

import yaml


def read_values(given: object) -> object:
    """Return what `--config` gave with its texts read as YAML reads them: numbers, true, null; the rest unchanged."""
    if isinstance(given, Mapping):
        return {key: read_values(value) for key, value in given.items()}
    if isinstance(given, list):
        return [read_values(value) for value in given]
    if not isinstance(given, str):
        return given
    try:
        value = yaml.safe_load(given)
    except yaml.YAMLError:
        return given
    return value if value is None or isinstance(value, (bool, int, float)) else given
