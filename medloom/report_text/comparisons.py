"""Removes references to prior studies from a report, for a model that generates one image from one text.

The rules, clause by clause (clauses end at semicolons and at "but", "while", "and the"):

1. Clauses about what is gone, or that only compare, are removed: "the effusion has resolved", "no longer seen",
   "resolution of", "removal of", "no significant change", "stable examination", "comparison is made to ...".
2. Named prior studies are removed: "compared with the prior study", "since the previous examination", "than before".
3. Words of change are removed and the finding stays: "stable cardiomegaly", "new right effusion", "the effusion is
   unchanged", "interval increase in the effusion"; "remains" becomes "is", "has developed" becomes "is present".
   "Increased" and "decreased" stay if they describe: increased markings, decreased lung volumes.
4. The rest of a clause is removed if it only names what every image shows ("the heart size is unchanged" does not state
   the size), or still refers to a prior study.

Past operations and diseases ("prior sternotomy", "previous granulomatous disease") stay, because they are visible.
"""

import re

from medloom.report_text.sections import sentences_of

_STUDY = (
    r"(?:study|studies|exams?|examinations?|radiographs?|films?|x-?\w*|ct|chest|imag\w+|scans?|dates?|comparisons?"
    r"|priors?|day|yesterday|reports?|ones?)"
)
_EARLIER = r"(?:prior|previous|last|earlier|preceding|most recent|recent|old)"
_HOW = (
    r"(?:(?:again|now|slightly|mildly|minimally|markedly|significantly|substantially|overall|essentially|grossly|relatively"
    r"|been|also|further|in|the|interval|mild|slight|marked|significant|substantial) )*"
)
_CHANGED = (
    r"(?:unchanged|stable|increased|increasing|decreased|decreasing|improved|improving|worsened|worsening|larger|smaller"
    r"|progressed|grown|similar|worse|better|(?:not )?(?:\w+ly )?changed|diminished)"
)
_WHEREIN = r"(?: in (?:size|appearance|extent|position))?"
# Rule 1.
GONE = (
    r"\b(?:has|have|is|are)(?: \w+)? (?:resolved|cleared|disappeared|removed)\b|\b(?:has|have) been (?:\w+ )?removed\b"
    r"|\bno longer\b|\b(?:interval |complete )?(?:resolution|removal|clearing) of\b|\bresolved\b"
    r"|\bpreviously (?:seen|noted|described|identified)\b.*\bnot\b"
    r"|^(?:there (?:is|has been) )?(?:no|without)(?: \w+)?(?: interval)? change"
    r"(?: (?:since|from|compared|in appearance)\b.*)?$"
    r"|^(?:stable|unchanged)(?: (?:chest|examination|exam|study|appearance|findings)\b.*)?$"
    r"|^comparison (?:is|was|to|with|study)\b[^,]*$"
    r"|^(?:these|this|findings)(?: findings)? (?:is|are|appears?) unchanged.*$"
)
# Rules 2 and 3, in order: pattern and replacement.
REWORDED: tuple[tuple[str, str], ...] = (
    (rf"\b(?:in|by|on|as|when)? ?compar(?:ed|ison) (?:to|with)\b[^,;]*?(?:{_STUDY}\b[^,;]*|$),?", ""),
    (
        rf",? ?\b(?:since|from|than|relative to|seen on|noted on|on) (?:the |that of |a )?(?:\w+ )?{_EARLIER}"
        rf" (?:\w+ )??{_STUDY}\b(?: (?:of|from|dated|on) [^,;]*)?",
        "",
    ),
    (r",? ?\b(?:than|as|since) (?:before|yesterday|previously)\b|\bin the interval,?|\bagain (?=\w+ed\b|seen\b)", ""),
    (
        rf"\b(?:there (?:is|has been|have been) )?{_HOW}(?:no )?(?:significant |interval |appreciable )*"
        r"(?:increase|decrease|improvement|worsening|progression|change|development|appearance|reduction)"
        r" (?:in|of)(?: (?:the )?(?:size|extent|appearance|amount) of)?(?: the)?\b",
        "",
    ),
    (r"\bremains?\b(?= (?:\w+ly )?(?:unchanged|stable)\b)", "is"),
    (rf"\b(?:is|was|has|appears) {_HOW}{_CHANGED}{_WHEREIN}(?=[,;]|$)", "is present"),
    (rf"\b(?:are|were|have|appear) {_HOW}{_CHANGED}{_WHEREIN}(?=[,;]|$)", "are present"),
    (rf", {_HOW}{_CHANGED}{_WHEREIN}(?=[,;]|$)| {_CHANGED}$", ""),
    (rf"\b(?:and|but) {_CHANGED}$", ""),
    (r"\bremains\b|\bcontinues to be\b", "is"),
    (r"\bremain\b|\bcontinue to be\b", "are"),
    (r"\bpersists\b|\bhas (?:newly )?(?:developed|appeared)\b", "is present"),
    (r"\bpersist\b|\bhave (?:newly )?(?:developed|appeared)\b", "are present"),
    (
        r"\b(?:increas|decreas)(?:ed|ing) (?!(?:\w+ ){0,2}(?:markings?|opacit|densit|lucenc|lung volumes?|attenuation"
        r"|volumes?|interstitial|vascularity|kypho|diameter|retrosternal))",
        "",
    ),
    (
        r"\b(?:stable|unchanged|persistent|new|newly developed|worsening|worsened|improving|improved|enlarging"
        r"|resolving|interval|progressive|residual|previously (?:seen|noted|described|identified)|known)\b,? ?(?=\w)",
        "",
    ),
)
# Rule 4: the only words of a clause without information.
_BARE = """
    the a an of and in is are has have there been both heart cardiac cardiomediastinal mediastinal hilar silhouette size
    contour contours mediastinum lungs lung fields chest appearance examination study position again also overall
    otherwise findings this these it osseous structures bony thorax on slightly
    present volumes
"""
BARE_WORDS = frozenset(_BARE.split())
_STILL = re.compile(rf"\b{_EARLIER} (?:\w+ )?{_STUDY}\b|\b(?:compar\w+|in the interval|unchanged)\b", re.IGNORECASE)
_CLAUSES = re.compile(r"(;|,? \bbut\b|,? \bwhile\b|,? \band (?=the\b|there\b))", re.IGNORECASE)


def without_comparisons(text: str) -> str:
    """A report's text without references to prior studies, by the rules of this module; may be empty."""
    reworded: list[str] = []
    for sentence in sentences_of(text):
        parts = _CLAUSES.split(sentence.rstrip(" ."))
        clauses = [(before, _clause(clause)) for before, clause in zip(["", *parts[1::2]], parts[::2], strict=True)]
        if left := [(before, clause) for before, clause in clauses if clause]:
            words = left[0][1] + "".join(f"{before} {clause}" for before, clause in left[1:])
            words = re.sub(r"\s+([,;])", r"\1", " ".join(words.split()))
            reworded.append(f"{words[:1].upper()}{words[1:]}{'.' if sentence.endswith('.') else ''}")
    return " ".join(reworded)


def _clause(clause: str) -> str:
    """A reworded clause; empty if it is removed."""
    words = clause.strip(" ,")
    if re.search(GONE, words, re.IGNORECASE):
        return ""
    for pattern, instead in REWORDED:
        words = re.sub(pattern, instead, words, flags=re.IGNORECASE)
    words = re.sub(r"\s*,(?:\s*,)+", ",", " ".join(words.split())).strip(" ,")
    # "A new effusion" becomes "an effusion" without its "new".
    words = re.sub(
        r"\b(a)n? (?=([aeiou])?\w)", lambda m: f"{m[1]}n " if m[2] else f"{m[1]} ", words, flags=re.IGNORECASE
    )
    named = set(re.findall(r"[a-z]+", words.casefold()))
    return "" if named <= BARE_WORDS or _STILL.search(words) else words
