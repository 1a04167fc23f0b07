#!/usr/bin/env python3
"""compose.yaml and the manifests of docs/examples are what the schemas of the Compose specification and of
Kubernetes allow, and a copy with a mistake is not.

    python3 tests/docs/manifests.py

takes 10 seconds, the first time 30 to install the schemas."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / "target/manifests"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
KUBERNETES = ("1.31", "1.37")
COMPOSE = [VENV / "bin/check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
# A file, text in it, and a mistake in its place.
MISTAKES = [
    ("compose.yaml", "cap_drop: [ALL]", "cap_drop: ALL"),
    ("compose.yaml", "start_period:", "begin_period:"),
    ("compose.yaml", "file: ./not_my_key", "path: ./not_my_key"),
    ("docs/examples/kubernetes-sqlite.yaml", "replicas: 1", "replicas: one"),
    ("docs/examples/kubernetes-postgres.yaml", "maxUnavailable:", "maxUnready:"),
]


def install() -> None:
    text = REQUIREMENTS.read_text()
    installed = VENV / "installed.txt"
    if not installed.exists() or installed.read_text() != text:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        pip = [VENV / "bin/pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
        installed.write_text(text)


def complaints(path: Path) -> str:
    """None: an empty string."""
    if path.name == "compose.yaml":
        commands = [[*COMPOSE, path]]
    else:
        validate = [VENV / "bin/kubernetes-validate", "--strict", "--quiet", "-k"]
        commands = [[*validate, version, path] for version in KUBERNETES]
    done = [subprocess.run(it, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for it in commands]
    return "".join(it.stdout for it in done if it.returncode != 0)


def main() -> None:
    install()
    manifests = [ROOT / "compose.yaml", *sorted((ROOT / "docs/examples").glob("kubernetes-*.yaml"))]
    for path in manifests:
        said = complaints(path)
        assert not said, said
        print(f"ok    {path.relative_to(ROOT)}")
    for name, text, mistake in MISTAKES:
        path = ROOT / name
        right = path.read_text()
        assert text in right, f"{name}: no {text!r}"
        with tempfile.TemporaryDirectory(prefix="manifests-") as folder:
            wrong = Path(folder) / path.name
            wrong.write_text(right.replace(text, mistake))
            assert complaints(wrong), f"{name}: {mistake!r} is let through"
    print(f"ok    {len(MISTAKES)} mistakes are refused")


if __name__ == "__main__":
    main()
