"""The vocabulary of findings on chest images, and the words that name them, for `findings`.

Patterns match lower-case text. What a finding includes beyond its name:

- consolidation: pneumonia, airspace or alveolar disease, infiltrate, and an opacity of unspecified kind; a linear,
  streaky or calcified opacity is not in the vocabulary.
- pneumothorax: includes hydropneumothorax.
- edema: includes congestion and heart failure. A pericardial effusion is not a pleural effusion.
- nodule: includes masses, but not granulomas. fracture: includes old fractures.
- emphysema: includes hyperinflation and COPD, but not subcutaneous emphysema.
- interstitial disease: fibrosis, reticulation, honeycombing, interstitial pneumonia, but not cystic fibrosis.
- support devices: tubes, catheters, lines, pacemakers, but not surgical wires and clips.
"""

PLEURAL, AIR, CONSOLIDATION, ATELECTASIS = "pleural effusion", "pneumothorax", "consolidation", "atelectasis"
EDEMA, HEART, NODULE, EMPHYSEMA = "edema", "cardiomegaly", "nodule", "emphysema"
INTERSTITIAL, GLASS, FRACTURE, DEVICES = "interstitial disease", "ground-glass opacity", "fracture", "support devices"
NONE_OF_THESE = ""

_OPACITY = r"(?:opacit(?:y|ies)|opacifications?|densit(?:y|ies))"
_SILHOUETTE = (
    r"(?:heart|cardiac|cardio[- ]?mediastinal|cardiopericardial)(?: (?:size|silhouettes?|shadow|contours?"
    r"|structures?))*"
)
_DEGREE = (
    r"(?:(?:is|are|was|appears?|remains?|be|to|not|no|longer|mildly|moderately|severely|markedly|slightly"
    r"|minimally|at|in"
    r"|significantly|grossly|again|stable|persistently|somewhat|borderline|mild|moderate|diffusely|globally"
    r"|top|size|xxxx"
    r"|and|the|mediastinum|mediastinal|contours?|silhouette|within|upper|noted|definitely|overtly|likely|probably) )*"
)
VOCABULARY: dict[str, str] = {
    PLEURAL: (
        r"pleural (?:and/or|and|or) pericardial effusions?|(?:pleural |parapneumonic )?(?<!pericardial )(?<!joint )"
        r"effusions?|pleural fluid|hydrothorax|hemothorax"
    ),
    AIR: r"(?:hydro)?pneumothora(?:x|xes|ces)|ptx",
    CONSOLIDATION: (
        r"consolidat\w+|(?:broncho)?pneumonias?|(?:air[ -]?space|alveolar|parenchymal) (?:lung )?"
        rf"(?:disease|process|consolidat\w+|infiltrat\w+|abnormalit\w+|{_OPACITY})|infiltrates?|infiltration"
        r"|opacit(?:y|ies)|opacifications?|air[ -]?space"
    ),
    ATELECTASIS: r"atelecta\w+|(?:lobe|lobar|lung) collapse",
    EDEMA: (
        r"(?:(?:pulmonary|interstitial|alveolar) )*(?<!soft tissue )o?edema|congestive (?:heart )?failure"
        r"|heart failure|chf"
        r"|(?:(?:pulmonary|central) )*(?:vascular |venous )?(?:congestion|engorgement)"
        r"(?! appears? within)|congestive changes?"
    ),
    HEART: (
        rf"cardiomegaly|(?:cardiac|heart) enlargement|enlargement of (?:the )?{_SILHOUETTE}"
        rf"|(?:enlarged|large|prominent) {_SILHOUETTE}|borderline {_SILHOUETTE}"
        rf"|{_SILHOUETTE} {_DEGREE}(?:enlarged|large|prominent)\b|{_SILHOUETTE} {_DEGREE}borderline(?: in size)?"
    ),
    NODULE: rf"nodules?|nodular(?: \w+)? (?:{_OPACITY}|lesions?|foc(?:us|i))|mass(?:es)?(?! effect)",
    EMPHYSEMA: (
        r"(?<!subcutaneous )(?<!tissue )emphysema\w*|(?:hyper|over)-?(?:inflat|expan|aerat)\w+|copd|bullae|bullous"
        r"|chronic obstructive (?:pulmonary|lung|airways?) disease"
    ),
    INTERSTITIAL: (
        r"(?:(?:increased|prominent|coarse|coarsened) (?:\w+ )?)?interstitial (?:(?:lung|pulmonary) )*"
        r"(?:disease|markings|pattern|changes?|thickening|prominence|pneumoni\w+|fibrosis|infiltrat\w+|abnormalit\w+"
        rf"|process|scarring|{_OPACITY})|(?:prominent|prominence of the) interstitium|(?<!cystic )\bfibro(?:sis|tic)"
        rf"|reticul(?:ation|ar|onodular)(?: (?:pattern|markings|{_OPACITY}))?|honeycomb\w*"
    ),
    GLASS: rf"ground[ -]glass(?: (?:{_OPACITY}|attenuation|change|appearance))?",
    FRACTURE: r"fractur\w+",
    DEVICES: (
        r"(?:(?:endotracheal|tracheostomy|nasogastric|orogastric|enteric|feeding|chest|thoracostomy|ng|et"
        r"|og) )+tubes?"
        r"|(?:(?:central|venous|picc|subclavian|jugular|ij|dialysis|arterial|dual-lumen"
        r"|swan-ganz) )+(?:catheters?|lines?)"
        r"|catheters?|port-?a-?caths?|mediports?|pacemakers?|pacers?|piccs?|defibrillators?|aicd|icd"
        r"|pacing (?:leads?|wires?)"
    ),
    NONE_OF_THESE: (
        r"(?:linear|streaky|bandlike|band-like|platelike|plate-like|curvilinear|calcified|metallic)"
        rf" (?:\w+ )??(?<!airspace )(?<!space ){_OPACITY}|nodular(?! (?:\w+ )?(?:{_OPACITY}|lesion|foc))"
        r"|(?:history|treatment) of \w+|multinodular|scar(?:s|ring)?|granulomas?|pleural thickening"
    ),
}
SIDELESS = frozenset({HEART})
SIZELESS = frozenset({FRACTURE, DEVICES})

LUNG_FINDINGS = (CONSOLIDATION, ATELECTASIS, EDEMA, NODULE, INTERSTITIAL, GLASS)
ACUTE_FINDINGS = (CONSOLIDATION, EDEMA, PLEURAL, AIR)
CLEARING_FINDINGS = (PLEURAL, AIR, *LUNG_FINDINGS)
ALL_FINDINGS = tuple(name for name in VOCABULARY if name not in (NONE_OF_THESE, DEVICES))

_FILL = (
    r"(?:,? (?:and|the|is|are|appears?|remains?|otherwise|grossly|essentially|both|also|xxxx|now|bilaterally"
    r"|with|of|to|be|stable|unchanged"
)
_LUNG_FILL = (
    rf"{_FILL}|well[ -]\w+|normally|lung|volumes?|fully|hyp(?:er|o)\w+|expanded|inflated|aerated|symmetric\w*"
    r"|relatively|but|mildly|slightly|moderately))*"
)
_HEART_FILL = (
    rf"{_FILL}|size|silhouettes?|shadow|contours?|mediastin\w+|hilar|hila|pulmonary|vascul\w+|structures|shape"
    r"|in|at|upper|top|limits?|within|for|technique|aort\w+|configuration|stable|lungs?|overall|heart|central"
    r"|airways?|towards?|near|engorgement|pleura|osseous|visualized|abdomen|bones?|soft|tissues?|cardiac"
    r"|cardio[- ]?mediastinal))*"
)
_OK = r"(?:normal|unremarkable|wnl)"
_NO = (
    r"\b(?:no|without|negative for|free of|absence of)(?: (?:any|an|evidence|of|for|definite|radiographic"
    r"|convincing|xxxx|overt"
)
_NO_ACUTE = rf"{_NO}|plain|film|findings|suggest\w*|significant|focal))* (?:acute|active)"
_THING = r"(?:disease|abnormalit\w+|process(?:es)?|findings?|patholog\w+|change|changes|concern|infection)"
_EXAMINED = r"(?:chest|examination|exam|study|radiographs?|x-?rays?|x-xxxx|cxr)"
# Phrases of normality, and the findings that they state as absent. A group `side` may name one lung.
NORMALITY: dict[str, tuple[str, ...]] = {
    rf"\b(?:(?P<side>right|left) )?lungs?(?: fields?| parenchyma)?{_LUNG_FILL},? clear\b(?! of\b)": LUNG_FINDINGS,
    r"\bclear (?:and )?(?:(?P<side>right|left) |hyper\w+ |expanded )?lungs?\b": LUNG_FINDINGS,
    rf"\b(?:heart|cardiac|cardio[- ]?mediastinal|cardiopericardial)\b{_HEART_FILL},? {_OK}": (HEART,),
    rf"\b{_OK}{_HEART_FILL},? (?:heart|cardiac|cardio[- ]?mediastinal|cardiopericardial)\b": (HEART,),
    rf"\bpulmonary vascul\w+{_HEART_FILL},? {_OK}": (EDEMA,),
    rf"\b{_OK}{_HEART_FILL},? pulmonary vascul\w+": (EDEMA,),
    rf"\bpleural spaces?{_FILL}))* (?:clear|{_OK})": (PLEURAL, AIR),
    r"\b(?:the )?(?P<side>right|left) pleural space(?: is| appears)? clear": (PLEURAL, AIR),
    rf"\bcostophrenic (?:angles?|sulci|recesses){_FILL}))* (?:clear|sharp|{_OK})": (PLEURAL,),
    r"\b(?:osse?ous|osseus|bony|skeletal|bones?)(?: (?:structures?|thorax|skeleton|of|the|is|are|appears?"
    r"|grossly|within|limits|xxxx|visualized"
    rf"|thoracic|soft|tissues|and))* (?:intact|{_OK}|without(?: evidence of)? acute \w+)": (FRACTURE,),
    rf"{_NO_ACUTE} (?:osse?ous|osseus|bony|bone|skeletal)(?: \w+)? {_THING}": (FRACTURE,),
    rf"{_NO_ACUTE} (?:pulmonary|lung|parenchymal) {_THING}": (CONSOLIDATION, EDEMA),
}
# The same for more general phrases, which count only outside of the phrases above.
GENERAL_NORMALITY: dict[str, tuple[str, ...]] = {
    rf"{_NO_ACUTE}(?: (?:cardio-? ?pulmonary|cardiac or pulmonary|intra-?thoracic|thoracic|chest"
    r"|cardiopulmonary|pleural"
    rf"|radiographic|or|and|appearing|disease))* {_THING}": ACUTE_FINDINGS,
    r"(?<!otherwise )\b(?:normal|unremarkable|negative)(?: (?:pa|ap|frontal|and|lateral|2|two|view"
    rf"|portable))* {_EXAMINED}"
    rf"|^(?:the )?{_EXAMINED}(?: (?:is|are|appears?))? {_OK}": ALL_FINDINGS,
}
# Refers to whatever the prior study showed.
RESOLVED_IN_GENERAL = (
    r"\b(?:abnormalit(?:y|ies)|findings|process|disease)\b[^,;]*\b(?:has|have) (?:\w+ )?(?:resolved|cleared)\b"
)
