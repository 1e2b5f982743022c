"""Signing in at real providers: code flow with each way of a client's authentication, several tabs, renewal with rotation
under parallel requests, logout with revocation, logout by the provider, access tokens judged by introspection and by keys, and tokens for upstreams.

sign_in.py POSTERN [kc] [op] [si]: everything runs on loopback, on ports that are fixed: use run.sh, which gives it a network of its own.
"""

import base64
import concurrent.futures
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import browser
import check
import fleet
import upstream

GATEWAY = check.GATEWAY
BYE = GATEWAY + "/bye"
SECRET = "gw-secret-value"
LONG_SECRET = "gw-secret-jwt-value-of-at-least-64-bytes-0123456789abcdef0123456789"
KEY = {"clientRsaPrivateKeyRef": {"name": "clients", "key": "key"}, "clientRsaPrivateKeyId": "client-key"}


def secret(entry):
    return {"clientSecretRef": {"name": "clients", "key": entry}}


class Keycloak(check.Keycloak):
    short = "kc"
    token_endpoint = check.Keycloak.issuer + "/protocol/openid-connect/token"
    introspection = token_endpoint + "/introspect"
    more = {"scope": "openid profile email"}
    introspects_as = {"clientId": "gw-bearer", **secret("bearer")}
    clients = {
        "basic": {"clientId": "gw-secret", "tokenEndpointAuthMethod": "client_secret_basic", **secret("secret")},
        "post": {"clientId": "gw-secret", "tokenEndpointAuthMethod": "client_secret_post", **secret("secret")},
        "secret-jwt": {"clientId": "gw-secret-jwt", "tokenEndpointAuthMethod": "client_secret_jwt", **secret("long")},
        "private-key": {"clientId": "gw-private-key-jwt", "tokenEndpointAuthMethod": "private_key_jwt", **KEY},
        "public": {"clientId": "gw-public"},
        "es256": {"clientId": "gw-es256", **secret("es256")},
    }

    def __init__(self):
        self.environment = {**os.environ, "KC_BACKCHANNEL_LOGOUT_URL": f"{GATEWAY}/kc-basic/ended"}

    @property
    def key(self):
        return pathlib.Path(os.environ["KC_STATE"]) / "client-key.pem"

    def known(self):
        """A token that introspection knows."""
        return self.token()

    def enlarge(self, client):
        """Makes all that the client gets larger than cookies can be."""
        bearer = self.admin()
        clients = "http://127.0.0.1:18080/admin/realms/gw/clients"
        _, body = check.call(f"{clients}?clientId={client}", headers=bearer)
        config = {
            "claim.name": "large", "claim.value": secrets.token_urlsafe(7500), "jsonType.label": "String",
            "id.token.claim": "true", "access.token.claim": "true", "userinfo.token.claim": "true",
        }
        mapper = {
            "name": "large", "protocol": "openid-connect", "protocolMapper": "oidc-hardcoded-claim-mapper", "config": config,
        }
        url = f"{clients}/{json.loads(body)[0]['id']}/protocol-mappers/models"
        status, body = check.call(url, headers=bearer, document=mapper)
        assert status == 201, f"{status} {body}"

    def end_sessions(self, _):
        """As an administrator does."""
        bearer = self.admin()
        users = "http://127.0.0.1:18080/admin/realms/gw/users"
        _, body = check.call(users + "?username=alice", headers=bearer)
        user = json.loads(body)[0]["id"]
        status, body = check.call(f"{users}/{user}/logout", headers=bearer, document={})
        assert status == 204, f"{status} {body}"


class OidcProvider(check.OidcProvider):
    short = "op"
    token_endpoint = check.OidcProvider.issuer + "/token"
    introspection = token_endpoint + "/introspection"
    # It gives refresh tokens to those who ask for this, and users who agree to it.
    more = {"scope": "openid profile email offline_access", "authorizationParams": {"prompt": "consent"}}
    introspects_as = Keycloak.introspects_as
    clients = {**Keycloak.clients, "post": {**Keycloak.clients["post"], "clientId": "gw-post"}}

    def __init__(self):
        callbacks = [f"{GATEWAY}/op-{name}/callback" for name in [*self.clients, "wrong", fleet.NAME]]
        self.environment = {
            **os.environ,
            "OP_REDIRECT_URIS": ",".join([*callbacks, BYE]),
            "OP_BACKCHANNEL_LOGOUT_URI": f"{GATEWAY}/op-basic/ended",
        }

    @property
    def key(self):
        return pathlib.Path(os.environ["OP_STATE"]) / "client-key.pem"

    def renewals(self):
        log = (pathlib.Path(os.environ["OP_STATE"]) / "log").read_text()
        return log.count("grant refresh_token")

    def known(self):
        """It says nothing of tokens that are signed."""
        return check.token(self.issuer + "/token")

    def end_sessions(self, user):
        """As the user does who signs out there."""
        _, _, status, text = user.follow(self.issuer + "/session/end", username="alice", password="alice-pw")
        assert status == 200, f"{status} {text}"


class Spring(check.Issuer):
    program, short = "spring.sh", "si"
    issuer = "http://127.0.0.1:18095"
    token_endpoint = issuer + "/oauth2/token"
    introspection = issuer + "/oauth2/introspect"
    more = {"scope": "openid profile email"}
    clients = {name: Keycloak.clients[name] for name in ("basic", "post", "secret-jwt", "public")}
    introspects_as = {"clientId": "gw-secret", **secret("secret")}

    def __init__(self):
        names = [*self.clients, "wrong", "large", "brief", fleet.NAME]
        callbacks = [f"{GATEWAY}/si-{name}/callback" for name in names]
        self.environment = {**os.environ, "SI_REDIRECT_URIS": ",".join([*callbacks, BYE])}

    def token(self):
        return check.token(self.token_endpoint)

    known = token


def objects(providers):
    made = [o for o in check.objects([]) if o["kind"] != "Consumer"]
    made.append(route("bye", []))
    for provider in providers:
        made.append({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{provider.short}-clients"},
            "stringData": {
                "secret": SECRET, "long": LONG_SECRET, "es256": "gw-es256-value", "bearer": "gw-bearer-value", "wrong": "wrong",
                "session": "a secret that the proxies share",
                **({"key": provider.key.read_text()} if "private-key" in provider.clients else {}),
            },
        })
        for name, client in provider.clients.items():
            own = f"/{provider.short}-{name}"
            ended = {"backchannelLogoutPath": own + "/ended"} if name == "basic" else {}
            made += protected(provider, name, {
                **client, **provider.more, **ended, "redirectUri": f"{GATEWAY}{own}/callback", "logoutPath": own + "/logout",
                "postLogoutRedirectUri": BYE, "revokeTokensOnLogout": True, "setRefreshTokenHeader": True,
                # Every token is due for renewal a moment after it came.
                "accessTokenExpiresLeeway": 299,
            })
        made += upstream.objects(provider, route)
        bearer = {"bearerOnly": True, **provider.introspects_as}
        made += protected(provider, "introspection", bearer)
        made += protected(provider, "keys", {**bearer, "useJwks": True})
        # As if two proxies had it from one control plane.
        made += protected(provider, fleet.NAME, {
            **provider.clients["basic"], **provider.more, "redirectUri": f"{GATEWAY}/{provider.short}-{fleet.NAME}/callback",
            "accessTokenExpiresLeeway": 297, "session": {"secretRef": {"name": "clients", "key": "session"}},
        })
        # For the browser.
        for name, client, more in (
            ("large", "public", {}), ("brief", "basic", {"session": {"cookie": {"lifetime": 2}}}),
        ):
            made += protected(provider, name, {
                **provider.clients[client], **provider.more, **more, "redirectUri": f"{GATEWAY}/{provider.short}-{name}/callback",
            })
        made += protected(provider, "wrong", {
            **provider.clients["basic"], **secret("wrong"), "redirectUri": f"{GATEWAY}/{provider.short}-wrong/callback",
        })
    return made


def route(name, rules):
    v1 = "gateway.networking.k8s.io/v1"
    backend = {"backendRefs": [{"name": "echo", "port": 9000}]}
    paths = [{"path": {"type": "PathPrefix", "value": f"/{name}"}}, *rules]
    return {
        "apiVersion": v1, "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"matches": paths, **backend}]},
    }


def protected(provider, name, config):
    name = f"{provider.short}-{name}"
    config = json.loads(json.dumps(config).replace('"clients"', f'"{provider.short}-clients"'))
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name}
    config["discovery"] = provider.issuer + "/.well-known/openid-configuration"
    return [
        route(name, []),
        {"apiVersion": "postern.dev/v1alpha1", "kind": "AuthPlugin", "metadata": {"name": name},
         "spec": {"targetRefs": [target], "openidConnect": config}},
    ]


def sign_in(user, url):
    """Opens a page, signs in where asked, and returns what the upstream saw."""
    ended, _, status, text = user.follow(url, username="alice", password="alice-pw")
    assert (ended, status) == (url, 200), f"{url}: {ended} {status} {text}\n{user.trace}"
    return json.loads(text)


def seen(user, url):
    """What the upstream sees of a request that needs no provider any more."""
    status, headers, text = user.request(url)
    assert status == 200, f"{url}: {status} {headers.get('Location')} {text}"
    return json.loads(text)


def asked_to_sign_in(user, url, provider):
    status, headers, _ = user.request(url)
    location = headers.get("Location") or ""
    assert status == 302 and location.startswith(provider.issuer), f"{url}: {status} {location}"
    return location


def claims(header):
    return json.loads(base64.b64decode(header + "=" * (-len(header) % 4)))


def active(provider, token, client):
    names = {"gw-secret": SECRET, "gw-post": SECRET}
    caller = check.basic(client, names[client]) if client in names else check.basic("gw-secret", SECRET)
    status, body = check.call(provider.introspection, {"token": token}, caller)
    assert status == 200, f"{status} {body}"
    return json.loads(body)["active"]


def says(provider, what):
    print(f"{provider.program}: {what}", flush=True)


def code_flow(provider, name, tokens):
    page = f"{GATEWAY}/{provider.short}-{name}/deep?x=1&y=%20z"
    user = browser.Browser()
    first = sign_in(user, page)
    known = claims(first["x-userinfo"])
    assert "alice" in (known.get("preferred_username"), known.get("name"), known["sub"]), known
    assert claims(first["x-id-token"])["sub"] == known["sub"]
    mine = [part for part in first.get("cookie", "").split("; ") if part.startswith("session")]
    assert not mine, "the upstream gets the session"
    tokens.append(first["x-access-token"])
    if "x-refresh-token" in first:
        tokens.append(first["x-refresh-token"])
        renewed_together(provider, name, user, page, first, tokens)
    else:
        assert (provider.short, name) == ("si", "public"), "it gives no refresh tokens to public clients"
    last = seen(user, page)
    tokens.append(last["x-access-token"])
    ended, _, status, text = user.follow(f"{GATEWAY}/{provider.short}-{name}/logout")
    assert (ended.split("?")[0], status) == (BYE, 200), f"{ended} {status} {text}\n{user.trace}"
    asked_to_sign_in(user, page, provider)
    client = provider.clients[name]["clientId"]
    if client in ("gw-secret", "gw-post"):
        assert not active(provider, last["x-access-token"], client), "the token outlives the logout"
    says(provider, f"{name}: signed in, renewed, signed out")


def renewed_together(provider, name, user, page, first, tokens):
    """Many requests at once when the token is due: one renewal, or the provider would end what it sees used twice."""
    deadline = time.monotonic() + 20
    while seen(user, page)["x-access-token"] == first["x-access-token"]:
        assert time.monotonic() < deadline, "the token is not renewed"
    rounds = 3
    for _ in range(rounds):
        time.sleep(1.1)  # What is waited for is time itself: until the token is due.
        cookie = "; ".join(f"{c.name}={c.value}" for c in user.cookies if c.name.startswith("session"))
        headers = {"Accept": "text/html", "Cookie": cookie}
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: check.call(page, headers=headers), range(16)))
        statuses = {status for status, _ in answers}
        assert statuses == {200}, f"{name}: {statuses}"
        among = {json.loads(body)["x-refresh-token"] for _, body in answers}
        tokens += among
        # Whoever came while the renewal went on may have been told the token before it.
        assert len(among) <= 2, f"{name}: {len(among)} refresh tokens at once"
        tokens.append(seen(user, page)["x-access-token"])


def tabs(provider):
    """Two tabs are sent away before either is back."""
    user = browser.Browser()
    pages = [f"{GATEWAY}/{provider.short}-basic/tab?n={n}" for n in range(3)]
    places = [asked_to_sign_in(user, page, provider) for page in pages]
    for page, place in reversed(list(zip(pages, places))):
        ended, _, status, text = user.follow(place, username="alice", password="alice-pw")
        assert (ended, status) == (page, 200), f"{ended} {status} {text}\n{user.trace}"
    says(provider, "three tabs at once")


def ended_by_the_provider(provider):
    user = browser.Browser()
    page = f"{GATEWAY}/{provider.short}-basic/"
    sign_in(user, page)
    provider.end_sessions(user)
    deadline = time.monotonic() + 10
    while user.request(page)[0] == 200:
        assert time.monotonic() < deadline, "the session outlives the provider's"
        time.sleep(0.05)
    asked_to_sign_in(user, page, provider)
    says(provider, "a session that the provider ended")


def bearers(provider, tokens):
    for name, token in (("introspection", provider.known()), ("keys", provider.token())):
        tokens.append(token)
        page = f"{GATEWAY}/{provider.short}-{name}/"
        for value, expected in ((token, 200), (token[:-8] + "AAAAAAAA", 401), ("nonsense", 401), (None, 401)):
            headers = {} if value is None else {"Authorization": f"Bearer {value}"}
            status, body = check.call(page, headers=headers)
            assert status == expected, f"{page} {str(value)[-8:]}: {status} {body}"
    says(provider, "access tokens, by introspection and by keys")


def in_a_browser(provider, modules):
    provider.enlarge(provider.clients["public"]["clientId"])
    # Node looks for packages beside the script.
    script = shutil.copy(check.HERE / "chromium.mjs", pathlib.Path(modules) / "chromium.mjs")
    subprocess.run(["node", script, GATEWAY, provider.issuer], check=True)


def wrong_secret(provider):
    user = browser.Browser()
    page = f"{GATEWAY}/{provider.short}-wrong/"
    _, _, status, text = user.follow(page, username="alice", password="alice-pw")
    assert status == 500 and "wrong" not in text, f"{status} {text}\n{user.trace}"
    says(provider, "a wrong secret of the client")


def main():
    postern, *only = sys.argv[1:]
    providers = [made() for made in (Keycloak, OidcProvider, Spring) if not only or made.short in only]
    threading.Thread(
        target=check.http.server.ThreadingHTTPServer(("127.0.0.1", 9000), check.Echo).serve_forever, daemon=True
    ).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        process = None
        try:
            starting = [threading.Thread(target=provider.script, args=["up"]) for provider in providers]
            for thread in starting:
                thread.start()
            for thread in starting:
                thread.join()
            (folder / "manifests").mkdir()
            items = {"apiVersion": "v1", "kind": "List", "items": objects(providers)}
            (folder / "manifests" / "all.json").write_text(json.dumps(items))
            with open(folder / "log", "wb") as log:
                process = subprocess.Popen(
                    [postern, "run", "--manifests", folder / "manifests", "--state-dir", folder / "state"],
                    stdout=log, stderr=log,
                )
            check.wait_ready(process)
            tokens = []
            for provider in providers:
                for name in provider.clients:
                    code_flow(provider, name, tokens)
                tabs(provider)
                if hasattr(provider, "end_sessions"):
                    ended_by_the_provider(provider)
                bearers(provider, tokens)
                wrong_secret(provider)
                if isinstance(provider, Keycloak):
                    in_a_browser(provider, os.environ["OP_STATE"])
                tokens += upstream.tokens(provider, active)
                says(provider, "tokens for upstreams")
            process.terminate()
            process.wait(30)
            for provider in providers:
                if isinstance(provider, OidcProvider):
                    fleet.one_renewal(postern, folder, provider, sign_in)
                    says(provider, "one renewal for two proxies")
            log = (folder / "log").read_text()
            leaked = [token for token in tokens if token in log]
            assert not leaked, f"{len(leaked)} tokens are in the log"
            assert SECRET not in log and LONG_SECRET not in log, "a client's secret is in the log"
        except BaseException:
            if (folder / "log").exists():
                lines = (folder / "log").read_text().splitlines()
                sys.stderr.write("\n".join(lines[-40:]) + "\n")
            raise
        finally:
            if process is not None:
                process.kill()
                process.wait()
            for provider in providers:
                provider.script("down")
    print("ok")


if __name__ == "__main__":
    main()
