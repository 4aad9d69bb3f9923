"""Makes the photos that the workflows open, workflows/samples/, from scikit-image's free ones: python -m scripts.pictures.samples

A photo has its hole in the alpha channel, as the mask editor saves it.
"""

from __future__ import annotations

import shutil
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from scripts.comfy_server import ROOT

SAMPLES = ROOT / "workflows" / "samples"
COIN = (241, 89, 301, 150)  # box of what the hole covers
GALAXY = (696, 442, 758, 504)
STAMP = (430, 356, 592, 392)
LOGO = (280, 16, 366, 44)


def main() -> None:
    shutil.rmtree(SAMPLES / "asuka_photos", ignore_errors=True)
    (SAMPLES / "asuka_photos").mkdir(parents=True)
    rocket = Image.open(ROOT / "demo" / "sample.jpg")
    save_with_hole(rocket, Image.open(ROOT / "demo" / "sample_mask.png").convert("L"), "asuka_rocket")
    coins, galaxies = (Image.fromarray(a).convert("RGB") for a in (data.coins(), data.hubble_deep_field()))
    save_with_hole(coins, ellipse(coins.size, COIN), "asuka_coins")
    save_with_hole(galaxies, ellipse(galaxies.size, GALAXY), "asuka_galaxies")
    coffee = Image.fromarray(data.coffee())
    coffee.save(SAMPLES / "asuka_coffee.webp", quality=80)
    stamped_photos([coffee, rocket.crop((0, 27, 600, 427)), Image.fromarray(data.chelsea()).resize((600, 400))])
    video(coffee)


def ellipse(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, 255)
    return mask


def save_with_hole(photo: Image.Image, mask: Image.Image, name: str) -> None:
    photo = photo.convert("RGB")
    photo.putalpha(mask.point(lambda value: 0 if value > 127 else 255))
    photo.save(SAMPLES / f"{name}.webp", quality=80, exact=True)  # keeps what is under the hole


def write(photo: Image.Image, box: tuple[int, int, int, int], text: str, colour: str) -> Image.Image:
    photo = photo.copy()
    middle = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    ImageDraw.Draw(photo).text(
        middle, text, colour, ImageFont.load_default(24), anchor="mm", stroke_width=1, stroke_fill="#402000"
    )
    return photo


def stamped_photos(photos: list[Image.Image]) -> None:
    """Photos of one size with a date in one place, and that place."""
    for i, photo in enumerate(photos, start=1):
        stamped = write(photo, STAMP, f"'98  7 {10 + i}", "#ff9a3c")
        stamped.save(SAMPLES / "asuka_photos" / f"{i}.webp", quality=80)
    mask = Image.new("L", photos[0].size)
    ImageDraw.Draw(mask).rectangle(STAMP, 255)
    mask.save(SAMPLES / "asuka_photos_mask.png")


def video(photo: Image.Image, size: tuple[int, int] = (384, 256), frames: int = 8, rate: int = 8) -> None:
    """A slow pan over a photo under a still logo, and its first frame with the logo as hole."""
    with av.open(str(SAMPLES / "asuka_video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "24"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            x, y = 16 * i, 8 * i
            frame = write(photo.crop((x, y, x + size[0], y + size[1])), LOGO, "ASUKA", "white")
            if i == 0:
                mask = Image.new("L", size)
                ImageDraw.Draw(mask).rectangle(LOGO, 255)
                save_with_hole(frame, mask, "asuka_video_mask")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame))))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
