"""Every page and state at the width of a phone and of a desk, light and dark: reachable, readable, and by keyboard."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.browser.test_stories import watching
from tests.browser.visitors import DESKTOP, PHONE, Theatre, Visitor

AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
VIOLATIONS = """
  const ofColours = {runOnly: ['color-contrast', 'link-in-text-block']};
  const rules = values[0] === 'dark' ? ofColours : {};  // all others said of the light page what they have to say
  const found = await axe.run(document, {resultTypes: ['violations'], ...rules});
  return found.violations.filter(({impact}) => ['serious', 'critical'].includes(impact))
    .map(({id, nodes}) => `${id}: ${nodes.map(({target, any}) => target + ' ' + (any[0]?.message ?? '')).join(' | ')}`);
"""
# What sticks out to the side, and controls that can't be scrolled to or are too small for a finger.
OUT_OF_REACH = """
  const wide = document.documentElement.scrollWidth, width = document.documentElement.clientWidth;
  const problems = wide > width ? [`the page is ${wide} px wide`] : [];
  for (const control of document.querySelectorAll('a, button, input, select, textarea, summary')) {
    if (!control.checkVisibility({visibilityProperty: true}) || control.closest('.skip, .tabs')) continue;
    const {left, right, width: w, height: h} = control.getBoundingClientRect();
    const name = control.id || control.name || control.textContent;
    if (left < -1 || right > width + 1) problems.push(`${name} reaches from ${left} to ${right}`);
    const target = control.closest('label') ?? control;
    if (target.getBoundingClientRect().height < 24) problems.push(`${name} is ${h} px high`);
  }
  return problems;
"""
# Waits until the page is laid out and painted anew, and nothing moves any more that comes to an end.
ARRIVED = """
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
  const ending = document.getAnimations().filter(each => each.effect.getComputedTiming().iterations !== Infinity);
  await Promise.all(ending.map(each => each.finished.catch(() => {})));
"""


async def look(visitor: Visitor, name: str) -> list[str]:
    """Return what is wrong with the page as it is; leaves screenshots."""
    wrong: list[str] = []
    if not await visitor.page.run("return 'axe' in window"):
        await visitor.page.evaluate(await trio.Path(AXE).read_text())
    for scheme in ("light", "dark"):
        await visitor.page.run("document.documentElement.style.colorScheme = values[0]", scheme)
        for size in (PHONE, DESKTOP):
            await visitor.page.resize(*size)
            await visitor.page.run(ARRIVED)
            wrong += [f"{name} {scheme} {size[0]}: {fault}" for fault in await visitor.page.run(VIOLATIONS, scheme)]
            if size == PHONE and scheme == "light":
                wrong += [f"{name}: {fault}" for fault in await visitor.page.run(OUT_OF_REACH)]
            await visitor.keep_picture(f"{name}-{scheme}-{size[0]}")
    await visitor.page.run("document.documentElement.style.colorScheme = ''")
    return wrong


async def test_every_page_is_readable_and_reachable_on_a_phone_and_on_a_desk(theatre: Theatre) -> None:
    wrong: list[str] = []
    stranger = await theatre.stranger("chromium")
    await stranger.page.open(f"{stranger.url}/")
    await stranger.sees("#welcome")
    wrong += await look(stranger, "welcome")
    await stranger.page.open(f"{stranger.url}/account")
    await stranger.sees("#account-form")
    await stranger.fill("[name=name]", "nobody")
    await stranger.fill("[name=password]", "not the password")
    await stranger.press("#submit")
    await stranger.sees("#fault", "Name and password don't belong together")
    wrong += await look(stranger, "log-in")

    streamer = await theatre.visitor("chromium", await theatre.person("looks-ann"))
    await streamer.page.open(f"{streamer.url}/live")
    await streamer.sees("#go", "Go live")
    wrong += await look(streamer, "go-live")
    stream = await streamer.go_live("An evening with music", source="test")
    viewer = await watching(theatre, "chromium", "looks-bob", stream)
    await viewer.fill("#chat-input", "Good evening")
    await viewer.press("#chat-send")
    await viewer.press("#ask")
    await viewer.sees_moving_picture("#ask-preview")
    wrong += await look(viewer, "ask")
    await viewer.press("#ask-send")
    await viewer.sees("#asked")
    wrong += await look(viewer, "watch")
    await streamer.sees("#requests", "looks-bob asks")
    wrong += await look(streamer, "studio")
    await streamer.press("#modes [value=paid]")
    await streamer.sees("#mode-dialog", "would have to leave")
    wrong += await look(streamer, "switch")
    await streamer.press("#mode-cancel")
    await streamer.press("#requests .accept")
    await viewer.sees("#turn-dialog", "looks-ann is ready for your one-to-one")
    wrong += await look(viewer, "turn")
    await viewer.press("#turn-come")
    await viewer.sees("#call-bar", "only the two of you")
    wrong += await look(viewer, "call-guest")
    wrong += await look(streamer, "call-streamer")
    other = await theatre.visitor("chromium", await theatre.person("looks-eve"))
    await other.watch(stream)
    await other.sees("#slate", "In a one-to-one")
    wrong += await look(other, "call-others")
    await other.page.open(f"{other.url}/")
    await other.sees("#streams", "An evening with music")
    wrong += await look(other, "directory")
    assert not wrong, "\n".join(wrong)


async def focus(visitor: Visitor) -> str:
    return str(await visitor.page.run("const at = document.activeElement; return at.id || at.name || at.textContent"))


async def tab_to(visitor: Visitor, wanted: str) -> None:
    """Press Tab until the focus is where it is wanted; fails after going round."""
    for _ in range(60):
        if await focus(visitor) == wanted:
            return
        await visitor.page.press("Tab")
    raise AssertionError(f"Tab never reaches {wanted}")


async def test_a_whole_evening_goes_by_keyboard_alone(theatre: Theatre) -> None:
    streamer = await theatre.visitor("chromium", await theatre.person("keys-ann"))
    await streamer.page.open(f"{streamer.url}/live")
    await streamer.page.front()
    await tab_to(streamer, "title-field")
    await streamer.page.press("By keyboard")
    await tab_to(streamer, "go")
    await streamer.page.press("Enter")
    await streamer.sees("#sending", "On air")
    stream = str(await streamer.page.run("return document.querySelector('#watch-link').href")).partition("stream=")[2]

    viewer = await watching(theatre, "chromium", "keys-bob", stream)
    await viewer.page.front()
    await tab_to(viewer, "ask")
    await viewer.page.press("Enter")
    await viewer.sees_moving_picture("#ask-preview")
    await viewer.page.press("Escape")
    await viewer.sees_no("#ask-dialog")
    assert await focus(viewer) == "ask"  # back where it was
    await tab_to(viewer, "chat-input")
    await viewer.page.press("Hello by keyboard", "Enter")

    await streamer.page.front()
    await streamer.sees("#chat-list", "Hello by keyboard")
    await tab_to(streamer, "Private")
    await streamer.page.press("Enter")
    await streamer.sees("#mode-dialog", "keys-bob")
    await tab_to(streamer, "mode-confirm")
    await streamer.page.press("Enter")
    await viewer.sees("#slate", "A private stream")
    await tab_to(streamer, "end-stream")
    await streamer.page.press("Enter")
    await tab_to(streamer, "end-confirm")
    await streamer.page.press("Enter")
    await streamer.sees("#over", "The streamer has ended it")
