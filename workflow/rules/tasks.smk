# From task files to tokenised items.


localrules:
    prepare_task,
    prepare_questions,
    take_answers,
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
    wildcard_constraints:
        task="|".join(task for task in atlas.tasks if task not in atlas.generated) or "none",
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


use rule prepare_task as prepare_questions with:
    output:
        prepared="results/{model}/questions/{task}.json",
    log:
        "results/{model}/logs/prepare_questions/{task}.log",
    wildcard_constraints:
        task="|".join(atlas.generated) or "none",


rule generate_answers:
    """What the model writes to each item of a task: greedily, in batches."""
    input:
        prepared=rules.prepare_questions.output.prepared,
        tokenizer=tokenizer,
        weights=weights,
    output:
        answers="results/{model}/generated/{task}.json",
    log:
        "results/{model}/logs/generate_answers/{task}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
    params:
        settings=settings("generate_answers"),
        weights=weights_digests,
        code=fingerprint("generate_answers.py"),
    shell:
        "headatlas generate_answers --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --answers {output.answers:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb}"


rule take_answers:
    """Which of these answers are right; and the items with the model's answers instead of the references."""
    input:
        questions=rules.prepare_questions.output.prepared,
        written=rules.generate_answers.output.answers,
    output:
        answers="results/{model}/answers/{task}.json",
        prepared="results/{model}/items/{task}.json",
    log:
        "results/{model}/logs/take_answers/{task}.log",
    wildcard_constraints:
        task="|".join(atlas.generated) or "none",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("take_answers"),
        code=fingerprint("take_answers.py"),
    shell:
        "headatlas take_answers --log {log:q} --settings {params.settings:q}"
        " --questions {input.questions:q} --written {input.written:q}"
        " --answers {output.answers:q} --items {output.prepared:q}"


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
