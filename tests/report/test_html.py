"""reports/index.html: what is in it, and what a browser makes of it."""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.measure.records import Records
from stages.report.catalogue import label
from stages.report.claims import judge_all
from stages.report.findings import find
from stages.report.html.page import page
from tests.made_records import Made, around, as_in_the_paper, make

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def records() -> Records:
    made = as_in_the_paper() | {"mine": Made(around(190))}
    made["stacked_vae"] = Made([float("inf"), 421.0, 430.0])
    return make(made, {"recursive": Made([2000.0])})


@pytest.fixture(scope="module")
def text(records: Records) -> str:
    return page(records, find(records))


def data(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return dict(json.loads(found))


def pixels(uri: str) -> np.ndarray:
    encoded = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_pictures_and_their_errors_are_the_records(records: Records, text: str) -> None:
    faces = data(text)["faces"]
    for uri, face in zip(faces["inputs"], records.references.inputs, strict=True):
        np.testing.assert_array_equal(pixels(uri), face)
    for model, record in records.found.items():
        if model[1:] != ("described", "averaged"):
            continue
        shown = faces["models"][model.variant]
        for number, face in enumerate(record.reconstructions):
            np.testing.assert_array_equal(pixels(shown["pictures"][number]), face)
            difference = face / 255 - records.references.inputs[number] / 255
            assert shown["errors"][number] == pytest.approx((difference**2).sum(), abs=0.5)


def test_every_model_has_a_row_of_numbers(records: Records, text: str) -> None:
    (table,) = re.findall(r'<table id="table1">.*?</table>', text, re.S)
    head, body = table.split("<tbody>")
    columns = re.findall(r"<button>(.*?)</button>", head)
    lines = body.strip().splitlines()[:-2]
    assert len(lines) == len(records.found)
    for line in lines:
        row = dict(zip(columns, re.findall(r'data-key="([^"]*)"', line), strict=True))
        (record,) = (
            record
            for model, record in records.found.items()
            if model[1:] == (row["implementation"], row["weights"])
            and f">{label(model.variant)}<" in line
        )
        errors = record.per_seed("error").value.drop(list(record.diverged))
        assert float(row["error"]) == pytest.approx(errors.mean())
        assert float(row["seeds"]) == len(errors)
        assert float(row["diverged"]) == len(record.diverged)
        assert float(row["SSIM"]) == pytest.approx(record.per_seed("ssim").value.mean())


def section(text: str, name: str) -> str:
    return text.partition(f'<section id="{name}"')[2].partition("</section>")[0]


def test_every_claim_has_its_verdict_and_evidence(records: Records, text: str) -> None:
    claims = re.findall(r"<details>.*?</details>", section(text, "claims"), re.S)
    for told, judgement in zip(claims, judge_all(records)["averaged"], strict=True):
        assert f"averaged: <b>{judgement.verdict}</b>" in told
        for finding in judgement.described:
            assert f"<b>{finding.answer}</b>: {finding.evidence}" in told


def test_it_opens_with_what_was_found(text: str) -> None:
    found = section(text, "found")
    assert "<td>2</td><td>0.926 (0.88" in found and found.count("<li>") == 1
    assert found.count("<img src=") == 3 and found.count("<svg") == 2
    assert text.index('id="found"') < text.index('id="claims"') < text.index('id="faces"')
    told = text.partition('id="claims"')[2]
    assert told.count("The error of recursive is 0.926 times (") == 1


def test_nothing_is_fetched(text: str) -> None:
    assert re.findall(r"<(?:link|iframe|script[^>]* src)\b", text) == []
    assert set(re.findall(r'(?:href|src)="(?!#|data:)([^"]*)"', text)) == {"./"}
    assert "default-src 'none'" in text


def test_it_stays_small_whatever_the_pictures(records: Records) -> None:
    rng = np.random.default_rng(0)
    found = {
        model: replace(one, reconstructions=rng.integers(0, 256, one.reconstructions.shape, "u1"))
        for model, one in records.found.items()
    }
    noise = replace(records, found=found)
    assert len(page(noise, find(records)).encode()) < 5 * MEGABYTE


@pytest.fixture
def browser(text: str, tmp_path: Path) -> Iterator[Any]:
    """The page, open in Chromium."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    from selenium import webdriver

    path = tmp_path / "index.html"
    path.write_text(text, encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-component-update")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_argument("--window-size=1200,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        found.get(path.as_uri())
        yield found
        said = [line["message"] for line in found.get_log("browser")]
        # A test that looks at a canvas more than once is told how that would be faster.
        assert [message for message in said if "Multiple readback" not in message] == []
        sent = [
            event["params"]["request"]["url"]
            for line in found.get_log("performance")
            for event in [json.loads(line["message"])["message"]]
            if event["method"] == "Network.requestWillBeSent"
            and event["params"]["documentURL"] == path.as_uri()  # not the page it starts with
        ]
        assert {url for url in sent if not url.startswith("data:")} == {path.as_uri()}
    finally:
        found.quit()


class Visitor:
    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        element = self.one(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, selector: str, key: str) -> None:
        self.one(selector).send_keys(key)

    def script(self, code: str) -> Any:
        return self.browser.execute_script(f"return {code}")

    def wait(self, code: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 20).until(lambda _: self.script(code), code)


@pytest.mark.slow
def test_a_visitor_compares_faces(browser: Any, text: str) -> None:
    visitor, faces = Visitor(browser), data(text)["faces"]
    captions = (
        "[...document.querySelectorAll('#pictures figcaption')].map(c => c.firstChild.textContent)"
    )
    assert visitor.script(captions) == [
        "original",
        "stacked",
        "recursive",
        "recursive, shared norm",
    ]
    visitor.click("[name=model][value=stacked_bn]")
    assert visitor.script(captions) == [
        "original",
        "stacked, batch norm",
        *("stacked", "recursive", "recursive, shared norm"),
    ]
    assert not visitor.one("[name=model][value=recursive_bn]").is_enabled()
    visitor.click("[name=model][value=stacked_bn]")
    visitor.press("[name=face]:checked", "\ue014")  # arrow right
    sources = "[...document.querySelectorAll('#pictures img')].map(i => i.src)"
    names = ("stacked", "recursive", "recursive_shared_bn")
    shown = [faces["inputs"][1], *(faces["models"][name]["pictures"][1] for name in names)]
    assert visitor.script(sources) == shown
    assert all(image.get_attribute("alt") for image in visitor.all("img"))

    assert not visitor.one("#scale").is_displayed()
    visitor.click("#show-difference")
    assert visitor.one("#scale").is_displayed()
    pixel = "document.querySelector('canvas').getContext('2d').getImageData(5, 5, 1, 1).data[0]"
    before, after = (int(pixels(uri)[5, 5, 0]) for uri in shown[:2])
    expected = int(np.clip(128 + 4 * (after - before), 0, 255))
    visitor.wait(f"{pixel} === {expected}")

    flip = "document.querySelector('#flip img').src"
    assert visitor.script(flip) == shown[0]
    visitor.click("#flip")
    assert visitor.script(flip) == shown[1]
    visitor.press("#flip", " ")
    assert visitor.script(flip) == shown[0]


@pytest.mark.slow
def test_a_visitor_sorts_and_unfolds(browser: Any) -> None:
    visitor = Visitor(browser)
    errors = "[...document.querySelectorAll('#table1 tbody tr')].map(r => r.cells[5].dataset.key)"
    in_order = visitor.script(errors)
    visitor.click("#table1 th:nth-child(6) button")
    numbers = [float(key) for key in in_order if key]
    rising = [float(key) for key in visitor.script(errors) if key]
    assert rising == sorted(numbers) != numbers
    assert visitor.one("#table1 th:nth-child(6)").get_attribute("aria-sort") == "ascending"
    visitor.press("#table1 th:nth-child(6) button", "\n")
    assert [float(key) for key in visitor.script(errors) if key] == sorted(numbers)[::-1]
    visitor.click("#table1 th:nth-child(1) button")
    assert visitor.script(errors) == in_order

    assert not visitor.one("#claims details td").is_displayed()
    visitor.press("#claims summary", "\n")
    assert visitor.one("#claims details td").is_displayed()


@pytest.mark.slow
def test_a_visitor_toggles_curves(browser: Any) -> None:
    visitor = Visitor(browser)
    drawn = "chart.series.slice(1).filter(s => s.show).length / 3"
    buttons = visitor.all("#legend button")
    assert len(buttons) == visitor.script("series.length")
    assert visitor.script(drawn) == 3
    looks = visitor.script("series.filter(s => s.shown).map(s => s.colour)")
    assert len({*looks}) == 3
    shown = "chart.data.filter((_, i) => i && chart.series[i].show).flat()"
    top, highest = visitor.script(f"[chart.scales.y.max, Math.max(...{shown})]")
    assert top < highest, "the first epochs may lie above"
    visitor.click("#all")
    assert visitor.script(drawn) == len(buttons)
    visitor.click("#legend button")
    assert visitor.script(drawn) == len(buttons) - 1
    assert buttons[0].get_attribute("aria-pressed") == "false"
    last = "chart.data[1].at(-1)"
    before = visitor.script(last)
    visitor.click("[name=weights][value=last_step]")
    assert visitor.script(drawn) == len(buttons) - 1
    visitor.click("#none")
    visitor.press("#legend button", " ")
    assert visitor.script(drawn) == 1
    assert visitor.script(last) == before, "made with the same curve for both weights"


@pytest.mark.slow
def test_five_pictures_stand_side_by_side(browser: Any) -> None:
    size = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.refresh()
    visitor = Visitor(browser)
    visitor.click("[name=model][value=stacked_bn]")
    tops = "[...document.querySelectorAll('#pictures img')].map(i => i.getBoundingClientRect().top)"
    assert len(visitor.script(tops)) == 5 and len({*visitor.script(tops)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_down_alone(browser: Any, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.refresh()
    visitor = Visitor(browser)
    assert visitor.script("document.documentElement.scrollWidth") <= width
    visitor.wait(f"chart.width <= {width}")
    top = "document.querySelector({!r}).getBoundingClientRect().top".format
    assert visitor.script(f"{top('#pictures')} < {top('#faces .chips')}")
    scrolls = "getComputedStyle(document.querySelector('#table .wide'), '::before').content"
    assert "scrolls" in visitor.script(scrolls)
