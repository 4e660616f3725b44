"""The rich door: `ipcwarden VERB`, for people; a module a verb, loaded when it is asked for."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from importlib import import_module

import click

import ipcwarden
from ipcwarden.cli import output
from ipcwarden.cli.bug import REPORT, bug
from ipcwarden.errors import UsageError, WardenError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

VERBS = {
    "check": "Check a policy, and say where and what is wrong.",
    "compile": "Put the policy in force.",
    "explain": "Say what the policy would decide on a bundle.",
    "install": "Register the hooks with a runtime or an engine.",
    "uninstall": "Undo what install has done.",
    "show": "Show a running container's limits, usage and objects.",
    "reap": "Free what nobody uses any more in a running container or pod, in place of ipcrm.",
    "scan": "Say what a policy would mean for what runs now.",
    "doctor": "Find what is wrong with the installation.",
    "audit": "Read the audit log.",
    "disable": "Let containers start ungoverned: the kill switch.",
    "enable": "Govern containers that start from now on again.",
    "gc": "Audit and free what containers left whose poststop never came.",
    "sweep": "Make one pass over all containers: for a timer.",
}


@dataclass(frozen=True)
class Settings:
    """What every verb needs to know: the root that all paths are below."""

    root: str


class _Verbs(click.Group):
    # click's own names, given by keyword
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        command = import_module(f"ipcwarden.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read us has had enough
            output.discard()
            ctx.exit(128 + signal.SIGPIPE)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(ipcwarden.__version__, prog_name="ipcwarden")
@click.option(
    "--root",
    default="/",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="Work on what lies below DIR instead of on this host.",
)
@click.pass_context
def cli(context: click.Context, root: str) -> None:
    """Give every container on this host the IPC limits that its policy says, and see what each left behind."""
    context.obj = Settings(root)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(UsageError.exit_code)


def main() -> None:
    """Run the CLI; exit with 0, 1 where something was found, 64 for wrong usage, or the code of the error's class."""
    try:
        output.prepare()
        status = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except WardenError as error:
        _end(str(error) if error.hint or not _is_denied(error) else f"{error} (only root can do this)", error.exit_code)
    except click.ClickException as error:
        _end(_usage(error), UsageError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(128 + signal.SIGINT)
    except Exception as error:  # the last boundary: a bug of ours must not look like something found
        _end(f"{bug(error)} ({REPORT})", WardenError.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


def _end(sentence: str, code: int) -> NoReturn:
    """Say in one line why we end."""
    output.discard()
    try:
        click.echo(f"ipcwarden: {sentence}", err=True)
    except OSError:
        pass  # nobody listens
    sys.exit(code)


def _usage(error: click.ClickException) -> str:
    """Return what click has to say of the arguments as our own errors are: one line, with a hint."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "ipcwarden"
    message = " ".join(error.format_message().split()).removesuffix(".")
    return f"{printable(message[:1].lower() + message[1:])} (hint: {path} --help)"


def _is_denied(error: WardenError) -> bool:
    """Tell whether an error comes down to a permission that an ordinary user lacks."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PermissionError):
        cause = cause.__cause__
    return cause is not None and os.geteuid() != 0
