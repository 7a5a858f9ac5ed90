"""The house in figures: sizes, names that stand for two things, arrows between folders.

    python -m benchmarks.house [ROOT]

ROOT: a tree of the project, such as a git worktree of an older state; by default this one.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

PACKAGES = ("retrieval", "classify", "imgret")
ARROWS = """
import grimp, sys
graph = grimp.build_graph("retrieval", "classify", "imgret", cache_dir=None)
def folder(module):
    parts = module.split(".")
    inner = graph.find_children(".".join(parts[:2]))
    return ".".join(parts[:2]) if len(parts) > 2 or inner else parts[0]
arrows = {(folder(a), folder(b)) for a in graph.modules
          for b in graph.find_modules_directly_imported_by(a)}
print(sum(a != b for a, b in arrows), len({folder(m) for m in graph.modules}))
"""


def functions(tree: ast.Module) -> list[int]:
    """Lines of each function's body, its docstring apart."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            body = node.body[1:] if documented else node.body
            found.append((body[-1].end_lineno or 0) - body[0].lineno + 1)
    return found


def public_names(tree: ast.Module) -> set[str]:
    """Classes, functions, type aliases and constants at the top of a module."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                found |= {part.id for part in parts if isinstance(part, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def lines(files: list[Path]) -> int:
    """Lines of some files together."""
    return sum(file.read_text(encoding="utf-8").count("\n") for file in files)


def main(root: Path) -> None:
    """Print a figure a line."""
    files = [file for name in PACKAGES for file in sorted((root / name).rglob("*.py"))]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    sizes = sorted(size for tree in trees for size in functions(tree))
    places: dict[str, int] = defaultdict(int)
    for tree in trees:
        for name in public_names(tree):
            places[name] += 1
    code, tests = lines(files), lines(sorted((root / "tests").rglob("*.py")))
    arrows, folders = subprocess.run(
        [sys.executable, "-c", ARROWS], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    for name, figure in {
        "files": len(files),
        "files over 400 lines": sum(lines([file]) > 400 for file in files),
        "lines": code,
        "test lines a code line": f"{tests / code:.2f}",
        "functions": len(sizes),
        "lines a function, median": f"{statistics.median(sizes):.0f}",
        "lines a function, 90 % below": sizes[int(0.9 * len(sizes))],
        "functions over 50 lines": sum(size > 50 for size in sizes),
        "public names that stand for two things": sum(count > 1 for count in places.values()),
        "folders": folders,
        "arrows between folders": arrows,
    }.items():
        print(f"{name}\t{figure}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
