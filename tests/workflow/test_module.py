"""What the workflow offers to others: use as a module, its page in Snakemake's catalog, the picture of its rules."""

import copy
import re

import polars as pl
import pytest
import rule_graph
import yaml
from workflow_runs import INDEPENDENT, ROOT, finish, snakemake

OUTER = """
configfile: "outer.yaml"

module headatlas:
    snakefile: "{snakefile}"
    config: config["headatlas"]

use rule * from headatlas

rule hottest:
    default_target: True
    input: "results/tiny/importance.parquet"
    output: "size.txt"
    shell: "wc -c {{input}} > {{output}}"
"""
ONE_METHOD = INDEPENDENT | {"methods": {"attribution": {"baseline": "zero"}}}


@pytest.fixture
def outer(fresh, tmp_path):
    """A function that makes a folder with another workflow that uses this one as a module, with a config."""

    def make(config: dict):
        folder = tmp_path / "of somebody else"
        folder.mkdir()
        (folder / "Snakefile").write_text(OUTER.format(snakefile=fresh / "Snakefile"), encoding="utf-8")
        config = copy.deepcopy(config) | {"models": {"tiny": {"path": str(fresh / "tiny"), "device": "cpu"}}}
        content = {"headatlas": config, "of their own": 1}
        (folder / "outer.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return folder

    return make


def test_another_workflow_makes_the_same_table(outer, independent):
    folder = outer(ONE_METHOD)
    finish(folder)
    assert int((folder / "size.txt").read_text().split()[0]) > 0
    theirs, ours = (pl.read_parquet(at / "results/tiny/importance.parquet") for at in (folder, independent))
    assert theirs.equals(ours.filter(pl.col("method") == "attribution"))
    assert len(theirs) == 2 * 2 * 4  # tasks, layers, heads
    assert "Nothing to be done" in finish(folder)


def test_a_mistake_in_the_config_of_a_module_is_one_line(outer):
    done = snakemake(outer(ONE_METHOD | {"seed": -1}))
    assert done.returncode == 1
    assert done.stdout == "Error: seed: must be a whole number from 0 to 4294967295, got -1\n"


def test_no_name_of_the_rules_replaces_one_of_snakemakes():
    """Rules share the global names of a Snakemake module, which continues to use them."""
    from snakemake import api, workflow  # noqa: F401 (workflow cannot be imported first)

    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    given = set(re.findall(r"^(?:def |class )?(\w+)(?:\(.*\):| = |:$)", text, re.MULTILINE))
    given |= {name for names in re.findall(r"^([\w, ]+) = ", text, re.MULTILINE) for name in names.split(", ")}
    imported = {
        name for names in re.findall(r"^from [\w.]+ import (.*)$", text, re.MULTILINE) for name in names.split(", ")
    }
    assert {"Mistake", "inputs", "files", "targets", "in_report", "RUNS_MODEL"} <= given
    assert {"Atlas", "Requests", "settings_of", "Server"} <= imported
    assert (given | imported) & set(vars(workflow)) <= {"Path", "update_config"}  # the same as theirs


def test_the_catalog_finds_what_it_wants():
    """The requirements of the catalog; its "standardized usage" also needs workflow/Snakefile."""
    said = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert said.keys() == {"mandatory-flags", "software-stack-deployment"}
    assert said["mandatory-flags"].keys() == {"desc", "flags"}
    flags = {"conda": True, "apptainer": False, "apptainer+conda": False, "report": True}
    assert said["software-stack-deployment"] == flags
    assert (ROOT / "Snakefile").is_file()
    assert (ROOT / "config/README.md").is_file()
    assert {"snakemake", "workflow"} <= set(
        re.findall(r"\w+", (ROOT / "README.md").read_text(encoding="utf-8").lower())
    )


def test_the_picture_of_the_rules_is_of_today():
    text = rule_graph.PAGE.read_text(encoding="utf-8")
    assert text == rule_graph.with_graph(text), "run: python tests/helpers/rule_graph.py"


def test_an_arrow_that_a_longer_way_implies_is_left_out():
    arrows = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "c")}
    assert rule_graph.drawn(arrows) == "flowchart TB\n    a --> b\n    a --> d\n    b --> c\n    d --> c\n"
