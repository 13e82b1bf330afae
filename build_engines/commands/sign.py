"""`build-engines keygen` and `sign`."""

from pathlib import Path

from rich.console import Console

from engines import signatures


def generate_key(out: Path, console: Console) -> None:
    """Write a pair of keys. Raises SignatureError where there is one."""
    public = signatures.generate(out)
    console.print(f"Wrote {out}, which signs: keep it secret; and {public}, by which a service knows what it signed.")


def sign_bundle(folder: Path, key: Path, console: Console) -> None:
    """Sign a bundle. Raises BundleError or SignatureError."""
    console.print(f"Signed {folder} with key {signatures.sign(folder, key)}.")
