"""What the fields of settings models mean, read from the source when somebody asks: it would cost every start 0.1 s."""

import ast
import sys
from functools import cache
from pathlib import Path

from pydantic import BaseModel


@cache
def _classes_of(module: str) -> dict[str, dict[str, str]]:
    """Class → field → docstring, for one module."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not file.endswith(".py"):
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: _fields_of(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _fields_of(node: ast.ClassDef) -> dict[str, str]:
    fields: dict[str, str] = {}
    for statement, following in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            fields[statement.target.id] = " ".join(str(following.value.value).split())
    return fields


def meaning(model: type[BaseModel], name: str) -> str:
    """The docstring of the field `name`, its own or inherited, as one line; ``""`` where there is none."""
    for owner in model.__mro__:
        found = _classes_of(owner.__module__).get(owner.__name__, {}).get(name)
        if found is not None:
            return found
    description = model.model_fields[name].description
    return " ".join((description or "").split())
