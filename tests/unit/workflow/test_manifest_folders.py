"""Folders that rules make, such as a page's data, are left over and removed like files."""

from headatlas.workflow.manifest import finish, left_over, remove


def test_a_folder_of_an_earlier_state_is_left_over_and_removed(tmp_path):
    folder = tmp_path / "demo"
    for name in ("page/data/atlas.js", "attention/task.safetensors", "importance.csv", "mine/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    made = ["page/data", "attention/task.safetensors", "importance.csv"]
    finish(tmp_path, {folder: made}, ["config.yaml"])
    assert left_over(tmp_path) == ([], [])
    finish(tmp_path, {folder: ["importance.csv"]}, ["config.yaml"])
    outdated, reusable = left_over(tmp_path)
    assert (outdated, reusable) == ([folder / "page/data"], [folder / "attention/task.safetensors"])
    remove(tmp_path, outdated)
    assert left_over(tmp_path) == ([], reusable)
    assert not (folder / "page").exists()
    assert (folder / "mine/notes.txt").is_file()
