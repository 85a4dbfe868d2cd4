"""Imports go down the floors: an arrow up, sideways between folders of a floor, or in a circle fails."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "medloom"
FLOORS = {
    "core": 1,
    "metrics": 2,
    "networks": 2,
    "processes": 2,
    "report_text": 2,
    "data": 3,
    "training": 4,
    "downstream": 4,
    "longitudinal": 4,
    "phantom": 4,
    "generators": 5,
    "generation": 6,
    "evaluation": 7,
    "feedback": 8,
    "recipes": 9,
    "studio": 10,
    "cli": 11,
}


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, function-local imports and those for type checking included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("medloom.")}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def folder_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else None


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_down(module: str) -> None:
    here = folder_of(module)
    for target in imports_of(modules()[module]):
        there = folder_of(target)
        if here is None or there is None or here == there:
            continue
        assert FLOORS[there] < FLOORS[here], f"{module} imports {target}: from floor {FLOORS[here]} to {FLOORS[there]}"


def test_no_circles() -> None:
    known = modules()
    arrows = {name: {t for t in imports_of(path) if t in known and t != name} for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(arrows[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(known):
        visit(name, ())


# Within evaluation: all reports share one folder, and an evaluation of edits trains judges as one of images does.
ROOMS = {"report": 1, "copies": 1, "checklists": 2, "images": 2, "effects": 2, "edits": 3}


@pytest.mark.parametrize("module", sorted(name for name in modules() if name.startswith("medloom.evaluation.")))
def test_imports_within_evaluation_go_down(module: str) -> None:
    here = module.split(".")[2]
    for target in imports_of(modules()[module]):
        there = target.split(".")[2] if target.startswith("medloom.evaluation.") else here
        assert here == there or ROOMS[there] < ROOMS[here], f"{module} imports {target}"
        pages = ("medloom.evaluation.images.page", "medloom.evaluation.images.sections")
        assert here == "images" or not target.startswith(pages), f"{module} imports {target}, of another report"


@pytest.mark.parametrize(
    "module", ["ablate", "compare", "demo", "evaluate_edits", "evaluate_images", "evaluate_whatif"]
)
def test_recipes_reach_others_through_the_table_of_commands(module: str) -> None:
    imported = {target for target in imports_of(PACKAGE / "recipes" / f"{module}.py") if ".recipes." in target}
    assert all(target.startswith("medloom.recipes.commands") for target in imported), imported


def test_every_folder_has_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert folders <= set(FLOORS)
