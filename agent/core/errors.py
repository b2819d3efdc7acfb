"""Errors that we raise on purpose. Each says what happened, where, and what would be right."""

from typing import ClassVar


class OutriggerError(Exception):
    """Base of every deliberate error. `status` and `code` are what an API answers with."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
