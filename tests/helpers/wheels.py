"""Makes wheels for a package index in a directory."""

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def add_wheel(
    index: Path, files: Mapping[str | zipfile.ZipInfo, bytes], name: str = "tiny"
) -> dict[str, str]:
    """Writes a wheel; gives its entry of `wheels`."""
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    contents: dict[str | zipfile.ZipInfo, bytes] = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{record_line(n, c)}\n" for n, c in contents.items())
    path = index / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in contents.items():
            wheel.writestr(member, content)
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return {f"{name}==1.0": hashlib.sha256(path.read_bytes()).hexdigest()}


def record_line(member: str | zipfile.ZipInfo, content: bytes) -> str:
    name = member if isinstance(member, str) else member.filename
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"
