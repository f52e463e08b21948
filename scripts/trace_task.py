"""One clean pass (and one backward pass) of the model over the items of one task.

Reads items (JSON); writes the trace (safetensors, see `headatlas.scoring.trace`): log-probabilities in nats per answer
token, correctness, head outputs, gradient terms.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.jobs.cli import run
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.trace import trace_task
from headatlas.tasks.items import read_items


@dataclass(frozen=True)
class Settings:
    """model: path, revision, dtype, attn_implementation, trust_remote_code."""

    model: dict


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    return hold_model(settings.model, device, memory_mb)


def main(
    settings: Settings, items: Path, trace: Path, device: str, threads: int, batch_tokens: int, memory_mb: int
) -> None:
    chosen = read_items(items)["items"]
    model = model_of_job(settings.model, chosen, device, threads, memory_mb, backward=True)
    trace_task(model, chosen, trace, batch_tokens)


if __name__ == "__main__":
    run(main)
