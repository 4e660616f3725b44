"""What ipcwarden writes for programs, held to its schemas."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import TYPE_CHECKING

from jsonschema import Draft202012Validator

from support.shell import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

LOGS = "var/log/ipcwarden"


def validate(document: object, schema: str) -> None:
    """Hold a document to schemas/SCHEMA.schema.json."""
    _validator(schema).validate(document)


def validate_log(root: Path) -> int:
    """Hold every line of a host's log, rotated files included, to the schema of records; return how many there are."""
    lines = [line for file in sorted((root / LOGS).glob("audit.jsonl*")) for line in _lines(file)]
    for line in lines:
        assert line.endswith(b"\n"), f"no whole line: {line!r}"
        validate(json.loads(line), "audit-v1")
    return len(lines)


def _lines(file: Path) -> list[bytes]:
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return content.splitlines(keepends=True)


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((REPOSITORY / f"schemas/{schema}.schema.json").read_text("utf-8")))
