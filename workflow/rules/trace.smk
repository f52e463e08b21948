# Everything that runs the model, and the baseline between passes.


localrules:
    pool_baseline,


rule trace_task:
    """One clean pass over a task: log-probabilities, correctness, head outputs, gradient terms."""
    input:
        prepared=files.items,
        weights=weights,
    output:
        trace="results/{model}/trace/{task}.safetensors",
    log:
        "results/{model}/logs/trace_task/{task}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_BACKWARD,
    params:
        settings=settings("trace_task"),
        weights=weights_digests,
        code=fingerprint("trace_task.py"),
    shell:
        "headatlas trace_task --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --trace {output.trace:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb}"


rule pool_baseline:
    """The outputs that replace those of an ablated head, from the score split of all tasks."""
    input:
        traces=expand("results/{{model}}/trace/{task}.safetensors", task=atlas.tasks),
    output:
        baseline="results/{model}/baseline.safetensors",
    log:
        "results/{model}/logs/pool_baseline.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("pool_baseline"),
        code=fingerprint("pool_baseline.py"),
    shell:
        "headatlas pool_baseline --log {log:q} --settings {params.settings:q}"
        " --traces {input.traces:q} --baseline {output.baseline:q}"


rule ablate_layers:
    """Exact effect of ablating each head of a block of layers, per item."""
    input:
        prepared=files.items,
        trace=rules.trace_task.output.trace,
        baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("ablation") else [],
        weights=weights,
    output:
        effects="results/{model}/effects/ablation/{task}.layers-{first}-{last}.safetensors",
    log:
        "results/{model}/logs/ablate_layers/{task}.layers-{first}-{last}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_MODEL,
        engine=atlas.config["compute"]["engine"],
    params:
        settings=settings("ablate_layers"),
        weights=weights_digests,
        code=fingerprint("ablate_layers.py"),
        baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
    shell:
        "headatlas ablate_layers --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
        " --effects {output.effects:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb} --engine {resources.engine}"


if atlas.integrates:

    rule integrate_task:
        """Attribution of every head, per item, by gradients that the trace does not have."""
        input:
            prepared=files.items,
            trace=rules.trace_task.output.trace,
            baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("attribution") else [],
            weights=weights,
        output:
            effects="results/{model}/effects/attribution/{task}.safetensors",
        log:
            "results/{model}/logs/integrate_task/{task}.log",
        priority: first_models_first
        conda:
            "../envs/headatlas.yaml"
        threads: atlas.config["compute"]["threads"]
        resources:
            **RUNS_BACKWARD,
        params:
            settings=settings("integrate_task"),
            weights=weights_digests,
            code=fingerprint("integrate_task.py"),
            baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
        shell:
            "headatlas integrate_task --log {log:q} --settings {params.settings:q}"
            " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
            " --effects {output.effects:q}"
            " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb}"

else:

    localrules:
        attribute_task,

    rule attribute_task:
        """First-order effect of every head, per item, from the gradient terms of the trace; no model needed."""
        input:
            prepared=files.items,
            trace=rules.trace_task.output.trace,
            baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("attribution") else [],
        output:
            effects="results/{model}/effects/attribution/{task}.safetensors",
        log:
            "results/{model}/logs/attribute_task/{task}.log",
        priority: first_models_first
        conda:
            "../envs/headatlas.yaml"
        params:
            settings=settings("attribute_task"),
            code=fingerprint("attribute_task.py"),
            baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
        shell:
            "headatlas attribute_task --log {log:q} --settings {params.settings:q}"
            " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
            " --effects {output.effects:q}"


rule fit_gates:
    """Gates on all heads, learned together, several times: one score a head and seed."""
    input:
        prepared=files.items,
        trace=rules.trace_task.output.trace,
        baseline=rules.pool_baseline.output.baseline if atlas.needs_pool("gates") else [],
        weights=weights,
    output:
        effects="results/{model}/effects/gates/{task}.safetensors",
    log:
        "results/{model}/logs/fit_gates/{task}.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **RUNS_BACKWARD,
        engine=atlas.config["compute"]["engine"],
    params:
        settings=settings("fit_gates"),
        weights=weights_digests,
        code=fingerprint("fit_gates.py"),
        baseline=lambda wildcards, input: "--baseline" if input.baseline else "",
    shell:
        "headatlas fit_gates --log {log:q} --settings {params.settings:q}"
        " --items {input.prepared:q} --trace {input.trace:q} {params.baseline} {input.baseline:q}"
        " --effects {output.effects:q}"
        " --device {resources.device} --threads {threads} --batch-tokens {resources.batch_tokens} --memory-mb {resources.mem_mb} --engine {resources.engine}"


rule fit_probe:
    """One probe per seed over all tasks, and each head's effect on it on held-out questions."""
    input:
        traces=expand("results/{{model}}/trace/{task}.safetensors", task=atlas.tasks),
    output:
        effects=expand("results/{{model}}/effects/probe/{task}.safetensors", task=atlas.tasks),
        report="results/{model}/evidence/probe.json",
    log:
        "results/{model}/logs/fit_probe.log",
    priority: first_models_first
    conda:
        "../envs/headatlas.yaml"
    threads: atlas.config["compute"]["threads"]
    resources:
        **TRAINS_PROBE,
    params:
        settings=settings("fit_probe"),
        code=fingerprint("fit_probe.py"),
    shell:
        "headatlas fit_probe --log {log:q} --settings {params.settings:q}"
        " --traces {input.traces:q} --effects {output.effects:q} --report {output.report:q}"
        " --device {resources.device} --threads {threads}"
