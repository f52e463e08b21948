# From effects per item to one tidy table.


localrules:
    score_layer,
    aggregate,


rule score_layer:
    """Effect, interval and p-value of every head of one layer, over the questions of one task."""
    input:
        effects=lambda wildcards: files.effects(wildcards.model, wildcards.method, wildcards.task, int(wildcards.layer)),
    output:
        scores="results/{model}/scores/{method}/{task}/layer-{layer}.parquet",
    log:
        "results/{model}/logs/score_layer/{method}/{task}/layer-{layer}.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("score_layer"),
        code=fingerprint("score_layer.py"),
    shell:
        "headatlas score_layer --log {log:q} --settings {params.settings:q}"
        " --effects {input.effects:q} --scores {output.scores:q}"


rule aggregate:
    """All scores of a model in one table, with importance, rank and q-value."""
    input:
        scores=lambda wildcards: files.scores(wildcards.model),
    output:
        table="results/{model}/importance.parquet",
        csv=in_report("results/{model}/importance.csv", "importance"),
    log:
        "results/{model}/logs/aggregate.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("aggregate"),
        code=fingerprint("aggregate.py"),
        folder="results/{model}/scores",  # a large model has too many files for one command line
    shell:
        "headatlas aggregate --log {log:q} --settings {params.settings:q}"
        " --scores {params.folder:q} --table {output.table:q} --csv {output.csv:q}"
