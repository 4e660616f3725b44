"""What the columns and rows of docs/compatibility.md are: which test is about which feature, and engines' names."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# A test belongs to the first pattern that its name, MODULE::TEST[ID], matches.
_COLUMNS: tuple[tuple[str | None, tuple[str, ...]], ...] = (
    (None, ("test_harness::*", "test_docs::*", "test_distribution::*")),  # of the tests' own tools, and of no engine
    ("ways round", ("test_ways_round*::*", "*imitate*", "*not_believed*", "*cannot_hide*")),
    ("install, doctor", ("test_install*::*", "test_doctor*::*")),
    ("facts", ("test_facts::*", "*facts*", "*explain*", "*records_name*")),
    ("clamped natively", ("test_native::*applies*", "*cri_pod_is_clamped*")),
    ("host's namespace", ("*host_ipc*", "*hosts_namespace*", "*host_s_namespace*")),
    ("native door", ("test_native::*", "*precreate*")),
    ("pods", ("test_pods::*", "test_cri::*", "*_pod_*", "*_pods_*", "*_pod[[]*", "*_pods[[]*")),
    ("show, scan", ("*show*", "test_scan::*")),
    ("user namespaces", ("test_userns::*", "*[[]*userns*]", "*[[]*uidmap*]")),
    ("joiners", ("*join*",)),
    ("clamped", ("*clamp*", "*put_right*")),
    ("requests judged", ("*request*", "*refus*", "*spelling*", "*letter_case*")),
    ("limits applied", ("*limits*", "*memory*", "*sysctls_of_others*")),
    ("teardown audit", ("*leftovers*", "*drift*")),
    ("gc", ("*gc*",)),
)
OTHER = "everything else"
COLUMNS = (
    "limits applied",
    "requests judged",
    "clamped",
    "native door",
    "clamped natively",
    "joiners",
    "pods",
    "host's namespace",
    "user namespaces",
    "ways round",
    "facts",
    "teardown audit",
    "gc",
    "show, scan",
    "install, doctor",
    OTHER,
)

# An engine as tests call it -> as people do, with the names of the programs whose versions tell which it was.
ENGINES = {
    "runc": "runc {runc}",
    "crun": "crun {crun}",
    "native-runc": "runc {runc} by `ipcwarden-runc`",
    "native-crun": "crun {crun} by `ipcwarden-crun`",
    "podman-runc": "podman {podman} with runc {runc}",
    "podman-crun": "podman {podman} with crun {crun}",
    "rootless-runc": "podman {podman}, rootless, with runc {runc}",
    "rootless-crun": "podman {podman}, rootless, with crun {crun}",
    "docker": "Docker {dockerd} with runc {runc}",
    "ctr": "containerd {containerd} by `ctr`, with runc {runc}",
    "cri": "containerd {containerd} by CRI, with runc {runc}",
}

# Engine, program, beginning of its version, tests that fail with it by its own fault -> what the document says of it.
KNOWN = {
    ("ctr", "containerd", "1.7.", "*[[]ctr-userns*]"): (
        "containerd 1.7 calls the runc that it finds by itself where a container has a user namespace, whatever "
        "`--runc-binary` or `BinaryName` say: such a container is not governed. See "
        "[containerd issue 11480](https://github.com/containerd/containerd/issues/11480)."
    ),
}


def known(test: str, engine: str, versions: Mapping[str, str]) -> str | None:
    """Return what is known of a test that fails with an engine in one of `versions`; None if it has to pass."""
    for (name, program, beginning, pattern), said in KNOWN.items():
        if name == engine and versions.get(program, "").startswith(beginning) and fnmatchcase(test, pattern):
            return said
    return None


def column(test: str) -> str | None:
    """Return the column of a test (MODULE::TEST[ID]); None if it is about no feature of an engine."""
    for name, patterns in _COLUMNS:
        if any(fnmatchcase(test, pattern) for pattern in patterns):
            return name
    return OTHER
