"""The data path's own refusals, rendered once when the module is loaded."""

from agent.wire.codes import TABLE
from agent.wire.problem import Refusal

REFUSALS: dict[str, Refusal] = {row.code: Refusal(row.code) for row in TABLE}
"""Stable code → prebuilt answer without a detail of its own."""
