"""What the viewer is given: the arms of a case, how each is called, and what is known of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import content_stamp, explained_content, read_mapping
from medloom.core.image import Image
from medloom.data.images import states_unit
from medloom.data.prompts.support import is_extrapolation
from medloom.generators.generated_images import FACTUAL
from medloom.studio.results.contrast import (
    Shift,
    arms_of,
    edit_difference,
    mean_difference,
    reach_of,
    regions_of,
    shifts,
)
from medloom.studio.results.folder import Result, ResultImage
from medloom.studio.results.opening import opened
from medloom.studio.results.pictures import REMEMBERED, open_image
from medloom.studio.results.truth import case_of, fits
from medloom.studio.store.jobs import Job
from medloom.studio.web.studio import Studio

WHATIF = "whatif.json"


def arm_of(job: Job, image: ResultImage, label: str = "", support: str = "") -> dict[str, Any]:
    """A generated image as the viewer takes it."""
    return {
        "base": f"/jobs/{job.id}/images/{image.number}",
        "label": label or f"image {image.number}, seed {image.seed}",
        "generated": True,
        "support": support,
    }


def difference_arm(job: Job, place: int, label: str, support: str, over: int) -> dict[str, Any]:
    """A difference as the viewer takes it; `over` is the arm that it lies over in three planes."""
    known = {"generated": True, "isDifference": True, "label": label, "support": support, "over": over}
    return {"base": f"/jobs/{job.id}/differences/{place}", **known}


def edit_values(studio: Studio, job: Job, result: Result) -> dict[str, Any]:
    """What the page of an edit shows: the prior image, the edits and their differences to it."""
    prior = prior_of(studio, job, result)
    edits = [
        arm_of(job, image, f"edited, seed {image.seed}", "an edit of a patient's image") for image in result.images
    ]
    before = [] if prior is None else [{"base": f"/jobs/{job.id}/prior", "label": "prior image", "generated": False}]
    maps = differences_of(studio, job, result)
    drawn = [
        difference_arm(job, place, f"difference, seed {image.seed}", "edited less prior; grey: the same", place + 1)
        for place, (image, _) in enumerate(zip(result.images, maps, strict=False))
    ]
    return {
        "study": {
            "id": f"job-{job.number}",
            "modality": result.images[0].modality,
            "arms": [*before, *edits, *drawn],
            "reach": reach_of(maps) if maps else None,
            "layout": "2x2" if maps else "1x2",
            # A pane of its own for each of the first two edits and their differences, where there is a prior image.
            "first": [0, 1, len(before) + len(edits), len(before) + len(edits) + min(1, len(edits) - 1)],
        },
        "seeds": [],
        "seed": "",
        "unit": "",
        "estimands": {},
        "effects": {},
        "truths": {},
        "without_truth": "",
        "regions": [],
    }


def prior_of(studio: Studio, job: Job, result: Result) -> Image | None:
    """The prior image of an edit as the editor saw it, in the unit of its edits; None where it is gone."""
    folder = studio.store.priors(job.id)
    path = next(folder.glob("prior.*"), None) if folder.is_dir() else None
    if path is None:
        return None
    return open_image(path, None if states_unit(path) or not result.images else result.unit_of(result.images[0]))


def differences_of(studio: Studio, job: Job, result: Result) -> list[Image]:
    """The differences that a job's viewer shows: of a what-if one an arm, of an edit one an image."""
    stamps = tuple(content_stamp(image.path) for image in result.images)
    if job.command == "edit":
        prior = prior_of(studio, job, result)
        made = (
            {}
            if prior is None
            else {own.path.name: partial(_edit_difference, result, own, prior) for own in result.images}
        )
    else:
        made = {arm: partial(mean_difference, result, arm) for arm in arms_of(result) if arm != FACTUAL}
    # Each is made once as long as the files stay the same.
    return [REMEMBERED.get((result.folder, name, stamps), make) for name, make in made.items()]


def _edit_difference(result: Result, own: ResultImage, prior: Image) -> Image:
    return edit_difference(opened(result, own), prior)


def whatif_values(studio: Studio, job: Job, result: Result, seed: str) -> dict[str, Any]:
    """What the page of a what-if shows: the arms of a seed, and what the change does over all seeds."""
    arms = arms_of(result)
    seeds = list(dict.fromkeys(image.seed for own in arms.values() for image in own))
    chosen = seed if seed in seeds else seeds[0]
    of_seed = {arm: image for arm, own in arms.items() for image in own if image.seed == chosen}
    shown = [
        arm_of(job, image, "factual, generated" if arm == FACTUAL else arm, support_of(arm, image))
        for arm, image in of_seed.items()
    ]
    changed = [arm for arm in arms if arm != FACTUAL]
    said = f"mean of {len(seeds)} seeds; grey: not above their noise" if len(seeds) > 1 else "one seed: noise not known"
    maps = [difference_arm(job, place, f"difference, {arm}", said, place + 1) for place, arm in enumerate(changed)]
    described = _described(result)
    classes: Mapping[str, str] = described.get("classes", {})
    effects = {arm: {own.region: _in_words(own) for own in shifts(result, arm, classes)} for arm in changed}
    true: list[dict[str, Any]] = []
    truths: dict[str, dict[str, str]] = {}
    without_truth, first = "", [0, 1, len(shown)]
    try:
        true = truth_arms(job, result, len(shown))
        truths = _truths(job, result, changed, classes) if true else {}
    except UserError as error:
        # What the model answers is read without it.
        without_truth = f"The truth of this virtual patient is not shown: {error}"
    if true:
        # The factual and the changed image above; what the model says of the change, and what is true, below.
        first = [0, 1, len(shown), len(shown) + 2 * len(maps) + 1]
    return {
        "study": {
            "id": f"job-{job.number}",
            "modality": next(iter(of_seed.values())).modality,
            "arms": [*shown, *maps, *true],
            "reach": reach_of(differences_of(studio, job, result)) if changed else None,
            "layout": "2x2" if changed else "1x1",
            "first": first,
        },
        "seeds": seeds,
        "seed": chosen,
        "unit": opened(result, result.images[0]).unit,
        "estimands": {arm: own["estimand"] for arm, own in described.get("arms", {}).items() if arm != FACTUAL},
        "effects": effects,
        "truths": truths,
        "without_truth": without_truth,
        "regions": list(dict.fromkeys(region for own in effects.values() for region in own)),
    }


def truth_arms(job: Job, result: Result, before: int) -> list[dict[str, Any]]:
    """The true images of a virtual patient and their differences as the viewer takes them; none of a real one.

    Args:
        job: whose form names the patient.
        result: of the job.
        before: images that the viewer has before these.
    """
    case = case_of(job.form)
    if case is None or not fits(case, result):
        return []
    # In the order of the model's arms, which is not that of whatif.json.
    changed = [arm for arm in arms_of(result) if arm != FACTUAL]
    known = {"generated": True, "support": "virtual patient, without the scanner's noise"}
    address = f"/jobs/{job.id}/truth"
    images = [{**known, "base": f"{address}/factual", "label": "truth, as recorded"}]
    images += [{**known, "base": f"{address}/{k}", "label": f"truth, {arm}"} for k, arm in enumerate(changed)]
    maps = [
        {
            **known,
            "base": f"{address}/difference-{k}",
            "label": f"true difference, {arm}",
            "isDifference": True,
            "over": before + 1 + k,
        }
        for k, arm in enumerate(changed)
    ]
    return [*images, *maps]


def _truths(job: Job, result: Result, changed: Sequence[str], classes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Arm -> region -> the true shift of a virtual patient."""
    found = {}
    for place, arm in enumerate(changed):
        difference = true_image(job, result, f"difference-{place}").pixels.mean(axis=0)
        regions = regions_of(result, difference.shape, classes)
        found[arm] = {name: f"{float(difference[inside].mean()):.3g}" for name, inside in regions.items()}
    return found


def true_image(job: Job, result: Result, name: str) -> Image:
    """A true image of a virtual patient, or a difference of two, by its name in the viewer.

    Raises:
        UserError: there is none.
    """
    case, described = case_of(job.form), _described(result)
    changed = [arm for arm in arms_of(result) if arm != FACTUAL]
    kind, _, number = name.rpartition("-")
    place = number if kind == "difference" else name
    if case is None or not (name == "factual" or (place.isdigit() and int(place) < len(changed))):
        raise UserError("there is no such truth.")
    if name == "factual":
        return case.images({})[0]
    arm = changed[int(place)]
    row = next(image.row for image in result.images if image.arm == arm)
    held = [column for column in row.get("held", "").split(",") if column]
    before, after = case.images(described["arms"][arm]["changes"], held)
    return replace(after, pixels=after.pixels - before.pixels) if kind else after


def support_of(arm: str, image: ResultImage) -> str:
    """Whether an arm is within what training has seen, in words."""
    if arm == FACTUAL:
        return "supported"
    near = image.row.get("support", "")
    if not near:
        return "support not counted"
    counted = f"{near} patient{'s' if near != '1' else ''} near"
    return f"{'extrapolated' if is_extrapolation(int(near)) else 'supported'}: {counted}"


def _described(result: Result) -> dict[str, Any]:
    """What whatif.json says; empty of another command."""
    path = result.folder / WHATIF
    if not path.is_file():
        return {}
    with explained_content(path):
        return read_mapping(path)


def _in_words(shift: Shift) -> str:
    if shift.low != shift.low:
        return f"{shift.value:.3g}"
    return f"{shift.value:.3g} [{shift.low:.3g}, {shift.high:.3g}]"
