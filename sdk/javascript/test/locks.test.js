// Session locks, against a mock server in this process.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, startMockServer } from './mock-server.js';

const { updateConstraints } = tidewire;

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
    const session = await tidewire.connect(server.url, { WebSocket, reconnect: { initialDelayMs: 1, delayMaxMs: 5 }, closeTimeoutMs: 200, ...options });
    cleanups.push(() => session.close());
    sessions.push(session);
  }
  return [server, ...sessions];
}

const RESUME = { resume: { recoveryBytesMax: 1_000 } };
const ops = (server, op) => server.received.filter((message) => message.op === op);
const becomes = (session, resumed) => new Promise((resolve) => session.on('state', (event) => event.resumed === resumed && resolve()));

test('a lock passes on when it is released, with a higher number', async () => {
  const [server, one, two] = await start({}, {}, { requestTimeoutMs: 20 });
  const first = await one.locks.lock('jobs/import');
  assert.deepEqual([first.name, first.number], ['jobs/import', 1]);
  let second;
  const waiting = two.locks.lock('jobs/import', { scope: tidewire.LockScope.CONNECTION }).then((lock) => (second = lock));
  // Longer than other requests wait.
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(second, undefined);
  assert.equal(await first.unlock(), true);
  await waiting;
  assert.deepEqual([second.name, second.number], ['jobs/import', 2]);
  assert.equal(await first.unlock(), false);
  assert.deepEqual(ops(server, 'lock').map(({ scope }) => scope), [undefined, 'connection']);
});

test('who holds it is given the same grant again', async () => {
  const [, session] = await start({}, {});
  const [first, second] = [await session.locks.lock('a'), await session.locks.lock('a')];
  assert.equal(first.number, second.number);
  assert.equal(await second.unlock(), true);
  assert.equal(await first.unlock(), false);
});

test('locks are listed page by page', async () => {
  const [server, one, two] = await start({ pageMax: 2 }, {}, {});
  const names = ['a', 'b', 'c', 'd', 'e'];
  for (const name of names) await one.locks.lock(name, { scope: name === 'c' ? 'connection' : 'session' });
  const waiting = two.locks.lock('b');
  const all = await two.locks.list();
  assert.deepEqual(all.map(({ name }) => name), names);
  assert.deepEqual(all.slice(1, 3), [
    { name: 'b', sessionId: one.id, number: 2, scope: 'session', waiting: 1 },
    { name: 'c', sessionId: one.id, number: 3, scope: 'connection', waiting: 0 },
  ]);
  assert.deepEqual(ops(server, 'list_locks').map(({ after }) => after), [undefined, 'b', 'd']);
  await one.close();
  assert.equal((await waiting).number, 6);
});

test('an update is made only while the lock is held', async () => {
  const [, one, two] = await start({}, {}, {});
  await one.topics.add('a', 'json');
  const lock = await one.locks.lock('jobs');
  const constraint = updateConstraints().locked(lock);
  await one.topics.set('a', { x: 1 }, { constraint });
  await one.topics.addAndSet('b', 'int64', 1, { constraint: constraint.and(updateConstraints().noTopic()) });
  await assert.rejects(two.topics.set('a', { x: 2 }, { constraint }), tidewire.UnsatisfiedConstraintError);
  await lock.unlock();
  await assert.rejects(one.topics.set('a', { x: 3 }, { constraint }), tidewire.UnsatisfiedConstraintError);
});

test('waiting and holding go on over a lost connection', async () => {
  const [server, one, two] = await start(RESUME, {}, {});
  const lock = await one.locks.lock('a');
  const waiting = two.locks.lock('a');
  await two.topics.remove('x');
  const resumed = Promise.all([becomes(one, true), becomes(two, true)]);
  for (const connection of server.connections) server.cut(connection);
  await resumed;
  assert.equal(await lock.unlock(), true);
  assert.equal((await waiting).number, 2);
  assert.equal(ops(server, 'lock').length, 2);
});

test('a lock ends with its session, and who waits in it waits no longer', async () => {
  const [server, one, two] = await start(RESUME, {}, {});
  const lock = await one.locks.lock('a');
  const waiting = two.locks.lock('a');
  await two.topics.remove('x');
  const renewed = Promise.all([becomes(one, false), becomes(two, false)]);
  server.forgetSessions();
  await assert.rejects(waiting, tidewire.OutcomeUnknownError);
  await renewed;
  // The number may be that of another grant by now, if the server was started anew.
  assert.equal(await lock.unlock(), false);
  assert.equal(ops(server, 'unlock').length, 0);
  await one.close();
  assert.equal(await lock.unlock(), false);
});

test('what the server refuses has its class', async () => {
  let code = 320;
  const [, { locks }] = await start({ answer: ({ id, op }, connection) => op === 'lock' && (connection.send(errorFrame(id, code, 'no')), true) }, {});
  await assert.rejects(locks.lock('a'), tidewire.LockLimitError);
  code = 321;
  await assert.rejects(locks.lock('a'), tidewire.LockLostError);
});

test('wrong arguments are not sent', async () => {
  const [server, { locks }] = await start({}, {});
  for (const call of [() => locks.lock(), () => locks.lock('a', { scope: 'topic' })]) await assert.rejects(call, TypeError);
  await assert.rejects(locks.lock('a//b'), tidewire.InvalidPathError);
  assert.deepEqual(server.received.map(({ op }) => op), ['connect']);
});
