"""The rooms of the package: imports go downwards only, and nothing stands loose on the ground floor."""

import ast
from collections import defaultdict

from tests.conftest import ROOT

PACKAGE = ROOT / "cifar_flax"
GROUND_FLOOR = {"__init__", "_version", "errors", "network", "run"}
# Lower rooms first; the rooms of a row do not import each other.
FLOORS = [
    ["_version", "errors"],
    ["files"],
    ["config"],
    ["runtime"],
    ["data"],
    ["augment", "models"],
    ["optim"],
    ["evaluation"],
    ["network"],
    ["pretrained"],
    ["training"],
    ["run"],
    ["analysis"],
    ["export", "search", "serving"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports():
    """(file, room of the file, room that it imports), of the whole package but for its lazy exports."""
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cifar_flax":
                names = [alias.name for alias in node.names] if node.module == "cifar_flax" else [node.module.split(".")[1]]
                modules = names
            elif isinstance(node, ast.Import):
                modules = [a.name.split(".")[1] for a in node.names if a.name.startswith("cifar_flax.")]
            for module in modules:
                if room != "__init__" and module != room:
                    yield path.relative_to(ROOT), room, module


def test_imports_go_downwards_only():
    upwards = [f"{file} imports {module}" for file, room, module in imports() if FLOOR_OF[module] >= FLOOR_OF[room]]
    assert upwards == []


def test_no_module_stands_loose_on_the_ground_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} == GROUND_FLOOR


def test_modules_within_a_room_import_each_other_without_circles():
    graph = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # at the top level: an import in a function may wait
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cifar_flax."):
                graph[name].add(node.module)
    for start in list(graph):
        reached, waiting = set(), list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += graph[module]
        assert start not in reached, f"{start} imports itself by way of others"
