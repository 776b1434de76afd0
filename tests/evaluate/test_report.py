"""Tests the report: one HTML page that shows the results and loads nothing, whatever texts the data contain."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jinja2", reason="the report needs the extra eval")

from ecellm_lite.answers.answer import ModelName
from ecellm_lite.errors import UsageError
from ecellm_lite.evaluate.paper import IN_DOMAIN, OUT_OF_DOMAIN
from ecellm_lite.evaluate.report import page as page_module
from ecellm_lite.evaluate.report.page import page
from ecellm_lite.evaluate.results import Results, Uncalibrated, Unreadable
from ecellm_lite.report import rendering, shown
from tests.support.html_page import Page
from tests.support.sample_results import HOSTILE, LABELS, sample_results

TAGS = """
html head meta title style body header h1 h2 h3 p nav ul li a main section dl dt dd bdi code div table caption thead
tbody tr th td span small strong figure figcaption svg desc g line rect circle path text details summary pre
"""
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


@pytest.fixture(scope="module")
def results() -> Results:
    return sample_results()


@pytest.fixture(scope="module")
def source(results: Results) -> str:
    return page(results)


@pytest.fixture(scope="module")
def parsed(source: str) -> Page:
    return Page(source)


def test_tags_in_the_data_are_escaped(parsed: Page) -> None:
    assert {element.tag for element in parsed.elements} <= set(TAGS.split())
    for element in parsed.elements:
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
    texts = [element.text for element in parsed.all("pre")]
    for hostile in HOSTILE[:3]:
        assert any(hostile in text for text in texts)


def one_task(results: Results, text: str) -> Results:
    """Return the results of one task, with `text` in every place where the page shows data."""
    task = results.tasks["product_matching"]
    example = replace(task.slowest[0], id=text, gold=text, text=text, prompt=text)
    assert task.confusion
    hostile = replace(
        task,
        slowest=[example],
        least_certain=[example],
        notes=[text],
        unreadable=[Unreadable(1, text)],
        calibration=text,
        uncalibrated=Uncalibrated(1, 1, text),
        confusion=replace(task.confusion, labels=[text, text]),
    )
    return replace(
        results,
        model=ModelName(text, text),
        envelope=text,
        created=text,
        data=[replace(results.data[0], name=text, sha256=text)],
        settings=replace(results.settings, split=text, setting=text, instruction=text),
        tasks={"product_matching": hostile, text + "!": hostile},
    )


@pytest.fixture(scope="module")
def plain(results: Results) -> list[str]:
    return [element.tag for element in Page(page(one_task(results, "plain"))).elements]


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec=None, categories=None), max_size=60) | st.sampled_from(HOSTILE))
def test_any_text_is_shown_as_text(results: Results, plain: list[str], text: str) -> None:
    source = page(one_task(results, text))
    source.encode("utf-8")
    parsed = Page(source)
    assert [element.tag for element in parsed.elements] == plain
    # A parser reads a lone carriage return as a newline, so that none may be left.
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", source)
    assert "\n" + shown.cut(text, 4000) in [element.text for element in parsed.all("pre")]


def test_the_page_loads_nothing_from_the_network(parsed: Page, source: str) -> None:
    for element in parsed.elements:
        assert not {"src", "srcset", "data", "action", "xlink:href", "background"} & element.attributes.keys()
        if "href" in element.attributes:
            assert element.tag == "a"
            assert (element.attributes["href"] or "").startswith("#")
    [style] = parsed.all("style")
    assert not re.search(r"url\(|@import|@font-face|image-set", style.text)
    [policy] = [meta for meta in parsed.all("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    # The policy must stand before what it forbids.
    assert source.index("Content-Security-Policy") < source.index("<title>")


def test_every_task_and_figure_is_on_the_page(results: Results, parsed: Page) -> None:
    pictures = [element.text for element in parsed.all("title") if "svg" in element.inside]
    tables = [element.attributes.get("aria-label") for element in parsed.all("div")]
    headings = [element.text for element in parsed.all("h2")]
    for task in results.tasks.values():
        short = task.abbreviation
        assert any(heading.endswith(f" {short}") for heading in headings)
        figures = short not in {"AG", "QPR"}  # the two of the sample that have none
        assert (f"Reliability diagram of {short}" in pictures) == figures
        assert (f"Accuracy against answered share of {short}" in pictures) == figures
        assert (f"Confusion matrix of {short}" in tables) == (short in LABELS)
        assert (f"Metrics of {short}" in tables) == (short != "QPR")
    text = parsed.elements[0].text
    for word in (results.model.sha256, "0.3.36", "alpaca", "12 min 34 s", *(file.sha256 for file in results.data)):
        assert word in text
    assert "None" not in re.sub(r"\s+", " ", text.replace("None of", ""))


def test_the_overview_shows_the_papers_models(results: Results, parsed: Page) -> None:
    models = [element.text for element in parsed.all("th") if "model" in (element.attributes.get("class") or "")]
    assert set(models) == set(IN_DOMAIN)
    assert models[:3] == ["eCeLLM-L", "eCeLLM-M", "eCeLLM-S"]
    elsewhere = Page(page(replace(results, settings=replace(results.settings, setting="OOD_Single_Instruction"))))
    models = [element.text for element in elsewhere.all("th") if "model" in (element.attributes.get("class") or "")]
    assert set(models) == set(OUT_OF_DOMAIN)


def test_the_paper_is_left_out_if_it_has_none_of_the_tasks(results: Results) -> None:
    task = replace(results.tasks["sentiment_analysis"], abbreviation="desk")
    parsed = Page(page(replace(results, tasks={"desk": task})))
    assert [element.text for element in parsed.all("th") if "paper" in element.text] == []
    [head] = [element for element in parsed.all("th") if element.attributes.get("colspan")]
    cells = [each for each in parsed.all("td") if "ours" in (each.attributes.get("class") or "")]
    assert head.attributes["colspan"] == str(len(cells))


def calibrated(source: str) -> str:
    return next(element.text for element in Page(source).all("dd") if element.text.startswith(("yes:", "no")))


def test_the_calibrations_are_named(results: Results, source: str) -> None:
    text = calibrated(source)
    assert "PM: PM T=1.62 (319 rows, 3f2a9c1b)" in text
    assert re.search(r"SA: SA T=1\.62 \(319 rows, 3f2a9c1b\).*\b134 of 200\b.*\bline 7\b", text)
    assert "PRP" not in text
    # Older files say that calibrations were used, but not which.
    older = {name: replace(task, calibration=None, uncalibrated=None) for name, task in results.tasks.items()}
    text = calibrated(page(replace(results, tasks=older)))
    assert "T=" not in text
    assert text.startswith("yes")
    unused = {"sentiment_analysis": replace(results.tasks["sentiment_analysis"], calibration=None)}
    text = calibrated(page(replace(results, calibrated=False, tasks=unused)))
    assert text.startswith("no")
    assert re.search(r"SA: .*\b134 of 200\b", text)


def test_results_without_tasks_give_a_short_page(results: Results) -> None:
    parsed = Page(page(replace(results, tasks={}, unreadable=[])))
    assert [element.text for element in parsed.all("h2")] == ["What was measured"]
    assert not parsed.all("svg")


def test_the_page_works_with_a_screen_reader(parsed: Page) -> None:
    levels = [int(element.tag[1]) for element in parsed.elements if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(element.attributes.get("scope") for element in parsed.all("th"))
    ids = [element.attributes["id"] for element in parsed.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in parsed.elements:
        for named in (element.attributes.get("aria-labelledby") or "").split():
            assert named in ids
        if element.tag == "a":
            assert (element.attributes["href"] or "")[1:] in ids
    pictures = parsed.all("svg")
    assert all(picture.attributes.get("role") == "img" for picture in pictures)
    for tag in ("title", "desc"):
        assert sum("svg" in element.inside and bool(element.text) for element in parsed.all(tag)) == len(pictures)
    assert all(
        "scroll" in (box.attributes.get("class") or "") for box in parsed.all("div") if "tabindex" in box.attributes
    )


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors, from 1 to 21, by the formula of WCAG 2.1."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def mixed(color: str, percent: int, page_colour: str) -> str:
    parts = [
        round(
            int(color[place : place + 2], 16) * percent / 100
            + int(page_colour[place : place + 2], 16) * (100 - percent) / 100
        )
        for place in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


def test_texts_have_enough_contrast_in_light_dark_and_print(parsed: Page) -> None:
    [style] = parsed.all("style")
    schemes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style.text, re.DOTALL)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        for ground in ("page", "raised"):
            for ink in ("text", "quiet", "accent", "wrong", "right"):
                assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground, scheme)
        for kind in ("right", "wrong"):
            for shade in map(int, re.findall(rf"\.{kind}\.s\d+ .*?--{kind}\) (\d+)%", style.text)):
                assert contrast(scheme["text"], mixed(scheme[kind], shade, scheme["page"])) >= 4.5, (
                    kind,
                    shade,
                    scheme,
                )


def test_long_texts_are_cut_with_a_note(results: Results) -> None:
    long = "head " + "<&>" * 350_000 + " tail"
    source = page(one_task(results, long))
    assert len(source) < 250_000
    text = " ".join(element.text for element in Page(source).all("pre"))
    assert f"[{len(long) - 4000:,} " in text
    assert text.count("head ") == 12
    assert "> tail" in text


def test_many_unreadable_rows_are_counted(results: Results) -> None:
    many = replace(results, tasks={}, unreadable=[Unreadable(line, "no JSON") for line in range(100_000)])
    source = page(many)
    assert source.count("no JSON") == 20
    assert "99,980" in source


def test_without_jinja_a_sentence_says_what_to_install(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    rendering._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install 'ecellm-lite\[eval\]'"):
        page(results)
    with pytest.raises(UsageError, match="jinja2"):
        page_module.check()


@pytest.fixture
def browser_folder() -> Iterator[Path]:
    # Not pytest's tmp_path: a browser's helpers may still write after it has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_a_browser_shows_the_page(source: str, browser_folder: Path, width: int, dark: bool) -> None:
    measured = (
        "const page = document.querySelector('iframe').contentDocument, root = page.documentElement;"
        "const wide = [...page.querySelectorAll('p, h1, h2, h3, pre, svg, .scroll, summary, li, dd')]"
        ".filter(element => element.getBoundingClientRect().right > root.clientWidth);"
        "document.title = [root.clientWidth, root.scrollWidth, wide.length, page.scripts.length,"
        "page.querySelectorAll('h2').length, page.defaultView.getComputedStyle(page.body).backgroundColor].join('|')"
    )
    # The page itself, with its own policy, in a frame of that width; the frame's owner measures it.
    frame = f'<iframe width="{width}" height="900" srcdoc="{html.escape(source)}"></iframe>'
    (browser_folder / "frame.html").write_text(
        f"<!DOCTYPE html><meta charset=utf-8>{frame}<script>onload = () => {{ {measured} }}</script>", "utf-8"
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --dump-dom"
    assert CHROMIUM is not None
    run = subprocess.run(
        [
            CHROMIUM,
            *flags.split(),
            f"--user-data-dir={browser_folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            (browser_folder / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", run.stdout)
    assert title, run.stderr[-2000:]
    client, scrolled, wide, scripts, headings, ground = title[1].split("|")
    assert int(client) > width - 30  # less a scroll bar
    assert (scrolled, wide, scripts) == (client, "0", "0")
    assert int(headings) == 13  # ten tasks, the overview, what was measured, and the lines of no task
    assert ground == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
