"""A runtime's command line, as far as a wrapper has to understand it: which verb, and whose bundle.

runc(8) reads options as Go's flag package does (one dash or two, before the container's name or behind it), crun(1) as
getopt_long(3) does (abbreviations, a short option's value behind it).  What neither knows is taken for a switch.  The
lists are those of runc 1.5 (and 1.6, which has --config) and crun 1.28.
"""

from __future__ import annotations

from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CREATING = ("create", "run")
_VERBS = (
    *("checkpoint", "create", "delete", "events", "exec", "features", "help", "init", "kill", "list", "mounts"),
    *("pause", "ps", "restore", "resume", "run", "spec", "start", "state", "update", "h"),
)
# Options that take a value, in the next word where there is no `=`.
_GLOBAL = ("root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager", "program-name")
_OF_VERB = ("bundle", "config", "console-socket", "pid-file", "pidfd-socket", "preserve-fds", "program-name")
_SHORT = {"b": "bundle", "f": "config"}


@value
class Invocation:
    """What `create` or `run` was called for.  `bundle` and `config` (crun's) may be relative, empty where not given.

    `log` is where the runtime reports errors to its caller, `log_format` how.
    """

    container: str
    bundle: str
    config: str
    log: str
    log_format: str


def invocation_of(arguments: Sequence[str]) -> Invocation | None:
    """Return what a call of a runtime creates; None where it creates nothing.  `arguments` are without the program."""
    words = list(arguments)
    given: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word in _VERBS:
            return _creation(words, given) if word in CREATING else None
        _take(word, words, _GLOBAL, given)
    return None


def _creation(words: list[str], given: dict[str, str]) -> Invocation:
    names: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            names += words
            break
        if not _take(word, words, _OF_VERB, given):
            names.append(word)
    return Invocation(
        container=names[0] if names else "",
        bundle=given.get("bundle", ""),
        config=given.get("config", ""),
        log=given.get("log", ""),
        log_format=given.get("log-format", ""),
    )


def _take(word: str, words: list[str], valued: tuple[str, ...], given: dict[str, str]) -> bool:
    """Take an option, and its value off `words`; return whether it is one."""
    if not word.startswith("-") or word == "-":
        return False
    name, equals, content = word.lstrip("-").partition("=")
    known = _known(name, valued, word.startswith("--"))
    if known is None and not word.startswith("--"):
        return _take_short(word[1:], words, valued, given)
    if known is not None:
        given[known] = content if equals or not words else words.pop(0)
    return True


def _known(name: str, valued: tuple[str, ...], long: bool) -> str | None:
    if name in valued:
        return name
    if not long:
        return None  # crun takes it for a cluster of short options
    if _SHORT.get(name) in valued:
        return _SHORT[name]  # runc's; for crun an abbreviation, or nothing
    # Where several begin like that, crun knows one of them or refuses it: the next word is no name in either case.
    return next((each for each in valued if name and each.startswith(name)), None)


def _take_short(cluster: str, words: list[str], valued: tuple[str, ...], given: dict[str, str]) -> bool:
    for at, letter in enumerate(cluster):
        name = _SHORT.get(letter)
        if name in valued:
            rest = cluster[at + 1 :].removeprefix("=")
            given[name] = rest or (words.pop(0) if words else "")
            break
    return True
