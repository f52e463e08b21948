"""Fork server: imports each script once, then forks one process per job.

A job that runs a model spends some five seconds of CPU time importing torch and transformers, a light job 0.2 s
importing numpy; a fork takes milliseconds. If a script has a function `prepare`, the server calls it before it forks:
all jobs share the memory of what it loads (`headatlas.jobs.shared`). If `prepare` returns a place, the job runs in the
worker of that place instead (`headatlas.jobs.workers`). Both compute the same as a separate process. Jobs that cannot
be served (no server, a script it does not serve, a library that does not survive a fork) run by themselves
(`headatlas.jobs.fork_client`). Standard library only, until a script is requested.
"""

import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.jobs import cli
from headatlas.jobs.requests import REFUSED, Request, read
from headatlas.jobs.workers import Place, Workers

# Scripts whose libraries survive a fork. polars starts threads on import, so scripts that import it are not listed.
SCRIPTS = {
    "ablate_groups", "ablate_layers", "attend_items", "attribute_task", "balance_tasks", "choose_heads",
    "choose_hottest", "describe_heads", "fit_gates", "fit_probe", "generate_answers", "generate_without_heads",
    "integrate_task", "knock_out", "patch_answers", "pool_baseline", "prepare_task", "rank_at_random", "score_layer",
    "take_answers", "trace_task", "write_page",
}  # fmt: skip
HARMLESS = {"jemalloc_bg_thd"}  # pyarrow's allocator, which handles its own thread when a process forks
THREADS = Path("/proc/self/task")  # exists on Linux only
UNKNOWN = "unknown"


class Server:
    """A server for this process, in a child process that ends with this one."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"headatlas-{os.getpid()}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        """Path of the socket on which it listens."""
        return str(self._folder / "server")

    def start(self, scripts: Path) -> None:
        """Start it if the system allows; from now on clients wait for its answer.

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
            # Nothing is ever written to its input. When that input closes, the server and its forks know that this
            # process ended. One thread for numpy; every job sets the number for torch. The driver says whether there is
            # a GPU, because CUDA does not survive a fork.
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(scripts), str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
                pass_fds=[listener.fileno()],
            )

    def stop(self) -> None:
        """Stop it, if it was started."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def serve(descriptor: int) -> None:
    """Serve requests on a listening socket until standard input closes; then remove the socket and its folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the clients, and through them their jobs
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for a fork: it answers the client itself
    workers = Workers()
    with socket.socket(fileno=descriptor) as listener:
        while sys.stdin not in (ready := select.select([listener, sys.stdin, *workers.channels], [], [])[0]):
            workers.hear()
            if listener in ready:
                connection, _ = listener.accept()
                with suppress(OSError, ValueError), connection:  # the client is gone
                    _answer(read(connection), listener, workers)
        shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)


def _answer(request: Request, listener: socket.socket, workers: Workers) -> None:
    """Fork a job, or give it to a worker; refuse one that would not survive a fork, or whose script does not load."""
    try:
        main = request.main() if request.script in SCRIPTS else None
        place = None
        if main is not None and request.said["folder"] == os.getcwd():
            place = _prepare(main, request.said["arguments"])
        if main is None or _threads() - HARMLESS:
            request.connection.sendall(REFUSED)
        elif place is not None:
            workers.give(place, request, listener)
        elif os.fork() == 0:
            listener.close()
            workers.close()
            _become(main, request)
    finally:
        request.close()


def _prepare(main: Callable[..., None], arguments: list[str]) -> Place | None:
    """Let the script load what its jobs share; return the place of the worker that runs the job, if one does.

    The job will meet the same mistake and report it, so ignore it here.
    """
    prepare = getattr(sys.modules[main.__module__], "prepare", None)
    if prepare is not None:
        with suppress(HeadAtlasError, SystemExit):
            return cli.call(prepare, main, arguments)
    return None


def _threads() -> set[str]:
    """Names of this process's threads except the main one, which a fork would lack; UNKNOWN if the system hides
    them."""
    if not THREADS.is_dir():
        return {UNKNOWN}
    others = (task for task in THREADS.iterdir() if task.name != str(os.getpid()))
    return {(task / "comm").read_text().strip() for task in others}


def _become(main: Callable[..., None], request: Request) -> None:
    """Become the job until this process ends."""
    status = 1
    try:
        answer = request.run(main)
        request.connection.sendall(answer)
        status = 0 if answer == REFUSED else int(answer)
    finally:
        os._exit(status)
