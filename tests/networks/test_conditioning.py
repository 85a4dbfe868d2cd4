"""Columns of a clinical table as tokens."""

import math
from pathlib import Path

import torch

from medloom.core.table_column import TableColumn
from medloom.networks.conditioning import ConditionConfig, ConditionEncoder, TableEncoder

COLUMNS = (TableColumn("age", mean=60.0, std=10.0), TableColumn("ward", ("north", "south")))


def test_a_number_bends_at_the_knots_only() -> None:
    encoder = TableEncoder(COLUMNS, 8)
    ages = torch.tensor([-3.0, -2.0, -1.0, 2.0, 3.0, 4.0])
    tokens = encoder(torch.stack([ages, torch.zeros(6)], dim=1))[:, 0]
    torch.testing.assert_close(tokens[1] - tokens[0], tokens[2] - tokens[1])
    torch.testing.assert_close(tokens[4] - tokens[3], tokens[5] - tokens[4])
    assert not torch.allclose(tokens[1] - tokens[0], tokens[4] - tokens[3])


def test_a_missing_cell_has_an_embedding_of_its_own_and_is_not_zero() -> None:
    encoder = TableEncoder(COLUMNS, 8)
    cells = torch.tensor([[math.nan, math.nan], [0.0, 0.0], [math.nan, 1.0]])
    tokens = encoder(cells)
    assert not tokens.isnan().any()
    torch.testing.assert_close(tokens[0, 0], encoder.values[0].weight[0])
    torch.testing.assert_close(tokens[0, 0], tokens[2, 0])
    torch.testing.assert_close(tokens[0, 1], encoder.values[1].weight[0])
    assert not torch.allclose(tokens[0], tokens[1])
    torch.testing.assert_close(tokens[2, 1], encoder.values[1].weight[2])


def test_columns_come_back_from_disk_and_an_extended_encoder_keeps_them(tmp_path: Path) -> None:
    encoder = ConditionEncoder(ConditionConfig(4, 8, ("CT",), columns=COLUMNS))
    encoder.save_pretrained(tmp_path)
    known = ConditionEncoder.from_pretrained(tmp_path)
    assert known.config == encoder.config
    cells = known.cells([{"age": 70, "ward": "south"}, {"age": None}])
    assert cells[0].tolist() == [1.0, 1.0] and cells[1].isnan().all()
    text = (torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4))
    place = torch.ones(2, dtype=torch.long)
    before, mask, pooled = encoder(*text, place, place * 0, cells)
    assert before.shape == (2, 2 + 2 + 3, 8) and mask.shape == (2, 7)
    assert not torch.allclose(pooled[0], pooled[1])
    after = known.extended(["CT", "MR"], [])(*text, place, place * 0, cells)[0]
    torch.testing.assert_close(before, after)


def test_a_new_column_starts_without_effect_and_then_has_one() -> None:
    text = (torch.ones(1, 3, 4), torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 4))
    place = torch.ones(1, dtype=torch.long)
    for columns in ((), COLUMNS):
        known = ConditionEncoder(ConditionConfig(4, 8, ("CT",), columns=columns))
        grown = known.extended(["CT"], [], [TableColumn("days", mean=30.0, std=10.0)])
        assert [column.name for column in grown.config.columns] == [*(column.name for column in columns), "days"]
        cells = {"age": 70, "ward": "south"}
        old = known.cells([cells]) if columns else None
        before, _, pooled = known(*text, place, place * 0, old)
        after, _, same = grown(*text, place, place * 0, grown.cells([{**cells, "days": 90}]))
        torch.testing.assert_close(pooled, same)
        new = 2 + len(columns)
        torch.testing.assert_close(before, torch.cat([after[:, :new], after[:, new + 1 :]], dim=1))
        assert not after[:, new].any()
        # Its weights have a gradient, so that training gives it an effect.
        same.square().sum().backward()
        assert grown.table is not None and grown.table.numbers[-1].weight.grad.abs().max() > 0
