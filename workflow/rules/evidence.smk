# Evidence for the maps. Heads are knocked out on held-out questions, which did not select them; everything else uses the
# questions behind the maps, unless the rule says otherwise.


localrules:
    measure_capability,
    reliability,
    summarise,
    compare_maps,
    surface_control,
    format_control,
    choose_heads,
    rank_at_random,
    knock_out_summary,
    sufficiency_summary,
    choose_hottest,
    answer_control,
    head_groups,
    compare_heads,
    generated_accuracy,
    classify_heads,
    write_findings,
    export_heads,
    compare_models,


rule measure_capability:
    """Whether the model does each task at all: its share of correct answers and their score, on all questions."""
    input:
        traces=expand("results/{{model}}/trace/{task}.safetensors", task=atlas.tasks),
        prepared=expand(files.items, task=atlas.tasks, allow_missing=True),
        answers=lambda wildcards: files.answers(wildcards.model),
    output:
        table=in_report("results/{model}/evidence/capability.parquet", "capability"),
    log:
        "results/{model}/logs/measure_capability.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("measure_capability"),
        code=fingerprint("measure_capability.py"),
        answers=lambda wildcards, input: "--answers" if input.answers else "",
    shell:
        "headatlas measure_capability --log {log:q} --settings {params.settings:q}"
        " --traces {input.traces:q} --items {input.prepared:q} {params.answers} {input.answers:q} --table {output.table:q}"


rule reliability:
    """Split-half reliability of the ranking of heads, per method and task, between halves of the score split."""
    input:
        effects=lambda wildcards: files.all_effects(wildcards.model),
    output:
        table=in_report("results/{model}/evidence/reliability.parquet", "reliability"),
    log:
        "results/{model}/logs/reliability.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("reliability"),
        code=fingerprint("reliability.py"),
        folder="results/{model}/effects",  # of a large model, all the files are too many for one command line
    shell:
        "headatlas reliability --log {log:q} --settings {params.settings:q}"
        " --effects {params.folder:q} --table {output.table:q}"


rule summarise:
    """Sparsity, depth and hottest heads of the maps (score split), with intervals over questions."""
    input:
        importance=rules.aggregate.output.table,
        capability=rules.measure_capability.output.table,
        effects=lambda wildcards: files.all_effects(wildcards.model),
    output:
        summary=in_report("results/{model}/summary.parquet", "summary"),
        comparisons=in_report("results/{model}/evidence/comparisons.parquet", "comparisons"),
        profiles=in_report("results/{model}/evidence/layer-profile.parquet", "layer-profile"),
        hottest=in_report("results/{model}/evidence/hottest-heads.parquet", "hottest-heads"),
    log:
        "results/{model}/logs/summarise.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("summarise"),
        code=fingerprint("summarise.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas summarise --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --capability {input.capability:q} --effects {params.folder:q}"
        " --summary {output.summary:q}"
        " --comparisons {output.comparisons:q} --profiles {output.profiles:q} --hottest {output.hottest:q}"


rule compare_maps:
    """Agreement between methods per task, and overlap between tasks per method, of the maps (score split)."""
    input:
        importance=rules.aggregate.output.table,
    output:
        agreement=in_report("results/{model}/evidence/agreement.parquet", "agreement"),
        overlap=in_report("results/{model}/evidence/task-overlap.parquet", "task-overlap"),
    log:
        "results/{model}/logs/compare_maps.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("compare_maps"),
        code=fingerprint("compare_maps.py"),
    shell:
        "headatlas compare_maps --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --agreement {output.agreement:q} --overlap {output.overlap:q}"


rule surface_control:
    """How well words alone distinguish the tasks, on the questions of both splits."""
    input:
        prepared=expand(files.items, task=atlas.tasks, allow_missing=True),
    output:
        table=in_report("results/{model}/evidence/surface-control.parquet", "surface-control"),
    log:
        "results/{model}/logs/surface_control.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("surface_control"),
        code=fingerprint("surface_control.py"),
    shell:
        "headatlas surface_control --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --table {output.table:q}"


rule format_control:
    """Each task's map on items (score split) whose answers have the format of another task's."""
    input:
        prepared=expand(files.items, task=atlas.tasks, allow_missing=True),
        effects=lambda wildcards: files.all_effects(wildcards.model, atlas.matchable),
    output:
        table=in_report("results/{model}/evidence/format-control.parquet", "format-control"),
    log:
        "results/{model}/logs/format_control.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("format_control"),
        code=fingerprint("format_control.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas format_control --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --effects {params.folder:q} --table {output.table:q}"


rule choose_heads:
    """The sets of heads to knock out: top, bottom and random ones of every task's map; and top heads to keep."""
    input:
        effects=lambda wildcards: files.all_effects(wildcards.model, [wildcards.method]),
        traces=expand("results/{{model}}/trace/{task}.safetensors", task=atlas.tasks),
    output:
        sets="results/{model}/evidence/knock-out/{method}/sets.json",
    log:
        "results/{model}/logs/choose_heads/{method}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("choose_heads"),
        code=fingerprint("choose_heads.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas choose_heads --log {log:q} --settings {params.settings:q}"
        " --effects {params.folder:q} --traces {input.traces:q} --sets {output.sets:q}"


rule rank_at_random:
    """The sets of heads to keep by random rankings, for every task."""
    input:
        trace=f"results/{{model}}/trace/{atlas.tasks[0]}.safetensors",
    output:
        sets="results/{model}/evidence/knock-out/random/sets.json",
    log:
        "results/{model}/logs/rank_at_random.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("rank_at_random"),
        code=fingerprint("rank_at_random.py"),
    shell:
        "headatlas rank_at_random --log {log:q} --settings {params.settings:q}"
        " --trace {input.trace:q} --sets {output.sets:q}"


rule knock_out:
    """How well the model does each task on held-out questions without the chosen heads, or with only these, of one
    method's maps or of random rankings."""
    input:
        sets="results/{model}/evidence/knock-out/{ranking}/sets.json",
        prepared=expand(files.items, task=atlas.tasks, allow_missing=True),
        baseline=rules.pool_baseline.output.baseline,
        weights=weights,
    output:
        knock_outs=expand("results/{{model}}/evidence/knock-out/{{ranking}}/{task}.safetensors", task=atlas.tasks),
    log:
        "results/{model}/logs/knock_out/{ranking}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
        engine=atlas.config["compute"]["engine"],
    params:
        settings=settings("knock_out"),
        weights=weights_digests,
        code=fingerprint("knock_out.py"),
    shell:
        "headatlas knock_out --log {log:q} --settings {params.settings:q}"
        " --sets {input.sets:q} --items {input.prepared:q} --baseline {input.baseline:q}"
        " --knock-outs {output.knock_outs:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb} --engine {resources.engine}"


rule knock_out_summary:
    """Knock-out curves, areas, dissociation matrix and dominance of its diagonal, on held-out questions."""
    input:
        knock_outs=expand(
            "results/{{model}}/evidence/knock-out/{method}/{task}.safetensors",
            method=atlas.methods,
            task=atlas.tasks,
        ),
    output:
        curve=in_report("results/{model}/evidence/knock-out.parquet", "knock-out"),
        area=in_report("results/{model}/evidence/knock-out-area.parquet", "knock-out-area"),
        matrix=in_report("results/{model}/evidence/dissociation.parquet", "dissociation"),
        dominance=in_report("results/{model}/evidence/dominance.parquet", "dominance"),
    log:
        "results/{model}/logs/knock_out_summary.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("knock_out_summary"),
        code=fingerprint("knock_out_summary.py"),
    shell:
        "headatlas knock_out_summary --log {log:q} --settings {params.settings:q}"
        " --raw {input.knock_outs:q} --curve {output.curve:q} --area {output.area:q}"
        " --matrix {output.matrix:q} --dominance {output.dominance:q}"


rule sufficiency_summary:
    """Curves of the top heads kept alone, the areas below them (head-CPR, head-CMD), and paired tests between rankings, on
    held-out questions."""
    input:
        knock_outs=expand(
            "results/{{model}}/evidence/knock-out/{ranking}/{task}.safetensors",
            ranking=atlas.rankings,
            task=atlas.tasks,
        ),
    output:
        curve=in_report("results/{model}/evidence/sufficiency.parquet", "sufficiency"),
        areas=in_report("results/{model}/evidence/cpr.parquet", "cpr"),
        tests=in_report("results/{model}/evidence/ranking-tests.parquet", "ranking-tests"),
    log:
        "results/{model}/logs/sufficiency_summary.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("sufficiency_summary"),
        code=fingerprint("sufficiency_summary.py"),
    shell:
        "headatlas sufficiency_summary --log {log:q} --settings {params.settings:q}"
        " --raw {input.knock_outs:q} --curve {output.curve:q} --areas {output.areas:q} --tests {output.tests:q}"


rule choose_hottest:
    """The heads with the largest effects of every task's map by exact ablation (score split), to be patched."""
    input:
        effects=lambda wildcards: files.all_effects(wildcards.model, ["ablation"]),
    output:
        heads="results/{model}/evidence/same-answer/heads.json",
    log:
        "results/{model}/logs/choose_hottest.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("choose_hottest"),
        code=fingerprint("choose_hottest.py"),
        folder="results/{model}/effects",
    shell:
        "headatlas choose_hottest --log {log:q} --settings {params.settings:q}"
        " --effects {params.folder:q} --heads {output.heads:q}"


rule patch_answers:
    """Each of these heads patched, on held-out questions, from the counterfactual and from a question with the same answer."""
    input:
        heads=rules.choose_hottest.output.heads,
        prepared=expand(files.items, task=atlas.tasks, allow_missing=True),
        weights=weights,
    output:
        patches="results/{model}/evidence/same-answer/patches.safetensors",
    log:
        "results/{model}/logs/patch_answers.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
        engine=atlas.config["compute"]["engine"],
    params:
        settings=settings("patch_answers"),
        weights=weights_digests,
        code=fingerprint("patch_answers.py"),
    shell:
        "headatlas patch_answers --log {log:q} --settings {params.settings:q}"
        " --heads {input.heads:q} --items {input.prepared:q} --patches {output.patches:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb} --engine {resources.engine}"


rule answer_control:
    """Which of these heads carry the answer's token and which the question, on held-out questions."""
    input:
        patches=rules.patch_answers.output.patches,
    output:
        table=in_report("results/{model}/evidence/same-answer.parquet", "same-answer"),
    log:
        "results/{model}/logs/answer_control.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("answer_control"),
        code=fingerprint("answer_control.py"),
    shell:
        "headatlas answer_control --log {log:q} --settings {params.settings:q}"
        " --patches {input.patches:q} --table {output.table:q}"


rule ablate_groups:
    """Exact effect of ablating together the query heads that share a key-value head, per item (score split)."""
    input:
        prepared=files.items,
        trace=rules.trace_task.output.trace,
        baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("ablation") else [],
        weights=weights,
    output:
        effects="results/{model}/evidence/head-groups/{task}.safetensors",
    log:
        "results/{model}/logs/ablate_groups/{task}.log",
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
        engine=atlas.config["compute"]["engine"],
    params:
        settings=settings("ablate_groups"),
        weights=weights_digests,
        code=fingerprint("ablate_groups.py"),
        baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
    shell:
        "headatlas ablate_groups --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
        " --effects {output.effects:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb} --engine {resources.engine}"


rule head_groups:
    """Effects of these groups beside the sums of their members' effects (score split)."""
    input:
        groups=lambda wildcards: files.groups(wildcards.model),
        effects=lambda wildcards: files.all_effects(wildcards.model, ["ablation"]),
    output:
        table=in_report("results/{model}/evidence/head-groups.parquet", "head-groups"),
    log:
        "results/{model}/logs/head_groups.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("head_groups"),
        code=fingerprint("head_groups.py"),
        folder="results/{model}/effects/ablation",
    shell:
        "headatlas head_groups --log {log:q} --settings {params.settings:q}"
        " --groups {input.groups:q} --effects {params.folder:q} --table {output.table:q}"


rule compare_heads:
    """The maps of a model beside those of another run, head by head (score split)."""
    input:
        prepared=lambda wildcards: [
            files.items.format(model=wildcards.model, task=task) for task in compared[wildcards.model].items
        ],
        effects=lambda wildcards: files.all_effects(wildcards.model, list(compared[wildcards.model].effects)),
        others=lambda wildcards: list(compared[wildcards.model].items.values()),
        other_effects=lambda wildcards: compared[wildcards.model].inputs(),
    output:
        heads=in_report("results/{model}/evidence/head-changes.parquet", "head-changes"),
        maps=in_report("results/{model}/evidence/map-changes.parquet", "map-changes"),
    log:
        "results/{model}/logs/compare_heads.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("compare_heads"),
        code=fingerprint("compare_heads.py"),
        folder="results/{model}/effects",
        other=lambda wildcards: f"{compared[wildcards.model].folder}/effects",
    shell:
        "headatlas compare_heads --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --effects {params.folder:q}"
        " --other-items {input.others:q} --other-effects {params.other:q}"
        " --heads {output.heads:q} --maps {output.maps:q}"


rule generate_without_heads:
    """What the model writes to held-out questions without the top heads of one method's maps, and without random ones."""
    input:
        sets=rules.choose_heads.output.sets,
        prepared=lambda wildcards: [files.questions(wildcards.model, task) for task in atlas.tasks],
        baseline=rules.pool_baseline.output.baseline,
        tokenizer=tokenizer,
        weights=weights,
    output:
        answers="results/{model}/evidence/generated/{method}.json",
    log:
        "results/{model}/logs/generate_without_heads/{method}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
    params:
        settings=settings("generate_without_heads"),
        weights=weights_digests,
        code=fingerprint("generate_without_heads.py"),
    shell:
        "headatlas generate_without_heads --log {log:q} --settings {params.settings:q}"
        " --sets {input.sets:q} --items {input.prepared:q} --baseline {input.baseline:q} --answers {output.answers:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb}"


rule generated_accuracy:
    """How often these answers are right, with all heads, without the top ones and without random ones."""
    input:
        answers=expand(rules.generate_without_heads.output.answers, method=atlas.methods, allow_missing=True),
    output:
        table=in_report("results/{model}/evidence/generated.parquet", "generated"),
    log:
        "results/{model}/logs/generated_accuracy.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("generated_accuracy"),
        code=fingerprint("generated_accuracy.py"),
    shell:
        "headatlas generated_accuracy --log {log:q} --settings {params.settings:q}"
        " --answers {input.answers:q} --table {output.table:q}"


rule classify_heads:
    """Whether each head facilitates, interferes or is irrelevant, by gates pushed open and shut (score split)."""
    input:
        effects=lambda wildcards: files.all_effects(wildcards.model, ["gates"]),
    output:
        table=in_report("results/{model}/evidence/head-classes.parquet", "head-classes"),
    log:
        "results/{model}/logs/classify_heads.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("classify_heads"),
        code=fingerprint("classify_heads.py"),
    shell:
        "headatlas classify_heads --log {log:q} --settings {params.settings:q}"
        " --effects {input.effects:q} --table {output.table:q}"


rule write_findings:
    """The findings of one model, in sentences with their numbers."""
    input:
        unpack(lambda wildcards: targets.findings_tables(wildcards.model)),
        template=os.path.relpath(REPOSITORY / "workflow/report/findings.md.j2"),
        engines=lambda wildcards: files.engine_records(wildcards.model),
    output:
        findings="results/{model}/findings.md",
        page=in_report("results/{model}/findings.html", "findings", "Findings", {"findings": "{model}"}),
    log:
        "results/{model}/logs/write_findings.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("write_findings"),
        code=fingerprint("write_findings.py"),
        tables=lambda wildcards, input: " ".join(
            f"--{name} {shlex.join([files] if isinstance(files, str) else files)}"
            for name, files in input.items()
            if files
        ),
    shell:
        "headatlas write_findings --log {log:q} --settings {params.settings:q} {params.tables}"
        " --findings {output.findings:q} --page {output.page:q}"


exported = atlas.config["export"]


rule export_heads:
    """The heads of every task that other programs should know: the most important, significant or sufficient ones."""
    input:
        importance=rules.aggregate.output.table,
        baseline=rules.pool_baseline.output.baseline,
        sets=(
            f"results/{{model}}/evidence/knock-out/{exported['method']}/sets.json"
            if exported["heads"] == "keep"
            else []
        ),
        curve=rules.sufficiency_summary.output.curve if exported["heads"] == "keep" else [],
    output:
        lists=[
            in_report(f"results/{{model}}/heads/{task}.json", "head-lists", labels={"table": f"heads/{task}"})
            for task in atlas.tasks
        ],
        vectors=expand("results/{{model}}/heads/{task}.safetensors", task=atlas.tasks),
    log:
        "results/{model}/logs/export_heads.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: settings_of(
            atlas, "export_heads", dict(wildcards.items()), origin=origin(atlas, wildcards.model)
        ),
        code=fingerprint("export_heads.py"),
        sets=lambda wildcards, input: "--sets" if input.sets else "",
        curve=lambda wildcards, input: "--curve" if input.curve else "",
    shell:
        "headatlas export_heads --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --baseline {input.baseline:q}"
        " {params.sets} {input.sets:q} {params.curve} {input.curve:q}"
        " --lists {output.lists:q} --vectors {output.vectors:q}"


rule compare_models:
    """Sparsity, depth and dissociation of all models, and the similarity of every pair."""
    input:
        summaries=[f"results/{model}/summary.parquet" for model in atlas.models],
        dominances=[f"results/{model}/evidence/dominance.parquet" for model in atlas.models if atlas.validates],
        prepared=files.all_items(),
        effects=[effects for model in atlas.models for effects in files.all_effects(model)],
    output:
        table="results/comparison/models.parquet",
        csv=in_report("results/comparison/models.csv", "models"),
        paired="results/comparison/pairs.parquet",
        paired_csv=in_report("results/comparison/pairs.csv", "pairs"),
    log:
        "results/comparison/logs/compare_models.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("compare_models"),
        code=fingerprint("compare_models.py"),
        folders=[f"results/{model}/effects" for model in atlas.models],
        dominances=lambda wildcards, input: f"--dominances {input.dominances}" if input.dominances else "",
    shell:
        "headatlas compare_models --log {log:q} --settings {params.settings:q}"
        " --summaries {input.summaries:q} {params.dominances} --items {input.prepared:q} --effects {params.folders:q}"
        " --table {output.table:q} --csv {output.csv:q} --paired {output.paired:q} --paired-csv {output.paired_csv:q}"
