"""``report.html``: one page for people, made from ``result.json`` alone.

It loads nothing: style and pictures are inside. Every figure of the result stands on it, the ones
that matter first, the series behind them in a table that opens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from mbi.bench.stages import RATIO_MAX, limit_us
from mbi.bench.style import STYLE
from mbi.bench.svg import Mark, Series, Stack, bar_chart, figure, line_chart, stacked_chart

Json = Mapping[str, Any]

_FIRST: Final = (
    *("throughput", "latency_ms", "transactions", "blocks", "building_blocks", "nodes"),
    *("steps", "knee"),
)
"""Sections of results, before those about how they came to be."""
_SERIES: Final = "series"
_VERDICTS: Final = {
    "passed": ("passed", "good"),
    "violated": ("VIOLATED", "bad"),
    "incomplete": ("not fully checked", "bad"),
}
_FULL: Final = ("nodes", "steps", "definitions", "topology")
"""Sections as wide as the page."""


def report_html(result: Json) -> str:
    """Return the page for a run or a ramp."""
    is_ramp = result["kind"] == "ramp"
    title = "MBI benchmark: rates up to the knee" if is_ramp else "MBI benchmark"
    charts = ramp_charts(result) if is_ramp else run_charts(result)
    tiles = _ramp_tiles(result) if is_ramp else _run_tiles(result)
    body = [
        f"<header><h1>{title}</h1><p>{escape(_subtitle(result))}</p></header>",
        f'<section class="tiles">{"".join(tiles)}</section>',
        _command(result.get("command")),
        f'<section class="charts">{"".join(charts)}</section>',
        f'<div class="tables">{"".join(_sections(result))}</div>',
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def run_charts(result: Json) -> list[str]:
    """Return the plots of one run."""
    rows: Sequence[Json] = result[_SERIES]["seconds"]
    marks = _marks(result)
    return [
        _over_time("Throughput", "transactions/s", rows, ("offered", "finalized"), marks),
        _over_time("Latency to finality", "ms", rows, ("latency_p50_ms", "latency_p99_ms"), marks),
        bar_chart(
            "Distribution of latency in the steady window",
            "ms at most",
            "transactions",
            _latency_bars(result[_SERIES]["latency"]),
        ),
        _over_time(
            "Block fill", "transactions per block", rows, ("block_transactions_mean",), marks
        ),
        _over_time("Block interval", "ms", rows, ("block_interval_ms_mean",), marks),
        line_chart(
            "Processor use per node (1 is one core)",
            "seconds since the load began",
            "cores",
            _node_series(result, "cpu"),
            marks,
        ),
        line_chart(
            "Memory per node",
            "seconds since the load began",
            "MiB resident",
            _node_series(result, "rss_mib"),
            marks,
        ),
        stacked_chart(
            "Processor time per transaction and stage",
            f"node, in the steady window; dashed: {RATIO_MAX:g} times its building blocks",
            "us per transaction",
            _stage_stacks(result["nodes"]),
        ),
    ]


def ramp_charts(result: Json) -> list[str]:
    """Return the plots of a ramp: what came out over what went in."""
    steps = sorted(result["steps"], key=lambda step: step["offered_per_s"])
    rates = [step["offered_per_s"] for step in steps]

    def line(name: str, key: str) -> Series:
        return Series(name, [(step["offered_per_s"], step[key]) for step in steps])

    ideal = Series("offered", [(rate, rate) for rate in rates], is_reference=True)
    label = "offered transactions/s"
    return [
        line_chart(
            "Throughput", label, "per second", [ideal, line("finalized", "finalized_per_s")]
        ),
        line_chart(
            "Latency to finality", label, "ms", [line("p50", "p50_ms"), line("p99", "p99_ms")]
        ),
    ]


def _over_time(
    title: str, unit: str, rows: Sequence[Json], keys: Sequence[str], marks: Sequence[Mark]
) -> str:
    series = [
        Series(_words(key), [(row["s"], row[key]) for row in rows], key == "offered")
        for key in keys
    ]
    return line_chart(title, "seconds since the load began", unit, series, marks)


def _marks(result: Json) -> list[Mark]:
    window = result["steady_window"]
    marks = [(window["from_s"], "counted from here"), (window["to_s"], "load ends")]
    return [*marks, *((fault["s"], fault["event"]) for fault in result["faults"])]


def _latency_bars(classes: Sequence[Json]) -> list[tuple[str, float]]:
    """Return the classes between the first and the last that hold something."""
    full = [index for index, item in enumerate(classes) if item["transactions"]]
    if not full:
        return []
    shown = classes[max(0, full[0] - 1) : full[-1] + 2]
    return [
        (
            figure(item["ms_at_most"]) if item["ms_at_most"] is not None else "more",
            item["transactions"],
        )
        for item in shown
    ]


def _node_series(result: Json, key: str) -> list[Series]:
    nodes: Mapping[str, Sequence[Json]] = result[_SERIES]["nodes"]
    return [
        Series(name, [(row["s"], row[key]) for row in rows]) for name, rows in nodes.items() if rows
    ]


def _stage_stacks(nodes: Sequence[Json]) -> list[Stack]:
    known = [(node["name"], node["steady"]) for node in nodes if node["steady"] is not None]
    return [
        Stack(name, steady["stages_us_per_transaction"], limit_us(steady)) for name, steady in known
    ]


def _run_tiles(result: Json) -> Iterator[str]:
    counts, latency = result["transactions"], result["latency_ms"]
    offered = result["offered_per_s"]
    note = "closed loop" if offered is None else f"{figure(offered)}/s offered"
    yield _tile("finalized", figure(result["throughput"]["transactions_per_s"]), "/s", note)
    yield _tile("latency p50", figure(latency["p50"]), "ms", "send to finality")
    yield _tile("latency p99", figure(latency["p99"]), "ms", f"max {figure(latency['max'])} ms")
    shares = f"{figure(counts['rejected'])} rejected, {figure(counts['unknown'])} unknown"
    yield _tile(
        "final of sent", figure(counts["finalized"]), f"of {figure(counts['sent'])}", shares
    )
    blocks = result["building_blocks"]
    share = f"{figure(blocks['ratio_worst'])} x building blocks, limit {blocks['ratio_limit']:g}"
    yield _tile("cpu per transaction", figure(blocks["cpu_us_per_transaction"]), "us", share)
    yield _integrity_tile(result["integrity"]["verdict"])


def _ramp_tiles(result: Json) -> Iterator[str]:
    knee = result["knee"]
    yield _tile("highest rate carried", figure(knee["offered_per_s"]), "/s", "offered")
    yield _tile("finalized there", figure(knee["finalized_per_s"]), "/s", "steady window")
    yield _tile("latency p50 there", figure(knee["p50_ms"]), "ms", "send to finality")
    yield _tile("latency p99 there", figure(knee["p99_ms"]), "ms", "send to finality")
    passed = all(step["integrity_passed"] for step in result["steps"])
    yield _integrity_tile("passed" if passed else "violated")


def _integrity_tile(verdict: str) -> str:
    word, kind = _VERDICTS[verdict]
    return _tile("integrity", word, "", "all nodes compared", kind)


def _tile(name: str, value: str, unit: str, note: str, kind: str = "") -> str:
    return (
        f'<div class="tile {kind}"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f" <em>{escape(unit)}</em><small>{escape(note)}</small></div>"
    )


def _command(command: str | None) -> str:
    return "" if not command else f"<pre>{escape(command)}</pre>"


def _subtitle(result: Json) -> str:
    parameters, machine = result["parameters"], result["machine"]
    return (
        f"{result['topology']['nodes']} nodes · {parameters['workload_meaning']} · "
        f"{machine['cores']} cores, {machine['cpu_model']} · {result['finished']}"
    )


def _sections(result: Json) -> Iterator[str]:
    """Yield a table for every part of the result, results first, series last."""
    plain = {key: value for key, value in result.items() if not isinstance(value, dict | list)}
    names = [name for name in result if name not in plain and name != _SERIES]
    ordered = sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    for name in ordered:
        content = _transposed(result[name]) if name == "nodes" else _value(result[name])
        yield _section(name, content)
    yield _section("this report", _value(plain))
    if _SERIES in result:
        yield (
            f'<section class="full"><details><summary>figures behind the plots</summary>'
            f"{_value(result[_SERIES])}</details></section>"
        )


def _value(value: Any) -> str:
    """Return any part of the result: a table for objects, one with columns for lists of them."""
    if isinstance(value, dict):
        return _object(value)
    if isinstance(value, list):
        if value and all(isinstance(item, dict) for item in value):
            return _table(value)
        return escape(", ".join(map(figure, value))) or "none"
    return escape(figure(value))


def _section(name: str, content: str) -> str:
    kind = ' class="full"' if name in _FULL else ""
    return f"<section{kind}><h2>{escape(_words(name))}</h2>{content}</section>"


def _object(value: Json) -> str:
    """Return name and value in each row; objects of the same shape share one table."""
    records = {name: item for name, item in value.items() if _is_record(item)}
    if len(records) < 2 or len({tuple(item) for item in records.values()}) > 1:
        records = {}
    shared = _table([{"": name, **item} for name, item in records.items()]) if records else ""
    rows = "".join(
        f"<tr><th>{escape(_words(name))}</th><td>{_value(item)}</td></tr>"
        for name, item in value.items()
        if name not in records
    )
    pairs = f'<table class="pairs">{rows}</table>' if rows else ""
    return shared + pairs or "none"


def _table(records: Sequence[Json]) -> str:
    columns = list(dict.fromkeys(name for record in records for name in record))
    head = "".join(f"<th>{escape(_words(name))}</th>" for name in columns)
    rows = "".join(
        "<tr>" + "".join(_cell(name, record) for name in columns) + "</tr>" for record in records
    )
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _transposed(records: Sequence[Json]) -> str:
    """Return a table with a column for each record: for many figures of few things."""
    flat = [dict(_flattened(record)) for record in records]
    names = dict.fromkeys(name for record in flat for name in record)
    rows = "".join(
        f"<tr><th>{escape(_words(name))}</th>"
        + "".join(f"<td>{_value(record.get(name))}</td>" for record in flat)
        + "</tr>"
        for name in names
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _flattened(record: Json, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}: ")
        else:
            yield prefix + name, value


def _cell(name: str, record: Json) -> str:
    content = _value(record.get(name)) if name else escape(_words(str(record[name])))
    return f"<td>{content}</td>"


def _is_record(value: Any) -> bool:
    """Tell whether a value is an object of plain values, fit for one line of a table."""
    return (
        bool(value)
        and isinstance(value, dict)
        and not any(isinstance(item, dict | list) for item in value.values())
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
