"""`outrigger check`: find what is wrong with a configuration without starting anything."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.cli.arguments import Commands, add_config
from agent.cli.terminal import paint_for

if TYPE_CHECKING:
    from agent.config.errors import Finding
    from agent.config.root import Config

_DESCRIPTION = """Read a configuration as `run` would, variables and secret files included, and report everything that
is wrong with it at once. The exit status is 0 where it can be used, warnings or not, and 1 where it can't."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("check", help="find what is wrong with a configuration", description=_DESCRIPTION)
    add_config(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to report (default: text)")


def call(arguments: argparse.Namespace) -> int:
    """Check; findings go to stderr, the summary (or the whole report as JSON) to stdout."""
    from agent.assembly.offline import prove  # noqa: PLC0415  pydantic takes a quarter of a second
    from agent.config.errors import ConfigError, render  # noqa: PLC0415
    from agent.config.load import load  # noqa: PLC0415

    config: Config | None = None
    findings: Sequence[Finding]
    try:
        config = prove(load(arguments.config))
        findings = config.warnings
    except ConfigError as error:
        findings = error.findings
    if arguments.format == "json":
        print(json.dumps(_report(arguments.config, findings, config), indent=2, ensure_ascii=False))
    else:
        if findings:
            print(render(arguments.config, findings, paint_for(sys.stderr)), file=sys.stderr)
        if config is not None:
            print(f"{paint_for(sys.stdout)('good', 'good')}: {arguments.config}: {_sum(config)}")
    return 1 if config is None else 0


def _report(file: str, findings: Sequence["Finding"], config: "Config | None") -> dict[str, Any]:
    report: dict[str, Any] = {"file": file, "ok": config is not None}
    if config is not None:
        report["fingerprint"] = config.fingerprint
    report["findings"] = [finding._asdict() for finding in findings]
    return report


def _sum(config: "Config") -> str:
    parts = [
        _count(len(config.routes), "route"),
        _count(len(config.upstreams), "upstream"),
        _count(len(config.issuers), "issuer"),
        _count(len(config.warnings), "warning"),
        f"fingerprint {config.fingerprint}",
    ]
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
