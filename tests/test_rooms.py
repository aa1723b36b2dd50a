"""Imports between the rooms of `src/thaw` go one way, function-level imports included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src" / "thaw"
ROOMS = ["errors", "storage", "data", "cli", "encoder", "training", "report", "tasks"]
COMMANDS = len(ROOMS)
LIGHT = ["errors", "storage", "cli"]  # rooms whose import must not load torch
LARGEST = 15  # files of a room


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports_of(module: str) -> Iterator[str]:
    """The modules of thaw that a module imports anywhere in its code, but for its types alone."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in named)


GRAPH = {module: set(imports_of(module)) - {module, "thaw"} for module in MODULES}


def height(module: str) -> int:
    room = module.split(".")[1] if "." in module else "errors"
    return ROOMS.index(room) if room in ROOMS else COMMANDS


def thaw_modules(path: Path) -> Iterator[tuple[int, str]]:
    """The modules of thaw that a file imports, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "thaw":
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from ((node.lineno, name) for name in names if name.split(".")[0] == "thaw")


@pytest.mark.parametrize("directory", ["src", "benchmarks", "tests"])
def test_every_module_of_thaw_that_is_imported_exists(directory):
    files = list((REPOSITORY / directory).rglob("*.py"))
    assert files
    missing = [
        f"{path.relative_to(REPOSITORY)} line {line}: {name}"
        for path in files
        for line, name in thaw_modules(path)
        if name not in MODULES
    ]
    assert missing == []


def test_no_room_imports_from_one_above_it():
    upward = [
        f"{module} -> {other}"
        for module, others in GRAPH.items()
        for other in sorted(others)
        if height(other) > height(module)
    ]
    assert upward == []


def test_there_is_no_cycle_of_imports():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for other in sorted(GRAPH[module]):
            visit(other, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_packages_are_empty_so_that_importing_a_module_loads_that_module_alone():
    for path in SOURCE.rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        # The package itself has its version, and a function that imports what is asked for.
        allowed = 3 if path.parent == SOURCE else 1
        assert len(body) <= allowed, path


def test_no_room_has_more_files_than_a_reader_can_survey():
    for directory in [SOURCE, *(p for p in SOURCE.rglob("*") if p.is_dir())]:
        files = [p for p in directory.glob("*.py") if p.name != "__init__.py"]
        assert len(files) <= LARGEST, f"{directory.name}: {len(files)}"


def test_the_rooms_before_torch_do_not_import_it():
    for module, path in MODULES.items():
        if module.split(".")[1:2] and module.split(".")[1] in LIGHT:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
            names = {a.name for n in top for a in n.names} | {getattr(n, "module", "") for n in top}
            heavy = {str(n).split(".")[0] for n in names if n} & {
                "torch",
                "transformers",
                "lightning",
            }
            assert not heavy, f"{module} imports {heavy}"
