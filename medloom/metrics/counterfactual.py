"""The composite score of edited images published with BiomedJourney, for comparison only."""

import math

from medloom.core.errors import UserError


def cmig(auc_pathology: float, auc_race: float, r_age: float) -> float:
    """CMIG = sqrt(AUC_pathology * sqrt(AUC_race * r_age)), as stated by its authors.

    Report the components rather than this number: it does not reproduce the published values from the published
    components, and good pathology can hide poor identity.

    Args:
        auc_pathology: AUROC of the findings on edited images, 0 to 1.
        auc_race: AUROC of race on edited images, 0 to 1.
        r_age: correlation of age on edited images with the patients' age.

    Raises:
        UserError: a value outside of 0 to 1, such as a negative correlation, for which CMIG is undefined.

    Examples:
        >>> round(medloom.metrics.cmig(auc_pathology=0.9, auc_race=0.9, r_age=0.4), 2)
        0.73
    """
    if not (0 <= auc_pathology <= 1 and 0 <= auc_race <= 1 and 0 <= r_age <= 1):
        raise UserError(
            f"CMIG of AUROC {auc_pathology}, {auc_race} and correlation {r_age}; it is defined from 0 to 1 only:"
            " report the components."
        )
    return math.sqrt(auc_pathology * math.sqrt(auc_race * r_age))
