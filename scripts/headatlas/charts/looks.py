"""The config section `figures`, key by key.

Knows only the names of the keys. workflow/schemas/figures.schema.yaml has their meaning, limits and defaults.
"""

import difflib
from dataclasses import dataclass, fields, replace

from headatlas.errors import HeadAtlasError


@dataclass(frozen=True)
class Looks:
    """The keys of `figures` that a chart depends on."""

    columns: int
    order: list[str] | None
    labels: dict[str, str] | None
    titles: bool
    title: str | None
    legend_title: str
    signed_legend_title: str
    scheme: str
    signed_scheme: str
    signed_scale: str
    scale: str
    upper_limit: str | float | dict
    signed_limit: str | float | dict
    tick_step: str | int
    tick_labels: str
    cell_size: str | int
    font: str
    font_size: int
    title_size: int
    insignificant: str
    q_threshold: float

    @classmethod
    def read(cls, section: dict) -> "Looks":
        """Looks from the complete config section.

        Raises:
            HeadAtlasError: an unknown key, with the nearest known one; a missing key.
        """
        known = [option.name for option in fields(cls)]
        for key in section:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
                raise HeadAtlasError(f"figures: unknown key `{key}`; {hint}")
        missing = [key for key in known if key not in section]
        if missing:
            raise HeadAtlasError(
                f"figures: no key `{missing[0]}`; workflow/schemas/figures.schema.yaml has its default"
            )
        return cls(**section)

    def with_names(self, model: str, method: str) -> "Looks":
        """These looks with the names of model and method filled into `title`."""
        title = self.title and self.title.replace("{model}", model).replace("{method}", method)
        return replace(self, title=title)

    def in_order(self, tasks: list[str]) -> list[str]:
        """The tasks to draw: `order`, or all in the given order.

        Raises:
            HeadAtlasError: `order` names an unknown task.
        """
        if self.order is None:
            return tasks
        strange = [task for task in self.order if task not in tasks]
        if strange:
            raise HeadAtlasError(f"figures.order: no task `{strange[0]}` under `tasks`; there are: {', '.join(tasks)}")
        return self.order
