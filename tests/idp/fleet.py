"""Two proxies without affinity that share a store: of many who come at once with one session, code or token, one wins."""

import contextlib
import json
import time

import browser
import lab
from providers import SHARED
from users import sign_in

REDIS = 16399
HOSTS = ("127.0.0.1", "127.0.0.2")


@contextlib.contextmanager
def fleet(postern, folder):
    key = folder / "store.key"
    key.write_text("what seals the store is the same for all proxies")
    shared = ["--store", f"redis://127.0.0.1:{REDIS}", "--store-key-file", key]
    redis = ["redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with contextlib.ExitStack() as running:
        running.enter_context(lab.program(folder, *redis))
        for host in HOSTS:
            own = ["--bind", host, "--status-address", f"{host}:8100", "--admin-address", f"{host}:8001"]
            running.enter_context(lab.gateway(postern, folder, *own, *shared, host=host))
        yield


def at_once(count, ask):
    """The answers to `ask` of as many proxies, in turns."""
    return lab.at_once(count, lambda n: ask(f"http://{HOSTS[n % 2]}:8000"))


def one_winner(postern, folder, code, form):
    """`code` makes a code for an application that is known by `form`."""
    secure = {"X-Forwarded-Proto": "https"}

    def redeem(**grant):
        def ask(at):
            return lab.call(f"{at}/orders/oauth2/token", {**form, **grant}, secure)
        answers = at_once(64, ask)
        won = [json.loads(body) for status, body in answers if status == 200]
        assert len(won) == 1, f"{grant['grant_type']}: {len(won)} of 64 won"
        assert {status for status, _ in answers} == {200, 400}, answers
        return won[0]

    def passes(token):
        bearer = {"Authorization": "Bearer " + token}
        return {lab.call(f"http://{host}:8000/orders", headers=bearer)[0] for host in HOSTS}

    with fleet(postern, folder):
        once = lab.call(f"{lab.GATEWAY}/orders/oauth2/token", {**form, "grant_type": "authorization_code", "code": code()}, secure)
        tokens = json.loads(once[1])
        assert passes(tokens["access_token"]) == {200}, once
        renewed = redeem(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
        # The application has proved who it is, so what came back was its own copy.
        assert passes(renewed["access_token"]) == {200}
        stolen = redeem(grant_type="authorization_code", code=code())
        # A code that comes twice has been stolen: whoever won has nothing of it.
        assert passes(stolen["access_token"]) == {401}


def one_renewal(provider):
    """In the fleet. `provider` says how often it has renewed a token; its plugin `shared` renews three seconds after one came."""
    page = f"/{provider.short}-{SHARED}/"
    user = browser.Browser()
    first = sign_in(user, lab.GATEWAY + page)
    # What is waited for is time itself: until the token is due.
    time.sleep(3.2)
    before = provider.renewals()
    headers = {"Accept": "text/html", "Cookie": user.cookie("session"), "Host": "127.0.0.1:8000"}
    answers = at_once(100, lambda at: lab.call(at + page, headers=headers))
    statuses = {status for status, _ in answers}
    assert statuses == {200}, statuses
    renewed = provider.renewals() - before
    assert renewed == 1, f"{renewed} renewals for one session"
    tokens = {json.loads(body)["x-access-token"] for _, body in answers} - {first["x-access-token"]}
    assert len(tokens) == 1, f"{len(tokens)} new tokens"


def ended_at_both(provider):
    """In the fleet. The provider tells one proxy that a session has ended."""
    page = f"/{provider.short}-{SHARED}/"
    user = browser.Browser()
    sign_in(user, lab.GATEWAY + page)
    headers = {"Cookie": user.cookie("session"), "Host": "127.0.0.1:8000", "X-Requested-With": "XMLHttpRequest"}

    def seen():
        return [lab.call(f"http://{host}:8000{page}", headers=headers)[0] for host in HOSTS]

    assert seen() == [200, 200], seen()
    provider.end_sessions(user)
    lab.until("the end of the session at both proxies", lambda: seen() == [401, 401])
