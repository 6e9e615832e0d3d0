"""Keys from the environment and from a file, and settings that refuse what is not safe."""

import hashlib

import pytest

from thresher.errors import ConfigError
from thresher.serve.keys import Caller, caller_of, key_of, keys_from_environment, keys_from_file
from thresher.serve.settings import ServeSettings


def test_a_key_is_found_by_its_text_alone():
    keys = (key_of("one", Caller("first")), key_of("two", Caller("second", admin=True)))
    assert caller_of(keys, "Bearer two") == Caller("second", admin=True)
    assert caller_of(keys, "bearer  one").name == "first"
    for wrong in ("", "Bearer", "Bearer ", "Bearer on", "Bearer onee", "Basic one", "one", "Bearer \xfc"):
        assert caller_of(keys, wrong) is None
    assert caller_of((), "Bearer whatever") == Caller()
    assert "zz-secret" not in repr(key_of("zz-secret", Caller("x")))


def test_a_variable_holds_one_key_or_several(monkeypatch):
    monkeypatch.setenv("SOME_KEYS", "abc, def\nghi")
    keys = keys_from_environment("SOME_KEYS")
    assert [caller_of(keys, f"Bearer {one}").name for one in ("abc", "def", "ghi")] == ["key-1", "key-2", "key-3"]
    assert caller_of(keys_from_environment("SOME_KEYS", admin=True), "Bearer def").admin
    for value in ("", " , "):
        monkeypatch.setenv("SOME_KEYS", value)
        with pytest.raises(ConfigError, match="SOME_KEYS holds no key"):
            keys_from_environment("SOME_KEYS")


def test_a_file_gives_keys_their_filters_indexes_and_rights(tmp_path):
    file, digest = tmp_path / "keys.toml", hashlib.sha256(b"s3cret").hexdigest()
    file.write_text(
        f'[[key]]\nname = "red"\nsha256 = "{digest}"\nwhere = "team = red"\nindexes = ["docs"]\n'
        '[[key]]\nname = "boss"\nkey = "other"\nadmin = true\n'
    )
    keys = keys_from_file(file)
    red = caller_of(keys, "Bearer s3cret")
    assert (red.name, str(red.where), red.indexes, red.restricted) == ("red", "team = red", ("docs",), True)
    assert caller_of(keys, "Bearer other").admin


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "give each key as a table"),
        ("[[key]", "not a TOML file"),
        ('[[key]]\nname = "a"', "either the key, or its sha256"),
        ('[[key]]\nname = "a"\nkey = "b"\nsha256 = "c"', "either the key, or its sha256"),
        ('[[key]]\nname = "a"\nsha256 = "c"', "64 hexadecimal digits"),
        ('[[key]]\nkey = "b"', "name, and key or sha256, must be text"),
        ('[[key]]\nname = "a"\nkey = "b"\nrights = 1', "and nothing else"),
        ('[[key]]\nname = "a"\nkey = "b c"', "holds a space"),
        ('[[key]]\nname = "a"\nkey = "b"\nadmin = 1', "must be true or false"),
        ('[[key]]\nname = "a"\nkey = "b"\nadmin = true\nwhere = "x = 1"', "takes no where"),
        ('[[key]]\nname = "a"\nkey = "b"\n[[key]]\nname = "c"\nkey = "b"', "two keys are the same"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused_with_its_place(tmp_path, text, said):
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        keys_from_file(file)
    assert str(file) in str(raised.value) or "holds a space" in said


def test_a_filter_of_a_key_that_is_wrong_is_refused(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text('[[key]]\nname = "a"\nkey = "b"\nwhere = "team ="')
    with pytest.raises(ConfigError) as raised:
        keys_from_file(file)
    assert str(raised.value).startswith(f"{file}: key 1 (a): where: expected a value")


def test_listening_beyond_this_machine_needs_a_key_or_the_word():
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.test", ""):  # noqa: S104
        with pytest.raises(ConfigError, match="beyond this machine"):
            ServeSettings(host=host)
        assert ServeSettings(host=host, without_key=True).host == host
        assert ServeSettings(host=host, keys=(key_of("k", Caller("k")),)).host == host
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert ServeSettings(host=host).host == host


def test_an_origin_that_no_browser_sends_is_refused():
    for wrong in ("app.test", "https://app.test/", "https://", ""):
        with pytest.raises(ConfigError, match="without a slash"):
            ServeSettings(cors=(wrong,))
    for right in ("*", "https://app.test", "http://localhost:3000", "chrome-extension://abc"):
        assert ServeSettings(cors=(right,)).cors == (right,)


@pytest.mark.parametrize("wrong", [{"port": -1}, {"port": 70_000}, {"queue": -1}, {"max_k": 0}, {"body_seconds": 0.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServeSettings(**wrong)
