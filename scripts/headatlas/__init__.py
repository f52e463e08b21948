"""Head Atlas: which attention heads of a causal language model matter for which cognitive task.

    import headatlas

    atlas = headatlas.open("workflow/resources/demo-model")
    table = atlas.effects("config/tasks/retrieval.jsonl")

The names below come from `headatlas.library`, which is imported when one of them is first used: `import headatlas` by
itself loads nothing else.
"""

import importlib

__version__ = "0.2.0"
__all__ = ["HeadAtlas", "HeadAtlasError", "__version__", "open", "read_heads"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'headatlas' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module("headatlas.library.head_atlas"), name)


def __dir__() -> list[str]:
    return __all__
