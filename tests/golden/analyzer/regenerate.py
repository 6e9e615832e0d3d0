"""Make the golden files of the analyzers anew, with Lucene itself.

Needs a JDK and the jars lucene-core and lucene-analyzers-common (Debian: liblucene8-java, default-jdk-headless):

    python tests/golden/analyzer/regenerate.py /usr/share/java/lucene-core-8.7.0.jar \
        /usr/share/java/lucene-analyzers-common-8.7.0.jar

`words.json` and `english.json` hold texts written for this purpose; `stems.json` holds words of the standard library's
docstrings and constructed ones that reach every rule of the stemmer.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from thresher.corpus.installed import InstalledDocumentation

HERE = Path(__file__).parent
TEXTS = [
    "The quick brown foxes aren't jumping over John's lazy dogs; they've been sleeping.",
    "U.S.A. and e.g. version 3.11.4 costs $1,000.50 (or 12:30?) at http://www.example.org/a_b?c=d&e=f",
    "foo_bar __init__ __ _x x_ a:b a·b wi-fi C++ C# .NET user@example.org #tag 50% 3a a3 1.a a.1",
    "It’s the dog’s, the DOGS' and the ‘quoted’ “word”; l’été, l'avion, O'Neil's",
    "naïve café Straße ÀÉÎÕÜ œuvre ŁÓDŹ ñandú Ångström İstanbul ıspanak",
    "Σίσυφος ΣΑΣ Ελλάδα Привет мир Україна שלום עולם צה״ל מרחבא العربية ١٢٣ हिन्दी भाषा",
    "日本語のテキスト カタカナ ひらがな 中文字符 한국어 텍스트 ภาษาไทย ລາວ ខ្មែរ မြန်မာ",
    "😀 👍🏽 ❤️ 👨‍👩‍👧 🇩🇪🇫🇷 ™ © ® ★ ♥ → ∑ ² ½ №",
    "co\u00adoperate zero\u200bwidth e\u0301tude joiner\u200dhere no\u00a0break word\u2060joiner",
    "tabs\tand\nnew\r\nlines \u2028 separators — dashes – and … dots",
    "",
    " .,;:!? ",
    "x" * 300 + " " + "ab." * 120,
    "geology theology possibly incredibly possibilities trekking trekked hopping hissing fizzed us as ties dies sky",
    "relational conditional rational valency hesitancy digitizer conformably radically differently vileness analogies",
    "the of THE Of with a an And then there's theirs it its it's",
]


def lucene(kind: str, texts: list[str], classpath: str) -> list[list[str]]:
    """The terms Lucene makes of each text."""
    encoded = "".join(base64.b64encode(text.encode()).decode() + "\n" for text in texts)
    command = ["java", "-cp", classpath, "Terms", kind]
    out = subprocess.run(command, input=encoded.encode(), stdout=subprocess.PIPE, check=True).stdout.decode()
    return [line.split(" ") if line else [] for line in out.split("\n")[:-1]]


def stem_words() -> list[str]:
    """Distinct lower-case words: of docstrings, and stems with every ending that the stemmer knows."""
    found: set[str] = set()
    for passage in InstalledDocumentation(packages=()):
        found.update(re.findall(r"[a-z]{3,}", passage.text))
    docstring_words = sorted(found)[::6]
    endings = (
        "s es ies sses eed ed ing ated bled ized ational tional enci anci izer abli bli alli entli eli ousli ization "
        "ation ator alism fulness ousness aliti iviti biliti logi logy icate ative alize iciti ical ful ness al "
        "ance ence er ic able ible ant ement ment ent sion tion ou ism ate iti ous iveness ive ize e ll y ly bly"
    )
    stems = "rel trekk hopp fall fizz geo anthropo tri sky poss adopt contr cr enjo".split()
    return docstring_words + sorted({stem + ending for stem in stems for ending in endings.split()} - found)


def main() -> None:
    """Write the three files."""
    with tempfile.TemporaryDirectory() as folder:
        classpath = ":".join([*sys.argv[1:], folder])
        subprocess.run(["javac", "-cp", classpath, "-d", folder, str(HERE / "Terms.java")], check=True)
        for kind in ("words", "english"):
            terms = lucene(kind, TEXTS, classpath)
            rows = [{"text": text, "terms": row} for text, row in zip(TEXTS, terms, strict=True)]
            _write(f"{kind}.json", rows)
        words = stem_words()
        stemmed = lucene("english", words, classpath)
        _write("stems.json", {word: row[0] for word, row in zip(words, stemmed, strict=True) if len(row) == 1})


def _write(name: str, value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=0, sort_keys=isinstance(value, dict))
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
