"""What a model can do of the English tasks: margin accuracy, exact match and answer length, per form and task.

    python tests/benchmarks/english_eval.py MODEL [--tasks FOLDER] [--only TASK[/FORM] ...] [--items N] [--json FILE]

Margin accuracy: the share of questions whose answer the model gives a higher probability than the foil (a question
asked by several items counts with its mean); between brackets the 95 % Wilson interval over questions. Below the
table: how well a bag of words tells the tasks apart. float32, one thread; needs torch and transformers.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from headatlas.evidence.bag_of_words import ALL_TASKS, surface_control
from headatlas.tasks.tokens import text_ids, tokeniser_of

ROOT = Path(__file__).resolve().parents[2]
BATCH_TOKENS = 2048


def main() -> None:
    arguments = read_arguments()
    items = read_tasks(arguments.tasks, arguments.only, arguments.items)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    scored = {}
    print(f"{'task':<24} {'form':<12} {'items':>5} {'margin accuracy':>20} {'exact':>6} {'tokens':>6}", flush=True)
    for task, rows in items.items():
        scored[task] = score(model, tokenizer, rows)
        for form in dict.fromkeys(row["form"] for row in rows):
            print_line(task, form, [row for row in scored[task] if row["form"] == form])
        print_line(task, "(all)", scored[task])
    if len(items) > 1:
        print_surface(items)
    if arguments.json:
        arguments.json.write_text(json.dumps(scored), encoding="utf-8")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model's folder")
    parser.add_argument("--tasks", type=Path, default=ROOT / "config/tasks/english")
    parser.add_argument("--only", nargs="*", default=[], metavar="TASK[/FORM]")
    parser.add_argument("--items", type=int, help="of each form, the first so many")
    parser.add_argument("--json", type=Path, help="write every item's numbers here")
    return parser.parse_args()


def read_tasks(folder: Path, only: list[str], most: int | None) -> dict[str, list[dict]]:
    """The items of each task; of each form the first `most`."""
    tasks = {}
    for path in sorted(folder.glob("*.jsonl")):
        forms = defaultdict(list)
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            if not only or path.stem in only or f"{path.stem}/{item['form']}" in only:
                forms[item["form"]].append(item)
        if forms:
            tasks[path.stem] = [item for of_form in forms.values() for item in of_form[:most]]
    return tasks


def score(model, tokenizer, items: list[dict]) -> list[dict]:
    """Each item with `margin` (nats, answer minus foil log-probability), `exact`, `log_prob` (a token), `tokens`."""
    tokeniser = tokeniser_of(tokenizer)
    texts = []  # an item's prompt, answer and foil where one pass serves both, else one text for each
    for item in items:
        prompt, answer = text_ids(tokeniser, item["prompt"], item["answer"])
        other, foil = text_ids(tokeniser, item["prompt"], item["foil"])
        one_pass = prompt == other and answer[:-1] == foil[:-1]
        texts += [(prompt, answer, foil), None] if one_pass else [(prompt, answer, answer), (other, foil, foil)]
    places = [i for i, text in enumerate(texts) if text]
    found = {}
    for batch in batches({i: len(texts[i][0]) + len(texts[i][1]) for i in places}):
        found |= zip(batch, answer_numbers(model, [texts[i] for i in batch]), strict=True)
    rows = []
    for place, item in enumerate(items):
        log_prob, foil, exact = found[2 * place]
        foil = found.get(2 * place + 1, (None, foil))[1]
        length = len(texts[2 * place][1])
        numbers = {"margin": log_prob - foil, "exact": exact, "log_prob": log_prob / length, "tokens": length}
        rows.append(item | numbers)
    return rows


def batches(lengths: dict[int, int]) -> list[list[int]]:
    """Keys of texts in batches of like length, at most `BATCH_TOKENS` tokens each."""
    found: list[list[int]] = [[]]
    for i in sorted(lengths, key=lengths.__getitem__):
        if found[-1] and lengths[i] * (len(found[-1]) + 1) > BATCH_TOKENS:
            found.append([])
        found[-1].append(i)
    return found


@torch.inference_mode()
def answer_numbers(model, texts: list[tuple[list[int], list[int], list[int]]]) -> list[tuple[float, float, bool]]:
    """Of prompt, answer and foil: summed log-probabilities of answer and foil, whether the answer is the likeliest.

    The foil may differ from the answer in its last token only.
    """
    longest = max(len(prompt) + len(answer) for prompt, answer, _ in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer, _) in enumerate(texts):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        mask[row, : len(prompt) + len(answer)] = 1
    hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state  # [text, position, hidden]
    numbers = []
    for row, (prompt, *ends) in enumerate(texts):
        logits = model.lm_head(hidden[row, len(prompt) - 1 : len(prompt) + len(ends[0]) - 1])
        log_probs = [logits.log_softmax(-1).gather(1, torch.tensor(end)[:, None]).sum().item() for end in ends]
        numbers.append((*log_probs, bool((logits.argmax(-1) == torch.tensor(ends[0])).all())))
    return numbers


def print_line(task: str, form: str, rows: list[dict]) -> None:
    questions = defaultdict(list)
    for row in rows:
        questions[row["question_id"]].append(row["margin"] > 0)
    share = np.mean([np.mean(right) for right in questions.values()])
    low, high = wilson(share, len(questions))
    exact, length = np.mean([row["exact"] for row in rows]), np.mean([row["tokens"] for row in rows])
    interval = f"{share:.2f} [{low:.2f}, {high:.2f}]"
    print(f"{task:<24} {form:<12} {len(rows):>5} {interval:>20} {exact:>6.2f} {length:>6.2f}", flush=True)


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share of n."""
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def print_surface(items: dict[str, list[dict]]) -> None:
    options = {"folds": 5, "resamples": 500, "confidence": 0.95, "seed": 0, "matched": False}
    for row in surface_control(items, **options):
        if row["task"] == ALL_TASKS:
            low, high = row["ci_low"], row["ci_high"]
            print(
                f"a bag of words tells the task from the {row['input']}: {row['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
            )


if __name__ == "__main__":
    main()
