"""Roles and scopes that a caller must have. Whoever is not known is refused: this fails closed."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from agent.core.settings import Settings as SettingsModel
from agent.ports.policy import Deny, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.problem import Refusal

Role = Annotated[str, Field(min_length=1)]
Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]
"""A scope token of OAuth 2.0 (RFC 6749, section 3.3): visible ASCII without quote and backslash."""

Names = Annotated[tuple[Role, ...], Field(min_length=1)]
Scopes = Annotated[tuple[Scope, ...], Field(min_length=1)]


class RoleSettings(SettingsModel):
    """Conditions on the caller's roles; all that are given must hold."""

    any: Names | None = None
    """At least one of these."""
    all: Names | None = None
    """Every one of these."""
    none: Names | None = None
    """Not a single one of these."""


class ScopeSettings(SettingsModel):
    """Conditions on the token's scopes; all that are given must hold."""

    any: Scopes | None = None
    """At least one of these."""
    all: Scopes | None = None
    """Every one of these."""


class Settings(SettingsModel):
    """What an authenticated caller may do here."""

    roles: RoleSettings = RoleSettings()
    """Roles that are asked for. Empty: any caller that is known."""
    scopes: ScopeSettings = ScopeSettings()
    """Scopes that are asked for."""
    realm: str = Field(default="outrigger", pattern=r"^[A-Za-z0-9 ._:/-]{1,64}$")
    """What `WWW-Authenticate` calls the protected space."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` decides and records, but never refuses."""

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        none = set(self.roles.none or ())
        wanted = set(self.roles.all or ())
        if self.roles.any is not None and none.issuperset(self.roles.any):
            wanted |= set(self.roles.any)
        if clash := sorted(none & wanted):
            raise ValueError(f"nobody could pass: roles.none refuses {clash}, which roles.any or roles.all asks for")
        return self


class Authorize(Policy):
    """403 `role_missing` or `scope_missing`; 401 `token_missing` where nobody was authenticated."""

    __slots__ = ("_all_roles", "_all_scopes", "_any_roles", "_any_scopes", "_denials", "_no_roles")

    name: ClassVar[str] = "authorize"

    def __init__(self, settings: Settings, *, route: str, registry: Registry) -> None:
        del route, registry
        roles, scopes = settings.roles, settings.scopes
        self._any_roles = frozenset(roles.any) if roles.any else None
        self._all_roles = frozenset(roles.all or ())
        self._no_roles = frozenset(roles.none or ())
        self._any_scopes = frozenset(scopes.any) if scopes.any else None
        self._all_scopes = frozenset(scopes.all or ())
        self._denials = _denials(settings)

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Judge `head.identity`."""
        del now
        identity = head.identity
        if identity is None:
            return self._denials["anonymous"]
        roles, scopes = identity.roles, identity.scopes
        if self._any_roles is not None and self._any_roles.isdisjoint(roles):
            return self._denials["any_role"]
        if not self._all_roles <= roles:
            return self._denials["all_roles"]
        if not self._no_roles.isdisjoint(roles):
            return self._denials["no_role"]
        if self._any_scopes is not None and self._any_scopes.isdisjoint(scopes):
            return self._denials["any_scope"]
        if not self._all_scopes <= scopes:
            return self._denials["all_scopes"]
        return None

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """Which condition fails, and what the caller has."""
        verdict = self.on_request(head, now)
        identity = head.identity
        if identity is None:
            return "deny", self._denials["anonymous"].why
        has = f"the caller has roles {sorted(identity.roles)} and scopes {sorted(identity.scopes)}"
        return ("deny", f"{verdict.why}; {has}") if isinstance(verdict, Deny) else ("allow", has)


def _denials(settings: Settings) -> dict[str, Deny]:
    """The prebuilt refusals by failing condition (RFC 6750, section 3)."""
    challenge = f'www-authenticate: Bearer realm="{settings.realm}"'
    insufficient = f'{challenge}, error="insufficient_scope"'
    asked = " ".join(dict.fromkeys((*(settings.scopes.all or ()), *(settings.scopes.any or ()))))
    anonymous = Refusal("token_missing", lines=f"{challenge}\r\n".encode())
    role = Refusal("role_missing", lines=f"{insufficient}\r\n".encode())
    scope = Refusal("scope_missing", lines=f'{insufficient}, scope="{asked}"\r\n'.encode())
    roles, scopes = settings.roles, settings.scopes
    return {
        "anonymous": Deny(anonymous, why="nobody was authenticated"),
        "any_role": Deny(role, why=f"needs a role of {sorted(roles.any or ())}"),
        "all_roles": Deny(role, why=f"needs every role of {sorted(roles.all or ())}"),
        "no_role": Deny(role, why=f"must have no role of {sorted(roles.none or ())}"),
        "any_scope": Deny(scope, why=f"needs a scope of {sorted(scopes.any or ())}"),
        "all_scopes": Deny(scope, why=f"needs every scope of {sorted(scopes.all or ())}"),
    }
