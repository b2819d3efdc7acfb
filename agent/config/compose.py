"""YAML text to nodes with their places, without recursion: the C library's own composer overflows the stack."""

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from yaml import SafeLoader as _FastLoader
else:
    _FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_DEPTH = 64

_UNQUOTED_BRACE = re.compile(r""":\s*[^"'{\s][^"',]*\{""")


class NotYamlError(Exception):
    """The text can't be read at all. Line and column count from 1; 0 where they aren't known."""

    def __init__(self, message: str, remedy: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.line = line
        self.column = column


class Node:
    """A scalar, list or mapping as it stands in the file."""

    __slots__ = ("column", "line", "tag")

    def __init__(self, event: Any) -> None:
        self.line: int = event.start_mark.line + 1
        self.column: int = event.start_mark.column + 1
        self.tag: str | None = event.tag


class ScalarNode(Node):
    """Text, not yet read as anything."""

    __slots__ = ("is_plain", "text")

    def __init__(self, event: yaml.ScalarEvent) -> None:
        super().__init__(event)
        self.text: str = event.value
        self.is_plain = not event.style
        """Written without quotes and without `|` or `>`."""


class ListNode(Node):
    """A sequence."""

    __slots__ = ("items",)

    def __init__(self, event: yaml.Event) -> None:
        super().__init__(event)
        self.items: list[Node] = []


class MappingNode(Node):
    """Pairs in the order of the file, repeated keys included."""

    __slots__ = ("pairs",)

    def __init__(self, event: yaml.Event) -> None:
        super().__init__(event)
        self.pairs: list[tuple[Node, Node]] = []


class _Composer:
    def __init__(self) -> None:
        self.root: Node | None = None
        self.anchors: dict[str, Node] = {}
        self.open: list[ListNode | MappingNode] = []
        self.keys: list[Node | None] = []
        """For each open collection the key that still waits for its value."""

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.CollectionEndEvent):
            self.open.pop()
            self.keys.pop()
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._aliased(event))
        elif isinstance(event, yaml.NodeEvent):
            self._begin(event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise NotYamlError("the file holds more than one document", "Remove the `---` between them.", *_mark(event))

    def _aliased(self, event: Any) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            remedy = f"Write `&{event.anchor}` above the place that uses it, or quote a value that starts with `*`."
            raise NotYamlError(f"there is no anchor `{event.anchor}` to use here", remedy, *_mark(event))
        return node

    def _begin(self, event: Any) -> None:
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = ScalarNode(event)
        else:
            node = ListNode(event) if isinstance(event, yaml.SequenceStartEvent) else MappingNode(event)
        self._add(node)
        if event.anchor:
            self.anchors[event.anchor] = node
        if isinstance(node, ListNode | MappingNode):
            self.open.append(node)
            self.keys.append(None)
            if len(self.open) > MAX_DEPTH:
                raise NotYamlError(f"nested deeper than {MAX_DEPTH} levels", "", *_mark(event))

    def _add(self, node: Node) -> None:
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        key = self.keys[-1]
        if isinstance(parent, ListNode):
            parent.items.append(node)
        elif key is None:
            self.keys[-1] = node
        else:
            parent.pairs.append((key, node))
            self.keys[-1] = None


def compose(text: str) -> Node | None:
    """The nodes of the one document in `text`, None where there is none. An alias is the anchor's node again.

    Raises NotYamlError.
    """
    composer = _Composer()
    try:
        for event in yaml.parse(text, Loader=_FastLoader):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text) from None
    except yaml.YAMLError as error:
        what = str(error).splitlines()[0]
        raise NotYamlError(f"not YAML: {what}", "Save the file as UTF-8 text without control characters.") from None
    return composer.root


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark: Any = event.start_mark
    return mark.line + 1, mark.column + 1


def _explained(error: yaml.MarkedYAMLError, text: str) -> NotYamlError:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    row, column = (mark.line, mark.column) if mark else (0, 0)
    line = lines[row] if row < len(lines) else ""
    problem = error.problem or "it cannot be read"
    if "\t" in line[: len(line) - len(line.lstrip())]:
        remedy = "YAML indents with spaces only: replace the tab by spaces."
        return NotYamlError("a tab indents this line", remedy, row + 1, line.index("\t") + 1)
    if "mapping values are not allowed" in problem:
        remedy = "Put the value into quotes if it contains `: `, or correct the indentation."
    elif "flow mapping" in (error.context or "") and _UNQUOTED_BRACE.search(line):
        remedy = 'Within braces a value with braces needs quotes, as in {path: "/orders/{id}", url: "${URL}"}.'
    else:
        remedy = "Look at this line and the one above: quotes, brackets, indentation."
    context = f"{error.context}: " if error.context else ""
    return NotYamlError(f"not YAML: {context}{problem}", remedy, row + 1, column + 1)
