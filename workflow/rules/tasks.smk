# From task files to tokenised items.


localrules:
    prepare_task,
    balance_tasks,


rule prepare_task:
    """A task's questions as checked, split, sampled and tokenised items."""
    input:
        source=task_source,
        tokenizer=tokenizer,
    output:
        prepared="results/{model}/items/{task}.json",
    log:
        "results/{model}/logs/prepare_task/{task}.log",
    priority: len(atlas.models) + 1  # before any job runs a model, so mistakes in task files are found first
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("prepare_task"),
        large=lambda wildcards: large_digests([*inputs.source(wildcards.task), *inputs.tokenizer(wildcards.model)]),
        code=fingerprint("prepare_task.py"),
    shell:
        "headatlas prepare_task --log {log:q} --settings {params.settings:q}"
        " --source {input.source:q} --items {output.prepared:q}"


rule balance_tasks:
    """All tasks cut to the same number of items per split."""
    input:
        prepared=expand("results/{{model}}/items/{task}.json", task=atlas.tasks),
    output:
        balanced=expand("results/{{model}}/balanced/{task}.json", task=atlas.tasks),
    log:
        "results/{model}/logs/balance_tasks.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        code=fingerprint("balance_tasks.py"),
    shell:
        "headatlas balance_tasks --log {log:q}" " --items {input.prepared:q} --balanced {output.balanced:q}"
