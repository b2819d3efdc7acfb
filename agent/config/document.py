"""One YAML file as plain data, with the place of every key and value: strict, bounded, and nothing is executed.

Scalars follow the core schema of YAML 1.2: only `true` and `false` are truth values, so that `on:` is a key like any
other and `no` is text. Keys are always text. Merge keys (`<<: *defaults`) work; tags don't.
"""

import re
from typing import Any, NamedTuple

from agent.config.compose import MAX_DEPTH, ListNode, MappingNode, Node, NotYamlError, ScalarNode, compose
from agent.config.errors import Fault, Finding, Path, dotted
from agent.config.suggest import at, given
from agent.telemetry.redaction import MASKED

MAX_BYTES = 8 * 1024 * 1024
MAX_NODES = 200_000
"""Values after aliases are followed: what a chain of anchors may grow to (a file of 5,000 routes has about 60,000)."""

_NULL = re.compile(r"|~|null|Null|NULL")
_TRUTH = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?((\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]{1,2})?|[0-9]+[eE][-+]?[0-9]{1,2})")


class Place(NamedTuple):
    """Where something stands, both from 1."""

    line: int
    column: int


class Document:
    """A file's data and where each part of it stands. What is wrong with it collects in `faults`."""

    __slots__ = ("data", "faults", "file", "keys", "secrets", "texts", "values")

    def __init__(self, file: str) -> None:
        self.file = file
        self.data: Any = {}
        self.values: dict[Path, Place] = {}
        self.keys: dict[Path, Place] = {}
        self.texts: dict[Path, str] = {}
        """How numbers and truth values were written: `1.10` is the number 1.1."""
        self.secrets: dict[Path, str] = {}
        """Values that came from secret sources, whole: never to be shown."""
        self.faults: list[Fault] = []

    def locate(self, fault: Fault) -> Finding:
        """Give a fault its place: its own, or that of the nearest thing around it that is in the file."""
        value = "" if fault.at_key or not fault.path else given(self.data, fault.path, self.secrets)
        message, remedy = fault.message, fault.remedy
        if isinstance(said := at(self.data, fault.path), str) and repr(said) in message:
            value = ""
        for secret in self.secrets.values():
            if len(secret) > 2:
                message, remedy = message.replace(secret, MASKED), remedy.replace(secret, MASKED)
        line, column = self._place(fault.path, at_key=fault.at_key)
        return Finding(dotted(fault.path), line, column, value, message, remedy, fault.severity)

    def _place(self, path: Path, *, at_key: bool) -> Place:
        for length in range(len(path), -1, -1):
            is_around = at_key or length < len(path)
            first, second = (self.keys, self.values) if is_around else (self.values, self.keys)
            found = first.get(path[:length]) or second.get(path[:length])
            if found:
                return found
        return Place(0, 0)


class _Reader:
    """Turns nodes into data. One per file."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0
        self.open: set[int] = set()
        """Collections around the current node, by identity: an alias to one of them would never end."""
        self.is_full = False

    def value(self, node: Node, path: Path) -> Any:
        """The data of one node; None where it may not be followed further, and a fault says why."""
        self.document.values.setdefault(path, Place(node.line, node.column))
        if self._stops(node, path):
            return None
        if node.tag:
            self._fault(path, f"the tag {node.tag} means nothing here", "Leave it out; quotes make text.")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self.open.add(id(node))
        data: Any = None
        if isinstance(node, ListNode):
            data = [self.value(item, (*path, index)) for index, item in enumerate(node.items)]
        elif isinstance(node, MappingNode):
            data = self._mapping(node.pairs, path)
        self.open.discard(id(node))
        return data

    def _stops(self, node: Node, path: Path) -> bool:
        self.nodes += 1
        if self.is_full:
            return True
        if self.nodes > MAX_NODES:
            self.is_full = True
            self._fault((), f"aliases make the file grow beyond {MAX_NODES} values", "Use fewer aliases of aliases.")
        elif len(path) > MAX_DEPTH:
            self.is_full = True
            self._fault((), f"aliases nest deeper than {MAX_DEPTH} levels", "Use fewer aliases of aliases.")
        elif id(node) in self.open:
            self._fault(path, "an alias contains itself", "Write the value out where the alias stands.")
            return True
        return self.is_full

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text = node.text
        if not node.is_plain:
            return text
        if _NULL.fullmatch(text):
            return None
        read: bool | int | float
        if _TRUTH.fullmatch(text):
            read = text.lower() == "true"
        elif _INT.fullmatch(text):
            read = int(text)
        elif len(text) < 100 and _FLOAT.fullmatch(text):
            read = float(text)
        else:
            return text
        self.document.texts[path] = text
        return read

    def _mapping(self, pairs: list[tuple[Node, Node]], path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: list[Node] = []
        for key_node, value_node in pairs:
            if not isinstance(key_node, ScalarNode):
                self._fault(path, "a key must be text, not a list or mapping", "Put braces of templates into quotes.")
                continue
            key = key_node.text
            here = (*path, key)
            if key == "<<" and key_node.is_plain:
                merged.append(value_node)
            elif key in data:
                first = self.document.keys[here].line
                self.document.keys[here] = Place(key_node.line, key_node.column)
                message = f"the key is given twice, first in line {first}"
                self._fault(here, message, "Keep one of them.", at_key=True)
            else:
                self.document.keys[here] = Place(key_node.line, key_node.column)
                data[key] = self.value(value_node, here)
        for node in merged:
            self._merge(node, path, data)
        return data

    def _merge(self, node: Node, path: Path, data: dict[str, Any]) -> None:
        """YAML's merge key: keys that the mapping has itself win, then the earlier of several sources."""
        for source in node.items if isinstance(node, ListNode) else [node]:
            if self._stops(source, path):
                return
            if not isinstance(source, MappingNode):
                self._fault(path, "`<<` takes a mapping or a list of mappings", "Write `<<: *name_of_an_anchor`.")
                continue
            self.open.add(id(source))
            wanted = [pair for pair in source.pairs if getattr(pair[0], "text", None) not in data]
            data.update(self._mapping(wanted, path))
            self.open.discard(id(source))

    def _fault(self, path: Path, message: str, remedy: str = "", *, at_key: bool = False) -> None:
        self.document.faults.append(Fault(path, message, remedy, at_key=at_key))


def read_document(text: str, file: str) -> Document:
    """Read one YAML document. What is wrong with it is in `faults`; a file that is no YAML has no data."""
    document = Document(file)
    if len(text) > MAX_BYTES:
        document.faults.append(Fault((), f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB"))
        return document
    try:
        node = compose(text)
    except NotYamlError as error:
        document.faults.append(Fault((), error.message, error.remedy))
        document.values[()] = Place(error.line, error.column)
        return document
    if node is not None:
        document.data = _Reader(document).value(node, ())
    return document
