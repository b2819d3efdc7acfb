"""pydantic's errors in our words: one fault per mistake, however many members of a union it failed."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from agent.config.errors import Fault, Path
from agent.config.models import first_sentence, keys_at
from agent.config.suggest import at, did_you_mean, listed

_KINDS = {
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
    "dict_type": "a mapping (`key: value` lines)",
    "list_type": "a list (`- entry` lines, or `[a, b]`)",
    "tuple_type": "a list (`- entry` lines, or `[a, b]`)",
    "set_type": "a list (`- entry` lines, or `[a, b]`)",
    "frozen_set_type": "a list (`- entry` lines, or `[a, b]`)",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "left out",
    "bytes_type": "text",
}
"""Errors that say: this is another kind of value. Phrases complete "must be …"."""

_BOUNDS = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_pattern_mismatch": "text of the form `{pattern}`",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "a list of at least {min_length}, but has {actual_length}",
    "too_long": "a list of at most {max_length}, but has {actual_length}",
}


class _Mistake(NamedTuple):
    path: Path
    kind: str
    context: dict[str, Any]
    message: str
    branches: tuple[tuple[Path, str], ...]
    """Which member of which union said so."""

    @property
    def is_mismatch(self) -> bool:
        """The value is of another kind altogether, rather than a wrong value of the right kind."""
        return self.kind in _KINDS or self.kind in ("literal_error", "enum")


def faults_of(error: ValidationError, data: Any, root: type[BaseModel]) -> list[Fault]:
    """All that `error` says about `data`, in the order of the data."""
    mistakes = [_mistake(detail, data) for detail in error.errors(include_url=False, include_input=False)]
    mistakes = _likeliest(mistakes, data)
    broken = {mistake.path[:length] for mistake in mistakes for length in range(len(mistake.path))}
    by_path: dict[Path, list[_Mistake]] = {}
    for mistake in mistakes:
        # A list is also called too short where its entries are wrong.
        if mistake.kind != "too_short" or mistake.path not in broken:
            by_path.setdefault(mistake.path, []).append(mistake)
    return [_fault(path, group, data, root) for path, group in by_path.items()]


def _mistake(detail: Any, data: Any) -> _Mistake:
    """Sort the steps of pydantic's location into those of the data and those that name members of unions."""
    path: Path = ()
    branches: list[tuple[Path, str]] = []
    location = detail["loc"]
    for index, step in enumerate(location):
        value = at(data, path)
        is_last = index == len(location) - 1
        is_step = (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int))
        if is_step or (is_last and detail["type"] == "missing"):
            path = (*path, step)
        elif step != "[key]":
            branches.append((path, str(step)))
    return _Mistake(path, detail["type"], detail.get("ctx", {}), detail["msg"], tuple(branches))


def _likeliest(mistakes: list[_Mistake], data: Any) -> list[_Mistake]:
    """Where several members of a union failed, keep the errors of the one that was probably meant."""
    unions: dict[Path, dict[str, list[_Mistake]]] = {}
    for mistake in mistakes:
        for path, tag in mistake.branches:
            unions.setdefault(path, {}).setdefault(tag, []).append(mistake)
    meant: dict[Path, set[str]] = {}
    for path, tags in unions.items():
        costs = {tag: _distance(found, path) for tag, found in tags.items()}
        nearest = min(costs.values())
        meant[path] = {tag for tag, cost in costs.items() if cost == nearest}
    return [mistake for mistake in mistakes if all(tag in meant[path] for path, tag in mistake.branches)]


def _distance(mistakes: list[_Mistake], path: Path) -> tuple[bool, int, int]:
    """How far the data is from one member of a union: its kind first, then strange and missing keys, then the rest."""
    is_other_kind = any(mistake.is_mismatch and mistake.path == path for mistake in mistakes)
    keys = sum(mistake.kind in ("extra_forbidden", "missing") for mistake in mistakes)
    return is_other_kind, keys, 0 if is_other_kind else len(mistakes)


def _fault(path: Path, group: list[_Mistake], data: Any, root: type[BaseModel]) -> Fault:
    mistake = group[0]
    parent, key = path[:-1], str(path[-1]) if path else ""
    if mistake.kind == "extra_forbidden":
        known = keys_at(root, parent)
        guess = did_you_mean(key, known)
        return Fault(path, "unknown key", f"{guess} Allowed here: {listed(known)}.".strip(), at_key=True)
    if mistake.kind == "missing":
        return Fault(path, "is required", _about(path, root), at_key=True)
    if mistake.kind == "value_error":
        is_inside = not isinstance(at(data, path), dict | list)
        return Fault(path, str(mistake.context.get("error", mistake.message)), at_key=not is_inside)
    if mistake.kind.startswith("union_tag"):
        field = str(mistake.context.get("discriminator", "kind")).strip("'")
        expected = str(mistake.context.get("expected_tags", "")).replace("'", "")
        word = at(data, (*path, field))
        guess = did_you_mean(str(word), expected.split(", ")) if word else ""
        return Fault((*path, field), f"must be one of: {expected}" if expected else "is required", guess)
    allowed = _allowed(group)
    value = at(data, path)
    guess = did_you_mean(value, _words(group)) if isinstance(value, str) else ""
    if mistake.kind == "string_type" and isinstance(value, bool | int | float):
        guess = 'Put it into quotes, so that it is text: "…".'
    if _is_list_wanted(group) and isinstance(value, str | int | float) and not isinstance(value, bool):
        guess = f"Write [{value}] for a list of one."
    if isinstance(value, list) and any(mistake.kind.startswith("model") for mistake in group):
        keys = keys_at(root, path)
        words = ", ".join(map(str, value))
        guess = f"Write {{any: [{words}]}}." if "any" in keys else guess
    return Fault(path, f"must be {allowed}", guess or _about(path, root))


def _is_list_wanted(group: Iterable[_Mistake]) -> bool:
    return any(mistake.kind in ("list_type", "tuple_type", "set_type", "frozen_set_type") for mistake in group)


def _allowed(group: Iterable[_Mistake]) -> str:
    phrases: dict[str, None] = {}
    for mistake in group:
        bounds = {key: f"{value:g}" if isinstance(value, float) else value for key, value in mistake.context.items()}
        if mistake.kind in _KINDS:
            phrases[_KINDS[mistake.kind]] = None
        elif mistake.kind in _BOUNDS:
            phrases[_BOUNDS[mistake.kind].format(**bounds).replace("at least 1 characters long", "some text")] = None
        elif mistake.kind in ("literal_error", "enum"):
            words = _words([mistake])
            phrases["one of: " + listed(words, limit=40) if len(words) > 1 else f"`{words[0]}`"] = None
        else:
            phrases[mistake.message.removeprefix("Input should be ").removeprefix("Value should be ")] = None
    return " or ".join(phrases)


def _words(group: Iterable[_Mistake]) -> list[str]:
    """The words of literals and enumerations, in the model's order."""
    words: list[str] = []
    for mistake in group:
        if mistake.kind in ("literal_error", "enum"):
            expected = str(mistake.context["expected"]).replace(" or ", ", ")
            words += [word.strip("'") for word in expected.split(", ")]
    return words


def _about(path: Path, root: type[BaseModel]) -> str:
    """What the key means, from the model: the best remedy when nothing more special is known."""
    keyed = path
    while keyed and isinstance(keyed[-1], int):
        keyed = keyed[:-1]
    text = first_sentence(keys_at(root, keyed[:-1]).get(str(keyed[-1]), "")) if keyed else ""
    return f"`{keyed[-1]}`: {text}" if text else ""
