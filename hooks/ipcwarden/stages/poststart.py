"""poststart: read back, and put right what the runtime overruled after the creation stage."""

from __future__ import annotations

import posix

from ipcwarden.core.digests import entry_key
from ipcwarden.core.plan import exceeds
from ipcwarden.core.spec import MSGQUEUE
from ipcwarden.errors import NamespaceError, PolicyViolation
from ipcwarden.host.ledger import take
from ipcwarden.host.membership import enter
from ipcwarden.host.namespace import open_pinned
from ipcwarden.host.procfs import started
from ipcwarden.stages.company import protect, put_back, since_widened
from ipcwarden.stages.life import identity_of, limits_of, lives, texts, wanted_of, was_of
from ipcwarden.stages.rlimits import limit_queues_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.state import ContainerState
    from ipcwarden.host.ledger import Entry
    from ipcwarden.stages.site import Site


def poststart(site: Site, state: ContainerState) -> None:
    """Handle poststart; silent where nothing differs.

    runc up to 1.5 calls it before the user's process starts (state `created`).  crun and runc 1.6 call it afterwards
    (`running`): whoever had more than policy allows had it for a while then, and `PolicyViolation` is raised.
    """
    entry = _entry_of(site, state)
    if entry is not None:
        try:
            subject = entry.document.get("subject")
            site.subject.update(subject if isinstance(subject, dict) else {})
            if site.subject["enforced"]:
                _put_right(site, entry, state)
                return
        finally:
            entry.release()
    # Not governed, or only watched: what others in its namespace have in force is kept all the same.
    try:
        protect(site, state)
    except NamespaceError:
        if started(state.pid):
            raise  # else it has ended already: crun runs this beside the user's process


def _entry_of(site: Site, state: ContainerState) -> Entry | None:
    """Return the entry of this very process: two runtimes' roots may run one bundle under one id."""
    for key in lives(site.entries, entry_key(state.id, state.bundle)):
        entry = take(site.entries, key)
        if entry is not None and entry.state == "applied" and was_of(entry.document, site.boot, state.pid):
            return entry
        if entry is not None:
            entry.release()
    return None


def _put_right(site: Site, entry: Entry, state: ContainerState) -> None:
    late = state.status == "running"
    rlimits = limit_queues_again(entry.document, state.pid)
    identity = identity_of(entry.document)
    assert identity is not None
    room = enter(site.namespaces, identity.name)
    try:
        wanted = since_widened(site, entry.document, wanted_of(entry.document))
        fd = open_pinned(site.pins, str(entry.document["pin"]), identity)
        try:
            seen = site.visit(fd, lambda: put_back(wanted))
        finally:
            posix.close(fd)
        assert isinstance(seen, dict)
        wrong = {name: int(str(text)) for name, text in seen.items()}
        if not wrong and not rlimits:
            return
        if wrong:
            entry.write(limits=texts({**limits_of(entry.document), **wanted}))
    finally:
        if room is not None:
            room.leave()
    sysctls: list[Document] = []
    for each in entry.document["sysctls"]:  # type: ignore[union-attr]  # a list, as wanted_of has seen
        if isinstance(each, dict) and each["name"] in wrong:
            name = str(each["name"])
            sysctls.append({**each, "wanted": str(wanted[name]), "found": str(wrong[name])})
    record = site.record("verified", sysctls=sysctls, late=late, **rlimits)
    too_much = [f"{name}={number}" for name, number in wrong.items() if exceeds(name, number, wanted[name])]
    too_much += [MSGQUEUE] if rlimits else []
    if not (late and too_much):
        site.deliver(record, entry.key, entry)
    else:
        site.deliver_refusal(record, entry.key, entry)
        raise PolicyViolation(
            f"the container had {', '.join(too_much)} when it started, put right since",
            "this runtime runs poststart too late: register a native door",
        )
