"""`python -m benchmarks` lists the benchmarks, `python -m benchmarks NAME ...` runs one and prints its table."""

import importlib
import sys

from medloom.core.errors import UserError

BENCHMARKS = {
    "training_speed": "images/s in training against the standard loop",
    "sampling_speed": "images/s in sampling against 100 PNDM steps one image at a time, with Frechet distances",
    "detail_by_steps": "noise and detail of generated images against real ones at several numbers of steps",
    "kills": "every command that writes, killed 100 times and run again: whether what is left is the same bytes",
    "phantom_oracle": "how well the phantom's measurements read true images",
    "token_decoding": "images/s of decoding tokens against a plain loop",
    "token_quality": "Frechet distance and images/s of tokens by the number of steps, beside latent diffusion",
    "effect_recovery": "how much of the true effects the demo's generator recovers, over five trainings",
    "family_recovery": "the same for diffusion, GAN and tokens by every fusion, in slices and in volumes",
    "edit_settings": "how an editor is asked, chosen on validation patients and shown once on test patients",
    "findings_shown": "whether images of held-out prompts show the findings of their conditions, by measurement",
    "phantom_gallery": "the picture of 16 virtual patients in docs/phantom.md",
    "demo_picture": "the picture of README: what the demo's generator answers, next to the truth",
    "whole_volume": "whole volumes: time against 250 steps patch by patch, and memory against the size",
    "moved_masks": "how far lesions go when their masks move, with a model of real images",
    "registration": "known motions found again, lung masks of real pairs before and after, and time",
    "planted_copies": "edited copies of real images found again, and images of other patients that are listed",
    "bad_sets": "whether the release gate refuses sets without a model, spoiled and copied ones, and passes real ones",
    "membership_attack": "membership inference on an overfitted and an early-stopped model, beside its controls",
    "report_time": "the whole report from nothing: seconds",
    "coverage": "coverage and width of every kind of interval that reports use, by simulation",
    "reader_studies": "multi-reader studies by simulation: how often equal arms differ, and how intervals cover",
    "evaluation_scale": "an evaluation of three sets of 10,000 images: minutes by section and peak memory",
    "studio_load": "the studio: first image, pages while a job runs, ten browsers at once, memory over 500 jobs",
    "studio_pictures": "the pictures of README and docs/studio.md: the demo's model in the studio",
    "rating_kills": "10,000 ratings of 50 raters while their studio is killed 20 times: what is lost or doubled",
    "rating_speed": "rating pages in a browser: milliseconds from the key to the next image",
    "metrics_speed": "set metrics from features against the usual public implementations: time and peak memory",
    "million_rows": "time and memory for checking a manifest of a million rows",
}


def main() -> int:
    """Run the benchmark that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        print("\n".join(f"python -m benchmarks {name:<16} {line}" for name, line in BENCHMARKS.items()))
        return 0 if len(sys.argv) < 2 else 2
    try:
        status = importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    except UserError as error:
        print(f"medloom: {error}", file=sys.stderr)
        return 2
    # Of one that judges itself; the others return nothing.
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
