"""Which keys a settings model allows at a path: read from the models, for suggestions, remedies and reference pages."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent.config.docstrings import meaning
from agent.config.errors import Path


def members(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows: unions and `Annotated` taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members(member)
    elif hasattr(annotation, "__value__"):
        yield from members(annotation.__value__)
    else:
        yield annotation


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings models directly in an annotation, without looking into lists and mappings."""
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member


def item_of(annotation: Any) -> Any | None:
    """What a list or mapping holds: the annotation of its values, None where it is neither."""
    for member in members(annotation):
        arguments = get_args(member)
        if get_origin(member) in (list, tuple, set, frozenset) and arguments:
            return arguments[0]
        if get_origin(member) is dict:
            return arguments[1]
    return None


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys as they are written in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def every_model(root: type[BaseModel]) -> list[type[BaseModel]]:
    """`root` and all models nested in it, inner ones first."""
    found: dict[type[BaseModel], None] = {}

    def visit(annotation: Any) -> None:
        for model in models_in(annotation):
            if model not in found:
                for field in model.model_fields.values():
                    visit(field.annotation)
                found[model] = None
        for member in members(annotation):
            item = item_of(member)
            if item is not None:
                visit(item)

    visit(root)
    return list(found)


def annotations_at(root: type[BaseModel], path: Path) -> list[Any]:
    """The annotations that may apply at `path`; empty where the path leads nowhere."""
    current: list[Any] = [root]
    for step in path:
        following = []
        for annotation in current:
            for model in models_in(annotation):
                field = keys_of(model).get(str(step))
                if field is not None:
                    following.append(field.annotation)
            item = item_of(annotation)
            if item is not None:
                following.append(item)
        current = following
    return current


def keys_at(root: type[BaseModel], path: Path) -> dict[str, str]:
    """All keys that are allowed in the mapping at `path`, and what each means."""
    keys: dict[str, str] = {}
    for annotation in annotations_at(root, path):
        for model in models_in(annotation):
            for name, field in model.model_fields.items():
                keys[field.alias or name] = meaning(model, name)
    return keys


def first_sentence(text: str) -> str:
    """The first sentence of a docstring; ``""`` where there is none."""
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]
