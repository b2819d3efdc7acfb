"""`/config`: what is in force, where it listens, and how the last reload went."""

from typing import Any

from agent.drivers.control_messages import Handler, Request, Response, json_response
from agent.ports.operator import ReloadReport, SidecarView, moment


def endpoints(view: SidecarView) -> dict[tuple[str, str], Handler]:
    """Secrets are masked by the view: they never come here."""

    async def show(request: Request) -> Response:
        report = view.config()
        return json_response(
            {
                "source": report.source,
                "fingerprint": report.fingerprint,
                "listening": dict(report.listening),
                "last_reload": _reload(report.last_reload),
                "warnings": [dict(warning) for warning in report.warnings],
                "config": dict(report.effective),
            }
        )

    return {("GET", "/config"): show}


def _reload(report: ReloadReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {
        "result": report.result,
        "at": moment(report.at),
        "error": report.error or None,
        "warnings": list(report.warnings),
    }
