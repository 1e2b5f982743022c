"""The example of a login page, and real applications that get tokens of the gateway through it.

provider.py POSTERN BINARIES MODULES PYTHON GO: BINARIES is the folder of postern-login and postern-echo, MODULES where Node finds its
packages, PYTHON the interpreter that has the others, GO what was built of go/. Ports are fixed: use run.sh.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.parse

import browser
import fleet
import lab

EXAMPLE = lab.HERE / "../../examples/login/manifests/objects.yaml"
ORIGIN = "https://127.0.0.1:8443"
ISSUER = ORIGIN + "/orders"
APPLICATION = ["app", "app-secret-of-the-example", "http://localhost:9200/callback"]
PROVISION_KEY = "a key that only the login page and the gateway know"


def certificate(folder):
    """Of this machine, signed by itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj",
         "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )
    return {name: (folder / name).read_text() for name in ("tls.crt", "tls.key")}


def manifests(folder):
    """The example's, and a listener with TLS: real applications take no other."""
    http = "  - {name: http, protocol: HTTP, port: 8000}\n"
    https = "  - {name: https, protocol: HTTPS, port: 8443, tls: {certificateRefs: [{name: tls}]}}\n"
    grant = "    enableAuthorizationCode: true\n"
    text = EXAMPLE.read_text()
    assert http in text and grant in text
    text = text.replace(http, http + https).replace(grant, f"{grant}    loginUrl: {ORIGIN}/login\n")
    (folder / "objects.yaml").write_text(text)
    secrets = {"login-page": {"provisionKey": PROVISION_KEY}, "tls": certificate(folder.parent)}
    lab.write(folder.parent, [lab.secret(name, data) for name, data in secrets.items()], "secrets.json")


def code():
    """As the browser brings it."""
    _, _, redirect = APPLICATION
    query = {"client_id": "app", "response_type": "code", "scope": "orders", "redirect_uri": redirect}
    start = f"{lab.GATEWAY}/login?{urllib.parse.urlencode(query)}"
    back, _, status, text = browser.Browser().follow(start, redirect, "alice", "alice-pw")
    assert status is None, f"{status} {text}"
    return urllib.parse.parse_qs(urllib.parse.urlsplit(back).query)["code"][0]


def main():
    postern, binaries, modules, python, goes = sys.argv[1:]
    binaries = pathlib.Path(binaries)
    login = {"PROVISION_KEY": PROVISION_KEY, "GATEWAY_HOST": "127.0.0.1:8443", "GATEWAY_PATH": "/orders/oauth2/authorize"}
    with (
        lab.scene() as folder,
        lab.program(folder, binaries / "postern-echo", "127.0.0.1:9000"),
        lab.program(folder, binaries / "postern-login", **login),
    ):
        manifests(folder / "manifests")
        with lab.gateway(postern, folder):
            applications(folder, modules, python, goes)
        client, secret, redirect = APPLICATION
        application = {"client_id": client, "client_secret": secret, "redirect_uri": redirect}
        fleet.one_winner(postern, folder, code, application)
        print("ok   of 64 who redeem one code or one refresh token at two proxies, one wins")
        lab.hidden(folder, [PROVISION_KEY, secret, "alice-pw"])
    print("ok")


def applications(folder, modules, python, goes):
    certificate = folder / "tls.crt"
    trusted = {
        **os.environ, "PYTHONPATH": lab.HERE,
        **{name: certificate for name in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")},
    }
    # Node looks for packages beside the script.
    script = shutil.copy(lab.HERE / "clients.mjs", pathlib.Path(modules) / "clients.mjs")
    for command in (["node", script], [goes]):
        subprocess.run([*command, ISSUER, *APPLICATION, lab.HERE / "browser.py"], check=True, env=trusted)
    subprocess.run([python, lab.HERE / "clients.py", ISSUER, *APPLICATION], check=True, env=trusted)


if __name__ == "__main__":
    main()
