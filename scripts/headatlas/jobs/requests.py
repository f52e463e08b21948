"""A job that a client asks the fork server to run: how it is sent, run and answered. Standard library only."""

import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from headatlas.jobs import cli

SIZE = 8  # bytes that hold the length of a request
REFUSED = b"refused"  # the answer that makes the client run the job by itself


@dataclass(frozen=True)
class Request:
    """`body`: JSON of the job's script, arguments, folder and environment; `outputs`: its stdout and stderr."""

    connection: socket.socket
    outputs: list[int]
    body: bytes

    @cached_property
    def said(self) -> dict:
        """The body as a dictionary."""
        return json.loads(self.body)

    def main(self) -> Callable[..., None] | None:
        """The `main` of the script; None if it fails to import: then the job by itself says why."""
        try:
            return importlib.import_module(self.script).main
        except Exception:
            return None

    @property
    def script(self) -> str:
        """The script's name, without folder and ending."""
        return os.path.splitext(os.path.basename(self.said["script"]))[0]

    def run(self, main: Callable[..., None]) -> bytes:
        """Run the job in this process, which takes on its outputs, folder and environment; return the answer.

        This process ends when the client or the run that started it is gone.
        """
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for output, stream in zip(self.outputs, (1, 2), strict=True):
                os.dup2(output, stream)
            os.chdir(self.said["folder"])
            os.environ.clear()
            os.environ.update(self.said["environment"])
            if _poisoned():
                return REFUSED
            # Readable only when closed: the client, or the Snakemake behind it, was killed.
            lifelines = [self.connection, sys.stdin]
            cli.run(main, self.said["arguments"], lambda: bool(select.select(lifelines, [], [], 0)[0]))
            return b"0"
        except SystemExit as end:
            return str(end.code if isinstance(end.code, int) else 1).encode()
        except BaseException:
            traceback.print_exc()
            return b"1"
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    def close(self) -> None:
        """Close this process's ends of the connection and the outputs."""
        self.connection.close()
        for output in self.outputs:
            os.close(output)


def read(connection: socket.socket) -> Request:
    """The request that a client sends, together with its outputs.

    Raises:
        OSError, ValueError: the client is gone, perhaps in the middle of its request.
    """
    body, outputs = _receive(connection, 2)
    return Request(connection, outputs, body)


def pass_on(request: Request, channel: socket.socket) -> None:
    """Send a request to the process at the other end of `channel`.

    Raises:
        ConnectionError: it has ended.
    """
    size = len(request.body).to_bytes(SIZE, "big")
    socket.send_fds(channel, [size], [request.connection.fileno(), *request.outputs])
    channel.sendall(request.body)


def take_over(channel: socket.socket) -> Request | None:
    """The next request that is passed on through `channel`; None when it is closed."""
    body, files = _receive(channel, 3)
    return Request(socket.socket(fileno=files[0]), files[1:], body) if files else None


def _receive(channel: socket.socket, most: int) -> tuple[bytes, list[int]]:
    size, files, _, _ = socket.recv_fds(channel, SIZE, most)
    with channel.makefile("rb") as file:
        return file.read(int.from_bytes(size, "big")), files


def _poisoned() -> bool:
    """Whether CUDA was initialised before this process was forked, which it does not survive."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda._is_in_bad_fork()
