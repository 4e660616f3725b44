"""A document's shape, judged by schemas/policy-v1.schema.json and told in sentences."""

from __future__ import annotations

import functools
import importlib.resources
import json

import jsonschema

from ipcwarden.compiler.findings import Place, Report, did_you_mean, listed
from ipcwarden.compiler.nodes import Mapping, Scalar, Sequence, Spoilt, find, plain, shown, text_of, without
from ipcwarden.compiler.selectors import LISTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.compiler.nodes import Node, Step

    Way = tuple[Step, ...]

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}
_YES, _NO = frozenset(("yes", "on", "y")), frozenset(("no", "off", "n"))
_NULLS = frozenset(("", "~", "Null", "NULL"))


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    """Return the validator of the policy language."""
    file = importlib.resources.files("ipcwarden") / "schemas" / "policy-v1.schema.json"
    return jsonschema.Draft202012Validator(json.loads(file.read_text("utf-8")))


class Shape:
    """What the schema says of one document.

    Of amounts and selectors those who parse them know more to say.  What the schema has against them is kept
    until they have spoken (`settle`): nothing it refuses is ever compiled.
    """

    def __init__(self, root: Node, report: Report) -> None:
        self._root = root
        self._report = report
        self._spoilt: set[Way] = set()
        self._unknown: set[Way] = set()
        self._incomplete: set[Way] = set()
        self._kept: list[tuple[Place, str]] = []
        for error in validator().iter_errors(plain(root)):
            self._judge(error)

    def tree(self) -> Node:
        """Return the document without what is refused."""
        return without(self._root, self._spoilt, self._unknown)

    def settle(self) -> None:
        """Report what was left to others, and what they did not report."""
        for at, message in self._kept:
            if not self._report.has_error_at(at):
                self._report.error(at, message)

    def _judge(self, error: jsonschema.ValidationError) -> None:
        way: Way = tuple(error.absolute_path)
        node = find(self._root, way)
        if isinstance(node, Spoilt):
            return
        known = error.schema if isinstance(error.schema, dict) else {}
        wanted = str(known.get("errorMessage", ""))
        if "propertyNames" in error.absolute_schema_path and isinstance(node, Mapping):
            name = str(error.instance)
            self._unknown.add((*way, name))
            self._report.error(node.keys[name], f"a profile's name {wanted}")
        elif error.validator == "additionalProperties" and isinstance(node, Mapping):
            self._unknown_keys(way, node, sorted(known["properties"]))
        elif error.validator == "required" and isinstance(node, Mapping):
            self._missing(way, node, known["required"])
        elif error.validator == "uniqueItems" and isinstance(node, Sequence):
            self._repeated(way, node)
        elif _is_amount(way) and not isinstance(node, Mapping):
            self._kept.append((node.at, wanted or "this value is not allowed here"))
        else:
            self._spoilt.add(way)
            self._report.error(node.at, *_sentence(error, node, wanted))

    def _unknown_keys(self, way: Way, node: Mapping, known: list[str]) -> None:
        for key in [key for key in node.entries if key not in known]:
            self._unknown.add((*way, key))
            place = node.keys[key]
            if way[-1:] == ("sysctls",):
                self._report.error(place, f"'{key}' is not a sysctl that a policy governs", _sysctl_hint(key, known))
            else:
                hint = did_you_mean(key, known) or f"known here: {listed(known, 'and')}"
                self._report.error(place, f"unknown key '{key}'", hint)

    def _repeated(self, way: Way, node: Sequence) -> None:
        seen: dict[str, Place] = {}
        for number, item in enumerate(node.items):
            text = text_of(item)
            if text is None:
                continue
            if text in seen:
                self._spoilt.add((*way, number))
                self._report.error(item.at, f"'{text}' stands here twice", f"first in line {seen[text].line}")
            seen.setdefault(text, item.at)

    def _missing(self, way: Way, node: Mapping, required: list[str]) -> None:
        if way in self._incomplete:  # the schema has an error for each key, and this tells of all
            return
        self._incomplete.add(way)
        for key in [key for key in required if key not in node.entries and key not in node.keys]:
            hint = "a policy starts with 'version: 1'" if key == "version" else f"add '{key}: ...'"
            self._report.error(node.at, f"'{key}' is missing", hint)


def _is_amount(way: Way) -> bool:
    if way == ("stale_pins", "warn_after"):
        return True
    if len(way) < 4 or way[0] != "profiles":
        return False
    return way[2] in ("sysctls", "rlimits", "dev_shm") or (way[2] in LISTS and len(way) > 4 and way[4] != "kind")


def _sysctl_hint(key: str, known: list[str]) -> str:
    if key.startswith("kernel.sem."):
        return f"write kernel.sem: {{{key.removeprefix('kernel.sem.')}: ...}}"
    return did_you_mean(key, known) or f"governed are {listed(known, 'and')}"


def _sentence(error: jsonschema.ValidationError, node: Node, wanted: str) -> tuple[str, str]:
    """Return what is wrong and what would be right."""
    rule: object = error.validator_value
    if error.validator == "type":
        return _wrong_type([str(each) for each in rule] if isinstance(rule, list) else [str(rule)], node)
    if error.validator == "enum" and isinstance(rule, list):
        choices = [str(choice) for choice in rule]
        hint = did_you_mean(str(error.instance), choices) if isinstance(error.instance, str) else ""
        return f"must be {listed(choices)}, not {shown(node)}", hint or wanted
    if error.validator in ("minLength", "minItems", "minProperties"):
        return "must not be empty", "leave it out, or give it a value"
    if error.validator == "maxLength":
        return f"is longer than {rule} characters", "shorten it"
    if error.validator == "maxProperties":
        return wanted, "leave out 'set', or everything else"
    return f"{wanted}, not {shown(node)}", ""


def _wrong_type(types: list[str], node: Node) -> tuple[str, str]:
    text = node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None
    hint = ""
    if "boolean" in types and text is not None:
        low = text.lower()
        hint = "write true" if low in _YES or low == "true" else "write false" if low in _NO or low == "false" else ""
    elif "string" in types and isinstance(node, Scalar):
        hint = f"write it in quotes: '{node.text}'"
    elif text in _NULLS:
        hint = "leave the key out where there is nothing to say"
    return f"must be {listed(_TYPES[each] for each in types)}, not {shown(node)}", hint
