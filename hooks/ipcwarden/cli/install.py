"""`ipcwarden install`: let a bundle or an engine run the hooks."""

from __future__ import annotations

import click

from ipcwarden.cli.changes import (
    bundle_argument,
    carry_out,
    config_option,
    dry_run_option,
    help_if_alone,
    hooks_dir_option,
    json_option,
)
from ipcwarden.registration import interpreter, runtimes
from ipcwarden.registration.engines import Containerd, Crio, Docker, absence
from ipcwarden.registration.entry import CREATION_STAGES, Registration
from ipcwarden.registration.programs import Programs
from ipcwarden.registration.targets import bundle_changes, podman_changes, podman_notes
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from ipcwarden.cli import Settings
    from ipcwarden.registration.changes import Change
    from ipcwarden.registration.runtimes import Runtime

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
_runtime_option = click.option(
    "--runtime",
    metavar="PATH",
    help="The runtime that our wrapper stands before, which nobody but root can replace.  "
    "[default: the one that the engine is configured to run, or the first good one in "
    f"{', '.join(runtimes.DIRECTORIES)}]",
)
_handler_option = click.option(
    "--handler",
    metavar="NAME",
    help="Add a handler of this name instead, for a RuntimeClass, and leave the default one alone.",
)


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group("install", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Register with a runtime or an engine, once a policy is in force.

    Our files are put into /usr/libexec/ipcwarden first, if a package has not: the hook for podman and bundles, and for
    the other engines a wrapper of their runtime too.  Nothing is registered with an interpreter, a runtime or files
    that others than root can write.  Doing it twice changes nothing; doing it with other options replaces the
    registration, and the wrapper, which all engines that run that runtime share.
    """
    help_if_alone(context)


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
@click.option(
    "--precreate/--no-precreate",
    default=True,
    show_default=True,
    help="Decide before the runtime reads config.json, too: limits are then in force from the first moment on.",
)
@_with_options
@click.pass_obj
def podman_command(
    settings: Settings, /, hooks_dir: str | None, precreate: bool, dry_run: bool, as_json: bool, **options: str | None
) -> None:
    """Put the hooks into a hooks.d directory, one file a stage.

    And one into /usr/share/ipcwarden/precreate.d, for podman's own stage before the runtime, with a drop-in that names
    that directory to podman: /etc/containers/containers.conf.d/50-ipcwarden.conf.  --no-precreate does without both.

    podman reads such a directory whenever a container starts, and CRI-O reads the default one.  The drop-in names
    another one to podman, too; without it that is for hooks_dir of containers.conf, or podman's own --hooks-dir.
    """
    programs, registration = _prepare(settings.root, options, precreate=precreate)
    changes = podman_changes(settings.root, hooks_dir, registration, precreate)
    _install(programs, changes, dry_run, as_json, podman_notes(settings.root, hooks_dir, precreate))


@command.command("docker", short_help="Register with Docker, for all containers that are created from now on.")
@config_option
@_runtime_option
@click.option(
    "--default/--no-default",
    "default",
    default=True,
    show_default=True,
    help="Make it the runtime of all containers that name none.",
)
@_with_options
@click.pass_obj
def docker_command(
    settings: Settings,
    /,
    config: str | None,
    runtime: str | None,
    default: bool,
    dry_run: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Add a runtime `ipcwarden` to /etc/docker/daemon.json, and make it the default one.

    All that others wrote there stays as it is, and uninstall puts the former default back.  dockerd reads the file
    when it is reloaded.
    """
    docker = Docker.of(settings.root, config)
    chosen = docker.runtime(runtime, default)
    programs, _ = _prepare(settings.root, options, runtimes.beside(chosen))
    changes = docker.registering(programs.wrapper(chosen), chosen, default)
    _install(programs, changes, dry_run, as_json, [*absence("dockerd", settings.root), *docker.notes(default)])


@command.command("containerd", short_help="Register with containerd's CRI plugin, for Kubernetes' pods.")
@config_option
@_runtime_option
@_handler_option
@click.option(
    "--config-version",
    type=click.IntRange(2, 3),
    help="The version of a configuration that is not there yet.  [default: as containerd --version says]",
)
@_with_options
@click.pass_obj
def containerd_command(
    settings: Settings,
    /,
    config: str | None,
    runtime: str | None,
    handler: str | None,
    config_version: int | None,
    dry_run: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Let the CRI plugin's default handler run our wrapper, in /etc/containerd/config.toml.

    All that others wrote there stays as it is, and uninstall puts the former program back.  containerd reads the file
    when it is restarted.  ctr and nerdctl do not read it: they take the wrapper's path as an option.
    """
    engine = Containerd.of(settings.root, config)
    chosen = engine.runtime(runtime)
    programs, _ = _prepare(settings.root, options, runtimes.beside(chosen))
    changes = engine.registering(programs.wrapper(chosen), handler, config_version)
    _install(programs, changes, dry_run, as_json, [*absence("containerd", settings.root), *engine.notes(handler)])


@command.command("crio", short_help="Register with CRI-O, for Kubernetes' pods.")
@_runtime_option
@_handler_option
@_with_options
@click.pass_obj
def crio_command(
    settings: Settings,
    /,
    runtime: str | None,
    handler: str | None,
    dry_run: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Give CRI-O a runtime `ipcwarden` that is like its default one, and make it the default one.

    That is one file of our own, /etc/crio/crio.conf.d/10-ipcwarden.conf, which CRI-O reads when it is restarted.
    """
    engine = Crio(settings.root)
    chosen = engine.runtime(runtime)
    programs, _ = _prepare(settings.root, options, runtimes.beside(chosen))
    changes = engine.registering(programs.wrapper(chosen), chosen, handler)
    _install(programs, changes, dry_run, as_json, [*absence("crio", settings.root), *engine.notes(handler)])


def _prepare(
    root: str, options: Options, wrapped: Sequence[Runtime] = (), precreate: bool = False
) -> tuple[Programs, Registration]:
    """Refuse to register what would refuse every container: first the policy, then the interpreter, then the files."""
    Site(root, "install").policy()
    chosen = interpreter.choose(options["interpreter"])
    on_error, stage = options["on_error"], options["creation_stage"]
    assert on_error is not None
    assert stage is not None
    registration = Registration(root, chosen.path, on_error, stage, native=bool(wrapped))
    return Programs(root, chosen, registration, wrapped, precreate), registration


def _install(
    programs: Programs, changes: list[Change], dry_run: bool, as_json: bool, notes: Sequence[str] = ()
) -> None:
    pending = programs.pending
    if not dry_run:
        programs.put()
    carry_out(changes, dry_run, as_json, "registered already: nothing to do", pending, notes if changes else ())
