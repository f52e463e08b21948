"""Runs one script: in a fork of the server of `headatlas.jobs.fork_server` where one answers, else by itself.

    python -IS fork_client.py ADDRESS SCRIPT ARGUMENT ...

Standard library only, and little of it: this is started for every job. Works as a file, outside the package, since
the package's own folder must not come before the standard library's.
"""

import array
import json
import os
import signal
import socket
import sys


def main() -> None:
    """Take the status of the job as this process's own, or its place."""
    address, script, *arguments = sys.argv[1:]
    # The job goes on in another process that ends with this one: an interrupt needs to reach this one only.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = ask(address, script, arguments)
    if status is None:
        os.execv(sys.executable, [sys.executable, script, *arguments])
    sys.exit(status)


def ask(address: str, script: str, arguments: list[str]) -> int | None:
    """Exit status of a script run by the server at `address`; None where no server takes it."""
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
        return None  # no server, or it went away before the job began
    if answer == b"refused":
        return None
    return int(answer) if answer else 128 + signal.SIGKILL


if __name__ == "__main__":
    main()
