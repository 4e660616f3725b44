"""What a stage that failed still does: it records why, in the little time that is left."""

from __future__ import annotations

import _signal

from ipcwarden.core.digests import entry_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.errors import WardenError
    from ipcwarden.stages.site import Site

_LAST_WORDS = 1.5  # seconds


def record_failure(site: Site, error: WardenError) -> None:
    """Record an error and tell the system's journal; where that fails too, nothing: the first one is what counts."""
    container = site.subject["container"]
    name, bundle = (str(container[key]) for key in ("id", "bundle")) if isinstance(container, dict) else ("unknown", "")
    _signal.setitimer(_signal.ITIMER_REAL, _LAST_WORDS)
    try:
        record = site.record("error", reason=error.reason, message=str(error))
        site.deliver_refusal(record, entry_key(name, bundle))
        site.alert(f"{site.stage} of container '{name}': {error}")
    except Exception:  # noqa: S110  (it has been told on standard error)
        pass
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
