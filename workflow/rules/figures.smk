# From the table to figures.


localrules:
    draw_figure,
    render_figure,


rule draw_figure:
    """A figure as a Vega-Lite spec."""
    input:
        importance=rules.aggregate.output.table,
    output:
        spec="results/{model}/figures/{figure}.{method}.json",
    log:
        "results/{model}/logs/draw_figure/{figure}.{method}.log",
    wildcard_constraints:
        figure="heatmap-grid|signed-grid",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.figure_settings(wildcards.model, wildcards.figure, wildcards.method),
        code=fingerprint("draw_figure.py"),
    shell:
        "headatlas draw_figure --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --spec {output.spec:q}"


rule render_figure:
    """A spec as images and a page, in all the formats of the config."""
    input:
        spec="results/{model}/figures/{chart}.json",
    output:
        images=expand("results/{{model}}/figures/{{chart}}.{format}", format=atlas.formats),
    log:
        "results/{model}/logs/render_figure/{chart}.log",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=atlas.render_settings(),
        code=fingerprint("render_figure.py"),
    shell:
        "headatlas render_figure --log {log:q} --settings {params.settings:q}"
        " --spec {input.spec:q} --images {output.images:q}"
