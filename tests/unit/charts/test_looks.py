"""The config section `figures` and its schema."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml
from figure_samples import PLAIN
from headatlas.charts import palette, render
from headatlas.charts.looks import Looks
from headatlas.errors import HeadAtlasError
from headatlas.workflow.settings import RENDER_ONLY

ROOT = Path(__file__).parents[3]


def test_the_schema_has_every_key_that_the_looks_want_and_alone_has_defaults():
    schema = yaml.safe_load((ROOT / "workflow/schemas/figures.schema.yaml").read_text())
    options = schema["properties"]
    assert [*options] == [*(key.name for key in fields(Looks)), *RENDER_ONLY]
    assert all(key.default is key.default_factory is MISSING for key in fields(Looks))
    assert all(option["description"] and "default" in option for option in options.values())
    assert schema["additionalProperties"] is False
    assert options["scheme"]["enum"] == list(palette.SCHEMES)
    assert options["signed_scheme"]["enum"] == list(palette.SIGNED_SCHEMES)
    assert options["formats"]["items"]["enum"] == list(render.FORMATS)


def test_an_unknown_key_is_said():
    with pytest.raises(HeadAtlasError, match="figures: unknown key `tick_steps`; did you mean `tick_step`"):
        Looks.read(PLAIN | {"tick_steps": 3})


def test_a_key_left_out_is_said():
    with pytest.raises(HeadAtlasError, match="figures: no key `scheme`; workflow/schemas/"):
        Looks.read({key: value for key, value in PLAIN.items() if key != "scheme"})
