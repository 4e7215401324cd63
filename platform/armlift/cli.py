"""The command line: `armlift`.

Sub-commands are Typer apps announced under the entry-point group `armlift.commands`; those of the core are
listed here. Modules of commands import what they need inside the commands, so that `armlift --help` answers
at once.

Exit codes: 0 fine, 1 the answer is no, 2 the input is wrong (one line on stderr, no traceback).
"""

import os
import sys
from importlib.metadata import entry_points

import typer

from armlift import processes
from armlift.commands import (
    archives,
    capacity,
    data,
    definitions,
    evaluations,
    explain,
    imports,
    items,
    keys,
    labs,
    ope,
    plans,
    replays,
    reports,
    serving,
    simulations,
)
from armlift.errors import ArmliftError, InputError

GROUP = "armlift.commands"
SHARED = "train"
"""The command that several processes may run together."""
STOPPED = 130
"""The exit code after Ctrl-C, as shells have it."""


def build() -> typer.Typer:
    """Put the commands together: the core's, then those of other packages."""
    app = typer.Typer(
        name="armlift",
        help="Route users to recommender arms, stream what they do, and read which arm lifts engagement.",
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for part in (
        labs.app, definitions.app, explain.app, replays.app, reports.app, simulations.app, plans.app,
        imports.app, evaluations.app, ope.app, data.app, serving.app, keys.app, items.app, archives.app,
        capacity.app,
    ):  # fmt: skip
        app.add_typer(part)
    for entry in entry_points(group=GROUP):
        app.add_typer(entry.load())
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and give its exit code; whatever armlift raises on purpose becomes one line."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if processes.count() > 1 and given[:1] != [SHARED]:
            raise InputError(
                f"WORLD_SIZE: {processes.count()} processes run this, must be 1; {SHARED} runs in more"
            )
        # Whoever asks for nothing is shown what there is to ask for.
        code = build()(given or ["--help"], standalone_mode=False, prog_name="armlift")
        sys.stdout.flush()
    except typer.Exit as error:
        return error.exit_code
    except typer.TyperException as error:
        return _complain(_usage_complaint(error))
    except ArmliftError as error:
        return _complain(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = STOPPED
    except (BrokenPipeError, SystemExit) as error:
        # Typer makes a SystemExit(1) of a broken pipe; any other is a command's own.
        if isinstance(error, SystemExit) and error.code != 1:
            raise
        # The reader of our output left, as `head` does; Python must not complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _complain(f"{error.filename or 'system'}: {error.strerror or error}")
    except Exception as error:
        line = _database_complaint(error)
        if line is None:
            raise
        return _complain(line)
    if code == STOPPED:
        print("armlift: stopped; start the same command again to go on", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _complain(text: str) -> int:
    print(f"armlift: {' '.join(text.split())}", file=sys.stderr)
    return 2


def _usage_complaint(error: typer.TyperException) -> str:
    """Say what is wrong with the words of a command: the option, its value, and what it must be."""
    from pydantic import ValidationError

    from armlift.complaints import first_complaint

    cause, parameter = error.__cause__, getattr(error, "param", None)
    if isinstance(cause, ValidationError) and parameter is not None:
        return f"{parameter.get_error_hint().strip(chr(39))}: {first_complaint(cause, None, None).text}"
    context = getattr(error, "ctx", None)
    hint = f"; see `{context.command_path} --help`" if context is not None else ""
    return error.format_message().rstrip(".") + hint


def _database_complaint(error: Exception) -> str | None:
    """Put a database driver's error into one line; None for anything else, which is ours to mend."""
    if "sqlalchemy" not in sys.modules:
        return None
    from sqlalchemy.exc import DatabaseError, OperationalError

    if isinstance(error, OperationalError):
        return f"database: {error.orig}; nothing was lost, start the same command again"
    # A file that is damaged; a subclass, such as a constraint's, comes from a statement of ours.
    return f"database: {error.orig}" if type(error) is DatabaseError else None
