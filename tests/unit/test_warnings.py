"""What a library warns our calls of is an error in the tests (`filterwarnings` in pyproject.toml): it does trigger."""

import subprocess
import sys
import warnings

import pytest
import torch
from transformers.utils.deprecation import deprecate_kwarg
from workflow_runs import ROOT, environment

CALL = "import warnings\nwarnings.warn('old', DeprecationWarning)"


class Renamed(torch.nn.Module):
    """A model of transformers with an argument that has a new name."""

    @deprecate_kwarg("old", version="99.0", new_name="new")
    def forward(self, new=None):
        return new


def test_a_renamed_argument_of_a_model_is_an_error():
    with pytest.raises(FutureWarning, match="`old` is deprecated and will be removed in version 99"):
        Renamed()(old=1)


def test_a_deprecated_call_in_our_code_is_an_error_and_one_in_a_librarys_is_not():
    with pytest.raises(DeprecationWarning, match="old"):
        exec(CALL, {"__name__": "headatlas.models.head_model"})
    with warnings.catch_warnings(record=True) as said:
        exec(CALL, {"__name__": "library"})
    assert len(said) == 1


@pytest.mark.parametrize(("module", "status"), [("headatlas.models.head_model", 1), ("trace_task", 1), ("library", 0)])
def test_the_same_holds_in_jobs_of_a_run(module, status):
    code = f"exec({CALL!r}, {{'__name__': {module!r}}})"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert done.returncode == status
    assert "DeprecationWarning: old" in done.stderr or status == 0
