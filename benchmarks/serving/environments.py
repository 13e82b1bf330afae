"""An environment of its own for each compared server, made once."""

import subprocess
import sys
from pathlib import Path

# What `engines` needs to run a bundle, in every environment the same as the project asks for.
ENGINE = ("numpy>=2.0", "opencv-python-headless>=5.0", "pillow>=12.0", "pydantic>=2.11", "openvino>=2025.2")


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The folder of an environment's programs. It is made where `folder` does not hold one of these very packages."""
    made, wanted = folder / "packages.txt", "\n".join((*packages, *ENGINE))
    if not made.is_file() or made.read_text() != wanted:
        print(f"Making {folder} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages, *ENGINE], check=True)
        made.write_text(wanted)
    return folder / "bin"


def version_of(programs: Path, package: str) -> str:
    """The installed version of a package."""
    script = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    done = subprocess.run([programs / "python", "-c", script, package], capture_output=True, text=True, check=True)
    return done.stdout.strip()
