"""A child process that answers one question, so that whatever it joins on the way is never joined by us."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress

from ipcwarden.cli.bug import REPORT, bug
from ipcwarden.core.documents import parse, serialize
from ipcwarden.errors import WardenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ipcwarden.core.documents import Document


def ask(question: Callable[[], Document], forwarded: Sequence[signal.Signals] = ()) -> Document:
    """Call `question` in a child and return what it returns.  Raises the `WardenError` that it raises.

    Signals that are `forwarded` end the child and not us: where it has an answer all the same, that is returned.
    """
    reader, writer = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _answer(writer, question)
    os.close(writer)
    with _forwarding(child, forwarded) as heard:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if heard and not said:
        sys.exit(128 + heard[0])
    try:
        answer = parse(said)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise WardenError(f"cannot go on: the process that was to look ended with status {status} and no answer")
    if "error" in answer:
        error = WardenError(str(answer["error"]), str(answer["hint"]))
        error.exit_code = int(str(answer["exit_code"]))
        raise error
    return answer["answer"]


@contextmanager
def _forwarding(child: int, signals: Sequence[signal.Signals]) -> Iterator[list[int]]:
    """Send the child what we are sent, and give which signals those were."""
    heard: list[int] = []
    process = os.pidfd_open(child)

    def forward(number: int, _frame: object) -> None:
        heard.append(number)
        with suppress(ProcessLookupError):  # it has just ended
            signal.pidfd_send_signal(process, number)

    before = {each: signal.signal(each, forward) for each in signals}
    try:
        yield heard
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(process)


def _answer(writer: int, question: Callable[[], Document]) -> None:
    """Write the answer, and end: nothing of what the parent would have done goes on in the child."""
    status = 70
    try:
        try:
            answer: dict[str, Document] = {"answer": question()}
        except WardenError as error:
            answer = {"error": str(error.args[0]), "hint": error.hint, "exit_code": error.exit_code}
        except Exception as error:  # the child's last boundary
            answer = {"error": bug(error), "hint": REPORT, "exit_code": status}
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(serialize(answer).encode("ascii"))
        status = 0
    finally:
        os._exit(status)
