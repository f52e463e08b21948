# What stands behind the maps, on questions that chose no head.


localrules:
    reliability,
    summarise,
    compare_maps,
    surface_control,
    format_control,
    choose_heads,
    knock_out_summary,
    write_findings,
    compare_models,


rule reliability:
    """Split-half reliability of the ranking of heads, per method and task."""
    input:
        effects=lambda wildcards: atlas.all_effects(wildcards.model),
    output:
        table="results/{model}/evidence/reliability.parquet",
    log:
        "results/{model}/logs/reliability.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.evidence_settings(
            *EVIDENCE_SLICES["reliability"], effects=atlas.effect_names(wildcards.model)
        ),
        code=fingerprint("reliability.py"),
        folder="results/{model}/effects",  # of a large model, all the files are too many for one command line
    shell:
        "headatlas reliability --log {log:q} --settings {params.settings:q}"
        " --effects {params.folder:q} --table {output.table:q}"


rule summarise:
    """Sparsity, depth and hottest heads of the maps, with intervals over questions."""
    input:
        importance=rules.aggregate.output.table,
        effects=lambda wildcards: atlas.all_effects(wildcards.model),
    output:
        summary="results/{model}/summary.parquet",
        comparisons="results/{model}/evidence/comparisons.parquet",
        profiles="results/{model}/evidence/layer-profile.parquet",
        hottest="results/{model}/evidence/hottest-heads.parquet",
    log:
        "results/{model}/logs/summarise.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.evidence_settings(
            *EVIDENCE_SLICES["summarise"], effects=atlas.effect_names(wildcards.model)
        ),
        code=fingerprint("summarise.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas summarise --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --effects {params.folder:q} --summary {output.summary:q}"
        " --comparisons {output.comparisons:q} --profiles {output.profiles:q} --hottest {output.hottest:q}"


rule compare_maps:
    """Agreement between methods per task, and overlap between tasks per method."""
    input:
        importance=rules.aggregate.output.table,
    output:
        agreement="results/{model}/evidence/agreement.parquet",
        overlap="results/{model}/evidence/task-overlap.parquet",
    log:
        "results/{model}/logs/compare_maps.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=atlas.evidence_settings(*EVIDENCE_SLICES["compare_maps"]),
        code=fingerprint("compare_maps.py"),
    shell:
        "headatlas compare_maps --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --agreement {output.agreement:q} --overlap {output.overlap:q}"


rule surface_control:
    """How well words alone tell the tasks apart."""
    input:
        prepared=expand(atlas.items, task=atlas.tasks, allow_missing=True),
    output:
        table="results/{model}/evidence/surface-control.parquet",
    log:
        "results/{model}/logs/surface_control.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=atlas.evidence_settings(*EVIDENCE_SLICES["surface_control"]),
        code=fingerprint("surface_control.py"),
    shell:
        "headatlas surface_control --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --table {output.table:q}"


rule format_control:
    """Each task's map on items whose answers have the format of another task's."""
    input:
        prepared=expand(atlas.items, task=atlas.tasks, allow_missing=True),
        effects=lambda wildcards: atlas.all_effects(wildcards.model, atlas.untrained),
    output:
        table="results/{model}/evidence/format-control.parquet",
    log:
        "results/{model}/logs/format_control.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.evidence_settings(
            *EVIDENCE_SLICES["format_control"],
            effects=atlas.effect_names(wildcards.model, atlas.untrained),
        ),
        code=fingerprint("format_control.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas format_control --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --effects {params.folder:q} --table {output.table:q}"


rule choose_heads:
    """The sets of heads to knock out: top, bottom and random ones of every task's map."""
    input:
        effects=lambda wildcards: atlas.all_effects(wildcards.model, [wildcards.method]),
        traces=expand("results/{{model}}/trace/{task}.safetensors", task=atlas.tasks),
    output:
        sets="results/{model}/evidence/knock-out/{method}/sets.json",
    log:
        "results/{model}/logs/choose_heads/{method}.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.choice_settings(wildcards.model, wildcards.method),
        code=fingerprint("choose_heads.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas choose_heads --log {log:q} --settings {params.settings:q}"
        " --effects {params.folder:q} --traces {input.traces:q} --sets {output.sets:q}"


rule knock_out:
    """What is left of each task on held-out questions without the chosen heads of one method's maps."""
    input:
        sets=rules.choose_heads.output.sets,
        prepared=expand(atlas.items, task=atlas.tasks, allow_missing=True),
        baseline=rules.pool_baseline.output.baseline,
        weights=weights,
    output:
        knock_outs=expand("results/{{model}}/evidence/knock-out/{{method}}/{task}.safetensors", task=atlas.tasks),
    log:
        "results/{model}/logs/knock_out/{method}.log",
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
        engine=atlas.config["compute"]["engine"],
    params:
        settings=lambda wildcards: atlas.knock_out_settings(wildcards.model),
        weights=lambda wildcards: atlas.large_digests(atlas.weights(wildcards.model)),
        code=fingerprint("knock_out.py"),
    shell:
        "headatlas knock_out --log {log:q} --settings {params.settings:q}"
        " --sets {input.sets:q} --items {input.prepared:q} --baseline {input.baseline:q}"
        " --knock-outs {output.knock_outs:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --engine {resources.engine}"


rule knock_out_summary:
    """Knock-out curves, their areas, the dissociation matrix and how far its diagonal stands out."""
    input:
        knock_outs=expand(
            "results/{{model}}/evidence/knock-out/{method}/{task}.safetensors",
            method=atlas.methods,
            task=atlas.tasks,
        ),
    output:
        curve="results/{model}/evidence/knock-out.parquet",
        area="results/{model}/evidence/knock-out-area.parquet",
        matrix="results/{model}/evidence/dissociation.parquet",
        dominance="results/{model}/evidence/dominance.parquet",
    log:
        "results/{model}/logs/knock_out_summary.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=atlas.evidence_settings(*EVIDENCE_SLICES["knock_out_summary"]),
        code=fingerprint("knock_out_summary.py"),
    shell:
        "headatlas knock_out_summary --log {log:q} --settings {params.settings:q}"
        " --raw {input.knock_outs:q} --curve {output.curve:q} --area {output.area:q}"
        " --matrix {output.matrix:q} --dominance {output.dominance:q}"


rule write_findings:
    """What a reader of the figures would want to be told, in sentences with their numbers."""
    input:
        **atlas.findings_tables(),
    output:
        findings="results/{model}/findings.md",
    log:
        "results/{model}/logs/write_findings.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=atlas.evidence_settings(*EVIDENCE_SLICES["write_findings"]),
        code=fingerprint("write_findings.py"),
        tables=lambda wildcards, input: " ".join(f"--{name} {shlex.quote(path)}" for name, path in input.items()),
    shell:
        "headatlas write_findings --log {log:q} --settings {params.settings:q} {params.tables}"
        " --findings {output.findings:q}"


rule compare_models:
    """Sparsity, depth and dissociation of all models, and how alike every two are."""
    input:
        summaries=[f"results/{model}/summary.parquet" for model in atlas.models],
        dominances=[f"results/{model}/evidence/dominance.parquet" for model in atlas.models if atlas.validates],
        prepared=[atlas.items.format(model=model, task=task) for model in atlas.models for task in atlas.tasks],
        effects=[effects for model in atlas.models for effects in atlas.all_effects(model)],
    output:
        table="results/comparison/models.parquet",
        csv="results/comparison/models.csv",
        paired="results/comparison/pairs.parquet",
        paired_csv="results/comparison/pairs.csv",
    log:
        "results/comparison/logs/compare_models.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.pair_settings(),
        code=fingerprint("compare_models.py"),
        folders=[f"results/{model}/effects" for model in atlas.models],
        dominances=lambda wildcards, input: f"--dominances {input.dominances}" if input.dominances else "",
    shell:
        "headatlas compare_models --log {log:q} --settings {params.settings:q}"
        " --summaries {input.summaries:q} {params.dominances} --items {input.prepared:q} --effects {params.folders:q}"
        " --table {output.table:q} --csv {output.csv:q} --paired {output.paired:q} --paired-csv {output.paired_csv:q}"
