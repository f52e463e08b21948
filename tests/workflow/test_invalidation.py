"""After an edit, a rerun plans exactly the jobs in tests/invalidation.yaml; for a sample it also runs them."""

import copy
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from headatlas.config.schema import load_schema
from headatlas.workflow import fingerprint
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.config_docs import _keys, recomputed
from headatlas.workflow.settings import of_every_rule
from invalidation_table import CASES, README, TABLE, expected, with_table
from workflow_runs import INDEPENDENT, REDUCED, ROOT, Planner, copy_run, finish, planned, write_config

CONFIGS = {"demo": REDUCED, "independent": INDEPENDENT}


# --- making an edit --------------------------------------------------------------------------------------------


def put(config: dict, key: str, value: object) -> None:
    *path, last = key.split(".")
    for name in path:
        config = config.setdefault(name, {})
    config[last] = value


def edited_config(run: str, case: dict) -> dict:
    config = copy.deepcopy(CONFIGS[run])
    for key, value in case.get("set", {}).items():
        put(config, key, value)
    for key in case.get("drop", []):
        section, name = key.split(".")
        del config[section][name]
    if "order" in case:
        config[case["order"]] = dict(reversed(config[case["order"]].items()))
    return config


def matching(folder: Path, patterns: list[str]) -> list[Path]:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
    assert len(found) >= len(patterns), patterns
    return found


def edit(folder: Path, run: str, case: dict) -> None:
    """Make the edits of a case in a copy of a finished run."""
    if {"set", "drop", "order"} & case.keys():
        write_config(folder, edited_config(run, case))
    for name, (old, new) in case.get("replace", {}).items():
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text, (name, old)
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    for path in matching(folder, case.get("touch", [])):
        os.utime(path)
    for path in matching(folder, case.get("delete", [])):
        path.unlink()
    if "flip" in case:
        path = folder / case["flip"]
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    for path in matching(folder, case.get("remark", [])):
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""')
        path.write_text(f'"""Another docstring. {text[3:]}\n\n# A remark.\n', encoding="utf-8")
    if "code" in case:
        with open(folder / case["code"], "a", encoding="utf-8") as file:
            file.write("\n_EDITED = True\n")


# --- plans -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bases(finished, independent):
    return {"demo": finished, "independent": independent}


@pytest.fixture(scope="module")
def plans(request, bases, tmp_path_factory):
    """The plans of all chosen cases, two made at a time: {(run, edit): future of jobs per rule}."""
    items = [item for item in request.session.items if hasattr(item, "callspec")]
    chosen = [item.callspec.params["case"] for item in items if "case" in item.callspec.params]
    place = tmp_path_factory.mktemp("plans")
    planners = [Planner(), Planner()]
    free = list(planners)

    def plan(index: int, run: str, case: dict) -> dict[str, int]:
        folder = copy_run(bases[run], place / f"case-{index}")
        edit(folder, run, case)
        planner = free.pop()
        try:
            return planner.plan(folder)
        finally:
            free.append(planner)
            shutil.rmtree(folder)

    with ThreadPoolExecutor(len(planners)) as pool:
        yield {(run, case["edit"]): pool.submit(plan, index, run, case) for index, (run, case) in enumerate(chosen)}
    for planner in planners:
        planner.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[1]['edit']}")
def test_a_rerun_plans_exactly(case, plans):
    run, entry = case
    assert plans[run, entry["edit"]].result() == expected(run, entry["plan"])


@pytest.mark.parametrize("run", TABLE["runs"])
def test_the_sets_of_the_table_are_a_whole_run(run, bases):
    said = (bases[run] / "run.txt").read_text(encoding="utf-8")
    assert planned(said) == expected(run, list(TABLE["runs"][run]))


def test_the_readme_shows_the_table():
    text = README.read_text(encoding="utf-8")
    assert text == with_table(text), "run: PYTHONPATH=scripts python tests/invalidation_table.py"


# --- every key of the config -----------------------------------------------------------------------------------

ONE_ENTRY = {"<model>": "demo", "<task>": "retrieval"}
ONLY_COGQA = {"tasks.<task>.skill", "tasks.<task>.context", "tasks.<task>.format"}
# elsewhere, or hub models only
NAMED = dict.fromkeys(("models.<model>.path", "models.<model>.compare_to"), "models.other")
NAMED |= {"models.<model>.revision": None}


def schema_keys() -> list[str]:
    sections = load_schema()["properties"].items()
    return [key for name, schema in sections for key, _ in _keys(name, schema)]


def test_the_table_has_every_key_of_the_config():
    """Including keys that share a case."""
    edited = {key for _, case in CASES for key in case.get("set", {})}
    for key in sorted(set(schema_keys()) - ONLY_COGQA):
        plain = NAMED.get(key, re.sub("<[a-z]+>", lambda found: ONE_ENTRY[found[0]], key))
        assert plain in edited or plain is None, key


def test_what_the_readme_says_of_a_key_is_what_a_dry_run_plans():
    """Its column is made from the rules' settings, the table's plans by Snakemake."""
    keys = dict(pair for name, schema in load_schema()["properties"].items() for pair in _keys(name, schema))
    checked = 0
    for run, case in CASES:
        named = {re.sub(r"^models\.demo\.", "models.<model>.", name) for name in case.get("set", {})}
        for name in named & {path for path, key in keys.items() if "recomputes" not in key}:
            said = recomputed(name, keys[name]).removesuffix(" of the model")
            rules = set(said.split(", ")) - {"nothing", "draw_comparison", "compare_models"}  # those need two models
            rules -= {"choose_hottest", "patch_answers", "answer_control"}  # those need evidence.same_answer
            rules -= {"ablate_groups", "head_groups"}  # those need evidence.groups and shared keys
            rules.discard("compare_heads")  # that needs compare_to
            if name == "methods.attribution.steps":
                rules.discard("attribute_task")  # with several steps integrate_task takes its place
            assert rules <= {*expected(run, case["plan"])}, name
            checked += 1
    assert checked > 40
    assert "choose_heads" in recomputed("statistics.items", keys["statistics.items"])  # and so the model runs again


# Keys that count only beside another value of `methods.ablation.items`.
ADAPTIVE = ("methods.ablation.top", "methods.ablation.smallest_effect")
TOGETHER = [
    pytest.param(case["set"], key, id=key)
    for run, case in CASES
    if run == "demo" and len(case.get("set", {})) > 1 and case["plan"]
    for key in case["set"]
]


@pytest.mark.parametrize(("together", "key"), TOGETHER)
def test_each_key_that_stands_with_others_in_a_case_counts_by_itself(together, key, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = copy.deepcopy(REDUCED)
    if key in ADAPTIVE:
        put(config, "methods.ablation.items", "adaptive")
    before = of_every_rule(Atlas(copy.deepcopy(config), ROOT))
    put(config, key, together[key])
    assert of_every_rule(Atlas(config, ROOT)) != before


# --- library modules -------------------------------------------------------------------------------------------


def modules(folder: Path) -> dict[str, Path]:
    """Library modules by name, "package.module"; packages' own files, which hold no code, are left out."""
    library = folder / "headatlas"
    files = [path for path in library.rglob("*.py") if path.stem != "__init__"]
    return {".".join(path.relative_to(library).with_suffix("").parts): path for path in files}


def reached_by_text(folder: Path, script: str) -> set[str]:
    """Library modules a script uses, by the text of import lines alone; independent of `fingerprint`."""
    names = modules(folder)
    reached, waiting = set(), [folder / f"{script}.py"]
    while waiting:
        text = waiting.pop().read_text(encoding="utf-8")
        found = set(re.findall(r"^\s*from headatlas\.([\w.]+) import", text, re.MULTILINE))
        for package, line in re.findall(r"^\s*from headatlas\.(\w+) import (.*)$", text, re.MULTILINE):
            found |= {f"{package}.{part.split(' as ')[0].strip()}" for part in line.split(",")}
        waiting += [names[name] for name in found & {*names} - reached]
        reached |= found & {*names}
    return reached


def rule_scripts() -> list[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    return sorted(set(re.findall(r'fingerprint\("(\w+)\.py"\)', text)))


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of scripts/ that fingerprints are taken of."""
    folder = tmp_path / "scripts"
    shutil.copytree(ROOT / "scripts", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "SCRIPTS", folder)
    return folder


def fingerprints_now() -> dict[str, str]:
    return {script: fingerprint.fingerprint(f"{script}.py") for script in rule_scripts()}


def test_code_of_each_module_concerns_exactly_the_scripts_that_use_it(sources):
    before = fingerprints_now()
    assert len(before) >= 20
    for name, module in modules(sources).items():
        text = module.read_text(encoding="utf-8")
        module.write_text(text + "\n_EDITED = True\n", encoding="utf-8")
        after = fingerprints_now()
        changed = {script for script in before if after[script] != before[script]}
        users = {script for script in before if name in reached_by_text(sources, script)}
        assert changed == users, name
        module.write_text(text, encoding="utf-8")
    assert fingerprints_now() == before


def test_a_script_concerns_its_own_rule_only_and_remarks_nobody(sources):
    before = fingerprints_now()
    for script in before:
        path = sources / f"{script}.py"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("if __name__", "_EDITED = True\nif __name__"), encoding="utf-8")
        after = fingerprints_now()
        assert {name for name in before if after[name] != before[name]} == {script}
        path.write_text(f'"""New words. {text[3:]}\n# A remark\n', encoding="utf-8")
        assert fingerprints_now() == before, script
        path.write_text(text, encoding="utf-8")


# --- carried out -----------------------------------------------------------------------------------------------


def times(folder: Path) -> dict[str, int]:
    """When each result was written; logs and the page that every run writes aside."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in (folder / "results").rglob("*")
        if path.is_file() and "logs" not in path.parts and path.name != "index.html"
    }


def carry_out(base: Path, folder: Path, run: str, case: dict) -> tuple[Path, set[str]]:
    """Make the edit of a case, run, and return the folder and the results that were written again."""
    before = times(copy_run(base, folder))
    edit(folder, run, case)
    assert planned(finish(folder)) == expected(run, case["plan"])
    assert "Nothing to be done" in finish(folder)
    after = times(folder)
    assert after.keys() >= before.keys()
    return folder, {path for path in after if after[path] != before.get(path)}


def test_a_statistic_rewrites_scores_and_what_is_made_of_them(independent, tmp_path):
    case = {"set": {"statistics.confidence": 0.5}, "plan": ["scores", "maps", {"measure_capability": 1}]}
    folder, written = carry_out(independent, tmp_path / "run", "independent", case)
    assert not [path for path in written if "/scores/" not in path and "/trace/" in path]
    kinds = {path.split("/")[2].split(".")[0] for path in written}
    assert kinds == {"scores", "importance", "figures", "provenance", "evidence", "heads"}
    old, new = (pl.read_parquet(at / "results/tiny/importance.parquet") for at in (independent, folder))
    same = ["effect", "std_error", "p_value", "q_value", "importance", "rank"]
    assert old.select(same).equals(new.select(same))
    assert ((new["ci_high"] - new["ci_low"]) < (old["ci_high"] - old["ci_low"])).all()


def test_a_changed_line_rewrites_its_task_only(independent, tmp_path):
    case = next(case for run, case in CASES if run == "independent" and "changed line" in case["edit"])
    _, written = carry_out(independent, tmp_path / "run", "independent", case)
    of_another = [path for path in written if "inference" in path]
    assert {path.split("/")[2] for path in of_another} == {"heads"}  # whose means are over all tasks
    by_folder = {path.split("/")[2].split(".")[0] for path in written}
    made = {"items", "trace", "effects", "engines", "scores", "importance", "figures", "provenance", "evidence"}
    assert by_folder == made | {"baseline", "heads"}


def test_a_colour_redraws_figures_and_nothing_else(independent, tmp_path):
    case = {"set": {"figures.scheme": "magma"}, "plan": [{"draw_figure": 4, "render_figure": 4}]}
    folder, written = carry_out(independent, tmp_path / "run", "independent", case)
    assert {path.split("/")[2] for path in written} == {"figures"}
    name = "results/tiny/figures/heatmap-grid.ablation.svg"
    assert (folder / name).read_bytes() != (independent / name).read_bytes()
