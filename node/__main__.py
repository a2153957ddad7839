"""The node process: ``python -m node``.

    python -m node [start] --home HOME      run the node until SIGTERM or SIGINT
    python -m node init --home HOME         make its empty database; --rejoin after losing one
    python -m node audit --home HOME        replay the data directory
    python -m node fence --home HOME --era N    never vote in this era again, and report
    python -m node accept --home HOME PLAN  go on in the era that a recovery plan opens

``mbi node``, ``mbi audit`` and ``mbi recovery`` wrap these. Exit codes: 0 stopped or done, 1
failed, 2 configuration, 5 integrity violation. The last line on standard error says why a node has
stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from mbi.errors import UsageError
from node.errors import ConfigError, HomeError
from p2p.errors import IdentityError
from storage.errors import OpenError, StorageError

COMMANDS: Final = ("start", "init", "audit", "fence", "accept")
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2
EXIT_INTEGRITY: Final = 5


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] not in (*COMMANDS, "-h", "--help"):
        words = ["start", *words]
    options = _parser().parse_args(words)
    try:
        return _run(options)
    except (ConfigError, HomeError, IdentityError, OpenError, UsageError) as error:
        return _complain(error.code, error, EXIT_CONFIGURATION)
    except StorageError as error:
        return _complain(error.code, error, EXIT_FAILED)


def _run(options: argparse.Namespace) -> int:
    if options.command == "init":
        from node.home import init_home

        for home in options.homes:
            print(init_home(Path(home), rejoin=options.rejoin))  # noqa: T201 - the answer
        return 0
    home = Path(options.home)
    if options.command == "audit":
        from node.audit import audit_home

        report = audit_home(home, progress=sys.stderr)
        _answer(report.to_json() if options.json else report.to_text())
        return 0 if report.is_intact else EXIT_INTEGRITY
    if options.command in ("fence", "accept"):
        from node.era_commands import accept_home, fence_home

        if options.command == "fence":
            out = None if options.out is None else Path(options.out)
            _answer(fence_home(home, os.environ, options.era, out))
        else:
            _answer(accept_home(home, Path(options.plan)))
        return 0
    from node.process import run_process

    return run_process(home, os.environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m node", description="Run, initialise or audit one MBI node."
    )
    meaning = "directory with config.toml, genesis.json and keys/"
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="run the node")
    start.add_argument("--home", required=True, help=meaning)
    init = commands.add_parser("init", help="make the empty database of a new node")
    init.add_argument(
        "--home", required=True, action="append", dest="homes", help=f"{meaning}; may be repeated"
    )
    init.add_argument(
        "--rejoin",
        action="store_true",
        help="the database of this validator was lost: start an empty one that does not vote until "
        "a quorum has shown how far voting has come",
    )
    audit = commands.add_parser("audit", help="replay and verify the data directory")
    audit.add_argument("--home", required=True, help=meaning)
    audit.add_argument("--json", action="store_true", help="print one JSON document")
    fence = commands.add_parser("fence", help="never vote in this era again, and write a report")
    fence.add_argument("--home", required=True, help=meaning)
    fence.add_argument("--era", required=True, type=int, help="the era that ends for this node")
    fence.add_argument("--out", help="file of the report (default: HOME/report-era-N.json)")
    accept = commands.add_parser("accept", help="accept a recovery plan")
    accept.add_argument("plan", help="file of the plan, signed by the council")
    accept.add_argument("--home", required=True, help=meaning)
    return parser


def _answer(text: str) -> None:
    """Print a result; whoever reads it may have seen enough (``| head``)."""
    try:
        print(text, flush=True)  # noqa: T201 - the answer
    except BrokenPipeError:
        # The interpreter flushes once more at its end, which must find an open file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(code: str, error: Exception, status: int) -> int:
    print(f"{code}: {error}", file=sys.stderr)  # noqa: T201 - the last line an operator sees
    return status


if __name__ == "__main__":
    sys.exit(main())
