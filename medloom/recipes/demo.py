"""`medloom demo`: draw -> train -> generate -> evaluate -> report, in minutes on two CPU cores."""

from dataclasses import dataclass
from pathlib import Path

PIXELS = 32
TRAINING_IMAGES = 960
TEST_IMAGES = 480
TRAINING = {
    "size": "tiny",
    "image_size": [PIXELS],
    "network.widths": [48, 96, 144],
    "network.attention": [False, True, True],
    "network.patch": 2,
    "network.head_width": 48,
    "text.vocabulary": 600,
    "text.max_tokens": 24,
    "loop.batch": 32,
    "loop.learning_rate": 1e-3,
    "loop.validate_every": 300,
    "loop.checkpoint_every": 150,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Show what medloom does, on small images that it draws itself.

    Attributes:
        out: folder for data, run, images and report.
        steps: training steps.
        n: images made for each of the test descriptions.
        device: auto, cpu or cuda.
    """

    out: Path = Path("runs/demo")
    steps: int = 900
    n: int = 1
    device: str = "auto"


def run(config: Config) -> Path:
    """Run the whole chain; returns the report's path. The same command again goes on where it stopped."""
    from medloom.core.config import configure
    from medloom.core.files import claim_output, write_json
    from medloom.core.progress import say
    from medloom.data.sources.drawings import write_drawings
    from medloom.recipes import evaluate, generate, text2image

    out = claim_output(config.out, "demo.json")
    write_json(out / "demo.json", {"images": "drawn"})
    say("1/4  drawing images with descriptions")
    train = write_drawings(out / "train", TRAINING_IMAGES, PIXELS, seed=1)
    test = write_drawings(out / "test", TEST_IMAGES, PIXELS, seed=2)
    say("2/4  training a generator on them")
    options = {**TRAINING, "loop.steps": config.steps, "device": config.device}
    model = text2image.run(configure(text2image.Config, data=train, out=out / "run", **options))
    say("3/4  generating images for descriptions of held-out ones")
    synthetic = generate.run(
        configure(generate.Config, model=model, data=test, n=config.n, out=out / "images", device=config.device)
    )
    say("4/4  comparing them with the held-out ones")
    report = "report.html"
    folder = evaluate.run(
        configure(
            evaluate.Config,
            real=test,
            synthetic=synthetic,
            train=train,
            model=model,
            out=out / "report",
            image_size=[PIXELS],
            device=config.device,
        )
    )
    say(f"\nLook at the images: {out / 'images' / 'grid.png'}\nand at the report: {folder / report}\n\nTry next:")
    example = '--prompt "A large ring on the left." --modality "Colour drawing" --n 8'
    say(f"  medloom generate --model {model} {example} --out {out / 'rings'}")
    say("  medloom data check YOUR_TABLE.csv")
    say("  medloom train text2image --data YOUR_TABLE.csv --out runs/mine")
    return folder / report
