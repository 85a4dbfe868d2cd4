"""Agreement of written reports with reference reports: BLEU (sacrebleu), ROUGE-L (rouge-score) and CIDEr.

CIDEr is our own: the libraries that have it need a download of data or a Java program for their tokens.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError

WORD = re.compile(r"\w+|[^\w\s]")
ROUGE_BETA = 1.2
CIDER_ORDER, CIDER_SIGMA = 4, 6.0

References = Sequence[Sequence[str]]
Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks."""
    return WORD.findall(text.lower())


def bleu(candidates: Sequence[str], references: References, order: int = 4) -> float:
    """BLEU of a corpus, 0 to 1 (Papineni et al. 2002, section 2.3): not a mean over sentences, and not smoothed.

    Args:
        candidates: texts to evaluate.
        references: one or more texts for each of them.
        order: longest n-gram.

    Raises:
        UserError: no candidates, different lengths, or a candidate without a reference.

    Examples:
        >>> references = [["No change.", "Small left effusion."]]
        >>> round(medloom.metrics.bleu(["Small left effusion."], references), 2)
        1.0
    """
    from sacrebleu import BLEU

    pairs = _pairs(candidates, references)
    # sacrebleu takes one stream per reference; a shorter list of references is filled up with None.
    most = max(len(texts) for _, texts in pairs)
    streams = [[" ".join(texts[k]) if k < len(texts) else None for _, texts in pairs] for k in range(most)]
    metric = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    return float(metric.corpus_score([" ".join(own) for own, _ in pairs], streams).score) / 100


def rouge_l(candidates: Sequence[str], references: References, beta: float = ROUGE_BETA) -> NDArray[np.float64]:
    """ROUGE-L of each candidate, 0 to 1 (Lin 2004, eq. 2 to 4), against the best matching reference.

    Args:
        candidates: texts to evaluate.
        references: one or more texts for each of them.
        beta: weight of recall over precision; 1 for the balanced F.

    Returns:
        float64 `(n,)`.

    Raises:
        UserError: as `bleu`.

    Examples:
        >>> score = medloom.metrics.rouge_l(["left effusion"], [["right effusion"]])
        >>> score.round(2)
        array([0.5])
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=SimpleNamespace(tokenize=str.split))

    def f_measure(own: list[str], reference: list[str]) -> float:
        score = scorer.score(" ".join(reference), " ".join(own))["rougeL"]
        weighted = score.recall + beta**2 * score.precision
        return (1 + beta**2) * score.recall * score.precision / weighted if weighted else 0.0

    return np.array([max(f_measure(own, text) for text in texts) for own, texts in _pairs(candidates, references)])


def cider(candidates: Sequence[str], references: References) -> NDArray[np.float64]:
    """CIDEr-D of each candidate, 0 to 10 (Vedantam et al. 2015, section 3 and eq. 4), without stemming.

    The inverse document frequency of n-grams is counted over the references of this corpus: a corpus of one text, or of
    equal texts, carries no information and scores 0.

    Args:
        candidates: texts to evaluate.
        references: one or more texts for each of them.

    Returns:
        float64 `(n,)`.

    Raises:
        UserError: as `bleu`.

    Examples:
        >>> texts = ["Small left effusion.", "Large nodule."]
        >>> references = [["Small left effusion."], ["No change."]]
        >>> medloom.metrics.cider(texts, references).round(2)
        array([10.,  0.])
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
    vector: Mapping[Gram, float], own: list[str], text: list[str], n: int, documents: Counter[Gram], count: int
) -> float:
    other = _weighted(text, n, documents, count)
    lengths = math.sqrt(sum(w * w for w in vector.values()) * sum(w * w for w in other.values()))
    if not lengths:
        return 0.0
    shared = sum(min(weight, other[gram]) * other[gram] for gram, weight in vector.items() if gram in other)
    return shared / lengths * math.exp(-((len(own) - len(text)) ** 2) / (2 * CIDER_SIGMA**2))


def _weighted(text: list[str], n: int, documents: Counter[Gram], count: int) -> dict[Gram, float]:
    return {gram: times * math.log(count / max(documents[gram], 1)) for gram, times in _grams(text, n).items()}


def _grams(text: list[str], n: int) -> Counter[Gram]:
    return Counter(tuple(text[start : start + n]) for start in range(len(text) - n + 1))


def _pairs(candidates: Sequence[str], references: References) -> list[tuple[list[str], list[list[str]]]]:
    if not candidates or len(candidates) != len(references) or not all(references):
        raise UserError(
            f"{len(candidates)} candidate texts and {len(references)} lists of references; give each candidate a list"
            " of at least one text."
        )
    if any(isinstance(texts, str) for texts in references):
        raise UserError("the references of a candidate are a list of texts, not one text; put it into a list.")
    return [(words(own), [words(text) for text in texts]) for own, texts in zip(candidates, references, strict=True)]
