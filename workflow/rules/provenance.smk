# What the results were made from, and how.


localrules:
    record_engines,
    write_provenance,


RECORDED = {"ablate_groups": "groups", "knock_out": "knock-outs", "patch_answers": "patches"}  # rule -> option


rule record_engines:
    """Which engine computed the edited passes of a method, of groups of heads, of the knock-outs or of the patches, and why."""
    input:
        files=lambda wildcards: files.engine_inputs(wildcards.model, wildcards.rule),
    output:
        record="results/{model}/engines/{rule}.json",
    log:
        "results/{model}/logs/record_engines/{rule}.log",
    wildcard_constraints:
        rule="|".join([*METHOD_OF_RULE, *RECORDED]),
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("record_engines"),
        code=fingerprint("record_engines.py"),
        # A large model has too many effects files for one command line.
        files=lambda wildcards, input: (
            f"--effects results/{wildcards.model}/effects/{METHOD_OF_RULE[wildcards.rule]}"
            if wildcards.rule in METHOD_OF_RULE
            else f"--{RECORDED[wildcards.rule]} {shlex.join(input.files)}"
        ),
    shell:
        "headatlas record_engines --log {log:q} --settings {params.settings:q} {params.files} --record {output.record:q}"


rule write_provenance:
    """Config, hashes of files, code, packages and devices behind a model's results."""
    input:
        importance=rules.aggregate.output.table,
        traces=expand(rules.trace_task.output.trace, task=atlas.tasks, allow_missing=True),
        engines=lambda wildcards: files.engine_records(wildcards.model),
    output:
        provenance="results/{model}/provenance.json",
    log:
        "results/{model}/logs/write_provenance.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: settings_of(
            atlas,
            "write_provenance",
            dict(wildcards.items()),
            files=inputs.digests(wildcards.model),
            stored_as=inputs.stored_as(wildcards.model),
            code=fingerprints(rule.name for rule in workflow.rules),
        ),
        code=fingerprint("write_provenance.py"),
        engines=lambda wildcards, input: "--engines" if input.engines else "",
    shell:
        "headatlas write_provenance --log {log:q} --settings {params.settings:q}"
        " --traces {input.traces:q} {params.engines} {input.engines:q} --provenance {output.provenance:q}"
