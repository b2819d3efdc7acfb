"""The JSON schema of the configuration, for editors: every key with its meaning, unit and default."""

import re
from typing import Any

from agent.config.docstrings import meaning
from agent.config.models import every_model
from agent.config.root import Config

_REFERENCE = "#/$defs/Reference"
_NARROW = {"enum", "const", "pattern", "minLength", "maxLength", "format"}
_KEPT_OUTSIDE = ("description", "default", "examples")


def json_schema() -> dict[str, Any]:
    """The schema, draft 2020-12. Wherever it asks for more than any text, `${NAME}` and `${file:…}` do too."""
    _describe()
    generated = Config.model_json_schema(mode="validation")
    names = _readable_names(generated.get("$defs", {}))
    rewritten = _rewrite(generated, names)
    definitions = {names[name]: part for name, part in rewritten.pop("$defs", {}).items()}
    definitions["Reference"] = {
        "description": "${NAME}, ${NAME:-default} or ${file:/path}: from the environment or a file.",
        "type": "string",
        "pattern": r"\$\{[^{}]+\}",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Outrigger configuration",
        **{key: part for key, part in rewritten.items() if key != "title"},
        "patternProperties": {"^x-": {"description": "Yours: ignored, a place for anchors."}},
        "$defs": dict(sorted(definitions.items())),
    }


def _describe() -> None:
    """Let the models know their fields' docstrings, which they do without otherwise. Inner models first."""
    for model in every_model(Config):
        missing = [name for name, field in model.model_fields.items() if field.description is None]
        for name in missing:
            model.model_fields[name].description = meaning(model, name) or None
        if missing:
            model.model_rebuild(force=True)


def _readable_names(definitions: dict[str, Any]) -> dict[str, str]:
    """`agent__policies__retry__Settings` → `RetrySettings`; names that are readable stay."""
    names: dict[str, str] = {}
    for name in definitions:
        module, _, short = name.rpartition("__")
        prefix = "".join(word.capitalize() for word in re.split(r"_+", module.rpartition("__")[2]))
        readable = f"{prefix}{short}" if module else name
        names[name] = readable if readable not in names.values() else name
    return names


def _rewrite(part: Any, names: dict[str, str], *, is_schema: bool = True) -> Any:
    """Rename references, drop titles that only repeat the key, and let references stand for narrow values."""
    if isinstance(part, list):
        return [_rewrite(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    if not is_schema:
        return {key: _rewrite(value, names) for key, value in part.items()}
    result: dict[str, Any] = {}
    for key, value in part.items():
        if key == "title" and isinstance(value, str):
            continue
        if key == "$ref":
            result[key] = "#/$defs/" + names[value.removeprefix("#/$defs/")]
        elif key == "description" and isinstance(value, str):
            result[key] = " ".join(value.split())
        elif key in ("default", "const", "enum", "examples"):
            result[key] = value
        else:
            result[key] = _rewrite(value, names, is_schema=key not in ("properties", "$defs", "patternProperties"))
    return _or_reference(result)


def _or_reference(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind not in ("integer", "number", "boolean") and not (kind == "string" and _NARROW & part.keys()):
        return part
    outside = {key: part[key] for key in _KEPT_OUTSIDE if key in part}
    inside = {key: value for key, value in part.items() if key not in outside}
    return {**outside, "anyOf": [inside, {"$ref": _REFERENCE}]}
