"""The items of TRIPOD+AI (prediction models with regression or machine learning), in short words of our own."""

from medloom.evaluation.checklists import facts
from medloom.evaluation.checklists.guideline import Guideline, Item

TITLE, INTRODUCTION, METHODS = "title and abstract", "introduction", "methods"
SCIENCE, RESULTS, DISCUSSION = "open science", "results", "discussion"
BUILDING = (facts.architecture, facts.training, facts.selection)
NO_PREDICTION = "or that a generator of images predicts no outcome"

TRIPOD = Guideline(
    "TRIPOD+AI",
    "Collins et al., BMJ 2024, 385:e078378",
    (
        Item("1", TITLE, "that a model is developed or evaluated, for whom and for what", (facts.technique,)),
        Item("2", TITLE, "an abstract by TRIPOD+AI for Abstracts"),
        Item("3a", INTRODUCTION, "clinical context, reasons, and models that exist"),
        Item("3b", INTRODUCTION, "for whom it is meant, who uses it, and where in care"),
        Item("3c", INTRODUCTION, "known inequalities of health between groups"),
        Item("4", INTRODUCTION, "objectives, and whether it is development or evaluation"),
        Item("5a", METHODS, "sources of data, and how well they represent patients", (facts.virtual_source,)),
        Item("5b", METHODS, "dates of the data"),
        Item("6a", METHODS, "setting, number and places of centres"),
        Item("6b", METHODS, "who was eligible"),
        Item("6c", METHODS, "treatments, and how they were handled"),
        Item("7", METHODS, "preparation of the data", (facts.preprocessing, facts.subsets_of_images)),
        Item("8a", METHODS, "the outcome, with its time horizon", (facts.truth,), NO_PREDICTION),
        Item("8b", METHODS, "who assessed it, if that takes judgement", gap=NO_PREDICTION),
        Item("8c", METHODS, "whether assessors were blinded", gap=NO_PREDICTION),
        Item("9a", METHODS, "how predictors were chosen", (facts.conditions,)),
        Item("9b", METHODS, "predictors, and how and when they were measured"),
        Item("9c", METHODS, "who assessed predictors, if that takes judgement"),
        Item("10", METHODS, "the sample size and its reason", (facts.planned_size,), "give --plan next time"),
        Item("11", METHODS, "missing data", (facts.missing_values,)),
        Item("12a", METHODS, "how data were used and split", (facts.partitions, facts.level)),
        Item("12b", METHODS, "how predictors enter the model", (facts.conditions,)),
        Item("12c", METHODS, "kind, building and tuning of the model", BUILDING),
        Item("12d", METHODS, "differences between centres and other clusters"),
        Item("12e", METHODS, "measures and plots of performance", (facts.metrics_used, facts.uncertainty)),
        Item("12f", METHODS, "whether the model was updated after evaluation"),
        Item("12g", METHODS, "how outputs are computed in an evaluation", (facts.output,)),
        Item("13", METHODS, "class imbalance", (facts.classes,)),
        Item("14", METHODS, "fairness", (facts.fairness,), "give --by with columns of the groups"),
        Item("15", METHODS, "what the model gives out, and thresholds", (facts.output,)),
        Item("16", METHODS, "differences between training and evaluation data", (facts.sets_compared,)),
        Item("17", METHODS, "ethical approval and consent"),
        Item("18a", SCIENCE, "funding and the role of funders"),
        Item("18b", SCIENCE, "conflicts of interest"),
        Item("18c", SCIENCE, "where the protocol is", (facts.protocol,)),
        Item("18d", SCIENCE, "registration, or that there is none"),
        Item("18e", SCIENCE, "whether data can be had"),
        Item("18f", SCIENCE, "whether code can be had", (facts.code,)),
        Item("19", SCIENCE, "involvement of patients and the public"),
        Item("20a", RESULTS, "flow and number of patients", (facts.numbers,)),
        Item("20b", RESULTS, "who they are", (facts.characteristics,)),
        Item("20c", RESULTS, "evaluation compared with development data", (facts.sets_compared,)),
        Item("21", RESULTS, "number of patients and events in each analysis", (facts.analysed,)),
        Item("22", RESULTS, "the whole model, so that others can use it", (facts.usable,)),
        Item("23a", RESULTS, "performance with intervals, also of groups", (facts.performance, facts.subgroups)),
        Item("23b", RESULTS, "how performance differs between clusters"),
        Item("24", RESULTS, "results of updating the model"),
        Item("25", DISCUSSION, "interpretation, with fairness"),
        Item("26", DISCUSSION, "limitations", (facts.limitations, facts.failures)),
        Item("27a", DISCUSSION, "what is done with inputs that are poor or missing"),
        Item("27b", DISCUSSION, "what users have to do and to know"),
        Item("27c", DISCUSSION, "next steps"),
    ),
)
