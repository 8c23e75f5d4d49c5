"""Mutation testing of the core modules: finds small faults that no test detects.

    python -m benchmarks.mutants                          # all of MODULES, 60 mutants of each
    python -m benchmarks.mutants flows/live/rows/pace.py --most 200

Each mutant changes one operator, number, truth value, statement or word of SQL. The module's
tests run on it, in a fork of a process that has loaded everything that does not use it. Mutants
that no test detects survive, and are printed with their line.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MODULES: Final = {
    "db/writing/replacement.py": (
        "tests/db/writing/test_replacement.py",
        "tests/db/writing/test_replacement_edges.py",
    ),
    "db/writing/replacing.py": ("tests/db/writing/test_replacing.py",),
    "emotion/linking/track.py": ("tests/emotion/linking/test_track.py",),
    "flows/capture/hls/listing.py": ("tests/flows/capture/hls/test_listing.py",),
    "flows/capture/hls/aligning.py": (
        "tests/flows/capture/hls/test_aligning.py",
        "tests/flows/capture/hls/test_listing.py",
    ),
    "flows/capture/hls/anchoring.py": ("tests/flows/capture/hls/test_dates_by_playlist.py",),
    "flows/alerts.py": ("tests/flows/test_alerts.py",),
    "flows/live/rows/pace.py": ("tests/flows/live/rows/test_pace.py",),
}
"""Modules and their tests."""

MAX_MUTANTS: Final = 60
MADE_ONCE: Final = "SHOWMOOD_TESTS_MADE_ONCE"
"""As in tests/conftest.py."""

PLAIN: Final = ("frozen", "kw_only", "slots", "init", "strict")
TIMEOUT_S: Final = 120.0
"""Seconds after which a mutant in an endless loop counts as detected."""

OURS: Final = ("db", "emotion", "flows", "benchmarks", "training", "migrations")
NOT_LOADED: Final = (
    *("tests", "xdist", "execnet", "anyio", "hypothesis", "pytest_timeout", "pytest", "py"),
)
"""Packages loaded in each fork, as is what uses the module; all others are loaded once."""

OPERATORS: Final[dict[type, type]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}

SQL: Final = (
    (r">= ", "> "),
    (r"(?<!<)> ", ">= "),
    (r"<= ", "< "),
    (r"(?<!<)< ", "<= "),
    (r"<> ", "= "),
    (r"\bleast\b", "greatest"),
    (r"\bgreatest\b", "least"),
    (r" DESC\b", ""),
    (r" AND ", " OR "),
    (r"\bNOT IN\b", "IN"),
    (r"excluded\.", "segments."),
    (r" ORDER BY ts, track_id", ""),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """A module with one fault. what: the change in this line."""

    line: int
    what: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return all mutants of a module."""
    tree = ast.parse(source)
    made = []
    # Arguments of `dataclass` and `field`, and `strict` of zip, do not change behaviour here.
    plain = {
        id(constant)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in PLAIN
        for constant in ast.walk(node)
    }
    for number, node in enumerate(ast.walk(tree)):
        for what, change in () if id(node) in plain else _changes(node):
            copy = deepcopy(tree)
            twin = next(each for n, each in enumerate(ast.walk(copy)) if n == number)
            change(twin)
            line = getattr(node, "lineno", 0)
            made.append(Mutant(line=line, what=what, source=ast.unparse(copy)))
    return [each for each in made if each.source != ast.unparse(tree)]


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """Yield the possible changes of a node: a description, and the function that applies it."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if (new := OPERATORS.get(type(op))) is not None:
                said = f"{type(op).__name__} to {new.__name__}"
                yield said, lambda twin, i=i, new=new: twin.ops.__setitem__(i, new())
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        if (new := OPERATORS.get(type(node.op))) is not None:
            said = f"{type(node.op).__name__} to {new.__name__}"
            yield said, lambda twin, new=new: setattr(twin, "op", new())
    elif isinstance(node, ast.IfExp):
        yield "else to then", lambda twin: setattr(twin, "orelse", twin.body)
        yield "then to else", lambda twin: setattr(twin, "body", twin.orelse)
    elif isinstance(node, ast.If | ast.While):
        yield "never", lambda twin: setattr(twin, "test", ast.Constant(value=False))
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "returns None", lambda twin: setattr(twin, "value", ast.Constant(value=None))
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node.value)
    for name in ("body", "orelse"):
        block = getattr(node, name, None)
        for i, statement in enumerate(block if isinstance(block, list) else ()):
            is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if is_call or isinstance(statement, ast.AugAssign):
                said = f"without {ast.unparse(statement)[:60]}"
                yield (
                    said,
                    lambda twin, name=name, i=i: getattr(twin, name).__setitem__(i, ast.Pass()),
                )


def _of_constant(value: object) -> Iterator[tuple[str, Callable[[Any], object]]]:
    if isinstance(value, bool):
        yield f"{value} to {not value}", lambda twin: setattr(twin, "value", not value)
    elif isinstance(value, int | float):
        new = value + 1 if isinstance(value, int) else value * 1.5
        yield f"{value} to {new}", lambda twin: setattr(twin, "value", new)
    elif isinstance(value, str) and re.search(r"\b(SELECT|FROM|WHERE|SET|AND|INTO|ON)\b", value):
        for pattern, new_word in SQL:
            for found in re.finditer(pattern, value):
                said = f"{found[0]!r} to {new_word!r} in SQL at {found.start()}"
                text = value[: found.start()] + new_word + value[found.end() :]
                yield said, lambda twin, text=text: setattr(twin, "value", text)


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Importer that replaces a module by its mutant."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self._name, self._path, self._source = name, path, source

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)


def survives(module: str, tests: Sequence[str], source: str, *, tell: Path | None = None) -> bool:
    """Return whether the tests pass with this source, in a fork.

    tell: the file to which the imported modules are written.
    """
    pid = os.fork()
    if pid == 0:
        os.setsid()
        code = 2
        try:
            sys.meta_path.insert(0, _Instead(_name_of(module), Path(module).resolve(), source))
            with tempfile.TemporaryFile() as sink:
                os.dup2(sink.fileno(), 1)
                os.dup2(sink.fileno(), 2)
                import pytest

                arguments = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0"]
                arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # it is loaded
                code = int(pytest.main([*arguments, *tests]))
            if tell is not None:
                tell.write_text("\n".join(sys.modules), encoding="utf-8")
        finally:
            os._exit(code)
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def _name_of(module: str) -> str:
    return module.removesuffix(".py").replace("/", ".")


def users_of(module: str) -> frozenset[str]:
    """Return the names of our modules that import this one, or one that does, and its own."""
    imports: dict[str, set[str]] = {}
    for path in (path for package in OURS for path in Path(package).rglob("*.py")):
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        found = imports.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    users: set[str] = set()
    more = {module}
    while more:
        users |= more
        more = {name for name, found in imports.items() if found & users} - users
    return frozenset(users)


def load(names: Sequence[str], *, but: Collection[str]) -> None:
    """Import these modules, if possible, for all later forks."""
    for name in names:
        if name.partition(".")[0] in NOT_LOADED or name.startswith("_") or name in but:
            continue
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def main() -> None:
    """Command line: print the score of each module, and the surviving mutants."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--most", type=int, default=MAX_MUTANTS, help="mutants of a module, drawn")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        os.environ[MADE_ONCE] = made  # a migrated database, say
        for module in arguments.modules:
            _score(module, most=arguments.most, seed=arguments.seed)


def _score(module: str, *, most: int, seed: int) -> None:
    """Print who of a module's mutants survives, and the share of those that do not."""
    stem = Path(module)
    tests = MODULES.get(module, (f"tests/{stem.parent}/test_{stem.name}",))
    source = stem.read_text(encoding="utf-8")
    with tempfile.NamedTemporaryFile(suffix=".txt") as said:
        passes = survives(module, tests, source, tell=Path(said.name))
        users = users_of(_name_of(module))
        load(Path(said.name).read_text(encoding="utf-8").split("\n"), but=users)
    if not passes or not survives(module, tests, source):
        print(f"{module}: its tests fail without a mutant", flush=True)
        return
    there = mutants(source)
    drawn = random.Random(seed).sample(there, min(most, len(there)))
    left = [each for each in sorted(drawn, key=lambda m: m.line) if _told(module, tests, each)]
    share = 1 - len(left) / len(drawn)
    print(
        f"{module}: {len(drawn) - len(left)} of {len(drawn)} noticed ({share:.0%}; "
        f"{len(there)} there are)",
        flush=True,
    )


def _told(module: str, tests: Sequence[str], mutant: Mutant) -> bool:
    alive = survives(module, tests, mutant.source)
    if alive:
        print(f"  {module}:{mutant.line}: {mutant.what}", flush=True)
    return alive


if __name__ == "__main__":
    main()
