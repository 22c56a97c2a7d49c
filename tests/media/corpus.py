"""The bad-input corpus, built by byte surgery on clips that are encoded here.

Every case is a path and what has to happen: `refused` (one line that holds the given words),
`decodes` (at least so many frames), or `either` (no crash, no hang, no memory).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from surgery import box, find_box, full, h264_skips, patch, replace_box, set_png_size

from clips import encode, flip_bits, only_sound


@dataclass(frozen=True)
class Case:
    """One bad or awkward input.

    Attributes:
        name: What it is.
        path: Where it lies.
        expect: `refused`, `decodes` or `either`.
        words: What the refusal must say.
        frames: Frames that must decode.
    """

    name: str
    path: str | bytes
    expect: str
    words: str = ""
    frames: int = 1


def build(folder: Path, port: int) -> list[Case]:
    """Write the whole corpus.

    Args:
        folder: An empty folder.
        port: A port on which nobody may knock.
    """
    cases: list[Case] = []

    def add(name: str, data: bytes, expect: str, words: str = "", file: str = "", frames: int = 1):
        path = folder / (file or f"{name}.mp4")
        path.write_bytes(data)
        cases.append(Case(name, str(path), expect, words, frames))

    _plain(add)
    _damaged(add)
    _claims(add)
    _large(add)
    _playlists(add, folder, port)
    _names(folder, cases)
    _not_files(folder, cases)
    return cases


Add = Callable[..., None]


def _plain(add: Add) -> None:
    mp4 = encode()
    add("text", b"these are only words\n" * 50, "refused", "text")
    add("empty", b"", "refused", "empty")
    add("zeros", bytes(100_000), "refused", "zero bytes")
    add("noise", bytes(range(1, 251)) * 40, "refused", "format")
    add("audio-only", only_sound(), "refused", "audio only")
    add("cover-only", only_sound(cover=True), "refused", "cover")
    add("one-frame", encode(frames=1), "decodes")
    add("five-frames", encode(frames=5, bframes=2), "decodes", frames=5)
    add("gif", encode("gif", "gif", pix_fmt="rgb8", rate=10), "decodes", file="a.gif", frames=30)
    add("webm", encode("webm", "libvpx"), "decodes", file="a.webm", frames=30)
    add("avi", encode("avi", "mpeg4"), "decodes", file="a.avi", frames=30)
    add("raw-h264", encode("h264", bframes=2), "decodes", file="a.h264", frames=30)
    add("wrong-ending", encode("matroska"), "decodes", file="really-mkv.avi", frames=30)
    add("cover-art", encode(cover=True), "decodes", frames=30)
    add("thumbnail", encode(thumbnail=True), "decodes", frames=30)
    add("png", b"\x89PNG\r\n\x1a\n" + bytes(100), "refused", "PNG")
    add("jpeg", b"\xff\xd8\xff\xe0" + bytes(100), "refused", "JPEG")
    add("pdf", b"%PDF-1.7\n" + bytes(range(256)), "refused", "PDF")
    add("zip", b"PK\x03\x04" + bytes(100), "refused", "ZIP")
    add("gzip", b"\x1f\x8b\x08" + bytes(100), "refused", "compressed")
    add("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "refused", "LFS")
    add("page", b"\n<!DOCTYPE html><html><body>404", "refused", "web page")
    encrypted = mp4.replace(b"avc1\0", b"encv\0").replace(b"davc1", b"davc1")
    add("encrypted", encrypted, "refused", "encrypted")
    at = mp4.index(b"avc1", mp4.index(b"stsd"))
    unknown = mp4[:at] + b"zzzz" + mp4[at + 4 :]
    add("unknown-codec", unknown.replace(b"avcC", b"free"), "refused", "codec")
    fragments = encode(mux={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    add("zero-frames", fragments[: fragments.index(b"moof") - 4], "refused")


def _damaged(add: Add) -> None:
    fast = encode(frames=60, mux={"moov_size": "8000"})
    slow = encode(frames=60)
    add("no-moov", slow[: slow.index(b"moov") - 4], "refused", "moov")
    add("half-mdat", fast[: fast.index(b"mdat") + len(fast) // 3], "decodes", frames=5)
    add("half-moov", slow[: slow.index(b"moov") + 200], "either")
    add("half-gif", encode("gif", "gif", pix_fmt="rgb8")[:9000], "decodes", file="half.gif")
    add("half-ts", encode("mpegts", frames=60)[:9000], "decodes", file="half.ts")
    add("half-mkv", encode("matroska", frames=60)[:9000], "decodes", file="half.mkv")
    add("cut-ts", encode("mpegts", frames=60)[5000:], "decodes", file="cut.ts")
    for seed in range(4):
        add(f"flipped-{seed}", flip_bits(fast, 30, seed, fast.index(b"mdat")), "either")
    first = encode("mpegts", size=(64, 48))
    second = encode("mpegts", size=(96, 80), first=30)
    add("two-sizes", first + second, "decodes", file="two.ts", frames=50)
    raw = encode("h264") + encode("h264", size=(96, 80))
    add("two-sizes-raw", raw, "decodes", file="two.h264", frames=50)


def _claims(add: Add) -> None:
    many = 60_000_000
    mp4 = encode(bframes=2)
    stsz = full(b"stsz", struct.pack(">II", 100, many))
    stts = full(b"stts", struct.pack(">III", 1, many, 512))
    add("index-stsz", replace_box(mp4, b"stsz", stsz), "refused", "frames")
    both = replace_box(replace_box(mp4, b"stsz", stsz), b"stts", stts)
    add("index-stsz-stts", both, "refused", "frames")
    add("index-stts", replace_box(mp4, b"stts", stts), "refused", "frames")
    ctts = full(b"ctts", struct.pack(">III", 1, many, 0))
    add("index-ctts", replace_box(mp4, b"ctts", ctts), "refused", "frames")
    edits = full(b"elst", struct.pack(">I", 500_000) + struct.pack(">IiI", 9, 0, 1 << 16) * 500_000)
    add("index-edits", replace_box(mp4, b"elst", edits), "refused", "frames")
    moof = encode(mux={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    trun = full(b"trun", struct.pack(">I", many))
    add("index-trun", replace_box(moof, b"trun", trun), "refused", "frames")
    some = full(b"stsz", struct.pack(">II", 1, 9_000_000))
    runs = full(b"stts", struct.pack(">III", 1, 9_000_000, 512))
    add("index-allowed", replace_box(replace_box(mp4, b"stsz", some), b"stts", runs), "either")
    sound = encode(tone=(440, 0, 1.2))
    stsc = full(b"stsc", struct.pack(">IIII", 1, 1, 0x7FFFFFFF, 1))
    add("index-stsc", replace_box(sound, b"stsc", stsc, 1), "either")
    hidden = box(b"free", find_box(mp4, b"moov")[8:])
    add("hidden-moov", box(b"moof") + hidden, "refused")
    uuid = box(b"uuid", bytes(16))
    add("index-behind-uuid", uuid + replace_box(mp4, b"stsz", stsz), "refused", "frames")
    add("huge-box", struct.pack(">I4sQ", 1, b"mdat", 1 << 62) + mp4, "refused")
    add("deep-boxes", b"".join(struct.pack(">I4s", 80_000 - 8 * i, b"moov") for i in range(9999)),
        "refused")  # fmt: skip
    add("many-boxes", box(b"ftyp", b"isom\0\0\0\0") + box(b"free") * 1_000_100, "refused")
    add("cmov", box(b"ftyp", b"qt  \0\0\0\0") + box(b"moov", box(b"cmov", bytes(50))), "refused",
        "compressed")  # fmt: skip
    mkv = encode("matroska")
    add("mkv-segment-size", patch(mkv, b"\x18\x53\x80\x67", 0, b"\x01\x40" + bytes(6)), "either",
        file="lies.mkv")  # fmt: skip
    at = mkv.index(b"\x1f\x43\xb6\x75")
    add("mkv-cluster-size", mkv[: at + 4] + b"\x08\xff\xff\xff\xf0" + mkv[at + 8 :], "either",
        file="cluster.mkv")  # fmt: skip
    avi = encode("avi", "mpeg4")
    add("avi-chunk-size", patch(avi, b"00dc", 0, b"\xf0\xff\xff\xff"), "either", file="lies.avi")
    add("flv-tag-size", patch(encode("flv"), b"FLV\x01\x01", 9, b"\xff\xff\xff"), "either",
        file="lies.flv")  # fmt: skip


def _large(add: Add) -> None:
    gif = bytearray(encode("gif", "gif", pix_fmt="rgb8", frames=3))
    gif[6:10] = b"\xff\xff\xff\xff"
    add("huge-gif", bytes(gif), "refused", file="huge.gif")
    gif[6:10] = struct.pack("<HH", 5900, 6000)
    add("large-gif", bytes(gif), "either", file="large.gif")
    mjpeg = encode("avi", "mjpeg", pix_fmt="yuvj420p", frames=3)
    add("huge-mjpeg", mjpeg.replace(b"\xff\xc0\0\x11\x08\0\x30\0\x40",
        b"\xff\xc0\0\x11\x08\x20\0\x40\0"), "refused", file="huge.avi")  # fmt: skip
    png = encode("mov", "png", pix_fmt="rgb24", frames=3)
    add("huge-png", set_png_size(png, 30_000, 30_000), "refused", file="huge.mov")
    ivf = bytearray(encode("ivf", "libvpx", frames=10))
    at = ivf.index(b"\x9d\x01\x2a")
    ivf[at + 3 : at + 7] = b"\xff\x3f\xff\x3f"
    add("huge-vp8", bytes(ivf), "refused", file="huge.ivf")
    add("huge-y4m", b"YUV4MPEG2 W16000 H8000 F25:1\nFRAME\n" + bytes(1000), "refused",
        file="huge.y4m")  # fmt: skip
    add("huge-h264", h264_skips(1024, 512, 30), "refused", "pixels", file="huge.h264")
    add("hoarding-h264", h264_skips(460, 300, 60, 16), "refused", "decoder", file="hoard.h264")
    add("long-h264", h264_skips(230, 150, 6000), "either", file="long.h264")


def _playlists(add: Add, folder: Path, port: int) -> None:
    canary = folder / "canary.mp4"
    canary.write_bytes(encode())
    url = f"http://127.0.0.1:{port}/a.ts"
    m3u = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n%s\n#EXT-X-ENDLIST\n"
    for name, target in (("file", canary.name), ("address", url)):
        add(f"hls-{name}-mp4", (m3u % target).encode(), "refused", "playlist")
        add(f"hls-{name}-ts", (m3u % target).encode(), "refused", file=f"hls-{name}.ts")
        add(f"ffconcat-{name}", f"ffconcat version 1.0\nfile '{target}'\n".encode(), "refused")
        mpd = f"<?xml version='1.0'?>\n<MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>"
        add(f"mpd-{name}", mpd.encode(), "refused")
        add(f"asx-{name}", f'<asx version="3.0"><ref href="{target}"/></asx>'.encode(), "refused")
        add(f"ram-{name}", f"{target}\n".encode(), "refused", file=f"{name}.ram")
        spaced = b"\xef\xbb\xbf \n" + (m3u % target).encode()
        add(f"hls-{name}-spaced", spaced, "refused")
        alias = full(b"dref", struct.pack(">I", 1) + box(b"url ", bytes(4) + target.encode()))
        add(f"dref-{name}", replace_box(encode("mov"), b"dref", alias), "refused", "another file",
            file=f"dref-{name}.mov")  # fmt: skip
    sdp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n"
    add("sdp", sdp.encode(), "refused", file="a.sdp")
    mkv = encode("matroska")
    at = mkv.index(b"\x4d\x80")
    size = mkv[at + 2] & 0x7F
    link = b"\x3e\x83\xbb" + bytes([0x80 | size - 1]) + canary.name.encode()[: size - 1]
    link = link.ljust(3 + size, b"\0")
    add("mkv-link", mkv[:at] + link + mkv[at + 3 + size :], "decodes", file="link.mkv", frames=30)


def _names(folder: Path, cases: list[Case]) -> None:
    data = encode(frames=8)
    for name in (
        "a%03d.mp4", "with space.mp4", "quo'te\".mp4", "-dash.mp4", "new\nline.mp4", "concat:x.mp4",
        "http:x.mp4", "file:x.mp4", "pipe:0", "data:video,x", "a*?[b].mp4", "-", "нет.mp4",
        "subfile,,start,0,end,9,,:x.mp4",
    ):  # fmt: skip
        (folder / name).write_bytes(data)
        cases.append(Case(f"name {name!r}", str(folder / name), "decodes", frames=8))
    raw = os.fsencode(folder) + b"/\xff\xfe.mp4"
    try:
        Path(os.fsdecode(raw)).write_bytes(data)
        cases.append(Case("name of bytes", os.fsdecode(raw), "decodes", frames=8))
    except OSError:  # this file system takes UTF-8 names only
        pass


def _not_files(folder: Path, cases: list[Case]) -> None:
    cases.append(Case("missing", str(folder / "missing.mp4"), "refused", "no such file"))
    cases.append(Case("pattern", str(folder / "none%03d.mp4"), "refused", "no such file"))
    cases.append(Case("nul in the name", str(folder / "a\0b.mp4"), "refused"))
    cases.append(Case("long name", str(folder / ("x" * 5000)), "refused"))
    (folder / "folder.mp4").mkdir()
    cases.append(Case("folder", str(folder / "folder.mp4"), "refused", "folder"))
    (folder / "dangling.mp4").symlink_to(folder / "nowhere")
    cases.append(Case("dangling link", str(folder / "dangling.mp4"), "refused", "dangling"))
    os.mkfifo(folder / "fifo.mp4")
    cases.append(Case("fifo", str(folder / "fifo.mp4"), "refused", "pipe"))
    cases.append(Case("endless device", "/dev/zero", "refused", "regular"))
    cases.append(Case("address", "http://127.0.0.1/a.mp4", "refused", "no such file"))
    if os.geteuid() != 0:
        closed = folder / "closed.mp4"
        closed.write_bytes(b"x")
        closed.chmod(0)
        cases.append(Case("unreadable", str(closed), "refused", "denied"))
