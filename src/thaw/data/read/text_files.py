"""Files, and standard input, as lines of text: found, unpacked and decoded, or said why not."""

import bz2
import codecs
import difflib
import gzip
import io
import logging
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from thaw.errors import ThawError

log = logging.getLogger(__name__)

STANDARD_INPUT = Path("standard input")  # in messages
END = "\x1a"  # Ctrl-Z, which ends text files of DOS
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

# How files begin that are no text, what they are, and what to do with them.
FOREIGN = {
    b"PK\x03\x04": "a zip archive, as Excel's .xlsx files are: unzip it, or name it .xlsx",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file: save it as .xlsx or .csv",
    b"\x1f\x8b": "compressed with gzip: its name has to end in .gz",
    b"BZh91AY": "compressed with bzip2: its name has to end in .bz2",
    b"\xfd7zXZ": "compressed with xz: its name has to end in .xz",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"%PDF": "a PDF: extract its text",
    b"PAR1": "Parquet: data.format=parquet reads it",
    b"ARROW1": "Arrow or Feather: save it as .parquet",
    b"SQLite format 3": "an SQLite database: save the table as .csv",
    b"\x89HDF": "HDF5: save the table as .parquet",
    b"\x80\x04\x95": "a pickle, which could run code: save the table as .csv or .parquet",
    b"\x80\x05\x95": "a pickle, which could run code: save the table as .csv or .parquet",
    b"version https://git-lfs": "a Git LFS pointer: `git lfs pull` fetches the file itself",
}
LONGEST_MARK = max(map(len, FOREIGN))


def open_lines(path: Path, encoding: str, longest: int = -1, newline: str = "\n") -> Iterator[str]:
    """Returns lines of a text file of any name, with their ends; see `text_lines`.

    Args:
        path: of the file.
        encoding: of the text.
        longest: characters; a longer line comes in pieces of so many, each but the last without a
            line end. -1: lines come whole.
        newline: end of a line; "": any, as it is.
    """
    require_file(path)
    opener = COMPRESSED.get(path.suffix.lower(), open)
    return text_lines(path, opener, encoding, newline, longest)


def read_whole(path: Path, encoding: str) -> str:
    """Returns the text of a file, which may be empty, with its line ends as they are."""
    return "".join(open_lines(path, encoding)) if path.stat().st_size else ""


def require_file(path: Path) -> None:
    """Raises ThawError unless a path is a file with something in it."""
    if path.is_dir():
        raise ThawError(f"{path} is a directory; name a file in it.")
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, names, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise ThawError(f"{path}: no such file{where}.{hint}")
    if path.stat().st_size == 0:
        raise ThawError(f"{path} is empty.")


def text_lines(
    path: Path, opener: Callable[..., Any], encoding: str, newline: str, longest: int = -1
) -> Iterator[str]:
    """Yields lines of text with their ends; names the byte where the encoding fails."""
    number = 0
    try:
        name = own_encoding(path, opener, encoding)
        with opener(path, "rb") as raw:
            require_own(path, raw.peek(LONGEST_MARK))
            marked = opener is open and ends_marked(raw)
            if marked:
                log.info("%s: a Ctrl-Z ends the file and is passed over", path)
            file = io.TextIOWrapper(raw, name, newline=newline)
            try:
                lines = iter(lambda: file.readline(longest), "") if longest > 0 else file
                for number, line in enumerate(lines, start=1):
                    if marked and line[-1] == END and not 0 < longest <= len(line):
                        line = line[:-1]
                    if not line:
                        return
                    if "\0" in line:
                        raise ThawError(f"{path} line {number}: {nul_hint(line)}")
                    yield line
            except UnicodeDecodeError as error:
                bad = error.object[error.start]
                # What failed to decode always ends where reading stands.
                place = raw.tell() - len(error.object) + error.start
                line_number = number + 1 + error.object[: error.start].count(b"\n")
                marked = place == 0 and bad in (0xFE, 0xFF)
                guess = "utf-16" if marked else "cp1252" if name.startswith("utf-8") else "utf-8"
                raise ThawError(
                    f"{path} is not {encoding}: byte {place} (0x{bad:02x}) in line {line_number}. "
                    f"Give its encoding, such as data.encoding={guess} in training, "
                    f"encoding={guess} in prediction."
                ) from error
    except UnicodeError as error:
        raise ThawError(f"{path} is not {encoding}: {error}.") from error
    except LookupError as error:
        raise ThawError(f"there is no encoding {encoding!r}; try utf-8 or cp1252.") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ThawError(f"{path} cannot be read, is it damaged? {error}") from error


def own_encoding(path: Path, opener: Callable[..., Any], encoding: str) -> str:
    """Returns the codec that a file is read with: that of an encoding which was chosen for it, or
    for others, or UTF-8 where its bytes are that for certain."""
    name = codecs.lookup(encoding).name
    if name.startswith("utf-8"):
        return "utf-8-sig"
    there = path.is_file()  # which standard input is not
    changed = path.stat().st_mtime_ns if there else 0
    return "utf-8-sig" if there and is_utf8_after_all(path, changed, opener, encoding) else name


@lru_cache(maxsize=1000)  # a file is opened several times, and what is wrong is said once
def is_utf8_after_all(path: Path, changed: int, opener: Callable[..., Any], encoding: str) -> bool:
    """Returns, and says, whether a file is valid UTF-8 with characters beyond ASCII, as text in
    `encoding` is not; `changed` is when it was."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    beyond = False
    with opener(path, "rb") as raw:
        while piece := raw.read(1 << 20):
            try:
                beyond |= not decoder.decode(piece).isascii()
            except UnicodeDecodeError:
                return False
            if b"\0" in piece:  # as in UTF-16
                return False
    if beyond := beyond and not decoder.getstate()[0]:
        log.warning("%s: read as UTF-8, which its bytes are, and not as %s", path, encoding)
    return beyond


def ends_marked(raw: Any) -> bool:
    """Returns whether the last byte of an open file is DOS's mark of its end."""
    raw.seek(-1, io.SEEK_END)
    marked = raw.read(1) == END.encode()
    raw.seek(0)
    return marked


def require_own(path: Path, head: bytes) -> None:
    """Raises ThawError if a file begins as one that is no text, whatever its name says."""
    for mark, what in FOREIGN.items():
        if head.startswith(mark):
            raise ThawError(f"{path} is no text. It begins as {what}.")


def nul_hint(line: str) -> str:
    """Returns what a NUL in a line means: UTF-16 without a byte-order mark, or a NUL alone."""
    place = line.index("\0")
    if 3 * line.count("\0") < len(line):
        return "a NUL byte. `tr -d '\\000' < file > without_nul` removes all of them."
    guess = "utf-16-le" if place % 2 else "utf-16-be"
    return (
        f"NUL bytes. Is it text? If it is UTF-16, say data.encoding={guess} in training, "
        f"encoding={guess} in prediction."
    )


def split_part(path: Path) -> tuple[Path, str | None]:
    """Returns a path and the name of a part behind a colon, None where there is none."""
    name, colon, part = path.name.rpartition(":")
    if not colon or path.exists() or not path.with_name(name or " ").exists():
        return path, None
    return path.with_name(name), part


def called(path: Path) -> str:
    """Returns what people call a data set: the name of its directory, or that of its file without
    suffixes, of a file called train that of the directory it is in."""
    if path.is_dir():
        return path.name
    name = re.sub(r"(\.[A-Za-z]\w*){1,2}$", "", split_part(path)[0].name)
    return path.parent.name if name == "train" else name


class CountedBytes(io.RawIOBase):
    """Bytes of a stream that cannot seek, with the number of those that were read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # One read at most: what arrives through a pipe is used as it comes.
        piece = getattr(self.stream, "read1", self.stream.read)(len(buffer))
        buffer[: len(piece)] = piece
        self.count += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self.count


def standard_input_lines(encoding: str) -> Iterator[str]:
    """Returns the lines of standard input as they come, read as a text file is."""

    def opened(path: Path, mode: str) -> io.BufferedReader:
        return io.BufferedReader(CountedBytes(sys.stdin.buffer))

    return text_lines(STANDARD_INPUT, opened, encoding, newline="\n")
