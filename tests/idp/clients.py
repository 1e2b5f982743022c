"""Authlib and requests-oauthlib as applications of the gateway.

clients.py ISSUER CLIENT SECRET REDIRECT_URI
"""

import sys
import urllib.parse

from authlib.integrations.requests_client import OAuth2Session as Authlib
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session as Oauthlib

from browser import Browser

ISSUER, CLIENT, SECRET, REDIRECT = sys.argv[1:]
TOKEN, REVOKE, INTROSPECT = (f"{ISSUER}/oauth2/{name}" for name in ("token", "revoke", "introspect"))
AUTHORIZE = urllib.parse.urljoin(ISSUER, "/login")


def back(url):
    url, _, status, text = Browser().follow(url, REDIRECT, "alice", "alice-pw")
    assert status is None, f"{url}: {status} {text}"
    return url.replace("http://", "https://", 1)  # requests-oauthlib takes no other answer


def authlib():
    for method in ("client_secret_basic", "client_secret_post"):
        session = Authlib(CLIENT, SECRET, token_endpoint_auth_method=method)
        assert session.fetch_token(TOKEN, grant_type="client_credentials")["access_token"]
        print(f"ok   Authlib, {method}: client credentials")
    session = Authlib(CLIENT, SECRET, scope="orders", redirect_uri=REDIRECT, code_challenge_method="S256")
    url, _ = session.create_authorization_url(AUTHORIZE, code_verifier="v" * 64)
    first = session.fetch_token(TOKEN, authorization_response=back(url), code_verifier="v" * 64)
    assert session.get(ISSUER).status_code == 200
    print("ok   Authlib: code with PKCE, a protected request")
    second = session.refresh_token(TOKEN, first["refresh_token"])
    assert second["access_token"] != first["access_token"]
    assert session.introspect_token(INTROSPECT, token=second["access_token"]).json()["active"] is True
    assert session.revoke_token(REVOKE, token=second["access_token"]).status_code == 200
    assert session.introspect_token(INTROSPECT, token=second["access_token"]).json()["active"] is False
    print("ok   Authlib: refresh, introspection, revocation")


def oauthlib():
    session = Oauthlib(client=BackendApplicationClient(client_id=CLIENT))
    assert session.fetch_token(TOKEN, client_id=CLIENT, client_secret=SECRET)["access_token"]
    print("ok   requests-oauthlib: client credentials")
    session = Oauthlib(CLIENT, redirect_uri=REDIRECT, scope=["orders"], pkce="S256")
    url, _ = session.authorization_url(AUTHORIZE)
    session.fetch_token(TOKEN, authorization_response=back(url), client_secret=SECRET)
    assert session.get(ISSUER).json()["headers"]["x-authenticated-userid"] == "alice"
    print("ok   requests-oauthlib: code with PKCE, a protected request")


authlib()
oauthlib()
