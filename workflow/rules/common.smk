# What all rules share: the checked config, and where the scripts and their Python are.

import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from headatlas.errors import HeadAtlasError
from headatlas.plan import Atlas
from headatlas.provenance import fingerprint

# Paths stand in a rule's command by name, not by value: the same workflow elsewhere recomputes nothing.
PYTHON = sys.executable
SCRIPTS = str(Path(workflow.basedir) / "scripts")

try:
    atlas = Atlas(config, Path(workflow.basedir), workflow.configfiles)
except HeadAtlasError as error:
    raise WorkflowError(str(error))

# A machine with N GPUs runs N jobs that hold one; --resources gpu=M wins, and SLURM counts its own.
if workflow.resource_settings.nodes is None and atlas.gpus:
    workflow.global_resources.setdefault("gpu", atlas.gpus)


wildcard_constraints:
    model="|".join(map(re.escape, atlas.models)),
    task="|".join(atlas.tasks),
    method="|".join(atlas.methods),
    layer=r"\d+",
    first=r"\d+",
    last=r"\d+",
