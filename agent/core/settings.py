"""Base of every settings model: unknown keys are errors, loaded values never change."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """One module's part of the configuration. The module that reads the values owns the model.

    Validators are built when a model is first used (`defer_build`), so that starting builds only those that the root
    needs. A field's docstring is its description; `agent.config.reference` reads it from the source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, defer_build=True)
