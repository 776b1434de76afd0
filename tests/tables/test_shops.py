"""Tests that files like the exports of shop software are read completely. A user needs to set at most two options.

The files' content is made up.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
import xlsxwriter

from ecellm_lite.tables.columns import ColumnMap, MapOptions
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tasks.registry import TASKS
from tests.tables.reading import cells, read, write

Rows = Sequence[Sequence[str]]
SENTIMENT = TASKS["sentiment_analysis"]


def delimited(
    columns: Sequence[str], rows: Rows, *, delimiter: str = ",", end: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL
) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows([columns, *rows])  # type: ignore[arg-type]
    return text.getvalue()


def table(columns: Sequence[str], rows: Rows) -> list[dict[str, str]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


BODY = (
    '<div data-sheets-value=\'{"1":2,"2":"Mug"}\' style="color: #111">\n'
    '<p>A mug &amp; its lid,\nfor "slow" mornings.</p>\n'
    "<table><tr><td>Volume</td><td>350 ml</td></tr></table>\n</div>\n"
)


def test_shopify(tmp_path: Path) -> None:
    columns = ["Handle", "Title", "Body (HTML)", "Vendor", *(f"Column {i}" for i in range(42))]
    filler = [""] * 42
    rows = [["mug", "Mug", BODY, "Northpoint", *filler], ["mug", "", "", "", *filler], ["mug", "", "", "", *filler]]
    rows += [["lamp", "Lamp", BODY * 60, "Brewline", *filler], ["lamp", "", "", "", *filler]]
    path = write(tmp_path / "products_export.csv", delimited(columns, rows))
    _, read_rows = read(path)
    assert cells(read_rows) == table(columns, rows)

    # Either each variant gets its product's title, or variants are left out.
    task = TASKS["attribute_value_extraction"]
    constants = {"attributes": ["Material"]}
    filled = ColumnMap(task, columns, MapOptions(constants=constants, fill_down=["Title"]))
    mapped = [filled.row(row).row for row in read_rows]
    assert [row and row["title"] for row in mapped] == ["Mug", "Mug", "Mug", "Lamp", "Lamp"]
    only = ColumnMap(
        task, columns, MapOptions(map=["description=Body (HTML)"], constants=constants, only_where="Title")
    )
    results = [only.row(row) for row in read_rows]
    assert [row.skipped for row in results] == [False, True, True, False, True]
    assert results[0].row == {
        "title": "Mug",
        "description": 'A mug & its lid, for "slow" mornings.\nVolume 350 ml',
        "attributes": ["Material"],
    }
    assert [warning.code for warning in results[0].warnings] == ["html_removed"]


def test_woocommerce_with_a_mark_behind_white_space(tmp_path: Path) -> None:
    columns = ["ID", "Nombre", "¿Está destacado?", "Descripción", "Categorías", "Nombre del atributo 1"]
    rows = [
        ["44", "Botella", "0", r"<p>Acero\ncepillado &amp; ligero</p>\n", "Casa > Cocina, Ofertas", "Color"],
        ["45", "Lámpara", "1", r"Una lámpara\npara leer", "Casa > Luz", "Tamaño"],
    ]
    path = write(tmp_path / "wc-product-export.csv", "\n\t\ufeff" + delimited(columns, rows, end="\n"))
    opened, read_rows = read(path)
    assert cells(read_rows) == table(columns, rows)
    assert opened.columns == tuple(columns)
    assert [row.line for row in read_rows] == [3, 4]


def test_lightspeed_text_that_was_read_wrongly_twice(tmp_path: Path) -> None:
    """A UTF-8 file was read as cp1252 by mistake, and saved as Mac Roman. Its wrong characters stay as they are."""
    word = "<xml><w:WordDocument><w:View>Normal</w:View></w:WordDocument></xml>" + "<o:p>texte</o:p>" * 2100
    texts = ["Théière", "Crème brûlée\rsans gluten", "Été à Évian\r", word[:32_753]]
    wrong = [text.encode().decode("cp1252") for text in texts]
    columns = ["SKU", "Description"]
    rows = [[f"{place}", text] for place, text in enumerate(wrong)]
    path = write(tmp_path / "items.csv", delimited(columns, rows, end="\n", quoting=csv.QUOTE_ALL), "mac_roman")
    _, read_rows = read(path, encoding="mac_roman")
    assert cells(read_rows) == table(columns, rows)


def test_bigcommerce_with_its_header_twice(tmp_path: Path) -> None:
    columns = [f"Column {place}" for place in range(69)]
    columns[0], columns[20], columns[40], columns[68] = "Product ID", "Price", "Price", "GPS Enabled"
    header = [*columns[:-1], columns[-1] + columns[0], *columns[1:]]
    assert len(header) == 137
    rows = [[f"{row}.{place}" for place in range(69)] for row in range(5)]
    path = write(tmp_path / "bc.csv", delimited(header, rows))
    opened, read_rows = read(path)
    names = [*columns]
    names[40] = "Price (2)"
    assert opened.columns == tuple(names)
    assert cells(read_rows) == table(names, rows)


def test_magento_with_attributes_packed_into_a_cell(tmp_path: Path) -> None:
    columns = ["sku", "name", "additional_attributes", *(f"column_{i}" for i in range(86))]
    packed = 'color=Blue,short_text="<p class=""x"">Soft,\r\nwarm</p>",size=M'
    rows = [[f"S{i}", f"Shirt {i}", packed, *["0"] * 86] for i in range(3)]
    path = write(tmp_path / "catalog_product.csv", delimited(columns, rows, end="\n"))
    assert cells(read(path)[1]) == table(columns, rows)


def test_akeneo_with_semicolons_and_units(tmp_path: Path) -> None:
    columns = ["sku", "name-en_US", "description-en_US-ecommerce", "description-de_DE-print", "weight", "weight-unit"]
    rows = [["1", "Kettle", "Boils, fast; quietly", "Kocht schnell", "1,2", "KILOGRAM"], ["2", "Pan", "", "", "", ""]]
    path = write(tmp_path / "products.csv", delimited(columns, rows, delimiter=";", end="\n"))
    opened, read_rows = read(path)
    assert cells(read_rows) == table(columns, rows)
    mapping = ["title=name-en_US", "description=description-en_US-ecommerce", "price=weight", "price=weight-unit"]
    mapped = ColumnMap(
        TASKS["attribute_value_extraction"],
        opened.columns,
        MapOptions(map=mapping, constants={"attributes": ["Weight"]}),
    )
    row = mapped.row(read_rows[0]).row
    assert row is not None
    assert row["price"] == "1,2 KILOGRAM"


def test_google_merchant_tabs(tmp_path: Path) -> None:
    columns = ["id", "title", "price", "link"]
    rows = [["A1", "Mug, blue", "10.00 USD", "https://shop.example/?a=1&b=2"], ["A2", 'Lamp 12"', "8.50 USD", "x"]]
    text = "\n".join("\t".join(row) for row in [columns, *rows]) + "\n"
    opened, read_rows = read(write(tmp_path / "feed.txt", text))
    assert cells(read_rows) == table(columns, rows)
    assert "tabs" in opened.description


def test_google_merchant_rss(tmp_path: Path) -> None:
    feed = """<?xml version="1.0"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title>
<item><g:id>A1</g:id><title><![CDATA[Mug <blue> & co]]></title><g:price>10.00 USD</g:price>
<g:shipping><g:country>US</g:country><g:price>2.00 USD</g:price></g:shipping>
<g:additional_image_link>a</g:additional_image_link><g:additional_image_link>b</g:additional_image_link></item>
<item><g:id>A2</g:id><title>Lamp &amp; shade</title><g:price>8.50 USD</g:price></item>
</channel></rss>
"""
    _, read_rows = read(write(tmp_path / "feed.xml", feed))
    assert cells(read_rows) == [
        {
            "g:id": "A1",
            "title": "Mug <blue> & co",
            "g:price": "10.00 USD",
            "g:shipping.g:country": "US",
            "g:shipping.g:price": "2.00 USD",
            "g:additional_image_link": "a",
            "g:additional_image_link (2)": "b",
        },
        {"g:id": "A2", "title": "Lamp & shade", "g:price": "8.50 USD"},
    ]


AMAZON = [
    ["TemplateType=fptcustom", "Version=2023.1106", "The top 3 rows are for Amazon.com use only.", "", "", ""],
    ["Product Type", "Seller SKU", "Product Name", "Brand Name", "Product Description", "Standard Price"],
    ["feed_product_type", "item_sku", "item_name", "brand_name", "product_description", "standard_price"],
]


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", ["Küchenmesser für Käse, größer \u2013 schärfer", "Öl"]),
        ("cp932", ["ステンレス製の水筒 保温保冷", "表示ソ能"]),
    ],
)
def test_amazon_flat_file(tmp_path: Path, encoding: str, words: list[str]) -> None:
    rows = [
        ["kitchen", f"S-{place}", f'{words[0]} 15" {place}', "Northpoint", f'"{words[1]}, neu', f"{place}.99"]
        for place in range(8)
    ]
    text = "\r\n".join("\t".join(row) for row in [*AMAZON, *rows]) + "\r\n"
    opened, read_rows = read(write(tmp_path / "flat.txt", text, encoding))
    assert cells(read_rows) == table(AMAZON[2], rows)
    assert "line 3" in opened.description


def test_amazon_spreadsheet(tmp_path: Path) -> None:
    rows = [["kitchen", f"S-{place}", f"Knife {place}", "Northpoint", "Sharp", 12.5 + place] for place in range(4)]
    path = tmp_path / "flat.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Template")
        for place, row in enumerate([*AMAZON, *rows]):
            sheet.write_row(place, 0, row)
    assert cells(read(path)[1]) == [dict(zip(AMAZON[2], row, strict=True)) for row in rows]


def test_square(tmp_path: Path) -> None:
    columns = ["Token", "Item Name", "Price \u2013 Café (USD)", "Current Quantity Café Zoë"]
    rows = [["T1", "Flat white", "$95.00", "3"], ["T2", "Mug", "$1,095.00", ""]]
    path = write(tmp_path / "catalog.csv", delimited(columns, rows))
    assert cells(read(path)[1]) == table(columns, rows)


def test_rakuten_with_five_lines_before_the_header(tmp_path: Path) -> None:
    columns = ["商品管理番号", "商品名", "販売価格"]
    rows = [["a-1", "折りたたみ傘 軽量", "1,980"], ["a-2", "ステンレスボトル\n保温", "2,480"]]
    before = ["店舗名,さくら", "作成日,2024/05/01", "件数,2", "種別", "担当,すずき", ""]
    text = "\r\n".join(before) + "\r\n" + delimited(columns, rows, quoting=csv.QUOTE_ALL)
    path = write(tmp_path / "item.csv", text, "cp932")
    opened, read_rows = read(path)
    assert cells(read_rows) == table(columns, rows)
    assert "line 7" in opened.description


def test_reviews_in_many_languages(tmp_path: Path) -> None:
    columns = ["id", "rating", "title", "body"]
    rows = [
        ["1", "1 out of 5 stars", "Kaputt", "Nach zwei Tagen kaputt.\n\nNie wieder!"],
        ["2", "5 out of 5 stars", "Parfait", "Très bien, « parfait »"],
        ["3", "9", "とても良い", "また買います。"],
        ["4", "2", "", ""],
        ["5", "10", "Ótimo", "O melhor que já comprei…"],
        ["6", "4", "Хорошо", "Всё отлично"],
        ["7", "3", "还可以", "包装很好"],
    ]
    path = write(tmp_path / "reviews.csv", delimited(columns, rows, end="\n"))
    opened, read_rows = read(path)
    assert cells(read_rows) == table(columns, rows)
    mapped = list(map(ColumnMap(SENTIMENT, opened.columns, MapOptions(map=["review=body"])).row, read_rows))
    assert [row.number for row in read_rows if mapped[row.number - 1].error] == [4]  # the one without a body


@pytest.mark.parametrize("before", [2, 6])
def test_search_terms(tmp_path: Path, before: int) -> None:
    columns = ["Search term", "Match type", "Clicks", "Impr.", "CTR", "Cost"]
    rows = [["blue mug", "Exact", "12", "10,708", "54.48%", "1.20"], ["mug", "Broad", "3", "81", "3.70%", "0.80"]]
    totals = [
        ["Total: Search terms", " --", "15", "10,789", "0.14%", "2.00"],
        ["Total: Account", " --", "15", "10,789", "0.14%", "2.00"],
    ]
    lines = ["Search terms report", "January 1, 2024 - January 31, 2024", "Shop", "EUR", "All campaigns", "v2"][:before]
    text = "\n".join(lines) + "\n" + delimited(columns, [*rows, *totals], delimiter="\t", end="\n")
    path = write(tmp_path / "Search terms report.csv", "\ufeff" + text, "utf-16-le")
    opened, read_rows = read(path)
    assert cells(read_rows) == table(columns, rows)
    assert len(opened.notes) == 1
    _, with_totals = read(path, total_rows=True)
    assert cells(with_totals) == table(columns, [*rows, *totals])


PATHS = [
    "Animals & Pet Supplies",
    "Animals & Pet Supplies > Live Animals",
    "Apparel & Accessories",
    "Apparel & Accessories > Clothing",
    "Apparel & Accessories > Clothing > Shirts, Tops & Blouses",
]


def test_google_taxonomy(tmp_path: Path) -> None:
    text = "# Google_Product_Taxonomy_Version: 2021-09-21\n" + "".join(f"{path}\n" for path in PATHS)
    opened, read_rows = read(write(tmp_path / "taxonomy.en-US.txt", text))
    assert cells(read_rows) == [{"column 1": path} for path in PATHS]
    assert opened.columns == ("column 1",)


def test_google_taxonomy_with_ids(tmp_path: Path) -> None:
    lines = [f"{place * 7 + 1} - {path}" for place, path in enumerate(PATHS)]
    _, read_rows = read(write(tmp_path / "taxonomy-with-ids.en-US.txt", "\n".join(lines)))
    assert cells(read_rows) == [{"column 1": line} for line in lines]


def test_gpc_without_a_header(tmp_path: Path) -> None:
    rows = [["10000002", "Eggs/Eggs Substitutes"], ["10000003", "Mushrooms, fresh"], ["10000005", "Nuts"]]
    text = "".join(f'{code},"{name}"\n' for code, name in rows)
    opened, read_rows = read(write(tmp_path / "gpc.csv", text))
    assert cells(read_rows) == [{"column 1": code, "column 2": name} for code, name in rows]
    assert "line" not in opened.description


def test_akeneo_categories_with_one_label_twice(tmp_path: Path) -> None:
    columns = ["code", "parent", "label-en_US", "label-de_DE", "label-fr_FR"]
    rows = [["master", "", "Shoes", "Schuhe", "Chaussures"], ["outlet", "master", "Shoes", "Schuhe", "Chaussures"]]
    path = write(tmp_path / "categories.csv", delimited(columns, rows, delimiter=";", end="\n"))
    assert cells(read(path)[1]) == table(columns, rows)


def test_every_guess_can_be_overruled(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.csv", 'a;b|c\n1;"2|3\nx;y|z\n')
    assert cells(read(path, delimiter="|", quote="none")[1]) == [{"a;b": '1;"2', "c": "3"}, {"a;b": "x;y", "c": "z"}]
    assert cells(read(path, delimiter=";", quote="none", header_row=2)[1]) == [{"1": "x", '"2|3': "y|z"}]
    assert len(read(path, delimiter=";", quote="none", header_row=0)[1]) == 3
    with open_table(write(tmp_path / "latin.csv", "naïve,x\n", "utf-8")) as automatic:
        assert automatic.columns == ("naïve", "x")
