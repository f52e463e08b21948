"""The probe of Cognitive Mirrors (arXiv 2512.10978): can the task be read from the heads, and from which?

One linear map shared by all heads, then a two-layer classifier from all heads to the task. Several seeds are trained
together as one batched model. Each is scored only on its own held-out fold of questions, so every item is scored once,
by a probe that never saw its question.
"""

import copy
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

LEAST_GAIN = 1e-3  # nats: a smaller improvement of the stopping loss does not count


@dataclass(frozen=True)
class ProbeResult:
    """Held-out outcome of all seeds.

    `effect` [item, layer, head]: gradient times activation of the true class's logit minus the mean over classes;
    `predicted` [item]: class; `epochs` [seed]: passes over the training items until the best stopping loss; `losses`
    [seed]: that loss.
    """

    effect: np.ndarray
    predicted: np.ndarray
    epochs: list[int]
    losses: list[float]


def probe_report(result: ProbeResult, labels: np.ndarray, tasks: list[str], null_accuracy: list[float]) -> dict:
    """Held-out accuracy per task and overall, the majority share, and counts `confusion[task][predicted]`.

    Args:
        null_accuracy: [refit], overall held-out accuracy of each refit with permuted labels.
    """
    confusion = np.zeros((len(tasks), len(tasks)), int)
    np.add.at(confusion, (labels, result.predicted), 1)
    right, asked = confusion.diagonal(), confusion.sum(1)
    return {
        "accuracy": float(right.sum() / asked.sum()),
        "majority": float(asked.max() / asked.sum()),
        "permutations": len(null_accuracy),
        "null_accuracy": null_accuracy,
        "accuracy_per_task": dict(zip(tasks, (right / asked).tolist(), strict=True)),
        "confusion": {
            task: dict(zip(tasks, row, strict=True)) for task, row in zip(tasks, confusion.tolist(), strict=True)
        },
        "epochs": result.epochs,
        "stopping_loss": result.losses,
    }


class Probe(nn.Module):
    """`seeds` independent probes with a leading seed dimension, so that one matrix product serves all of them.

    Head features [item, layer * head, d_head] and their layer means [item, layer, d_head] go through one linear
    map to `dimensions` each (together: the map of the joined vector), then a hidden layer, then the classes.
    """

    def __init__(self, seeds: list[int], shape: tuple[int, int, int], classes: int, dimensions: int, hidden: int):
        super().__init__()
        layers, heads, width = shape
        self.n_heads = heads

        def draw(rows: int, columns: int, fan_in: int) -> nn.Parameter:
            bound = fan_in**-0.5  # the uniform bound of nn.Linear
            parts = [(torch.rand(rows, columns, generator=rng) * 2 - 1) * bound for rng in generators]
            return nn.Parameter(torch.stack(parts))

        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        flat = layers * heads * dimensions
        self.head_map = draw(width, dimensions, 2 * width)
        self.layer_map = draw(width, dimensions, 2 * width)
        self.map_bias = draw(1, dimensions, 2 * width)
        self.first = draw(flat, hidden, flat)
        self.first_bias = draw(1, hidden, flat)
        self.second = draw(hidden, classes, hidden)
        self.second_bias = draw(1, classes, hidden)

    def features(self, heads: Tensor, means: Tensor) -> Tensor:
        """[seed, item, layer, head, dimension] of [seed, item, layer, head, d_head] and [seed, item, layer, d_head]."""
        by_head = torch.einsum("silhw,swd->silhd", heads, self.head_map)
        by_layer = torch.einsum("silw,swd->sild", means, self.layer_map)
        return by_head + by_layer[:, :, :, None] + self.map_bias[:, :, None, None]

    def only(self, index: int) -> "Probe":
        """The probe of one seed, with a seed dimension of one."""
        single = copy.deepcopy(self)
        for parameter in single.parameters():
            parameter.data = parameter.data[index : index + 1]
        return single

    def classify(self, features: Tensor) -> Tensor:
        """[seed, item, class] logits."""
        hidden = torch.relu(torch.bmm(features.flatten(2), self.first) + self.first_bias)
        return torch.bmm(hidden, self.second) + self.second_bias


def fit_probe(
    outputs: np.ndarray, labels: np.ndarray, questions: list[str], settings: dict, seed: int, device: str = "cpu"
) -> ProbeResult:
    """Train one probe per seed and score each item by the probe that held its question out; see `fit_probes`."""
    return next(fit_probes(outputs, [labels], questions, settings, seed, device))


def fit_probes(
    outputs: np.ndarray,
    label_sets: Iterable[np.ndarray],
    questions: list[str],
    settings: dict,
    seed: int,
    device: str = "cpu",
) -> Iterator[ProbeResult]:
    """Repeat the fit for several sets of labels; they share the split, the scales and the settings.

    Each set trains one probe per seed, from its own initialisations, and scores each item by the probe that held its
    question out.

    Args:
        outputs: [item, layer, head, d_head] float32, mean head outputs, NaN in layers without attention, whose effects
            are also NaN; label_sets: each [item], classes 0..n-1.
        questions: [item]; items of one question are never on both sides of a split.
        settings: `seeds`, `dimensions`, `hidden`, `epochs`, `batch_size`, `learning_rate`, `weight_decay`,
            `patience`, `standardise` as in the config.
        seed: determines the folds and every probe's seed.
    """
    n_seeds = settings["seeds"]
    present = ~np.isnan(outputs[0]).all((1, 2))
    outputs = outputs if present.all() else outputs[:, present]
    folds = question_folds(questions, n_seeds, seed)
    stops = question_folds(questions, 5, seed + 1)  # a fifth of the other questions decides when to stop
    held = torch.tensor(np.stack([folds == fold for fold in range(n_seeds)]))
    stop = torch.tensor(np.stack([(folds != fold) & (stops == 0) for fold in range(n_seeds)]))
    train = ~held & ~stop
    data = _Standardised(torch.as_tensor(outputs).to(device), train.to(device), settings["standardise"])
    for number, labels in enumerate(label_sets):
        target = torch.as_tensor(labels, dtype=torch.long, device=device)
        seeds = [seed * 1000 + number * 100 + fold for fold in range(n_seeds)]
        probe = Probe(seeds, outputs.shape[1:], int(target.max()) + 1, settings["dimensions"], settings["hidden"])
        probe.to(device)
        epochs, losses = _train(probe, data, target, train, stop, settings, seeds)
        effect, predicted = _score(probe, data, target, held, settings["batch_size"])
        full = np.full((len(effect), len(present), effect.shape[2]), np.nan, np.float32)
        full[:, present] = effect
        yield ProbeResult(full, predicted, epochs, losses)


def question_folds(questions: list[str], n_folds: int, seed: int) -> np.ndarray:
    """[item] fold number; questions are assigned in a seeded order, so the sizes of folds differ by at most one
    question."""
    order = sorted(set(questions), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    fold = {name: index % n_folds for index, name in enumerate(order)}
    return np.array([fold[name] for name in questions])


class _Standardised:
    """Head outputs and layer means, standardised per seed with the mean and spread of its training items."""

    def __init__(self, outputs: Tensor, train: Tensor, standardise: bool):
        self.heads, self.means = outputs, outputs.mean(2)
        self.scales = []
        for values in (self.heads, self.means):
            stats = [(values[rows].mean(0), values[rows].std(0)) for rows in train]
            centre, spread = (torch.stack(part) for part in zip(*stats, strict=True))
            if not standardise:
                centre, spread = torch.zeros_like(centre), torch.ones_like(spread)
            # A constant feature carries no information: it becomes zero instead of being scaled up.
            self.scales.append((centre, torch.where(spread > 1e-6 * (centre.abs() + 1e-6), spread, torch.inf)))

    def batch(self, rows: Tensor, seeds: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Features of `rows` [seed, item] for those seeds: [seed, item, layer, head, w], [seed, item, layer, w]."""
        return tuple(
            (values[rows] - centre[seeds][:, None]) / spread[seeds][:, None]
            for values, (centre, spread) in zip((self.heads, self.means), self.scales, strict=True)
        )


def _train(probe: Probe, data, target: Tensor, train: Tensor, stop: Tensor, settings: dict, seeds: list[int]):
    """AdamW with early stopping per seed; leaves each seed's best weights in `probe`."""
    optimiser = torch.optim.AdamW(
        probe.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    # Every class has the same weight, however many items it has.
    weight = len(target) / (len(probe.second_bias[0, 0]) * torch.bincount(target).clamp_min(1))
    weight = weight.to(torch.float32)
    generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
    rows = [mask.nonzero()[:, 0] for mask in train]
    common = min(map(len, rows))
    best = [torch.inf] * len(seeds)
    best_epoch, waited = [0] * len(seeds), [0] * len(seeds)
    state = {name: value.detach().clone() for name, value in probe.named_parameters()}
    for epoch in range(1, settings["epochs"] + 1):
        order = [part[torch.randperm(len(part), generator=rng)] for part, rng in zip(rows, generators, strict=True)]
        shuffled = torch.stack([part[:common] for part in order]).to(target.device)
        for picked in shuffled.split(settings["batch_size"], dim=1):
            loss = _losses(probe, data, target, picked, weight).mean(1).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        for index, loss in enumerate(_stop_losses(probe, data, target, stop, weight, settings["batch_size"])):
            if waited[index] > settings["patience"]:
                continue
            waited[index] += 1
            if loss < best[index] - LEAST_GAIN:
                best[index], best_epoch[index], waited[index] = loss, epoch, 0
                for name, value in probe.named_parameters():
                    state[name][index] = value.detach()[index]
        if min(waited) > settings["patience"]:
            break
    probe.load_state_dict(state)
    return best_epoch, best


def _losses(probe: Probe, data, target: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """[seed, item] weighted cross-entropy of `rows` [seed, item]."""
    logits = probe.classify(probe.features(*data.batch(rows)))
    truth = target[rows]
    return nn.functional.cross_entropy(logits.transpose(1, 2), truth, reduction="none") * weight[truth]


def _stop_losses(probe: Probe, data, target: Tensor, stop: Tensor, weight: Tensor, size: int) -> list[float]:
    """[seed] mean loss over each seed's stopping items."""
    counts = stop.sum(1)
    # Each seed's own rows come first; the padding to the longest is not counted.
    rows = stop.int().argsort(dim=1, descending=True, stable=True)[:, : counts.max()].to(target.device)
    with torch.no_grad():
        parts = [_losses(probe, data, target, part, weight) for part in rows.split(max(size, 256), dim=1)]
    losses = torch.cat(parts, dim=1).cpu()
    counted = torch.arange(losses.shape[1]) < counts[:, None]
    return ((losses * counted).sum(1) / counts).tolist()


def _score(probe: Probe, data, target: Tensor, held: Tensor, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Effects [item, layer, head] and predicted class [item], each by the seed that held the item out."""
    effect = np.zeros(data.heads.shape[:3], np.float32)
    predicted = np.zeros(len(target), np.int64)
    for fold, items in enumerate(held):
        for rows in items.nonzero()[:, 0].split(size):
            scores, classes = _gradient_times_activation(probe, data, target, fold, rows.to(target.device))
            at = rows.numpy()  # numpy would treat a tensor of one row as a scalar
            effect[at], predicted[at] = scores.cpu().numpy(), classes.cpu().numpy()
    return effect, predicted


def _gradient_times_activation(probe: Probe, data, target: Tensor, fold: int, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [item, layer, head] and predicted class [item] by one seed's probe.

    The score is the true class's logit minus the mean over classes: a term common to all logits does not separate the
    classes, and training leaves it arbitrary.
    """
    single = probe.only(fold)
    features = single.features(*data.batch(rows[None], slice(fold, fold + 1))).detach().requires_grad_()
    logits = single.classify(features)[0]
    scored = logits.gather(1, target[rows][:, None])[:, 0] - logits.mean(1)
    (slope,) = torch.autograd.grad(scored.sum(), features)
    return (slope * features).mean(-1)[0].detach(), logits.argmax(-1)
