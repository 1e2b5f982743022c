"""What users see when something goes wrong: lost cookies, a wrong secret, answers of others, providers that are away."""

import json
import re
import signal
import urllib.parse

import browser
import lab
from lab import GATEWAY
from providers import Keycloak, OidcProvider
from users import asked_to_sign_in, claims, says, seen, sign_in

ATTEMPT, SESSION = "session_l_", "session"


def everything(provider):
    wrong_secret(provider)
    a_lost_session(provider)
    a_lost_attempt(provider)
    no_cookies(provider)
    another_issuer(provider)
    asked_silently(provider)
    not_asked(provider)
    named(provider)
    if isinstance(provider, OidcProvider):
        another_subject(provider)


def page_of(provider, name):
    return f"{GATEWAY}/{provider.short}-{name}/"


def ends_badly(user, url):
    """Status and text of the page at which it ends, which names the request."""
    _, _, status, text = user.follow(url, username="alice", password="alice-pw")
    assert status >= 400, f"{status} {text}\n{user.trace}"
    assert re.search(r"\b[0-9a-f]{32}\b", text), text
    return status, text


def wrong_secret(provider):
    status, text = ends_badly(browser.Browser(), page_of(provider, "wrong"))
    assert status == 500 and "wrong" not in text, f"{status} {text}"
    says(provider, "a wrong secret of the client")


def a_lost_session(provider):
    """Sign-in begins anew three times, and then a page says what happened."""
    user = browser.Browser()
    user.loses = lambda name: name.startswith(SESSION) and not name.startswith(ATTEMPT)
    status, text = ends_badly(user, page_of(provider, "plain"))
    assert status == 500, f"{status} {text}"
    tries = [url for _, url, _ in user.trace if url.startswith(provider.issuer) and "code_challenge=" in url and "response_type=" in url]
    begun = {urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["state"][0] for url in tries}
    assert len(begun) == 4, f"{len(begun)} times\n{user.trace}"
    says(provider, "a session that the browser loses: three times, then a page")


def a_lost_attempt(provider):
    """Of two tabs, the older one's cookie is lost: sign-in begins anew, and succeeds."""
    user, page = browser.Browser(), page_of(provider, "plain")
    place = asked_to_sign_in(user, page, provider)
    user.lose(lambda name: name.startswith(ATTEMPT))
    asked_to_sign_in(user, page, provider)
    ended, _, status, text = user.follow(place, username="alice", password="alice-pw")
    assert (ended, status) == (page, 200), f"{ended} {status} {text}\n{user.trace}"
    says(provider, "a login whose cookie was lost")


def no_cookies(provider):
    user = browser.Browser()
    user.loses = lambda name: name.startswith(SESSION)
    status, text = ends_badly(user, page_of(provider, "plain"))
    assert status == 500, f"{status} {text}"
    says(provider, "a browser that keeps no cookie of the gateway: a page")


def came_back(user, provider, name):
    """Signed in there; the address to which the provider sends the browser."""
    page = page_of(provider, name)
    back, _, status, text = user.follow(page, until=f"{page}callback", username="alice", password="alice-pw")
    assert status is None, f"{back} {status} {text}\n{user.trace}"
    return back


def another_issuer(provider):
    user = browser.Browser()
    back = came_back(user, provider, "plain")
    mine = urllib.parse.urlencode({"iss": provider.issuer})
    if mine not in back:
        assert not isinstance(provider, (Keycloak, OidcProvider)), "they say who they are"
        return
    other = urllib.parse.urlencode({"iss": "http://127.0.0.1:1"})
    status, _, text = user.request(back.replace(mine, other))
    assert status == 400, f"{status} {text}"
    asked_to_sign_in(user, page_of(provider, "plain"), provider)
    says(provider, "an answer that names another issuer")


def asked_silently(provider):
    """After a second the provider is asked whether the user is still signed in; where that is not so, the user signs in."""
    user, page = browser.Browser(), page_of(provider, "silent")
    sign_in(user, page)

    def sent_away():
        places = []
        lab.until("the question", lambda: (places.append(user.request(page)[1].get("Location")), places[-1])[1])
        assert places[-1].startswith(provider.issuer) and "prompt=none" in places[-1], places[-1]
        return places[-1]

    ended, _, status, text = user.follow(sent_away())
    assert (ended, status) == (page, 200), f"{ended} {status} {text}\n{user.trace}"
    place = sent_away()
    user.lose(lambda name: not name.startswith(SESSION))
    ended, _, status, text = user.follow(place, username="alice", password="alice-pw")
    assert (ended, status) == (page, 200), f"{ended} {status} {text}\n{user.trace}"
    assert any(method == "POST" for method, *_ in user.trace[-6:]), user.trace
    says(provider, "asked again without the user, and with")


def not_asked(provider):
    """Who is not sent to the provider."""
    page = page_of(provider, "plain")
    for url, headers, expected in (
        (page, {"X-Requested-With": "XMLHttpRequest"}, 401), (page, {"Accept": "application/json"}, 401),
        (page_of(provider, "deny"), {"Accept": "text/html"}, 401), (page_of(provider, "pass"), {"Accept": "text/html"}, 200),
    ):
        status, body = lab.call(url, headers={**headers, "X-Userinfo": "mine", "X-Access-Token": "mine"})
        assert status == expected, f"{url} {headers}: {status} {body}"
        if status == 200:
            told = json.loads(body)
            assert "x-userinfo" not in told and "x-access-token" not in told, told
    says(provider, "scripts and others are told, not sent away")


def named(provider):
    """A claim names the Consumer as which the user counts, if there is one."""
    page = page_of(provider, "named")
    assert sign_in(browser.Browser(), page)["x-consumer-username"] == "alice"
    if isinstance(provider, OidcProvider):  # Which knows everybody.
        _, _, status, text = browser.Browser().follow(page, username="bob", password="any")
        assert status == 403, f"{status} {text}"
    says(provider, "the Consumer that a claim names")


def another_subject(provider):
    """What the userinfo endpoint says of somebody else is not believed."""
    user, page = browser.Browser(), page_of(provider, "plain")
    ended, _, status, text = user.follow(page, username="mallory", password="any")
    assert (ended, status) == (page, 200), f"{ended} {status} {text}\n{user.trace}"
    told = json.loads(text)
    # What the ID token says stands in for it.
    assert {claims(told[name])["sub"] for name in ("x-id-token", "x-userinfo")} == {"mallory"}, told
    says(provider, "userinfo of another subject")


def outage(provider):
    """Those who are signed in notice nothing; those who sign in are told to come again. It ends the provider."""
    inside, page = browser.Browser(), page_of(provider, "plain")
    tokens = [sign_in(inside, page)["x-access-token"], provider.known()]
    bearer = {"Authorization": f"Bearer {tokens[1]}"}
    asked = page_of(provider, "introspection")
    assert lab.call(asked, headers=bearer)[0] == 200
    waiting, late = ((user, came_back(user, provider, "plain")) for user in (browser.Browser(), browser.Browser()))

    def away(user, back):
        status, headers, text = user.request(back)
        assert status == 503 and headers["Retry-After"].isdecimal(), f"{status} {headers} {text}"
        assert seen(inside, page)["x-access-token"] == tokens[0]
        assert lab.call(asked, headers=bearer)[0] == 200, "a token that it knows"
        status, body = lab.call(asked, headers={"Authorization": f"Bearer {tokens[1][:-8]}AAAAAAAA"})
        assert status == 401, f"a token that it does not know: {status} {body}"

    # It takes connections and says nothing; then there is nobody.
    provider.signal(signal.SIGSTOP)
    try:
        away(*waiting)
    finally:
        provider.signal(signal.SIGCONT)
    provider.script("down")
    away(*late)
    says(provider, "away: 503 for those who sign in, nothing for those who are signed in")
    return tokens
