"""Head Atlas: which attention heads of a causal language model matter for which cognitive task?"""

from snakemake.utils import min_version

min_version("9.27")


# A file given with --configfile stands alone. Laid over the demo's, as Snakemake does by itself, it would keep the demo's
# model and tasks; and --replace-workflow-config, which prevents it, is not passed on to jobs on a cluster.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/trace.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/evidence.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/provenance.smk"


rule all:
    default_target: True
    input:
        atlas.final_outputs(),
