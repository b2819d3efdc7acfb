"""Base of every settings model: unknown keys are errors, loaded values never change."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """One module's part of the configuration. The module that reads the values owns the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, use_attribute_docstrings=True)


class PluginSettings(Settings):
    """Settings whose `kind` names the module that understands them."""

    kind: str
