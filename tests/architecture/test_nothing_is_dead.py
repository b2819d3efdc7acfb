"""What nobody uses is not kept: every name is read somewhere in the agent, every setting has an effect."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "agent"
TREES = {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
CALLED_BY_OTHERS = {
    *("connection_made", "connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing"),
    "http_open",
    *("on_url", "on_header", "on_headers_complete", "on_body", "on_message_begin", "on_message_complete"),
    *("emit", "model_config"),
}
"""Of asyncio's protocols, llhttp's callbacks, `logging` and pydantic."""
ONE_OF_A_SET = {"debug"}
"""A logger has all levels, used or not."""
ONLY_VALUE = {"format"}
"""Settings that have one value so far: there is nothing to read."""


def read_names() -> set[str]:
    """Every name that is read as a variable or attribute, or stands alone in a text (`getattr`, `include=`)."""
    names: set[str] = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                names.add(node.value)
    return names


def attributes() -> set[str]:
    nodes = (node for tree in TREES.values() for node in ast.walk(tree))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            is_called = not isinstance(node, ast.ClassDef) and node.decorator_list  # by who decorates it
            if not is_called and not node.name.startswith("__"):
                yield node.name
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            yield from (
                target.id for target in statement.targets if isinstance(target, ast.Name) and target.id[:2] != "__"
            )


def settings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and (node.name.endswith("Settings") or node.name == "Config"):
            fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
            yield from (field.id for field in fields if isinstance(field, ast.Name) and field.id[0] != "_")


def test_every_name_is_used() -> None:
    known = read_names() | CALLED_BY_OTHERS | ONE_OF_A_SET
    unused = [f"{path.stem}.{name}" for path, tree in TREES.items() for name in defined(tree) if name not in known]
    assert unused == []


def test_every_setting_is_read() -> None:
    known = attributes() | ONLY_VALUE
    unread = [f"{path.stem}.{name}" for path, tree in TREES.items() for name in settings(tree) if name not in known]
    assert unread == []


def test_there_are_settings_to_judge() -> None:
    assert sum(len(list(settings(tree))) for tree in TREES.values()) > 100
