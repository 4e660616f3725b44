"""What the columns and rows of docs/compatibility.md are: which test is about which feature, and engines' names."""

from __future__ import annotations

from fnmatch import fnmatchcase

# A test belongs to the first pattern that its name, MODULE::TEST[ID], matches.
_COLUMNS: tuple[tuple[str | None, tuple[str, ...]], ...] = (
    (None, ("test_harness::*", "test_docs::*", "test_distribution::*")),  # of the tests' own tools, and of no engine
    ("ways round", ("test_ways_round*::*", "*imitate*", "*not_believed*", "*cannot_hide*")),
    ("installed", ("test_install::*",)),
    ("facts", ("test_facts::*", "*facts*", "*explain*", "*records_name*")),
    ("clamped natively", ("test_native::*applies*", "*cri_pod_is_clamped*")),
    ("host's namespace", ("*host_ipc*", "*hosts_namespace*", "*host_s_namespace*")),
    ("native door", ("test_native::*",)),
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
    "installed",
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
    "containerd": "containerd {containerd}",
    "cri": "containerd {containerd} by CRI, with runc {runc}",
}


def column(test: str) -> str | None:
    """Return the column of a test (MODULE::TEST[ID]); None if it is about no feature of an engine."""
    for name, patterns in _COLUMNS:
        if any(fnmatchcase(test, pattern) for pattern in patterns):
            return name
    return OTHER
