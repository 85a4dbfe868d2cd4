"""One tiny run of every command that makes or measures images, compared with hashes of what it made before.

A change of structure leaves every pixel, weight, split and figure as it was. Hashes depend on the processor and on
torch's version, so they are compared only where they were made; `MEDLOOM_WRITE_GOLDEN=1` makes them anew, before a
change, and the same command without it compares them after.
"""

import csv
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from stable_diffusion import make_stable_diffusion

from medloom.cli.main import main

GOLDEN = Path(__file__).with_name("golden.json")
WRITE = os.environ.get("MEDLOOM_WRITE_GOLDEN") == "1"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LOOP = (
    "--loop.precision fp32 --loop.batch 4 --loop.warmup 1 --loop.validate-every 3 --loop.checkpoint-every 2"
    " --loop.ema 0.9 --device cpu --validation 0.2 --config"
)
LOGGED = "loop: {log_every: 1}\n"
TEXT = "text: {width: 16, layers: 1, vocabulary: 600, max_tokens: 24}\n"
SETTINGS = {
    "unet": "network: {widths: [16, 32], attention: [false, true], head_width: 16, condition_width: 16}\n" + TEXT,
    "volumes": "network: {widths: [16, 32], attention: [false, false], head_width: 16, condition_width: 16, patch: 1}\n"
    "foreground: 0.5\n" + TEXT,
    "gan": "network: {widths: [8, 16], blocks: 1, attention: [false, false], style: 8, condition_width: 16}\n"
    "gan: {width: 8, layers: 1, pool: 4}\n" + TEXT,
    "kl": "autoencoder: {widths: [8, 8], discriminator_width: 4, discriminator_layers: 1}\n",
    "vq": "autoencoder: {widths: [8, 8, 8], codes: 32, code_width: 4, discriminator_width: 4,"
    " discriminator_layers: 1}\n",
    "masked": "network: {width: 32, layers: 2, heads: 2, condition_width: 16, mask_classes: [1, 2, 3, 4, 5, 6, 7, 8]}\n"
    + TEXT,
    "tokens": "network: {width: 32, layers: 2, heads: 2, condition_width: 16}\n" + TEXT,
    "words": "encoder: {width: 16, layers: 1, image_widths: [8, 8], joint: 8}\n",
    "base": "text: {max_tokens: 24}\n",
}


def environment() -> dict[str, str]:
    """What hashes depend on besides the code."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    vectors = " ".join(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags)
    # Sums of BLAS over several threads are rounded otherwise.
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    return {
        "processor": f"{platform.machine()} {model} {vectors}".strip(),
        "threads": threads,
        "torch": torch.__version__,
    }


def digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]


def pixels(path: Path) -> bytes:
    """The decoded values of an image of any format that a command writes."""
    if path.suffix == ".dcm":
        array = pydicom.dcmread(path).pixel_array
    elif path.name.endswith(".nii.gz"):
        array = np.asarray(nibabel.load(path).dataobj)
    else:
        array = np.asarray(Image.open(path))
    return f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes()


def images(manifest: Path) -> str:
    """The pixels of all images of a manifest, with their seeds and arms."""
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    told = [f"{row.get('sample_id', '')} {row.get('arm', '')} {row.get('seed', '')}".encode() for row in rows]
    return digest(*told, *(pixels(manifest.parent / row["path"]) for row in rows))


def weights(run: Path) -> str:
    """All tensors of a run's model, whatever they are called."""
    tensors = [
        digest(f"{array.shape}{array.dtype}".encode(), np.ascontiguousarray(array).tobytes())
        for path in sorted((run / "model").rglob("*.safetensors"))
        for array in load_file(path).values()
    ]
    return digest(*(tensor.encode() for tensor in sorted(tensors)))


def losses(run: Path) -> str:
    """The losses of a run, step by step."""
    return digest((run / "logs" / "metrics.csv").read_bytes())


def figures(report: Path) -> str:
    """All numbers of scores.json that are not options, in order."""
    scores = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    # Those of features first, as they stood when the hashes were made.
    metrics = sorted(scores["metrics"], key=lambda metric: not metric["extractor"])
    return digest(*(f"{number:.9g}".encode() for number in _numbers(metrics)))


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for name in sorted(value):
            yield from _numbers(value[name])
    elif isinstance(value, list):
        for entry in value:
            yield from _numbers(entry)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def patients(folder: Path) -> str:
    """Who is in which part of a split."""
    parts = []
    for name in ("train", "test"):
        with (folder / f"{name}.csv").open(encoding="utf-8") as stream:
            parts += [f"{name} {row['split']} {row['patient_id']}".encode() for row in csv.DictReader(stream)]
    return digest(*parts)


def unsplit(table: Path, out: Path) -> None:
    """A table less its column `split`."""
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [name for name in rows[0] if name != "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def cohort(folder: Path) -> str:
    """The pixels of a virtual cohort and what is said of them."""
    files = sorted((folder / "images").iterdir()) + sorted((folder / "masks").iterdir())
    return digest((folder / "train.csv").read_bytes(), *(pixels(path) for path in files))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


def test_everything_is_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {"environment": None, "hashes": {}}
    if not WRITE and before["environment"] != environment():
        pytest.skip(f"the hashes were made on {before['environment']}, and this is {environment()}")
    # Paths in tables and descriptions are then the same wherever the test runs.
    monkeypatch.chdir(root)
    for name, text in SETTINGS.items():
        Path(f"{name}.yaml").write_text(LOGGED + text, encoding="utf-8")
    found: dict[str, str] = {}

    def medloom(command: str) -> None:
        assert main(command.split()) == 0, command

    def keep(name: str, measure: Callable[[Path], str], path: str) -> None:
        found[name] = measure(root / path)

    for scenario in SCENARIOS:
        scenario(medloom, keep)
    if WRITE:
        text = json.dumps({"environment": environment(), "hashes": found}, indent=2, sort_keys=True)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
    known = json.loads(GOLDEN.read_text(encoding="utf-8"))["hashes"]
    assert {name: value for name, value in found.items() if known.get(name) != value} == {}
    assert sorted(found) == sorted(known)


Run = Callable[[str], None]
Keep = Callable[[str, Callable[[Path], str], str], None]


def data(medloom: Run, keep: Keep) -> None:
    medloom(
        "data phantom --out ct --patients 120 --test 0.4 --size 32 --complete --template phantom-findings --workers 1"
    )
    medloom("data phantom --out visits --patients 12 --size 32 --visits 3 --retests --modalities X-ray --workers 1")
    medloom("data phantom --out volumes --patients 8 --size 24 --dims 3 --workers 1")
    unsplit(Path("ct/train.csv"), Path("ct/unsplit.csv"))
    medloom("data split ct/unsplit.csv --out parts --test 0.3 --validation 0.2 --seed 4")
    given = "--columns text=report --unit relative --workers 1"
    medloom(f"data journeys visits/train.csv --out triples.csv --register rigid {given}")
    medloom(f"data journeys visits/test.csv --out asked.csv --register off {given}")
    for name in ("ct", "visits", "volumes"):
        keep(f"data phantom {name}", cohort, name)
    keep("data split", patients, "parts")


def text_to_image(medloom: Run, keep: Keep) -> None:
    medloom(f"train text2image --data ct/train.csv --out mm --image-size 32 {LOOP} unet.yaml --loop.steps 6")
    medloom("generate --model mm --prompt Nodule. --modality CT --n 3 --seed 5 --steps 4 --out mm-one --device cpu")
    medloom(
        "generate --model mm --data ct/test.csv --count 24 --steps 4 --guidance 2 text=3 --out mm-rows --device cpu"
    )
    medloom("evaluate images --real ct/test.csv --synthetic mm-rows/manifest.csv --train ct/train.csv --features pixels"
            " --only fidelity privacy identifiers --out mm-report --device cpu --image-size 32")  # fmt: skip
    medloom(f"train text2image --data ct/train.csv --from mm --out mm2 --image-size 32 {LOOP} unet.yaml --loop.steps 2")
    # A run that is trained longer is a run that was resumed.
    shorter = f"train text2image --data ct/train.csv --out resumed --image-size 32 {LOOP} unet.yaml"
    medloom(f"{shorter} --loop.schedule constant --loop.steps 2")
    medloom(f"{shorter} --loop.schedule constant --loop.steps 5")
    for name in ("mm", "mm2", "resumed"):
        keep(f"train text2image {name}: weights", weights, name)
        keep(f"train text2image {name}: losses", losses, name)
    keep("generate of a prompt", images, "mm-one/manifest.csv")
    keep("generate of rows", images, "mm-rows/manifest.csv")
    keep("evaluate", figures, "mm-report")


def masks(medloom: Run, keep: Keep) -> None:
    table = "--table age smoking sex"
    medloom(f"train mask2image --data ct/train.csv --out diff {table} --image-size 32 {LOOP} unet.yaml"
            " --loop.steps 4")  # fmt: skip
    medloom("generate --model diff --data ct/test.csv --count 3 --steps 3 --out diff-rows --device cpu")
    medloom("whatif --model diff --data ct/test.csv --rows 3 --n 1 --set smoking=never --set age=40 --steps 3"
            " --allow-unseen --guidance 2 --out what --device cpu")  # fmt: skip
    medloom("evaluate whatif what/manifest.csv --truth ct --out what-report")
    keep("train mask2image: weights", weights, "diff")
    keep("generate from masks", images, "diff-rows/manifest.csv")
    keep("whatif", images, "what/manifest.csv")
    keep("evaluate whatif", figures, "what-report")


def demo(medloom: Run, keep: Keep) -> None:
    medloom("demo --out demo --patients 80 --steps 4 --rows 2 --n 1 --device cpu")
    keep("demo: weights", weights, "demo/run")
    keep("demo: images", images, "demo/whatif/manifest.csv")
    keep("demo: figures", figures, "demo/report")


def volumes(medloom: Run, keep: Keep) -> None:
    medloom(f"train mask2image --data volumes/train.csv --out vol --patch 16 --dims 3 {LOOP} volumes.yaml"
            " --loop.steps 2 --loop.batch 2 --unit HU")  # fmt: skip
    medloom("generate --model vol --data volumes/test.csv --count 1 --steps 2 --out vol-whole --device cpu")
    medloom("generate --model vol --data volumes/test.csv --count 1 --crops --steps 2 --out vol-crops --device cpu")
    keep("train of volumes: weights", weights, "vol")
    keep("generate of whole volumes", images, "vol-whole/manifest.csv")
    keep("generate of crops", images, "vol-crops/manifest.csv")


def gans(medloom: Run, keep: Keep) -> None:
    medloom(f"train gan --data ct/train.csv --out gan --table age sex --image-size 32 {LOOP} gan.yaml"
            " --loop.steps 4")  # fmt: skip
    medloom(f"train gan --data ct/train.csv --out cycle --image-size 32 {LOOP} gan.yaml"
            " --loop.steps 2 --gan.unpaired")  # fmt: skip
    medloom("generate --model gan --data ct/test.csv --count 3 --out gan-rows --device cpu")
    medloom("whatif --model gan --data ct/test.csv --rows 2 --n 1 --set age=40 --allow-unseen --out gan-what"
            " --device cpu")  # fmt: skip
    keep("train gan: weights", weights, "gan")
    keep("train gan, unpaired: weights", weights, "cycle")
    keep("generate by a GAN", images, "gan-rows/manifest.csv")
    keep("whatif by a GAN", images, "gan-what/manifest.csv")


def latents(medloom: Run, keep: Keep) -> None:
    medloom(f"train autoencoder --data visits/train.csv --out kl --image-size 32 {LOOP} kl.yaml --loop.steps 3")
    medloom(f"train text2image --data visits/train.csv --out latent --image-size 32 --autoencoder kl {LOOP}"
            " unet.yaml --loop.steps 3")  # fmt: skip
    medloom("generate --model latent --prompt Nodule. --modality X-ray --n 2 --steps 3 --out latent-one --device cpu")
    medloom(f"train text-encoder --data visits/train.csv --out words --image-size 32 {LOOP} words.yaml"
            " --loop.steps 3")  # fmt: skip
    keep("train autoencoder: weights", weights, "kl")
    keep("train of latents: weights", weights, "latent")
    keep("generate from latents", images, "latent-one/manifest.csv")
    keep("train text-encoder: weights", weights, "words")


def edits(medloom: Run, keep: Keep) -> None:
    medloom(f"train edit --data triples.csv --out editor --image-size 32 {LOOP} unet.yaml --loop.steps 4")
    medloom("edit --model editor --data asked.csv --steps 3 --controls nochange --out edited --device cpu")
    medloom("edit --model editor --data asked.csv --steps 3 --start inversion --strength 0.5 --out inverted"
            " --device cpu")  # fmt: skip
    medloom("evaluate edits edited/manifest.csv --reference asked.csv --out edits-report"
            " --device cpu")  # fmt: skip
    keep("train edit: weights", weights, "editor")
    keep("edit", images, "edited/manifest.csv")
    keep("edit by inversion", images, "inverted/manifest.csv")
    keep("evaluate edits", figures, "edits-report")


def tokens(medloom: Run, keep: Keep) -> None:
    medloom(f"train autoencoder --kind vq --data ct/train.csv --out vq --image-size 32 {LOOP} vq.yaml --loop.steps 4"
            " --hu-window -1000 600")  # fmt: skip
    medloom(f"train tokens --data ct/train.csv --tokenizer vq --out tok --table age {LOOP} masked.yaml"
            " --network.mask channels --loop.steps 4")  # fmt: skip
    medloom("generate --model tok --data ct/test.csv --count 3 --steps 4 --out tok-rows --device cpu")
    medloom("whatif --model tok --data ct/test.csv --rows 2 --n 1 --set age=40 --allow-unseen --out tok-what"
            " --guidance 2 --steps 4 --device cpu")  # fmt: skip
    keep("train vq: weights", weights, "vq")
    keep("train tokens: weights", weights, "tok")
    keep("generate by tokens", images, "tok-rows/manifest.csv")
    keep("whatif by tokens", images, "tok-what/manifest.csv")


def two_stages(medloom: Run, keep: Keep) -> None:
    medloom(
        f"train autoencoder --kind vq --data triples.csv --out vq-edit --image-size 32 {LOOP} vq.yaml --loop.steps 2"
    )
    medloom(f"train tokens --data triples.csv --tokenizer vq-edit --out tok-edit {LOOP} tokens.yaml"
            " --network.prior channels --loop.steps 3")  # fmt: skip
    medloom("edit --model tok-edit --data asked.csv --steps 3 --start prior --strength 0.5 --residual"
            " --out tok-edited --device cpu")  # fmt: skip
    medloom(
        f"train autoencoder --kind vq --data triples.csv --out vq-small --image-size 16 {LOOP} vq.yaml --loop.steps 2"
    )
    medloom(f"train tokens --data triples.csv --tokenizer vq-small --out first {LOOP} tokens.yaml --loop.steps 2")
    medloom(f"train tokens --data triples.csv --tokenizer vq-edit --out second --from first --upscale {LOOP}"
            " tokens.yaml --loop.steps 2")  # fmt: skip
    medloom("generate --model second --prompt Nodule. --n 2 --steps 3 --out second-one --device cpu")
    keep("train tokens of editing: weights", weights, "tok-edit")
    keep("edit by tokens", images, "tok-edited/manifest.csv")
    keep("train of a second stage: weights", weights, "second")
    keep("generate in two stages", images, "second-one/manifest.csv")


def stable_diffusion(medloom: Run, keep: Keep) -> None:
    make_stable_diffusion(Path("sd"))
    options = f"--data visits/train.csv --image-size 16 --base sd {LOOP} base.yaml --loop.steps 2"
    medloom(f"train text2image --out sd-full {options}")
    medloom(f"train text2image --out sd-lora {options} --lora 2")
    medloom(f"train edit --data triples.csv --out sd-edit {options.replace('--data visits/train.csv', '')}")
    medloom("generate --model sd-lora --prompt Nodule. --modality X-ray --n 2 --steps 3 --out sd-one --device cpu")
    medloom("edit --model sd-edit --data asked.csv --steps 2 --out sd-edited --device cpu")
    keep("train of a Stable Diffusion folder: weights", weights, "sd-full")
    keep("train of low-rank updates: weights", weights, "sd-lora")
    keep("generate by Stable Diffusion", images, "sd-one/manifest.csv")
    keep("edit by Stable Diffusion", images, "sd-edited/manifest.csv")


def patches_by_gan(medloom: Run, keep: Keep) -> None:
    medloom(f"train gan --data volumes/train.csv --out gan-patch --patch 16 --dims 3 {LOOP} gan.yaml"
            " --loop.steps 2 --loop.batch 2 --unit HU --augment affine")  # fmt: skip
    medloom("generate --model gan-patch --data volumes/test.csv --count 1 --out gan-whole --device cpu")
    keep("train gan of volumes: weights", weights, "gan-patch")
    keep("generate of whole volumes by a GAN", images, "gan-whole/manifest.csv")


SCENARIOS = (
    data,
    text_to_image,
    masks,
    demo,
    volumes,
    gans,
    latents,
    edits,
    tokens,
    two_stages,
    stable_diffusion,
    patches_by_gan,
)
