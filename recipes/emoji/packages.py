"""The npm packages of the emoji pictures: downloaded by `npm pack`, verified, read.

npm reports the SHA-512 of each package; a file with another one is refused, so that every build
starts from the same bytes.
"""

import base64
import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Package:
    """A package of a fixed version.

    Attributes:
        name: on npm.
        version: exact.
        sha512: of the packed file, base64, as `npm view NAME@VERSION dist.integrity` reports it.
        license: of its content, an SPDX identifier.
        credit: whose work it is, with the address of the source.
    """

    name: str
    version: str
    sha512: str
    license: str
    credit: str

    @property
    def file(self) -> str:
        """Name of the file that `npm pack` writes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


TWEMOJI = Package(
    "@iconify-json/twemoji",
    "1.2.5",
    "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    "CC-BY-4.0",
    "Twemoji, copyright Twitter, Inc and other contributors, https://github.com/jdecked/twemoji",
)
NOTO = Package(
    "@iconify-json/noto",
    "1.2.9",
    "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    "Apache-2.0",
    "Noto Emoji, Google Inc, https://github.com/googlefonts/noto-emoji",
)
BLOB = Package(
    "@iconify-json/noto-v1",
    "1.2.5",
    "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    "Apache-2.0",
    "Noto Emoji of version 1 (blobs), Google Inc, https://github.com/googlefonts/noto-emoji",
)
FLUENT_FLAT = Package(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    "MIT",
    "Fluent Emoji, Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
)
FLUENT_3D = Package(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    "MIT",
    "Fluent Emoji, Microsoft Corporation, packed by LobeHub, "
    "https://github.com/lobehub/fluent-emoji",
)
EMOJIBASE = Package(
    "emojibase-data",
    "17.0.0",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    "MIT",
    "emojibase, Miles Johnson, https://github.com/milesj/emojibase",
)
EMOJILIB = Package(
    "emojilib",
    "4.0.3",
    "KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
    "MIT",
    "emojilib, Mu-An Chiou, https://github.com/muan/emojilib",
)
CLDR = Package(
    "cldr-annotations-full",
    "48.2.0",
    "DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
    "Unicode-3.0",
    "Unicode CLDR, Unicode, Inc, https://github.com/unicode-org/cldr-json",
)


class Archive:
    """A verified package file."""

    def __init__(self, package: Package, folder: Path) -> None:
        """Opens the package in `folder`; downloads it there first if it is missing.

        Raises:
            SystemExit: if npm fails or the file is not the expected one.
        """
        self.path = folder / package.file
        if not self.path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            command = ["npm", "pack", f"{package.name}@{package.version}", "--silent"]
            try:
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SystemExit(f"{' '.join(command)} failed: {error}") from error
        found = base64.b64encode(hashlib.sha512(self.path.read_bytes()).digest()).decode()
        if found != package.sha512:
            raise SystemExit(
                f"{self.path} has SHA-512 {found}; {package.name} {package.version} has "
                f"{package.sha512}; delete the file and run this again"
            )

    @cached_property
    def members(self) -> dict[str, bytes]:
        """Content of every file, by its path inside the package."""
        with tarfile.open(self.path) as archive:
            return {
                member.name.removeprefix("package/"): file.read()
                for member in archive
                if (file := archive.extractfile(member)) is not None
            }

    def json(self, path: str) -> Any:
        """A JSON file's content."""
        return json.loads(self.members[path])
