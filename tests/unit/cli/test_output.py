"""What is printed: texts as they are, nothing that moves the cursor, and an end in one line whatever goes wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thresher import cli
from thresher.checks import printable
from thresher.cli import output

COMMAND = [sys.executable, "-c", "from thresher.cli import main; main()"]


@pytest.mark.parametrize(
    "text",
    [
        "Combien\u00a0? 10\u202f000 €",
        "\u3000一",
        "👩\u200d💻",
        "می\u200cخواهم",
        "so\u00adft",
        "e\u0301",
        "a\n\tb",
        "\u200fא",
    ],
)
def test_what_belongs_to_texts_is_shown_as_it_is(text):
    assert printable(text) == text
    assert printable("a\r\nb") == "a\nb"


@pytest.mark.parametrize("char", ["\x1b", "\x00", "\x07", "\x7f", "\x9b", "\r", "\u202e", "\u202a", "\u2066", "\ud800"])
def test_what_could_control_a_terminal_is_replaced(char):
    assert printable(f"a{char}[31mb") == "a\ufffd[31mb"


@pytest.mark.parametrize("text", ["漢字" * 300, "a" * 900, "some words " * 90, "e\u0301" * 400, "👩\u200d💻" * 200])
def test_long_text_is_cut_between_words_or_letters(text):
    made = output.shortened(text, 400)
    assert 200 < len(made) <= 400
    assert made.endswith(" …")
    kept = made.removesuffix(" …")
    assert text.startswith(kept)
    assert text[len(kept)] not in "\u0301\u200d"
    assert kept[-1] != "\u200d"


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_json_can_be_read_in_every_encoding_and_controls_nothing(tmp_path, encoding):
    document = {"text": "→ 漢 é \x1b \x7f \x9b \u202e \u200f \u2028 \ud800 👩"}
    script = "import sys, json; from thresher.cli import output; output.emit_json(json.loads(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", script, json.dumps(document)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
    )
    text = ran.stdout.decode(encoding)
    assert json.loads(text) == document
    assert not set(text) & set("\x1b\x7f\x9b\u202e\u200f\u2028")


def test_a_table_is_printed_where_its_characters_cannot_be(tmp_path):
    (tmp_path / "rows.csv").write_text("plan,calls,nDCG@10\n漢\x1b[31m,1,.5\n", encoding="utf-8")
    ran = subprocess.run(
        [*COMMAND, "curves", "rows.csv", "--cost", "calls", "--name", "plan"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert b"\\u6f22" in ran.stdout
    assert b"\x1b" not in ran.stdout


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run `thresher curves`, in which `error` is raised; gives exit code and standard error."""

    def run(error, *arguments):
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr("thresher.cli.curves.points_of", fail)
        monkeypatch.setattr(sys, "argv", ["thresher", "curves", "rows.csv", "--cost", "calls", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (MemoryError(), 1, "error: there is not enough memory for this\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_what_goes_wrong_is_one_line(ended, error, code, said):
    assert ended(error) == (code, said)


def test_an_error_nobody_thought_of_says_where_to_report_it(ended):
    code, said = ended(RuntimeError("a\x1b[31m\nb"))
    assert code == 1
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert cli.ISSUES in said


@pytest.mark.parametrize(
    ("redirections", "code"),
    [(">&-", 0), (">/dev/full", 1)],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_may_be_closed_full_or_cut_off(tmp_path, redirections, code):
    (tmp_path / "rows.csv").write_text("plan,calls,nDCG@10\n" + "".join(f"{i},{i},{i}\n" for i in range(3)))
    line = f"{sys.executable} -c 'from thresher.cli import main; main()' curves rows.csv --cost calls {redirections}"
    ran = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    assert ran.stderr.count("\n") == code


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("search index --queries {} --run {}", "link"),
        ("rerank {} -o {} --replay x", "file"),
        ("rerank r -o {} --queries {} --replay x", "link"),
    ],
)
def test_a_command_does_not_write_over_a_file_that_it_reads(tmp_path, command, out):
    for name in ("index", "r", "x"):
        (tmp_path / name).write_text("")
    (tmp_path / "file").write_text("1\tmine\n")
    (tmp_path / "link").symlink_to("file")
    told = subprocess.run(
        [*COMMAND, *command.format("file", out).split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (told.returncode, (tmp_path / "file").read_text()) == (2, "1\tmine\n")
    assert "is read by this" in told.stderr


def test_numbers_of_a_table_are_never_folded_or_cut(capsys):
    names = [f"run{at}" for at in range(14)]
    output.table(["qid", *names], [["q1", *[-0.1234] * 14]], numeric=names)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["qid", *names]
    assert row.split() == ["q1", *["-0.1234"] * 14]


def test_words_of_a_table_are_folded_where_the_numbers_leave_room(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    output.table(["system", "diff"], [["a pipeline with a long name and a setting", 0.5]], numeric=["diff"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 40
    assert lines[1].endswith("0.5000")
