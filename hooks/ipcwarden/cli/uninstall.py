"""`ipcwarden uninstall`: let a bundle or an engine run the hooks no more."""

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
from ipcwarden.registration.engines import Containerd, Crio, Docker
from ipcwarden.registration.targets import bundle_changes, podman_changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings

_OTHERWISE = "not registered: nothing to do"


@click.group("uninstall", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Undo what install has done.

    The registration goes; our files in /usr/libexec/ipcwarden stay, because every container that runs now still needs
    them: the hook for its poststop, and a wrapper for all that Docker or containerd does to it.  When none is left that
    was started with them (ipcwarden gc --release --dry-run lists them), that directory can be removed, or the package
    that it came with.
    """
    help_if_alone(context)


@command.command("bundle", short_help="Take the hooks out of one bundle.")
@bundle_argument
@dry_run_option
@json_option
@click.pass_obj
def bundle_command(settings: Settings, bundle: str, dry_run: bool, as_json: bool) -> None:  # noqa: ARG001  (click gives every verb the settings)
    """Take the hooks out of the config.json of the bundle DIR: it is then what it was before.

    Containers that run from it keep their poststop: runc and crun noted it when they were created.
    """
    carry_out(bundle_changes(bundle, None), dry_run, as_json, _OTHERWISE)


@command.command("podman", short_help="Take the hooks away from podman.")
@hooks_dir_option
@dry_run_option
@json_option
@click.pass_obj
def podman_command(settings: Settings, hooks_dir: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove our files from podman's hooks.d directories.

    These are the default one and those that a containers.conf, one of its drop-ins or our own drop-in names; with
    --hooks-dir that one alone.  A directory that only podman's own option --hooks-dir names has to be named here, too.

    Containers that run keep their poststop: podman noted it when they started.  Files of the same name that do not
    register ipcwarden are left alone.
    """
    carry_out(podman_changes(settings.root, hooks_dir, None), dry_run, as_json, _OTHERWISE)


@command.command("docker", short_help="Take our runtime away from Docker.")
@config_option
@click.option(
    "--keep-runtime",
    is_flag=True,
    help="Leave the runtime to the containers that were created with it, and take only the default away.",
)
@dry_run_option
@json_option
@click.pass_obj
def docker_command(settings: Settings, config: str | None, keep_runtime: bool, dry_run: bool, as_json: bool) -> None:
    """Take the runtime out of /etc/docker/daemon.json: it is then what it was before.

    dockerd notices when it is restarted.  It would not start a container again whose runtime is gone: while there are
    such, nothing is changed.
    """
    changes = Docker.of(settings.root, config).unregistering(keep_runtime)
    notes = ["tell dockerd: systemctl restart docker (a reload keeps what is gone from the file)"] if changes else []
    carry_out(changes, dry_run, as_json, _OTHERWISE, notes=notes)


@command.command("containerd", short_help="Take our wrapper away from containerd's CRI plugin.")
@config_option
@dry_run_option
@json_option
@click.pass_obj
def containerd_command(settings: Settings, config: str | None, dry_run: bool, as_json: bool) -> None:
    """Take our wrapper out of /etc/containerd/config.toml: it is then what it was before.

    containerd notices when it is restarted.  Pods that run keep the wrapper: containerd noted it when they were made.
    """
    changes = Containerd.of(settings.root, config).unregistering()
    notes = ["tell containerd: systemctl restart containerd"] if changes else []
    carry_out(changes, dry_run, as_json, _OTHERWISE, notes=notes)


@command.command("crio", short_help="Take our runtime away from CRI-O.")
@dry_run_option
@json_option
@click.pass_obj
def crio_command(settings: Settings, dry_run: bool, as_json: bool) -> None:
    """Remove /etc/crio/crio.conf.d/10-ipcwarden.conf.

    CRI-O notices when it is restarted.
    """
    changes = Crio(settings.root).unregistering()
    notes = ["tell CRI-O: systemctl restart crio"] if changes else []
    carry_out(changes, dry_run, as_json, _OTHERWISE, notes=notes)
