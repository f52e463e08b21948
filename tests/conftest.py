"""What several test files share: one finished run of the reduced demo."""

import pytest
from workflow_runs import REDUCED, copy_repository, finish


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy of the repository in which the reduced demo has run. Only to be read: copy it with `copy_run`."""
    folder = copy_repository(tmp_path_factory.mktemp("finished") / "run", REDUCED)
    (folder / "run.txt").write_text(finish(folder), encoding="utf-8")
    return folder
