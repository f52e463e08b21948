# Everything that runs the model, and the baseline between its passes.


localrules:
    pool_baseline,


rule trace_task:
    """One clean pass over a task: log-probabilities, correctness, head outputs, gradient terms."""
    input:
        prepared=atlas.items,
        weights=weights,
    output:
        trace="results/{model}/trace/{task}.safetensors",
    log:
        "results/{model}/logs/trace_task/{task}.log",
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
    params:
        settings=lambda wildcards: atlas.trace_settings(wildcards.model),
        weights=lambda wildcards: atlas.large_digests(atlas.weights(wildcards.model)),
        code=fingerprint("trace_task.py"),
    shell:
        "headatlas trace_task --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --trace {output.trace:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens}"


rule pool_baseline:
    """What an ablated head outputs instead, from the score split of all tasks."""
    input:
        traces=expand("results/{{model}}/trace/{task}.safetensors", task=atlas.tasks),
    output:
        baseline="results/{model}/baseline.safetensors",
    log:
        "results/{model}/logs/pool_baseline.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=atlas.pool_settings(),
        code=fingerprint("pool_baseline.py"),
    shell:
        "headatlas pool_baseline --log {log:q} --settings {params.settings:q}"
        " --traces {input.traces:q} --baseline {output.baseline:q}"


rule ablate_layers:
    """Exact effect of ablating each head of a block of layers, per item."""
    input:
        prepared=atlas.items,
        trace=rules.trace_task.output.trace,
        baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("ablation") else [],
        weights=weights,
    output:
        effects="results/{model}/effects/ablation/{task}.layers-{first}-{last}.safetensors",
    log:
        "results/{model}/logs/ablate_layers/{task}.layers-{first}-{last}.log",
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
        engine=atlas.config["compute"]["engine"],
    params:
        settings=lambda wildcards: atlas.ablation_settings(
            wildcards.model, wildcards.task, int(wildcards.first), int(wildcards.last)
        ),
        weights=lambda wildcards: atlas.large_digests(atlas.weights(wildcards.model)),
        code=fingerprint("ablate_layers.py"),
        baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
    shell:
        "headatlas ablate_layers --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
        " --effects {output.effects:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --engine {resources.engine}"


if atlas.integrates:

    rule integrate_task:
        """Integrated gradients of every head, per item (attribution with several steps)."""
        input:
            prepared=atlas.items,
            trace=rules.trace_task.output.trace,
            baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("attribution") else [],
            weights=weights,
        output:
            effects="results/{model}/effects/attribution/{task}.safetensors",
        log:
            "results/{model}/logs/integrate_task/{task}.log",
        conda:
            "../envs/headatlas.yaml"
        threads: atlas.config["compute"]["threads"]
        resources:
            **RUNS_MODEL,
        params:
            settings=lambda wildcards: atlas.attribution_settings(wildcards.model, wildcards.task),
            weights=lambda wildcards: atlas.large_digests(atlas.weights(wildcards.model)),
            code=fingerprint("integrate_task.py"),
            baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
        shell:
            "headatlas integrate_task --log {log:q} --settings {params.settings:q}"
            " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
            " --effects {output.effects:q}"
            " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens}"

else:

    localrules:
        attribute_task,

    rule attribute_task:
        """First-order effect of every head, per item, from the gradient terms of the trace; no model needed."""
        input:
            prepared=atlas.items,
            trace=rules.trace_task.output.trace,
            baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("attribution") else [],
        output:
            effects="results/{model}/effects/attribution/{task}.safetensors",
        log:
            "results/{model}/logs/attribute_task/{task}.log",
        conda:
            "../envs/headatlas.yaml"
        params:
            settings=lambda wildcards: atlas.attribution_settings(wildcards.model, wildcards.task),
            code=fingerprint("attribute_task.py"),
            baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
        shell:
            "headatlas attribute_task --log {log:q} --settings {params.settings:q}"
            " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
            " --effects {output.effects:q}"


rule fit_probe:
    """One probe per seed over all tasks; each head's part in telling the task, on held-out questions."""
    input:
        traces=expand("results/{{model}}/trace/{task}.safetensors", task=atlas.tasks),
    output:
        effects=expand("results/{{model}}/effects/probe/{task}.safetensors", task=atlas.tasks),
        report="results/{model}/evidence/probe.json",
    log:
        "results/{model}/logs/fit_probe.log",
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **TRAINS_PROBE,
    params:
        settings=lambda wildcards: atlas.probe_settings(),
        code=fingerprint("fit_probe.py"),
    shell:
        "headatlas fit_probe --log {log:q} --settings {params.settings:q}"
        " --traces {input.traces:q} --effects {output.effects:q} --report {output.report:q}"
        " --device {resources.device} --threads {threads}"
