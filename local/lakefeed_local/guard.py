"""Runs one program and ends it when the parent process has ended, however that ended.

A script that needs the standard library only: `guard.py SECONDS PROGRAM ARG …`. Its standard input is a pipe
that the parent holds open. The kernel closes the pipe when the parent ends, also by `kill -9`, on every Unix.
Linux's parent-death signal alone is not enough: it is bound to the *thread* that started the child.

A byte `k` on the pipe kills the program. The end of the pipe asks it to stop, and kills it after SECONDS.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def _die_with_the_guard() -> None:
    """On Linux, let the kernel kill the program if this guard is killed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(program: subprocess.Popen[bytes], grace_seconds: float) -> None:
    while order := os.read(0, 1):
        if order == b"k":
            program.kill()
    program.terminate()
    try:
        program.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        program.kill()


def main() -> int:
    """Run the program of the command line; returns its exit code, or 128 + n if signal n ended it."""
    grace_seconds, command = float(sys.argv[1]), sys.argv[2:]
    # Ctrl-C is for the parent, which stops its children cleanly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # preexec_fn is safe here, because this process has one thread.
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_the_guard)
    signal.signal(signal.SIGTERM, lambda *_: program.terminate())
    threading.Thread(target=_watch, args=(program, grace_seconds), daemon=True).start()
    code = program.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
