"""What the columns and rows of docs/compatibility.md are: which test is about which feature, and engines' names."""

from __future__ import annotations

from fnmatch import fnmatchcase

# A test belongs to the first pattern that its name, MODULE::TEST[ID], matches.
_COLUMNS = {
    None: ("test_harness::*", "test_docs::*", "test_distribution::*"),  # of the tests' own tools, and of no engine
    "user namespaces": ("test_userns::*", "*[[]*userns*]", "*[[]*uidmap*]", "*[[]*auto*]"),
    "pods": ("test_pods::*", "test_cri*::*", "*_pod_*", "*_pods_*", "*_pod[[]*", "*_pods[[]*"),
    "facts": ("*facts*", "*explain*"),
    "joiners": ("*join*",),
    "host's namespace": ("*host_ipc*", "*host_s*"),
    "clamped natively": (
        "test_native*::*clamp*",
        "test_wrapper*::*clamp*",
        "*precreate*clamp*",
        "*before_the_runtime*",
    ),
    "native door": ("test_native*::*", "test_wrapper*::*", "*precreate*"),
    "clamped": ("*clamp*", "*put_right*"),
    "requests judged": ("*request*", "*refus*", "*spelling*", "*letter_case*"),
    "limits applied": ("*limits*", "*memory*", "*sysctls_of_others*"),
    "teardown audit": ("*leftovers*", "*drift*", "*audit*", "*end_of_its_own*", "*stop*"),
    "gc": ("*gc*",),
    "show, scan": ("*show*", "test_scan::*"),
    "ways round": ("test_ways_round*::*",),
}
OTHER = "everything else"
COLUMNS = (
    "limits applied",
    "requests judged",
    "clamped",
    "native door",
    "clamped natively",
    "joiners",
    "host's namespace",
    "user namespaces",
    "teardown audit",
    "gc",
    "pods",
    "facts",
    "show, scan",
    "ways round",
    OTHER,
)

# An engine as tests call it -> as people do, with the names of the programs whose versions tell which it was.
ENGINES = {
    "runc": "runc {runc}",
    "crun": "crun {crun}",
    "podman-runc": "podman {podman} with runc",
    "podman-crun": "podman {podman} with crun",
    "rootless-runc": "podman {podman}, rootless, with runc",
    "rootless-crun": "podman {podman}, rootless, with crun",
    "docker": "Docker {dockerd}",
    "ctr": "containerd {containerd}, `ctr`",
    "cri": "containerd {containerd}, CRI",
}


def column(test: str) -> str | None:
    """Return the column of a test (MODULE::TEST[ID]); None if it is about no feature of an engine."""
    for name, patterns in _COLUMNS.items():
        if any(fnmatchcase(test, pattern) for pattern in patterns):
            return name
    return OTHER
