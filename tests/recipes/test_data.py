"""Samples depend on seed and index alone; broken files are survived."""

import gc
import gzip
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageOps
from sklearn.utils import Bunch
from torch.utils.data import DataLoader

from training.data import (
    AugmentedImages,
    DataConfig,
    Photos,
    decode_photo,
    find_photos,
    problem,
    random_crop,
    sources,
    to_float,
    write_shard,
)
from training.data.sources import Shards, expand, open_source
from training.engine.config import ConfigError

ROOT = Path(__file__).parents[2]


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_sample_does_not_depend_on_what_was_drawn_before(photos):
    config = DataConfig(folders=(str(photos),), size=32, scale=(0.5, 1.0))
    forward, backward = Photos(config, 7), Photos(config, 7)
    expected = [forward[i] for i in range(12)]
    found = [backward[i] for i in reversed(range(12))][::-1]
    assert all(map(equal, expected, found))
    assert not equal(Photos(config, 8)[0], expected[0])


def test_tone_raises_a_view_to_one_power(photos):
    config = DataConfig(folders=(str(photos),), size=32)
    plain, toned = (
        Photos(replace(config, tone=tone), 0) for tone in (1e-9, 0.7)
    )  # without any, photos are read smaller
    powers = []
    for i in range(8):
        a, b = (to_float(dataset[i])["image"].flatten().sort().values for dataset in (plain, toned))
        middle = (a > 0.3) & (a < 0.8) & (b > 0.1)
        power = b[middle].log() / a[middle].log()
        powers.append(float(power.median()))
        assert (power / powers[-1] - 1).abs().max() < 0.1  # rounding to 255 levels, and resizing afterwards
    assert 0.49 < min(powers) < 0.9 < 1.1 < max(powers) < 2.02


def test_brightened_dark_views_are_as_smooth_as_others():
    """A ramp of the levels 0 to 7, enlarged: brightened afterwards these would be 8 flat bands far apart."""
    ramp = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None], 8, 0).repeat(3, 2)
    config = DataConfig(folders=(), size=256, tone=1.0)
    views = [random_crop(ramp, config, np.random.default_rng(seed)) for seed in range(20)]
    brightest = max(views, key=np.mean)
    assert brightest.max() > 30
    assert np.abs(np.diff(brightest[128, :, 0].astype(int))).max() <= 3


def test_every_photo_is_seen_once_an_epoch(photos):
    dataset = Photos(DataConfig(folders=(str(photos),), size=8), 0)
    dataset.read = lambda i: np.full((8, 8, 3), i, np.uint8)
    for epoch in range(3):
        seen = sorted(int(dataset[4 * epoch + i]["image"][0, 0, 0]) for i in range(4))
        assert seen == [0, 1, 2, 3]


def test_unreadable_photo_is_named_and_replaced(photos, tmp_path, caplog):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "broken.jpg").write_bytes((folder / "coffee.jpg").read_bytes()[:100])
    dataset = Photos(DataConfig(folders=(str(folder),), size=16), 0)
    with caplog.at_level(logging.WARNING):
        samples = [dataset[i] for i in range(len(dataset.source))]
    assert all(sample["image"].shape == (3, 16, 16) for sample in samples)
    message = f"{folder / 'broken.jpg'}: not a readable image, skipped (1 so far)"
    assert [record.getMessage() for record in caplog.records] == [message]


def test_photo_that_claims_too_many_pixels_is_unreadable(photos):
    """OpenCV throws for it, where it gives None for other damage."""
    png = bytearray(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    png[16:24] = (100_000).to_bytes(4, "big") * 2  # width and height, in the header
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    assert decode_photo(bytes(png)) is None


def test_pipe_is_not_waited_for(photos, tmp_path, caplog):
    folder = shutil.copytree(photos, tmp_path / "photos")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    dataset = Photos(DataConfig(folders=(str(folder),), size=16), 0)
    assert all(dataset[i]["image"].shape == (3, 16, 16) for i in range(6))
    assert len(caplog.messages) == 2
    assert all("empty, or not readable, skipped" in message for message in caplog.messages)


def test_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no images"):
        Photos(DataConfig(folders=(str(tmp_path),)), 0)


def pack_twins(path: Path, pictures: dict[bytes, bytes]) -> None:
    """A shard of twins by the photos that they belong to, as another program would write it."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for photo, picture in pictures.items():
            member = tarfile.TarInfo(f"{hashlib.sha256(photo).hexdigest()[:20]}.jpg")
            member.size = len(picture)
            tar.addfile(member, io.BytesIO(picture))


@pytest.fixture
def twins(photos, tmp_path) -> Path:
    """Every photo as its own twin, in two shards."""
    pictures = [path.read_bytes() for path in find_photos((str(photos),))]
    for i, some in enumerate((pictures[:3], pictures[3:])):
        pack_twins(tmp_path / "twins" / f"twins-0000-{i:05d}.tar", {picture: picture for picture in some})
    return tmp_path / "twins"


def test_every_twin_is_found_by_its_photo(tmp_path):
    """Also where its key ends in zero bytes, as one of 256 does."""
    photos = [f"photo {i}".encode() for i in range(600)]
    assert any(hashlib.sha256(photo).digest()[9] == 0 for photo in photos)
    for i in range(3):
        pack_twins(tmp_path / f"twins-{i:04d}-00000.tar", {photo: photo * (1 + i) for photo in photos[i::3]})
    twins = AugmentedImages(tmp_path)
    assert len(twins) == 600
    assert [twins.of(photo) for photo in photos] == [photo * (1 + i % 3) for i, photo in enumerate(photos)]
    assert twins.of(b"another photo") is None


def test_shards_of_twins_are_numbered_on_and_never_written_over(tmp_path):
    for i in range(3):
        write_shard(tmp_path, 7, [(bytes(9) + bytes([i]), b"picture")])
    (tmp_path / "twins-0007-00001.tar").unlink()
    write_shard(tmp_path, 7, [(bytes(10), b"picture")])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"twins-0007-{i:05d}.tar" for i in (0, 2, 3)]
    with pytest.raises(TypeError):
        write_shard(tmp_path, 8, [(bytes(10), b"picture"), (bytes(10), None)])
    assert not list(tmp_path.glob("twins-0008-*.tar"))  # which would be half of one
    assert len(list(tmp_path.iterdir())) == 3  # nor what is left of one


def test_damaged_shard_of_twins_is_named_and_skipped(photos, twins, caplog):
    damaged = twins / "twins-0000-00000.tar"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    assert len(AugmentedImages(twins)) == 1
    assert f"{damaged}: no readable tar file, skipped" in caplog.text


@pytest.mark.parametrize("views", [{"native": True}, {"scale": (0.3, 0.9)}, {"scale": (0.01, 0.1)}])
def test_augmented_twin_is_cut_like_the_photo(photos, twins, views):
    """Every view of both is the same, also where it shrinks by any factor."""
    config = DataConfig(folders=(str(photos),), size=32, augmented=str(twins), **views)
    for i in range(8):
        sample = Photos(config, 0)[i]
        assert torch.equal(sample["image"], sample["augmented"])


def test_photos_may_move_away_from_their_twins(photos, twins, tmp_path, shards):
    """And photos of the same name, as Places365 has them, are told apart."""
    moved = shutil.copytree(photos, tmp_path / "moved" / "deeper")
    for folder in (str(moved), str(shards / "photos-{00..01}.tar")):
        dataset = Photos(DataConfig(folders=(folder,), size=32, augmented=str(twins)), 0)
        assert all("augmented" in dataset[i] for i in range(4))
    shutil.copy(photos / "coffee.jpg", moved / "rocket.jpg")
    sample = Photos(DataConfig(folders=(str(moved),), size=32, augmented=str(twins)), 0)
    for i in range(4):
        assert torch.equal(sample[i]["image"], sample[i]["augmented"])


def test_missing_twins_are_told(photos, tmp_path, caplog):
    twins, pictures = tmp_path / "twins", [(photos / f"{name}.jpg").read_bytes() for name in ("astronaut", "chelsea")]
    another_size = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    coffee = (photos / "coffee.jpg").read_bytes()
    pack_twins(twins / "twins-0000-00000.tar", {picture: picture for picture in pictures} | {coffee: another_size})
    dataset = Photos(DataConfig(folders=(str(photos),), size=32, augmented=str(twins)), 0)
    found = ["augmented" in dataset[i] for i in range(4)]
    assert sum(found) == 2
    assert len(caplog.records) == 1
    assert f"no latent-augmented copy in {twins} (1 photos so far), used as it is" in caplog.text


def test_missing_folder_of_twins_is_an_error(photos, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no augmented copies there; make them with training\.latent_augment"):
        Photos(DataConfig(folders=(str(photos),), augmented=str(tmp_path / "twins")), 0)


def pack(path: Path, names: list[Path]) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.add(name, name.name)
            tar.addfile(tarfile.TarInfo(f"{name.stem}.json"))  # WebDataset keeps labels beside the photos


@pytest.fixture
def shards(photos, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ASUKA_CACHE", str(tmp_path / "cache"))
    files = sorted(photos.iterdir())
    folder = tmp_path / "shards"
    folder.mkdir()
    pack(folder / "photos-00.tar", files[:3])
    pack(folder / "photos-01.tar", files[3:])
    return folder


def test_shards_hold_the_same_photos_as_the_folder(photos, shards):
    files, tars = open_source((str(photos),)), open_source((str(shards / "photos-{00..01}.tar"),))
    assert len(tars) == len(files) == 4
    for i in range(4):
        assert tars.data(i) == files.data(i)
        assert tars.name(i).endswith(Path(files.name(i)).name)
    for seed in range(3):
        assert sorted(tars.order(np.random.default_rng(seed))) == [0, 1, 2, 3]


def test_shard_that_is_written_anew_is_indexed_anew(photos, shards):
    files = find_photos((str(photos),))
    open_source((str(shards / "photos-00.tar"),))
    pack(shards / "photos-00.tar", files[1:3])
    tars = open_source((str(shards / "photos-00.tar"),))
    assert [Path(tars.name(i)).name for i in range(len(tars))] == [file.name for file in files[1:3]]
    assert tars.data(0) == files[1].read_bytes()


def test_damaged_shard_is_named_and_skipped(shards, caplog):
    damaged = shards / "photos-01.tar"
    damaged.write_bytes(b"no tar file")
    assert len(open_source((str(shards / "photos-{00..01}.tar"),))) == 3
    assert f"{damaged}: no readable tar file, skipped" in caplog.text
    with pytest.raises(FileNotFoundError, match="no photos in these shards"):
        open_source((str(damaged),))


def test_remote_shards_are_fetched_once(shards, tmp_path):
    config = DataConfig(folders=(f"file://{shards}/photos-{{00..01}}.tar",), size=16)
    expected = [Photos(config, 0)[i] for i in range(8)]
    shutil.rmtree(shards)
    assert all(map(equal, expected, [Photos(config, 0)[i] for i in range(8)]))
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 2


def test_processes_share_the_cache_of_remote_shards(photos, tmp_path, monkeypatch):
    """While one makes room in it another looks for its shard there."""
    monkeypatch.setenv("ASUKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Shards, "MIXED", 1)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "gone.tar").symlink_to("nowhere")  # seen in the folder, and then not there
    for i in range(40):
        pack(tmp_path / f"{i:02d}.tar", sorted(photos.iterdir())[:1])
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(open_source, [(f"file://{tmp_path}/{{00..39}}.tar",)] * 6))
    assert [len(source) for source in found] == [40] * 6
    assert all(len(decode_photo(found[0].data(i))) for i in range(40))


@pytest.mark.parametrize("address", ["{}", "file://{}"])
def test_full_disk_of_the_shard_cache_names_the_remedy(shards, tmp_path, address):
    """The index of a local shard, the copy of a remote one."""
    code = f"""
import resource, signal
from training.data import open_source
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
open_source(({address.format(shards / "photos-00.tar")!r},))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"OSError: {tmp_path / 'cache'}/")
    assert "set the environment variable ASUKA_CACHE to a folder of your own, on a disk with more space" in last


@pytest.fixture
def web(shards, monkeypatch) -> Iterator[Bunch]:
    """The shards behind a web server that answers the first so many requests with an error, and slowly if asked to."""
    state = Bunch(errors=0, asked=0, slow=Event())
    state.slow.set()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            state.errors -= 1
            state.slow.wait(0.5)
            self.send_error(503) if state.errors >= 0 else super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(sources, "time", Bunch(sleep=lambda seconds: None))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(shards))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/photos-{{00..01}}.tar"
        yield state
        server.shutdown()
        thread.join()


def test_shard_is_asked_for_again_after_an_error(web, photos, caplog):
    web.errors = 2
    tars = open_source((web.url,))
    assert len(tars) == 4
    assert web.asked == 2 + 2
    assert tars.data(0) == sorted(photos.iterdir())[0].read_bytes()
    assert "photos-00.tar: not fetched" in caplog.text
    assert "trying again" in caplog.text


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4")  # on two cores
def test_shard_is_fetched_once_for_all_processes(web, shards, tmp_path):
    """Four data workers miss both shards at once."""
    config = DataConfig(folders=(web.url,), size=16)
    dataset = Photos(config, 0)
    assert web.asked == 2  # to be indexed
    for shard in (tmp_path / "cache").glob("*.tar"):
        shard.unlink()
    web.slow.clear()
    loader = DataLoader(dataset, None, sampler=range(16), num_workers=4)
    local = Photos(replace(config, folders=(f"{shards}/photos-{{00..01}}.tar",)), 0)
    assert all(equal(sample, local[i]) for i, sample in enumerate(loader))
    assert web.asked == 2 + 2


def test_shard_that_a_killed_process_was_fetching_is_fetched(web, photos, tmp_path):
    tars = open_source((web.url,))
    shard = tars.local(tars.urls[0])
    shard.unlink()
    code = "import sys, time, filelock\nwith filelock.FileLock(sys.argv[1]): print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, shard.with_suffix(".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder, ThreadPoolExecutor(1) as pool:
        holder.stdout.readline()
        found = pool.submit(tars.data, 0)
        try:
            with pytest.raises(TimeoutError):
                found.result(timeout=0.5)
        finally:
            holder.kill()
        assert found.result(timeout=10) == sorted(photos.iterdir())[0].read_bytes()
    assert web.asked == 2 + 1


def test_shard_that_cannot_be_had_stops_the_run_in_one_line(web):
    web.errors = 100
    with pytest.raises(
        OSError, match=r"photos-00\.tar: not fetched in 5 tries .*; once it can be, the same command goes on"
    ):
        open_source((web.url,))
    assert web.asked == 5


def test_shard_that_does_not_exist_is_named_and_skipped(web, caplog):
    assert len(open_source((web.url.replace("01}", "02}"),))) == 4
    assert "photos-02.tar: no readable tar file, skipped" in caplog.text


def test_library_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ASUKA_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"s3://bucket/0\.tar: .*s3fs.* \(pip install s3fs, gcsfs or aiohttp\)"):
        open_source(("s3://bucket/0.tar",))


def test_shard_that_is_cut_is_named_each_time(photos, shards, caplog):
    """Tarfile takes it for a shorter one."""
    path = shards / "photos-01.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset + 100])
    for count in (1, 2):
        open_source((str(shards / "photos-{00..01}.tar"),))
        assert caplog.text.count(f"{path}: damaged, its end is missing") == count


def test_compressed_shard_is_named_and_skipped(photos, shards, caplog):
    """Its photos lie elsewhere in the file than in the archive."""
    path = shards / "photos-01.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    source = open_source((str(shards / "photos-{00..01}.tar"),))
    assert all(decode_photo(source.data(i)) is not None for i in range(len(source)))
    assert "(invalid header; compressed ones are not read)" in caplog.text


def test_links_and_folders_in_a_shard_are_no_photos(photos, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(photos / "coffee.jpg", "a.jpg")
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("folder.jpg", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.jpg"
            tar.addfile(member)
    assert len(open_source((str(tmp_path / "a.tar"),))) == 1


def test_photo_that_is_twice_in_a_shard_is_named(photos, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("coffee", "rocket"):
            tar.add(photos / f"{name}.jpg", "a.jpg")
    with pytest.raises(ConfigError, match=r"a\.tar: a\.jpg is there twice; pack the shard anew"):
        open_source((str(tmp_path / "a.tar"),))


def test_list_that_is_no_text_is_named(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\n", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"list\.txt: not a list of paths; expected one path per line, in UTF-8"):
        find_photos((str(tmp_path / "list.txt"),))


def test_list_may_hold_names_of_any_bytes(photos, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(photos / "coffee.jpg", tmp_path / name)
    (tmp_path / "list.txt").write_bytes(os.fsencode(tmp_path / name) + b"\n")
    assert open_source((str(tmp_path / "list.txt"),)).data(0) == (photos / "coffee.jpg").read_bytes()


def test_braces_are_ranges():
    with pytest.raises(ConfigError, match=re.escape("a-{3..1}.tar: expected a range such as {000..099} in the braces")):
        expand("a-{3..1}.tar")
    assert expand("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expand("{0..1}/{0..1}.tar") == ["0/0.tar", "0/1.tar", "1/0.tar", "1/1.tar"]
    with pytest.raises(ConfigError, match=re.escape("a-{1,2}.tar: expected a range such as {000..099} in the braces")):
        expand("a-{1,2}.tar")


def test_list_file(photos, tmp_path):
    listed = tmp_path / "photos.txt"
    listed.write_text(f"{photos / 'coffee.jpg'}\n{photos / 'rocket.jpg'}\n")
    assert [Path(path).name for path in find_photos((str(listed),))] == ["coffee.jpg", "rocket.jpg"]


@pytest.mark.parametrize("kind", ["files", "shards"])
def test_a_photo_takes_few_bytes_beside_its_name(kind, tmp_path, monkeypatch):
    """Once the source is open: millions of photos are in the memory of every data worker."""
    monkeypatch.setenv("ASUKA_CACHE", str(tmp_path / "cache"))
    names = [f"{'ä' * 20}-{i:05d}.jpg" for i in range(4000)]
    if kind == "files":
        (tmp_path / "all.txt").write_text("\n".join(names), encoding="utf-8")
        location = str(tmp_path / "all.txt")
    else:
        with tarfile.open(tmp_path / "all.tar", "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))
        location = f"{tmp_path}/all.tar"
    tracemalloc.start()
    source = open_source((location,))
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [Path(source.name(i)).name for i in range(len(source))] == names
    assert taken / len(names) < len(names[0].encode()) + 40


def encoded(photo: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, kind, **options)
    return file.getvalue()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeros(data: bytes) -> bytes:
    """As of a download that was broken off, into a file that had its full size from the start."""
    return cut(data) + bytes(len(data) - len(data) // 2)


def closed(data: bytes) -> bytes:
    """With an end, so that no decoder complains."""
    return cut(data) + b"\xff\xd9"


DAMAGED = [(kind, damage) for kind in ("JPEG", "PNG", "WEBP") for damage in (cut, zeros)] + [("JPEG", closed)]


@pytest.mark.parametrize("kind, damage", DAMAGED)
def test_half_an_image_is_none(kind, damage):
    data = encoded(skimage.data.coffee(), kind)
    assert decode_photo(data).shape == skimage.data.coffee().shape
    assert problem(data) is None
    assert decode_photo(damage(data)) is None
    assert re.fullmatch("not a readable image|damaged: .* missing", problem(damage(data)))


@pytest.mark.parametrize("rows", [slice(200, None), slice(None, 200)])
def test_lost_rows_are_seen_whatever_the_decoder_says(rows):
    """OpenCV before 4.12 gives grey for them; images may be turned. A grey frame and a grey image are no loss."""
    photo = skimage.data.coffee().copy()
    photo[rows] = 128
    data = encoded(photo, "JPEG", quality=100, subsampling=0)
    assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[rows][8:-8] == 128).all()
    assert problem(data) == "damaged: its last rows are missing"
    photo[:16] = photo[-16:] = 128
    assert problem(encoded(photo, "JPEG", quality=100, subsampling=0)) is None
    assert problem(encoded(np.full((64, 64, 3), 128, np.uint8), "JPEG")) is None


def test_older_opencv_is_refused_in_one_line(photos, shards, monkeypatch):
    for version, refused in (("4.12.0", True), ("4.13.0", False), ("5.0.0-dev", False)):
        monkeypatch.setattr(cv2, "__version__", version)
        for folder in (photos, shards / "photos-00.tar"):
            if refused:
                with pytest.raises(ConfigError, match=r"OpenCV 4\.12\.0 reads half a JPEG .*; expected 4\.13 or newer"):
                    open_source((str(folder),))
            else:
                open_source((str(folder),))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_turned_as_exif_says(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(skimage.data.coffee()[:90], kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.abs(decode_photo(data).astype(int) - expected).mean() < 1


def test_cmyk_photo_has_its_colors():
    data = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).convert("CMYK").save(data, "JPEG", quality=95)
    assert np.abs(decode_photo(data.getvalue()).astype(int) - skimage.data.coffee()).mean() < 4


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 16_000])
def test_huge_photo_is_named_and_skipped_undecoded(side, photos, tmp_path, caplog, monkeypatch):
    """A few kB would take gigabytes in every worker."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    Image.new("1", (side, side)).save(folder / "huge.png")
    decode, seen = cv2.imdecode, []
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: seen.append(len(data)) or decode(data, flags))
    dataset = Photos(DataConfig(folders=(str(folder),), size=16), 0)
    assert all(dataset[i]["image"].shape == (3, 16, 16) for i in range(5))
    assert caplog.messages == [f"{folder / 'huge.png'}: more than 89 million pixels, skipped (1 so far)"]
    assert (folder / "huge.png").stat().st_size not in seen


def test_linked_folders_are_searched_once_each(photos, tmp_path):
    folder, outside = tmp_path / "photos", shutil.copytree(photos, tmp_path / "outside")
    (folder / "b").mkdir(parents=True)
    shutil.copy(photos / "coffee.jpg", folder / "b" / "inside.jpg")
    (folder / "a").symlink_to(folder / "b")  # found under its own name, not the link's
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "b" / "away").symlink_to(outside)
    (folder / "again").symlink_to(outside)
    (outside / "back").symlink_to(folder / "b")
    (folder / "file.jpg").symlink_to(photos / "rocket.jpg")
    (folder / "broken").symlink_to("nowhere")
    (folder / "folder.jpg").mkdir()
    linked = [folder / "again" / name for name in ("astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg")]
    assert find_photos((str(folder),)) == sorted([folder / "b" / "inside.jpg", folder / "file.jpg", *linked])
    (tmp_path / "link").symlink_to(outside)
    assert len(find_photos((str(tmp_path / "link"),))) == 4 + 2


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_list_made_on_windows(end, photos, tmp_path):
    (tmp_path / "photos.txt").write_text(end.join([str(photos / "coffee.jpg"), ""]), encoding="utf-8-sig", newline="")
    assert find_photos((str(tmp_path / "photos.txt"),)) == [photos / "coffee.jpg"]


@pytest.fixture
def pairs(photos, tmp_path, monkeypatch) -> Path:
    """A shard in which every photo has a mask and a segmentation."""
    monkeypatch.setenv("ASUKA_CACHE", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "pairs.tar", "w") as tar:
        for photo in sorted(photos.iterdir()):
            for suffix in ("image.jpg", "mask.png", "seg.png", "json"):
                tar.add(photo, f"train/{photo.stem}.{suffix}")
        tar.add(photos / "coffee.jpg", "train/._coffee.image.jpg")  # as macOS adds
    return tmp_path / "pairs.tar"


def test_shard_has_one_photo_a_key(pairs, photos):
    several = r"pairs\.tar: train/astronaut has several images, such as image\.jpg and mask\.png; .* suffix: image\.jpg"
    with pytest.raises(ConfigError, match=several):
        Photos(DataConfig(folders=(str(pairs),)), 0)
    for suffix in ("image.jpg", "IMAGE.JPG", "image.png;image.jpg"):
        source = Photos(DataConfig(folders=(str(pairs),), suffix=suffix), 0).source
        names = [f"{pairs}/train/{photo.stem}.image.jpg" for photo in sorted(photos.iterdir())]
        assert [source.name(i) for i in range(len(source))] == names
    with pytest.raises(ConfigError, match=r"several images, such as image\.jpg and mask\.png"):
        open_source((str(pairs),), suffix="image.jpg;mask.png")
    with pytest.raises(
        FileNotFoundError, match=r"no photos .* with the suffix jpg, only image\.jpg, mask\.png, seg\.p"
    ):
        open_source((str(pairs),), suffix="jpg")


def check(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "training.data", "check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_check_tells_which_images_of_a_shard_are_photos(pairs):
    result = check(pairs)
    assert result.returncode == 2
    assert "train/astronaut has several images, such as image.jpg and mask.png" in result.stderr
    lines = check(pairs, "--suffix", "image.jpg").stdout.splitlines()
    assert lines[0] == "4 photos, 0 of them not readable"
    assert lines[-1] == "left out: 4 mask.png, 4 seg.png"


@pytest.mark.parametrize("given", [True, False])
def test_cache_of_shards_that_cannot_be_used_names_the_remedy(given, shards, tmp_path, monkeypatch):
    """Without ASUKA_CACHE every user has a folder of their own in the one for temporary files."""
    monkeypatch.delenv("ASUKA_CACHE")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    open_source((str(shards / "photos-00.tar"),))
    assert len(list((tmp_path / f"asuka-shards-{os.getuid()}").glob("*.json"))) == 1
    monkeypatch.setattr("os.getuid", lambda: 12345)
    folder = tmp_path / "asuka-shards-12345"
    if given:
        folder = tmp_path / "elsewhere"
        monkeypatch.setenv("ASUKA_CACHE", str(folder))
    folder.write_text("no folder")  # as good as one of somebody else, also for root
    with pytest.raises(
        ConfigError, match=rf"{folder}: .*; set the environment variable ASUKA_CACHE to a folder of your"
    ):
        open_source((str(shards / "photos-00.tar"),))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_cache_of_shards_of_another_user_names_the_remedy(shards, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match=r"Permission denied.*; set the environment variable ASUKA_CACHE"):
        open_source((str(shards / "photos-00.tar"),))


def test_check_reports_what_it_found(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "empty.png").touch()
    (folder / "half.webp").write_bytes(zeros(encoded(skimage.data.coffee(), "WEBP")))
    Image.new("1", (16_000, 16_000)).save(folder / "huge.png")
    for other in ("a.tif", "b.tif", "LICENSE"):
        (folder / other).touch()
    lines = check(folder, "--smallest", "400").stdout.splitlines()
    assert lines == [
        "8 photos, 4 of them not readable",
        f"  {folder / 'broken.jpg'}: not a readable image",
        f"  {folder / 'empty.png'}: empty, or not readable",
        f"  {folder / 'half.webp'}: damaged: its end is missing",
        f"  {folder / 'huge.png'}: more than 89 million pixels",
        "short side: 315 (5 %), 413 (median), 499 (95 %) pixels",
        "1 have a short side below 400 pixels and would be enlarged",  # chelsea, 300
        "left out: 2 .tif, 1 no suffix",
    ]


def large(path: Path, height: int, width: int) -> np.ndarray:
    """A JPEG of waves, and its pixels as they are read in full."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / a) * np.cos(y / b) for a, b in ((40, 70), (90, 50), (60, 60))]
    Image.fromarray(np.stack(waves, 2).astype(np.uint8)).save(path, quality=95)
    return decode_photo(path.read_bytes())


@pytest.mark.parametrize("side, by", [(1100, 8), (700, 4), (400, 2), (255, 1), (128, 1)])
def test_large_jpegs_are_read_as_small_as_their_crops_allow(tmp_path, side, by):
    """Crops are 64 pixels and at least half of the photo; nothing is enlarged that is not without."""
    full = large(tmp_path / "photo.jpg", side, side + 37)
    config = DataConfig(folders=(str(tmp_path),), size=64, scale=(0.5, 1.0))
    photo = Photos(config, 0).photo(0)
    assert photo.shape[:2] == (-(-side // by), -(-(side + 37) // by))
    if by == 1:
        assert np.array_equal(photo, full)
    else:
        h, w = side // by, (side + 37) // by
        expected = cv2.resize(full[: h * by, : w * by], (w, h), interpolation=cv2.INTER_AREA)
        assert np.abs(photo[:h, :w].astype(float) - expected).mean() < 1.5
    for changes in ({"native": True}, {"tone": 0.5}):
        assert np.array_equal(Photos(replace(config, **changes), 0).photo(0), full)
