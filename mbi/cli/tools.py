"""Commands for scripts and first aid: wait, doctor, version, completions."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import ssl
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from mbi.cli.base import MbiCommand, Session, pass_session
from mbi.errors import OperationFailed, OutcomeUnknown, Unreachable, UsageError
from mbi.keyfiles import KeyFileError, is_encrypted
from mbi.localnet.ports import is_free
from mbi.localnet.topology import PORT_DEFAULT, plan

WAIT_S: Final = 60.0
POLL_S: Final = 0.2
"""Between two attempts to reach a node that is still starting, so that nothing can be waited on."""
DISK_FREE_BYTES_MIN: Final = 1024**3
"""A local network under load writes some 100 MB an hour; below 1 GB one should know."""
PACKAGES: Final = ("aiohttp", "cryptography", "msgspec", "plyvel", "PyNaCl", "uvloop")


@click.command(cls=MbiCommand)
@click.option("--ready", is_flag=True, help="Wait until the node is ready (the default).")
@click.option("--height", type=click.IntRange(min=0), help="Wait until this height is executed.")
@pass_session
def wait(session: Session, ready: bool, height: int | None) -> None:
    r"""Wait until a node is ready, or has reached a height.

    \b
    Examples:
      mbi wait --ready --timeout 30
      mbi wait --height 100 --node http://127.0.0.1:26111
    """
    if ready and height is not None:
        raise UsageError("give either --ready or --height")
    limit_s = session.wait_s(WAIT_S)
    deadline = time.monotonic() + limit_s
    client = session.client()
    last: Exception = Unreachable(f"node {client.url} was not asked")
    while time.monotonic() < deadline:
        try:
            if height is None:
                client.get("/readyz")
                session.output.document({"ready": True})
                session.output.text(f"node {client.url} is ready")
                return
            reached = int(client.status()["height"])
            if reached >= height:
                session.output.document({"height": reached})
                session.output.text(f"node {client.url} is at height {reached}")
                return
            last = OutcomeUnknown(
                f"node {client.url} is at height {reached}, not {height}, after {limit_s:g} s"
            )
        except Unreachable as error:
            last = error
        time.sleep(POLL_S)
    raise last


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``mbi doctor`` looked at."""

    name: str
    ok: bool
    value: str
    advice: str = ""


@click.command(cls=MbiCommand)
@pass_session
def doctor(session: Session) -> None:
    """Look for what could stop a node or this command from working, and say what to do."""
    findings = [
        _python(),
        *(_package(name) for name in PACKAGES),
        _tls(),
        _disk(),
        _ports(),
        _node(session),
        *_key_files(session.settings.keys),
    ]
    session.output.document({"checks": [asdict(finding) for finding in findings]})
    for finding in findings:
        sign, style = ("ok  ", "green") if finding.ok else ("FAIL", "red")
        session.output.text(f"{sign}  {finding.name}: {finding.value}", "" if finding.ok else style)
        if finding.advice:
            session.output.text(f"      {finding.advice}", "dim")
    failed = [finding.name for finding in findings if not finding.ok]
    if failed:
        raise OperationFailed(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}"
        )


@click.command(cls=MbiCommand)
@pass_session
def version(session: Session) -> None:
    """Print the version of this software and of what it runs on."""
    facts = {
        "mbi": importlib.metadata.version("mbi-node"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version_of(name) or "not installed" for name in PACKAGES},
    }
    session.output.document(facts)
    session.output.fields(facts)


@click.command(cls=MbiCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completions(shell: str) -> None:
    r"""Print a completion script for your shell.

    \b
    Examples:
      mbi completions bash > ~/.local/share/bash-completion/completions/mbi
      mbi completions zsh > ~/.zfunc/_mbi
    """
    from mbi.cli import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(kind(cli, {}, "mbi", "_MBI_COMPLETE").source())


def _python() -> Finding:
    ok = (3, 11) <= sys.version_info[:2] <= (3, 12)
    advice = (
        "use Python 3.11 or 3.12: the LevelDB binding has no ready wheels for others; with a C++ "
        "compiler and libleveldb-dev, `pip install --no-binary plyvel plyvel` builds one"
    )
    return Finding("python", ok, platform.python_version(), "" if ok else advice)


def _package(name: str) -> Finding:
    found = _version_of(name)
    if name == "uvloop" and found is None:
        return Finding(name, True, "not installed (optional)", "faster: pip install mbi-node[fast]")
    advice = "" if found else "run: make setup"
    return Finding(name, found is not None, found or "not installed", advice)


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tls() -> Finding:
    advice = "" if ssl.HAS_TLSv1_3 else "nodes talk TLS 1.3 only: use a Python with OpenSSL 1.1.1+"
    return Finding("tls", ssl.HAS_TLSv1_3, ssl.OPENSSL_VERSION, advice)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    ok = free >= DISK_FREE_BYTES_MIN
    advice = "" if ok else f"free some space: a node wants {DISK_FREE_BYTES_MIN // 1024**2} MiB"
    return Finding("disk", ok, f"{free // 1024**2} MiB free in {Path.cwd()}", advice)


def _ports() -> Finding:
    taken = [port for port in plan(4, 1).ports if not is_free(port)]
    if not taken:
        return Finding("ports", True, f"{PORT_DEFAULT} and up are free")
    value = f"in use: {', '.join(map(str, taken))}"
    return Finding("ports", True, value, "a network runs already, or use --port with mbi dev")


def _node(session: Session) -> Finding:
    try:
        status = session.client().status()
    except Unreachable as error:
        # Only a node that was asked for has to be there.
        return Finding(
            "node", not session.has_node_flag, f"{session.node_url}: no answer", str(error)
        )
    return Finding("node", True, f"{session.node_url}: height {status.get('height')}")


def _key_files(directory: Path) -> list[Finding]:
    findings = []
    for path in sorted(directory.glob("*.pem")):
        try:
            kind = "encrypted" if is_encrypted(path) else "not encrypted"
        except KeyFileError as error:
            findings.append(Finding(f"key {path.stem}", False, str(error)))
        else:
            findings.append(Finding(f"key {path.stem}", True, kind))
    return findings
