"""Runs a command line: prints errors in one line, and returns the exit code."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import Abort, Exit, TyperException

from lakefeed_common.errors import ExitCode, LakefeedError
from lakefeed_common.text import lossless, message


def command_line(help: str, name: str | None = None) -> typer.Typer:  # noqa: A002 - typer's name
    """A command line, or a command group, with fast `--help` and usage errors."""
    return typer.Typer(
        name=name,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Rich would draw frames around the help, and takes longer to import than everything else that help
        # needs.
        rich_markup_mode=None,
        # If the option is not given: otherwise typer imports pydantic to convert None.
        context_settings={"default_map": {"help": False}},
    )


def run(command: Callable[..., Any]) -> int:
    """Call a typer command and return its exit code; usage errors return 2.

    A command ends with `raise typer.Exit(code)` or by returning; Lakefeed errors are printed without a
    traceback. It is not an error if the reader of the output closes it, such as `head`.
    """
    # None if the caller closed it (`>&-`).
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    lossless(sys.stdout)
    try:
        code = _call(command)
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.OK
    except SystemExit as end:
        # Typer and rich exit with 1 if the output is closed.
        code = ExitCode.OK if end.code == 1 else ExitCode.FAILED
    except OSError as error:
        what = "the output cannot be written" if error.filename is None else message(str(error.filename))
        print(f"error: {what}: {error.strerror}", file=sys.stderr)
        code = ExitCode.FAILED
    else:
        return code
    # Python would try again at exit, and print an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]
    return code


def _call(command: Callable[..., Any]) -> int:
    try:
        result = command(standalone_mode=False)
    except Exit as done:
        return done.exit_code
    except Abort:
        return 130
    except TyperException as error:
        # A usage error prints itself with the command's usage; it comes from typer's own click.
        show = getattr(error, "show", None)
        if show is not None:
            show()
        else:
            print(f"error: {message(str(error))}", file=sys.stderr)
        return error.exit_code
    except LakefeedError as error:
        print(f"error: {message(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else ExitCode.OK


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set, to stop loops."""
    stop = threading.Event()
    # A handler interrupts the main thread anywhere, also while it holds the event's lock: setting the event
    # there would deadlock. Putting into a SimpleQueue is safe.
    signals: queue.SimpleQueue[None] = queue.SimpleQueue()

    def relay() -> None:
        signals.get()
        stop.set()

    threading.Thread(target=relay, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: signals.put(None))
    return stop
