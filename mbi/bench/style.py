"""Style sheet of ``report.html``: light and dark, for screens and for paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --panel:#fff; --page:#f5f6f8; --ink:#1b1f24;
  --soft:#5d6673; --line:#e2e5ea; --good:#14804a; --bad:#c0392b; --c0:#2a6fd6; --c1:#159a6c;
  --c2:#d98a00; --c3:#d6453d; --c4:#6a4fc4; --c5:#0f8fa8; --c6:#c94f93; --c7:#8a5a2b;
  --c8:#7aa32e; --c9:#b08bd9; --c10:#8d96a3; }
@media (prefers-color-scheme: dark) { :root { --panel:#1c2027; --page:#13161b; --ink:#e8eaee;
  --soft:#9aa4b2; --line:#323944; --good:#4cc38a; --bad:#ff7b6e; --c0:#6aa5ff; --c1:#45c795;
  --c2:#f2b13c; --c3:#ff7b6e; --c4:#a592f5; --c5:#4cc4dc; --c6:#f08cc0; --c7:#c79563;
  --c8:#a8d158; --c9:#d9c2f5; --c10:#78818d; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--page); color:var(--ink); font:14px/1.45 system-ui,sans-serif; }
main { max-width:1200px; margin:0 auto; padding:28px 20px 60px; }
h1 { font-size:24px; margin:0; } header p { margin:2px 0 18px; color:var(--soft); }
h2 { font-size:15px; margin:0 0 8px; }
h2::first-letter { text-transform:uppercase; }
section { margin-top:16px; }
section:not(.tiles,.charts), figure, .tile { background:var(--panel); border:1px solid var(--line);
  border-radius:8px; padding:14px 16px; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(180px,1fr)); gap:12px; }
.tile span, .tile small { display:block; color:var(--soft); } .tile em { font-style:normal; }
.tile b { font-size:26px; font-weight:600; } .good b { color:var(--good); }
.bad b { color:var(--bad); }
pre { background:var(--panel); border:1px solid var(--line); border-radius:8px; padding:12px 16px;
  margin:16px 0 0; white-space:pre-wrap; word-break:break-word; font-size:13px; }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));
  gap:12px; }
.tables { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));
  gap:12px; margin-top:12px; align-items:start; } .tables section { margin:0; min-width:0; }
.full { grid-column:1/-1; }
figure { margin:0; } figcaption { font-weight:600; } svg { width:100%; display:block; }
.empty { color:var(--soft); }
.legend { color:var(--soft); font-size:12px; display:flex; flex-wrap:wrap; gap:2px 14px; }
.legend i { display:inline-block; width:14px; height:3px; margin-right:5px; vertical-align:middle;
  background:var(--k); }
.c0 { --k:var(--c0); } .c1 { --k:var(--c1); } .c2 { --k:var(--c2); } .c3 { --k:var(--c3); }
.c4 { --k:var(--c4); } .c5 { --k:var(--c5); } .c6 { --k:var(--c6); } .c7 { --k:var(--c7); }
.c8 { --k:var(--c8); } .c9 { --k:var(--c9); } .c10 { --k:var(--c10); }
.grid { stroke:var(--line); } .mark { stroke:var(--soft); stroke-dasharray:3 3; }
.axis, .note { fill:var(--soft); font-size:11px; } .line { fill:none; stroke:var(--k);
  stroke-width:2; stroke-linejoin:round; }
.reference { stroke-dasharray:6 5; }
.dot { fill:var(--k); opacity:0; } .dot.seen, .dot:hover { opacity:1; } .bar { fill:var(--c0); }
.part { fill:var(--k); } .bar:hover, .part:hover { opacity:.75; }
.limit { stroke:var(--ink); stroke-width:2; stroke-dasharray:4 3; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; } .wide { overflow-x:auto; }
th { text-align:left; color:var(--soft); font-weight:500; vertical-align:top; }
th, td { padding:3px 12px 3px 0; border-bottom:1px solid var(--line); }
.pairs > tbody > tr > th { width:220px; } td { overflow-wrap:anywhere; }
.wide td { white-space:nowrap; } .wide td td, .wide td th { border:0; padding:0 8px 0 0; }
summary { cursor:pointer; color:var(--soft); }
@media print { body { background:#fff; } figure, section { break-inside:avoid; } }
"""
