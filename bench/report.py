"""Tables of a run: for the terminal, and as Markdown between the marks of docs/benchmarks.md."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.results import CaseResult, Failure, Results
from bench.targets import verdicts

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_BUSY_ENOUGH = 0.9
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a heading; the first column is aligned left, the others right."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """For a terminal."""
        widths = [max(len(row[at]) for row in [self.head, *self.rows]) for at in range(len(self.head))]
        lines = [self.title, _spaced(self.head, widths), "  ".join("-" * width for width in widths)]
        lines += [_spaced(row, widths) for row in self.rows]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def markdown(self) -> str:
        """For a page."""
        lines = [f"### {self.title}", "", _piped(self.head), _piped(["---", *["---:"] * (len(self.head) - 1)])]
        lines += [_piped(row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"{note}  " for note in self.notes)]
        return "\n".join(lines)


def _spaced(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    return "  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])


def _piped(row: Iterable[str]) -> str:
    return f"| {' | '.join(row)} |"


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _rate(case: CaseResult, peer: str) -> str:
    rps, busy = case.median(peer, "rps"), case.median(peer, "busy")
    if rps is None:
        return NOTHING
    return f"{'≥ ' if busy is not None and busy < _BUSY_ENOUGH else ''}{rps:,.0f}"


def _cpu(case: CaseResult, peer: str) -> float | None:
    return None if peer == "direct" else case.median(peer, "cpu_us")


def _case_rows(case: CaseResult) -> list[tuple[str, ...]]:
    best = _cpu(case, "outrigger")
    rows: list[tuple[str, ...]] = []
    for peer in case.samples:
        cpu, rss = _cpu(case, peer), case.median(peer, "rss_kib")
        ratio = best / cpu if best and cpu else None
        memory = rss / 1024 if rss else None
        row = (peer, _number(cpu, ".1f"), _number(ratio, ".2f"), _rate(case, peer), _number(memory, ".0f"))
        rows.append(row)
    return rows


def case_table(case: CaseResult) -> Table:
    """One case, one row a peer."""
    head = ("proxy", "CPU µs/request", "Outrigger ÷ it", "requests/s", "RSS MiB")
    notes = tuple(f"{peer}: {failure.why}" for peer, failure in case.failures.items())
    return Table(case.title, head, _case_rows(case), notes)


def alone_table(cases: Sequence[CaseResult]) -> Table:
    """What each policy adds to bare forwarding."""
    bare = next((case.median("outrigger", "cpu_us") for case in cases if case.variant == "bare"), None)
    rows: list[tuple[str, ...]] = []
    for case in cases:
        cpu = case.median("outrigger", "cpu_us")
        added = None if cpu is None or bare is None else cpu - bare
        rows.append((case.title, _number(cpu, ".1f"), _number(added, "+.1f")))
    notes = tuple(f"{case.title}: {failure.why}" for case in cases for failure in case.failures.values())
    return Table("Each policy alone (Outrigger)", ("policy", "CPU µs/request", "added µs"), rows, notes)


def latency_table(results: Results, variant: str) -> Table:
    """Latency at the fixed rate, and what each proxy adds to the direct way."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for peer, found in results.latency[variant].items():
        values = [results.latency_ms(variant, peer, what) for what in ("p50_ms", "p99_ms")]
        added = [None if peer == "direct" else results.added_ms(variant, peer, what) for what in ("p50_ms", "p99_ms")]
        rows.append((peer, *(_number(value, ".3f") for value in values), *(_number(value, "+.3f") for value in added)))
        if isinstance(found, Failure):
            notes.append(f"{peer}: {found.why}")
    title = f"Latency at {results.plan['rate']:,} requests/s, {'all' if variant == 'full' else 'no'} policies"
    head = ("proxy", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms")
    return Table(title, head, rows, tuple(notes))


def footprint_table(results: Results) -> Table:
    """Memory and start, all policies configured."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    loaded = results.case("full")
    for peer, found in results.footprint.items():
        if isinstance(found, Failure):
            notes.append(f"{peer}: {found.why}")
            rows.append((peer, *[NOTHING] * 4))
            continue
        rss = loaded.median(peer, "rss_kib") if loaded else None
        under_load = _number(rss / 1024 if rss else None, ".1f")
        idle, own = f"{found.rss_kib / 1024:.1f}", f"{found.pss_kib / 1024:.1f}"
        rows.append((peer, idle, own, under_load, f"{found.start_s:.2f}"))
    head = ("proxy", "idle RSS MiB", "idle PSS MiB", "RSS MiB after load", "start s")
    return Table("Memory and start", head, rows, tuple(notes))


def tables(results: Results) -> list[Table]:
    """Everything that was measured."""
    made = [case_table(case) for case in results.cases]
    if results.alone:
        made.append(alone_table(results.alone))
    made += [latency_table(results, variant) for variant in results.latency]
    if results.footprint:
        made.append(footprint_table(results))
    return made


def _machine_line(results: Results) -> str:
    told = results.machine
    versions = ", ".join(f"{name} {told[name]}" for name in ("envoy", "haproxy", "nginx", "wrk", "python"))
    return (
        f"{told['cpu']}, {told['cores']} cores, Linux {told['kernel']}, "
        f"load average before the run {told['load']}; {versions}; "
        f"commit {told['commit']}, {results.date}"
    )


def _whole(results: Results, show: Callable[[Table], str], bullet: str) -> list[str]:
    judged = [f"{bullet}{verdict.line()}" for verdict in verdicts(results)]
    return [_machine_line(results), *(show(table) for table in tables(results)), "\n".join(judged)]


def text(results: Results) -> str:
    """The whole report for a terminal."""
    return "\n\n".join(_whole(results, Table.text, ""))


def markdown(results: Results) -> str:
    """The whole report for the page, without its marks."""
    picture = "![CPU per request](benchmarks.svg)"
    return "\n\n".join([picture, *_whole(results, Table.markdown, "- ")])


def replace_region(page: str, region: str) -> str:
    """Put `region` between the page's marks. Raises ValueError where they aren't there once each, in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page needs {BEGIN} and then {END}, each once")
    before, after = page[: page.index(BEGIN)], page[page.index(END) :]
    return f"{before}{BEGIN}\n\n{region}\n\n{after}"
