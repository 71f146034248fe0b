"""The laws of this codebase, read from its files: layers, exact money, no hidden clock, no hidden environment."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "orcost_pipeline"
LONGEST_FUNCTION = 50

MONEY_LAYERS = {"formats", "measures", "windows", "openrouter", "companies", "warehouse", "sync"}
# Seconds: time-outs and waits, which are not money.
SECONDS = {
    "openrouter/api/progress.py": {"3.0", "2.0", "0.0"},
    "openrouter/api/connection.py": {"10.0"},
    "openrouter/api/requests.py": {"300.0", "90.0", "60.0", "0.5", "0.0"},
    "openrouter/api/responses.py": {"0.0"},
    "warehouse/embedded.py": {"0.5", "0.02"},
    "warehouse/locks.py": {"0.2"},
}
FLOAT_CALLS = {("openrouter/api/responses.py", "header_number")}
CLOCKS = {
    *(f"datetime.{name}" for name in ("now", "utcnow", "today")),
    *(f"date.{name}" for name in ("today",)),
    *(
        f"time.{name}"
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "localtime", "gmtime")
    ),
}
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getcwd", "os.putenv", "Path.cwd", "Path.home"}
# The CLI and deployments may, and these: clocks that can be replaced, waits for another process, the settings.
READERS = {
    ("alerts/look.py", "look"),
    ("openrouter/api/progress.py", "Progress.__init__"),
    ("openrouter/api/requests.py", "utc_now"),
    ("settings.py", "load_settings"),
    ("simulator/api.py", "wall_clock"),
    ("simulator/api.py", "Simulator.__init__"),
    ("warehouse/embedded.py", "_until"),
    ("defs/resources.py", "utc_now"),
}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module of the package. `path` is below the package, `layer` its first part."""

    path: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse((PACKAGE / self.path).read_text(encoding="utf-8"))

    @property
    def layer(self) -> str:
        return self.path.split("/")[0].removesuffix(".py")

    def dotted(self) -> str:
        return f"orcost_pipeline/{self.path}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Import(NamedTuple):
    module: Module
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.module.path}:{self.line} imports {self.name}"


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
MODULES = [Module(path.relative_to(PACKAGE).as_posix()) for path in FILES]


def imports(module: Module) -> Iterator[Import]:
    """Everything imported, wherever it stands, `from package import module` as the module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            yield from (Import(module, node.lineno, f"{source}.{alias.name}") for alias in node.names)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parents = module.dotted().split(".")
    above = node.level - module.path.endswith("__init__.py")
    return ".".join([*parents[: len(parents) - above], *([node.module] if node.module else [])])


def located(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Every node with the function that runs it, as `Class.function`; "" at import. Defaults and decorators run at
    import, but belong to the signature they stand in."""

    def walk(node: ast.AST, place: str, prefix: str) -> Iterator[tuple[ast.AST, str]]:
        yield node, place
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FUNCTIONS):
                yield from walk(child, prefix + child.name, prefix + child.name + ".")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, place, f"{prefix}{child.name}.")
            else:
                yield from walk(child, place, prefix)

    return walk(module.tree, "", "")


def run_at_import(module: Module) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: all but the bodies of functions."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        skipped = [] if not isinstance(node, FUNCTIONS) else node.body
        if isinstance(node, ast.Lambda):
            skipped = [node.body]
        for child in ast.iter_child_nodes(node):
            if child not in skipped:
                yield from walk(child)

    return walk(module.tree)


def reads(node: ast.AST) -> str | None:
    """`datetime.now`, however the class was reached: `datetime.datetime.now` and `dt.datetime.now` too."""
    if not isinstance(node, ast.Attribute):
        return None
    owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    return f"{owner}.{node.attr}"


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_modules_import_only_what_their_layer_may() -> None:
    """The contracts are in pyproject.toml, `[tool.importlinter]`."""
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert " 0 broken" in linted.stdout


def test_what_is_imported_by_name_is_not_hidden_from_the_layer_rule() -> None:
    """`importlib.import_module("orcost_pipeline…")` would point anywhere."""
    hidden = [
        f"{module.path}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and (
            reads(node.func) == "importlib.import_module"
            or getattr(node.func, "id", "") in ("__import__", "import_module")
        )
    ]
    assert not hidden


def test_no_module_of_defs_postpones_annotations() -> None:
    """Dagster reads the annotation of `context`."""
    postponed = [
        str(told)
        for module in MODULES
        if module.layer in ("defs", "definitions")
        for told in imports(module)
        if told.name == "__future__.annotations"
    ]
    assert not postponed


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_float_stands_beside_money() -> None:
    floats = []
    for module in (module for module in MODULES if module.layer in MONEY_LAYERS):
        for node, place in located(module):
            if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
                if repr(node.value) not in SECONDS.get(module.path, set()):
                    floats.append(f"{module.path}:{node.lineno} {node.value!r}")
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "float":
                if (module.path, place) not in FLOAT_CALLS:
                    floats.append(f"{module.path}:{node.lineno} float(…)")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\bfloat\d", node.value):
                floats.append(f"{module.path}:{node.lineno} {node.value!r}")
    assert not floats


def test_the_seconds_that_are_allowed_are_still_there() -> None:
    """An allowance that nobody needs any more is a hole."""
    there = {
        (module.path, repr(node.value))
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    }
    assert {(path, number) for path, numbers in SECONDS.items() for number in numbers} <= there


def test_no_decimal_is_made_from_a_float() -> None:
    """`Decimal(0.1)` is 0.1000000000000000055; also where floats are welcome."""
    made = [
        f"{module.path}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Decimal"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, float)
    ]
    assert not made


def test_no_relation_has_a_floating_point_column() -> None:
    inexact = re.compile(r"\b(float[48]?|real|double\s+precision|money)\b", re.IGNORECASE)
    found = []
    for path in sorted(PACKAGE.rglob("*.sql")):
        text = re.sub(r"--[^\n]*|'(?:[^']|'')*'", "", path.read_text(encoding="utf-8"))
        found += [f"{path.name}: {match[0]}" for match in inexact.finditer(text)]
    assert not found
    assert list(PACKAGE.rglob("*.sql"))


# ── clock and environment ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_clock_and_the_environment_are_read_in_a_few_known_places() -> None:
    readers = {
        (module.path, place): f"{module.path}:{node.lineno} {told} in {place or 'the module'}"
        for module in MODULES
        if module.layer not in ("cli", "deployment")
        for node, place in located(module)
        if (told := reads(node)) in CLOCKS | ENVIRONMENT
    }
    assert not [line for where, line in readers.items() if where not in READERS]
    assert readers.keys() == READERS


def test_nothing_reads_the_clock_or_the_environment_when_it_is_imported() -> None:
    at_import = [
        f"{module.path}:{node.lineno} {told}"
        for module in MODULES
        for node in run_at_import(module)
        if isinstance(node, ast.Call)
        and ((told := reads(node.func)) in CLOCKS | ENVIRONMENT or (told or "").startswith("environ."))
    ]
    at_import += [
        f"{module.path}:{node.lineno} os.environ"
        for module in MODULES
        for node in run_at_import(module)
        if reads(node) in ("os.environ", "os.environb")
    ]
    assert not at_import


def test_definitions_alone_read_settings_when_they_are_imported() -> None:
    readers = {
        module.path
        for module in MODULES
        for node in run_at_import(module)
        if isinstance(node, ast.Call)
        and {"load_settings", "build_defs"} & {getattr(node.func, "id", ""), reads(node.func) or ""}
    }
    assert readers == {"definitions.py"}


def test_the_cli_and_the_definitions_alone_read_settings() -> None:
    readers = {
        module.layer
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_settings"
    }
    assert readers <= {"definitions", "cli"}


# ── form ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)
def test_every_module_says_what_it_is_for(module: Module) -> None:
    docstring = ast.get_docstring(module.tree) or ""
    assert len(docstring) > 20


def test_no_function_is_longer_than_fifty_lines() -> None:
    long = [
        f"{module.path}:{node.lineno} {node.name}: {length}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, FUNCTIONS) and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long


def test_every_public_function_says_what_it_returns() -> None:
    untyped = [
        f"{module.path}:{node.lineno} {node.name}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, FUNCTIONS) and node.returns is None
    ]
    assert not untyped


# ── packaging ────────────────────────────────────────────────────────────────────────────────────────────────────────

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
_EXTRAS = PROJECT["project"]["optional-dependencies"]


def requirements(extra: str) -> Iterator[Requirement]:
    """What an extra adds, and the extras of the project that it contains."""
    for requirement in map(Requirement, _EXTRAS[extra]):
        if requirement.name == PROJECT["project"]["name"]:
            yield from (it for inner in requirement.extras for it in requirements(inner))
        else:
            yield requirement


EXTRAS = {name: list(requirements(name)) for name in _EXTRAS}
# The checkout's lock, that of the image, and that of Celery workers: what each installs besides the dependencies.
LOCKS = {
    "requirements.lock": "dev",
    "deploy/requirements.lock": "k8s",
    "deploy/celery/requirements.lock": "celery",
}


def pins(path: str) -> dict[str, Version]:
    lock = (ROOT / path).read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock, re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


@pytest.mark.parametrize(
    ("lock", "dependency"),
    [(lock, it) for lock, extra in LOCKS.items() for it in (*DEPENDENCIES, *EXTRAS[extra])],
    ids=str,
)
def test_the_lock_pins_what_the_project_asks_for(lock: str, dependency: Requirement) -> None:
    pinned = pins(lock)[canonicalize_name(dependency.name)]
    assert dependency.specifier.contains(pinned)


def test_every_extra_is_locked() -> None:
    for extra, asked in EXTRAS.items():
        assert extra in LOCKS.values() or set(asked) < set(EXTRAS["dev"])


@pytest.mark.parametrize("path", LOCKS)
def test_everything_in_the_lock_is_pinned_and_hashed(path: str) -> None:
    lock = (ROOT / path).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", lock, flags=re.MULTILINE).strip())
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert len(entries) > 50


def test_what_is_imported_is_a_dependency_that_the_project_names() -> None:
    tops = {it.name.split(".")[0] for module in MODULES for it in imports(module)}
    provided_by = packages_distributions()
    named = {canonicalize_name(dependency.name) for dependency in (*DEPENDENCIES, *EXTRAS["parquet"])}
    foreign = tops - set(sys.stdlib_module_names) - {"orcost_pipeline"}
    assert len(foreign) > 10
    assert [it for it in foreign if not named & {canonicalize_name(name) for name in provided_by[it]}] == []


@pytest.mark.parametrize("path", [*LOCKS, "Makefile", ".ci/run", "pyproject.toml"])
def test_no_registry_is_written_down(path: str) -> None:
    """Where packages come from is the business of who installs them."""
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not re.findall(r"https?://\S+|--(?:extra-)?index(?:-url)?\b|--find-links\b|--trusted-host\b", text)


def test_everything_that_is_no_python_is_packed() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["orcost_pipeline"]
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".py"]
    files = [path for path in files if "__pycache__" not in path.parts]
    loose = [path.name for path in files if not any(fnmatch(path.name, pattern.split("/")[-1]) for pattern in patterns)]
    assert not loose
    assert {path.suffix for path in files} >= {".sql", ".yaml", ".csv"}


def test_dagster_is_configured_the_same_in_a_checkout_and_in_a_package() -> None:
    packed = (PACKAGE / "deployment" / "dagster.yaml").read_text(encoding="utf-8")
    assert (ROOT / "dagster.yaml").read_text(encoding="utf-8") == packed
    assert packed.strip()


def test_the_example_of_variables_holds_no_secret() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert not re.search(r"sk-or-|^[A-Z_]+=.+", example, re.MULTILINE)
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
