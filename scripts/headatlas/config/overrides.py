"""Completes Snakemake's `--config`, which reads every number inside braces as text.

`--config 'compute={layers_per_job: 8}'` gives `{"layers_per_job": "8"}`, and so does `config:` in a profile.
Imported at parse time.
"""

from collections.abc import Mapping

import yaml


def read_values(given: object) -> object:
    """Read the texts that `--config` gave as YAML does (numbers, true, null); leave the rest unchanged."""
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
