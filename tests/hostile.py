"""Files that must never be taken for a picture: what a broken camera, a wrong client or an attacker sends."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"


def hostile_files() -> dict[str, bytes]:
    """Hostile uploads by name. Each is refused with an ImageError within a second and without a large allocation."""
    return {**_not_pictures(), **_truncated(), **_pngs(), **_jpegs(), **_bmps(), **_tiffs(), **_webps(), **_shapes()}


def picture(format_: str, width: int = 160, height: int = 120, **options: object) -> bytes:
    """A good picture of smooth noise, as Pillow writes it: the start of many a hostile one."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes, *extra: bytes, colour: int = 2, depth: int = 8) -> bytes:
    """A PNG of the declared size around any compressed data; `extra` chunks stand before it."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join([*extra, png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")])
    return _PNG + png_chunk(b"IHDR", header) + body


def zeros_compressed(size: int) -> bytes:
    """`size` zero bytes as a zlib stream, without compressing them: one block, repeated."""
    block, rest = 1 << 20, size % (1 << 20)
    squeeze = zlib.compressobj(9, wbits=-15)
    repeated = squeeze.compress(bytes(block)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    last = squeeze.compress(bytes(rest)) + squeeze.flush()
    adler32 = (size % 65521) << 16 | 1
    return b"\x78\xda" + repeated * (size // block) + last + struct.pack(">I", adler32)


def _not_pictures() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("part.png", picture("PNG"))
    return {
        "empty": b"",
        "one byte": b"\xff",
        "zeros": bytes(4096),
        "random bytes": np.random.default_rng(1).bytes(5000),
        "text": b"verdict: pass\n" * 40,
        "json": b'{"image": "part.png"}',
        "html": b"<!doctype html><html><body><img src=x></body></html>",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n",
        "zip": archive.getvalue(),
        "gif": picture("GIF"),
        "ppm": picture("PPM"),
        "ico": picture("ICO", 64, 64),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) run\n",
    }


def _truncated() -> dict[str, bytes]:
    whole = {
        "jpeg": picture("JPEG", quality=90),
        "progressive jpeg": picture("JPEG", quality=90, progressive=True),
        "png": picture("PNG"),
        "bmp": picture("BMP"),
        "webp": picture("WEBP", quality=80),
        "lossless webp": picture("WEBP", lossless=True),
        "tiff": picture("TIFF"),
        "tiff lzw": picture("TIFF", compression="tiff_lzw"),
    }
    shares = (0.02, 0.3, 0.6, 0.9)
    cut = {
        f"{name} cut at {share:.0%}": data[: max(4, int(len(data) * share))]
        for name, data in whole.items()
        for share in shares
    }
    signatures = {f"{name} signature only": data[:4] for name, data in whole.items()}
    return {**cut, **signatures}


def _pngs() -> dict[str, bytes]:
    rows = zlib.compress(bytes((64 * 3 + 1) * 64))
    good = png(64, 64, rows)
    ihdr_crc, idat = 29, good.index(b"IDAT")
    bomb_text = b"Comment\0\0" + zeros_compressed(300 << 20)
    bomb_profile = b"icc\0\0" + zeros_compressed(300 << 20)
    return {
        "png declares 60000x60000": png(60000, 60000, rows),
        "png declares 2147483647x2147483647": png(2**31 - 1, 2**31 - 1, rows),
        "png bomb of 400 megapixels": png(20000, 20000, zeros_compressed((20000 * 3 + 1) * 20000)),
        "png bomb of 400 megapixels, 1 bit": png(20000, 20000, zeros_compressed(2501 * 20000), colour=0, depth=1),
        "png of zero width": png(0, 64, rows),
        "png of zero height": png(64, 0, rows),
        "png without data": _PNG + good[8:33] + png_chunk(b"IEND", b""),
        "png of a wrong IHDR checksum": _flipped(good, ihdr_crc),
        "png of a wrong IDAT checksum": _flipped(good, idat + 4 + len(rows)),
        "png of broken deflate data": png(64, 64, _flipped(zlib.compress(_noise(64 * 193)), 2000)),
        "png shorter than declared": png(64, 64, zlib.compress(bytes((64 * 3 + 1) * 20))),
        "png of junk data": png(64, 64, np.random.default_rng(2).bytes(500)),
        "png of an unknown colour type": png(64, 64, rows, colour=5),
        "png of 7 bits": png(64, 64, rows, depth=7),
        "png text bomb": png(64, 64, zlib.compress(bytes(193 * 10)), png_chunk(b"zTXt", bomb_text)),
        "png profile bomb": png(64, 64, zlib.compress(bytes(193 * 10)), png_chunk(b"iCCP", bomb_profile)),
        "png chunk longer than the file": _PNG + good[8:33] + struct.pack(">I", 2**31 - 1) + b"IDAT" + rows,
        "png palette without PLTE": png(64, 64, zlib.compress(bytes(65 * 64)), colour=3),
    }


def _jpegs() -> dict[str, bytes]:
    good = picture("JPEG", quality=90)
    frame = good.index(b"\xff\xc0")
    scan = good.index(b"\xff\xda")
    flat = _flat_progressive_jpeg()
    last_scan = flat.rindex(b"\xff\xda")
    huge = good[: frame + 5] + struct.pack(">HH", 65500, 65500) + good[frame + 9 :]
    return {
        "jpeg declares 65500x65500": huge,
        "jpeg of zero height": good[: frame + 5] + struct.pack(">HH", 0, 160) + good[frame + 9 :],
        "jpeg of zero width": good[: frame + 5] + struct.pack(">HH", 120, 0) + good[frame + 9 :],
        "jpeg without scan": good[:scan] + b"\xff\xd9",
        "jpeg without tables": _without_segments(good, (0xDB, 0xC4)),
        "jpeg without frame": _without_segments(good, (0xC0,)),
        "jpeg of markers only": b"\xff\xd8\xff\xd9",
        "jpeg segment longer than the file": good[:2] + b"\xff\xe1\xff\xff" + good[2:60],
        "jpeg of 3000 scans": flat[:last_scan] + flat[last_scan:-2] * 3000 + b"\xff\xd9",
        "jpeg of 5 components": good[: frame + 9] + b"\x05" + good[frame + 10 :],
    }


def _flat_progressive_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000), (90, 90, 90)).save(buffer, "JPEG", progressive=True, quality=50)
    return buffer.getvalue()


def _bmps() -> dict[str, bytes]:
    good = bytearray(picture("BMP", 64, 64))

    def sized(width: int, height: int) -> bytes:
        changed = good.copy()
        changed[18:26] = struct.pack("<ii", width, height)
        return bytes(changed)

    offset = good.copy()
    offset[10:14] = struct.pack("<I", 2**31)
    depth = good.copy()
    depth[28:30] = struct.pack("<H", 77)
    return {
        "bmp of zero width": sized(0, 64),
        "bmp of zero height": sized(64, 0),
        "bmp of negative width": sized(-64, 64),
        "bmp declares 60000x60000": sized(60000, 60000),
        "bmp of height -2147483648": sized(64, -(2**31)),
        "bmp larger than its data": sized(640, 640),
        "bmp whose data is outside": bytes(offset),
        "bmp of 77 bits": bytes(depth),
    }


def _tiff(entries: list[tuple[int, int, int, int]], next_ifd: int = 0, data: bytes = bytes(64)) -> bytes:
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", next_ifd) + data


def _tiffs() -> dict[str, bytes]:
    def grey(width: int, height: int, count: int = 4096) -> list[tuple[int, int, int, int]]:
        # Tags: width, height, bits, compression, photometric, strip offset, samples, rows a strip, strip bytes.
        return [
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, 122),
            (277, 3, 1, 1),
            (278, 4, 1, height),
            (279, 4, 1, count),
        ]

    many = [(256, 4, 1, 64), (257, 4, 1, 64), (273, 4, 2**31 - 1, 8), (279, 4, 2**31 - 1, 8)]
    return {
        "tiff directory loop": _tiff([(256, 4, 1, 0)], next_ifd=8),
        "tiff directory loop with sizes": _tiff(grey(64, 64), next_ifd=8),
        "tiff declares 60000x60000": _tiff(grey(60000, 60000, 60000 * 60000 % 2**32)),
        "tiff declares 4294967295x4294967295": _tiff(grey(2**32 - 1, 2**32 - 1)),
        "tiff of zero size": _tiff(grey(0, 0)),
        "tiff of huge tag counts": _tiff(many),
        "tiff of huge tag counts in every tag": _tiff([(tag, 5, 2**32 - 1, 8) for tag in (256, 257, 258, 273, 279)]),
        "tiff larger than its data": _tiff(grey(64, 64)),
        "tiff whose directory is outside": b"II*\0" + struct.pack("<I", 2**31) + bytes(100),
        "tiff of 65535 tags": b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(200),
        "big tiff": b"II+\0" + struct.pack("<HHQ", 8, 0, 2**60) + bytes(100),
    }


def _webps() -> dict[str, bytes]:
    good = picture("WEBP", quality=80)
    frame = good.index(b"\x9d\x01\x2a")
    zero = good[: frame + 3] + struct.pack("<HH", 0, 0) + good[frame + 7 :]
    largest = (2**24 - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + largest * 2
    body = b"WEBP" + extended + good[12:]
    return {
        "webp declares 16777216x16777216": b"RIFF" + struct.pack("<I", len(body)) + body,
        "webp of zero size": zero,
        "webp of a wrong chunk": good[:12] + b"VP8Z" + good[16:],
        "webp whose RIFF is of sound": good[:8] + b"WAVE" + good[12:],
        "webp whose chunk is longer than the file": good[:16] + struct.pack("<I", 2**31) + good[20:],
    }


def _shapes() -> dict[str, bytes]:
    return {
        "png of 1x1": picture("PNG", 1, 1),
        "png of 1x20000": picture("PNG", 1, 20000),
        "png of 20000x2": picture("PNG", 20000, 2),
        "jpeg of 4000x10": picture("JPEG", 4000, 10),
        "bmp of 7x7": picture("BMP", 7, 7),
    }


def _without_segments(data: bytes, kinds: tuple[int, ...]) -> bytes:
    """A JPEG without the header segments of some kinds."""
    kept, at = [data[:2]], 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] not in kinds:
            kept.append(data[at : at + length])
        at += length
    return b"".join([*kept, data[at:]])


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :]


def _noise(size: int) -> bytes:
    return np.random.default_rng(3).bytes(size)
