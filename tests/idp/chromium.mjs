// Signs in with a real browser: several tabs, the way back, a session that is too large for cookies, one that ends while the
// user is typing, and logout.
//   node chromium.mjs GATEWAY PROVIDER, with the plugins kc-basic, kc-large and kc-brief behind GATEWAY and alice at PROVIDER
import { chromium } from 'playwright-core';

const [gateway, provider] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

function expect(truth, what) {
  if (!truth) throw new Error(what);
}

// What the gateway answered that no user should see.
function watched(context) {
  const bad = [];
  context.on('response', (answer) => {
    if (answer.url().startsWith(gateway) && answer.status() >= 400 && !answer.url().endsWith('/favicon.ico')) {
      bad.push(`${answer.status()} ${answer.url()}`);
    }
  });
  return bad;
}

async function fill(page) {
  await page.waitForURL((url) => url.href.startsWith(provider));
  await page.fill('#username', 'alice');
  await page.fill('#password', 'alice-pw');
  await page.click('#kc-login');
}

async function arrived(page, url) {
  await page.waitForURL(url);
  const text = await page.textContent('body');
  expect(text.includes('x-userinfo'), `${url}: ${text}`);
}

async function scene(name, work) {
  const context = await browser.newContext();
  context.setDefaultTimeout(20_000);
  const bad = watched(context);
  try {
    await work(context);
    expect(bad.length === 0, `the gateway answered ${bad}`);
    console.log(`ok   Chromium: ${name}`);
  } catch (error) {
    const pages = context.pages().map((page) => page.url());
    console.log(`FAIL Chromium: ${name} | ${error.message} | at ${pages} | ${bad}`);
    process.exitCode = 1;
  }
  await context.close();
}

await scene('three tabs at once, each back where it wanted to be', async (context) => {
  const urls = [1, 2, 3].map((n) => `${gateway}/kc-basic/deep/${n}?x=%20y`);
  const pages = [];
  for (const url of urls) {
    // One after the other: Keycloak knows a browser by a cookie that the first of them sets.
    const page = await context.newPage();
    await page.goto(url);
    pages.push(page);
  }
  await fill(pages[0]);
  await arrived(pages[0], urls[0]);
  for (const n of [1, 2]) {
    // The provider may have noticed by itself that the user is known by now.
    await Promise.race([arrived(pages[n], urls[n]), fill(pages[n]).catch(() => {})]);
    await arrived(pages[n], urls[n]);
  }
});

await scene('the back button', async (context) => {
  const page = await context.newPage();
  const url = `${gateway}/kc-basic/back`;
  await page.goto(url);
  await fill(page);
  await arrived(page, url);
  await page.goto(`${gateway}/kc-basic/second`);
  await page.goBack();
  await arrived(page, url);
  // Once more: to the form, where the provider knows the user already.
  await page.goBack();
  await page.goto(url);
  await arrived(page, url);
});

await scene('logout, and nobody is signed in any more', async (context) => {
  const page = await context.newPage();
  const url = `${gateway}/kc-basic/`;
  await page.goto(url);
  await fill(page);
  await arrived(page, url);
  await page.goto(`${gateway}/kc-basic/logout`);
  await page.waitForURL((at) => at.href.startsWith(`${gateway}/bye`));
  const left = (await context.cookies(gateway)).filter((cookie) => cookie.name.startsWith('session'));
  expect(left.length === 0, `cookies are left: ${left.map((cookie) => cookie.name)}`);
  await page.goto(url);
  await fill(page);
  await arrived(page, url);
});

await scene('a session of more than 8 KB', async (context) => {
  const page = await context.newPage();
  const url = `${gateway}/kc-large/`;
  await page.goto(url);
  await fill(page);
  await arrived(page, url);
  const text = await page.textContent('body');
  const token = JSON.parse(text)['x-access-token'];
  expect(token.length > 8192, `the token has ${token.length} bytes`);
  for (const cookie of await context.cookies(gateway)) {
    expect(cookie.name.length + cookie.value.length <= 4096, `${cookie.name} is too long for browsers`);
  }
  await page.reload();
  await arrived(page, url);
});

await scene('a session that ends while the user is typing', async (context) => {
  const page = await context.newPage();
  const url = `${gateway}/kc-brief/`;
  await page.goto(url);
  await fill(page);
  await arrived(page, url);
  await page.setContent(`<form method="post" action="${gateway}/kc-brief/save"><input name="text" value="typed"><button>Save</button></form>`);
  // Until the session has ended: the provider still knows the user, and nobody has to type a password again.
  await page.waitForTimeout(2_500);
  await page.click('button');
  await arrived(page, `${gateway}/kc-brief/save`);
});

await browser.close();
