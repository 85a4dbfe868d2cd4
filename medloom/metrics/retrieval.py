"""Retrieval by cosine: how often a query's match is among the k nearest entries of a gallery (IIR, ITR)."""

from collections.abc import Sequence

import numpy as np

from medloom.core.errors import UserError
from medloom.metrics.matrices import CHUNK, check_features, unit_rows


def retrieved(
    queries: np.ndarray, gallery: np.ndarray, query_keys: Sequence[object], gallery_keys: Sequence[object], k: int = 10
) -> np.ndarray:
    """For each query, whether an entry with its key is among the k nearest entries of the gallery.

    With synthetic images as queries, real images as gallery and prompts as keys, the mean is the image-image retrieval
    rate. With text embeddings from a joint encoder as gallery it is the image-text retrieval rate. Ties at rank k count
    by the fraction of tied ranks that are within k.

    Args:
        queries: embeddings `(q, d)`, no row of zeros.
        gallery: embeddings `(g, d)`, no row of zeros.
        query_keys: key of each query.
        gallery_keys: key of each entry; several entries may have the same key.
        k: number of entries considered.

    Returns:
        float64 `(q,)`, 0 to 1.

    Raises:
        UserError: wrong shapes or lengths, k beyond the gallery, or a query whose key the gallery does not have.

    Examples:
        >>> queries, gallery = np.eye(3)[:2], np.eye(3)
        >>> names, known = ["lung", "liver"], ["lung", "brain", "liver"]
        >>> medloom.metrics.retrieved(queries, gallery, names, known, k=1)
        array([1., 0.])
    """
    queries, gallery = (unit_rows(x) for x in check_features(queries, gallery))
    if (len(query_keys), len(gallery_keys)) != (len(queries), len(gallery)) or not 1 <= k < len(gallery):
        raise UserError(
            f"retrieval of {k} from {len(gallery)} entries with {len(gallery_keys)} keys, for {len(queries)} queries"
            f" with {len(query_keys)}: give one key each, and k below the number of entries."
        )
    codes = {key: code for code, key in enumerate(dict.fromkeys(gallery_keys))}
    if missing := [key for key in query_keys if key not in codes]:
        raise UserError(f"{len(missing)} queries have no match in the gallery, e.g. {missing[0]!r}.")
    own, theirs = (np.array([codes[key] for key in keys]) for keys in (query_keys, gallery_keys))
    hits = []
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, start + CHUNK)
        cosine = queries[rows] @ gallery.T
        best = np.where(own[rows, None] == theirs, cosine, -np.inf).max(axis=1, keepdims=True)
        nearer, tied = (cosine > best).sum(axis=1), (cosine == best).sum(axis=1)
        hits.append(np.clip((k - nearer) / tied, 0, 1))
    return np.concatenate(hits)
