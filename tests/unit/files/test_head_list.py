"""Lists of heads that others write: read, or refused in one line."""

import json

import numpy as np
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.files.head_list import read_head_list, read_vectors
from safetensors.numpy import save_file


def written(folder, content):
    path = folder / "heads.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_heads_keep_their_order_and_vectors_lie_beside_the_list(tmp_path):
    heads = [{"layer": 3, "head": 1, "effect": 0.5}, {"layer": 0, "head": 2}]
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"mean_all": vectors}, tmp_path / "means.safetensors")
    path = written(tmp_path, {"heads": heads, "vectors": {"file": "means.safetensors"}})
    listed = read_head_list(path)
    assert listed.heads == [(3, 1), (0, 2)]
    assert np.array_equal(read_vectors(listed, path), vectors)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no JSON", "is not a list of heads"),
        ([], "is not a list of heads"),
        ({"heads": [{"layer": 1}]}, "is not a list of heads .*'head'"),
        ({"heads": [{"layer": 1, "head": "2"}]}, 'whole numbers, but "2" is not one'),
        ({"heads": [{"layer": 1, "head": True}]}, "whole numbers, but true is not one"),
    ],
)
def test_refuses_other_files(content, said, tmp_path):
    with pytest.raises(HeadAtlasError, match=said):
        read_head_list(written(tmp_path, content))


def test_refuses_to_guess_vectors(tmp_path):
    path = written(tmp_path, {"heads": [{"layer": 1, "head": 2}]})
    with pytest.raises(HeadAtlasError, match="names no vectors, which mode mean needs"):
        read_vectors(read_head_list(path), path)
    path = written(tmp_path, {"heads": [{"layer": 1, "head": 2}], "vectors": {"file": "none.safetensors"}})
    with pytest.raises(HeadAtlasError, match=r"none\.safetensors: holds no mean_all"):
        read_vectors(read_head_list(path), path)
