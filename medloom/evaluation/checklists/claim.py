"""The items of CLAIM 2024 (Checklist for Artificial Intelligence in Medical Imaging), in short words of our own."""

from medloom.evaluation.checklists import facts
from medloom.evaluation.checklists.guideline import Guideline, Item

TITLE, INTRODUCTION, DESIGN = "title and abstract", "introduction", "methods: design"
DATA, STANDARD, PARTITIONS = "methods: data", "methods: reference standard", "methods: partitions"
TESTING, MODEL, TRAINING = "methods: test data", "methods: model", "methods: training"
EVALUATION, RESULTS, PERFORMANCE = "methods: evaluation", "results: data", "results: performance"
DISCUSSION, OTHER = "discussion", "other information"

CLAIM = Guideline(
    "CLAIM 2024",
    "Tejani et al., Radiology: Artificial Intelligence 2024, 6(4):e240300",
    (
        Item("1", TITLE, "that it is a study of AI, and of which kind", (facts.technique,)),
        Item("2", TITLE, "a structured abstract"),
        Item("3", INTRODUCTION, "background, and the role that the model is meant to have"),
        Item("4", INTRODUCTION, "aims and hypotheses"),
        Item("5", DESIGN, "prospective or retrospective"),
        Item("6", DESIGN, "the goal of the study", gap="e.g. method development, feasibility, equivalence"),
        Item("7", DATA, "where the data come from", (facts.virtual_source,)),
        Item("8", DATA, "whom and what was included and excluded, with dates and places"),
        Item("9", DATA, "how data were prepared", (facts.preprocessing,)),
        Item("10", DATA, "which parts of images or tables were used", (facts.subsets_of_images,)),
        Item("11", DATA, "how data were de-identified", gap="who removed which identifiers, and to which standard"),
        Item("12", DATA, "what was done about missing data", (facts.missing_values,)),
        Item("13", DATA, "how images were acquired", gap="scanners, protocols, doses, contrast agents"),
        Item("14", STANDARD, "what the reference standard is", (facts.truth,)),
        Item("15", STANDARD, "why it was chosen"),
        Item("16", STANDARD, "who annotated, with which qualification"),
        Item("17", STANDARD, "how the test set was annotated"),
        Item("18", STANDARD, "how far annotators agree with each other and with themselves"),
        Item("19", PARTITIONS, "how data were assigned to partitions", (facts.partitions,)),
        Item("20", PARTITIONS, "on which level partitions are disjoint", (facts.level,)),
        Item("21", TESTING, "the intended sample size and its reason", (facts.planned_size,), "give --plan next time"),
        Item("22", MODEL, "the model in detail", (facts.architecture, facts.conditions, facts.output)),
        Item("23", MODEL, "software with versions", (facts.software,)),
        Item("24", MODEL, "how weights were initialised", (facts.initialisation,)),
        Item("25", TRAINING, "how it was trained", (facts.training,)),
        Item("26", TRAINING, "how the final model was selected", (facts.selection,)),
        Item("27", TRAINING, "whether models were combined", (facts.one_model,)),
        Item("28", EVALUATION, "metrics", (facts.metrics_used,)),
        Item("29", EVALUATION, "how uncertainty and significance are stated", (facts.uncertainty,)),
        Item("30", EVALUATION, "robustness and sensitivity", (facts.robustness, facts.subgroups)),
        Item("31", EVALUATION, "explainability, and how it was checked"),
        Item("32", EVALUATION, "evaluation on internal data", (facts.held_out,)),
        Item("33", EVALUATION, "evaluation on external data", gap="no file says whether held-out images are external"),
        Item("34", EVALUATION, "registration of a clinical trial, if it is one"),
        Item("35", RESULTS, "how many were included and excluded", (facts.numbers,)),
        Item("36", RESULTS, "who the patients of each partition are", (facts.characteristics,)),
        Item("37", PERFORMANCE, "results with their uncertainty", (facts.performance,)),
        Item("38", PERFORMANCE, "diagnostic accuracy", gap="or that the study is not about a diagnosis"),
        Item("39", PERFORMANCE, "analysis of failures", (facts.failures,)),
        Item("40", DISCUSSION, "limitations", (facts.limitations,)),
        Item("41", DISCUSSION, "what it means for practice"),
        Item("42", OTHER, "where the protocol and technical details are", (facts.protocol,)),
        Item("43", OTHER, "whether software, model and data can be had", (facts.code, facts.usable)),
        Item("44", OTHER, "funding and the role of funders"),
    ),
)
