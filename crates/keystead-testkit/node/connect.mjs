// People at the connect page, in a real browser: with script switched off, in both themes, on a
// phone, in Spanish, in a frame of a product, and looked over by axe-core.
//
//   node connect.mjs MODULES '{"chromium", "upstream", "key", "cert", "out", "true_key", "links": {…}}'
//
// stands a TLS terminator before the server, as `https://keystead.test`, and a product at
// `https://product.example`; writes a picture of each page to `out`; prints one line of JSON, and
// exits 0 only if all of it held.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { join } from 'node:path';

const [modules, text] = process.argv.slice(2);
const require = createRequire(join(modules, 'node_modules', '_'));
const { chromium } = require('playwright-core');
const axe = require('axe-core').source;
const told = JSON.parse(text);
mkdirSync(told.out, { recursive: true });

const home = 'https://keystead.test';
let framed = '';
const server = https.createServer({ key: told.key, cert: told.cert }, (request, answer) => {
  if (request.headers.host !== 'keystead.test') {
    answer.setHeader('content-type', 'text/html');
    answer.end(`<!doctype html><title>A product</title><h1>A product</h1><iframe title="connections" width="900" height="900" src="${framed}"></iframe>`);
    return;
  }
  const { method, url: path, headers } = request;
  const on = http.request(`${told.upstream}${path}`, { method, headers }, (from) => {
    answer.writeHead(from.statusCode, from.headers);
    from.pipe(answer);
  });
  on.on('error', () => answer.destroy());
  request.pipe(on);
});
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const { port } = server.address();
const browser = await chromium.launch({
  executablePath: told.chromium,
  args: ['--no-sandbox', `--host-resolver-rules=MAP * 127.0.0.1:${port}`, '--test-third-party-cookie-phaseout'],
});

const said = { pictures: 0, bytes: 0, axe: 0 };

// A context that notes whatever a page should not do.
async function visitor(options) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: 'en-GB', viewport: { width: 1000, height: 900 }, ...options });
  const page = await context.newPage();
  page.wrong = [];
  page.on('console', (message) => {
    if (message.type() === 'error' && !/status of 4\d\d/.test(message.text())) page.wrong.push(message.text());
  });
  page.on('request', (request) => {
    if (!/^(https:\/\/(keystead\.test|product\.example|evil\.example)\/|data:)/.test(request.url())) page.wrong.push(request.url());
  });
  return page;
}

async function picture(page, name) {
  await page.screenshot({ path: join(told.out, `${name}.png`), fullPage: true });
  said.pictures += 1;
}

// What a first page weighs, with its style sheet.
async function weigh(page, url) {
  const answers = [];
  const note = (answer) => answers.push(answer);
  page.on('response', note);
  await page.goto(url, { waitUntil: 'load' });
  page.off('response', note);
  const bodies = await Promise.all(answers.filter((answer) => !answer.url().startsWith('data:')).map((answer) => answer.body()));
  const bytes = bodies.reduce((sum, body) => sum + body.length, 0);
  said.bytes = Math.max(said.bytes, bytes);
  assert.ok(bytes > 1024 && bytes < 40 * 1024, `${url} weighs ${bytes}`);
}

// All that a person does, by the words on the buttons; `words` are the page's.
async function walk(tag, link, options, words) {
  const page = await visitor({ javaScriptEnabled: false, ...options });
  const shot = (name) => picture(page, `${tag}-${name}`);
  const press = (name) => page.getByRole('button', { name, exact: true }).click();
  const follow = (name) => page.getByRole('link', { name }).first().click();
  const sees = (name) => page.getByText(name).first().waitFor({ timeout: 5000 });
  await page.goto(link);
  await shot('1-start');
  await page.getByRole('button').click();
  await sees(words.none);
  await weigh(page, `${home}/connect`);
  await shot('2-empty');

  await follow('OpenAI');
  await page.getByLabel(words.name, { exact: true }).fill(`${tag} main`);
  await page.getByLabel(/OpenAI.*key/i).fill('canary two words\u0007');
  await press(words.save);
  await sees(words.faults);
  assert.ok(!(await page.content()).includes('canary'), 'a secret came back in a form');
  await shot('3-fault');
  await page.getByLabel(/OpenAI.*key/i).fill(told.true_key);
  await press(words.save);
  await sees(words.connected);
  await shot('4-connected');

  await follow(words.back);
  await page.getByRole('searchbox').fill('openai');
  await press(words.find);
  await follow('OpenAI');
  await page.getByLabel(words.name, { exact: true }).fill(`${tag} wrong`);
  await page.getByLabel(/OpenAI.*key/i).fill('sk-canary-wrong-key-0123456789abcdef');
  await press(words.save);
  await sees(words.refused);
  await shot('5-error');
  await follow(words.replace);
  await shot('6-replace');
  await page.getByLabel(/OpenAI.*key/i).fill(told.true_key);
  await press(words.replaceButton);
  await sees(words.connected);
  await press(words.test);
  await sees(words.works);
  await page.getByLabel(words.newName).fill(`${tag} renamed`);
  await press(words.rename);
  await sees(`${tag} renamed`);
  await press(words.disable);
  await sees(words.disabled);
  await shot('7-disabled');
  await follow(words.back);
  await shot('8-home');
  await page.goto(`${home}/connect/add/gcp_service_account`);
  await shot('9-file');

  await page.goto(`${home}/connect`);
  await follow(`${tag} renamed`);
  await follow(words.remove);
  await shot('10-remove');
  await press(words.removeButton);
  await sees(words.removed);
  // Nothing is kept by the browser: the way back leads to what is there now.
  await page.goBack();
  await sees(words.gone);
  await shot('11-gone');
  await page.goto(`${home}/connect`);
  await press(words.done);
  await sees(words.bye);
  await shot('12-bye');
  await page.goto(`${home}/connect`);
  await sees(words.over);
  await shot('13-over');
  assert.deepEqual(page.wrong, []);
  await page.context().close();
}

const english = {
  find: 'Find', none: 'Nothing is connected yet', name: 'Name', save: 'Save and verify', faults: 'Something is not right yet', connected: 'Connected',
  back: 'Back to all connections', refused: 'does not accept this credential', replace: 'Replace the credential', replaceButton: 'Replace and verify',
  test: 'Test now', works: 'It works.', newName: 'New name', rename: 'Rename', disable: 'Disable', disabled: 'Disabled', remove: 'Remove',
  removeButton: 'Remove it', removed: 'Removed.', gone: 'no longer there', done: 'I am done', bye: 'All done', over: 'no longer open',
};
const spanish = {
  find: 'Buscar', none: 'Todavía no hay nada conectado', name: 'Nombre', save: 'Guardar y verificar', faults: 'Algo no está bien todavía', connected: 'Conectado',
  back: 'Volver a todas las integraciones', refused: 'no acepta esta credencial', replace: 'Sustituir la credencial', replaceButton: 'Sustituir y verificar',
  test: 'Probar conexión', works: 'Funciona.', newName: 'Nombre nuevo', rename: 'Cambiar el nombre', disable: 'Deshabilitar', disabled: 'Deshabilitado', remove: 'Quitar',
  removeButton: 'Quitarla', removed: 'Quitada.', gone: 'ya no está', done: 'He terminado', bye: 'Listo', over: 'ya no está abierta',
};
const phone = { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

// Each page again with script, so that axe-core can look at it; the policy is set aside for that
// alone. Also: nothing is wider than a phone, and the keyboard gets everywhere.
async function look(tag, link, options) {
  const page = await visitor({ bypassCSP: true, ...options });
  const judge = async (name) => {
    await page.addScriptTag({ content: axe });
    const found = await page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    const faults = found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`);
    assert.deepEqual(faults, [], `${tag} ${name}`);
    said.axe += found.passes.length;
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${tag} ${name} is ${wide} px too wide`);
  };
  await page.goto(link);
  await judge('start');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.getByRole('button').click();
  await judge('empty');
  for (const provider of ['openai', 'twilio', 'gcp_service_account', 'generic_bearer']) {
    await page.goto(`${home}/connect/add/${provider}`);
    await judge(provider);
  }
  await page.goto(`${home}/connect/add/openai`);
  const name = page.getByRole('textbox').first();
  await name.fill(`${tag} looked at`);
  await page.locator('input[name="c.api_key"]').fill('sk-canary-wrong-key-0123456789abcdef');
  await page.keyboard.press('Enter');
  await page.locator('.pill').waitFor();
  await judge('error');
  const one = page.url().split('?')[0];
  for (const place of ['/replace', '/remove']) {
    await page.goto(one + place);
    await judge(place);
  }
  await page.goto(`${home}/connect/add/openai`);
  await page.getByRole('textbox').first().fill(`${tag} looked at`);
  await page.locator('input[name="c.api_key"]').fill(told.true_key);
  await page.keyboard.press('Enter');
  await page.locator('.notice.bad').waitFor();
  await judge('fault');
  await page.goto(`${home}/connect`);
  await judge('home');
  await page.goto(`${home}/connect/nowhere`);
  await judge('oops');
  await page.context().close();
}

// In a frame of the product, where cookies of other sites are blocked; and not in anybody else's.
async function frame() {
  framed = told.links.frame;
  const page = await visitor({ javaScriptEnabled: false });
  await page.goto('https://product.example/settings');
  const inside = page.frameLocator('iframe');
  await inside.getByRole('button').click();
  await inside.getByText('Nothing is connected yet').or(inside.getByRole('heading', { name: 'Connections' })).first().waitFor({ timeout: 5000 });
  await inside.getByRole('link', { name: 'OpenAI' }).first().click();
  await inside.getByLabel('Name', { exact: true }).fill('framed');
  await inside.getByLabel(/OpenAI.*key/i).fill(told.true_key);
  await inside.getByRole('button', { name: 'Save and verify' }).click();
  await inside.getByText('Connected').first().waitFor({ timeout: 5000 });
  await picture(page, 'frame');
  assert.deepEqual(page.wrong, []);
  await page.context().close();

  for (const [parent, url] of [['https://evil.example/', told.links.frame], ['https://product.example/', told.links.unframed]]) {
    framed = url;
    const stranger = await visitor({ javaScriptEnabled: false });
    await stranger.goto(parent);
    await stranger.waitForTimeout(500);
    const shown = await stranger.frameLocator('iframe').getByRole('button').count();
    assert.equal(shown, 0, `${parent} framed ${url}`);
    await stranger.context().close();
  }
}

try {
  await walk('light', told.links.light, { colorScheme: 'light' }, english);
  await walk('dark-phone', told.links.dark, { colorScheme: 'dark', ...phone }, english);
  await walk('es', told.links.es, { colorScheme: 'light', locale: 'es-ES' }, spanish);
  await look('light-phone', told.links.look_light, { colorScheme: 'light', ...phone });
  await look('dark-es', told.links.look_dark, { colorScheme: 'dark', locale: 'es-ES' });
  await frame();
  process.stdout.write(`${JSON.stringify(said)}\n`);
} finally {
  await browser.close();
  server.close();
}
