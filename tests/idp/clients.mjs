// openid-client, oauth4webapi and simple-oauth2 as applications of the gateway.
//   node clients.mjs ISSUER CLIENT SECRET REDIRECT_URI LOGIN, where LOGIN is the path of browser.py
import { execFileSync } from 'node:child_process';
import * as oidc from 'openid-client';
import * as oauth from 'oauth4webapi';
import { AuthorizationCode, ClientCredentials } from 'simple-oauth2';

const [issuer, id, secret, redirect, login] = process.argv.slice(2);
const scope = 'orders';

function back(url) {
  const args = [login, String(url), redirect, 'alice', 'alice-pw'];
  return new URL(execFileSync('python3', args).toString().trim());
}

let failed = 0;
async function check(name, work) {
  try {
    await work();
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name} | ${error.message} ${JSON.stringify(error.cause ?? error.data?.payload ?? '')}`);
  }
}
function expect(truth, what) {
  if (!truth) throw new Error(what);
}
async function refused(work) {
  try {
    await work();
  } catch {
    return;
  }
  throw new Error('it was not refused');
}

const verifier = oidc.randomPKCECodeVerifier();
const challenge = { code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' };
for (const [name, method] of [['basic', oidc.ClientSecretBasic], ['post', oidc.ClientSecretPost]]) {
  const config = await oidc.discovery(new URL(issuer), id, {}, method(secret), { algorithm: 'oauth2' });
  let tokens;
  await check(`openid-client, ${name}: client credentials`, async () => {
    const answer = await oidc.clientCredentialsGrant(config, { scope });
    expect(answer.token_type === 'bearer' && answer.expires_in > 0, JSON.stringify(answer));
  });
  await check(`openid-client, ${name}: code with PKCE, state and iss`, async () => {
    const state = oidc.randomState();
    const url = oidc.buildAuthorizationUrl(config, { redirect_uri: redirect, scope, state, ...challenge });
    const at = back(url);
    expect(at.searchParams.get('iss') === issuer, at.searchParams.get('iss'));
    tokens = await oidc.authorizationCodeGrant(config, at, { pkceCodeVerifier: verifier, expectedState: state });
    const again = oidc.authorizationCodeGrant(config, at, { pkceCodeVerifier: verifier, expectedState: state });
    await refused(() => again);
    // A code that comes twice ends what the first one got.
    const state2 = oidc.randomState();
    const second = back(oidc.buildAuthorizationUrl(config, { redirect_uri: redirect, scope, state: state2, ...challenge }));
    tokens = await oidc.authorizationCodeGrant(config, second, { pkceCodeVerifier: verifier, expectedState: state2 });
  });
  await check(`openid-client, ${name}: the wrong verifier`, async () => {
    const state = oidc.randomState();
    const at = back(oidc.buildAuthorizationUrl(config, { redirect_uri: redirect, scope, state, ...challenge }));
    const other = oidc.randomPKCECodeVerifier();
    await refused(() => oidc.authorizationCodeGrant(config, at, { pkceCodeVerifier: other, expectedState: state }));
  });
  await check(`openid-client, ${name}: refresh`, async () => {
    tokens = await oidc.refreshTokenGrant(config, tokens.refresh_token);
  });
  await check(`openid-client, ${name}: a protected request`, async () => {
    const answer = await oidc.fetchProtectedResource(config, tokens.access_token, new URL(issuer), 'GET');
    const seen = await answer.json();
    expect(answer.status === 200 && seen.headers['x-authenticated-userid'] === 'alice', JSON.stringify(seen));
  });
  await check(`openid-client, ${name}: introspection and revocation`, async () => {
    expect((await oidc.tokenIntrospection(config, tokens.access_token)).active, 'active');
    await oidc.tokenRevocation(config, tokens.access_token);
    expect(!(await oidc.tokenIntrospection(config, tokens.access_token)).active, 'not active');
  });
}

await check('oauth4webapi: client credentials', async () => {
  const found = await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2' });
  const as = await oauth.processDiscoveryResponse(new URL(issuer), found);
  const client = { client_id: id };
  const response = await oauth.clientCredentialsGrantRequest(as, client, oauth.ClientSecretBasic(secret), { scope });
  await oauth.processClientCredentialsResponse(as, client, response);
});

const origin = new URL(issuer).origin;
const path = new URL(issuer).pathname;
const simple = {
  client: { id, secret },
  auth: { tokenHost: origin, tokenPath: `${path}/oauth2/token` },
};
const with_page = { ...simple, auth: { ...simple.auth, authorizeHost: origin, authorizePath: '/login' } };
await check('simple-oauth2: client credentials', async () => {
  await new ClientCredentials(simple).getToken({ scope });
});
await check('simple-oauth2: code with PKCE, refresh', async () => {
  const client = new AuthorizationCode(with_page);
  const at = back(client.authorizeURL({ redirect_uri: redirect, scope, state: 's', response_type: 'code', ...challenge }));
  const code = at.searchParams.get('code');
  const token = await client.getToken({ code, redirect_uri: redirect, code_verifier: verifier });
  await token.refresh();
});
process.exit(failed ? 1 : 0);
