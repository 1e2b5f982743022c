"""Signing in at real providers: code flow with each way of a client's authentication, several tabs, renewal with rotation
under parallel requests, logout with revocation, logout by the provider, access tokens judged by introspection and by keys, and tokens for upstreams.

sign_in.py POSTERN [kc] [op] [si]: everything runs on loopback, on ports that are fixed: use run.sh, which gives it a network of its own.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import browser
import fleet
import lab
import trouble
import upstream
from lab import GATEWAY
from providers import BYE, LONG_SECRET, SECRET, SHARED, Keycloak, OidcProvider, Spring, secret
from users import asked_to_sign_in, claims, says, seen, sign_in


# Whose tokens live on: Spring lets public clients revoke nothing. Who can revoke after all has to be taken off.
UNREVOKED = {("si", "public")}


def objects(providers):
    yield from lab.base()
    yield lab.route("bye")
    yield lab.made("postern.dev/v1alpha1", "Consumer", "alice")
    for provider in providers:
        yield lab.secret(f"{provider.short}-clients", {
            "secret": SECRET, "long": LONG_SECRET, "es256": "gw-es256-value", "bearer": "gw-bearer-value", "wrong": "wrong",
            "session": "a secret that the proxies share",
            **({"key": (provider.state / "client-key.pem").read_text()} if "private-key" in provider.clients else {}),
        })
        yield from upstream.objects(provider)
        for name, config in plugins(provider):
            name = f"{provider.short}-{name}"
            config = json.loads(json.dumps(config).replace('"clients"', f'"{provider.short}-clients"'))
            config["discovery"] = provider.issuer + "/.well-known/openid-configuration"
            if not config.get("bearerOnly"):
                config["redirectUri"] = f"{GATEWAY}/{name}/callback"
            yield lab.route(name)
            yield lab.plugin(name, openidConnect=config)


def plugins(provider):
    """Name and configuration, but for what all have."""
    for name, client in provider.clients.items():
        own = f"/{provider.short}-{name}"
        yield name, {
            **client, **provider.more, "logoutPath": own + "/logout", "postLogoutRedirectUri": BYE,
            "revokeTokensOnLogout": True, "setRefreshTokenHeader": True,
            # Every token is due for renewal a moment after it came.
            "accessTokenExpiresLeeway": 299,
        }
    for name, client in provider.clients.items():
        method = client.get("tokenEndpointAuthMethod")
        if method is not None:
            yield f"introspects-{name}", {"bearerOnly": True, **client, "introspectionEndpointAuthMethod": method}
    yield "introspection", {"bearerOnly": True, **provider.introspects_as}
    yield "keys", {"bearerOnly": True, **provider.introspects_as, "useJwks": True}
    basic = {**provider.clients["basic"], **provider.more}
    yield SHARED, {
        **basic, "accessTokenExpiresLeeway": 297, "backchannelLogoutPath": f"/{provider.short}-{SHARED}/ended",
        # As if two proxies had it from one control plane.
        "session": {"secretRef": {"name": "clients", "key": "session"}},
    }
    yield "wrong", {**basic, **secret("wrong")}
    plain = {**provider.clients["basic"], "scope": "openid profile"}
    yield "plain", plain
    yield "silent", {**plain, "refreshSessionInterval": 1}
    for name, more in (("deny", {"unauthAction": "deny"}), ("pass", {"unauthAction": "pass"}), ("named", {"consumerClaim": provider.name})):
        yield name, {**plain, **more}
    # For the browser.
    yield "large", {**provider.clients["public"], **provider.more}
    yield "brief", {**basic, "session": {"cookie": {"lifetime": 2}}}


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
    sign_out(provider, name, user, last["x-access-token"])
    asked_to_sign_in(user, page, provider)
    says(provider, f"{name}: signed in, renewed, signed out")


def sign_out(provider, name, user, token):
    assert known(provider, token)
    status, headers, text = user.request(f"{GATEWAY}/{provider.short}-{name}/logout")
    place = headers.get("Location") or ""
    assert status == 302 and place.startswith(provider.issuer), f"{status} {place} {text}"
    # Its session there has not ended yet: whoever knows the token no more was told of it.
    assert known(provider, token) == ((provider.short, name) in UNREVOKED), f"{name}: revoked, or not"
    ended, _, status, text = user.follow(place)
    assert (ended.split("?")[0], status) == (BYE, 200), f"{ended} {status} {text}\n{user.trace}"


def known(provider, token):
    """Whether the provider takes the access token itself."""
    status, body = lab.call(provider.userinfo, headers={"Authorization": f"Bearer {token}"})
    assert status in (200, 401), f"{status} {body}"
    return status == 200


def renewed_together(provider, name, user, page, first, tokens):
    """Many requests at once when the token is due: one renewal, or the provider would end what it sees used twice."""
    lab.until("a renewal", lambda: seen(user, page)["x-access-token"] != first["x-access-token"])
    for _ in range(3):
        time.sleep(1.1)  # What is waited for is time itself: until the token is due.
        headers = {"Accept": "text/html", "Cookie": user.cookie("session")}
        answers = lab.at_once(16, lambda _: lab.call(page, headers=headers))
        statuses = {status for status, _ in answers}
        assert statuses == {200}, f"{name}: {statuses}"
        among = {json.loads(body)["x-refresh-token"] for _, body in answers}
        tokens += among
        # Whoever came while the renewal went on may have been told the token before it.
        assert len(among) <= 2, f"{name}: {len(among)} refresh tokens at once"
        tokens.append(seen(user, page)["x-access-token"])


def tabs(provider):
    """Three tabs are sent away before any of them is back."""
    user = browser.Browser()
    pages = [f"{GATEWAY}/{provider.short}-basic/tab?n={n}" for n in range(3)]
    places = [asked_to_sign_in(user, page, provider) for page in pages]
    for page, place in reversed(list(zip(pages, places))):
        ended, _, status, text = user.follow(place, username="alice", password="alice-pw")
        assert (ended, status) == (page, 200), f"{ended} {status} {text}\n{user.trace}"
    says(provider, "three tabs at once")


def ended_by_the_provider(provider):
    user = browser.Browser()
    page = f"{GATEWAY}/{provider.short}-{SHARED}/"
    sign_in(user, page)
    provider.end_sessions(user)
    lab.until("the end of the session", lambda: user.request(page)[0] != 200)
    asked_to_sign_in(user, page, provider)
    says(provider, "a session that the provider ended")


def bearers(provider, tokens):
    introspects = [f"introspects-{name}" for name, client in provider.clients.items() if "tokenEndpointAuthMethod" in client]
    for name in ("introspection", "keys", *introspects):
        token = provider.token() if name == "keys" else provider.known()
        tokens.append(token)
        page = f"{GATEWAY}/{provider.short}-{name}/"
        for value, expected in ((token, 200), (token[:-8] + "AAAAAAAA", 401), ("nonsense", 401), (None, 401)):
            headers = {} if value is None else {"Authorization": f"Bearer {value}"}
            status, body = lab.call(page, headers=headers)
            assert status == expected, f"{page} {str(value)[-8:]}: {status} {body}"
    says(provider, "access tokens, by introspection with each authentication and by keys")


def in_a_browser(provider, modules):
    provider.enlarge(provider.clients["public"]["clientId"])
    # Node looks for packages beside the script.
    script = shutil.copy(lab.HERE / "chromium.mjs", pathlib.Path(modules) / "chromium.mjs")
    subprocess.run(["node", script, GATEWAY, provider.issuer], check=True)


def everything(provider):
    """The tokens that there were."""
    tokens = []
    for name in provider.clients:
        code_flow(provider, name, tokens)
    tabs(provider)
    if hasattr(provider, "end_sessions"):
        ended_by_the_provider(provider)
    bearers(provider, tokens)
    trouble.everything(provider)
    if isinstance(provider, Keycloak):
        in_a_browser(provider, os.environ["OP_STATE"])
    tokens += upstream.tokens(provider)
    says(provider, "tokens for upstreams")
    return tokens


def main():
    postern, *only = sys.argv[1:]
    providers = [made() for made in (Keycloak, OidcProvider, Spring) if not only or made.short in only]
    with lab.application(), lab.scene(*providers) as folder:
        lab.write(folder, [*objects(providers)])
        with lab.gateway(postern, folder):
            tokens = [token for provider in providers for token in everything(provider)]
        with fleet.fleet(postern, folder):
            for provider in providers:
                if hasattr(provider, "renewals"):
                    fleet.one_renewal(provider)
                    says(provider, "one renewal for two proxies")
                if hasattr(provider, "end_sessions"):
                    fleet.ended_at_both(provider)
                    says(provider, "a session that the provider ended, at two proxies")
                tokens += trouble.outage(provider)
        lab.hidden(folder, [*tokens, SECRET, LONG_SECRET])
    print("ok")


if __name__ == "__main__":
    main()
