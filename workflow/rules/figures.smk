# From the table to figures.


localrules:
    draw_figure,
    draw_evidence,
    draw_comparison,
    render_figure,
    write_library,
    render_comparison,


rule draw_figure:
    """A figure as a Vega-Lite spec."""
    input:
        importance=rules.aggregate.output.table,
        capability="results/{model}/evidence/capability.parquet",
        engines=lambda wildcards: (
            [f"results/{wildcards.model}/engines/ablate_layers.json"] if wildcards.method == "ablation" else []
        ),
    output:
        spec="results/{model}/figures/{figure}.{method}.json",
    log:
        "results/{model}/logs/draw_figure/{figure}.{method}.log",
    wildcard_constraints:
        figure="|".join(MAPS),
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("draw_figure"),
        code=fingerprint("draw_figure.py"),
        engines=lambda wildcards, input: "--engines" if input.engines else "",
    shell:
        "headatlas draw_figure --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --capability {input.capability:q} {params.engines} {input.engines:q}"
        " --spec {output.spec:q}"


rule draw_evidence:
    """A figure of the evidence as a Vega-Lite spec."""
    input:
        tables=lambda wildcards: expand(targets.chart_tables(wildcards.chart), model=wildcards.model),
    output:
        spec="results/{model}/figures/{chart}.json",
    log:
        "results/{model}/logs/draw_evidence/{chart}.log",
    wildcard_constraints:
        chart="|".join(map(re.escape, targets.all_charts())) or "none",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("draw_evidence"),
        code=fingerprint("draw_evidence.py"),
    shell:
        "headatlas draw_evidence --log {log:q} --settings {params.settings:q}"
        " --tables {input.tables:q} --spec {output.spec:q}"


use rule draw_evidence as draw_comparison with:
    input:
        tables=targets.comparison_tables(),
    output:
        spec="results/comparison/figures/{chart}.json",
    log:
        "results/comparison/logs/draw_evidence/{chart}.log",
    wildcard_constraints:
        chart=r"comparison\.\w+",
    params:
        settings=settings("draw_comparison"),
        code=fingerprint("draw_evidence.py"),


rule write_library:
    """The JavaScript for HTML pages."""
    output:
        library="results/vega.js",
    log:
        "results/logs/write_library.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        code=fingerprint("write_library.py"),
    shell:
        "headatlas write_library --log {log:q} --library {output.library:q}"


rule render_figure:
    """A spec as images and a page, in all the formats of the config."""
    input:
        library=rules.write_library.output.library,
        spec="results/{model}/figures/{chart}.json",
    output:
        images=drawn_images("results/{model}/figures"),
    log:
        "results/{model}/logs/render_figure/{chart}.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=settings("render_figure"),
        code=fingerprint("render_figure.py"),
    shell:
        "headatlas render_figure --log {log:q} --settings {params.settings:q}"
        " --spec {input.spec:q} --library {input.library:q} --images {output.images:q}"


use rule render_figure as render_comparison with:
    input:
        library=rules.write_library.output.library,
        spec="results/comparison/figures/{chart}.json",
    output:
        images=drawn_images("results/comparison/figures"),
    log:
        "results/comparison/logs/render_figure/{chart}.log",
