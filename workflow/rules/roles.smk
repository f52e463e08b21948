# What each head does, beside how much it matters.


localrules:
    head_roles,


rule describe_heads:
    """Where each head attends on random tokens repeated once and on the tasks' items (score split), and what it writes."""
    input:
        prepared=expand(files.items, task=atlas.tasks, allow_missing=True),
        tokenizer=tokenizer,
        weights=weights,
    output:
        roles="results/{model}/evidence/head-roles/roles.safetensors",
    log:
        "results/{model}/logs/describe_heads.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
    params:
        settings=settings("describe_heads"),
        weights=weights_digests,
        code=fingerprint("describe_heads.py"),
    shell:
        "headatlas describe_heads --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --roles {output.roles:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb}"


rule head_roles:
    """Tables of what each head does, and how many of a task's hottest heads are among the strongest of each role."""
    input:
        roles=rules.describe_heads.output.roles,
        effects=lambda wildcards: files.all_effects(wildcards.model),
    output:
        heads=in_report("results/{model}/heads.parquet", "heads"),
        table=in_report("results/{model}/evidence/head-roles.parquet", "head-roles"),
        overlap=in_report("results/{model}/evidence/role-overlap.parquet", "role-overlap"),
    log:
        "results/{model}/logs/head_roles.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("head_roles"),
        code=fingerprint("head_roles.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas head_roles --log {log:q} --settings {params.settings:q}"
        " --roles {input.roles:q} --effects {params.folder:q}"
        " --heads {output.heads:q} --table {output.table:q} --overlap {output.overlap:q}"
