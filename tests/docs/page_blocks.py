"""Runs the blocks of a page as they stand, with tiny settings in a file of `--config`, and the next steps printed."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from conftest import TINY

from medloom.cli.main import main, split_command
from medloom.core.options import options_of
from medloom.recipes.commands import commands, resolve

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# What each training command takes of these is given to it where the page does not say it on the command line.
SETTINGS: dict[str, object] = {
    **TINY,
    "loop.steps": 2,
    "loop.warmup": 0,
    "loop.log_every": 100,
    "loop.validate_every": 1000,
    "loop.checkpoint_every": 1000,
    "text.max_tokens": 77,
    "encoder.vocabulary": 300,
    "encoder.width": 16,
    "encoder.layers": 1,
    "encoder.image_widths": [8, 8],
    "encoder.joint": 16,
    "autoencoder.widths": [8, 8, 8],
    "autoencoder.depth": 1,
    "autoencoder.codes": 16,
    "autoencoder.perceptual": "none",
    "autoencoder.adversarial_weight": 0,
    "gan.width": 8,
    "gan.layers": 1,
    "gan.scales": 1,
    "network.blocks": 1,
    "network.depth": 1,
    "network.width": 32,
    "network.heads": 2,
}
# What a run keeps that another one continues.
SHAPES = ("autoencoder.widths", "autoencoder.depth", "autoencoder.codes")
# Options of commands that do not train a generator.
OPTIONS = {"device": "cpu", "steps": "2"}
DEMO = {"patients": "40", "steps": "2", "rows": "2"}
NEXT_STEP = re.compile(r"(?:Continue with|^wrote [^:]+): (medloom .+)$", re.MULTILINE)
NEXT_STEPS = re.compile(r"Try next:\n((?: {2}.+\n?)+)")


@dataclass(frozen=True)
class Block:
    """A block of a page: its language and its text, without the indentation."""

    number: int
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines of a shell block, continued ones joined."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [line.strip().removeprefix("$ ") for line in joined if line.strip()]


def blocks(name: str) -> list[Block]:
    """The blocks of a page that are run, and the YAML files it shows, in order."""
    found = []
    for indent, language, body in BLOCK.findall((ROOT / name).read_text(encoding="utf-8")):
        if language in ("sh", "python", "yaml"):
            text = "\n".join(line.removeprefix(indent) for line in body.splitlines()) + "\n"
            found.append(Block(len(found), language, text))
    return found


@dataclass
class Session:
    """A user in a folder who types what a page says.

    Attributes:
        folder: the working folder.
        settings: changes of SETTINGS on this page.
        placeholders: what stands for the placeholders of next steps.
        names: variables that the page's Python blocks share.
        refused: beginning of a command -> other exit statuses that it may have, as the page says.
    """

    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    placeholders: Mapping[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    refused: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)

    def shell(self, line: str) -> None:
        """Run a line of a shell, and keep what it prints as next step."""
        words = shlex.split(line, comments=True)
        if words[:1] == ["python"]:
            done = subprocess.run([sys.executable, *words[1:]], cwd=self.folder, env=self.environment)
            assert done.returncode == 0, line
        elif words:
            assert words[0] == "medloom", line
            printed = self.command(words[1:], line)
            for step in next_steps(printed):
                if step not in self.next_steps:
                    self.next_steps.append(step)
        self.ran.append(line)

    @property
    def environment(self) -> dict[str, str]:
        """Of a child process: this copy of the package."""
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def command(self, words: list[str], line: str) -> str:
        """Run a command; returns what it prints."""
        output = StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            try:
                status = main(self.completed(words))
            except SystemExit as end:
                status = int(end.code or 0)
        allowed = next((codes for start, codes in self.refused.items() if line.startswith(start)), (0,))
        assert status in allowed, f"{line}\nended with {status}:\n{output.getvalue()[-3000:]}"
        return output.getvalue()

    def completed(self, words: list[str]) -> list[str]:
        """The words, and tiny settings where they say nothing."""
        named = next((" ".join(words[:length]) for length in (3, 2, 1) if " ".join(words[:length]) in commands()), None)
        if named is None:
            return words
        command, _ = split_command(words)
        known = options_of(resolve(command)[0])
        given = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
        if command.startswith("train ") or command == "ablate":
            return [*words, *self.settings_for(command, known, given, words)]
        extra = {**OPTIONS, **(DEMO if command == "demo" else {})}
        if any("gan" in word for word in words):
            del extra["steps"]
        file = []
        if command == "evaluate images" and "config" not in given:
            (self.folder / "evaluation.yaml").write_text("edited_images: 4\n", encoding="utf-8")
            file = ["--config", "evaluation.yaml"]
        return [
            *words,
            *file,
            *(
                word
                for name, value in extra.items()
                if name in known and name not in given
                for word in (f"--{name}", value)
            ),
        ]

    def settings_for(self, command: str, known: Mapping[str, Any], given: set[str], words: list[str]) -> list[str]:
        """`--config` with the settings of a training; of a file that the page names, with its own ones too."""
        if command == "ablate":
            grid = self.folder / words[words.index("--grid") + 1]
            self.shrink_grid(grid)
            return []
        values = {name: value for name, value in {**SETTINGS, **self.settings}.items() if name in known}
        values = {name: value for name, value in values.items() if name not in given}
        dropped = set()
        if command == "train gan":
            values.pop("network.depth")
        if "512" in words and command == "train autoencoder":
            # To 256 tokens.
            values["autoencoder.widths"] = [8] * 6
        if "vq" not in words:
            values.pop("autoencoder.codes", None)
        if given & {"from", "base"}:
            dropped |= set() if command == "train tokens" else {"network", "text"}
            values = {name: value for name, value in values.items() if name not in SHAPES}
        if "text.encoder" in given:
            dropped |= {"text"}
        if "--dims" in words or "patch" in given:
            values.pop("image_size", None)
        if command == "train tokens" and "image_size" not in given:
            values.pop("image_size", None)
        # Tokens that fit an encoder of the page stay.
        own = {"text"} & dropped if "text.encoder" in given else set()
        values = {
            name: value
            for name, value in values.items()
            if (group := name.partition(".")[0]) not in dropped or (group in own and name in self.settings)
        }
        file = self.folder / "tiny.yaml"
        if "config" in given:
            # Both would be one option; the page's file keeps what is not tiny.
            file = self.folder / words[words.index("--config") + 1]
            values = {**flat(yaml.safe_load(file.read_text(encoding="utf-8"))), **values}
        file.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items()), encoding="utf-8")
        return [] if "config" in given else ["--config", file.name]

    def shrink_grid(self, grid: Path) -> None:
        """The grid of an ablation with tiny settings in its steps."""
        plan = yaml.safe_load(grid.read_text(encoding="utf-8"))
        for step in plan["steps"]:
            known = options_of(resolve(step["run"])[0])
            extra = SETTINGS if step["run"].startswith("train ") else {"device": "cpu", "steps": 2}
            step["options"] |= {name: value for name, value in extra.items() if name in known}
        grid.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")

    def python(self, block: Block) -> None:
        """Run a Python block with the names of those before it."""
        exec(compile(block.text, f"block {block.number}", "exec"), self.names)
        self.ran.append(block.text)

    def run_next_steps(self) -> None:
        """Type what commands printed as next step, also those of these commands in turn."""
        for number, step in enumerate(self.next_steps):
            self.shell(self.filled(step, number))

    def filled(self, step: str, number: int) -> str:
        """A next step with its placeholders filled in."""
        fills = {"DIR": f"next-{number}", "RUN": f"runs/next-{number}", "MANIFEST": "train.csv", "PRIOR": "prior.png"}
        if step.startswith("medloom generate"):
            fills["MANIFEST"] = "test.csv --skip-bad"
        fills |= {
            "--days N": "--days 30",
            "--prompt ...": '--prompt "No acute findings."',
            "--text ...": '--text "No change."',
        }
        for name, value in {**self.placeholders, **fills, **self.placeholders}.items():
            pattern = rf"\b{name}\b" if name.isupper() else re.escape(name)
            step = re.sub(pattern, value, step)
        return step


def next_steps(printed: str) -> list[str]:
    """The commands that a command names at its end."""
    several = [line.strip() for body in NEXT_STEPS.findall(printed) for line in body.splitlines()]
    return [
        re.sub(r"^.*?medloom(?= )|^\S+ -m medloom", "medloom", step) for step in NEXT_STEP.findall(printed) + several
    ]


def flat(values: Mapping[str, object], before: str = "") -> dict[str, object]:
    """Nested settings by dotted names."""
    found: dict[str, object] = {}
    for name, value in values.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def left_out(line: str, reasons: Mapping[str, str]) -> str | None:
    """The entry of a table of lines that are not run, by how they begin."""
    return next((start for start in reasons if line.startswith(start)), None)


def run_page(
    session: Session,
    page: list[Block],
    reasons: Mapping[str, str],
    before: Mapping[int, Callable[[Session], None]],
) -> Iterator[str]:
    """Run a page's blocks in order; yields the lines that are left out.

    Args:
        session: where they are run.
        page: its blocks.
        reasons: beginning of a line that is not run -> why.
        before: number of a block -> what is prepared before it.
    """
    for block in page:
        if block.language == "yaml":
            continue
        if block.number in before:
            before[block.number](session)
        if block.language == "python":
            session.python(block)
            continue
        for line in block.lines:
            if entry := left_out(line, reasons):
                yield entry
            else:
                session.shell(line)
