"""What all commands share: the global options, the session they make, and lazily loaded groups.

The global options are accepted before and after any command name (``mbi --json block show 1`` and
``mbi block show 1 --json``); the last one wins. A command takes the :class:`Session` with
:data:`pass_session`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click

from mbi.calls import parse_node_url
from mbi.cli.output import Output
from mbi.errors import UsageError
from mbi.settings import Settings, load_settings, parse_timeout
from mbi.sync_client import Client

P = ParamSpec("P")
R = TypeVar("R")

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass
class Options:
    """Global options as far as the command line has them."""

    node: str | None = None
    timeout: float | None = None
    is_json: bool = False


class Session:
    """One run of a command: settings, output and the client for the chosen node."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.output = Output(options.is_json)

    @cached_property
    def settings(self) -> Settings:
        """Settings of environment and file; read only by commands that need one."""
        return load_settings(os.environ)

    @property
    def node_url(self) -> str:
        """URL of the node to talk to."""
        return self._options.node or self.settings.node

    @property
    def has_node_flag(self) -> bool:
        """Whether the command line names a node."""
        return self._options.node is not None

    @property
    def timeout_s(self) -> float:
        """Seconds to wait for one answer."""
        return self._options.timeout or self.settings.timeout_s

    def wait_s(self, default: float) -> float:
        """Return the seconds to wait for an outcome: ``--timeout`` if given."""
        return self._options.timeout or default

    def client(self) -> Client:
        """Return a client for the chosen node."""
        return Client(self.node_url, self.timeout_s)


def pass_session(
    function: Callable[Concatenate[Session, P], R],
) -> Callable[P, R]:
    """Call the command function with the session as its first argument."""

    @click.pass_context
    def wrapper(context: click.Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(Session(options_of(context)), *args, **kwargs)

    wrapper.__doc__ = function.__doc__
    wrapper.__name__ = function.__name__
    # Options below this decorator are kept on the function; click looks for them on what it gets.
    vars(wrapper)["__click_params__"] = vars(function).get("__click_params__", [])
    return wrapper


def options_of(context: click.Context) -> Options:
    """Return the options shared by all contexts of this run."""
    root = context.find_root()
    if not isinstance(root.obj, Options):
        root.obj = Options()
    return root.obj


class MbiCommand(click.Command):
    """A command that also takes the global options; its help keeps the examples as written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        super().__init__(*args, **kwargs)
        self.help = _kept_as_written(self.help)
        self.params.extend(global_options())


class MbiGroup(click.Group):
    """A group of commands; ``lazy`` maps names to ``module:attribute``, imported when used.

    A command is imported only when it is called, so that ``mbi --help`` and completion stay quick.
    """

    command_class = MbiCommand

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        super().__init__(*args, **kwargs)
        self.help = _kept_as_written(self.help)
        self._lazy = lazy or {}
        self.params.extend(global_options())

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, those of lazy commands in their stated order."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing it if need be."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; say which names there are if it is unknown."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            names = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"{error.message} Commands: {names}.", ctx) from error


MbiGroup.group_class = MbiGroup


def global_options() -> Sequence[click.Option]:
    """Return fresh options ``--node``, ``--timeout`` and ``--json``."""
    return (
        click.Option(
            ["--node", "global_node"],
            metavar="URL",
            expose_value=False,
            callback=_set_node,
            help="Node to talk to (environment MBI_NODE; default http://127.0.0.1:26101).",
        ),
        click.Option(
            ["--timeout", "global_timeout"],
            metavar="SECONDS",
            expose_value=False,
            callback=_set_timeout,
            help="How long to wait for an answer (environment MBI_TIMEOUT; default 10).",
        ),
        click.Option(
            ["--json", "global_json"],
            is_flag=True,
            expose_value=False,
            callback=_set_json,
            help="Print one JSON document on stdout; everything else goes to stderr.",
        ),
    )


def _kept_as_written(text: str | None) -> str | None:
    """Turn the two characters of a raw docstring into the mark that keeps click from rewrapping."""
    return None if text is None else text.replace("\\b\n", "\b\n")


def existing_directory() -> click.Path:
    """Return the parameter type of a directory that must exist."""
    return click.Path(exists=True, file_okay=False, path_type=Path)


def any_path() -> click.Path:
    """Return the parameter type of a path that may not exist yet."""
    return click.Path(path_type=Path)


def read_file(path: Path, bytes_max: int | None = None) -> bytes:
    """Return a file's content: one byte more than ``bytes_max`` at most, so that excess shows.

    Raises:
        UsageError: it cannot be read; says why.
    """
    try:
        with path.open("rb") as file:
            return file.read() if bytes_max is None else file.read(bytes_max + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _set_node(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        options_of(context).node = parse_node_url(value)


def _set_timeout(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        options_of(context).timeout = parse_timeout(value)


def _set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        options_of(context).is_json = True
