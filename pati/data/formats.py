"""File formats by name and by their first bytes: those of photos, and others that are worth naming."""

from __future__ import annotations

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif",
)  # fmt: skip

# Files that lie beside photos: documents, code, tables, archives, models, sounds and videos.
_BESIDE = (
    ".txt", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".html", ".md", ".rst", ".tex", ".pdf", ".doc", ".docx", ".xls",
    ".xlsx", ".pptx", ".py", ".ipynb", ".js", ".css", ".sh", ".bat", ".c", ".cpp", ".h", ".java", ".m", ".r", ".yaml",
    ".yml", ".toml", ".ini", ".cfg", ".cls", ".log", ".zip", ".tar", ".parquet", ".mp4", ".mov", ".avi", ".mp3",
    ".wav", ".npy", ".npz", ".mat",
    ".pt", ".pth", ".h5", ".keras", ".onnx", ".pkl", ".pickle", ".safetensors",
)  # fmt: skip

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
_PHOTOS = (JPEG, PNG, b"GIF8", b"BM", *TIFF[:2])

# Brands of the ISO base media file format, which HEIC, AVIF and most videos share.
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1", b"miaf")

_OTHERS = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"IIRO", "RAW (ORF)"),
    (b"IIRS", "RAW (ORF)"),
    (b"MMOR", "RAW (ORF)"),
    (b"IIU\0", "RAW (RW2)"),
    (b"FUJIFILMCCD-RAW", "RAW (RAF)"),
    (b"FOVb", "RAW (X3F)"),
    (b"\0MRM", "RAW (MRW)"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"CDF\x01", "NetCDF"),
    (b"\x89HDF", "HDF5"),
    (b"\x93NUMPY", "NumPy"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"BPG\xfb", "BPG"),
    (b"\0\0\x01\0", "ICO"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"\x1aE\xdf\xa3", "video (Matroska, WebM)"),
    (b"PK\x03\x04", "ZIP"),
    (b"Rar!", "RAR"),
    (b"7z\xbc\xaf", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"version https://git-lfs", "Git LFS pointer"),
)


def is_photo_name(name: str) -> bool:
    """Whether the file name has a photo's extension; only the content decides how it is decoded."""
    return name.lower().endswith(SUFFIXES)


def is_system_file(path: str) -> bool:
    """Whether a file has a name that operating systems leave behind, such as Thumbs.db."""
    name = path.rpartition("/")[2]
    return name.startswith("._") or name.lower() in ("thumbs.db", ".ds_store", "desktop.ini", ".directory")


def is_no_photo_name(path: str) -> bool:
    """Whether a file has the name of a document, code, a table or the like: whatever it is, nobody meant a photo."""
    return is_system_file(path) or path.lower().endswith(_BESIDE)


def starts_like_photo(start: bytes) -> bool:
    """Whether a file's first 16 bytes are those of a photo's format."""
    return start.startswith(_PHOTOS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or heif_kind(start) != ""


def heif_kind(start: bytes) -> str:
    """AVIF or HEIC, by a file's first bytes, which may be followed by more; empty for other formats."""
    if start[4:8] != b"ftyp":
        return ""
    length = min(int.from_bytes(start[:4], "big"), 256)
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, min(length, len(start)) - 3, 4))]
    if any(brand in _AVIF for brand in brands):
        return "AVIF"
    return "HEIC" if any(brand in _HEIF for brand in brands) else ""


def other_kind(data: bytes) -> str:
    """The name of a format that is no photo's, or that pati does not read; empty where none is recognised."""
    for mark, name in _OTHERS:
        if data.startswith(mark):
            return name
    if data[:4] in TIFF and data[8:10] == b"CR":
        return "RAW (CR2)"
    if data[4:8] == b"ftyp":
        return "RAW (CR3)" if data[8:11] == b"crx" else "video (MP4, QuickTime)"
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[344:348] in (b"n+1\0", b"ni1\0"):
        return "NIfTI"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    return "SVG" if b"<svg" in start else ""
