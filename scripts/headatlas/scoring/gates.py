"""Gates on all heads, learned together: one score a head, whose order says which heads to keep at every number k.

Matryoshka attribution (Arora et al. 2026, arXiv 2609.25518) on head outputs. A step draws k for each item, turns the
scores into gates that sum to k, mixes every head with its baseline by its gate, and lowers what the answers' score
loses. No pass belongs to a single head, and heads that back each other up are judged together.

Seeds come in pairs. The two seeds of a pair learn from different halves of the questions, each pair from halves of its
own, so the agreement of a pair shows what other questions would change, and each seed has questions to be tested on.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import log
from headatlas.models.batches import Batch, Budget, batches, collate, sequence_length
from headatlas.models.engine import Report, run_checked
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads, gated_scores
from headatlas.models.memory import MB
from headatlas.models.replacement import Baseline, baseline_of
from headatlas.models.replay import ROW_POSITIONS, Replay, replay_length
from headatlas.scoring.work import PUSHES, gate_fits

TEMPERATURE = 0.5  # of the gates, as in the authors' code
PRESSURE = 0.1  # nats for a change of all log-odds by 1, of gates that are pushed; as in the authors' code
MOST = 4.0  # log-odds beyond which nothing pushes, as there
BISECTIONS = 60  # halvings of the interval that holds the threshold of the gates; float64 needs no more
CHECKS = 5  # times the loss on held-out questions is computed during training
CHECKED_ITEMS = 8  # items of those questions, at most
CHECKED_SHARES = (0.125, 0.375, 0.625, 0.875)  # of the heads kept; their mean stands for all numbers of heads
MEMORY_OF_CACHE = 0.5  # share of a CPU job's memory for passes that keys and values of all items may take


@dataclass(frozen=True)
class Fit:
    """Learned scores and how they were learned.

    `score` [seed, layer, head] float32: log-odds of the head's gate above those of the median head, at any k; NaN in
    layers without attention. `learned_from` [seed, item] bool. `steps` [check] and `losses` [check, seed]: mean loss on
    held-out items, nats of the answer's score, after so many steps. `clean`, `shut`: mean score of all items with every
    gate open, and with every gate shut. `pushed`: of gates pushed `open` and `shut`, their probability of being open,
    [seed, layer, head]; none without `sign`.
    """

    score: np.ndarray
    learned_from: np.ndarray
    steps: list[int]
    losses: np.ndarray
    clean: float
    shut: float
    pushed: dict[str, np.ndarray]


def fit_gates(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray | Baseline,
    settings: dict,
    seed: int,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    engine: str = "auto",
) -> tuple[Fit, Report]:
    """Learn the scores of all heads on a task's items, once for each seed.

    With edits at answer positions `replay` runs only these, on the prompts' recorded keys and values; everything else
    takes full passes. Plain passes check the drops of some sets of heads on the shortest and the longest item.

    Args:
        items: tokenised items; baseline: what a shut head outputs; a table is [1 or item, layer, head, d_head].
        settings: `positions`, `seeds` (even), `steps`, `batch_size`, `learning_rate`, `sign` as in the config.
        seed: determines halves, order of items and every k.
        batch_tokens: the most positions of one pass, over all rows.
        advance: called with the number of steps (of all seeds) done; less than 0 where they are done anew.
        engine: `replay`, `hooked`, or `auto` (`replay` if it holds).

    Raises:
        HeadAtlasError: all items are of one question; `replay` is asked for but does not hold; too little memory.
    """
    baseline, positions = baseline_of(baseline), settings["positions"]
    groups = question_groups([item["question_id"] for item in items], settings["batch_size"], seed)
    budget = _measured_budget(model, items, baseline, positions, batch_tokens)
    replays = positions == "answer" and engine != "hooked"

    def compute(engine: str, padded: bool, computed: Callable[[int], None]) -> "_Training":
        make = _recorded if engine == "replay" and replays else _whole
        passes = make(model, items, groups, baseline, positions, budget.tokens, padded)
        training = _Training(model, passes, settings, seed, computed)
        training.run()
        for push in PUSHES if settings["sign"] else ():
            training.pushed[push] = _Pushed(model, passes, settings, seed, computed, push)
            training.pushed[push].run()
        return training

    def cells(training: "_Training", item: int) -> tuple[list[Heads], np.ndarray]:
        return training.some_drops(item)

    # An edit at all positions has to rerun everything above the first layer, so full passes are no slower way.
    wanted = engine if positions == "answer" else "hooked"
    entries = [0] * (settings["steps"] * gate_fits(settings) * settings["batch_size"] // len(items) or 1)
    training, report = run_checked(model, items, baseline, positions, wanted, compute, cells, entries, advance)
    return training.result(), report


def soft_top_k(scores: Tensor, k: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Gates sigmoid((score - threshold) / temperature), whose threshold makes them sum to k.

    The same gates for scores that are shifted together; the gates of a larger k are all larger. Differentiable in the
    scores: the threshold follows them (implicit differentiation of the sum).

    Args:
        scores: [..., head]; k: [...], above 0 and below the number of heads.

    Returns:
        [..., head], 0 to 1.
    """
    with torch.no_grad():
        exact, wanted = scores.detach().double(), k.double()[..., None]
        reach = temperature * (math.log(scores.shape[-1]) + 1)  # there all gates together are below 1, or above n - 1
        low = exact.amin(-1, keepdim=True) - reach
        high = exact.amax(-1, keepdim=True) + reach
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = ((exact - middle) / temperature).sigmoid().sum(-1, keepdim=True) > wanted
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        threshold = ((low + high) / 2).to(scores)
        gates = ((scores - threshold) / temperature).sigmoid()
        slope = gates * (1 - gates)
        weight = slope / slope.sum(-1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
    moving = (weight * (scores - scores.detach())).sum(-1, keepdim=True)  # 0, with the threshold's gradient
    return ((scores - threshold - moving) / temperature).sigmoid()


def question_groups(questions: list[str], size: int, seed: int) -> list[list[int]]:
    """Items in groups of whole questions, each of at least `size` items except the last: indices of items.

    Groups are smaller if there would be only one.

    Raises:
        HeadAtlasError: all items are of one question.
    """
    order = sorted(set(questions), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    rows = {name: [row for row, own in enumerate(questions) if own == name] for name in order}
    if len(order) < 2:
        raise HeadAtlasError("gates need at least two questions, to test on one what they learn from another")
    for least in (min(size, len(questions) // 2), 1):
        groups: list[list[int]] = [[]]
        for name in order:
            if len(groups[-1]) >= least:
                groups.append([])
            groups[-1] += rows[name]
        if len(groups) > 1:
            return groups
    raise AssertionError("a group of each question is more than one group")


def halves(groups: int, seeds: int, seed: int) -> np.ndarray:
    """[group, seed] bool: the groups from which each seed learns; every two seeds share out all groups at random."""
    rng = np.random.default_rng([seed, 1])
    learned = np.zeros((groups, seeds), bool)
    for first in range(0, seeds, 2):
        order = rng.permutation(groups)
        learned[order[: groups // 2], first] = True
        learned[order[groups // 2 :], first + 1] = True
    return learned


# --- passes --------------------------------------------------------------------------------------------------------


class _Recorded:
    """Some items whose prompts were run once: a row of gates costs the answer positions."""

    def __init__(self, model: HeadModel, batch: Batch, baseline: Baseline, tokens: int):
        self.rows = batch.rows.tolist()
        self._replay = Replay(model, batch, "answer", range(1))
        self._replacement = baseline.on(model, batch, "answer", range(model.n_layers))
        width = self._replay.layout.width
        self.most = max(1, min(tokens // (len(batch) * width), ROW_POSITIONS // width))

    @property
    def bytes(self) -> int:
        """Bytes of the recorded keys and values."""
        return sum(values.nbytes for pair in self._replay.cache.clean.values() for values in pair)

    def scores(self, gates: Tensor) -> Tensor:
        """[item, row] of gates [item, row, layer, head]."""
        return self._replay.gated_scores(gates, self._replacement)


class _Whole:
    """Some items that every row of gates runs through the whole model."""

    def __init__(self, model: HeadModel, batch: Batch, baseline: Baseline, positions: str, tokens: int):
        self.rows = batch.rows.tolist()
        self._model, self._batch, self._baseline, self._positions = model, batch, baseline, positions
        self.most = max(1, tokens // batch.input_ids.numel())

    def scores(self, gates: Tensor) -> Tensor:
        """[item, row] of gates [item, row, layer, head]."""
        replacement = self._baseline.on(self._model, self._batch, self._positions, range(self._model.n_layers))
        return gated_scores(self._model, self._batch, gates, replacement, self._positions)


def _whole(model, items, groups, baseline, positions, tokens, padded) -> list[list[_Whole]]:
    return [
        [
            _Whole(model, batch.to(model.device), baseline, positions, tokens)
            for batch in batches(items, tokens, group, padded)
        ]
        for group in groups
    ]


def _recorded(model, items, groups, baseline, _positions, tokens, padded) -> list[list[_Recorded]]:
    passes, taken, room = [], 0, math.inf if model.room is None else MEMORY_OF_CACHE * model.room
    for group in groups:
        passes.append([])
        for batch in batches(items, tokens, group, padded):
            rows = batch.rows.tolist()
            length = replay_length(model, max(sequence_length(items[row]) for row in rows))
            part = _Recorded(model, collate(items, rows, length).to(model.device), baseline, tokens)
            passes[-1].append(part)
            taken += part.bytes
            if taken > room:
                raise HeadAtlasError(
                    f"the keys and values of the items for gates take more than {room / MB:.0f} MB; give the job more "
                    "memory (compute.memory, or mem_mb on a cluster) or fewer items (items.max_items)"
                )
    return passes


def _measured_budget(model, items, baseline, positions, batch_tokens) -> Budget:
    """Positions of one pass: measured on one mixed pass of the longest item and its gradient."""
    budget = Budget(batch_tokens, model.devices, model.room)
    longest = max(range(len(items)), key=lambda row: sequence_length(items[row]))
    batch = collate(items, [longest]).to(model.device)
    with budget.measured(batch.input_ids.numel()):
        gates = torch.full((1, 1, model.n_layers, model.n_heads), 0.5, device=model.device, requires_grad=True)
        with torch.enable_grad():
            _Whole(model, batch, baseline, positions, budget.tokens).scores(gates).sum().backward()
    return budget


# --- training ------------------------------------------------------------------------------------------------------


class _Training:
    """All seeds of a task; `run` learns, `result` says what.

    Args:
        passes: those of each group; computed: called with the number of steps (of all seeds) done.
    """

    def __init__(self, model: HeadModel, passes: list[list], settings: dict, seed: int, computed: Callable):
        self.model, self.passes, self.computed = model, passes, computed
        self.steps, self.seeds = settings["steps"], settings["seeds"]
        self.n_heads = len(model.attention_layers) * model.n_heads
        self.sizes = [sum(len(part.rows) for part in group) for group in passes]
        self.learned = halves(len(passes), self.seeds, seed)
        self.values = [torch.zeros(self.n_heads, device=model.device, requires_grad=True) for _ in range(self.seeds)]
        self.optimiser = torch.optim.Adam(self.values, lr=settings["learning_rate"])
        self.draws = [np.random.default_rng([seed, 2, index]) for index in range(self.seeds)]
        self.order = np.random.default_rng([seed, 3])
        self.checks: list[tuple[int, list[float]]] = []
        self.ends = self._ends()
        self.pushed: dict[str, _Pushed] = {}

    def run(self) -> None:
        """Go through the groups in random orders until each seed has made its steps."""
        done = np.zeros(self.seeds, int)
        self._check(0)
        while done.min() < self.steps:
            for group in self.order.permutation(len(self.passes)):
                chosen = np.flatnonzero(self.learned[group] & (done < self.steps))
                if len(chosen):
                    self._step(group, chosen)
                    done[chosen] += 1
                if done.min() >= -(-self.steps * len(self.checks) // CHECKS):
                    self._check(int(done.min()))
                if done.min() >= self.steps:
                    break

    def _step(self, group: int, seeds: np.ndarray) -> None:
        """One step of some seeds, each with its own draws for every item."""
        size = self.sizes[group]
        drawn = self._draw(size, seeds)
        self.optimiser.zero_grad()
        with torch.enable_grad():
            for part, rows in self._parts(group):
                for some in _chunks(len(seeds), part.most):
                    gates = self._gates([self.values[s] for s in seeds[some]], drawn[rows][:, some])
                    (-part.scores(gates).sum() / size).backward()
            self._push(seeds)
        self.optimiser.step()
        self.computed(len(seeds))

    def _draw(self, size: int, seeds: np.ndarray) -> np.ndarray:
        """k [item, seed], spread evenly over all numbers of heads."""
        spread = np.stack([(self.draws[s].permutation(size) + self.draws[s].random(size)) / size for s in seeds], 1)
        return 1 + np.floor(spread * (self.n_heads - 1))  # 1 to n - 1, each equally likely

    def _push(self, seeds: np.ndarray) -> None:
        """Add the gradients of what does not depend on the items: nothing."""

    def _check(self, done: int) -> None:
        """The mean loss of each seed on items that it does not learn from."""
        k = np.array(CHECKED_SHARES) * self.n_heads
        lost, seen = np.zeros(self.seeds), np.zeros(self.seeds, int)
        for group in range(len(self.passes)):
            seeds = np.flatnonzero(~self.learned[group] & (seen < CHECKED_ITEMS))
            if not len(seeds):
                continue
            values = [self.values[s] for s in seeds for _ in k]
            found = self._scores(group, values, np.tile(k, (self.sizes[group], len(seeds))))
            drop = self.ends[group][:, :1] - found
            lost[seeds] += drop.reshape(len(drop), len(seeds), -1).mean(2).sum(0)
            seen[seeds] += len(drop)
        self.checks.append((done, (lost / seen).tolist()))
        log.info("step %d: held-out loss %s", done, ", ".join(f"{loss:.3f}" for loss in lost / seen))

    def _scores(self, group: int, values: list[Tensor], k: np.ndarray) -> np.ndarray:
        """Answer scores [item, row] of a group, without gradient; k [item, row]."""
        found = np.zeros(k.shape)
        with torch.no_grad():
            for part, rows in self._parts(group):
                for some in _chunks(len(values), part.most):
                    gates = self._gates(values[some], k[rows][:, some])
                    found[rows, some] = part.scores(gates).cpu().numpy()
        return found

    def _ends(self) -> list[np.ndarray]:
        """For each group, scores [item, 2] with every gate open and with every gate shut."""
        found = []
        with torch.no_grad():
            for group, size in enumerate(self.sizes):
                found.append(np.zeros((size, 2)))
                for part, rows in self._parts(group):
                    for end, gate in enumerate((1.0, 0.0)):
                        gates = self._all(torch.full((len(part.rows), 1, self.n_heads), gate))
                        found[-1][rows, end] = part.scores(gates)[:, 0].cpu().numpy()
        return found

    def _parts(self, group: int) -> Iterator[tuple[_Recorded | _Whole, slice]]:
        """The parts of a group and which of its items each holds."""
        start = 0
        for part in self.passes[group]:
            yield part, slice(start, start + len(part.rows))
            start += len(part.rows)

    def _gates(self, values: list[Tensor], k: np.ndarray) -> Tensor:
        """[item, row, layer, head] from the scores of each row and k [item, row]."""
        scores = torch.stack(list(values))[None].expand(len(k), -1, -1)
        return self._all(soft_top_k(scores, torch.from_numpy(k).to(scores.device)))

    def _all(self, gates: Tensor) -> Tensor:
        """[item, row, head] of layers with attention -> [item, row, layer, head], open in the other layers."""
        gates = gates.to(self.model.device).unflatten(-1, (-1, self.model.n_heads))
        if not self.model.layers_without_attention:
            return gates
        every = gates.new_ones(*gates.shape[:2], self.model.n_layers, self.model.n_heads)
        every[:, :, self.model.attention_layers] = gates
        return every

    def some_drops(self, item: int) -> tuple[list[Heads], np.ndarray]:
        """Sets of heads that the first seed shuts, and the drop of an item's score by this training's own passes."""
        order = torch.argsort(self.values[0].detach(), stable=True).tolist()
        shut = [order[: round(share * self.n_heads)] for share in CHECKED_SHARES]
        gates = torch.ones(1, len(shut), self.n_heads)
        for row, heads in enumerate(shut):
            gates[0, row, heads] = 0
        layers = self.model.attention_layers
        sets = [[(layers[h // self.model.n_heads], h % self.model.n_heads) for h in heads] for heads in shut]
        group = next(g for g, parts in enumerate(self.passes) if any(item in part.rows for part in parts))
        for part, rows in self._parts(group):
            if item in part.rows:
                at = part.rows.index(item)
                with torch.no_grad():
                    found = [
                        part.scores(self._all(gates[:, some].expand(len(part.rows), -1, -1)))[at].cpu().numpy()
                        for some in _chunks(len(shut), part.most)
                    ]
                return sets, self.ends[group][rows, 0][at] - np.concatenate(found)
        raise AssertionError("every item is in a group")

    def result(self) -> Fit:
        """What was learned."""
        values = torch.stack(self.values).detach().double().cpu()
        odds = (values - values.quantile(0.5, dim=1, keepdim=True)) / TEMPERATURE
        score = self.model.over_layers(odds.unflatten(1, (-1, self.model.n_heads))).numpy().astype(np.float32)
        learned = np.zeros((self.seeds, sum(self.sizes)), bool)
        for group, parts in enumerate(self.passes):
            learned[:, [row for part in parts for row in part.rows]] = self.learned[group][:, None]
        steps, losses = zip(*self.checks, strict=True)
        clean, shut = np.concatenate(self.ends).mean(0).tolist()
        pushed = {push: training.opened() for push, training in self.pushed.items()}
        return Fit(score, learned, list(steps), np.array(losses), clean, shut, pushed)


class _Pushed(_Training):
    """Gates of their own for each head, pushed open or shut: only what matters holds against it.

    Causal head gating (Nam et al. 2025, arXiv 2505.13737), but in each step a head is either on or off, at random, with
    its gate as the probability of on (the gradient is that of the gate: straight-through). A soft gate understates what
    a head does where a fraction of its output is enough, because norms and the softmax saturate.

    Args:
        push: `open` or `shut`; others as in `_Training`.
    """

    def __init__(self, model: HeadModel, passes: list[list], settings: dict, seed: int, computed: Callable, push: str):
        super().__init__(model, passes, settings, seed, computed)
        self.push = push
        self.draws = [np.random.default_rng([seed, 4, index, PUSHES[push] + 1]) for index in range(self.seeds)]

    def opened(self) -> np.ndarray:
        """[seed, layer, head] float32: each gate's probability of being open; NaN in layers without attention."""
        gates = torch.stack(self.values).detach().sigmoid().cpu()
        return self.model.over_layers(gates.unflatten(1, (-1, self.model.n_heads))).numpy().astype(np.float32)

    def _draw(self, size: int, seeds: np.ndarray) -> np.ndarray:
        """[item, seed, head], uniform from 0 to 1."""
        return np.stack([self.draws[s].random((size, self.n_heads), np.float32) for s in seeds], 1)

    def _gates(self, values: list[Tensor], drawn: np.ndarray) -> Tensor:
        """[item, row, layer, head], 0 or 1, with the gradient of the gates' probabilities."""
        open_share = torch.stack(list(values)).sigmoid()
        on = (torch.from_numpy(drawn).to(open_share.device) < open_share.detach()).to(open_share)
        return self._all(on + (open_share - open_share.detach()))

    def _push(self, seeds: np.ndarray) -> None:
        for seed in seeds:
            (-PUSHES[self.push] * PRESSURE * self.values[seed].clamp(-MOST, MOST).mean()).backward()

    def _ends(self) -> list[np.ndarray]:
        return []

    def _check(self, done: int) -> None:
        self.checks.append((done, []))
        opened = [float((values.detach() > 0).float().mean()) for values in self.values]
        log.info("step %d, pushed %s: %s of gates open", done, self.push, ", ".join(f"{share:.0%}" for share in opened))


def _chunks(n: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, n)) for start in range(0, n, most))
