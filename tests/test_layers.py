"""Imports go one way, and nothing happens at import. The source itself is read to prove it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vsr

PACKAGE = Path(vsr.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

BASE = {"errors", "frame", "config", "notation"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "frame": {"errors"},
    "config": {"errors", "frame", "notation"},
    "notation": set(),
    "chroma": {"errors", "frame"},
    "color": {"errors", "frame", "chroma"},
    # Not color: media hands over planes and never loads torch.
    "media": BASE,
    "models": BASE | {"color"},
    "engine": BASE | {"color", "models"},
    "quality": BASE | {"color", "media", "models.flow"},
    "pipeline": BASE | {"color", "media", "models", "engine"},
    "batch": BASE | {"pipeline", "quality"},
    "training": BASE | {"color", "media", "models", "quality"},
}
"""Room: what it may import besides itself. `cli` may import everything, the rest is not listed."""

NAMELESS = {"utils", "util", "common", "helpers", "helper", "core", "misc"}
ACTS = {
    "basicConfig",
    "is_available",
    "makedirs",
    "manual_seed",
    "mkdir",
    "open",
    "Popen",
    "print",
    "putenv",
    "read_bytes",
    "read_text",
    "retrieve",
    "set_num_threads",
    "set_level",
    "setLevel",
    "unlink",
    "urlopen",
    "write_bytes",
    "write_text",
}
"""Calls that have no business at module level."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, at any depth and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "vsr":
            # `import vsr` is fine for `vsr.__version__`, but the public names load other rooms.
            yield node.lineno, f"vsr.{node.attr}"


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not the bodies of functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        for field, value in ast.iter_fields(node):
            is_body = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if is_body and field == "body":
                continue
            values = value if isinstance(value, list) else [value]
            waiting.extend(item for item in values if isinstance(item, ast.AST))


def is_allowed(room: str, name: str) -> bool:
    if room == "cli" or name.split(".")[0] != "vsr":
        return True
    if name in ("vsr", "vsr.__version__"):
        return True
    inner = name.removeprefix("vsr.")
    reach = ALLOWED[room] | {room}
    return any(inner == target or inner.startswith(f"{target}.") for target in reach)


def breaches(room: str, source: str) -> list[str]:
    return [
        f"line {line}: {name}"
        for line, name in imported(ast.parse(source))
        if not is_allowed(room, name)
    ]


def rooms() -> set[str]:
    return {room_of(path) for path in FILES} - {"__init__", "__main__", "cli"}


def test_every_room_has_a_rule() -> None:
    assert rooms() <= set(ALLOWED)


def test_rules_go_one_way() -> None:
    order: list[str] = []
    while len(order) < len(ALLOWED):
        ready = [
            room
            for room, below in ALLOWED.items()
            if room not in order and {name.split(".")[0] for name in below} <= set(order)
        ]
        assert ready, f"the rules turn in a circle after {order}"
        order += ready


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) in ALLOWED], ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    assert breaches(room_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source", "refused"),
    [
        ("frame", "from vsr.media.probe import probe", True),
        ("media", "def f():\n    from vsr.color import complete", True),
        ("media", "import vsr.pipeline.plan", True),
        ("engine", "from vsr import media", True),
        ("engine", "from vsr import upscale", True),
        ("engine", "import vsr\nvsr.upscale()", True),
        ("engine", "import vsr\nprint(vsr.__version__)", False),
        ("quality", "from vsr.models.catalog import SPECS", True),
        ("quality", "from vsr.models.flow import warp", False),
        ("pipeline", "from vsr.engine.runner import Runner", False),
        ("pipeline", "from vsr import __version__", False),
        ("media", "from vsr.frame import Frame\nimport av", False),
    ],
)
def test_the_rule_can_fail(room: str, source: str, refused: bool) -> None:
    assert bool(breaches(room, source)) is refused


def users_of(library: str) -> set[str]:
    return {
        room_of(path)
        for path in FILES
        for _, name in imported(parse(path))
        if name == library or name.startswith(f"{library}.")
    }


def test_only_media_knows_av() -> None:
    assert users_of("av") <= {"media"}


def test_only_the_command_line_draws() -> None:
    assert users_of("tqdm") | users_of("click") <= {"cli"}
    printers = {
        name_of(path)
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert {name for name in printers if not name.startswith("cli/")} == set()


def test_media_and_the_value_types_do_without_torch() -> None:
    assert users_of("torch").isdisjoint({"media", "errors", "frame", "config"})


def test_loading_media_loads_no_torch() -> None:
    modules = [
        "vsr." + name_of(path).removesuffix(".py").replace("/", ".")
        for path in FILES
        if room_of(path) == "media" and path.stem != "__init__"
    ]
    code = (
        "import sys, importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        timeout=120,
        check=False,
    )
    assert done.stdout == "False\n", done.stderr


def test_cuda_stays_in_engine_and_training() -> None:
    users = {
        room_of(path)
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute)
        and node.attr == "cuda"
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
    }
    assert users | users_of("torch.cuda") <= {"engine", "training"}


def test_ffmpeg_keeps_its_log_level() -> None:
    """Setting it is global, and silences the messages by which damage is noticed."""
    users = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr == "set_level"
    ]
    assert users == []
    assert users_of("av.logging.set_level") == set()


def test_every_module_has_a_telling_name() -> None:
    for path in FILES:
        parts = {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts}
        assert parts.isdisjoint(NAMELESS), name_of(path)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_happens_at_import(path: Path) -> None:
    tree = parse(path)
    for node in tree.body:
        is_main_guard = isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__")
        if is_main_guard:
            tree.body.remove(node)
        elif isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), f"line {node.lineno}: {ast.unparse(node)}"
        else:
            assert not isinstance(node, ast.For | ast.While | ast.With | ast.Delete), node.lineno
    for inner in at_import(tree):
        if isinstance(inner, ast.Call):
            function = inner.func
            called = getattr(function, "attr", getattr(function, "id", ""))
            assert called not in ACTS, f"line {inner.lineno}: {ast.unparse(inner)}"
        if isinstance(inner, ast.Assign):
            for target in inner.targets:
                assert "environ" not in ast.unparse(target), f"line {inner.lineno}"


@pytest.mark.parametrize("path", [p for p in FILES if p.stem == "__init__"], ids=name_of)
def test_packages_are_light(path: Path) -> None:
    tree = parse(path)
    assert ast.get_docstring(tree), "a room's __init__ says what the room is for"
    for node in at_import(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            tree.body.remove(node)
    outside = {name.split(".")[0] for _, name in imported(tree)} - {"vsr", "__future__"}
    assert outside <= set(sys.stdlib_module_names)
