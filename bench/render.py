"""Configuration files from the templates in bench/configs, where `@{name}` is filled in and `@@` is an at sign."""

import string
from pathlib import Path

TEMPLATES = Path(__file__).parent / "configs"


class ConfigTemplate(string.Template):
    """A template whose placeholders collide with neither nginx's nor HAProxy's variables."""

    delimiter = "@"


def render(text: str, values: dict[str, object]) -> str:
    """Fill in every placeholder. Raises ValueError that names what is missing or malformed."""
    try:
        return ConfigTemplate(text).substitute(values)
    except KeyError as error:
        raise ValueError(f"the template wants @{{{error.args[0]}}}, known are: {', '.join(sorted(values))}") from error


def write(template: str, target: Path, values: dict[str, object]) -> Path:
    """Render `bench/configs/TEMPLATE` into `target` and return it."""
    target.write_text(render((TEMPLATES / template).read_text(), values))
    return target
