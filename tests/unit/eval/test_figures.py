"""Pages quote the result files: markers are filled, figures that no row has are refused."""

import json

import pytest

from eval import figures
from eval.figures import Column, Listing, Pivot, figure, markdown, rendered
from thresher.errors import InputError

ROWS = [
    {"collection": "a", "stages": ["x", "y"], "nDCG@10": 0.12345, "ms": 1234.5, "lo": None},
    {"collection": "b", "stages": ["x"], "nDCG@10": 0.5, "ms": 2.0, "lo": 0.25},
    {"collection": "b c", "stages": ["x"], "nDCG@10": 0.75, "ms": 2.0},
]


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """One result file, `small`."""
    (tmp_path / "small.json").write_text(json.dumps({"made": {}, "rows": ROWS}))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    figures.rows_of.cache_clear()
    yield
    figures.rows_of.cache_clear()


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("small collection=a nDCG@10:.3f", "0.123"),
        ("small stages=x,y ms:,.0f", "1,234"),
        ("small collection='b c' nDCG@10:.2f", "0.75"),
        ("small collection=b '{nDCG@10:.1f} at {ms:.0f} ms'", "0.5 at 2 ms"),
        ("small nDCG@10=0.5 collection", "b"),
        ("small collection=a lo:.3f", ""),
        ("small stages=x ms:.1f", "2.0"),  # two rows that show the same
    ],
)
def test_a_reference_shows_the_value_of_its_row(reference, text):
    assert figure(reference) == text


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("small collection=z nDCG@10:.3f", "no row"),
        ("small stages=x nDCG@10:.3f", "2 different rows"),
        ("small", "not a reference"),
        ("small collection nDCG@10", "not a reference"),
    ],
)
def test_a_reference_that_names_no_single_figure_is_refused(reference, says):
    with pytest.raises(InputError, match=says):
        figure(reference)


def test_a_page_is_filled_between_its_markers_and_nowhere_else():
    page = (
        "# x\n\n<!-- table: t -->\n| old |\n<!-- /table -->\n\n"
        "loses <!-- figure: small collection=a nDCG@10:.2f -->?<!-- /figure --> points\n"
    )
    table = Pivot("small", [Column("nDCG", "{nDCG@10:.2f}")], [("A", {"collection": "a"}), ("Z", {"collection": "z"})])
    new = rendered(page, {"t": table})
    assert "| | nDCG |\n|---|--:|\n| A | 0.12 |\n| Z | |\n<!-- /table -->" in new
    assert "loses <!-- figure: small collection=a nDCG@10:.2f -->0.12<!-- /figure --> points" in new
    assert rendered(new, {"t": table}) == new
    with pytest.raises(InputError, match="no table 't'; known are: other"):
        rendered(page, {"other": table})


def test_a_listing_has_a_line_for_each_row_that_meets_its_conditions():
    listed = Listing("small", (("c", "{collection}"), ("ms", "{ms:.0f}")), {"stages": ("x",)})
    assert listed().splitlines()[2:] == ["| b | 2 |", "| b c | 2 |"]


def test_bars_in_cells_are_escaped():
    assert markdown(["a|b", "n"], [["c", "1"]]).splitlines()[0] == "| a\\|b | n |"
