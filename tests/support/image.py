"""Images that no registry gave: an archive as `docker save` writes it, which every engine loads."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IMAGE = "registry.example/tests/payload:1"
INFRA = "registry.example/tests/infra:1"  # of the container that holds a pod's namespaces
INFRA_COMMAND = ("sleep", "1000000")


def write_archive(archive: Path, rootfs: Path, name: str, command: Sequence[str] = ()) -> Path:
    """Write a root filesystem as an image of one layer."""
    layer = _tar(rootfs)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": list(command) or None},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for member, content in (
            ("layer.tar", layer),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive


def _tar(rootfs: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(rootfs, ".")
    return content.getvalue()
