"""A child process that answers one question, so that whatever it joins on the way is never joined by us."""

from __future__ import annotations

import os

from ipcwarden.cli.bug import REPORT, bug
from ipcwarden.core.documents import parse, serialize
from ipcwarden.errors import WardenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.core.documents import Document


def ask(question: Callable[[], Document]) -> Document:
    """Call `question` in a child and return what it returns.  Raises the `WardenError` that it raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _answer(writer, question)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
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
