"""Fork server: imports each script once, then forks one process per job.

A job that runs a model spends some five seconds of CPU time on importing torch and transformers, a light one 0.2 on
numpy; a fork spends milliseconds. A script may also have a function `prepare`, which the server calls before it forks:
what it loads (`headatlas.jobs.shared`) is loaded once for all jobs, which share its memory. A fork computes what a
process of its own computes. Jobs that cannot be served (no server, a script that is not for it, a library that does not
survive a fork) run by themselves (`headatlas.jobs.fork_client`). Standard library only, until a script is asked for.
"""

import importlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.jobs import cli

# Scripts whose libraries bear a fork: polars starts threads as soon as it is imported, so what imports it is not here.
SCRIPTS = {
    "ablate_layers", "attribute_task", "balance_tasks", "choose_heads", "choose_hottest", "fit_probe", "integrate_task",
    "knock_out", "patch_answers", "pool_baseline", "prepare_task", "score_layer", "trace_task",
}  # fmt: skip
HARMLESS = {"jemalloc_bg_thd"}  # pyarrow's allocator, which sees to its own thread when a process forks
THREADS = Path("/proc/self/task")  # Linux alone has it
UNKNOWN = "unknown"


class Server:
    """A server of this process's own, in a process that ends with this one."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"headatlas-{os.getpid()}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        """Where to ask it (the path of a socket)."""
        return str(self._folder / "server")

    def start(self, scripts: Path) -> None:
        """Start it, where the system lets it; from here on those who ask wait for its answer.

        Args:
            scripts: the folder the scripts are in.
        """
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); "
            "from headatlas.jobs.fork_server import serve; serve(int(sys.argv[2]))"
        )
        with suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
            self._folder.mkdir(mode=0o700)  # for this user only
            listener.bind(self.address)
            listener.listen(socket.SOMAXCONN)
            # Nothing is ever written to its input: that it ends tells the server, and its forks, that this process did.
            # One thread for numpy; torch is told by every job how many it may use. The driver says whether there is a
            # GPU, since CUDA itself does not survive a fork.
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(scripts), str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
                pass_fds=[listener.fileno()],
            )

    def stop(self) -> None:
        """End it, if it was started."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def serve(descriptor: int) -> None:
    """Answer who asks at a listening socket until standard input ends; then remove the socket and its folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches who asked, and with them their jobs
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a fork: it answers itself
    with socket.socket(fileno=descriptor) as listener:
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                _answer(connection, listener)
        shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)


def _answer(connection: socket.socket, listener: socket.socket) -> None:
    """Fork a job; refuse one that would not get through it, or whose script does not even load."""
    outputs: list[int] = []
    try:
        head, outputs, _, _ = socket.recv_fds(connection, 8, 2)
        with connection.makefile("rb") as file:
            request = json.loads(file.read(int.from_bytes(head, "big")))
        main = _main(Path(request["script"]).stem)
        if main is not None and request["folder"] == os.getcwd():
            _prepare(main, request["arguments"])
        if main is None or _threads() - HARMLESS:
            connection.sendall(b"refused")
        elif os.fork() == 0:
            listener.close()
            _become(main, request, outputs, connection)
    except (OSError, ValueError):  # who asked is gone, perhaps in the middle of asking
        pass
    for output in outputs:
        os.close(output)


def _main(script: str) -> Callable[..., None] | None:
    """The `main` of a script; None where it is not for this server, or fails to import: by itself it says why."""
    if script not in SCRIPTS:
        return None
    try:
        return importlib.import_module(script).main
    except Exception:
        return None


def _prepare(main: Callable[..., None], arguments: list[str]) -> None:
    """Let the script load what its jobs share; a mistake is left to the job, which meets it again and says so."""
    prepare = getattr(sys.modules[main.__module__], "prepare", None)
    if prepare is not None:
        with suppress(HeadAtlasError, SystemExit):
            cli.call(prepare, main, arguments)


def _threads() -> set[str]:
    """Names of this process's threads but the main one, which a fork would lack; UNKNOWN where nobody can say."""
    if not THREADS.is_dir():
        return {UNKNOWN}
    others = (task for task in THREADS.iterdir() if task.name != str(os.getpid()))
    return {(task / "comm").read_text().strip() for task in others}


def _become(main: Callable[..., None], request: dict, outputs: list[int], connection: socket.socket) -> None:
    """Be the job from here to the end of this process."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for output, stream in zip(outputs, (1, 2), strict=True):
            os.dup2(output, stream)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        if _poisoned():
            connection.sendall(b"refused")
            os._exit(0)
        # Readable at its end only: when who asked, or the Snakemake behind it, was killed.
        lifelines = [connection, sys.stdin]
        cli.run(main, request["arguments"], lambda: bool(select.select(lifelines, [], [], 0)[0]))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(status).encode())
        os._exit(status)


def _poisoned() -> bool:
    """Whether an import has touched CUDA, which does not bear a fork."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda._is_in_bad_fork()
