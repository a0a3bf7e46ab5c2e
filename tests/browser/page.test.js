// The demo's page against the real server: what a newcomer sees first has to work.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launchBrowser, startDemo } from './demo.js';

const ARTIFACTS = fileURLToPath(new URL('../../test-artifacts/', import.meta.url));

let demo;
let browser;

before(async () => {
  demo = await startDemo();
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** Opens the page and waits until it shows topics; `complaints` fills with whatever the browser finds wrong. */
async function openPage(options = {}) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, ...options });
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error.stack)));
  await page.goto(demo.url);
  await page.waitForFunction(() => document.querySelectorAll('.row:not([hidden])').length > 5);
  return { page, complaints };
}

async function chooseTopic(page, path) {
  await page.fill('#filter', path);
  // The branches that lead to the topic stand above it.
  await page.locator('.row:not([hidden])').last().click();
  await page.waitForFunction((wanted) => document.querySelector('[data-part=path]').textContent === wanted, path);
  await page.fill('#filter', '');
}

function textOf(page, selector) {
  return page.locator(selector).textContent();
}

/** Waits until an element's text is another one than it is now. */
async function waitForChange(page, selector) {
  const now = await textOf(page, selector);
  await page.waitForFunction(([at, text]) => document.querySelector(at).textContent !== text, [selector, now]);
}

test('the tree of this host changes live, without complaint', async () => {
  const { page, complaints } = await openPage();
  assert.equal(await textOf(page, '[data-top=state]'), 'Connected');
  await chooseTopic(page, 'host/uptime_s');
  await waitForChange(page, '[data-part=figure]');
  await waitForChange(page, '[data-part=figure]');
  await page.locator('.tiles').waitFor({ state: 'visible' });
  await page.waitForFunction(() => document.querySelectorAll('.core').length > 0);
  await page.waitForFunction(() => Number(document.querySelector('[data-top=updates]').textContent.replace(',', '')) > 0);
  // Long enough for the lines in the picture to have a course.
  await page.waitForFunction(() => parseInt(document.querySelector('[data-part=changes]').textContent, 10) >= 24);
  await chooseTopic(page, 'host/cpu/total/busy_percent');
  await page.mouse.move(0, 0);
  await mkdir(ARTIFACTS, { recursive: true });
  await page.screenshot({ path: `${ARTIFACTS}demo.png` });
  assert.deepEqual(complaints, []);
  await page.close();
});

test('a narrow screen shows the tree without scrolling sideways', async () => {
  const { page, complaints } = await openPage({ viewport: { width: 375, height: 812 }, colorScheme: 'dark' });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 375, `the page is ${width} pixels wide`);
  assert.deepEqual(complaints, []);
  await page.close();
});

test('keys walk through the tree', async () => {
  const { page } = await openPage();
  await page.locator('[role=tree]').focus();
  for (const key of ['Home', 'ArrowDown', 'Enter']) await page.keyboard.press(key);
  assert.match(await textOf(page, '[data-part=path]'), /^[^/]+\/[^/]+$/, 'the second row stands below the first');
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'filter');
  await page.close();
});

test('a selector narrows the subscription, and clearing it widens it again', async () => {
  const { page, complaints } = await openPage();
  const topics = async () => Number((await textOf(page, '[data-top=topics]')).replace(',', ''));
  // Below the tiles: while they come or go, the button moves, and a click is lost.
  await page.locator('.tiles').waitFor({ state: 'visible' });
  await page.fill('#filter', '?host/memory//');
  await page.press('#filter', 'Enter');
  await page.waitForFunction(() => Number(document.querySelector('[data-top=topics]').textContent) === 3);
  await page.locator('.clear').click();
  await page.waitForFunction(() => Number(document.querySelector('[data-top=topics]').textContent.replace(',', '')) > 5);
  assert.ok((await topics()) > 5);
  assert.deepEqual(complaints, []);
  await page.close();
});

test('a selector that does not parse is answered with what is wrong', async () => {
  const { page } = await openPage();
  await page.fill('#filter', '?host/[');
  await page.press('#filter', 'Enter');
  await page.locator('.filter-note.wrong').waitFor({ state: 'visible' });
  assert.notEqual(await textOf(page, '.filter-note'), '');
  assert.equal(await textOf(page, '[data-top=state]'), 'Connected');
  await page.close();
});

test('a value is shown as text, whatever it looks like', async () => {
  const { page, complaints } = await openPage();
  const hostile = '<img src=x onerror="document.title=1">';
  await page.evaluate(speakByHand, [
    { op: 'add_and_set', path: 'browser/hostile', type: 'string', value: hostile },
    { op: 'add_and_set', path: `browser/<b>${hostile.length}</b>`, type: 'json', value: { [hostile]: hostile } },
  ]);
  await chooseTopic(page, 'browser/hostile');
  assert.equal(await textOf(page, '[data-part=value]'), hostile);
  assert.equal(await page.locator('.rows img, .rows b, .detail img').count(), 0);
  assert.deepEqual(complaints, []);
  await page.close();
});

test('the text form is spoken by hand over the browser’s own WebSocket', async () => {
  const { page } = await openPage();
  const answers = await page.evaluate(speakByHand, [
    { op: 'add', path: 'browser/hand', type: 'json' },
    { op: 'subscribe', selector: 'browser/hand' },
    { op: 'set', path: 'browser/hand', type: 'json', value: { x: [1, 'ü'] } },
    { op: 'fetch', selector: 'browser/hand', after: '', first: 10, values: true },
    { op: 'frobnicate' },
  ]);
  const [welcome, created, subscribed, set, fetched, refused] = answers.replies;
  assert.equal(welcome.op, 'welcome');
  assert.equal(answers.subprotocol, 'tidewire.1.json');
  assert.deepEqual([created.op, created.created], ['ok', true]);
  assert.deepEqual([subscribed.op, set.op], ['ok', 'ok']);
  assert.deepEqual(fetched.topics, [{ path: 'browser/hand', type: 'json', value: { x: [1, 'ü'] } }]);
  assert.deepEqual([refused.op, refused.code], ['error', 101]);
  const event = answers.events.find((message) => message.op === 'subscribed');
  assert.deepEqual([event.path, event.type], ['browser/hand', 'json']);
  const value = answers.events.find((message) => message.op === 'value');
  assert.deepEqual([value.topic, value.path, value.value], [event.topic, 'browser/hand', { x: [1, 'ü'] }]);
  await page.close();
});

/**
 * Runs in the browser: connects, sends each operation when the one before is answered, and gives the replies and
 * the events in between. A subscription's value must have come before it ends.
 */
async function speakByHand(operations) {
  const socket = new WebSocket(location.origin.replace('http', 'ws') + '/tidewire', 'tidewire.1.json');
  const [replies, events, waiting] = [[], [], new Map()];
  let sawValue;
  const value = new Promise((resolve) => { sawValue = resolve; });
  const failed = new Promise((resolve, reject) => {
    socket.onclose = (event) => reject(new Error(`closed with ${event.code} ${event.reason}`));
  });
  failed.catch(() => {});
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.op === 'ping') socket.send('{"op":"pong"}');
    if (message.op === 'value') sawValue();
    if (waiting.has(message.id)) waiting.get(message.id)(message);
    else events.push(message);
  };
  await Promise.race([failed, new Promise((resolve) => { socket.onopen = resolve; })]);
  const all = [{ op: 'connect', version: 1 }, ...operations];
  for (const [index, operation] of all.entries()) {
    const id = index + 1;
    const answered = new Promise((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, ...operation }));
    replies.push(await Promise.race([failed, answered]));
  }
  if (operations.some(({ op }) => op === 'subscribe')) await Promise.race([failed, value]);
  const subprotocol = socket.protocol;
  socket.close();
  return { subprotocol, replies, events };
}
