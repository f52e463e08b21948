"""Statistics of every head of one layer, for one model, method and task.

Reads effects (safetensors: effect [item, layer, head] in nats per answer token, question and correct [item]);
writes one row per head (Parquet): effect, standard error, interval, p-value, number of items and questions.
Settings: model, method, task, layer, seed, items (all | correct), resamples, permutations, confidence.
"""

from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.job import run
from headatlas.scores import read_effects, write_scores
from headatlas.statistics import head_statistics


def main(settings: dict, effects: Path, scores: Path) -> None:
    layer = settings["layer"]
    try:
        read = read_effects(effects, layer, settings["items"])
    except HeadAtlasError as error:
        raise HeadAtlasError(f"model {settings['model']}, task {settings['task']}: {error}") from error
    statistics = head_statistics(
        read.effect[:, 0],
        read.question,
        resamples=settings["resamples"],
        permutations=settings["permutations"],
        confidence=settings["confidence"],
        seed=(settings["seed"], layer),
    )
    write_scores(scores, statistics, settings, layer)


if __name__ == "__main__":
    run(main)
