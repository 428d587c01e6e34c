"""The solostack command: every verb mounted on one typer application, and the way in.

Owns the list of commands. Must not know what they do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from solostack.cli import (
    certificate_commands,
    cloud_commands,
    demo_command,
    diagram_command,
    firewall_commands,
    guard_commands,
    inventory_commands,
    lab_commands,
    render,
    site_commands,
    storage_commands,
    user_commands,
)
from solostack.cli.edge import guard
from solostack.cli.examples import examples
from solostack.errors import ExitCode, UsageError

PROGRAM = "solostack"
COMPLETION_VARIABLE = "_SOLOSTACK_COMPLETE"


def run() -> None:
    """Run the command line of this process and end it; the console script."""
    sys.exit(guard(main_inner, sys.argv[1:]))


def main_inner(argv: Sequence[str]) -> int:
    """Run argv (without the program's name) and return the exit status.

    Failures are raised: UsageError for a wrong command line, any other SolostackError, and
    KeyboardInterrupt.
    """
    command = typer.main.get_command(build_app())
    if COMPLETION_VARIABLE in os.environ:
        command.main(list(argv), prog_name=PROGRAM)
    # Not command.main(): that one turns an interrupt into an ordinary exit status.
    try:
        with command.make_context(PROGRAM, list(argv) or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.Abort as error:
        sys.stderr.write("\n")
        raise UsageError("stopped at a question; nothing was changed") from error
    except typer.TyperException as error:
        return _refuse(error)
    return int(ExitCode.OK)


def build_app() -> typer.Typer:
    """Build the whole command tree."""
    app = typer.Typer(
        help=f"{_SUMMARY}\n\n{_START}",
        epilog=examples(
            "solostack init --address 203.0.113.2 --nic eth0 --block 198.51.100.0/28",
            "solostack check && solostack plan",
            "solostack COMMAND --help",
        ),
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_root)
    site_commands.register(app)
    cloud_commands.register(app)
    inventory_commands.register(app)
    diagram_command.register(app)
    firewall_commands.register(app)
    demo_command.register(app)
    app.add_typer(certificate_commands.certificates_app)
    app.add_typer(user_commands.users_app)
    app.add_typer(guard_commands.guard_app)
    app.add_typer(storage_commands.storage_app)
    app.add_typer(lab_commands.lab_app)
    return app


_SUMMARY = "One physical host with one network card becomes a real multi-node OpenStack cloud."
_START = "Write a site.yaml with init, look at check and plan, then run up."


def _show_version(wanted: bool) -> None:  # noqa: FBT001 (typer calls it so)
    if wanted:
        import importlib.metadata

        render.show(f"{PROGRAM} {importlib.metadata.version('solostack')}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    del version


def _refuse(error: typer.TyperException) -> int:
    message = error.format_message()
    if message.startswith("Usage:"):
        # A group without a command: the message is its whole help.
        render.show_error_text(message)
        return int(ExitCode.USAGE)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    raise UsageError(message, hint=f"see {path} --help") from error
