"""Rules about the project's own source text that a linter cannot know, as functions over a file.

Each rule takes a `Source` and yields what it finds wrong, with the line. The rules protect what the
design promises: packages that import downwards only, a pure core without clocks, randomness and
floating point, one door to the database, and files that fit in a head. They read the syntax tree
and run nothing. `test_architecture.py` applies them and proves each with an offending example.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

Finding = tuple[int, str]
"""Line number and what is wrong there."""

Rule = Callable[["Source"], Iterator[Finding]]

IMPORTABLE = {
    "ledger": frozenset[str](),
    "consensus": frozenset({"ledger"}),
    "storage": frozenset({"ledger", "consensus"}),
    "p2p": frozenset({"ledger", "consensus"}),
    "mbi": frozenset({"ledger", "consensus"}),
    "node": frozenset({"ledger", "consensus", "storage", "p2p", "mbi"}),
}
"""What each package may import besides itself. Packages on one layer do not know each other."""

PURE_PACKAGES = frozenset({"ledger", "consensus"})

IMPURE_MODULES = frozenset(
    {"aiohttp", "asyncio", "concurrent", "datetime", "importlib", "locale", "logging"}
    | {"multiprocessing", "os", "pathlib", "plyvel", "random", "secrets", "select", "selectors"}
    | {"shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time"}
    | {"urllib", "uuid", "uvloop"}
)
"""Clocks, entropy, the operating system and everything that waits: the caller's business."""

UNSAFE_MODULES = frozenset({"marshal", "pickle", "shelve"})
"""Decoders that run what they read."""

DATABASE_MODULE = "storage/leveldb.py"
SEEDED_RANDOM = "mbi/bench/"
"""The benchmark draws its workload from a stated seed; nothing there becomes a key or a nonce."""

FILE_LINES_MAX = 600
"""A module that no longer fits in a head is two modules."""

FUNCTION_LINES_MAX = 70
"""About one screen."""

SECRET_NAME = re.compile(r"(^|_)(mac|hmac|token|secret|password|passphrase|bearer)(_|$)", re.I)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


@dataclass(frozen=True)
class Source:
    """One Python file of the project: its path from the root, with slashes, and its text."""

    path: str
    text: str

    @property
    def package(self) -> str:
        return PurePosixPath(self.path).parts[0]

    @property
    def is_pure(self) -> bool:
        return self.package in PURE_PACKAGES

    @property
    def is_product(self) -> bool:
        """Whether the file is shipped, rather than a test."""
        return self.package in IMPORTABLE

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def imports(self) -> tuple[tuple[int, str], ...]:
        """Line and full name of every imported module, wherever in the file it is imported."""
        found: list[tuple[int, str]] = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
        return tuple(found)

    def calls_of(self, *names: str) -> Iterator[int]:
        """Yield the lines that call one of the given built-in functions."""
        for node in self.nodes:
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in names:
                yield node.lineno


def imports_go_down(source: Source) -> Iterator[Finding]:
    """Packages import only those below them, and never the tests."""
    if not source.is_product:
        return
    for line, name in source.imports:
        target = name.split(".")[0]
        if not target:
            yield line, "relative import: name the package"
        known = target in IMPORTABLE or target == "tests"
        if known and target != source.package and target not in IMPORTABLE[source.package]:
            yield line, f"{source.package} must not import {target}"


def pure_packages_are_pure(source: Source) -> Iterator[Finding]:
    """The pure packages see no clock, no entropy, no operating system and no event loop."""
    if not source.is_pure:
        return
    for line, name in source.imports:
        if name.split(".")[0] in IMPURE_MODULES:
            yield line, f"{name} in a pure package: take the value as an argument"
    for line in source.calls_of("open", "input", "print", "__import__"):
        yield line, "a pure package does no input or output"


def pure_packages_are_deterministic(source: Source) -> Iterator[Finding]:
    """K4: no floating point, no `hash()` or `id()`, and no order taken from a set."""
    if not source.is_pure:
        return
    for line in source.calls_of("float", "hash", "id"):
        yield line, "differs between processes or machines"
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node.lineno, f"floating point number {node.value!r}"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "true division makes a float: use // or divmod"
        elif any(_is_set(iterated) for iterated in _iterated(node)):
            yield getattr(node, "lineno", 1), "the order of a set is not defined: sort it"


def _iterated(node: ast.AST) -> list[ast.expr]:
    """Return what a node goes through in order: generators may be harmless, as in `all(...)`."""
    if isinstance(node, ast.For):
        return [node.iter]
    return [part.iter for part in node.generators] if isinstance(node, ast.ListComp) else []


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return isinstance(node, ast.Set | ast.SetComp)


def randomness_is_not_predictable(source: Source) -> Iterator[Finding]:
    """K4: keys and nonces come from `secrets`; `random` serves seeded benchmarks only."""
    if not source.is_product or source.path.startswith(SEEDED_RANDOM):
        return
    for line, name in source.imports:
        if name.split(".")[0] == "random":
            yield line, "random is predictable: use secrets"


def secrets_compare_in_constant_time(source: Source) -> Iterator[Finding]:
    """K3: a token or message authentication code is compared with `hmac.compare_digest`."""
    if not source.is_product:
        return
    for node in source.nodes:
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            for operand in (node.left, *node.comparators):
                if _is_secret(operand):
                    yield node.lineno, "compare secrets with hmac.compare_digest"


def _is_secret(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):  # hmac.new(...).digest(), hmac.digest(...)
        return ast.unparse(node.func).startswith("hmac.")
    name = getattr(node, "id", None) or getattr(node, "attr", None) or ""
    return SECRET_NAME.search(name) is not None


def database_has_one_door(source: Source) -> Iterator[Finding]:
    """Only one module knows LevelDB; everyone else sees the key-value port."""
    if not source.is_product or source.path == DATABASE_MODULE:
        return
    for line, name in source.imports:
        if name.split(".")[0] == "plyvel":
            yield line, f"plyvel is imported by {DATABASE_MODULE} only"


def no_process_pools(source: Source) -> Iterator[Finding]:
    """A node is one process: two worker threads and no pool (ADR 0010)."""
    if not source.is_product:
        return
    for line, name in source.imports:
        if name.split(".")[0] == "multiprocessing" or name.endswith("ProcessPoolExecutor"):
            yield line, "process pools cost more than they give: see docs/adr/0010"


def input_is_never_run(source: Source) -> Iterator[Finding]:
    """Nothing read from a disk or a socket is executed."""
    if not source.is_product:
        return
    for line, name in source.imports:
        if name.split(".")[0] in UNSAFE_MODULES:
            yield line, f"{name} runs what it reads"
    for line in source.calls_of("eval", "exec", "compile"):
        yield line, "runs text as code"


def only_commands_print(source: Source) -> Iterator[Finding]:
    """Output belongs to the command line; everything else logs or returns."""
    if source.is_product and not source.path.startswith(("mbi/cli/", "node/__main__.py")):
        for line in source.calls_of("print"):
            yield line, "print outside a command"


def modules_have_docstrings(source: Source) -> Iterator[Finding]:
    """A module begins by saying what it is."""
    if not ast.get_docstring(source.tree):
        yield 1, "the module has no docstring"


def files_stay_short(source: Source) -> Iterator[Finding]:
    """A file has at most `FILE_LINES_MAX` lines."""
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield lines, f"{lines} lines, at most {FILE_LINES_MAX}"


def functions_stay_short(source: Source) -> Iterator[Finding]:
    """A function has at most `FUNCTION_LINES_MAX` lines, docstring included."""
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def nothing_is_left_for_later(source: Source) -> Iterator[Finding]:
    """What is not done is an issue or a stated limit, not a comment."""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and UNFINISHED.search(token.string):
            yield token.start[0], f"unfinished: {token.string}"


def exports_are_complete(source: Source) -> Iterator[Finding]:
    """Where `__all__` exists it names every public class and function defined there.

    Constants may stay out. A name that the module neither defines nor imports is an error.
    """
    exported, line = _exported(source.tree)
    if exported is None:
        return
    names = _bound_names(source.tree)
    for name in sorted(names["defined"] - set(exported)):
        if not name.startswith("_"):
            yield line, f"{name} is public but not in __all__"
    for name in sorted(set(exported).difference(*names.values())):
        yield line, f"{name} is in __all__ but not defined"
    if len(exported) != len(set(exported)):
        yield line, "a name is twice in __all__"


def _exported(tree: ast.Module) -> tuple[list[str] | None, int]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value: ast.expr | None = getattr(node, "value", None)
            return list(ast.literal_eval(value)) if value else [], node.lineno
    return None, 0


def _bound_names(tree: ast.Module) -> dict[str, set[str]]:
    """Return the names at the top of a module by how they came there."""
    names: dict[str, set[str]] = {"defined": set(), "assigned": set(), "imported": set()}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names["defined"].add(node.name)
        elif isinstance(node, ast.Assign):
            names["assigned"] |= {part.id for part in node.targets if isinstance(part, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names["assigned"].add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names["imported"] |= {alias.asname or alias.name for alias in node.names}
    return names


RULES: tuple[Rule, ...] = (
    imports_go_down,
    pure_packages_are_pure,
    pure_packages_are_deterministic,
    randomness_is_not_predictable,
    secrets_compare_in_constant_time,
    database_has_one_door,
    no_process_pools,
    input_is_never_run,
    only_commands_print,
    modules_have_docstrings,
    files_stay_short,
    functions_stay_short,
    nothing_is_left_for_later,
    exports_are_complete,
)
