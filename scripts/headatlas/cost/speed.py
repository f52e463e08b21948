"""How fast a device computes: a probe of the CPU, assumptions for GPUs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

PROBE_SECONDS = 2
PASS_SHARE = 0.62  # of a matrix product's speed that a pass on the CPU reaches: SmolLM2-135M, 0.55 to 0.68 by rule
GPU_HALF, GPU_FLOAT32 = 300e12, 40e12  # operations per second that passes on a GPU are assumed to reach
# numpy reads the number of its threads when it is imported, so a process of its own measures. The two products are
# those of a layer, on 256 positions; the fastest counts, because other programs may take the processor meanwhile.
PROBE = """
import json, sys, time
import numpy as np

hidden, between, seconds = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
stream, up, down = (rng.standard_normal(s, np.float32) for s in ((256, hidden), (hidden, between), (between, hidden)))
fastest, end = float("inf"), time.perf_counter() + seconds
while time.perf_counter() < end:
    start = time.perf_counter()
    stream @ up @ down
    fastest = min(fastest, time.perf_counter() - start)
print(4 * 256 * hidden * between / fastest)
"""
WIDEST = 4096  # columns and rows of the probe's matrices at most


@dataclass(frozen=True)
class Speed:
    """Floating-point operations per second of one job, and in words where the figure comes from.

    `products`: how many products one product of a whole pass takes there.
    """

    operations: float
    source: str
    products: int = 1


def probe_cpu(hidden: int, between: int, threads: int, seconds: float = PROBE_SECONDS) -> Speed:
    """Measure matrix products of a layer's sizes with so many threads."""
    sizes = json.dumps([min(hidden, WIDEST), min(between, WIDEST), seconds])
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, sizes],
        env=os.environ | dict.fromkeys(names, str(threads)),
        capture_output=True,
        text=True,
        check=True,
    )
    product = float(done.stdout)
    source = f"{PASS_SHARE:.0%} of {product / 1e9:,.0f} GFLOP/s, which a probe of {seconds:g} s measured"
    return Speed(PASS_SHARE * product, f"{source} on {threads} thread{'s' if threads > 1 else ''}")


def assumed_gpu(dtype: str) -> Speed:
    """The assumption for a GPU; weights in half precision take two products for one of a whole pass."""
    speed = GPU_FLOAT32 if dtype == "float32" else GPU_HALF
    said = f"{speed / 1e12:,.0f} TFLOP/s assumed for {dtype} on a GPU, not measured; --flops sets another"
    return Speed(speed, said, products=1 if dtype == "float32" else 2)


def given(operations: float, dtype: str, on_gpu: bool) -> Speed:
    """The speed that the user gives."""
    return Speed(operations, f"{operations:.3g} FLOP/s by --flops", 2 if on_gpu and dtype != "float32" else 1)
