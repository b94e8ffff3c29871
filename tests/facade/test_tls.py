"""
``Dapr`` over TLS: an encrypted gRPC server with the sidecar's calls, and a client that trusts its certificate.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from dapr.proto import api_service_v1, api_v1

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "tls-token"


class Secretive(api_service_v1.DaprServicer):
    """
    The two calls that reading a secret takes; it answers with the token it was shown.
    """

    def GetMetadata(self, request, context):  # noqa: N802  the name of the call
        component = api_v1.RegisteredComponents(name="secrets", type="secretstores.local.env", version="v1")
        return api_v1.GetMetadataResponse(registered_components=[component])

    def GetSecret(self, request, context):  # noqa: N802  the name of the call
        shown = dict(context.invocation_metadata()).get("dapr-api-token", "")
        return api_v1.GetSecretResponse(data={request.key: shown})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate: apt-get install openssl")
    directory = tmp_path_factory.mktemp("tls")
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=60)
    return directory


@pytest.fixture(scope="module")
def port(certificate):
    server = grpc.server(ThreadPoolExecutor(4))
    api_service_v1.add_DaprServicer_to_server(Secretive(), server)
    pair = ((certificate / "key.pem").read_bytes(), (certificate / "cert.pem").read_bytes())
    number = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield number
    server.stop(None).wait()


def read_secret(address: str, certificate: Path | None) -> subprocess.CompletedProcess[str]:
    """
    Read a secret in a fresh process: gRPC reads which certificates it trusts once.
    """
    code = (
        "import sys, toolkit\n"
        "try:\n"
        "    with toolkit.Dapr(secret_store='secrets', startup_timeout=2, api_token=sys.argv[1]) as dapr:\n"
        "        print(dapr.secrets.get('a'))\n"
        "except toolkit.SidecarUnavailableError as error:\n"
        "    print(error)\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    env |= {"DAPR_GRPC_ENDPOINT": address, "PYTHONPATH": str(ROOT)}
    if certificate is not None:
        env["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(certificate / "cert.pem")
    command = [sys.executable, "-c", code, TOKEN]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.parametrize(
    "form", ["https://localhost:{port}", "localhost:{port}?tls=true", "dns:localhost:{port}?tls=true"]
)
def test_the_forms_that_speak_tls(port, certificate, form):
    """
    ``https://`` and ``?tls=true`` encrypt; the token arrives.
    """
    assert f"{{'a': '{TOKEN}'}}\n" == read_secret(form.format(port=port), certificate).stdout


def test_a_certificate_that_nobody_trusts(port):
    """
    An unknown certificate ends with the last reason, and the token is not shown.
    """
    ran = read_secret(f"https://localhost:{port}", None)
    assert "no Dapr sidecar answered at localhost:" in ran.stdout
    assert TOKEN not in ran.stdout + ran.stderr


def test_plain_text_to_a_tls_port(port, certificate):
    """
    A plain address does not reach a sidecar that speaks TLS.
    """
    assert "no Dapr sidecar answered" in read_secret(f"http://localhost:{port}", certificate).stdout
