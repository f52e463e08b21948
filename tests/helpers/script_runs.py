"""Scripts run as the workflow runs them, and files of effects for them to read."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SCRIPTS = Path(__file__).parents[2] / "scripts"


def write_effects(path: Path, effect, question=None, correct=None, first_layer=0) -> Path:
    effect = np.ascontiguousarray(effect, dtype=np.float32)  # save_file scrambles any other array
    n = len(effect)
    tensors = {
        "effect": effect,
        "question": np.arange(n) if question is None else np.asarray(question, dtype=np.int64),
        "correct": np.ones(n, dtype=np.uint8) if correct is None else np.asarray(correct, dtype=np.uint8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"about": json.dumps({"first_layer": first_layer})})
    return path


def run_script(name: str, settings: dict, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPTS / f"{name}.py", "--settings", json.dumps(settings)]
    for option, value in options.items():
        command += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
