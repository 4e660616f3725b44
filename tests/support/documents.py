"""The project's documents, taken apart: so that no example, link or name in them is there unseen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipcwarden.compiler import compile_sources
from ipcwarden.compiler.sources import MAIN, Source, built_in
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from support.shell import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_PROMPT = re.compile(r"^[#$] ")

NAMES = sorted(
    path.relative_to(REPOSITORY).as_posix() for path in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `info` is what stands behind its fence: the language, and words for the tests."""

    document: str
    line: int
    info: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What stands behind a prompt, and the lines below it."""

    text: str
    output: list[str]


def read(document: str) -> str:
    """Return a document's text."""
    return (REPOSITORY / document).read_text("utf-8")


def blocks(document: str, *info: str) -> list[Block]:
    """Return a document's blocks, in order, or those whose info begins with `info`."""
    text = read(document)
    found = [
        Block(document, text.count("\n", 0, match.start()) + 1, tuple(match[1].split()), match[2])
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if block.info[: len(info)] == info]


def all_blocks(*info: str) -> list[Block]:
    """Return all documents' blocks."""
    return [block for document in NAMES for block in blocks(document, *info)]


def prose(document: str) -> str:
    """Return a document without its blocks."""
    return _FENCE.sub("", read(document))


def inline(document: str) -> list[str]:
    """Return what stands in backticks."""
    return _INLINE.findall(prose(document))


def links(document: str) -> list[str]:
    """Return where a document's links lead."""
    return _LINK.findall(_INLINE.sub("", prose(document)))


def anchors(document: str) -> set[str]:
    """Return the names of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table(document: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without its head."""
    below = re.split(rf"^#+ {re.escape(heading)}$", prose(document), flags=re.MULTILINE)[1]
    lines = below[below.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def code(cell: str) -> list[str]:
    """Return what stands in backticks in a table's cell."""
    return _INLINE.findall(cell)


def commands(block: Block) -> Iterator[Command]:
    """Yield a console's commands; a line that ends in a backslash goes on."""
    command: list[str] = []
    output: list[str] = []
    for line in block.text.splitlines():
        if _PROMPT.match(line) and not (command and command[-1].endswith("\\")):
            if command:
                yield Command("\n".join(command), output)
            command, output = [line[2:]], []
        elif command[-1].endswith("\\"):
            command.append(line)
        else:
            output.append(line)
    yield Command("\n".join(command), output)


def policies(document: str) -> list[tuple[str, str]]:
    """Return a document's policies, each with the findings that stand in the block behind it, if any do."""
    found = []
    pieces = blocks(document)
    for block, behind in zip(pieces, [*pieces, None][1:], strict=True):
        if block.info[:1] == ("yaml",):
            findings = behind.text if behind and behind.info == ("text",) and "policy.yaml:" in behind.text else ""
            found.append((block.text, findings))
    return found


def findings(policy: str) -> list[str]:
    """Compile a policy with the built-in profiles to build on, and return what there is to say."""
    sources = [*built_in(), Source(MAIN, "policy.yaml", policy.encode())]
    return [str(finding) for finding in compile_sources(sources, KERNEL_DEFAULTS, "", 4096).findings]
