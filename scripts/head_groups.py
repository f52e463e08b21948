"""Compare the effect of each group of heads that share a key-value head with the sum of its members' effects.

Reads the effects of groups and of single heads (safetensors); writes a table (Parquet, see
`headatlas.evidence.head_groups`): effects in nats.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.head_groups import GroupEffects, head_groups
from headatlas.evidence.importance import write_table
from headatlas.files.scores import read_effects, read_task
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """tasks in the order of the groups' files; effects: names of a task's files of single heads, with placeholder
    {task}; items: all | correct."""

    tasks: list[str]
    effects: list[str]
    items: str
    confidence: float


def main(settings: Settings, groups: list[Path], effects: Path, table: Path) -> None:
    tasks = {}
    for task, path in zip(settings.tasks, groups, strict=True):
        whole = read_effects(path, items=settings.items)
        single = read_task(effects, settings.effects, task, settings.items)
        tasks[task] = GroupEffects(whole.effect, single.effect, whole.question)
    write_table(head_groups(tasks, settings.confidence), table)


if __name__ == "__main__":
    run(main)
