"""Every causal family that transformers can build tiny: heads found and effects right, or refused in one line.

Slow (minutes): `pytest -m sweep`; `python tests/helpers/sweep.py` prints the same as a table.
"""

import pytest
from sweep import sweep
from sweep_families import FAMILIES

pytestmark = pytest.mark.sweep
# What config and no weights cannot be built of here: sizes that do not go together, or no class for the text config.
NOT_BUILT = {"cohere_compass_text", "dbrx", "emu3", "gemma4_assistant", "mllama", "musicgen", "musicgen_melody",
             "qwen4_exp", "qwen4_exp_text"}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_those_of_plain_passes_or_the_model_is_refused(family):
    if family in NOT_BUILT:
        pytest.skip("transformers does not build it from a small config")
    row = sweep(family)
    if row.refusal:
        assert "\n" not in row.refusal
        return
    assert row.largest > 1e-3
    for ways in row.differences.values():
        for difference in ways.values():
            assert difference < 3e-5
