"""RLIMIT_MSGQUEUE through the hooks alone: lowered at creation, and again at poststart where the runtime was later."""

from __future__ import annotations

from ipcwarden.host.rlimits import lower_msgqueue, msgqueue_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.plan import Rlimit


def limit_queues(limit: Rlimit | None, pid: int, enforcing: bool, runtime: str | None) -> dict[str, Document]:
    """Lower a new process' limit to what was decided; return what entry and record have to say of it, if anything.

    Raises `ApplyError`.
    """
    if limit is None:
        return {}
    # runc gives what config.json asks for after this hook, and without CAP_SYS_RESOURCE could not give more than is
    # left by then: there it is poststart that lowers, which comes after it.  crun has given it already.
    is_later = limit.requested is not None and limit.requested > limit.wanted and "crun" not in (runtime or "")
    if enforcing and not is_later:
        hard = lower_msgqueue(pid, limit.wanted)
    else:
        found = msgqueue_of(pid)
        hard = found[1] if found else None
    return {"rlimits": {"msgqueue": _rlimit_document(limit.requested, limit.wanted, hard)}}


def limit_queues_again(document: dict[str, Document], pid: int) -> dict[str, Document]:
    """Lower a process' limit to what its entry says; return what was found where that was more.

    Raises `ApplyError`.
    """
    decided = document.get("rlimits")
    limit = decided.get("msgqueue") if isinstance(decided, dict) else None
    if not isinstance(limit, dict):
        return {}
    found, most = msgqueue_of(pid), int(str(limit["wanted"]))
    if found is None or found[1] <= most:
        return {}
    lower_msgqueue(pid, most)
    return {"rlimits": {"msgqueue": {**limit, "found": str(found[1])}}}


def _rlimit_document(requested: int | None, wanted: int, found: int | None) -> Document:
    return {
        "requested": None if requested is None else str(requested),
        "wanted": str(wanted),
        "found": None if found is None else str(found),
    }
