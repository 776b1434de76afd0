"""Tests that the encodings of short reviews in many languages are found."""

# ruff: noqa: RUF001 - texts of many languages

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.tables.alphabets import european_encoding
from tests.tables.reading import cells, read, write

GERMAN = ["Die Tasse ist größer als gedacht.", "Für den Preis völlig in Ordnung.", "Das Öl läuft überall heraus!"]
FRENCH = ["Cassée à l'arrivée, je suis déçu.", "Ma mère l'adore, « parfait »", "Où est la notice ? Reçue abîmée."]
SPANISH = ["Llegó rápido, ¡qué bien!", "La taza es más pequeña.", "Se rompió a los dos días."]
FINNISH = [
    "Hyvä kuppi, pysyy lämpimänä pitkään.",
    "Särkyi heti ensimmäisellä käyttökerralla.",
    "Liian pieni, mutta käytän sitä silti.",
]
POLISH = ["Kubek jest piękny, ale mały.", "Pękł po tygodniu, źle zapakowany.", "Świetny, długo trzyma ciepło."]
CZECH = ["Hrnek je krásný, ale malý.", "Ouško hned upadlo, škoda.", "Příliš těžký, dlouho drží teplo."]
HUNGARIAN = ["A bögre szép, de kicsi.", "Egy hét után eltört.", "Az eladó nem válaszol, őszintén csalódtam."]
ENGLISH = ["It’s a lovely mug – keeps tea hot", "Broke after a week, didn’t like it", "“Best mug ever”, café style"]

TEXTS = {
    "German": ("cp1252", GERMAN),
    "French": ("cp1252", FRENCH),
    "Spanish": ("cp1252", SPANISH),
    "Italian": ("cp1252", ["È più piccola, però bella.", "Perché costa così tanto?", "Qualità ottima, la ricomprerò."]),
    "Dutch": ("cp1252", ["De beker is mooi, één kant kapot.", "Jammer hè.", "Goed verpakt."]),
    "Swedish": ("cp1252", ["Muggen är större, väldigt fin.", "Gick sönder.", "Färgen stämmer, får plats överallt."]),
    "Finnish": ("cp1252", FINNISH),
    "Danish": ("cp1252", ["Koppen er større og pæn.", "Låget er utæt, øv.", "Den gik i stykker efter få dage."]),
    "English": ("cp1252", ENGLISH),
    "English with signs": ("cp1252", ["A pipette, 300 µl", "Filter 5 µm for a Nike® shoe", "20 µl"]),
    "names with accents": ("cp1252", ["L\u00b4Oréal Paris", "By O\u00b4Neill", "L\u00b4OREAL, Café"]),
    "Icelandic": ("cp1252", ["Bollinn er fallegur en lítill.", "Það brotnaði.", "Góð gæði, mæli með þessu."]),
    "Polish": ("cp1250", POLISH),
    "Czech": ("cp1250", CZECH),
    "Hungarian": ("cp1250", HUNGARIAN),
    "Croatian": (
        "cp1250",
        ["Šalica je lijepa, ali premala.", "Pukla je nakon tjedna.", "Kćer je oduševljena, brza dostava."],
    ),
    "Turkish": ("cp1254", ["Çok güzel, sıcak tutuyor.", "Bir hafta sonra kırıldı.", "Rengi fotoğraftaki gibi değil."]),
    "Lithuanian": ("cp1257", ["Puodelis gražus, bet mažas.", "Sudužo po savaitės.", "Greitas pristatymas, ačiū!"]),
    "French with œ": (
        "iso8859_15",
        ["Reçu cassé, déçu, 12 €", "Le cœur du problème", "À éviter"],
    ),
    "Polish of the web": ("iso8859_2", POLISH),
    "German of a Mac": ("mac_roman", GERMAN),
    "English of a Mac": ("mac_roman", ENGLISH),
    "Finnish of DOS": ("cp850", FINNISH),
    "German of DOS": ("cp850", GERMAN),
}


@pytest.mark.parametrize("count", [3, 10, 200])
@pytest.mark.parametrize(("encoding", "texts"), TEXTS.values(), ids=TEXTS)
def test_the_encoding_of_reviews_is_found(tmp_path: Path, encoding: str, texts: list[str], count: int) -> None:
    reviews = [texts[place % len(texts)] for place in range(count)]
    text = "SKU;Review\r\n" + "".join(f"A{place};{review}\r\n" for place, review in enumerate(reviews))
    assert [row["Review"] for row in cells(read(write(tmp_path / "x.csv", text, encoding))[1])] == reviews


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Кружка красивая, да", "cp1251"),
        ("Η κούπα είναι όμορφη", "cp1253"),
        ("杯子很漂亮,T恤", "gb18030"),
        ("머그컵이 예쁘지만 조금 작아요", "cp949"),
        ("x" * 100, "ascii"),
    ],
)
def test_other_scripts_have_no_alphabet_here(text: str, encoding: str) -> None:
    assert european_encoding(text.encode(encoding)) is None
