"""Tables as people have them: separators, line ends, blank rows, formulas, codes; what is written is read again."""

import json
import random
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from PIL import Image

from medloom.core.cells import are_codes, printable, spelled
from medloom.core.errors import UserError
from medloom.core.types import Sample
from medloom.data.manifest import inspect_manifest, read_manifest
from medloom.data.prompts.column import Column
from medloom.data.prompts.reading import read_rows
from medloom.data.prompts.template import Template
from medloom.data.table_columns import measure_columns
from medloom.data.tables import Table, read_table, write_csv
from medloom.longitudinal.journeys import read_days


def text_table(folder: Path, text: str, name: str = "m.csv") -> Table:
    path = folder / name
    path.write_bytes(text.encode())
    return read_table(path)


# Separators and line ends


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["m.csv", "m.tsv"])
def test_the_header_says_the_separator(tmp_path: Path, mark: str, name: str) -> None:
    table = text_table(tmp_path, f'path{mark}"a, or; b"\n1{mark}"x{mark}y"\n', name)
    assert table.header == ["path", "a, or; b"] and table.rows == [["1", f"x{mark}y"]]
    usual = {"m.csv": ",", "m.tsv": "\t"}[name]
    assert bool(table.notes) == (mark != usual)


def test_decimal_commas_of_a_table_with_semicolons(tmp_path: Path) -> None:
    table = text_table(tmp_path, "age;note;both\n65,5;1,5 mg;1,5\n66;2,5 mg;\n")
    assert table.rows == [["65.5", "1,5 mg", "1.5"], ["66", "2,5 mg", ""]]
    assert text_table(tmp_path, 'age,n\n"65,5",1\n').rows == [["65,5", "1"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end(tmp_path: Path, end: str) -> None:
    table = text_table(tmp_path, end.join(["path,Text", '1,"two', 'lines"', "2,x", ""]))
    assert table.rows == [["1", "two\nlines"], ["2", "x"]] and table.lines == [2, 4]


def test_blank_rows_and_nameless_columns_are_left_out(tmp_path: Path) -> None:
    assert text_table(tmp_path, "path,Text,,\n,,,\n1,a,,\n\n2,b,,\n").rows == [["1", "a"], ["2", "b"]]
    assert text_table(tmp_path, ",path\n0,1\n").header == ["", "path"]
    with pytest.raises(UserError, match="column '' stands twice"):
        text_table(tmp_path, ",path,\n0,1,2\n")


@pytest.mark.parametrize("header", ["path,Text,TEXT", "Age,path,age"])
def test_columns_of_one_name_up_to_case_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(UserError, match="have one name but for capital letters"):
        text_table(tmp_path, f"{header}\n1,2,3\n")


# Spreadsheets


def sheet_of(path: Path, rows: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def table_of(path: Path, frame: pd.DataFrame) -> Path:
    """A frame in the form that the path's ending names."""
    if path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        sheet_of(path, [list(frame.columns), *frame.values.tolist()])
    return path


def test_cells_of_a_sheet_are_as_they_are_stored(tmp_path: Path) -> None:
    rows = [["id", "n", "t"], ["007", 7.0, "a_x000D_\nb"], [None, None, None], ["1E5", 0.5, " x "]]
    table = read_table(sheet_of(tmp_path / "m.xlsx", rows))
    assert table.rows == [["007", 7, "a\nb"], ["1E5", 0.5, "x"]] and table.lines == [2, 4]
    assert isinstance(table.rows[0][1], int)


def test_a_sheet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column 'patient_id' stands twice"):
        read_table(sheet_of(tmp_path / "m.xlsx", [["patient_id", "path", "patient_id"], ["a", "b", "c"]]))


def test_formulas_without_values_and_errors_name_their_cell(tmp_path: Path) -> None:
    rows = [["path", "Text"], ['=CONCATENATE("a", ".png")', "x"], ["0.png", "y"]]
    table = read_table(sheet_of(tmp_path / "m.xlsx", rows))
    assert len(table.rows) == 1
    assert (table.problems[0].line, table.problems[0].reason[:22]) == (2, "column 'path': a formu")
    book = openpyxl.Workbook()
    for row in [["path", "age"], ["#REF!", 1], ["a", "#N/A"]]:
        book.active.append(row)
    for cell in (book.active["A2"], book.active["B3"]):
        cell.data_type = "e"
    book.save(tmp_path / "e.xlsx")
    table = read_table(tmp_path / "e.xlsx")
    assert "the error #REF! of a formula" in table.problems[0].reason and table.rows == [["a", None]]


# Parquet


def test_parquet_has_whole_numbers_with_gaps_lists_and_no_index(tmp_path: Path) -> None:
    whole = pd.array([40, None, 7], dtype="Int64")
    frame = pd.DataFrame(
        {"age": whole, "labels": [["a", "b"], [], ["c"]], "x": [0.5, float("nan"), 1.0]}, index=[5, 3, 9]
    )
    frame.to_parquet(tmp_path / "m.parquet")
    table = read_table(tmp_path / "m.parquet")
    assert table.header == ["age", "labels", "x"]
    assert table.rows == [[40, ["a", "b"], 0.5], [None, [], None], [7, ["c"], 1.0]]


# JSONL


def test_an_object_with_a_name_twice_is_a_problem(tmp_path: Path) -> None:
    table = text_table(tmp_path, '{"a": 1, "a": 2}\n{"a": 3, "a ": 4}\n{"a": 5}\n', "m.jsonl")
    assert table.rows == [[5]] and [problem.line for problem in table.problems] == [1, 2]


@pytest.mark.parametrize(("text", "fault"), [("a\0b", "NUL"), ("half \ud83d", "half a character")])
def test_texts_that_no_table_can_hold(tmp_path: Path, text: str, fault: str) -> None:
    table = text_table(tmp_path, "".join(json.dumps({"t": cell}) + "\n" for cell in ("fine", text)), "m.jsonl")
    assert table.rows == [["fine"]] and table.problems[0].line == 2 and fault in table.problems[0].reason
    with pytest.raises(UserError, match=f"line 3: .*{fault}"):
        write_csv(tmp_path / "out.csv", ["t"], [["fine"], [text]])
    assert not (tmp_path / "out.csv").exists()


# Round trips

PIECES = (
    "\r",
    "\n",
    "\r\n",
    '"',
    ",",
    ";",
    "\t",
    "|",
    " ",
    "[b]",
    "a",
    "é",
    "e\u0301",
    "𝔸",
    "\u2028",
    "\x85",
    "\x0b",
    "'",
    "=1+1",
    "\\",
)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_is_read_again_and_again(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    texts = ["x" + "".join(chance.choices(PIECES, k=chance.randint(0, 12))) for _ in range(12)]
    header = ["path", "text; or not", "c"]
    write_csv(tmp_path / "1.csv", header, [[str(n), text, None] for n, text in enumerate(texts)])
    first = read_table(tmp_path / "1.csv")
    assert first.header == header and len(first.rows) == len(texts) and not first.problems
    assert [row[1] for row in first.rows] == [text.replace("\r\n", "\n").replace("\r", "\n").strip() for text in texts]
    write_csv(tmp_path / "2.csv", first.header, first.rows)
    assert (tmp_path / "2.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()
    assert read_table(tmp_path / "2.csv").rows == first.rows


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_text_of_every_form_is_read_from_what_is_written(tmp_path: Path, form: str) -> None:
    text = 'FINDINGS:\rHeart "normal", [sic]\r\nno change'
    frame = pd.DataFrame({"path": ["0.png"], "Text": [text], "patient_id": ["7"]})
    Image.new("L", (4, 4)).save(tmp_path / "0.png")
    path = tmp_path / f"m.{form}"
    if form == "csv":
        path.write_bytes('path,Text,patient_id\n0.png,"{}",7\n'.format(text.replace('"', '""')).encode())
    else:
        table_of(path, frame)
    read_manifest(path).write(tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv").frame["text"][0] == 'FINDINGS:\nHeart "normal", [sic]\nno change'


def test_whole_numbers_stay_whole_in_written_tables(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    (tmp_path / "m.csv").write_text("path,Text,patient_id,age\n0.png,a,1,40\n1.png,b,2,\n")
    read_manifest(tmp_path / "m.csv").write(tmp_path / "n.csv")
    assert "40," in (tmp_path / "n.csv").read_text() and "40.0" not in (tmp_path / "n.csv").read_text()


# Words that look like numbers


@pytest.mark.parametrize(
    ("cells", "codes"),
    [
        (["007", "7"], True),
        (["1E5", "3"], True),
        (["4.10", "4.1"], True),
        (["250.00", "250.0", "1"], True),
        (["7", "7.0", "8.5"], False),
        (["1e-05", "2.5", "-1.5e+03"], False),
        (["0", "0.5", "10"], False),
        (["4.10", "4.25", "5.00"], False),
        (["word", "3"], False),
    ],
)
def test_which_texts_are_codes(cells: list[str], codes: bool) -> None:
    assert are_codes(cells) == codes


def test_codes_stay_different_in_a_manifest_in_prompts_and_as_categories(tmp_path: Path) -> None:
    codes = ["007", "7", "1E5", "100000", "4.10", "4.1"]
    # Each of two patients, as categories are.
    rows = "".join(f"{number}.png,t,{number},{code},{number % 6}\n" for number, code in enumerate(codes * 2))
    for number in range(2 * len(codes)):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    (tmp_path / "m.csv").write_text(f"path,Text,patient_id,code,age\n{rows}")
    manifest = read_manifest(tmp_path / "m.csv")
    assert manifest.frame["code"].tolist() == codes * 2 and manifest.frame["age"].sum() == 30
    samples: list[Sample] = manifest.samples()
    (column,) = measure_columns(["code"], samples, None, "m.csv")
    assert sorted(column.categories) == sorted(codes)
    template = Template({"code": Column("code", say="code {value}")})
    read, problems = read_rows(read_table(tmp_path / "m.csv"), template, "m.csv")
    assert not problems and [template.render(row) for row in read.values()] == [f"code {code}" for code in codes * 2]
    changed, _ = template.changed(read[2], {"code": "4.10"})
    assert template.render(changed) == "code 4.10"


def test_numbers_of_a_template_may_be_padded() -> None:
    assert Column("dose", unit="mg").read("007") == 7.0


@pytest.mark.parametrize("word", ["none", "None", "NONE"])
def test_the_word_none_is_one_value_in_any_case(tmp_path: Path, word: str) -> None:
    (tmp_path / "m.csv").write_text(
        f"path,Text,patient_id,smoking\n0.png,a,1,{word}\n1.png,b,2,current\n2.png,c,3,N/A\n"
    )
    frame = inspect_manifest(tmp_path / "m.csv", need=()).frame
    assert frame["smoking"].tolist() == ["none", "current", None]
    assert Column("smoking", values={"none": "never", "current": "now"}).read(word) == "none"


@pytest.mark.parametrize(("cell", "text"), [("7.0", "7"), ("007", "007"), ("4.10", "4.10"), (7.0, "7"), (".0", ".0")])
def test_how_a_cell_is_spelled(cell: object, text: str) -> None:
    assert spelled(cell) == text


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert printable("a\x1b[31mb\nc\x07") == "a\N{REPLACEMENT CHARACTER}[31mb c\N{REPLACEMENT CHARACTER}"


# Times


def test_years_alone_are_no_days() -> None:
    days, problems = read_days(["2019", "2020.0", "", "2021"], [2, 3, 4, 5])
    assert days == [None] * 4 and [problem.line for problem in problems] == [2, 3, 4, 5]
    assert "is a year, and no day" in problems[0].reason
    assert read_days(["0", "30", "2021"], [2, 3, 4])[0] == [0.0, 30.0, 2021.0]


# Tables that say something else than they seem to


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b", "\x0c"])
@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_other_line_ends_belong_to_the_text(tmp_path: Path, mark: str, end: str) -> None:
    assert text_table(tmp_path, end.join(["path,id,Text", f"0.png,1,one{mark}two", ""])).rows == [
        ["0.png", "1", f"one{mark}two"]
    ]
    line = json.dumps({"t": f"a{mark}b"}, ensure_ascii=False)
    assert text_table(tmp_path, f"{line}{end}{line}{end}", "m.jsonl").rows == [[f"a{mark}b"]] * 2


def test_identifiers_lists_and_thousands_keep_their_commas(tmp_path: Path) -> None:
    table = text_table(tmp_path, "path;patient_id;ldh;dose\na.png;1,1;0,5;1.234\nb.png;1.1;2;0,5\n")
    assert [row[1:] for row in table.rows] == [["1,1", "0.5", "1.234"], ["1.1", "2", "0,5"]]


def test_a_known_column_says_the_separator_and_so_does_excel(tmp_path: Path) -> None:
    table = text_table(tmp_path, "path,risk (low;mid;high;x;y),Text\n0.png,3,a\n")
    assert table.header == ["path", "risk (low;mid;high;x;y)", "Text"]
    assert text_table(tmp_path, "sep=;\npath;Text\n0.png;a, b\n").rows == [["0.png", "a, b"]]


def test_a_name_with_half_a_character_is_a_problem(tmp_path: Path) -> None:
    table = text_table(tmp_path, '{"a\\ud83d": 1}\n{"a": 2}\n', "m.jsonl")
    assert table.rows == [[2]] and "half a character" in table.problems[0].reason


def test_columns_called_line_get_names_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    (tmp_path / "m.csv").write_text("path,Text,patient_id,line,line_\n0.png,a,1,x,y\n1.png,b,2,z,w\n")
    manifest = read_manifest(tmp_path / "m.csv")
    assert manifest.frame["line"].tolist() == [2, 3] and len(manifest.clinical_columns) == 2


@pytest.mark.parametrize("cells", [["70", "65.50", "80.25"], ["0.10", "0.2"], ["12.00", "11.5", "13"], ["1e5", "2e3"]])
def test_numbers_as_people_type_them_are_numbers(cells: list[str]) -> None:
    assert not are_codes(cells)


def test_identifiers_beyond_double_precision(tmp_path: Path) -> None:
    first = 90071992547409920
    ids = pd.array([*range(first, first + 3), None], dtype="Int64")
    pd.DataFrame({"patient_id": ids}).to_parquet(tmp_path / "m.parquet")
    assert [row[0] for row in read_table(tmp_path / "m.parquet").rows] == [first, first + 1, first + 2]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "xlsx"])
def test_yes_and_no_are_words_and_modalities_what_can_be_seen(tmp_path: Path, form: str) -> None:
    for number in range(2):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    cells = {"path": ["0.png", "1.png"], "Text": ["a", "b"], "patient_id": ["1", "2"], "modality": ["CT", "CT\u200b"]}
    frame = pd.DataFrame({**cells, "icu": [True, False]})
    path = tmp_path / f"m.{form}"
    if form == "csv":
        frame.assign(icu=["true", "false"]).to_csv(path, index=False)
    else:
        table_of(path, frame)
    manifest = read_manifest(path)
    assert manifest.modalities == ["CT"] and manifest.frame["icu"].tolist() == ["true", "false"]
    manifest.write(tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv").frame["icu"].tolist() == ["true", "false"]
