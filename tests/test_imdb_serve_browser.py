"""The page of `fastrnn-imdb serve` in a real browser."""

from __future__ import annotations

import pytest
import torch
from imdb_site import serving
from imdb_training import write_checkpoint

from fastrnn.imdb import server
from fastrnn.imdb.checkpoint import load_model
from fastrnn.imdb.reader import Reader

TEXT = "A superb film, witty and moving. Then awful, dull; unheard-of!"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    path = write_checkpoint(tmp_path_factory.mktemp("trained") / "best.pt")
    return Reader(load_model(path), torch.device("cpu"))


@pytest.fixture(scope="module")
def site(reader):
    with serving(reader) as address:
        yield address


@pytest.fixture
def page(browser_page, site):
    """The page, opened; it must bring all it needs, and its own rules must let all of it work."""
    complaints, asked = [], []
    browser_page.on("console", lambda message: complaints.append(message.text))
    browser_page.on("pageerror", lambda error: complaints.append(str(error)))
    browser_page.on("request", lambda request: asked.append(request.url))
    browser_page.goto(site)
    yield browser_page
    assert complaints == []
    assert {url for url in asked if not url.startswith("data:")} == {site}


def percent(probability):
    return f"{100 * probability:.1f} % positive"


def test_the_words_appear_as_one_types(page, reader):
    assert page.locator("#words").count() == 0
    page.locator("#text").press_sequentially(TEXT)
    page.locator("#words").get_by_text("of", exact=True).wait_for()
    wanted = reader.explain(TEXT)
    words = page.locator("#words span")
    assert words.all_inner_texts() == [step.word for step in wanted.steps]
    assert page.locator("#percent").inner_text() == percent(wanted.prediction.probability)
    assert page.locator("#verdict strong").inner_text().lower() == wanted.prediction.label
    unknown = page.locator("#words .unknown").all_inner_texts()
    assert unknown == [step.word for step in wanted.steps if step.state == "unknown"]
    assert "unheard" in unknown


def test_colours_follow_the_probability(page):
    page.fill("#text", "superb witty moving superb witty moving")
    page.locator("#words span").nth(5).wait_for()
    colour = "element => getComputedStyle(element).backgroundColor"
    blue = page.locator("#words span").last.evaluate(colour)
    page.fill("#text", "awful dull weak awful dull weak")
    page.get_by_text("awful", exact=True).first.wait_for()
    orange = page.locator("#words span").last.evaluate(colour)
    (r, _, b), (red, _, blue_part) = (
        [int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")]
        for text in (blue, orange)
    )
    assert b > r
    assert red > blue_part


def test_the_button_reads_what_the_form_holds(page):
    page.locator("#text").evaluate("element => { element.value = 'superb film' }")
    page.get_by_role("button", name="Read it").click()
    page.locator("#words span").nth(1).wait_for()
    assert page.url.endswith("/")
    assert page.input_value("#text") == "superb film"


def test_an_example_is_one_click(page):
    page.locator("#examples button").first.click()
    page.locator("#words span").first.wait_for()
    assert page.input_value("#text").startswith("A slow start")


def test_play_shows_one_word_after_another(page, reader):
    page.fill("#text", TEXT)
    page.locator("#words span").nth(10).wait_for()
    page.get_by_role("button", name="Play").click()
    page.locator("#words .later").first.wait_for()
    page.locator("#words span:not(.later)").nth(2).wait_for()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("button", name="Play").wait_for()  # at the end
    assert page.locator("#words .later").count() == 0
    last = reader.explain(TEXT).prediction.probability
    assert page.locator("#percent").inner_text() == percent(last)


def test_words_that_are_cut_off_are_struck_through(page):
    page.fill("#text", "first " + "film " * 20)
    page.locator("#words span").nth(19).wait_for()
    assert page.locator("#words del").all_inner_texts() == ["first"]
    assert "read 20 of 21 words" in page.locator("#result").inner_text()


def test_markup_does_nothing(page):
    page.fill("#text", "<img src=x onerror=alert(1)><script>alert(1)</script>")
    page.locator("#words span").first.wait_for()
    assert page.locator("#result img, #result script").count() == 0


def test_the_numbers_can_be_read_without_colours(page, reader):
    page.fill("#text", TEXT)
    page.locator("#words span").nth(10).wait_for()
    page.get_by_text("All numbers").click()
    rows = page.locator("table tbody tr")
    assert rows.count() == 1 + len(reader.explain(TEXT).steps)
    assert page.get_by_label("A film review").count() == 1
    assert page.locator("svg").get_attribute("aria-label").startswith("Probability of positive")


def test_a_screenshot_shows_the_curve_and_the_words(page, tmp_path):
    page.fill("#text", TEXT)
    page.locator("#words span").nth(10).wait_for()
    image = page.locator("#result").screenshot()
    assert image.startswith(b"\x89PNG")
    box = page.locator("svg").bounding_box()
    assert (box["width"] > 400, box["height"] > 80) == (True, True)
    # On a telephone nothing needs scrolling sideways.
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_text_that_is_too_long_is_explained(browser_page, site):
    browser_page.goto(site)
    long = "a" * (server.MAX_CHARACTERS + 1)
    browser_page.locator("#text").evaluate(
        "(element, text) => { element.removeAttribute('maxlength'); element.value = text }", long
    )
    browser_page.get_by_role("button", name="Read it").click()
    alert = browser_page.get_by_role("alert")
    assert alert.inner_text() == "a review may have 20,000 characters, this has 20,001"


def test_a_server_that_is_gone_is_told(browser_page, reader):
    with serving(reader) as site:
        browser_page.goto(site)
    browser_page.fill("#text", "film")
    browser_page.get_by_text("No answer").wait_for()


def test_without_scripts_the_form_still_works(browser, site, reader):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site)
    assert not page.get_by_role("button", name="Play").is_visible()
    page.fill("#text", TEXT)
    page.get_by_role("button", name="Read it").click()
    assert page.locator("#words span").count() == 11
    assert page.input_value("#text").strip() == TEXT
    context.close()
