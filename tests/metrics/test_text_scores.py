import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.text import bleu, cider, rouge_l

CANDIDATES = [
    "there is a small left pleural effusion .",
    "heart size is normal and the lungs are clear .",
    "no pneumothorax",
    "stable large cardiomegaly with mild edema in both lungs",
]
REFERENCES = [
    ["a small left pleural effusion is present .", "small effusion on the left ."],
    ["the heart is normal in size . the lungs are clear ."],
    ["no pneumothorax or pleural effusion is seen ."],
    ["large cardiomegaly is stable . mild edema in both lungs ."],
]


def test_by_hand():
    # 5 of 6 words, 4 of 5 pairs; as long as its reference.
    candidate, reference = "the cat sat on the mat", "the cat sat on a mat"
    assert bleu([candidate], [[reference]], order=1) == pytest.approx(5 / 6)
    assert bleu([candidate], [[reference]], order=2) == pytest.approx(np.sqrt(5 / 6 * 3 / 5))
    # The classic: "the" counts twice at most. And half as long: exp(1 - 2).
    assert bleu(["the the the the"], [["the cat and the dog"]], order=1) == pytest.approx(0.5 * np.exp(1 - 5 / 4))
    assert bleu(["the cat"], [["the cat sat here"]], order=1) == pytest.approx(np.exp(-1))
    # Longest common subsequence "police the gunman" of 4 words each, recall = precision.
    assert rouge_l(["police kill the gunman"], [["police killed the gunman"]])[0] == pytest.approx(0.75)
    assert rouge_l(["the gunman kill police"], [["police killed the gunman"]])[0] == pytest.approx(0.5)


def test_equal_and_disjoint_texts():
    equal = [[text] for text in CANDIDATES]
    assert bleu(CANDIDATES, equal) == pytest.approx(1)
    assert rouge_l(CANDIDATES, equal) == pytest.approx(np.ones(4))
    # Texts of four words or more; in a text of two words there is no triple to weigh.
    assert cider(CANDIDATES, equal)[[0, 1, 3]] == pytest.approx(10 * np.ones(3))
    assert cider(CANDIDATES, equal)[2] == pytest.approx(5)
    other = [["xyz"]] * 4
    assert bleu(CANDIDATES, other) == 0 and not rouge_l(CANDIDATES, other).any() and not cider(CANDIDATES, other).any()


def test_bleu_agrees_with_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    second = [texts[-1] for texts in REFERENCES]
    peer = sacrebleu.corpus_bleu(
        CANDIDATES, [[texts[0] for texts in REFERENCES], second], tokenize="none", smooth_method="none"
    )
    assert bleu(CANDIDATES, REFERENCES) == pytest.approx(peer.score / 100, rel=1e-6)
    from torchmetrics.functional.text import bleu_score

    assert bleu(CANDIDATES, REFERENCES) == pytest.approx(bleu_score(CANDIDATES, REFERENCES).item(), rel=1e-5)


def test_rouge_agrees_with_rouge_score():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    words = [text.replace(" .", "") for text in CANDIDATES]
    references = [[text.replace(" .", "") for text in texts] for texts in REFERENCES]
    peer = [
        max(scorer.score(text, candidate)["rougeL"].fmeasure for text in texts)
        for candidate, texts in zip(words, references, strict=True)
    ]
    assert rouge_l(words, references, beta=1) == pytest.approx(peer, rel=1e-9)


def test_cider_by_its_definition():
    # Two documents that share "the": of it alone idf is 0. Unigrams only differ in "cat"; no longer gram is shared.
    scores = cider(["the cat"], [["the cat"]])
    assert scores.tolist() == [0]  # a corpus of one document carries no information
    first = cider(["the cat", "a dog"], [["the cat"], ["the dog"]])
    # Row 0: unigram and pair agree wholly, triples do not exist.
    assert first[0] == pytest.approx(5)
    # Row 1: of its words the references have "dog" only, which is all that weighs in "the dog", as both have "the".
    # "a" is in no reference and weighs log 2, "dog" log 2: cosine 1 / sqrt 2; no pair is in common.
    assert first[1] == pytest.approx(10 / 4 / np.sqrt(2))


# Of pycocoevalcap 1.2, Cider(), Bleu(4) and Rouge() on these texts as they are, without its tokenizer.
PEER_TEXTS = [
    ("there is a small left pleural effusion .", REFERENCES[0]),
    (
        "heart size is normal and the lungs are clear .",
        [*REFERENCES[1], "heart size is normal . lungs are clear .", "normal chest ."],
    ),
    ("no pneumothorax", [*REFERENCES[2], "no pneumothorax"]),
    ("stable large cardiomegaly with mild edema in both lungs", REFERENCES[3]),
    (
        "the the the nodule in the left lung nodule",
        ["a nodule in the left upper lung .", "left lung nodule , unchanged .", "nodule of the left lung"],
    ),
    ("no change", ["fracture of the right clavicle .", "clavicle fracture ."]),
]
PEER_CIDER = (3.4117178002691837, 3.7148878883206633, 3.305357718811387, 5.09214046522143, 2.4748925941634954, 0.0)
PEER_BLEU = (0.7558651817841647, 0.690661696492058, 0.6293161386522139, 0.5335277312640345)
PEER_ROUGE = (0.75, 0.8501742160278747, 1.0, 0.6876006441223833, 0.6777777777777778, 0.0)


def test_values_of_the_implementation_of_coco():
    candidates, references = [own for own, _ in PEER_TEXTS], [texts for _, texts in PEER_TEXTS]
    assert cider(candidates, references) == pytest.approx(PEER_CIDER, abs=1e-12)
    # Its BLEU adds 1e-9 to every number of n-grams.
    assert [bleu(candidates, references, n) for n in (1, 2, 3, 4)] == pytest.approx(PEER_BLEU, abs=1e-9)
    ours = rouge_l(candidates, references)
    same = [0, 1, 2, 3, 5]
    assert ours[same] == pytest.approx(np.array(PEER_ROUGE)[same], abs=1e-12)
    # Of row 4 it joins the precision of the first reference (5 of 9) with the recall of the third (4 of 5); ours is the
    # F of one reference, the third, as Lin 2004 has it.
    joined, best = (5 / 9, 4 / 5), (4 / 9, 4 / 5)
    f = [2.44 * precision * recall / (recall + 1.44 * precision) for precision, recall in (joined, best)]
    assert [PEER_ROUGE[4], ours[4]] == pytest.approx(f, abs=1e-12)


def test_mistakes():
    with pytest.raises(UserError, match="put it into a list"):
        bleu(["a"], ["a"])
    with pytest.raises(UserError, match="lists of references"):
        bleu(["a", "b"], [["a"]])
