"""Head outputs in which a single head separates the classes, and settings of a small probe."""

import numpy as np

SETTINGS = {
    "seeds": 3,
    "dimensions": 8,
    "hidden": 16,
    "epochs": 30,
    "batch_size": 32,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "patience": 5,
    "standardise": True,
}
INFORMATIVE = (1, 2)


def planted(n=360, classes=3, signal=2.0, seed=0):
    """Head outputs of noise, but one head's shifted by the item's class; two items a question."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, classes, n // 2), 2)
    outputs = rng.normal(size=(n, 2, 4, 6)).astype(np.float32)
    centres = rng.normal(size=(classes, 6))
    outputs[:, INFORMATIVE[0], INFORMATIVE[1]] += signal * centres[labels]
    return outputs, labels, [f"q{i // 2}" for i in range(n)]
