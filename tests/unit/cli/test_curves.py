import json

import pytest
import typer
from typer.testing import CliRunner

from thresher.cli.curves import curves
from thresher.errors import InputError

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(curves)
ROWS = "plan,calls,quality,set\nfew,10,.5,a\nmany,100,.7,a\nbad,100,.6,a\nother,1,.9,b\nunmeasured,5,,a\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_front_and_the_cheapest_good_enough_are_found(file):
    common = (file, "--cost", "calls", "--effect", "quality", "--name", "plan", "--where", "set=a")
    found = json.loads(invoke(*common, "--at-least", 0.55, "--json").output)
    assert found == {
        "points": 3,
        "front": [{"name": "few", "cost": 10.0, "effect": 0.5}, {"name": "many", "cost": 100.0, "effect": 0.7}],
        "cheapest": "many",
    }
    shown = invoke(*common, "--at-least", 0.95).output
    assert "2 of 3 configurations" in shown
    assert "cheapest with quality >= 0.95: none" in shown


def test_rows_of_a_result_file_are_read_and_lists_are_joined(tmp_path):
    rows = [{"stages": ["bm25", "rank"], "ms": 5, "nDCG@10": 0.5}, {"stages": ["bm25"], "ms": 1, "nDCG@10": 0.4}]
    (tmp_path / "r.json").write_text(json.dumps({"made": {}, "rows": rows}))
    found = json.loads(invoke(tmp_path / "r.json", "--cost", "ms", "--name", "stages", "--json").output)
    assert [point["name"] for point in found["front"]] == ["bm25", "bm25 + rank"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--cost", "money"), "there is no column 'money'; there are: plan, calls, quality, set"),
        (("--cost", "plan", "--effect", "quality"), "row 1: 'plan' is 'few', not a number"),
        (("--cost", "calls", "--effect", "quality", "--where", "set=z"), "no row has both"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_that_names_it(file, arguments, says):
    error = invoke(file, *arguments, code=1).exception
    assert isinstance(error, InputError)
    assert says in str(error)


def test_the_points_are_drawn(file, tmp_path):
    pytest.importorskip("vl_convert", reason="the eval extra is not installed")
    pytest.importorskip("altair", reason="the eval extra is not installed")
    invoke(file, "--cost", "calls", "--effect", "quality", "--plot", tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
