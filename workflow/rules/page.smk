# The page of a model: its data, and apart from them the files that show them.


localrules:
    write_page_data,
    write_page,


rule attend_items:
    """What every head attends to from the answer positions of the items on the page."""
    input:
        prepared=files.items,
        tokenizer=tokenizer,
        weights=weights,
    output:
        attention="results/{model}/attention/{task}.safetensors",
    log:
        "results/{model}/logs/attend_items/{task}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
    params:
        settings=settings("attend_items"),
        weights=weights_digests,
        code=fingerprint("attend_items.py"),
    shell:
        "headatlas attend_items --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --attention {output.attention:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb}"


rule write_page_data:
    """The data of the page as scripts: all maps, the items shown, and one file per head."""
    input:
        importance=rules.aggregate.output.table,
        capability=rules.measure_capability.output.table,
        effects=lambda wildcards: files.all_effects(wildcards.model),
        prepared=expand(files.items, task=atlas.tasks, allow_missing=True),
        traces=expand(rules.trace_task.output.trace, task=atlas.tasks, allow_missing=True),
        attention=expand(
            rules.attend_items.output.attention if atlas.attends else [], task=atlas.tasks, allow_missing=True
        ),
        tables=lambda wildcards: [*targets.page_tables(wildcards.model).values()],
    output:
        data=directory("results/{model}/page/data"),
    log:
        "results/{model}/logs/write_page_data.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("write_page_data"),
        code=fingerprint("write_page_data.py"),
        folder="results/{model}/effects",
        attention=lambda wildcards, input: "--attention" if input.attention else "",
        tables=lambda wildcards: " ".join(
            f"--{option} {shlex.quote(table)}" for option, table in targets.page_tables(wildcards.model).items()
        ),
    shell:
        "headatlas write_page_data --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --capability {input.capability:q} --effects {params.folder:q}"
        " --items {input.prepared:q} --traces {input.traces:q} {params.attention} {input.attention:q} {params.tables}"
        " --data {output.data:q}"


PAGE_FILES = sorted(file.name for file in (REPOSITORY / "workflow/page").iterdir())


rule write_page:
    """The page itself: its files beside its data, and the looks from the config."""
    input:
        sources=[os.path.relpath(REPOSITORY / "workflow/page" / name) for name in PAGE_FILES],
    output:
        page=expand("results/{{model}}/page/{name}", name=PAGE_FILES),
        looks="results/{model}/page/looks.js",
    log:
        "results/{model}/logs/write_page.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("write_page"),
        code=fingerprint("write_page.py"),
    shell:
        "headatlas write_page --log {log:q} --settings {params.settings:q}"
        " --sources {input.sources:q} --page {output.page:q} --looks {output.looks:q}"
