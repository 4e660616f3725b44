"""Pods over containerd's CRI, as a kubelet makes them; there is no kubelet.

Fields are those of the Kubernetes project's `runtime.v1`, by number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from support.cgroup import limit_memory
from support.engine import Ended, Running, fresh
from support.image import IMAGE, INFRA
from support.protobuf import mapping, message, parse, parse_mapping
from support.shell import DEADLINE, Result, text, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from support.bundle import Options
    from support.containerd import Containerd
    from support.warden import Warden

_POD, _CONTAINER, _NODE = 0, 1, 2  # NamespaceMode: whose namespace it is
_EXITED = 2  # ContainerState
# A kubelet says these for every container that does not ask for `procMount: Unmasked`.
_READONLY = ("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class CriError(Exception):
    """The CRI refused something, with what it said."""


class Cri:
    """The CRI of a containerd."""

    def __init__(self, containerd: Containerd, directory: Path, *, cgroup: str) -> None:
        self.containerd = containerd
        self.directory = directory
        self.cgroup = cgroup
        self._channel: grpc.Channel | None = None
        self._pods: list[Pod] = []
        self._serve()

    def call(self, method: str, *fields: Any, service: str = "Runtime") -> dict[int, list[Any]]:
        """Call a method and return its answer.  Raises CriError."""
        assert self._channel is not None
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        ask = self._channel.unary_unary(f"/runtime.v1.{service}Service/{method}")
        try:
            answer = ask(message(*fields), timeout=DEADLINE, wait_for_ready=True)
        except grpc.RpcError as error:
            raise CriError(f"{method}: {error.details()}") from error
        return parse(answer)

    def govern(self, warden: Warden, *options: str) -> None:
        """Make the wrapper the runtime of pods from now on: of all, or as `options` of install say."""
        warden.install_containerd(self.containerd.config, *options)
        self.restart()

    def restart(self) -> None:
        """Restart containerd; pods that run go on."""
        self._hang_up()
        self.containerd.restart()
        self._serve()

    def pod(
        self,
        *,
        ipc: str = "private",
        sysctl: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        namespace: str = "default",
        memory: int = 0,
        handler: str = "",
    ) -> Pod:
        """Run a pod's sandbox in the host's IPC namespace ("host") or one of its own.  Raises CriError.

        `memory` limits the pod: its cgroup, which a kubelet makes, and what the CRI is told of it.
        """
        name = fresh("pod")
        uid = f"uid-{name}"
        logs = self.directory / name
        logs.mkdir()
        if memory:
            limit_memory(f"{self.cgroup}/{name}", memory)
        modes = message((1, _NODE), (2, _CONTAINER), (3, _NODE if ipc == "host" else _POD))
        linux = message(
            (1, f"{self.cgroup}/{name}"),
            (2, message((1, modes))),
            *mapping(3, sysctl or {}),
            *([(5, message((4, memory)))] if memory else []),
        )
        config = message(
            (1, message((1, name), (2, uid), (3, namespace))),
            (3, str(logs)),
            *mapping(6, _labels(name, uid, namespace)),
            *mapping(7, annotations or {}),
            (8, linux),
        )
        answer = self.call("RunPodSandbox", (1, config), (2, handler))
        pod = Pod(self, answer[1][0].decode(), name, config, modes, logs)
        self._pods.append(pod)
        return pod

    def close(self) -> None:
        """Remove every pod, and govern none any more."""
        while self._pods:
            self._pods.pop().remove()
        self._hang_up()
        self.containerd.reset()

    def _serve(self) -> None:
        """Connect, and wait until pods can be made of the images that ctr imported."""
        self._channel = grpc.insecure_channel(f"unix:{self.containerd.address}")
        until(lambda: self._knows(IMAGE) and self._knows(INFRA), "the CRI to know what ctr imported")

    def _knows(self, image: str) -> bool:
        try:
            return 1 in self.call("ImageStatus", (1, message((1, image))), service="Image")
        except CriError as error:
            if "not initialized yet" in str(error):
                return False
            raise

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


class Pod:
    """A sandbox, which owns the namespaces, and what runs in it."""

    def __init__(self, cri: Cri, identity: str, name: str, config: bytes, modes: bytes, logs: Path) -> None:
        self.cri = cri
        self.id = identity
        self.name = name
        self._config = config
        self._modes = modes
        self._logs = logs
        self._removed = False

    @property
    def info(self) -> dict[str, Any]:
        """What containerd tells of the sandbox in `crictl inspectp`: its pid and its config.json among it."""
        answer = self.cri.call("PodSandboxStatus", (1, self.id), (2, 1))
        found: dict[str, Any] = json.loads(parse_mapping(answer[2])["info"])
        return found

    @property
    def pid(self) -> int:
        """The sandbox' process, as the host numbers it."""
        return int(self.info["pid"])

    @property
    def namespace(self) -> Path:
        """The IPC namespace that all of the pod live in."""
        return Path(f"/proc/{self.pid}/ns/ipc")

    def create(self, *args: str, **options: Unpack[Options]) -> CriContainer:
        """Create a container that waits to be started.  Raises CriError."""
        name = fresh("container")
        unknown = set(options) - {"annotations", "memory", "writable_proc_sys"}
        assert not unknown, f"in a pod, nobody but the pod can ask for {unknown}"
        paths = () if options.get("writable_proc_sys") else _READONLY
        memory = options.get("memory", 0)
        linux = message(
            *([(1, message((4, memory)))] if memory else []),
            (2, message((3, self._modes), *((14, path) for path in paths))),
        )
        config = message(
            (1, message((1, name))),
            (2, message((1, IMAGE))),
            *((3, arg) for arg in args),
            *mapping(10, options.get("annotations", {})),
            (11, f"{name}.log"),
            (15, linux),
        )
        answer = self.cri.call("CreateContainer", (1, self.id), (2, config), (3, self._config))
        return CriContainer(self.cri, answer[1][0].decode(), self._logs / f"{name}.log")

    def start(self, *args: str, **options: Unpack[Options]) -> CriContainer:
        """Start a container that stays.  Raises CriError."""
        container = self.create(*args, **options)
        self.cri.call("StartContainer", (1, container.id))
        return container

    def run(self, *args: str, **options: Unpack[Options]) -> Ended:
        """Run a container to its end and remove it."""
        container = self.start(*args, **options)
        code = container.wait()
        output = container.output()
        container.remove()
        return Ended(args, code, output, container.output("stderr"), container.id, None)

    def stop(self) -> None:
        """Stop the sandbox and all that runs in it."""
        self.cri.call("StopPodSandbox", (1, self.id))

    def remove(self) -> None:
        """Stop and remove all of the pod, which may be done twice."""
        if not self._removed:
            self.stop()
            self.cri.call("RemovePodSandbox", (1, self.id))
            self._removed = True


class CriContainer(Running):
    """A container of a pod."""

    def __init__(self, cri: Cri, identity: str, log: Path) -> None:
        super().__init__(identity)
        self._cri = cri
        self._log = log

    @property
    def pid(self) -> int:
        """The first process, as containerd tells it."""
        answer = self._cri.call("ContainerStatus", (1, self.id), (2, 1))
        return int(json.loads(parse_mapping(answer[2])["info"])["pid"])

    @property
    def ipc(self) -> str:
        """The namespace's path; the CRI lets only containers of one pod share."""
        return str(self.namespace)

    def output(self, stream: str = "stdout") -> str:
        """Read the log that the CRI writes: time, stream, whether the line is Full or Partial, text."""
        lines = [line.split(" ", 3) for line in text(self._log).splitlines()]
        return "".join(words[3] + "\n" * (words[2] == "F") for words in lines if words[1] == stream)

    def execute(self, *args: str) -> Result:
        """Call ExecSync."""
        answer = self._cri.call("ExecSync", (1, self.id), *((2, arg) for arg in args), (3, int(DEADLINE)))
        stdout, stderr = (b"".join(answer.get(number, [])).decode() for number in (1, 2))
        return Result(args, answer.get(3, [0])[0], stdout, stderr)

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        until(lambda: self._status().get(3, [0])[0] == _EXITED, f"the end of {self.id}")
        code: int = self._status().get(7, [0])[0]
        return code

    def stop(self) -> None:
        """Kill it, at which containerd deletes it at the runtime."""
        self._cri.call("StopContainer", (1, self.id))

    def remove(self) -> None:
        """Kill it if it lives, and delete it, which may be done twice."""
        self._cri.call("RemoveContainer", (1, self.id))

    def _status(self) -> dict[int, list[Any]]:
        return parse(self._cri.call("ContainerStatus", (1, self.id))[1][0])


def _labels(name: str, uid: str, namespace: str) -> dict[str, str]:
    """Return what a kubelet labels every pod with."""
    return {
        "io.kubernetes.pod.name": name,
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.pod.uid": uid,
    }
