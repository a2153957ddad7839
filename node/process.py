"""The node as an operating-system process: start, signals, orderly end.

SIGTERM and SIGINT stop it within :data:`STOP_SECONDS_MAX`; SIGHUP makes it read the list of peers
in its configuration again. Anything unexpected in any task ends the process with a non-zero code
and a last line that says why; a supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import resource
import signal
import sys
from collections.abc import Coroutine, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import structlog

from ledger.crypto import self_test
from node.api.context import Context
from node.api.limits import Limits
from node.api.server import ApiServer
from node.config import HttpConfig, NodeConfig, load_config
from node.errors import ConfigError, EraComplete, FatalError
from node.faucet import load_faucet
from node.home import OpenHome, open_home
from node.logs import configure_logging
from node.metrics import Metrics
from node.node import Node
from node.view import View

STOP_SECONDS_MAX: Final = 5.0
"""From the signal to the end of the process."""
PARENT_POLL_S: Final = 0.5
EXIT_WITH_PARENT: Final = "MBI_EXIT_WITH_PARENT"
"""Set to 1 by a supervisor whose death must end the node: no orphans."""
EXIT_FAILED: Final = 1
LAG_INTERVAL_S: Final = 0.25
"""How often the delay of a timer on the loop is measured."""
COLLECT_AFTER: Final = 10_000
"""Containers made since the last look for garbage; a block of 500 transfers makes some thousands
and leaves none in a cycle. After the default, 700, the collector takes 2 % of executing it."""

log = structlog.get_logger("process")


def run_process(home: Path, environment: Mapping[str, str]) -> int:
    """Run a node until it is told to stop; return the exit code."""
    config = load_config(home, environment)
    configure_logging(config.log, config.name)
    # A core dump would contain the validator key.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    self_test()
    while True:
        status = _run_once(config, environment)
        if status is not None:
            return status


def _run_once(config: NodeConfig, environment: Mapping[str, str]) -> int | None:
    """Run a node until it ends; return the exit code, None if it must start anew from disk."""
    node, view = _build(open_home(config))
    watch_parent = environment.get(EXIT_WITH_PARENT) == "1"
    try:
        _run_loop(_serve(node, view, environment, watch_parent=watch_parent))
    except (Exception, BaseExceptionGroup) as error:
        cause = _root_cause(error)
        if isinstance(cause, EraComplete):
            log.warning("era_complete", reason=str(cause))
            return None
        if not isinstance(cause, FatalError):
            log.error("task_failed", exc_info=cause)
            code = type(cause).__name__
        else:
            code = cause.cause
        sys.stderr.write(f"node stopped: {code}: {cause}\n")
        return EXIT_FAILED
    return 0


def _build(home: OpenHome) -> tuple[Node, View]:
    """Wire the parts, so that whatever is wrong with files is known before anything runs."""
    try:
        node = Node(home, Metrics())
        return node, View(node, metadata.version("mbi-node"), load_faucet(home))
    except BaseException:
        home.close()
        raise


def _root_cause(error: BaseException) -> BaseException:
    """Return the first exception inside nested groups: the one that ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


def loop_factory() -> Any:
    """Return uvloop's factory where uvloop is installed, otherwise None (asyncio's own)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _reload_peers(node: Node, environment: Mapping[str, str]) -> None:
    """Take over the list of peers as it is in the file now; a wrong file changes nothing."""
    try:
        config = load_config(node.home.config.home, environment)
    except ConfigError as error:
        log.error("peers_not_reloaded", reason=str(error))
        return
    node.peering.configure(config.p2p.peers)
    log.info("peers_reloaded", peers=len(config.p2p.peers))


async def _serve(
    node: Node, view: View, environment: Mapping[str, str], *, watch_parent: bool
) -> None:
    metrics = node.metrics
    loop = asyncio.get_running_loop()
    metrics.node.build_info.labels(
        version=view.status().version,
        python=platform.python_version(),
        loop=type(loop).__module__,
    ).set(1)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload_peers, node, environment)
    # What is loaded by now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(node.run(), name="node")
            api = group.create_task(_run_api(view, metrics, node.home.config.http), name="api")
            lag = group.create_task(_measure_lag(metrics), name="lag")
            watcher = group.create_task(_watch_parent(stop, watch_parent), name="parent")
            log.info("started", chain_id=node.chain_id.hex(), height=node.progress.height)
            if node.home.quarantine is not None:
                log.warning("quarantined", reason=node.home.quarantine)
            if node.fence is not None:
                log.warning("fenced", reason=node.fence)
            await stop.wait()
            log.info("stopping", height=node.progress.height)
            deadline = loop.call_later(STOP_SECONDS_MAX, os._exit, 1)
            for task in (api, running, lag, watcher):
                task.cancel()
        deadline.cancel()
    finally:
        node.close()
    log.info("stopped")


async def _run_api(view: View, metrics: Metrics, http: HttpConfig) -> None:
    """Serve HTTP until cancelled, or until a request met a broken invariant or a corrupt store."""
    fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_fault(error: BaseException) -> None:
        if not fault.done():
            fault.set_exception(error)

    context = Context(
        view,
        metrics,
        Limits(),
        allowed_hosts=frozenset(http.allowed_hosts),
        allowed_origins=frozenset(http.allowed_origins),
        on_fault=on_fault,
    )
    server = ApiServer(context)
    try:
        await server.start(http.host, http.port)
    except OSError as error:
        raise FatalError(
            f"cannot listen on {http.host}:{http.port} for HTTP: {error.strerror}",
            cause="address_unusable",
        ) from error
    try:
        await fault
    finally:
        await server.stop()


async def _measure_lag(metrics: Metrics) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        metrics.node.loop_lag_seconds.observe(max(0.0, loop.time() - due))


async def _watch_parent(stop: asyncio.Event, is_wanted: bool) -> None:
    parent = os.getppid()
    # The system gives no signal for this on every platform, so it is looked at now and then.
    while is_wanted and os.getppid() == parent:  # noqa: ASYNC110 - see above
        await asyncio.sleep(PARENT_POLL_S)
    if is_wanted:
        log.info("parent_gone")
        stop.set()
