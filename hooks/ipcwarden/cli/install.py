"""`ipcwarden install`: let a bundle or an engine run the hooks."""

from __future__ import annotations

import click

from ipcwarden.cli.changes import bundle_argument, carry_out, dry_run_option, hooks_dir_option, json_option
from ipcwarden.registration import interpreter
from ipcwarden.registration.entry import CREATION_STAGES, Registration
from ipcwarden.registration.programs import Programs
from ipcwarden.registration.targets import bundle_changes, podman_changes
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ipcwarden.cli import Settings
    from ipcwarden.registration.changes import Change

    Options: TypeAlias = dict[str, str | None]
    Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

_OPTIONS = (
    click.option(
        "--interpreter",
        metavar="PATH",
        help="The Python that runs the hooks, 3.11 or later, which nobody but root can replace.  "
        f"[default: the first good one of {', '.join(interpreter.CANDIDATES)}]",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["refuse", "allow"]),
        default="refuse",
        show_default=True,
        help="What happens to a container when the host is at fault: no policy in force, a full disk.",
    ),
    click.option(
        "--creation-stage",
        type=click.Choice(CREATION_STAGES),
        default=CREATION_STAGES[0],
        show_default=True,
        help="prestart is for engines that do not know createRuntime.",
    ),
    dry_run_option,
    json_option,
)


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group("install")
def command() -> None:
    """Register the hooks with a runtime or an engine, once a policy is in force.

    The hook's files are put into /usr/libexec/ipcwarden first, if a package has not.  Nothing is registered with an
    interpreter or files that others than root can write.  Doing it twice changes nothing; doing it with other options
    replaces the registration.
    """


@command.command("bundle", short_help="Register with one bundle, for runc and crun.")
@bundle_argument
@_with_options
@click.pass_obj
def bundle_command(settings: Settings, /, bundle: str, dry_run: bool, as_json: bool, **options: str | None) -> None:
    """Put the hooks into the config.json of the bundle DIR.

    Then `runc run -b DIR ID` and `crun run -b DIR ID` just work.  All that others wrote there stays as it is.
    """
    programs, registration = _prepare(settings.root, options)
    _install(programs, bundle_changes(bundle, registration), dry_run, as_json)


@command.command("podman", short_help="Register with podman, for all containers.")
@hooks_dir_option
@_with_options
@click.pass_obj
def podman_command(
    settings: Settings, /, hooks_dir: str | None, dry_run: bool, as_json: bool, **options: str | None
) -> None:
    """Put the hooks into a hooks.d directory, one file a stage.

    podman reads it whenever a container starts.  A directory other than the default one has to be named to podman: in
    hooks_dir of containers.conf, or with its own --hooks-dir.
    """
    programs, registration = _prepare(settings.root, options)
    _install(programs, podman_changes(settings.root, hooks_dir, registration), dry_run, as_json)


def _prepare(root: str, options: Options) -> tuple[Programs, Registration]:
    """Refuse to register what would refuse every container: first the policy, then the interpreter, then the files."""
    Site(root, "install").policy()
    chosen = interpreter.choose(options["interpreter"])
    on_error, stage = options["on_error"], options["creation_stage"]
    assert on_error is not None
    assert stage is not None
    return Programs(root, chosen), Registration(root, chosen.path, on_error, stage)


def _install(programs: Programs, changes: list[Change], dry_run: bool, as_json: bool) -> None:
    pending = programs.pending
    if not dry_run:
        programs.put()
    carry_out(changes, dry_run, as_json, "registered already: nothing to do", programs=pending)
