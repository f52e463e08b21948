# From task files to tokenised items.


rule prepare_task:
    """A task's questions as checked, split, sampled and tokenised items."""
    input:
        source=lambda wildcards: atlas.config["tasks"][wildcards.task]["source"],
        tokenizer=lambda wildcards: atlas.tokenizer(wildcards.model),
    output:
        items="results/{model}/items/{task}.json",
    log:
        "results/{model}/logs/prepare_task/{task}.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.prepare_settings(wildcards.model, wildcards.task),
        code=fingerprint("prepare_task.py"),
    shell:
        "{PYTHON:q} {SCRIPTS:q}/prepare_task.py --log {log:q} --settings {params.settings:q}"
        " --source {input.source:q} --items {output.items:q}"


rule balance_tasks:
    """All tasks cut to the same number of items per split."""
    input:
        items=expand("results/{{model}}/items/{task}.json", task=atlas.tasks),
    output:
        balanced=expand("results/{{model}}/balanced/{task}.json", task=atlas.tasks),
    log:
        "results/{model}/logs/balance_tasks.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=atlas.balance_settings(),
        code=fingerprint("balance_tasks.py"),
    shell:
        "{PYTHON:q} {SCRIPTS:q}/balance_tasks.py --log {log:q} --settings {params.settings:q}"
        " --items {input.items:q} --balanced {output.balanced:q}"
