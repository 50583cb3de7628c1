"""Runs a command line: one clear line for an error of ours, and its exit code."""

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
    """A command line, or a group of commands in one, that answers `--help` and a wrong option at once."""
    return typer.Typer(
        name=name,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Rich would draw frames around the help, and takes longer to import than all else that help needs.
        rich_markup_mode=None,
        # The option is not given: without that, typer imports pydantic to convert None.
        context_settings={"default_map": {"help": False}},
    )


def run(command: Callable[..., Any]) -> int:
    """Call a typer command and return its exit code; usage errors give 2.

    A command ends with `raise typer.Exit(code)` or by returning; errors of ours are printed
    without a trace. A reader of our output that has enough, such as `head`, is no error.
    """
    # Python has none where the caller closed it (`>&-`).
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    lossless(sys.stdout)
    try:
        code = _call(command)
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.OK
    except SystemExit as end:
        # Typer and rich end with 1 when nobody reads the output any more.
        code = ExitCode.OK if end.code == 1 else ExitCode.FAILED
    except OSError as error:
        what = "the output cannot be written" if error.filename is None else message(str(error.filename))
        print(f"error: {what}: {error.strerror}", file=sys.stderr)
        code = ExitCode.FAILED
    else:
        return code
    # Python would try once more at exit, and complain.
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
        # A usage error prints itself with the command's usage; typer's own click makes it.
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
    """An event that SIGTERM and SIGINT set, for loops that end when asked to."""
    stop = threading.Event()
    # A handler interrupts the main thread anywhere, also while that holds the event's lock: to set it there
    # would wait for ever. To put into a SimpleQueue is safe.
    signals: queue.SimpleQueue[None] = queue.SimpleQueue()

    def relay() -> None:
        signals.get()
        stop.set()

    threading.Thread(target=relay, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: signals.put(None))
    return stop
