// Listening to what becomes of sessions, and who is subscribed, against a mock server in this process.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { frame, string, varint } from './mock-codec.js';
import { startMockServer } from './mock-server.js';

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

/** A server, and as many sessions as there are options. */
async function start(serverOptions, ...sessionOptions) {
  const server = await startMockServer(serverOptions);
  cleanups.push(() => server.stop());
  const sessions = [];
  for (const options of sessionOptions) {
    const session = await tidewire.connect(server.url, { WebSocket, reconnect: { initialDelayMs: 1 }, closeTimeoutMs: 200, ...options });
    cleanups.push(() => session.close());
    sessions.push(session);
  }
  return [server, ...sessions];
}

/** Waits for one round trip: what the server sent before has been heard. */
const roundTrip = (session) => session.clients.list();

const notice = (what, session, away, ...properties) =>
  frame(0xb4, varint(1), what, string(session), away ? 1 : 0, varint(properties.length / 2), ...properties.map(string));

test('a session is told of from the beginning to the end', async () => {
  const [server, one, two] = await start({}, {}, { properties: { Tier: 'gold', Desk: '7' } });
  const heard = [];
  const callbacks = { onSession: ({ sessionId, type, isAway, properties }) => heard.push([sessionId, type, isAway, properties]), onClosed: (...closed) => heard.push(closed) };
  const listener = await one.clients.addSessionListener(callbacks, { filter: "Tier is 'gold'", sessionProperties: ['Tier'] });
  assert.deepEqual(heard.splice(0), [[two.id, 'present', false, { Tier: 'gold' }]]);
  const [connection] = server.connections;
  for (const [what, away, ...properties] of [[2, false], [3, true], [4, false, 'Tier', '2'], [5, false], [6, true], [7, false], [99, false]]) {
    connection.send(notice(what, 'S-9', away, ...properties));
  }
  for (let reason = 1; reason <= 6; reason += 1) connection.send(frame(0xb5, varint(1), string('S-9'), reason));
  await roundTrip(one);
  assert.deepEqual(heard.splice(0), [
    ['S-9', 'opened', false, {}],
    ['S-9', 'matched', true, {}],
    ['S-9', 'changed', false, { Tier: '2' }],
    ['S-9', 'unmatched', false, {}],
    ['S-9', 'away', true, {}],
    ['S-9', 'back', false, {}],
    ['S-9', 'closed_by_client'],
    ['S-9', 'connection_lost'],
    ['S-9', 'expired'],
    ['S-9', 'closed_by_control'],
    ['S-9', 'closed_by_server'],
    ['S-9', 'shutting_down'],
  ]);
  await listener.close();
  connection.send(notice(2, 'S-9', false));
  await roundTrip(one);
  assert.deepEqual([heard, listener.closed], [[], true]);
  assert.deepEqual(server.received.filter(({ op }) => op === 'unlisten_sessions').map(({ listener: number }) => number), [1]);
});

test('queues that are over their mark are told of', async () => {
  const [server, one] = await start({}, {});
  const heard = [];
  await one.clients.addQueueListener({ onQueue: (event) => heard.push(event) }, { filter: 'all' });
  server.connections[0].send(frame(0xb6, varint(1), string('S-9'), 1, 0, varint(300_000)));
  server.connections[0].send(frame(0xb6, varint(1), string('S-9'), 0, 1, varint(0)));
  await roundTrip(one);
  assert.deepEqual(heard, [
    { sessionId: 'S-9', isOver: true, isConflated: false, queueBytes: 300_000 },
    { sessionId: 'S-9', isOver: false, isConflated: true, queueBytes: 0 },
  ]);
});

test('who is subscribed is listed page by page, and told', async () => {
  const [server, one, two] = await start({ pageMax: 1 }, {}, {});
  const at = (path) => [one, two].map(({ id }) => ({ path, sessionId: id, principal: '' }));
  assert.deepEqual(await one.presence.list('?a//'), at('a/b'));
  assert.deepEqual(await one.presence.list('?a//', { once: true }), at(''));
  const heard = [];
  await one.presence.addListener('?a//', { onPresence: (joined, left) => heard.push(joined, left) }, { once: true });
  assert.deepEqual(heard.splice(0), [at(''), []]);
  server.connections[0].send(frame(0xb7, varint(1), varint(0), varint(1), string(''), string(two.id)));
  await roundTrip(one);
  assert.deepEqual(heard, [[], [{ path: '', sessionId: two.id }]]);
});

test('a new session is told of everything once more', async () => {
  const [server, one] = await start({}, {});
  const heard = [];
  await one.clients.addSessionListener({ onSession: ({ type }) => heard.push(type), onReset: () => heard.push('reset') });
  const restored = new Promise((resolve) => one.on('state', ({ state }) => state === 'connected' && resolve()));
  server.connections[0].socket.terminate();
  await restored;
  assert.deepEqual(heard, ['present', 'reset', 'present']);
});

test('what is refused is told to who asked, and what cannot be is not sent', async () => {
  const [server, one] = await start({}, {});
  await assert.rejects(one.clients.addSessionListener({}, { filter: 'Tier' }), tidewire.InvalidFilterError);
  const sent = server.received.length;
  for (const wrong of [
    () => one.clients.addSessionListener(undefined),
    () => one.clients.addSessionListener({ onSession: 1 }),
    () => one.clients.addSessionListener({}, { filter: 1 }),
    () => one.clients.addSessionListener({}, { sessionProperties: 'Tier' }),
    () => one.clients.addQueueListener({}, { filter: 1 }),
    async () => one.presence.addListener(1, {}),
    async () => one.presence.addListener('a', {}, { once: 1 }),
    () => one.presence.list('a', { once: 1 }),
  ]) {
    await assert.rejects(wrong, TypeError);
  }
  assert.equal(server.received.length, sent);
});

test('a callback that throws is told of, and the end too', async () => {
  const [, one] = await start({}, {});
  const heard = [];
  const callbacks = { onSession: () => { throw new Error('no'); }, onError: ({ message }) => heard.push(message), onClose: () => heard.push('closed') };
  await one.clients.addSessionListener(callbacks);
  await one.close();
  assert.deepEqual(heard, ['no', 'closed']);
});
