"""Workers: processes of the fork server that run jobs one after the other, and hold what a job loaded for the next.

CUDA does not survive a fork, so forks cannot share a model on a GPU. A worker is forked before CUDA starts and runs the
jobs of its device itself. The server gives a job to an idle worker, so that there are never more workers than jobs at
once. A job that fails or crashes ends its worker; the next job gets a new one. Standard library only.
"""

import os
import select
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from headatlas.jobs import shared
from headatlas.jobs.requests import REFUSED, Request, pass_on, take_over

IDLE = b"+"  # what a worker tells the server when it can take another job
PEAK = Path("/proc/self/clear_refs")  # on Linux, a 5 written here forgets how much memory this process once took


class Place(NamedTuple):
    """Where a job runs: in a worker of `device`, which best already `holds` what the job loads (empty: nothing)."""

    device: str
    holds: str = ""


@dataclass
class _Worker:
    process: int
    channel: socket.socket
    device: str
    holds: str = ""
    idle: bool = True


class Workers:
    """The workers of a fork server, which calls these methods; the one idle for longest comes first."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []

    @property
    def channels(self) -> list[socket.socket]:
        """Sockets that can be read when a worker is idle again, or has ended."""
        return [worker.channel for worker in self._workers]

    def hear(self) -> None:
        """Note which workers are idle again, and which have ended.

        A worker tells the server before it answers the client, so that the client's next job finds it idle.
        """
        said = select.select(self.channels, [], [], 0)[0]
        for worker in [worker for worker in self._workers if worker.channel in said]:
            try:
                worker.idle = worker.channel.recv(1) == IDLE
            except ConnectionError:
                worker.idle = False
            if not worker.idle:
                self._end(worker)

    def give(self, place: Place, request: Request, listener: socket.socket) -> None:
        """Have an idle worker run a job, or a new one.

        Idle workers of other devices end first, because a device may be part of another (all GPUs).

        Args:
            listener: the server's socket, which a new worker closes.
        """
        for worker in [worker for worker in self._workers if worker.idle and worker.device != place.device]:
            self._end(worker)
        idle = [worker for worker in self._workers if worker.idle]
        worker = min(idle, key=lambda worker: worker.holds != place.holds, default=None)
        if worker is None:
            worker = self._start(place.device, request, listener)
        worker.idle, worker.holds = False, place.holds or worker.holds
        self._workers.remove(worker)
        self._workers.append(worker)
        try:
            pass_on(request, worker.channel)
        except ConnectionError:  # it was killed while idle
            self._end(worker)
            self.give(place, request, listener)

    def close(self) -> None:
        """Close the channels in a fork of the server: a worker ends when the server's end, the only one, closes."""
        for channel in self.channels:
            channel.close()

    def _start(self, device: str, request: Request, listener: socket.socket) -> _Worker:
        here, there = socket.socketpair()
        process = os.fork()
        if process == 0:
            for inherited in (here, listener, request, self):
                inherited.close()
            _live(there)
        there.close()
        self._workers.append(_Worker(process, here, device))
        return self._workers[-1]

    def _end(self, worker: _Worker) -> None:
        """Forget a worker that is idle or ending, once its process is gone and its device free."""
        self._workers.remove(worker)
        worker.channel.close()
        with suppress(ChildProcessError):  # the server ignores SIGCHLD: its children leave no status
            os.waitpid(worker.process, 0)


def _live(channel: socket.socket) -> None:
    """Be a worker until the server or the run ends, or a job fails."""
    shared.hold_one()
    quiet = [os.dup(stream) for stream in (1, 2)]
    while sys.stdin not in select.select([channel, sys.stdin], [], [])[0]:
        request = take_over(channel)
        if request is None:
            break
        with suppress(OSError):
            PEAK.write_text("5")
        main = request.main()
        answer = REFUSED if main is None else request.run(main)
        if answer != b"0":  # whatever went wrong, this process or its device may be broken
            channel.close()
            with suppress(OSError):
                request.connection.sendall(answer)
            break
        for stream, output in zip((1, 2), quiet, strict=True):
            os.dup2(output, stream)
        shared.settle()
        with suppress(OSError):  # the server is gone, or the client
            channel.sendall(IDLE)
            request.connection.sendall(answer)
        request.close()
    os._exit(0)
