"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import json
import shutil
import zipfile
from collections.abc import Iterator

import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
PATIENCE = 90_000  # milliseconds, for a busy machine
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address) -> Iterator:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    button(page, "Draw").wait_for()
    yield page
    context.close()


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def more(page) -> None:
    """Opens the tab's further options."""
    page.get_by_text("More", exact=True).locator("visible=true").click()


def draw(page) -> None:
    button(page, "Draw").click()
    page.get_by_text("drawn, seeds from").wait_for()


def paint(page) -> None:
    """A stroke through the middle of the editor."""
    page.get_by_role("tab", name="Edit").click()
    button(page, "Take the last sample").locator("visible=true").click()
    page.locator("#editor canvas").first.wait_for()
    page.wait_for_timeout(1500)
    box = page.locator("#editor").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)


def test_pictures_appear_scale_by_scale(page, screenshots) -> None:
    page.evaluate(
        """() => {
            window.seen = new Set();
            const summary = document.querySelector('#drawn-summary');
            new MutationObserver(() => window.seen.add(summary.innerText.trim()))
                .observe(summary, {childList: true, subtree: true, characterData: true});
        }"""
    )
    draw(page)
    seen = page.evaluate("() => [...window.seen]")
    assert len([summary for summary in seen if summary.startswith("scale")]) > 1
    assert page.locator("#drawn img").count() == 10
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / "draw.png", full_page=True)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download images and command").or_(
            button(page, "Download images and command")
        ).first.click()
    assert "repeat.json" in zipfile.ZipFile(download.value.path()).namelist()


def test_a_painted_hole_is_filled(page, screenshots) -> None:
    draw(page)
    paint(page)
    button(page, "Edit").click()
    page.get_by_text("likeliest first").wait_for()
    assert page.locator("#edits img").count() == 4
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / "edit.png", full_page=True)


def test_the_inside_of_a_sample(page, screenshots) -> None:
    draw(page)
    page.get_by_role("tab", name="Look inside").click()
    button(page, "Take the last sample").locator("visible=true").click()
    page.locator("#inside-image img").wait_for()
    button(page, "Look inside").click()
    page.locator("#tiles img").nth(5).wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / "inside.png", full_page=True)


def test_a_file_is_uploaded(page, tmp_path) -> None:
    file = tmp_path / "mine.png"
    Image.effect_noise((40, 40), 60).save(file)
    page.get_by_role("tab", name="Look inside").click()
    page.locator("#inside-image input[type=file]").set_input_files(file)
    page.locator("#inside-image img").wait_for()
    button(page, "Look inside").click()
    page.locator("#tiles img").nth(5).wait_for()


def test_a_long_job_stops(page) -> None:
    draw(page)
    paint(page)
    page.get_by_label("Continue beyond the sides").check()
    more(page)
    page.get_by_label("Continue: pixels left").fill("200 200 200 200")
    button(page, "Edit").click()
    page.wait_for_timeout(1500)
    page.locator("#stop-edit").click()
    page.get_by_role("tab", name="Draw").click()
    page.locator("#drawn-summary").get_by_text("drawn, seeds from").wait_for()
    page.evaluate("() => { document.querySelector('#drawn-summary').dataset.old = 'yes' }")
    more(page)
    page.get_by_label("Seed", exact=False).locator("visible=true").first.fill("77")
    page.keyboard.press("Tab")  # the control takes a number when it is left
    button(page, "Draw").click()
    page.get_by_text("seeds from 77").wait_for()


def test_bad_input_is_told_on_the_page(page) -> None:
    page.get_by_role("tab", name="Edit").click()
    button(page, "Edit").click()
    page.get_by_text("there is no image; upload one").wait_for()
    page.get_by_role("tab", name="Draw").click()
    draw(page)


def test_an_example_to_start_from(page) -> None:
    page.get_by_role("tab", name="Edit").click()
    button(page, "Take an example").locator("visible=true").click()
    page.locator("#editor canvas").first.wait_for()
    page.wait_for_timeout(1500)
    button(page, "Edit").click()
    page.get_by_text("likeliest first").wait_for()
    page.get_by_role("tab", name="Look inside").click()
    button(page, "Take an example").locator("visible=true").click()
    page.locator("#inside-image img").wait_for()
    button(page, "Look inside").click()
    page.locator("#tiles img").nth(5).wait_for()


def test_mean_scales_have_a_control(page) -> None:
    more(page)
    page.get_by_label("Mean scales").locator("visible=true").first.fill("6")
    page.keyboard.press("Tab")  # the control takes a number when it is left
    button(page, "Draw").click()
    page.get_by_text("drawn, seeds from").wait_for()
    with page.expect_download() as download:
        page.locator("#drawn-archive").click()
    archive = zipfile.ZipFile(download.value.path())
    assert "--mean-scales 6" in json.loads(archive.read("repeat.json"))["command"]


def test_on_a_phone_results_follow_their_button(browser, address, screenshots) -> None:
    context = browser.new_context(viewport={"width": 375, "height": 812})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    button(page, "Draw").wait_for()
    page.wait_for_timeout(500)
    assert page.locator("#draw").bounding_box()["y"] < 812  # without scrolling
    draw(page)
    for name, result in (("draw", "drawn"), ("edit", "edits")):
        if name == "edit":
            page.get_by_role("tab", name="Edit").click()
        go = page.locator(f"#{name}").bounding_box()
        gallery = page.locator(f"#{result}").bounding_box()
        assert 0 < gallery["y"] - go["y"] - go["height"] < 60
        assert page.locator(f"#stop-{name}").bounding_box()["y"] == go["y"]
        page.screenshot(path=screenshots / f"phone_{name}.png", full_page=True)
    page.get_by_role("tab", name="Draw").click()
    images = page.locator("#drawn img")
    ends = [box["x"] + box["width"] for box in (image.bounding_box() for image in images.all())]
    assert max(ends) <= 375 - 20
    context.close()


def test_on_a_phone_in_the_dark_by_keyboard(browser, address, screenshots) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    button(page, "Draw").focus()
    page.keyboard.press("Enter")
    page.get_by_text("drawn, seeds from").wait_for()
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 390
    shot = screenshots / "phone.png"
    page.wait_for_timeout(500)
    page.screenshot(path=shot, full_page=True)
    assert sum(Image.open(shot).convert("RGB").getpixel((3, 400))) < 150
    context.close()
