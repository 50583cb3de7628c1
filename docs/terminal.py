"""Records the terminal output of a command as an SVG image: `python -m docs.terminal FILE COMMAND…`.

    python -m docs.terminal docs/images/demo.svg make demo

records the picture in README.md.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS = 100, 50


def run(command: list[str]) -> tuple[bytes, int]:
    """Run a command in a terminal of `COLUMNS` by `ROWS`; return its output and exit code."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    output = b""
    # Linux reports the end of a terminal's output as an error.
    try:
        while block := os.read(terminal, 65536):
            output += block
            sys.stdout.buffer.write(block)
            sys.stdout.flush()
    except OSError:
        pass
    _, status = os.waitpid(process, 0)
    return output, os.waitstatus_to_exitcode(status)


def last_state(output: str) -> str:
    """The final content of the screen, with colours; of a progress bar, the last state."""
    output = re.sub(r"\x1b\[\?25[lh]", "", output).replace("\r\n", "\n")
    lines: list[str] = []
    for line in output.split("\n"):
        # A progress bar is redrawn from the first column of the line.
        drawn = re.split(r"\r|\x1b\[2K", line)
        lines.append(next((each for each in reversed(drawn) if each), ""))
    return "\n".join(lines)


def picture(command: str, output: str) -> str:
    """The SVG image: the command after a prompt, and its output."""
    console = Console(
        file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True, legacy_windows=False
    )
    console.print(Text.assemble(("$ ", "green"), (command, "bold")))
    console.print(Text.from_ansi(last_state(output).rstrip()))
    svg = console.export_svg(title="Lakefeed", theme=MONOKAI, unique_id="terminal")
    # No external font: the viewer's monospace font is used.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Run the command and write the image; returns the command's exit code."""
    file, *command = arguments
    output, code = run(command)
    Path(file).write_text(picture(" ".join(command), output.decode(errors="replace")))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
