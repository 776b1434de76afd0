"""Tests that decimal commas are found in tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tables.reading import read, write


@pytest.mark.parametrize(
    ("text", "decimal_comma", "delimiter"),
    [
        ("sku;price\nA1;19,90\nA2;5\n", True, ";"),
        ("sku;price\nA1;1.299,00 €\nA2;€ 5,50\n", True, ";"),
        ("sku;price\nA1;19.90\nA2;5.00\n", False, ";"),
        ("sku;price\nA1;1,299.00\nA2;5.00\n", False, ";"),
        ("sku;review\nA1;good\nA2;bad\n", True, ";"),  # nothing but the semicolons tells
        ("sku;count\nA1;1,500\nA2;1.500\n", True, ";"),
        ("sku;price;version\nA1;19,90;v1.2\nA2;5,50;none\n", True, ";"),
        ("sku\tprice\nA1\t19,90\nA2\t5,50\n", True, ";"),
        ("sku\treview\nA1\tgood\nA2\tbad\n", False, ","),
        ('sku,sizes\nA1,"38,40"\nA2,"39,41"\n', False, ","),
        ("19,90;price\nA1;5.50\nA2;4.50\n", False, ";"),  # the header is no number
    ],
)
def test_the_decimal_sign_of_a_table_is_found(text: str, decimal_comma: bool, delimiter: str, tmp_path: Path) -> None:
    table, _ = read(write(tmp_path / "x.csv", text), header_row=1)
    assert (table.decimal_comma, table.delimiter) == (decimal_comma, delimiter)
