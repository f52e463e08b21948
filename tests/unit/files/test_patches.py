"""The patches file: a round trip, and the message about other files."""

import re

import numpy as np
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.files.patches import Patched, read_patches, write_patches
from headatlas.workflow.engine_record import of_patches

REPORT = {"engine": "replay", "reason": None, "padded": True, "work": 1.0, "checked": 4, "difference": 1e-6}
REPORT |= {"noise": 1e-7, "half_because": None}


def patched(heads: int, items: int) -> Patched:
    effects = np.arange(heads * items, dtype=np.float32).reshape(heads, items)
    engine = {"counterfactual": REPORT, "same_answer": REPORT | {"difference": 1e-5}}
    return Patched([[1, head] for head in range(heads)], effects, -effects, np.arange(items), engine)


def test_what_is_written_is_read_in_the_same_order(tmp_path):
    tasks = {"b": patched(2, 3), "a": patched(1, 4)}
    write_patches(tmp_path / "patches.safetensors", tasks)
    found = read_patches(tmp_path / "patches.safetensors")
    assert list(found) == ["b", "a"]
    for task, one in tasks.items():
        for name, value in one._asdict().items():
            np.testing.assert_equal(getattr(found[task], name), value)


def test_the_record_of_engines_joins_both_prompts(tmp_path):
    write_patches(tmp_path / "patches.safetensors", {"b": patched(2, 3)})
    (row,) = of_patches(tmp_path / "patches.safetensors")
    assert (row["rule"], row["method"], row["task"]) == ("patch_answers", "ablation", "b")
    assert (row["checked"], row["difference"]) == (8, 1e-5)


def test_effects_that_are_not_finite_are_refused(tmp_path):
    strange = patched(1, 2)
    strange.same_answer[0, 1] = np.inf
    with pytest.raises(HeadAtlasError, match="effects on b are not finite; set the model's dtype to float32"):
        write_patches(tmp_path / "patches.safetensors", {"b": strange})
    assert not (tmp_path / "patches.safetensors").exists()


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "patches.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(HeadAtlasError, match=rf"{re.escape(str(path))}: not a file of patches .*; delete it and run"):
        read_patches(path)
