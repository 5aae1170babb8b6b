"""The command line: `gradrace COMMAND`, one module a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from gradrace.cli import capabilities, gate, kinks, listing, report, trace, verifying, work
from gradrace.errors import UsageError

COMMANDS = (listing, verifying, kinks, capabilities, work, trace, gate, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 a check failed, 2 bad input, 130 interrupted, 141 the
    reader has gone; the gate has more."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except UsageError as error:
        print(f"gradrace: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gradrace: interrupted; nothing is left behind", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 141  # as a shell counts a SIGPIPE: what was not printed may have been a failure


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gradrace", description="Formulations race; gradients must tie.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        command = commands.add_parser(module.NAME, help=module.HELP, description=module.HELP)
        command.set_defaults(command=module.run)
        module.add_arguments(command)
    return parser
