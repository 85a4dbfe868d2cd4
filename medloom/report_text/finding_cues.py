"""Words that state whether a finding is present, its side and size, and how it changed."""

# Ends of clauses, which no cue crosses.
CLAUSE_END = (
    r";|\bbut\b(?! (?:\w+ )?(?:stable|unchanged|improved|decreased|increased|clear)\b)|\bhowever\b|\bexcept\b"
    r"|\balthough\b|\bthough\b|\bwhile\b|\bwhereas\b|\bapart from\b|\bother than\b"
    r"|\baside from\b|\byet\b|\bin addition to\b|(?:,| and),? (?=(?:the|there) )"
)
_OWN = r"(?:an? )?(?:small|mild|minimal|trace|tiny|moderate|stable|unchanged|persistent)\b"
# Ends of the scope of a negation, and of a doubt, within a clause.
NEGATION_END = (
    rf", (?={_OWN})|\bwith (?=(?:{_OWN}|(?:an? )?(?:large|new|right|left|bilateral)\b))|\bdue to\b"
    r"|\bsecondary to\b"
)
DOUBT_END = (
    r",(?!.*\b(?:or|versus|vs)\b)|\bwith\b"
    rf"|\band (?=(?:{_OWN}|(?:an?|the|large|right|left|bilateral)\b))"
)

_NOTED = (
    r"(?:seen|identified|visualized|demonstrated|evident|present|noted|appreciated|detected|observed|apparent"
    r"|visible)"
)
BEFORE, AFTER = "before", "after"
# Status, scope, change and pattern of each cue, in order: text that one cue matches is invisible to the next. An empty
# status means that the cue states a change only.
CUES: tuple[tuple[str, str, str | None, str], ...] = (
    (
        "",
        "",
        "decreased",
        r"\b(?:near(?:ly)?|partial(?:ly)?|almost|incomplete(?:ly)?)[ -](?:\w+ )?(?:resolution|resolved"
        r"|cleared|clearing)\b",
    ),
    (
        "",
        "",
        "unchanged",
        r"\bneither \w+ nor \w+\b|\bfail(?:ed|s|ure)?\b[^.;]{0,40}? to (?:improve|resolve|clear|change)\b"
        r"|\blittle (?:interval )?(?:change|improvement|progression)\b"
        r"|\b(?:no|without)(?: (?:significant|interval|appreciable|substantial|definite|xxxx|any))* (?:change|increase"
        r"|decrease|worsening|improvement|progression)s?\b|\bnot (?:\w+ly )?(?:changed|increased|decreased"
        r"|resolved|cleared"
        r"|improved|worsened)\b",
    ),
    (
        "absent",
        AFTER,
        "resolved",
        r"\b(?:has|have|is|are)(?: \w+)? (?:resolved|cleared|gone|disappeared|removed)\b"
        rf"|\b(?:is |are )?no longer (?:\w+ )?{_NOTED}\b",
    ),
    (
        "uncertain",
        AFTER,
        None,
        r"\b(?:is |are )?(?:cannot|can not|can't|could not|not)(?: entirely| completely)? (?:be )?(?:\w+ly )?"
        r"(?:excluded|ruled out)\b"
        r"|\b(?:is|are|also|remains?)(?: \w+)? (?:possible|suspected|questioned|considered|unlikely|likely)\b"
        r"|\bunlikely\b"
        r"|\b(?:may|might|could) (?:not be \w+|be (?:present|considered))\b|\b(?:is|are) in the differential\b",
    ),
    (
        "absent",
        AFTER,
        None,
        (rf"\b(?:is |are |was |were )?not (?:\w+ly |well[ -])?{_NOTED}\b|\b(?:is|are) (?:absent|excluded)\b"),
    ),
    (
        "uncertain",
        BEFORE,
        None,
        r"\b(?:possib(?:le|ly|ility of)|probab(?:le|ly)|likely|may|might|could|suggest\w*|suspected"
        r"|questionable|question\w*"
        r"|perhaps|presumabl[ey]|equivocal|borderline|favor\w*|differential|(?:concern|suspicion) (?:for|of)"
        r"|rather than"
        r"|(?:concerning|suspicious|worrisome) for|(?:evaluate|correlate|rule out|assess)(?: for)?"
        r"|for (?:the )?(?:evaluation|assessment|exclusion) of"
        r"|to exclude|to identify"
        r"|detecting"
        r"|(?:cannot|can not|can't|could not|not|difficult to)(?: entirely"
        r"| completely)? (?:\w+ly )?(?:exclude|rule out))\b",
    ),
    ("absent", BEFORE, "resolved", r"\bresolution of\b|\bresolved\b|\bno longer\b|\bremoval of\b"),
    (
        "absent",
        BEFORE,
        None,
        r"\b(?:no|not|without|absence of|free of|clear of|negative for|lack of|lacks|neither|nor|denies|excludes?)\b",
    ),
    (
        "",
        "",
        "decreased",
        r"\b(?:decreas(?:e|ed|ing)|smaller|improv(?:e|ed|ing|ement)|resolving|clearing|diminish(?:ed|ing)|reduced"
        r"|reduction|regress(?:ed|ion)|less (?:apparent|prominent|conspicuous|dense"
        r"|extensive))\b"
        r"(?! than (?:the )?(?:left|right)| (?:lung )?(?:volumes?|inspirat|inflat|penetrat))",
    ),
    (
        "",
        "",
        "increased",
        r"\b(?:increas(?:e|ed|ing)|larger|worse(?! (?:in|on|at)\b)|worsen(?:ed|ing)|progress(?:ed|ion|ing"
        r"|ive)|enlarging|grown|growth"
        r"|more (?:prominent|conspicuous|dense|extensive)(?! (?:in|on|at)\b))\b"
        r"(?! than (?:the )?(?:left|right)| (?:lung )?(?:volumes?|inspirat|inflat|penetrat))",
    ),
    ("", "", "new", r"\b(?:new|newly|developed|developing|(?:interval|new) (?:development|appearance)|appeared)\b"),
    (
        "",
        "",
        "unchanged",
        r"\b(?:unchanged|stable|persist\w*|similar|constant|again (?:seen|noted|demonstrated|identified))\b",
    ),
)
# "Increased" describes the following word ("increased markings") unless the sentence compares.
DESCRIBED = r"increas\w+ (?:\w+ )*?(?:opacit|densit|interstitial|reticul)"
COMPARES = r"\b(?:interval|since|compar\w+|previous\w*|prior|before)\b"
ALTERNATIVE = r"[ ,]*(?:versus|vs\.?|or|and/or|/)[ ]*(?:\w+[ ]+)?"
CONTRAST = r"(?:versus|vs\.?)"
BARE_CONNECTOR = r"[ ,]*(?:and/or|and|or|versus|vs\.?|/)[ ]*(?:associated |adjacent |underlying |focal )?"
# Between findings: boundaries between their words.
CONNECTOR = (
    r"[ ,]+(?<!right )(?<!left )(?<!upper )(?<!mid )(?<!middle )(?<!lower )(?<!apical )(?<!basal )"
    r"(?:and/or|and|or|versus|vs\.?|with|plus)[ ]"
    r"|(?<!stable)(?<!small)(?<!mild)(?<!unchanged)(?<!moderate)(?<!large), ?|/"
)
# Ends of the words of the last finding of a clause.
LAST_END = (
    r",? with\b|,? and\b(?! (?:is|are|has|have|stable|unchanged|increased|decreased|small|moderate|large|left"
    r"|right)\b)"
    r"|, (?:the|there|no|without)\b"
    r"|, (?:stable|unchanged|normal) (?!(?:since|from|compared|in|on|when|as|and|to|with)\b)\w"
)
BOTH_SIDES = (
    r"\bbilateral\w*|\bbi-?bas\w+|\bbi-?apical|\bboth\b|\bright and left\b|\bleft and right\b"
    r"|\b(?:greater|more|larger|worse|less) than (?:on )?(?:the )?(?:right|left)\b"
)
SIDES: dict[str, str] = {
    "both": BOTH_SIDES,
    "left": r"\bleft\b|\blll\b|\blul\b|\blingula\w*",
    "right": r"\bright\b|\br[mlu]l\b",
}
# "Marked improvement" and "slightly larger" are degrees of a change, and no sizes.
_NO_DEGREE = (
    r"(?! (?:interval )?(?:increas|decreas|larger|smaller|worse|improv|more|less|chang|progress|regress|resol|clear"
    r"|reduc|diminish|enlarging|grow|better|extension|develop))"
)
# The first match counts, so that "small to moderate" is moderate and "moderate to large" is large.
SIZES: dict[str, str] = {
    "large": rf"\b(?:large|severe|severely|massive|marked|markedly|extensive|sizable)\b{_NO_DEGREE}",
    "moderate": rf"\bmoderate(?:ly)?\b{_NO_DEGREE}",
    "small": (rf"\b(?:tiny|trace|small|minimal|minimally|mild|mildly|slight|slightly|minor|subtle)\b{_NO_DEGREE}"),
}
