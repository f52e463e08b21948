"""A Markdown text as one HTML page, for a browser or Snakemake's report, without network access."""

import html

from markdown_it import MarkdownIt

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 "Liberation Sans", Arial, sans-serif; color: #222; max-width: 62em; margin: 2em auto; \
padding: 0 1em; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ border-bottom: 1px solid #ddd; padding: 0.25em 0.7em; text-align: left; }}
li {{ margin: 0.3em 0; }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def page(markdown: str, title: str) -> str:
    """The page; HTML in the text is shown as it is written, not interpreted."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return PAGE.format(title=html.escape(title), body=body)
