"""Who may import whom: engines knows neither of its users, service never imports build_engines, and neither torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "engines": {"service", "build_engines", "torch", "fastapi", "onnx"},
    "service": {"build_engines", "torch", "onnx"},
    "build_engines": {"service"},
}
# What compiles needs onnx; what serves must start without it.
COMPILING = {
    "engines/compilation.py",
    "engines/half_precision.py",
    "engines/lint.py",
    "engines/lint_quantization.py",
    "engines/onnx_graph.py",
    "engines/tensorrt_form.py",
}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_only_what_it_may(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    broken = {str(file.relative_to(ROOT)): imported(file) & FORBIDDEN[package] for file in files}
    for name in COMPILING & broken.keys():
        broken[name] -= {"onnx"}
    assert not {name: found for name, found in broken.items() if found}


def test_serving_imports_neither_onnx_nor_pycuda() -> None:
    script = (
        "import sys, engines.backends.tensorrt, engines.compile_process, engines.detector; "
        "print(sorted({'onnx', 'pycuda', 'tensorrt', 'torch', 'engines.onnx_graph'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
