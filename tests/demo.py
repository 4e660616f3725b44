"""`make demo`: the main job, shown with real containers.  Every line after a `$` is run as it stands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from support import residue
from support.bundle import make_bundle, make_rootfs
from support.podman import IMAGE, Podman
from support.shell import REPOSITORY

ROOT = Path("/run/host")  # what would be / on a real host: tests/support/machine gives us a /run of our own
IPCWARDEN = f"ipcwarden --root {ROOT}"
POLICY = """\
version: 1
profiles:
  team:
    extends: baseline
    sysctls:
      kernel.shmmax: {default: 64MiB, max: 1GiB}  # may ask for up to max
      fs.mqueue.queues_max: 32                    # this and nothing else
    on_violation: refuse
    help: "ask #platform for more"
  lenient: {extends: team, on_violation: clamp}
rules:                                            # the first that matches
  - {name: batch jobs, when: {name: "batch-*"}, profile: lenient}
  - {name: everything else, profile: team}
"""
LOOK = ["cat", "/proc/sys/kernel/shmmax", "/proc/sys/fs/mqueue/queues_max"]
LEAVE = [
    "leave",
    "--shm=1",
    "--shm-key=0x4711",
    "--shm-size=8388608",
    "--sem=2",
    "--sem-size=8",
    "--msg=1",
    "--mqueue=1",
]
HUGE = {"kernel.shmmax": "68719476736"}


def say(text: str) -> None:
    """Print a heading."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def show(command: str, *, fails: bool = False) -> None:
    """Print a command line, run it, and print what it says; stop where it does not end as it should."""
    print(f"$ {command}", flush=True)
    done = subprocess.run(
        shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    lines = done.stdout.replace(str(REPOSITORY), "").splitlines()
    print(*(f"  {line.rstrip()}" for line in lines or ["(nothing)"]), sep="\n", flush=True)
    if (done.returncode != 0) is not fails:
        sys.exit(f"demo: that ended with {done.returncode}")


def prepare(lab: Path, rootfs: Path) -> Podman:
    """Make bundles under /run, and let `ipcwarden` and a podman of our own be found by their names."""
    podman = Podman("runc", lab / "podman", rootfs, cgroup=f"/{lab.name}")
    programs = lab / "bin"
    programs.mkdir()
    (programs / "podman").write_text(podman.script(ROOT / "usr/share/containers/oci/hooks.d"), encoding="utf-8")
    (programs / "podman").chmod(0o755)
    os.environ["PATH"] = f"{programs}:{REPOSITORY}/.venv/bin:{os.environ['PATH']}"
    os.environ.setdefault("COLUMNS", "110")  # no terminal is there to say how wide it is
    bundles: dict[str, tuple[list[str], dict[str, str]]] = {
        "web": (LOOK, {}),
        "greedy": (LOOK, HUGE),
        "batch-1": (LOOK, HUGE),
        "leaky": (LEAVE, {}),
    }
    for name, (arguments, sysctl) in bundles.items():
        make_bundle(Path("/run/bundles") / name, rootfs, arguments, cgroup=f"/{lab.name}/{name}", sysctl=sysctl)
    (ROOT / "etc/ipcwarden").mkdir(parents=True)
    (ROOT / "etc/ipcwarden/policy.yaml").write_text(POLICY, encoding="utf-8")
    os.chdir("/run")
    return podman


def tell() -> None:
    """Tell the story."""
    say("1. One policy for every runtime, checked and put in force")
    show(f"cat {ROOT}/etc/ipcwarden/policy.yaml")
    show(f"{IPCWARDEN} compile")

    say("2. The hooks registered: in podman once for all containers, in a bare bundle's config.json for that one")
    show(f"{IPCWARDEN} install podman")
    show(f"{IPCWARDEN} install bundle bundles/web")
    for name in ("greedy", "batch-1", "leaky"):
        subprocess.run([*IPCWARDEN.split(), "install", "bundle", f"bundles/{name}"], check=True, capture_output=True)

    say("3. A container starts with the limits that the policy says: shmmax 64 MiB, 32 POSIX queues")
    show("runc run --bundle bundles/web web")
    show("crun run --bundle bundles/web web")
    show(f"podman run --rm --name web {IMAGE} {' '.join(LOOK)}")

    say("4. A container that asks for more than it may, here a shmmax of 64 GiB, does not start")
    show("runc run --bundle bundles/greedy greedy", fails=True)
    show("crun run --bundle bundles/greedy greedy", fails=True)
    show(f"podman run --rm --name greedy --sysctl kernel.shmmax=68719476736 {IMAGE} true", fails=True)
    say("   crun keeps a hook's words to itself; the audit log does not")
    show(f"{IPCWARDEN} audit --event refused")

    say("5. Where the rule says clamp, it starts with what is allowed")
    say("   runc writes the request after our first hook; poststart puts it right before the first instruction")
    show("runc run --bundle bundles/batch-1 batch-1")
    show(f"{IPCWARDEN} audit --container batch-1")

    say("6. A container that leaves objects of all four kinds behind")
    show("runc run --bundle bundles/leaky leaky")
    show(f"{IPCWARDEN} audit --container leaky")

    say("7. Nothing of any of them is left: no pinned namespace")
    show(f"ls -A {ROOT}/run/ipcwarden/pins")


def main() -> None:
    """Prepare, tell, and leave nothing."""
    lab = Path(os.environ["IPCWARDEN_LAB"])
    rootfs = make_rootfs(lab / "rootfs")
    before = residue.look()
    podman = prepare(lab, rootfs)
    try:
        tell()
    finally:
        podman.close()
    residue.nothing_since(before)
    say("All of this ran in namespaces of its own; this machine's limits and objects are as they were.")


if __name__ == "__main__":
    main()
