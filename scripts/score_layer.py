"""Statistics of every head of one layer, for one model, method and task.

Reads effects (safetensors: effect [item, layer, head] in nats per answer token, question and correct [item]);
writes one row per head (Parquet): effect, standard error, interval, p-value, number of items and questions.
Settings: model, method, task, layer, seed, items (all | correct), resamples, confidence, permutations (number of
sign flips; null takes the null that the effects file holds). In a layer without attention (hybrid models) all is null.
"""

from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.job import run
from headatlas.scores import read_effects, read_null, write_scores
from headatlas.statistics import head_statistics, no_statistics


def main(settings: dict, effects: Path, scores: Path) -> None:
    layer = settings["layer"]
    try:
        read = read_effects(effects, layer, settings["items"])
    except HeadAtlasError as error:
        raise HeadAtlasError(f"model {settings['model']}, task {settings['task']}: {error}") from error
    if layer in read.without_attention:
        write_scores(scores, no_statistics(read.effect.shape[2]), settings, layer)
        return
    flips = settings["permutations"]
    statistics = head_statistics(
        read.effect[:, 0],
        read.question,
        resamples=settings["resamples"],
        permutations=flips,
        confidence=settings["confidence"],
        seed=(settings["seed"], layer),
        null=read_null(effects, settings["items"]) if flips is None else None,
    )
    write_scores(scores, statistics, settings, layer)


if __name__ == "__main__":
    run(main)
