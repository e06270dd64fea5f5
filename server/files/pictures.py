"""Draws pictures anew, so that nothing but what is seen is left of them: no places, cameras, comments, other files."""

from __future__ import annotations

import io
import warnings
from typing import Any

from PIL import Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError

from server.files.judged import NotTaken, write_all

MAX_PIXELS = 40_000_000  # as many as the cameras of phones take by themselves; 160 MB decoded
MAX_SIDE = 16_384
MAX_MOVING_PIXELS = 120_000_000  # of all frames of a moving picture together
MAX_FRAMES = 1000
PREVIEW = (640, 640)
QUALITY = 90
# What of a picture's own notes changes how it is seen.
SEEN = ("transparency", "duration", "loop", "background", "disposal", "blend")
SIMPLE_MODES = {"JPEG": ("L", "RGB"), "WEBP": ("RGB", "RGBA"), "PNG": ("1", "L", "LA", "P", "RGB", "RGBA")}
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I")  # more than eight bits of grey

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


def redraw(form: str, source: int, content: int, preview: int) -> dict[str, object]:
    """Write a picture and a small one of it; returns width, height. Raises NotTaken."""
    try:
        with open(source, "rb", closefd=False) as given, Image.open(given, formats=[form]) as picture:
            _require_bounded(picture)
            first = _write(picture, form, content)
            write_preview(first, preview)
            return {"width": first.width, "height": first.height}
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise NotTaken("file_too_demanding") from None
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, UnidentifiedImageError) as e:
        raise NotTaken("file_broken") from e


def write_preview(picture: Image.Image, preview: int) -> None:
    """Write a small picture, as WebP."""
    small = picture.convert("RGBA" if _has_alpha(picture) else "RGB")
    small.thumbnail(PREVIEW)
    _save(small, preview, "WEBP", quality=80)


def _require_bounded(picture: Image.Image) -> None:
    frames = getattr(picture, "n_frames", 1) if getattr(picture, "is_animated", False) else 1
    pixels = picture.width * picture.height
    if max(picture.size) > MAX_SIDE or pixels > MAX_PIXELS or frames > MAX_FRAMES:
        raise NotTaken("file_too_demanding")
    if frames > 1 and frames * pixels > MAX_MOVING_PIXELS:
        raise NotTaken("file_too_demanding")


def _write(picture: Image.Image, form: str, content: int) -> Image.Image:
    """Write a picture, all its frames; returns the first."""
    if getattr(picture, "is_animated", False):
        frames = [_plain(frame.copy()) for frame in ImageSequence.Iterator(picture)]
        durations = [int(frame.info.get("duration", 100)) for frame in frames]
        more: dict[str, Any] = {"append_images": frames[1:], "duration": durations, "loop": picture.info.get("loop", 0)}
        _save(frames[0], content, form, save_all=True, **more)
        return frames[0]
    drawn = _plain(_in_eight_bits(ImageOps.exif_transpose(_in_standard_colours(picture))))
    modes = SIMPLE_MODES.get(form, (drawn.mode,))
    if drawn.mode not in modes:
        drawn = _plain(drawn.convert("RGBA" if _has_alpha(drawn) and "RGBA" in modes else "RGB"))
    _save(drawn, content, form, **({} if form in ("PNG", "GIF") else {"quality": QUALITY}))
    return drawn


def _in_standard_colours(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "CMYK", "L"):
        return picture
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(picture, theirs, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture  # a profile that is broken changes nothing
    if shown is None:
        return picture
    shown.info["exif"] = picture.info.get("exif", b"")  # says which way is up; `_plain` drops it
    return shown


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode not in DEEP_MODES:
        return picture
    return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")


def _plain(picture: Image.Image) -> Image.Image:
    picture.load()
    picture.info = {name: picture.info[name] for name in SEEN if name in picture.info}
    return picture


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def _save(picture: Image.Image, descriptor: int, form: str, **how: Any) -> None:
    made = io.BytesIO()
    picture.save(made, form, **how)
    write_all(descriptor, made.getbuffer())
