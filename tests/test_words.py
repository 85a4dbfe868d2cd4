"""The project's words: phrases that the glossary of CONTRIBUTING.md replaces are nowhere in code, help, documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "medloom"
# Phrase -> what to write. Identifiers are split at underscores and capitals: `told_width` and `ToldRow` hold "told".
PHRASES = {
    "told": "conditioned on, given, visible",
    "untold": "not given",
    "maker": "builder, factory",
    "by heart": "memorise",
    "go on": "continue, resume",
    "goes on": "continues, resumes",
    "going on": "continuing",
    "gone on": "continued",
    "went on": "continued",
    "in place of": "instead of",
    "read beside": "compare with",
    "earlier image": "prior image",
    "earlier images": "prior images",
    "tokeniser": "tokenizer",
    "tokenisers": "tokenizers",
}
# In documents also inverted clauses.
CLAUSES = {
    "by which": "so that, and",
    "of which": "a sentence of its own",
    "from which": "a sentence of its own",
    "beside": "compared with, next to",
    "figures": "metrics, values",
}
# Words that are data: they seed random numbers or name caches, so that another word gives other images.
FROZEN = {
    "medloom/generators/autoencoder/build.py": 'initial_weights(seed, "tokeniser")',
    "medloom/generators/tokens/cached_tokens.py": '"tokeniser": weights_hash(tokenizer)',
}
# A table of words that are not to be used.
QUOTED = ("| not |",)
SUFFIXES = (".py", ".yaml", ".html")
FOLDERS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__"))
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def words_of(text: str) -> str:
    """The text in lower case, identifiers split into words, line ends as blanks."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ")
    return re.sub(r"[\s#]+", " ", text).lower()


def found(text: str, phrases: dict[str, str]) -> list[str]:
    words = words_of(text)
    return [phrase for phrase in phrases if re.search(rf"(?<![a-z]){phrase}(?![a-z])", words)]


def text_of(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    if name in FROZEN:
        assert FROZEN[name] in text
        text = text.replace(FROZEN[name], "")
    for quoted in QUOTED:
        text = text.replace(quoted, "")
    return text


@pytest.mark.parametrize("folder", ["", *FOLDERS, "../benchmarks"])
def test_code_uses_the_words_of_the_glossary(folder: str) -> None:
    inside = (PACKAGE / folder).resolve().rglob("*") if folder else PACKAGE.glob("*")
    hits = {}
    for path in sorted(inside):
        if path.suffix in SUFFIXES and (phrases := found(text_of(path), PHRASES)):
            hits[path.relative_to(ROOT).as_posix()] = {phrase: PHRASES[phrase] for phrase in phrases}
    assert not hits


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_use_the_words_of_the_glossary(path: Path) -> None:
    assert not found(text_of(path), PHRASES | CLAUSES)


def test_phrases_are_found_in_identifiers_and_over_line_ends() -> None:
    assert found("def told_width(self)", PHRASES) == ["told"]
    assert found("class ImageMaker:", PHRASES) == ["maker"]
    assert found("# the run goes\n    # on from there", PHRASES) == ["goes on"]
    assert not found("bold, category on, scales go one by one", PHRASES)
