"""Every command that writes, killed at random file operations and run again: what is left has to be the same bytes.

Each command runs whole first. Then it is killed (SIGKILL) just before a random file operation, a few milliseconds
after one, which reaches the writing by native code, or at any time; the same command is run again, now and then killed
again, until it ends. Its folder is compared with that of the whole run, names and contents, and nothing may be left.
"""

import argparse
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from medloom.core.seeds import numpy_generator
from medloom.evaluation.report.openings import OPENINGS

# What Python reports before it does them (PEP 578); os.rename is that of os.replace too, os.remove that of os.unlink.
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Imported once by the server of processes, which each run is forked from: no run waits for torch.
IMPORTED = (
    "medloom.cli.main", "medloom.generators.train", "medloom.generation.produce", "medloom.generation.arm_pictures",
    "medloom.generation.edit_pictures", "medloom.recipes.evaluate_images", "medloom.recipes.data_journeys",
    "medloom.recipes.data_phantom", "medloom.recipes.data_split", "medloom.recipes.data_prompts",
    "medloom.recipes.generate", "medloom.recipes.edit", "medloom.recipes.whatif", "torch.utils.tensorboard",
    "accelerate", "diffusers", "transformers", "safetensors.torch", "matplotlib.figure", "pydicom", "joblib", "pandas",
    "benchmarks.kills",
)  # fmt: skip
LONGEST = 300.0
# Fractions of kills that come at any time, and some time after an operation; how long after it at most (s); fraction of
# runs again that are killed too.
ANY_TIME, LATER, LATEST, AGAIN = 0.25, 0.25, 0.03, 0.3
LOOP = (
    "--loop.steps 4 --loop.batch 4 --loop.precision fp32 --loop.warmup 1 --loop.validate-every 2"
    " --loop.checkpoint-every 1 --loop.ema 0.9 --device cpu --validation 0.2"
)
LOGGED = "loop: {log_every: 1, keep_best: 2}\n"
TEXT = "text: {width: 16, layers: 1, vocabulary: 600, max_tokens: 24}\n" + LOGGED
SETTINGS = {
    "unet": "network: {widths: [16, 32], attention: [false, true], head_width: 16, condition_width: 16}\n" + TEXT,
    "gan": "network: {widths: [8, 16], blocks: 1, attention: [false, false], style: 8, condition_width: 16}\n"
    "gan: {width: 8, layers: 1, pool: 4}\n" + TEXT,
    "tokens": "network: {width: 32, layers: 1, heads: 2, condition_width: 16}\n" + TEXT,
    "kl": "autoencoder: {widths: [8, 8], discriminator_width: 4, discriminator_layers: 1}\n" + LOGGED,
    "vq": "autoencoder: {widths: [8, 8], codes: 16, code_width: 4, discriminator_width: 4, discriminator_layers: 1}\n"
    + LOGGED,
    "words": "encoder: {width: 16, layers: 1, image_widths: [8, 8], joint: 8}\n" + LOGGED,
}
GENERATE = "generate --allow-unseen --steps 2 --device cpu"
PHANTOM = "data phantom --size 32 --workers 1"
JOURNEYS = "data journeys IN/visits/train.csv --columns text=report --unit relative --out triples.csv"
# What the commands below are given; in this order.
INPUTS = (
    f"{PHANTOM} --patients 72 --test 0.7 --complete --template phantom-findings --out ct",
    f"{PHANTOM} --patients 10 --validation 0.3 --visits 3 --modalities X-ray --out visits",
    f"{JOURNEYS} --register off",
    f"train text2image --data IN/ct/train.csv --image-size 32 {LOOP} --config IN/unet.yaml --table age --out model",
    f"train edit --data IN/triples.csv --image-size 32 {LOOP} --config IN/unet.yaml --out editor",
    f"train autoencoder --kind vq --data IN/ct/train.csv --image-size 32 {LOOP} --config IN/vq.yaml --out vq",
    f"train text2image --data IN/visits/train.csv --image-size 32 {LOOP} --config IN/unet.yaml --out xrays",
    f"{GENERATE} --model IN/model --data IN/ct/test.csv --out made",
)
# Name -> the words of the command, run in a folder of its own.
COMMANDS: Mapping[str, str] = {
    "train text2image": f"train text2image --data IN/ct/train.csv --image-size 32 {LOOP} --config IN/unet.yaml"
    " --out run",
    "train mask2image": f"train mask2image --data IN/ct/train.csv --table age --image-size 32 {LOOP}"
    " --config IN/unet.yaml --out run",
    "train edit": f"train edit --data IN/triples.csv --image-size 32 {LOOP} --config IN/unet.yaml --out run",
    "train gan": f"train gan --data IN/ct/train.csv --image-size 32 {LOOP} --config IN/gan.yaml --out run",
    "train tokens": f"train tokens --data IN/ct/train.csv --tokenizer IN/vq {LOOP} --config IN/tokens.yaml --out run",
    "train autoencoder kl": f"train autoencoder --data IN/ct/train.csv --image-size 32 {LOOP} --config IN/kl.yaml"
    " --out run",
    "train autoencoder vq": f"train autoencoder --kind vq --data IN/ct/train.csv --image-size 32 {LOOP}"
    " --config IN/vq.yaml --out run",
    "train text-encoder": f"train text-encoder --data IN/visits/train.csv --image-size 32 {LOOP}"
    " --config IN/words.yaml --out run",
    "generate png": f"{GENERATE} --model IN/xrays --data IN/visits/test.csv --format png --out out",
    "generate mhd": f"{GENERATE} --model IN/model --data IN/ct/test.csv --count 6 --format mhd --out out",
    "generate dicom": f"{GENERATE} --model IN/model --data IN/ct/test.csv --count 6 --format dicom --out out",
    "edit": "edit --model IN/editor --data IN/triples.csv --controls nochange back --steps 2 --device cpu --out out",
    "whatif": "whatif --model IN/model --data IN/ct/test.csv --rows 3 --n 1 --set age=70 --set age=40 --steps 2"
    " --allow-unseen --device cpu --out out",
    "data journeys": f"{JOURNEYS} --register rigid",
    "data journeys by processes": f"{JOURNEYS} --register rigid --workers 2",
    "data phantom": f"{PHANTOM} --patients 8 --visits 2 --out cohort",
    "data phantom volumes": "data phantom --size 24 --dims 3 --patients 20 --workers 2 --out cohort",
    "data split": "data split IN/ct/unsplit.csv --test 0.3 --out parts",
    "data prompts": "data prompts IN/ct/unsplit.csv --template phantom --replace --out prompts/manifest.csv",
    "evaluate images": "evaluate images --real IN/ct/test.csv --synthetic IN/made/manifest.csv --train IN/ct/train.csv"
    " --features pixels --only fidelity privacy identifiers --device cpu --image-size 32 --out report",
}


@dataclass(frozen=True)
class Kill:
    """When a run is killed.

    Attributes:
        operation: the number of the file operation; 0 is the start.
        later: seconds after it; None just before it.
    """

    operation: int
    later: float | None


@dataclass
class Ended:
    """How a run ended: its exit status, negative the signal's number; its file operations; what it said; its time."""

    status: int
    operations: int
    said: str
    seconds: float = 0.0


@dataclass
class Tally:
    """What was found of a command."""

    operations: int
    seconds: float
    kills: int = 0
    trials: int = 0
    faults: list[str] = field(default_factory=list)


def main(words: list[str]) -> int:
    """Measure and print; 1 if anything differed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks kills")
    parser.add_argument("--kills", type=int, default=100, help="in all, spread over the commands")
    parser.add_argument("--seed", type=int, default=0, help="of when they come")
    parser.add_argument("--only", nargs="+", default=list(COMMANDS), choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("--out", type=Path, help="folder in which what differs is kept (default: nothing is)")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        root = (options.out or Path(name)).resolve()
        inputs = root / "inputs"
        runner = Runner()
        _write_inputs(runner, inputs, options.only)
        tallies = {command: _whole(runner, command, inputs, root) for command in options.only}
        for number in range(20 * options.kills):
            done = sum(tally.kills for tally in tallies.values())
            if done >= options.kills:
                break
            command = options.only[number % len(options.only)]
            rng = numpy_generator("kills", options.seed, command, number)
            _trial(runner, command, inputs, root, rng, tallies[command], options.kills - done)
    print(
        "| command | file operations | kills | runs compared | identical | what differed |\n|---|---|---|---|---|---|"
    )
    for command, tally in tallies.items():
        identical = tally.trials - len(tally.faults)
        print(
            f"| `{command}` | {tally.operations} | {tally.kills} | {tally.trials} | {identical} |"
            f" {'; '.join(dict.fromkeys(tally.faults)) or 'nothing'} |"
        )
    return int(any(tally.faults for tally in tallies.values()))


class Runner:
    """Runs commands, each in a process forked from one that has imported all they need and done nothing else."""

    def __init__(self) -> None:
        # Networks as small as these are fastest on one thread, and a process with threads could not be forked.
        os.environ["OMP_NUM_THREADS"] = "1"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(IMPORTED))

    def run(self, words: Sequence[str], folder: Path, kill: Kill | None = None) -> Ended:
        """Run a command in a folder, whose file operations are counted."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder.with_name(folder.name + ".log")
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_command, args=(list(words), folder, log, kill, theirs))
        process.start()
        theirs.close()
        count, started = 0, time.monotonic()
        deadline = started + LONGEST
        while process.is_alive() and time.monotonic() < deadline:
            try:
                if not ours.poll(0.5):
                    continue
                count = ours.recv()
            except EOFError:
                break
            if count < 0 and kill is not None and kill.later is not None:
                time.sleep(kill.later)
                process.kill()
                break
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
            return Ended(1, count, f"still running after {LONGEST:.0f} s")
        said = log.read_text(encoding="utf-8", errors="replace")
        return Ended(process.exitcode or 0, count, said, time.monotonic() - started)


def _command(words: list[str], folder: Path, log: Path, kill: Kill | None, report: Connection) -> None:
    """The process of a command: count file operations under `folder`; then end, or be killed."""
    from medloom.cli.main import main as medloom

    os.chdir(folder)
    # The kill is of this process alone; what it started has a group by which it is found.
    os.setsid()
    with log.open("ab", buffering=0) as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    count, own = 0, os.getpid()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if not _changes(event, arguments, folder) or os.getpid() != own:
            return
        count += 1
        if kill is not None and count == kill.operation:
            if kill.later is None:
                os.kill(own, signal.SIGKILL)
            else:
                report.send(-1)

    if kill is not None and not kill.operation:
        report.send(-1)
    sys.addaudithook(watch)
    status = medloom(words)
    report.send(count)
    sys.exit(status)


def _changes(event: str, arguments: tuple[object, ...], folder: Path) -> bool:
    """Whether an event of Python is a change of files under a folder."""
    if event == "open":
        path, _, flags = arguments
        return isinstance(flags, int) and bool(flags & WRITING) and _within(path, folder)
    # Removing a tree names its entries relative to an open folder.
    return event in CHANGES and any(_within(path, folder) for path in arguments if isinstance(path, str | os.PathLike))


def _within(path: object, folder: Path) -> bool:
    if not isinstance(path, str | os.PathLike):
        return False
    return Path(path).absolute().is_relative_to(folder)


def _words(command: str, inputs: Path) -> list[str]:
    return [word.replace("IN/", f"{inputs}/") for word in command.split()]


def _write_inputs(runner: Runner, inputs: Path, only: Sequence[str]) -> None:
    """Make what the commands are given."""
    inputs.mkdir(parents=True)
    for name, text in SETTINGS.items():
        (inputs / f"{name}.yaml").write_text(text, encoding="utf-8")
    needed = INPUTS if any(not command.startswith("data ") for command in only) else INPUTS[:2]
    for command in needed:
        ended = runner.run(_words(command, inputs), inputs)
        if ended.status:
            raise RuntimeError(f"{command}: {ended.said}")
    table = (inputs / "ct" / "train.csv").read_text(encoding="utf-8")
    (inputs / "ct" / "unsplit.csv").write_text(table.replace("split", "part", 1), encoding="utf-8")


def _place(root: Path, command: str, name: str) -> Path:
    """The folder of a run; all are as deep, so that relative paths are the same."""
    return root / command.replace(" ", "-") / name


def _whole(runner: Runner, command: str, inputs: Path, root: Path) -> Tally:
    """Run a command that is not killed, twice: what differs between these has nothing to do with kills."""
    words = _words(COMMANDS[command], inputs)
    ended = []
    for name in ("whole", "again"):
        _forget_openings(inputs)
        ended.append(runner.run(words, _place(root, command, name)))
    first, second = ended
    if first.status or second.status:
        raise RuntimeError(f"{command}: {first.said}")
    tally = Tally(first.operations, second.seconds)
    if differing := differences(_place(root, command, "whole"), _place(root, command, "again")):
        raise RuntimeError(f"{command} differs between two runs that nobody killed: {', '.join(differing)}")
    shutil.rmtree(_place(root, command, "again"))
    return tally


def _trial(
    runner: Runner, command: str, inputs: Path, root: Path, rng: np.random.Generator, tally: Tally, most: int
) -> None:
    """Kill a command, run it again until it ends, and compare."""
    words = _words(COMMANDS[command], inputs)
    folder = _place(root, command, f"killed-{tally.trials:03d}")
    _forget_openings(inputs)
    plans: list[Kill] = []
    ended = Ended(-signal.SIGKILL, 0, "")
    while ended.status == -signal.SIGKILL:
        kill = None
        if len(plans) < most and (not plans or rng.random() < AGAIN):
            kill = _kill(rng, tally)
        ended = runner.run(words, folder, kill)
        if ended.status == -signal.SIGKILL and kill is not None:
            plans.append(kill)
    tally.kills, tally.trials = tally.kills + len(plans), tally.trials + 1
    if ended.status or "Traceback" in ended.said:
        fault = f"status {ended.status}: {ended.said.strip().splitlines()[-1]}"
    elif differing := differences(_place(root, command, "whole"), folder):
        fault = ", ".join(differing[:4])
    else:
        shutil.rmtree(folder)
        return
    at = " then ".join(
        f"{one.operation}{'' if one.later is None else f' + {1000 * one.later:.0f} ms'}" for one in plans
    )
    print(f"{command}, killed at operation {at}: {fault}", file=sys.stderr)
    tally.faults.append(fault)


def _forget_openings(inputs: Path) -> None:
    """Each run is the first that opens its held-out images: reports say how often that was."""
    for path in inputs.rglob(OPENINGS):
        path.unlink()


def _kill(rng: np.random.Generator, tally: Tally) -> Kill:
    """When to kill a command."""
    kind = rng.random()
    if kind < ANY_TIME:
        return Kill(0, float(rng.uniform(0, tally.seconds)))
    later = float(rng.uniform(0, LATEST)) if kind < ANY_TIME + LATER else None
    return Kill(int(rng.integers(1, tally.operations + 1)), later)


def differences(one: Path, other: Path) -> list[str]:
    """Names of files and folders that only one of two folders has, or that have other contents.

    TensorBoard's files have times, and one more for each start.
    """
    contents = [_contents(folder) for folder in (one, other)]
    return sorted(name for name in {*contents[0], *contents[1]} if contents[0].get(name) != contents[1].get(name))


def _contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if "tfevents" not in path.name
    }
