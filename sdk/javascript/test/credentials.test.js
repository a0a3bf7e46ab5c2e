// Who a client says that it is, against a mock server in this process: what it shows and when, what becomes of it where that is not right, and that nobody else learns of it.

import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import { inspect } from 'node:util';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, frame, startMockServer, varint } from './mock-server.js';

const { connect } = tidewire;
const FAST = { initialDelayMs: 1, delayMaxMs: 5 };

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

async function startServer(options = {}) {
  const server = await startMockServer({ resume: { recoveryBytesMax: 1_000 }, ...options });
  cleanups.push(() => server.stop());
  return server;
}

async function open(server, options) {
  const session = await connect(server.url, { WebSocket, reconnect: FAST, closeTimeoutMs: 200, ...options });
  cleanups.push(() => session.close());
  return session;
}

/** A server that answers CONNECT as one that does not know the client, where `isRefused` says so. */
function refusing(isRefused) {
  return (message, connection) => {
    if (message.op !== 'connect' || message.token !== undefined || !isRefused(message)) return false;
    connection.send(errorFrame(message.id, 109, 'not right'));
    connection.socket.close(4108, 'the authentication failed');
    return true;
  };
}

/** Settles when the session is in that state. */
function becomes(session, state) {
  return new Promise((resolve) => {
    const stop = session.on('state', (event) => {
      if (event.state !== state) return;
      stop();
      resolve(event);
    });
  });
}

async function until(condition) {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** What is known later. */
function later() {
  let resolve;
  return { promise: new Promise((resolved) => (resolve = resolved)), resolve };
}

/** What each CONNECT said of who the client is, and `token` where it was to go on with a session. */
function shown(server) {
  const connects = server.received.filter(({ op }) => op === 'connect');
  return connects.map(({ token, principal, password, bearer }) => (token === undefined ? defined({ principal, password, bearer }) : 'token'));
}

const defined = (members) => Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

/** Gives the passwords one after the other, and counts how often it was asked. */
function passwords(...texts) {
  const ask = () => texts[ask.asked++];
  ask.asked = 0;
  return ask;
}

test('CONNECT shows a password, a token, what a function gives, or nothing', async () => {
  const server = await startServer();
  const principal = 'Zoë';
  for (const [options, expected] of [
    [{}, {}],
    [{ principal }, { principal }],
    [{ principal, credentials: 'pw' }, { principal, password: 'pw' }],
    [{ principal, credentials: { password: 'pw' } }, { principal, password: 'pw' }],
    [{ credentials: { bearer: 'a.b.c' } }, { bearer: 'a.b.c' }],
    [{ principal, credentials: () => 'pw' }, { principal, password: 'pw' }],
    [{ credentials: async () => ({ bearer: 'a.b.c' }) }, { bearer: 'a.b.c' }],
  ]) {
    const session = await open(server, options);
    assert.deepEqual(shown(server).at(-1), expected);
    assert.equal(session.principal, options.principal ?? '');
    await session.close();
  }
});

test('what is no credentials is refused before anything is sent', async () => {
  const wrong = ['', 7, null, [], {}, { password: '' }, { bearer: 7 }, { password: 'secret', bearer: 'secret' }, { secret: 'secret' }];
  for (const credentials of wrong) {
    await assert.rejects(connect('ws://x', { credentials }), (error) => error instanceof TypeError && /as the credentials/.test(error.message) && !/secret/.test(error.message));
  }
  await assert.rejects(connect('ws://x', { principal: 7 }), /expected .* the option principal/);
});

test('a session that goes on shows nothing, and nobody is asked', async () => {
  const server = await startServer();
  const credentials = passwords('one', 'two');
  const session = await open(server, { principal: 'ann', credentials });
  server.cut(server.last);
  assert.equal((await becomes(session, 'connected')).resumed, true);
  assert.deepEqual(shown(server), [{ principal: 'ann', password: 'one' }, 'token']);
  assert.equal(credentials.asked, 1);
});

/** What each AUTHENTICATE said. */
const shownAnew = (server) => server.received.filter(({ op }) => op === 'authenticate').map(({ op, id, ...rest }) => rest);

test('a client shows anew who it is, and so does the session that follows', async () => {
  const server = await startServer();
  const session = await open(server, { principal: 'ann', credentials: passwords('one', 'two', 'three') });
  await session.authenticate();
  await session.authenticate({ principal: 'bob', credentials: { bearer: 'a.b.c' } });
  assert.equal(session.principal, 'bob');
  server.forgetSessions();
  await becomes(session, 'connected');
  assert.deepEqual(shown(server), [{ principal: 'ann', password: 'one' }, 'token', { principal: 'bob', bearer: 'a.b.c' }]);
  await session.authenticate({});
  assert.deepEqual(shownAnew(server), [{ principal: 'ann', password: 'two' }, { principal: 'bob', bearer: 'a.b.c' }, {}]);
  assert.equal(session.principal, '');
});

test('a client that cannot show it goes on as who it was', async () => {
  const server = await startServer();
  const session = await open(server, { principal: 'ann', credentials: 'one' });
  await assert.rejects(session.authenticate({ principal: 'bob', credentials: 'wrong' }), tidewire.AuthenticationFailedError);
  for (const who of [7, null, { credentials: '' }]) await assert.rejects(session.authenticate(who), TypeError);
  assert.deepEqual([session.principal, session.state], ['ann', 'connected']);
  assert.deepEqual(shownAnew(server), [{ principal: 'bob', password: 'wrong' }]);
});

test('a session that is over is followed by one for which a function is asked anew', async () => {
  const server = await startServer();
  const session = await open(server, { principal: 'ann', credentials: passwords('one', 'two') });
  server.forgetSessions();
  assert.equal((await becomes(session, 'connected')).resumed, false);
  assert.deepEqual(shown(server), [{ principal: 'ann', password: 'one' }, 'token', { principal: 'ann', password: 'two' }]);
});

test('a session that is over is followed by one for which the same is shown again', async () => {
  const server = await startServer();
  const session = await open(server, { credentials: { bearer: 'a.b.c' } });
  server.forgetSessions();
  await becomes(session, 'connected');
  assert.deepEqual(shown(server), [{ bearer: 'a.b.c' }, 'token', { bearer: 'a.b.c' }]);
});

test('a client that the server does not know is told so, and does not try again', async () => {
  const server = await startServer({ answer: refusing(() => true) });
  for (const credentials of ['wrong', passwords('wrong', 'right')]) {
    server.received.length = 0;
    const states = [];
    const onState = ({ state, status, code }) => states.push([state, status, code]);
    await assert.rejects(open(server, { principal: 'ann', credentials, onState }), (error) => {
      assert.ok(error instanceof tidewire.AuthenticationFailedError);
      assert.deepEqual([error.code, error.message], [109, 'not right']);
      return true;
    });
    assert.deepEqual(states, [['connecting', 'CONNECTING', undefined], ['closed', 'CLOSED_FAILED', 4108]]);
    assert.equal(shown(server).length, 1);
  }
});

test('a client that the server does not know any more when its session is over does not try again', async () => {
  const server = await startServer({ answer: refusing(({ password }) => password === 'two') });
  const session = await open(server, { principal: 'ann', credentials: passwords('one', 'two', 'three') });
  server.forgetSessions();
  const { status, code, error } = await session.closed;
  assert.deepEqual([status, code], ['CLOSED_FAILED', 4108]);
  assert.ok(error instanceof tidewire.AuthenticationFailedError);
  assert.equal(shown(server).length, 3);
});

test('where what was shown has expired, a function is asked and a new session begins', async () => {
  const server = await startServer();
  const session = await open(server, { principal: 'ann', credentials: passwords('one', 'two', 'three') });
  await session.subscribe('a');
  server.answer = ({ path }) => path === 'under way';
  const under = session.topics.add('under way', 'json');
  await until(() => server.handled.length === 2);
  const lost = becomes(session, 'recovering');
  server.last.kept = undefined;
  server.last.socket.close(4108, 'expired');
  assert.deepEqual([(await lost).code, (await lost).reason], [4108, 'expired']);
  await assert.rejects(under, tidewire.OutcomeUnknownError);
  assert.equal((await becomes(session, 'connected')).resumed, false);
  assert.deepEqual(shown(server), [{ principal: 'ann', password: 'one' }, { principal: 'ann', password: 'two' }]);
  assert.deepEqual(server.handled.map(({ op }) => op), ['subscribe', 'add', 'subscribe']);
});

test('where what was shown has expired and is not good anew, the session is closed', async () => {
  const server = await startServer({ answer: refusing(({ password }) => password !== 'one') });
  const session = await open(server, { principal: 'ann', credentials: passwords('one', 'two', 'three') });
  server.last.socket.close(4108, 'expired');
  const { status, code, error } = await session.closed;
  assert.deepEqual([status, code, error?.name], ['CLOSED_FAILED', 4108, 'AuthenticationFailedError']);
  assert.equal(shown(server).length, 2);
});

test('where what was shown has expired and nobody can be asked, the session is closed with the reason', async () => {
  for (const credentials of ['one', undefined]) {
    const server = await startServer();
    const session = await open(server, { credentials });
    server.last.socket.close(4108, 'expired');
    const { status, code, reason, error } = await session.closed;
    assert.deepEqual([status, code, reason, error], ['CLOSED_BY_SERVER', 4108, 'expired', undefined]);
    assert.equal(shown(server).length, 1);
  }
});

test('a function that fails is told by connect, and asked again by a session', async () => {
  const server = await startServer();
  const cause = new Error('no token today');
  await assert.rejects(open(server, { credentials: () => Promise.reject(cause) }), (error) => error instanceof tidewire.ConnectionError && error.cause === cause);
  assert.deepEqual(shown(server), []);
  let asked = 0;
  const credentials = () => {
    asked += 1;
    if (asked === 2 || asked === 3) throw cause;
    return `password ${asked}`;
  };
  const session = await open(server, { credentials });
  server.last.socket.close(4108, 'expired');
  assert.equal((await becomes(session, 'connected')).resumed, false);
  assert.deepEqual(shown(server), [{ password: 'password 1' }, { password: 'password 4' }]);
});

test('a function that gives no credentials is a fault of the program', async () => {
  const server = await startServer();
  await assert.rejects(open(server, { credentials: () => undefined }), TypeError);
  const session = await open(server, { credentials: passwords('one', '') });
  server.last.socket.close(4108, 'expired');
  const { status, error } = await session.closed;
  assert.deepEqual([status, error instanceof TypeError], ['CLOSED_FAILED', true]);
});

test('who is told to come later asks anew when it comes', async () => {
  let isLater = true;
  const defer = (message, connection) => {
    if (message.op !== 'connect' || !isLater) return false;
    isLater = false;
    connection.send(frame(0x86, varint(message.id), varint(5)));
    connection.socket.close(4107);
    return true;
  };
  const server = await startServer({ answer: defer });
  await open(server, { credentials: passwords('one', 'two') });
  assert.deepEqual(shown(server), [{ password: 'one' }, { password: 'two' }]);
});

test('a function is waited for as long as one likes, and no longer', async () => {
  const server = await startServer();
  const never = () => new Promise(() => {});
  const given = new AbortController();
  const connecting = open(server, { credentials: never, signal: given.signal });
  given.abort();
  await assert.rejects(connecting, tidewire.ConnectionError);
  await assert.rejects(open(server, { credentials: never, signal: AbortSignal.abort() }), tidewire.ConnectionError);
  let asked = 0;
  const session = await open(server, { credentials: () => (asked++ === 0 ? 'one' : never()) });
  server.last.socket.close(4108, 'expired');
  await until(() => asked === 2);
  await session.close();
  assert.equal(session.status, 'CLOSED_BY_CLIENT');
});

test("the time for connecting is the server's", async () => {
  const server = await startServer();
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const { promise, resolve } = later();
    const connecting = open(server, { credentials: () => promise, connectTimeoutMs: 100 });
    mock.timers.tick(60_000);
    await new Promise((turned) => setImmediate(turned));
    mock.timers.tick(60_000);
    resolve('pw');
    await connecting;
  } finally {
    mock.timers.reset();
  }
  assert.deepEqual(shown(server), [{ password: 'pw' }]);
});

test('nobody is shown the credentials', async () => {
  const server = await startServer({ answer: refusing(({ password }) => password === 'another secret') });
  const events = [];
  const session = await open(server, { principal: 'ann', credentials: 'a secret', onState: (event) => events.push(event) });
  const options = { depth: Infinity, showHidden: true };
  const keys = (object) => (object === null || object === Object.prototype ? [] : [...Reflect.ownKeys(object), ...keys(Object.getPrototypeOf(object))]);
  assert.ok(keys(session).includes('principal') && !keys(session).some((key) => /credential|password|bearer|identity/i.test(String(key))));
  assert.ok(!/secret/.test(inspect(session, options)) && !/secret/.test(JSON.stringify(session)) && !/secret/.test(inspect(events, options)));
  const refused = await open(server, { credentials: 'another secret' }).catch((error) => error);
  assert.equal(refused.code, 109);
  assert.ok(!/secret/.test(inspect(refused, options)));
  const url = server.url.replace('ws://', 'ws://ann:secret@');
  for (const address of [url, url.replace('ws:', 'ftp:')]) {
    await assert.rejects(connect(address, { WebSocket }), (error) => error instanceof TypeError && /without name and password/.test(error.message) && !/secret/.test(inspect(error, options)));
  }
});
