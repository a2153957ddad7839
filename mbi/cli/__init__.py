"""The ``mbi`` command: one module per group of commands, loaded when used."""

from __future__ import annotations

import os
import sys

import click

from ledger.errors import LedgerError
from mbi.cli.base import MbiGroup, Options
from mbi.cli.output import Output
from mbi.errors import ExitCode, MbiError

__all__ = ["cli", "main", "run"]

_COMMANDS = {
    "dev": "mbi.cli.dev:dev",
    "localnet": "mbi.cli.localnet:localnet",
    "node": "mbi.cli.node:node",
    "genesis": "mbi.cli.genesis:genesis",
    "keys": "mbi.cli.keys:keys",
    "account": "mbi.cli.queries:account",
    "asset": "mbi.cli.queries:asset",
    "block": "mbi.cli.queries:block",
    "validators": "mbi.cli.queries:validators",
    "tx": "mbi.cli.tx:tx",
    "gov": "mbi.cli.gov:gov",
    "bench": "mbi.cli.bench:bench",
    "drill": "mbi.cli.drill:drill",
    "audit": "mbi.cli.audit:audit",
    "recovery": "mbi.cli.recovery:recovery",
    "wait": "mbi.cli.tools:wait",
    "doctor": "mbi.cli.tools:doctor",
    "version": "mbi.cli.tools:version",
    "completions": "mbi.cli.tools:completions",
}


@click.group(cls=MbiGroup, lazy=_COMMANDS)
@click.version_option(package_name="mbi-node", prog_name="mbi")
def cli() -> None:
    r"""Run, use and measure an MBI network.

    \b
    First steps:
      mbi dev                          a network on this machine until Ctrl-C
      mbi tx send --from alice --to bob --asset issuer/MYR --amount 100 --wait
      mbi bench run --rate 500         measure it
      mbi doctor                       what is wrong with my machine?

    \b
    Exit codes: 0 ok, 1 operation failed, 2 usage or configuration, 3 node unreachable or not
    ready, 4 outcome unknown (too late, or the answer was lost), 5 integrity violation, 130
    interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code. Every expected error becomes one clear line."""
    words = sys.argv[1:] if arguments is None else arguments
    # Known before parsing, so that an error in the words before it is printed as JSON, too.
    options = Options(is_json="--json" in words)
    try:
        cli.main(words, prog_name="mbi", standalone_mode=False, obj=options)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        return _fail(options, ExitCode.USAGE, "usage", _usage_text(error))
    except click.ClickException as error:
        return _fail(options, ExitCode.USAGE, "usage", error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _fail(options, ExitCode.INTERRUPTED, "interrupted", "interrupted")
    except MbiError as error:
        return _fail(options, error.exit_code, error.code, str(error))
    except LedgerError as error:
        return _fail(options, ExitCode.USAGE, error.code, str(error))
    except BrokenPipeError:
        # The reader of our output has seen enough (`mbi block list | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def _fail(options: Options, exit_code: ExitCode, code: str, message: str) -> int:
    output = Output(options.is_json)
    output.error(message)
    output.document({"error": {"code": code, "detail": message, "exit_code": int(exit_code)}})
    return exit_code


def _usage_text(error: click.UsageError) -> str:
    where = f"; see: {error.ctx.command_path} --help" if error.ctx else ""
    return f"{error.format_message().rstrip('.')}{where}"
