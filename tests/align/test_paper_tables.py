"""The paper's tables: whole, and in percent."""

from aai.align.evaluate import SUBSETS
from aai.align.paper_tables import AUDIO_TEXT, RETRIEVAL, ZERO_SHOT


def test_every_row_of_table_1_has_three_recalls_on_each_subset():
    for name, row in RETRIEVAL.items():
        assert row.keys() == SUBSETS.keys(), name
        for recalls in row.values():
            assert len(recalls) == 3 and list(recalls) == sorted(recalls) and 0 < recalls[-1] <= 100


def test_tables_2_and_3_are_in_percent():
    assert all(row.keys() == {"ESC-50", "UrbanSound8K"} for row in ZERO_SHOT.values())
    values = [*AUDIO_TEXT.values(), *(value for row in ZERO_SHOT.values() for value in row.values())]
    assert all(1 < value < 100 for value in values)
    assert max(AUDIO_TEXT, key=AUDIO_TEXT.get) == "CAVT-MAE"
