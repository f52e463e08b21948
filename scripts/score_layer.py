"""Compute the statistics of every head of one layer, for one model, method and task.

Reads effects (safetensors: effect [item, layer, head] in nats per answer token, question and correct [item]; rows may
be seeds instead of items);
writes one row per head (Parquet): effect, standard error, interval, p-value, number of items and questions, and a note
if there is no interval or the head stopped early; in a layer without attention (hybrid models) all values are null.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.files.scores import read_effects, read_null, write_scores
from headatlas.jobs.cli import run
from headatlas.stats.adaptive import adaptive_statistics
from headatlas.stats.head_statistics import head_statistics, no_statistics, seed_statistics
from headatlas.stats.rounds import Rounds


@dataclass(frozen=True)
class Settings:
    """items: all | correct; null: take p-values from the null that the effects file holds."""

    model: str
    method: str
    task: str
    layer: int
    items: str
    confidence: float
    null: bool


def main(settings: Settings, effects: Path, scores: Path) -> None:
    layer = settings.layer
    try:
        read = read_effects(effects, layer, settings.items)
    except HeadAtlasError as error:
        raise HeadAtlasError(f"model {settings.model}, task {settings.task}: {error}") from error
    if layer in read.without_attention:
        write_scores(scores, no_statistics(read.effect.shape[2]), vars(settings), layer)
        return
    if read.seeds:
        statistics = seed_statistics(read.effect[:, 0], **read.seeds)
        write_scores(scores, statistics, vars(settings), layer, seeds=len(read.effect))
        return
    if read.rounds is not None:
        heads = Rounds(read.rounds.item, read.rounds.head[0])
        statistics = adaptive_statistics(read.effect[:, 0], read.question, heads, confidence=settings.confidence)
        write_scores(scores, statistics, vars(settings), layer, len(set(read.question.tolist())))
        return
    statistics = head_statistics(
        read.effect[:, 0],
        read.question,
        confidence=settings.confidence,
        null=read_null(effects, settings.items) if settings.null else None,
    )
    write_scores(scores, statistics, vars(settings), layer)


if __name__ == "__main__":
    run(main)
