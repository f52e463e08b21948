"""Head Atlas: which attention heads of a causal language model matter for which cognitive task?"""

from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/trace.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/evidence.smk"
include: "workflow/rules/roles.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/page.smk"
include: "workflow/rules/provenance.smk"


rule all:
    default_target: True
    input:
        targets.all(),
