"""Passages for the search page's tests and pictures: several sentences each, with metadata, in four scripts."""

from thresher import Passage


def passage(docno, title, text, topic, year, tags, **more):
    return Passage(docno, text, title, {"topic": topic, "year": year, "tags": tags, **more})


HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
PASSAGES = [
    passage(
        "threshing-1", "Threshing by hand",
        "Threshing loosens the edible part of grain from the chaff to which it is attached. Sheaves were spread on a "
        "hard floor of clay or oak. The floor stood between the two doors of the barn, so that a draught could pass. "
        "Two people with flails, which are two sticks joined by a leather thong, beat the ears in turn. A good worker "
        "threshed a quarter of wheat in a week. The songs that kept the rhythm are mostly forgotten. Threshing was "
        "followed by winnowing, which separates the grain from the chaff.",
        "harvest", 1840, ["grain", "tools"], url="https://example.org/threshing",
    ),
    passage(
        "winnowing-1", "Winnowing",
        "Winnowing separates grain from chaff by wind. The mixture is thrown into the air from a broad basket or with "
        "a wooden shovel. The wind carries the light chaff away while the heavy grain falls back. On still days a fan "
        "of sailcloth was turned by hand. The basket gave its name to several villages. Chaff that was blown out of "
        "the barn was gathered for mattresses.",
        "harvest", 1790, ["grain", "wind"], url="https://example.org/winnowing",
    ),
    passage(
        "machine-1", "The threshing machine",
        "Andrew Meikle built a threshing machine that worked in 1786. A drum with beaters turned fast in a curved "
        "grate and rubbed the grain out of the ears. Earlier machines had copied the flail and broke often. His father "
        "was also a millwright. Fans below the drum separated the grain from the chaff in the same pass. Farm workers "
        "feared for their winter wages, and in 1830 many machines were broken in the Swing riots.",
        "machines", 1786, ["grain", "tools", "riots"], url="https://example.org/machine",
    ),
    passage(
        "combine-1", "The combine harvester",
        "A combine harvester reaps, threshes and winnows in one pass over the field. The first was drawn by horses, "
        "sometimes by more than twenty. Sieves and a fan separate grain from chaff behind the drum. Straw is left on "
        "the field in rows or chopped. The driver's seat became a cabin in the 1950s. Losses at the sieves are "
        "measured by sensors today.",
        "machines", 1835, ["grain", "machines"], url="https://example.org/combine",
    ),
    passage(
        "mill-1", "Millstones",
        "Grain is ground between two millstones, of which only the upper one turns. Furrows in the stones carry the "
        "meal outward and let air in. Stones were dressed with a steel pick every two or three weeks. The best French "
        "stones were put together of pieces of quartz. A miller felt the meal between thumb and finger to judge the "
        "gap. Bran is sifted out of the meal when white flour is wanted.",
        "milling", 1700, ["grain", "stone"], url="https://example.org/millstones",
    ),
    passage(
        "bread-1", "How bread is baked",
        "Bread is baked from flour, water, salt and a leaven. The dough rests until it has doubled. Long rests give "
        "more taste. The oven is heated with brushwood, and the ashes are raked out before the loaves go in. Loaves "
        "are done when they sound hollow. Village ovens were heated once a week.",
        "baking", 1850, ["flour", "oven"], url="https://example.org/bread",
    ),
    passage(
        "straw-1", "Straw and chaff in the house",
        "Oat chaff filled mattresses and cradles. It was changed once a year after the harvest. Straw thatched the "
        "roof, and rye straw lasted longest. Hens were given the sweepings of the threshing floor. Chaff mixed with "
        "clay made walls. A house of clay and chaff stays cool in summer.",
        "building", 1810, ["chaff", "straw"], url="https://example.org/straw",
    ),
    passage(
        "seed-1", "Seed for the next year",
        "The heaviest grain of the winnowing heap was kept for seed. It flies farthest when the heap is thrown with a "
        "shovel. Light grain and chaff fall short. Seed was steeped in brine so that sick grains would float. It was "
        "dried with lime. A tenth of the harvest went back into the ground.",
        "harvest", 1760, ["grain", "seed"], url="https://example.org/seed",
    ),
    passage(
        "hostile-1", f"Markup in grain records {HOSTILE}",
        f"A grain ledger may hold anything. {HOSTILE} The chaff of the web is markup, and it must stay text. "
        "Nothing on a page of results is ever read as HTML.",
        "records", 2020, ["grain", "<b>bold</b>"], url="javascript:document.title='owned'",
    ),
    passage(
        "hebrew-1", "דיש וזרייה",
        "הדיש מפריד את הגרעין מן המוץ, grain and chaff. הגורן הייתה מקום מוגבה ופתוח לרוח. "
        "הזרייה נעשתה לעת ערב כשנשבה הרוח.",
        "harvest", 1500, ["grain", "wind"],
    ),
    passage(
        "arabic-1", "دراسة القمح",
        "الدراسة تفصل الحب عن التبن، grain and chaff. كان البيدر خارج القرية. وتأتي التذرية بعد الدراسة.",
        "harvest", 1500, ["grain"],
    ),
    passage(
        "emoji-1", "Signs of the harvest 🌾",
        "🌾🌾 The sheaf of grain is a sign older than writing 𐎢. Chaff has no sign of its own 🙂. The sickle stands "
        "for August in many calendars. 🌾 Grain without chaff is a good year.",
        "records", 1999, ["grain", "signs"],
    ),
]  # fmt: skip
RECIPE = """
[encode]
encoder = "bm25"
analyzer = "english"

[prune]
estimator = "kl"
keep = 0.75

[ask]
rerank = "lexical"
context = "lexical"
"""
