"""The rounds of adaptive ablation: on which items each head was measured; numpy only.

Stands apart from the statistics of rounds, so that an edit of these does not rerun jobs that only store rounds.
"""

from typing import NamedTuple

import numpy as np


class Rounds(NamedTuple):
    """Which items each head was measured on.

    `item` [item]: the round of the item's question, from 0; `head` [..., head]: how many rounds the head took part in.
    """

    item: np.ndarray
    head: np.ndarray

    @property
    def measured(self) -> np.ndarray:
        """[item, ..., head] bool."""
        return self.item.reshape(-1, *[1] * self.head.ndim) < self.head
