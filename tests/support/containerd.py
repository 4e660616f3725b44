"""containerd and its client ctr, with storage, configuration and state of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.daemon import ENVIRONMENT, Daemon, program
from support.image import IMAGE, INFRA, INFRA_COMMAND, write_archive
from support.shell import run, text

if TYPE_CHECKING:
    from pathlib import Path

    from support.shell import Result

# No network (pods have the machine's), nothing streamed; scores that root may set without CAP_SYS_RESOURCE.
_CONFIG = """\
# Everything below one directory.
version = 2
root = "{home}/data"
state = "{home}/run"

[grpc]
  address = "{home}/socket"

[plugins."io.containerd.internal.v1.opt"]
  path = "{home}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{infra}"
  restrict_oom_score_adj = true
  disable_tcp_service = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{home}/cni/bin"
    conf_dir = "{home}/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"  # as containerd's own default
    pod_annotations = ["org.example/*"]
    container_annotations = ["org.example/*"]
"""


class Containerd:
    """One containerd; ctr and the CRI are two ways to talk to it."""

    def __init__(self, home: Path, rootfs: Path) -> None:
        home.mkdir(parents=True)
        self.address = home / "socket"
        self.config = home / "config.toml"  # a test may edit it, and call `restart`
        self._settings = _CONFIG.format(home=home, infra=INFRA)
        self.config.write_text(self._settings, encoding="utf-8")
        self._daemon = Daemon([program("containerd"), f"--config={self.config}"], home / "log", self._serves)
        self._daemon.start()
        for name, command in ((IMAGE, ()), (INFRA, INFRA_COMMAND)):
            archive = write_archive(home / "image.tar", rootfs, name, command)
            self("--namespace=k8s.io", "image", "import", archive).check()

    def __call__(self, *arguments: str | Path) -> Result:
        """Run a ctr command."""
        return run(program("ctr"), f"--address={self.address}", *arguments, env=ENVIRONMENT)

    def restart(self) -> None:
        """Stop containerd, which its containers do not notice, and start it."""
        self._daemon.stop()
        self._daemon.start()

    def reset(self) -> None:
        """Undo what a test did to the configuration."""
        if text(self.config) != self._settings:
            self.config.write_text(self._settings, encoding="utf-8")
            self.restart()

    def close(self) -> None:
        """End containerd."""
        self._daemon.stop()

    def _serves(self) -> bool:
        return self("version").code == 0
