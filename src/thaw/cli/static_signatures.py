"""What constructors take, read from their source: nothing is imported, so that a mistyped option is
answered in a second and not after the seconds that torch, lightning and transformers take to load.

What cannot be found this way (a class made at run time, a module without source) is imported.
"""

import ast
import builtins
import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

LIGHT = {*sys.stdlib_module_names, "pydantic", "typing_extensions", "annotated_types"}
Parameters = dict[str, inspect.Parameter]


@dataclass(frozen=True)
class Signature:
    """What a callable takes.

    Attributes:
        parameters: by name.
        hints: their types; `Any` where it could not be found.
        open_ended: whether it takes any other name besides.
    """

    parameters: Parameters
    hints: dict[str, Any]
    open_ended: bool


class NotFound(Exception):
    """The source does not say it."""


@cache
def signature(target: str) -> Signature:
    """What a `_target_` takes: a class that passes `**options` on takes its base's arguments too.

    Args:
        target: the dotted name of a class or function.
    """
    try:
        module, node = locate(target)
        return merged(makers(module, node))
    except NotFound:
        from hydra.utils import get_object

        return merged(imported_makers(get_object(target)))


def merged(makers: Iterator[tuple[Sequence[inspect.Parameter], dict[str, Any]]]) -> Signature:
    """One signature of a constructor and those of its bases, as far as they pass options on."""
    parameters: Parameters = {}
    hints: dict[str, Any] = {}
    for own, own_hints in makers:
        named = [p for p in own if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        # What a base requires, the class may give it.
        above = [p.replace(default=None) for p in named] if parameters else named
        parameters = {p.name: p for p in above} | parameters
        hints = own_hints | hints
        if len(named) == len(own):
            return Signature(parameters, hints, False)
    return Signature(parameters, hints, True)


def imported_makers(target: Callable) -> Iterator[tuple[list[inspect.Parameter], dict[str, Any]]]:
    """Parameters and hints of a target's constructors, from the objects themselves."""
    chain: list[Callable] = [target]
    if inspect.isclass(target):
        chain = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]
    for maker in chain:
        own = list(inspect.signature(maker).parameters.values())
        hints = typing.get_type_hints(maker, include_extras=True)
        yield own[1:] if inspect.isclass(target) else own, hints


@dataclass
class Module:
    """The source of a module.

    Attributes:
        name: dotted.
        package: that its relative imports start from.
        names: what it defines or imports, by name.
    """

    name: str
    package: str
    names: dict[str, ast.AST] = field(default_factory=dict)


@cache
def module_of(name: str) -> Module:
    """The source of a module.

    Raises:
        NotFound: there is none.
    """
    path = source_path(name)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    module = Module(name, package)
    collect(ast.parse(path.read_text(encoding="utf-8")).body, module.names)
    return module


def source_path(name: str) -> Path:
    """Where a module's source lies; its packages are not imported."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # such as __main__
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise NotFound(name)
    path = Path(spec.origin)
    for part in rest:
        if path.name != "__init__.py":
            raise NotFound(name)
        options = (path.with_name(part) / "__init__.py", path.with_name(f"{part}.py"))
        found = next((option for option in options if option.is_file()), None)
        if found is None:
            raise NotFound(name)
        path = found
    return path


def collect(body: Sequence[ast.stmt], names: dict[str, ast.AST]) -> None:
    """Adds the names that statements define; of several definitions, the first one."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.setdefault(node.name, node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    names.setdefault(target.id, node.value)
        elif isinstance(node, ast.AnnAssign):
            if isinstance(node.target, ast.Name) and node.value is not None:
                names.setdefault(node.target.id, node.value)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                names.setdefault(alias.asname or alias.name, node)
        elif isinstance(node, (ast.If, ast.Try)):
            collect(node.body, names)
            collect(node.orelse, names)


def locate(target: str) -> tuple[Module, ast.AST]:
    """The definition that a dotted name leads to, and the module it stands in."""
    parts = target.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            module = module_of(".".join(parts[:count]))
        except NotFound:
            continue
        if len(parts) - count != 1:
            raise NotFound(target)
        return defined(module, parts[-1])
    raise NotFound(target)


def defined(module: Module, name: str) -> tuple[Module, ast.AST]:
    """The definition of a module's name, imports followed."""
    node = module.names.get(name)
    if node is None:
        raise NotFound(f"{module.name}.{name}")
    if isinstance(node, ast.ImportFrom):
        alias = next(a for a in node.names if (a.asname or a.name) == name)
        return defined(module_of(imported_from(module, node)), alias.name)
    return module, node


def imported_from(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of the module that a `from ... import` names."""
    if not node.level:
        return node.module or ""
    base = module.package.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def makers(module: Module, node: ast.AST) -> Iterator[tuple[list[inspect.Parameter], dict]]:
    """Parameters and hints of a function, or of a class's constructor and those of its bases."""
    if isinstance(node, ast.FunctionDef):
        yield arguments_of(module, node)
        return
    if not isinstance(node, ast.ClassDef):
        raise NotFound(module.name)
    inner: dict[str, ast.AST] = {}
    collect(node.body, inner)
    maker = inner.get("__init__")
    if isinstance(maker, ast.FunctionDef):
        own, hints = arguments_of(module, maker)
        yield own[1:], hints
    elif is_dataclass(node):
        yield fields_of(module, node)
    for base in node.bases:
        if not isinstance(base, ast.Name) or base.id not in ("object", "ABC", "Protocol"):
            yield from makers(*based_on(module, base))


def based_on(module: Module, base: ast.expr) -> tuple[Module, ast.AST]:
    """The definition of a base class, written as `Name` or `module.Name`."""
    if isinstance(base, ast.Name):
        return defined(module, base.id)
    if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
        node = module.names.get(base.value.id)
        if isinstance(node, ast.Import):
            alias = next(a for a in node.names if (a.asname or a.name) == base.value.id)
            return locate(f"{alias.name}.{base.attr}")
    raise NotFound(ast.unparse(base))


def arguments_of(
    module: Module, node: ast.FunctionDef
) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    """A function's parameters and their types."""
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    missing = len(plain) - len(a.defaults)
    found = [
        parameter(arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, i >= missing)
        for i, arg in enumerate(plain)
    ]
    if a.vararg:
        found.append(parameter(a.vararg, inspect.Parameter.VAR_POSITIONAL, False))
    for arg, default in zip(a.kwonlyargs, a.kw_defaults, strict=True):
        found.append(parameter(arg, inspect.Parameter.KEYWORD_ONLY, default is not None))
    if a.kwarg:
        found.append(parameter(a.kwarg, inspect.Parameter.VAR_KEYWORD, False))
    typed = [arg for arg in (*plain, *a.kwonlyargs) if arg.annotation is not None]
    return found, {arg.arg: evaluated(module, arg.annotation) for arg in typed}


def parameter(arg: ast.arg, kind: Any, has_default: bool) -> inspect.Parameter:
    """A parameter of a kind; its default is only known to be there."""
    default = None if has_default else inspect.Parameter.empty
    return inspect.Parameter(arg.arg, kind, default=default)


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class has its constructor from `@dataclass`."""
    names = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return any(isinstance(name, ast.Name) and name.id == "dataclass" for name in names)


def fields_of(module: Module, node: ast.ClassDef) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    """The parameters that `@dataclass` makes of a class's fields."""
    found, hints = [], {}
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            arg = ast.arg(line.target.id, line.annotation)
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            found.append(parameter(arg, kind, line.value is not None))
            hints[arg.arg] = evaluated(module, line.annotation)
    return found, hints


def evaluated(module: Module, node: ast.AST | None) -> Any:
    """A type out of an annotation; `Any` for what only running the code would tell."""
    if node is None:
        return Any
    try:
        return Evaluation(module).visit(node)
    except Exception:  # an exotic annotation: the constructor itself will say
        return Any


class Evaluation(ast.NodeVisitor):
    """Evaluates a type expression without importing what it names.

    A class outside of the standard library becomes a stand-in that nothing is an instance of: a
    value of the command line is none either.

    Args:
        module: whose names the expression uses.
    """

    def __init__(self, module: Module) -> None:
        self.module = module

    def generic_visit(self, node: ast.AST) -> Any:
        raise NotFound(ast.dump(node))

    def visit_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, str):
            return self.visit(ast.parse(node.value, mode="eval").body)
        return node.value

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id not in self.module.names and hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        return value_of(self.module, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        return getattr(self.visit(node.value), node.attr)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        base = self.visit(node.value)
        if base is typing.Literal:
            return base[ast.literal_eval(node.slice)]
        if base is typing.Annotated:
            assert isinstance(node.slice, ast.Tuple)
            hint, *extras = node.slice.elts
            return base[(self.visit(hint), *(self.call(extra) for extra in extras))]
        inner = self.visit(node.slice)
        return Any if base is Any else base[inner]

    def visit_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.visit(part) for part in node.elts)

    def visit_List(self, node: ast.List) -> Any:
        return [self.visit(part) for part in node.elts]

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        return typing.Union[self.visit(node.left), self.visit(node.right)]  # noqa: UP007

    def call(self, node: ast.expr) -> Any:
        """The value of pydantic's `Field(...)`."""
        assert isinstance(node, ast.Call)
        options = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
        return self.visit(node.func)(*map(ast.literal_eval, node.args), **options)


def value_of(module: Module, name: str) -> Any:
    """What a name of a module stands for in a type."""
    node = module.names.get(name)
    if isinstance(node, ast.Import):
        alias = next(a for a in node.names if (a.asname or a.name) == name)
        if alias.name.split(".")[0] in LIGHT:
            return importlib.import_module(alias.name)
        raise NotFound(name)
    if isinstance(node, ast.ImportFrom):
        source = imported_from(module, node)
        alias = next(a for a in node.names if (a.asname or a.name) == name)
        if source.split(".")[0] in LIGHT:
            return getattr(importlib.import_module(source), alias.name)
        return value_of(module_of(source), alias.name)
    if isinstance(node, ast.ClassDef):
        # A subclass of something may be made of a string or a dict, as an Enum or a dataclass is.
        bases = {b.id for b in node.bases if isinstance(b, ast.Name)}
        simple = not (node.decorator_list or node.keywords) and not bases & {"Enum", "TypedDict"}
        return type(name, (), {}) if simple else Any
    if node is None:
        raise NotFound(f"{module.name}.{name}")
    return Evaluation(module).visit(node)
