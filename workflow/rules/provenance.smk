# What the results were made from, and how.


localrules:
    record_engines,
    write_provenance,


rule record_engines:
    """Which engine computed the edited passes of a model, and why."""
    input:
        effects=lambda wildcards: atlas.all_effects(wildcards.model, atlas.ablations),
        knock_outs=lambda wildcards: atlas.knock_out_headers(wildcards.model),
    output:
        record="results/{model}/engines.json",
    log:
        "results/{model}/logs/record_engines.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.engine_settings(wildcards.model),
        code=fingerprint("record_engines.py"),
        folder="results/{model}/effects/ablation",
        knock_outs=lambda wildcards, input: "--knock-outs" if input.knock_outs else "",
    shell:
        "headatlas record_engines --log {log:q} --settings {params.settings:q}"
        " --effects {params.folder:q} {params.knock_outs} {input.knock_outs:q} --record {output.record:q}"


rule write_provenance:
    """Config, hashes of files, code, packages and devices behind a model's results."""
    input:
        importance=rules.aggregate.output.table,
        traces=expand(rules.trace_task.output.trace, task=atlas.tasks, allow_missing=True),
        engines=rules.record_engines.output.record,
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
        " --traces {input.traces:q} --engines {input.engines:q} --provenance {output.provenance:q}"
