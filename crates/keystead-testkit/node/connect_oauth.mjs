// An account is connected from the connect page in a real browser without script: there by a form,
// consent at the provider's site, and back by the callback, with the cookies that a browser brings.
//
//   node connect_oauth.mjs MODULES '{"chromium", "upstream", "port", "link", "out"}'
//
// serves the house at `http://localhost:PORT`, so that the provider, at 127.0.0.1, is another site;
// exits 0 only if all of it held.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';

const [modules, text] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, 'node_modules', '_'))('playwright-core');
const told = JSON.parse(text);
mkdirSync(told.out, { recursive: true });

const heard = [];
const server = http.createServer((request, answer) => {
  const { method, url: path, headers } = request;
  heard.push({ path: path.split('?')[0], cookies: headers.cookie ?? '' });
  const on = http.request(`${told.upstream}${path}`, { method, headers }, (from) => {
    answer.writeHead(from.statusCode, from.headers);
    from.pipe(answer);
  });
  on.on('error', () => answer.destroy());
  request.pipe(on);
});
await new Promise((resolve) => { server.listen(told.port, '127.0.0.1', resolve); });
const browser = await chromium.launch({
  executablePath: told.chromium,
  args: ['--no-sandbox', '--host-resolver-rules=MAP localhost 127.0.0.1'],
});

try {
  const page = await browser.newPage({ javaScriptEnabled: false, locale: 'en-GB' });
  const wrong = [];
  page.on('console', (message) => { if (message.type() === 'error') wrong.push(message.text()); });
  const begin = async () => {
    await page.goto(`http://localhost:${told.port}/connect/add/acme?mode=oauth`);
    await page.screenshot({ path: join(told.out, 'oauth-1-form.png'), fullPage: true });
    await page.getByRole('button', { name: 'Continue to Acme' }).click();
    await page.getByRole('heading', { name: 'Acme' }).waitFor({ timeout: 5000 });
  };
  await page.goto(told.link);
  await page.getByRole('button').click();

  await begin();
  await page.getByRole('link', { name: 'Deny' }).click();
  await page.getByText('Not connected').first().waitFor({ timeout: 5000 });
  await page.screenshot({ path: join(told.out, 'oauth-2-denied.png'), fullPage: true });
  await page.getByRole('link', { name: 'Back to all connections' }).click();
  await page.getByText('Nothing is connected yet').waitFor({ timeout: 5000 });

  await begin();
  await page.getByRole('link', { name: 'Allow' }).click();
  await page.getByText('Connected.').waitFor({ timeout: 5000 });
  assert.equal(new URL(page.url()).pathname, '/connect');
  await page.screenshot({ path: join(told.out, 'oauth-3-connected.png'), fullPage: true });

  // From the other site the browser brought the cookie of the consent, and not the session's.
  const back = heard.filter(({ path }) => path === '/oauth/callback');
  assert.equal(back.length, 2);
  for (const { cookies } of back) {
    assert.ok(cookies.includes('keystead-oauth='), cookies);
    assert.ok(!cookies.includes('keystead-connect='), cookies);
  }
  assert.deepEqual(wrong.filter((line) => !/status of 4\d\d/.test(line)), []);
} finally {
  await browser.close();
  server.close();
}
