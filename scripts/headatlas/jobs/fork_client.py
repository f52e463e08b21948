"""Runs one script: in a fork of `headatlas.jobs.fork_server` if that answers, otherwise by itself.

    python -IS fork_client.py ADDRESS SCRIPT ARGUMENT ...

Imports little, and only from the standard library, because every job starts it. Runs as a file outside the package,
because the package's own folder must not precede the standard library.
"""

import array
import json
import os
import signal
import socket
import sys


def main() -> None:
    """Exit with the job's status, or become the job."""
    address, script, *arguments = sys.argv[1:]
    # The job runs in another process that ends with this one, so an interrupt needs to reach only this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = ask(address, script, arguments)
    if status is None:
        os.execv(sys.executable, [sys.executable, script, *arguments])
    sys.exit(status)


def ask(address: str, script: str, arguments: list[str]) -> int | None:
    """Exit status of a script run by the server at `address`; None if no server accepts it."""
    place = {"script": script, "arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    request = json.dumps(place).encode()
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(address)
            outputs = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, 2]))
            server.sendmsg([len(request).to_bytes(8, "big")], [outputs])
            server.sendall(request)
            while part := server.recv(64):
                answer += part
    except OSError:
        return None  # no server, or it stopped before the job began
    if answer == b"refused":
        return None
    return int(answer) if answer else 128 + signal.SIGKILL


if __name__ == "__main__":
    main()
