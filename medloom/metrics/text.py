"""Agreement of written reports with reference reports: BLEU, ROUGE-L, CIDEr.

Our own, a few lines each: the libraries that have them want a download of data or a Java program for their tokens.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medloom.core.errors import UserError

WORD = re.compile(r"\w+|[^\w\s]")
ROUGE_BETA = 1.2
CIDER_ORDER, CIDER_SIGMA = 4, 6.0

References = Sequence[Sequence[str]]


def words(text: str) -> list[str]:
    """Lower-case words and single signs of punctuation."""
    return WORD.findall(text.lower())


def bleu(candidates: Sequence[str], references: References, order: int = 4) -> float:
    """BLEU of a corpus, 0 to 1 (Papineni et al. 2002, section 2.3): not the mean over sentences, and not smoothed.

    Args:
        candidates: texts to judge.
        references: one or more texts for each of them.
        order: longest n-gram.

    Raises:
        UserError: no candidates, lengths that differ, or a candidate without a reference.
    """
    pairs = _pairs(candidates, references)
    matched, total = np.zeros(order), np.zeros(order)
    length, closest = 0, 0
    for candidate, texts in pairs:
        length += len(candidate)
        closest += min((len(text) for text in texts), key=lambda n: (abs(n - len(candidate)), n))
        for n in range(1, order + 1):
            grams = _grams(candidate, n)
            most = Counter[tuple[str, ...]]()
            for text in texts:
                most |= _grams(text, n)
            matched[n - 1] += sum((grams & most).values())
            total[n - 1] += sum(grams.values())
    if not matched.all():
        return 0.0
    brevity = 1.0 if length > closest else math.exp(1 - closest / length)
    return brevity * math.exp(float(np.log(matched / total).mean()))


def rouge_l(candidates: Sequence[str], references: References, beta: float = ROUGE_BETA) -> np.ndarray:
    """ROUGE-L of each candidate, 0 to 1 (Lin 2004, eq. 2 to 4), against the reference that fits best.

    Args:
        candidates: texts to judge.
        references: one or more texts for each of them.
        beta: weight of recall over precision; 1 for the balanced F.

    Returns:
        float64 `(n,)`.

    Raises:
        UserError: as `bleu`.
    """
    return np.array([max(_rouge(own, text, beta) for text in texts) for own, texts in _pairs(candidates, references)])


def cider(candidates: Sequence[str], references: References) -> np.ndarray:
    """CIDEr-D of each candidate, 0 to 10 (Vedantam et al. 2015, section 3 and eq. 4), without stemming.

    How telling an n-gram is, is counted over the references of this very corpus: a corpus of one, or of equal texts,
    tells nothing, and has 0.

    Args:
        candidates: texts to judge.
        references: one or more texts for each of them.

    Returns:
        float64 `(n,)`.

    Raises:
        UserError: as `bleu`.
    """
    pairs = _pairs(candidates, references)
    scores = np.zeros(len(pairs))
    for n in range(1, CIDER_ORDER + 1):
        documents = Counter(gram for _, texts in pairs for gram in set().union(*(_grams(text, n) for text in texts)))
        for row, (own, texts) in enumerate(pairs):
            vector = _weighted(own, n, documents, len(pairs))
            scores[row] += np.mean([_cider(vector, own, text, n, documents, len(pairs)) for text in texts])
    return 10 * scores / CIDER_ORDER


def _cider(
    vector: dict[tuple[str, ...], float], own: list[str], text: list[str], n: int, documents: Counter, count: int
) -> float:
    other = _weighted(text, n, documents, count)
    lengths = math.sqrt(sum(w * w for w in vector.values()) * sum(w * w for w in other.values()))
    if not lengths:
        return 0.0
    shared = sum(min(weight, other[gram]) * other[gram] for gram, weight in vector.items() if gram in other)
    return shared / lengths * math.exp(-((len(own) - len(text)) ** 2) / (2 * CIDER_SIGMA**2))


def _weighted(text: list[str], n: int, documents: Counter, count: int) -> dict[tuple[str, ...], float]:
    return {gram: times * math.log(count / max(documents[gram], 1)) for gram, times in _grams(text, n).items()}


def _rouge(candidate: list[str], reference: list[str], beta: float) -> float:
    common = _longest_common(candidate, reference)
    if not common:
        return 0.0
    recall, precision = common / len(reference), common / len(candidate)
    return (1 + beta**2) * recall * precision / (recall + beta**2 * precision)


def _longest_common(x: list[str], y: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(y) + 1)
    for word in x:
        corner = 0
        for place, other in enumerate(y, 1):
            corner, row[place] = row[place], corner + 1 if word == other else max(row[place], row[place - 1])
    return row[-1]


def _grams(text: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[start : start + n]) for start in range(len(text) - n + 1))


def _pairs(candidates: Sequence[str], references: References) -> list[tuple[list[str], list[list[str]]]]:
    if not candidates or len(candidates) != len(references) or not all(references):
        raise UserError(
            f"{len(candidates)} candidate texts and {len(references)} lists of references; give a list of one or more"
            " texts for each candidate."
        )
    if any(isinstance(texts, str) for texts in references):
        raise UserError("references of a candidate are a list of texts, not one text; put it into a list.")
    return [(words(own), [words(text) for text in texts]) for own, texts in zip(candidates, references, strict=True)]
