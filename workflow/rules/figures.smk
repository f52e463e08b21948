# From the table to figures.


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
        "{PYTHON:q} {SCRIPTS:q}/draw_figure.py --log {log:q} --settings {params.settings:q}"
        " --importance {input.importance:q} --spec {output.spec:q}"


rule render_figure:
    """A spec as an image or a page."""
    input:
        spec="results/{model}/figures/{chart}.json",
    output:
        image="results/{model}/figures/{chart}.{format}",
    log:
        "results/{model}/logs/render_figure/{chart}.{format}.log",
    wildcard_constraints:
        format="png|svg|pdf|html",
    conda:
        "../envs/headatlas.yaml"
    params:
        settings=lambda wildcards: atlas.render_settings(wildcards.format),
        code=fingerprint("render_figure.py"),
    shell:
        "{PYTHON:q} {SCRIPTS:q}/render_figure.py --log {log:q} --settings {params.settings:q}"
        " --spec {input.spec:q} --image {output.image:q}"
