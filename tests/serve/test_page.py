"""Tests that the web page loads nothing from other sites, and that its functions work in a browser."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.serve.fleet import Fleet
from tests.serve.serving import Server, serving
from tests.serve.test_fleet import Maker
from tests.serve.test_tables import xlsx

FOLDER = Path(__file__).parents[2] / "ecellm_lite" / "serve" / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())
SCREENSHOTS = os.environ.get("ECELLM_SCREENSHOTS")
LOOKS = [(390, "light"), (1280, "dark"), *([(390, "dark"), (1280, "light")] if SCREENSHOTS else [])]


def test_the_page_is_served_with_its_security_policy(server: Server) -> None:
    reply = server.get("/")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", FILES)
def test_the_page_loads_nothing_from_elsewhere(server: Server, name: str) -> None:
    reply = server.get(f"/page/{name}")
    text = reply.body.decode()
    assert reply.status == 200
    assert text == (FOLDER / name).read_text("utf-8")
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|document\.write|style=|\bon[a-z]+=", text)


@pytest.mark.parametrize("name", ["nonsense.js", "..%2Ffront_page.py", "%2Fetc%2Fpasswd", ".", "__init__.py"])
def test_no_other_file_is_served(server: Server, name: str) -> None:
    assert server.get(f"/page/{name}").status == 404


def test_every_input_has_a_label() -> None:
    text = (FOLDER / "index.html").read_text("utf-8")
    labels = set(re.findall(r'<label[^>]* for="([^"]+)"|<label><input[^>]* id="([^"]+)"', text))
    inputs = set(re.findall(r'<(?:input|select|textarea)[^>]* id="([^"]+)"', text))
    assert inputs <= {name for pair in labels for name in pair}
    assert 'lang="en"' in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def page(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, base_url=f"http://127.0.0.1:{server.port}"
    )
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
    page.goto("/")
    page.wait_for_selector("body[data-ready]")
    yield page
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def _is_fault(message: Any) -> bool:
    # A row that is refused is no fault of the page's.
    return message.type == "error" and not re.search("status of 4(22|29)", message.text)


def shoot(page: Any, name: str) -> None:
    if SCREENSHOTS:
        width, dark = page.viewport_size["width"], page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        page.screenshot(path=f"{SCREENSHOTS}/{name}-{width}-{'dark' if dark else 'light'}.png", full_page=True)


@pytest.mark.slow
def test_the_page_answers_a_row(page: Any) -> None:
    page.get_by_label("Review").press("Control+Enter")
    card = page.locator("#task-answer .card")
    card.wait_for()
    assert card.locator("progress").count() == 5
    card.get_by_text("Prompt and timing").click()
    assert "### Instruction:" in card.locator("pre").first.inner_text()
    card.get_by_text("The same request from a program").click()
    assert card.get_by_text("urllib.request").first.is_visible()
    shoot(page, "task")
    page.get_by_label("Abstain below").fill("1")
    page.get_by_role("button", name="Answer").first.click()
    page.get_by_text("It abstains").wait_for()
    note = "getComputedStyle(document.querySelector('#task-answer'), '::before').content"
    assert page.evaluate(note) == "none"
    page.get_by_label("Review").press("End")
    page.get_by_label("Review").press("!")
    assert "before" in page.evaluate(note)
    page.get_by_role("button", name="Clear").click()
    assert card.count() == 0
    assert page.evaluate(note) == "none"


@pytest.mark.slow
def test_every_task_has_a_form_and_an_answer(page: Any) -> None:
    for name in page.locator("#task-name option").evaluate_all("options => options.map(option => option.value)"):
        page.select_option("#task-name", name)
        page.get_by_role("button", name="Answer").first.click()
        card = page.locator("#task-answer .card")
        card.wait_for()
        assert "No answer" not in card.inner_text(), name
        if name == "attribute_value_extraction":
            assert card.locator("mark").count() > 0
        shoot(page, name)


@pytest.mark.slow
def test_the_page_answers_a_question(page: Any) -> None:
    page.get_by_role("tab", name="Your own question").click()
    page.get_by_label("The text that you ask about").fill("The box was open and half of it was missing.")
    page.get_by_role("button", name="Add a question").click()
    page.locator("#questions fieldset").last.get_by_label("Question", exact=True).fill("Was the parcel damaged?")
    page.locator("#question-form button[type=submit]").click()
    page.locator("#question-answer .card").first.wait_for()
    assert page.locator("#question-answer .card").count() == 5
    shoot(page, "question")
    page.locator("#questions fieldset").first.get_by_role("button", name="Remove").click()
    assert page.locator("#questions fieldset").count() == 3
    assert page.locator("#questions legend").all_inner_texts() == ["Question 1", "Question 2", "Question 3"]
    page.locator("#question-clear").click()
    assert page.locator("#questions fieldset").count() == 1
    assert page.locator("#question-answer .card").count() == 0


@pytest.mark.slow
def test_the_tabs_work_with_the_keyboard(page: Any) -> None:
    page.get_by_role("tab", name="A task").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="A table").get_attribute("aria-selected") == "true"
    assert page.locator("#table").is_visible()
    assert not page.locator("#task").is_visible()


@pytest.mark.slow
def test_a_table_is_answered_reviewed_and_downloaded(page: Any, tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    reviews = [f'Row "{number}", and it works;\nwell' for number in range(70)]
    rows = [["nr", "Review"], *([str(number), review] for number, review in enumerate([*reviews, ""]))]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    page.get_by_role("tab", name="A table").click()
    page.set_input_files("#file", table)
    page.get_by_text("71 rows.").wait_for()
    assert page.locator("#column-review").input_value() == "Review"
    shoot(page, "table-mapped")
    page.get_by_role("button", name="Answer all rows").click()
    page.get_by_text("All 71 rows").wait_for()
    lines = page.locator("#table-answers tbody tr")
    assert lines.count() == 71
    assert page.locator("#table-answers th").first.inner_text() == "nr"
    assert lines.first.locator("td").first.inner_text() == "70"
    assert "review" in lines.first.inner_text()  # the row without one is the least certain
    assert lines.nth(1).bounding_box()["height"] < 300
    lines.nth(1).get_by_role("combobox").select_option(index=1)
    shoot(page, "table-answers")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    text = Path(download.value.path()).read_text("utf-8")
    answered = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [row["nr"] for row in answered] == [str(number) for number in range(71)]
    assert answered[0]["Review"] == rows[1][1]
    assert answered[70]["error"]
    [corrected] = [row for row in answered if row["correction"]]
    assert corrected["final"] == corrected["correction"]
    assert all(row["final"] == row["answer"] for row in answered if row is not corrected)


@pytest.mark.slow
def test_a_download_has_the_encoding_and_delimiter_of_the_upload(page: Any, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_bytes("sku;text\r\nA1;schön, aber laut\r\nA2;Broke\r\n".encode("cp1252"))
    page.get_by_role("tab", name="A table").click()
    page.set_input_files("#file", table)
    page.get_by_text("2 rows.").wait_for()
    assert page.locator("#column-review").input_value() == "text"
    assert page.locator("#column-of-ids").input_value() == "sku"
    page.get_by_role("button", name="Answer all rows").click()
    page.get_by_text("All 2 rows").wait_for()
    combobox = page.get_by_label("Correction of row 2")
    page.wait_for_function("scrollY + innerHeight > document.querySelector('#table-answers').offsetTop")
    combobox.select_option(index=1)
    assert combobox.bounding_box()["x"] + combobox.bounding_box()["width"] <= page.viewport_size["width"]
    # Another task is chosen: the answers that are here stay what they are.
    page.select_option("#table-task", "answerability_prediction")
    page.locator("#table-sort").uncheck()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert download.value.suggested_filename == "mine-sentiment_analysis.csv"
    text = Path(download.value.path()).read_text("utf-8")
    assert text.startswith("\ufeffsku;text;answer;")
    lines = [line.split(";") for line in text.splitlines()[1:]]
    assert [cells[1] for cells in lines] == ['"schön, aber laut"', "Broke"]
    assert all(re.fullmatch(r'"?0,\d{1,4}"?', cells[3]) for cells in lines)
    page.get_by_role("button", name="Try a small sample").click()
    page.get_by_text("sample: the first 5 rows").wait_for()
    assert page.locator("#file").input_value() == ""


def answered_table(page: Any, path: Path, task: str | None = None) -> list[dict[str, str]]:
    """Let the page answer a table, and return the rows of the download."""
    page.goto("/")
    page.wait_for_selector("body[data-ready]")
    page.get_by_role("tab", name="A table").click()
    page.set_input_files("#file", path)
    page.locator("#table-form").wait_for()
    if task:
        page.select_option("#table-task", task)
    page.get_by_role("button", name="Answer all rows").click()
    page.locator("#table-results").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    data = Path(download.value.path()).read_bytes()
    text = data.decode("utf-16" if data.startswith(codecs.BOM_UTF16_LE) else "utf-8-sig")
    delimiter = next(one for one in ";\t," if f"{one}answer{one}" in text or text.startswith(f"answer{one}"))
    return list(csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter))


def test_files_of_shops_are_read_as_jobs_read_them(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("Review\r\nSchön, aber nach zwei Tagen kaputt\r\nGut\r\n", "utf-8")
    assert [row["Review"] for row in answered_table(page, path)] == ["Schön, aber nach zwei Tagen kaputt", "Gut"]
    lines = ["sku,Size,Size,review", *(f"A{number},M,XL,great" for number in range(5)), "A5,S,L,bad,really,5"]
    path.write_text("\n".join(lines), "utf-8")
    *whole, long = answered_table(page, path)
    assert {(row["Size"], row["Size (2)"], row["review"], row["error"]) for row in whole} == {("M", "XL", "great", "")}
    assert long["sku"] == "A5"
    assert "6" in long["error"]  # cells
    path.write_bytes("sku;review\r\nA1;-5,50\r\n".encode("utf-16"))
    assert [row["review"] for row in answered_table(page, path)] == ["-5,50"]
    path.write_bytes("sku\treview\r\nA1\tschön \U0001f600\r\n".encode("utf-16"))  # Excel's "Unicode Text"
    assert [row["review"] for row in answered_table(page, path)] == ["schön \U0001f600"]


def test_a_download_leaves_the_tables_own_cells_as_they_are(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    texts = ["-5 stars, the lamp died", "=1+1", "@shop", "+1"]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["+sku", "review"], *(["-A", text] for text in texts)])
    rows = answered_table(page, path)
    assert [(row["+sku"], row["review"]) for row in rows] == [("-A", text) for text in texts]


def test_an_empty_row_is_told_of_its_own_columns_alone(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("nr,review\n1,fine\n2,\n", "utf-8")
    _, empty = answered_table(page, path)
    assert "review" in empty["error"]
    assert "'id'" not in empty["error"]


@pytest.mark.parametrize(("language", "form"), [("de-DE", ";"), ("en-US", ",")])
def test_a_download_opens_in_the_spreadsheet_of_the_browsers_country(
    browser: Any, server: Server, tmp_path: Path, language: str, form: str
) -> None:
    (tmp_path / "rows.xlsx").write_bytes(xlsx([{"review": "fine"}]))
    context = browser.new_context(locale=language, base_url=f"http://127.0.0.1:{server.port}")
    page = context.new_page()
    [row] = answered_table(page, tmp_path / "rows.xlsx")
    assert ("," in row["probability"]) == (form == ";")
    page.get_by_label("Semicolons and decimal commas").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    other = "," if form == ";" else ";"
    text = Path(download.value.path()).read_text("utf-8")
    assert text.startswith(f"\ufeffreview{other}answer")
    context.close()


def test_a_reload_asks_while_answers_are_not_downloaded(page: Any, tmp_path: Path) -> None:
    asked: list[str] = []

    def accept(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", accept)
    path = tmp_path / "rows.csv"
    path.write_text("review\nfine\n", "utf-8")
    answered_table(page, path)
    page.reload()
    assert asked == []  # they were downloaded
    answered_table(page, path)
    page.get_by_label("Correction of row 1").select_option(index=1)
    page.reload()
    assert asked == ["beforeunload"]


@pytest.mark.parametrize("kept", [True, False])
def test_another_table_asks_before_corrections_go(page: Any, tmp_path: Path, kept: bool) -> None:
    asked: list[str] = []

    def reply(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.dismiss() if kept else dialog.accept()

    page.on("dialog", reply)
    path = tmp_path / "rows.csv"
    path.write_text("review\nfine\n", "utf-8")
    answered_table(page, path)
    correction = page.get_by_label("Correction of row 1")
    correction.select_option(index=1)
    if kept:
        page.get_by_role("button", name="Answer all rows").click()
        assert correction.input_value()
    page.set_input_files("#file", path.rename(tmp_path / "other.csv"))
    correction.wait_for(state="visible" if kept else "hidden")
    assert asked == ["confirm"] * (2 if kept else 1)


def test_a_file_with_semicolons_can_be_downloaded_with_commas(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review;price\nfine;2,5\nbad;3,5\n", "utf-8")
    answered_table(page, path)
    page.get_by_label("Semicolons and decimal commas").uncheck()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert Path(download.value.path()).read_text("utf-8").removeprefix("\ufeff").startswith("review,price,answer")


@pytest.mark.parametrize("refusals", [1, 9])
def test_a_busy_server_costs_no_rows(page: Any, tmp_path: Path, refusals: int) -> None:
    calls: list[str] = []

    def busy(route: Any) -> None:
        calls.append(route.request.url)
        if 1 < len(calls) <= 1 + refusals:
            route.fulfill(
                status=429, headers={"Retry-After": "1"}, json={"error": {"message": "full", "code": "queue_full"}}
            )
        else:
            route.continue_()

    page.route("**/v1/tasks/sentiment_analysis", busy)
    path = tmp_path / "rows.csv"
    path.write_text("sku,review\n" + "".join(f"A{number},fine\n" for number in range(40)), "utf-8")
    rows = answered_table(page, path)
    assert [row["sku"] for row in rows] == [f"A{number}" for number in range(40)]
    assert sum(bool(row["error"]) for row in rows) == (0 if refusals == 1 else 8)


def test_each_row_has_its_own_options(page: Any, tmp_path: Path) -> None:
    categories = [["Computer mice", "Keyboards"], ["Teapots", "Kettles", "Lamps"]]
    rows = [
        {"sku": 1, "price": 19.50, "title": "Mouse", "categories": categories[0]},
        {"sku": 1234567890123456789, "title": "Tea pot", "categories": categories[1]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows).replace("19.5,", "19.50,"), "utf-8")
    first, second = answered_table(page, path, "category_classification")
    assert (first["price"], second["sku"]) == ("19.50", "1234567890123456789")
    assert first["answer"][3:] in categories[0]
    assert second["answer"][3:] in categories[1]


@pytest.mark.slow
def test_a_spreadsheet_is_read_by_the_server(page: Any, tmp_path: Path) -> None:
    reviews = [{"Nr": 1, "Review": "Works; it is loud."}, {"Nr": 2, "Review": "Broke after a day."}]
    (tmp_path / "reviews.xlsx").write_bytes(xlsx(reviews))
    page.get_by_role("tab", name="A table").click()
    page.set_input_files("#file", tmp_path / "reviews.xlsx")
    page.get_by_text("2 rows.").wait_for()
    assert page.locator("#column-review").input_value() == "Review"
    page.get_by_role("button", name="Answer all rows").click()
    page.get_by_text("All 2 rows").wait_for()
    shoot(page, "spreadsheet")
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04 no spreadsheet")
    page.set_input_files("#file", tmp_path / "broken.xlsx")
    page.get_by_role("alert").wait_for()
    assert page.locator("#table-form").is_hidden()
    shoot(page, "spreadsheet-broken")


@pytest.mark.slow
def test_the_model_is_chosen_where_there_are_several(browser: Any) -> None:
    maker = Maker()
    with serving(fleet=Fleet([maker.source("small"), maker.source("large-model:Q4_K_M")])) as server:
        context = browser.new_context(
            viewport={"width": 390, "height": 844}, base_url=f"http://127.0.0.1:{server.port}"
        )
        page = context.new_page()
        page.goto("/")
        page.wait_for_selector("body[data-ready]")
        page.get_by_label("Model", exact=True).select_option("large-model:Q4_K_M")
        page.get_by_role("button", name="Answer").first.click()
        page.get_by_text("Prompt and timing").click()
        assert "large-model:Q4_K_M" in page.locator("#task-answer dl").inner_text()
        shoot(page, "models")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        context.close()
    assert maker.started == ["small", "large-model:Q4_K_M"]


@pytest.mark.slow
def test_an_invalid_row_is_shown_with_its_field(page: Any) -> None:
    page.evaluate("document.querySelector('#task-form').noValidate = true")
    page.get_by_label("Review").fill("")
    page.get_by_role("button", name="Answer").first.click()
    assert "row.review" in page.get_by_role("alert").inner_text()
