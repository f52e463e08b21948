# What the results were made from.


localrules:
    write_provenance,


rule write_provenance:
    """Config, hashes of files, code, packages and devices behind a model's results."""
    input:
        importance=rules.aggregate.output.table,
        traces=expand(rules.trace_task.output.trace, task=atlas.tasks, allow_missing=True),
    output:
        provenance="results/{model}/provenance.json",
    log:
        "results/{model}/logs/write_provenance.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.provenance_settings(
            wildcards.model, fingerprints(rule.name for rule in workflow.rules)
        ),
        code=fingerprint("write_provenance.py"),
    shell:
        "headatlas write_provenance --log {log:q} --settings {params.settings:q}"
        " --traces {input.traces:q} --provenance {output.provenance:q}"
