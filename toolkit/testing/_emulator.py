"""
Where the programs of the emulators come from, and what they have in common.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from typing_extensions import override

from toolkit.sidecar import ServerUnavailable
from toolkit.testing._server import Server

NPM: Final = ("azurite@3.37.0", "@vercel/cosmosdb-server@1.0.1")
# Each into a directory of its own, since they bring different versions of the same libraries.
MAVEN: Final[Mapping[str, tuple[str, str, str]]] = {
    "dynamodb": ("software.amazon.dynamodb", "DynamoDBLocal", "3.3.1"),
    "mongodb": ("de.bwaldvogel", "mongo-java-server", "1.47.0"),
}
VARIABLE: Final = "OCC_EMULATORS"


def directory() -> Path:
    """
    Where the emulators' programs are.
    """
    return Path(os.environ.get(VARIABLE) or Path(".sidecar") / "emulators").absolute()


def install() -> None:
    """
    Fetch the programs from npm and Maven, as they are pinned here.

    Raises:
        ServerUnavailable: npm or mvn is not installed.
        subprocess.CalledProcessError: A registry did not deliver; its own words are on the terminal.
    """
    npm, mvn = shutil.which("npm"), shutil.which("mvn")
    if npm is None or mvn is None:
        raise ServerUnavailable(
            "the emulators need npm and mvn; on Debian and Ubuntu: apt-get install npm maven"
        )
    place = directory()
    place.mkdir(parents=True, exist_ok=True)
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]
    subprocess.run([npm, "install", *options, *NPM], check=True)  # noqa: S603  our own pinned names
    for name, artifact in MAVEN.items():
        (place / name).mkdir(exist_ok=True)
        (place / name / "pom.xml").write_text(_POM.format(*artifact), encoding="utf-8")
        copy = [mvn, "-q", "dependency:copy-dependencies", f"-DoutputDirectory={place / name}"]
        subprocess.run(copy, check=True, cwd=place / name)  # noqa: S603  our own pinned names


def jar(name: str) -> str:
    """
    Where the program of an artifact lies, relative to the directory of all.
    """
    _, artifact, version = MAVEN[name]
    return f"{name}/{artifact}-{version}.jar"


_POM: Final = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>occ</groupId><artifactId>emulators</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>
  </dependencies>
</project>
"""


class Emulator(Server):
    """
    A server whose program was installed by ``install``.
    """

    package = "nodejs"
    program: ClassVar[str]

    @classmethod
    @override
    def find(cls) -> dict[str, str]:
        found = super().find()
        path = directory() / cls.program
        if not path.exists():
            raise ServerUnavailable(
                f"{cls.__name__} is not installed in {directory()}: run python -m toolkit.testing.emulators install"
            )
        return found | {"program": str(path)}

    def _answers(self, port: int) -> bool:
        """
        Whether anything at all speaks HTTP there.
        """
        connection = http.client.HTTPConnection(self.host, port, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """
        Send a request of the service's own API that must succeed.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request("POST", path, json.dumps(body), dict(headers))
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if answer.status >= 300:
            raise ServerUnavailable(f"{type(self).__name__}: POST {path} gave {answer.status}: {text[:200]}")
