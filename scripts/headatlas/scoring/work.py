"""What each method's passes compute, counted from the items alone; no torch.

Padding is not counted, nor the unedited row that accompanies the rows of a pass of replay: together a few percent.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from headatlas.files.attention import rows_of
from headatlas.models.work import (
    Work,
    edited_rows,
    extremes,
    prompts_alone,
    scored_positions,
    sequence_length,
    total,
    whole_pass,
)

ABLATION_CHECKS = 6  # effects that a job of ablation recomputes on the shortest item, and on the longest
KNOCK_OUT_CHECKS = 3  # and knock-outs and patches
SEQUENCES = 20  # of random tokens repeated once, from which heads are described
LENGTH = 50  # tokens of one, before they are repeated
PUSHES = {"open": 1, "shut": -1}  # ways in which gates are pushed with `sign`
GATES_HELD_OUT = 192  # rows of held-out items that gates run for each seed: 6 times 8 items with 4 shares of the heads


def trace_work(items: Sequence[dict], n_layers: int, paired: bool) -> Work:
    """A pass over every item; with gradients, and over the other prompt if there is one, for the score split.

    Args:
        paired: whether the items have a counterfactual prompt.
    """
    passes = [
        whole_pass(item, n_layers, len(item["answer_ids"]))
        + (whole_pass(item, n_layers) * (1 + paired) if item["split"] == "score" else Work())
        for item in items
    ]
    return total(passes) + padding_work(items, n_layers)


def ablation_work(
    items: Sequence[dict], layers: range, n_layers: int, n_heads: int, positions: str, paired: bool
) -> Work:
    """Ablation of every head of `layers`, one at a time.

    Args:
        paired: whether the baseline is the head's output on another prompt.
    """
    rows, above = len(layers) * n_heads, n_heads * sum(n_layers - layer for layer in layers)
    edited = total(edited_rows(item, rows, above, positions) for item in items)
    return edited + _around(items, n_layers, paired, ABLATION_CHECKS)


def knock_out_work(
    items: Sequence[dict], entries: Sequence[float], n_layers: int, positions: str, paired: bool
) -> Work:
    """Knock-outs of several heads together.

    Args:
        entries: the lowest layer of each set, its expectation where the heads are not known; paired: as above.
    """
    above = round(sum(n_layers - entry for entry in entries))
    edited = total(edited_rows(item, len(entries), above, positions) for item in items)
    return edited + _around(items, n_layers, paired, KNOCK_OUT_CHECKS)


def gates_work(items: Sequence[dict], gates: dict, n_layers: int, paired: bool) -> Work:
    """Learning gates: a forward and a backward pass of every row of a step, and passes over held-out rows.

    With `sign` as much again for each of the two ways in which gates are pushed, without held-out rows.

    Args:
        gates: the config section.
    """
    rows = gate_fits(gates) * 2 * gates["steps"] * gates["batch_size"] + gates["seeds"] * GATES_HELD_OUT
    each = -(-rows // len(items))
    edited = total(edited_rows(item, each, each * n_layers, gates["positions"]) for item in items)
    return edited + _around(items, n_layers, paired, KNOCK_OUT_CHECKS)


def gate_fits(gates: dict) -> int:
    """Number of fits: with `sign` each seed also learns gates that are pushed in each of the `PUSHES`.

    Args:
        gates: the config section.
    """
    return gates["seeds"] * (1 + len(PUSHES) * gates["sign"])


def generation_work(items: Sequence[dict], sets: int, n_layers: int, positions: str) -> Work:
    """Writing answers as long as there is room for, under so many sets of knocked-out heads, the empty one included.

    Args:
        items: prompts, with as many `answer_ids` as there is room for; positions: `answer` lets all sets share the pass
            over the prompt.
    """
    parts = []
    for item in items:
        before, room = len(item["prompt_ids"]) - 1, len(item["answer_ids"])
        copies = sets if positions == "all" else 1
        parts.append(Work(whole=copies * before * n_layers, logits=copies, context=copies * before**2 * n_layers))
        fed = sets * room * n_layers
        parts.append(Work(edited=fed, logits=sets * room, context=fed * sequence_length(item)))
    prompts = prompts_alone(items)
    rechecked = [items[row] for row in dict.fromkeys(extremes(prompts))] * min(sets, 2)
    checks = total(whole_pass(item, n_layers, len(item["answer_ids"])) for item in rechecked)
    return total(parts) + padding_work(prompts, n_layers) + checks


def group_entries(n_layers: int, n_groups: int) -> list[int]:
    """The lowest layer of each set that the ablation of groups knocks out: every group by itself, and none."""
    return [n_layers - 1, *(layer for layer in range(n_layers) for _ in range(n_groups))]


def effects_add_up(attribution: dict) -> bool:
    """Whether the effects of an item's heads add up to a known sum: those of plain gradients along the line do.

    Args:
        attribution: the config section.
    """
    return (attribution["path"], attribution["rule"]) == ("line", "plain")


def integration_work(items: Sequence[dict], steps: int, n_layers: int, paired: bool, adds_up: bool) -> Work:
    """Integrated gradients: a pass with gradients for each step; two without for the sum, each after a baseline.

    Args:
        adds_up: whether there is that sum.
    """
    passes = [
        whole_pass(item, n_layers, len(item["answer_ids"])) * (steps + 2 * adds_up)
        + whole_pass(item, n_layers) * (steps + paired * (1 + adds_up))
        for item in items
    ]
    return total(passes) + padding_work(items, n_layers) * (1 + adds_up)


def roles_work(tasks: Iterable[Sequence[dict]], n_layers: int, d_head: int) -> Work:
    """Describing heads: a pass over every item of the tasks and over every random sequence.

    A pass with answer logits, computed twice, since a reading of the stream needs their gradient; patterns take the
    attention of each layer once more for every `d_head` keys. Each task tests whether padding matters.
    """
    sequence = {"prompt_ids": [0] * (2 * LENGTH), "answer_ids": [0]}
    read = [*chain(*tasks), *[sequence] * SEQUENCES]
    passes = (_reading(item, n_layers, d_head, 3 * scored_positions(item)) for item in read)
    return total(padding_work(items, n_layers) for items in tasks) + total(passes)


def attention_work(items: Sequence[dict], n_layers: int, d_head: int) -> Work:
    """Reading the patterns of the items that are short enough, as in `roles_work`; and whether padding matters."""
    read = [item for item in items if rows_of(item)]
    padding = padding_work(read, n_layers) if read else Work()
    return padding + total(_reading(item, n_layers, d_head, 1) for item in read)


def _reading(item: dict, n_layers: int, d_head: int, logits: int) -> Work:
    """One pass over an item whose patterns are read: attention once more for every `d_head` keys."""
    own = whole_pass(item, n_layers, logits)
    return own + Work(context=own.context * -(-sequence_length(item) // d_head))


def padding_work(items: Sequence[dict], n_layers: int) -> Work:
    """The test whether padding matters: the shortest item by itself, and padded to the longest."""
    shortest, longest = extremes(items)
    length = sequence_length(items[longest])
    if sequence_length(items[shortest]) == length:
        return Work()
    width = len(items[shortest]["answer_ids"])
    return total(whole_pass(items[shortest], n_layers, width, padded) for padded in (None, length))


def expected_entry(heads: int, n_layers: int) -> float:
    """The expected lowest layer of so many heads in layers drawn at random; the last layer for none."""
    if not heads:
        return n_layers - 1
    return sum((1 - layer / n_layers) ** heads for layer in range(1, n_layers))


def _around(items: Sequence[dict], n_layers: int, paired: bool, checks: int) -> Work:
    """What surrounds edited rows: clean passes, the baseline's, and the check by plain passes on two items."""
    clean = total(whole_pass(item, n_layers) for item in items) * (1 + paired)
    return clean + padding_work(items, n_layers) + _check(items, n_layers, paired, checks)


def _check(items: Sequence[dict], n_layers: int, paired: bool, checks: int) -> Work:
    checked: Iterable[int] = dict.fromkeys(extremes(items))
    return total(
        whole_pass(items[row], n_layers, len(items[row]["answer_ids"])) * (1 + checks)
        + whole_pass(items[row], n_layers) * paired
        for row in checked
    )
