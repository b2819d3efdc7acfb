"""What the configuration says about the process itself: its end, its reloads, its application's health, its workers."""

from pydantic import Field, model_validator

from agent.core.settings import Settings


class LifecycleSettings(Settings):
    """How the process ends. One deadline counts from SIGTERM; set it below `terminationGracePeriodSeconds`."""

    grace_s: float = Field(default=5, ge=0)
    """Seconds after SIGTERM in which new work is still served, so that load balancers notice that readiness is off."""
    interrupt_grace_s: float = Field(default=0, ge=0)
    """The same after SIGINT (Ctrl-C), where nobody balances."""
    drain_s: float = Field(default=30, gt=0)
    """Seconds from the signal to the end of everything; what is in flight then is cut."""
    local_api_grace_s: float | None = Field(default=None, ge=0)
    """Seconds for which the local API and the outbound proxy outlive the last client, waiting for the application to
    end. Unset: until the deadline. It counts only where the application can need them: with `upstreams`."""
    cut_exit_code: int = Field(default=1, ge=0, le=125)
    """Exit code where the deadline cut requests off."""

    @model_validator(mode="after")
    def _grace_fits(self) -> "LifecycleSettings":
        for name in ("grace_s", "interrupt_grace_s"):
            if getattr(self, name) >= self.drain_s:
                raise ValueError(f"{name} must be below drain_s ({self.drain_s:g}): requests need time to finish")
        return self


class ReloadSettings(Settings):
    """When the configuration is read again. SIGHUP always does it."""

    watch: bool = True
    """Also when the file, or a file that it names by `${file:…}`, changes."""
    poll_s: float = Field(default=1, ge=0.1)
    """Seconds between two looks at the files."""
    debounce_s: float = Field(default=0.3, ge=0)
    """Seconds for which the files must have stayed as they are: several often change together."""


class AppHealthSettings(Settings):
    """When the application counts as able to serve."""

    interval_s: float = Field(default=5, gt=0)
    """Seconds between two probes of a healthy application; an unhealthy one is probed more often."""
    timeout_s: float = Field(default=1, gt=0)
    """Seconds for the application to answer a probe."""
    startup_timeout_s: float = Field(default=15, gt=0)
    """The longest that a probe waits before the application has ever answered. Each attempt waits twice as long as the
    one before, so that an application whose first answer is slow becomes ready all the same."""
    healthy_after: int = Field(default=1, ge=1)
    """Good probes in a row that make an unhealthy application healthy."""
    unhealthy_after: int = Field(default=3, ge=1)
    """Failed probes in a row that make a healthy application unhealthy."""


class WorkerSettings(Settings):
    """How worker processes are restarted and asked."""

    restart_first_s: float = Field(default=0.1, gt=0)
    """Seconds before a dead worker is started again; doubles each time."""
    restart_max_s: float = Field(default=10, gt=0)
    """The longest such pause."""
    stable_s: float = Field(default=30, gt=0)
    """A worker that has lived this long starts again with the first pause."""
    answer_s: float = Field(default=1, gt=0)
    """Seconds for a worker to answer; whoever takes longer is left out of the view and counted."""
