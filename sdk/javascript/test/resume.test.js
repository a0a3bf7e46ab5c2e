// Sessions that outlive their connections, against a mock server in this process: nothing missed, nothing twice, and the truth where a session is over.

import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import { WebSocket } from 'ws';
import { Resumption } from '../resumption.js';
import * as tidewire from '../tidewire.js';
import { errorFrame, frame, startMockServer, varint } from './mock-server.js';

const { connect } = tidewire;
const RESUME = { recoveryBytesMax: 1_000 };

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

async function start(serverOptions = {}, sessionOptions = {}) {
  const server = await startMockServer({ resume: RESUME, ...serverOptions });
  cleanups.push(() => server.stop());
  const states = [];
  const onState = ({ status, resumed }) => states.push(resumed === undefined ? status : `${status} ${resumed}`);
  const reconnect = { initialDelayMs: 1, delayMaxMs: 5 };
  const session = await connect(server.url, { WebSocket, reconnect, closeTimeoutMs: 200, onState, ...sessionOptions });
  cleanups.push(() => session.close());
  return { server, session, states };
}

/** Everything that a stream is told, and a way to wait until it was told something. */
function record(add) {
  const events = [];
  const waiting = [];
  const note = (event) => {
    events.push(event);
    for (const check of waiting.splice(0)) check();
  };
  add({
    subscription: (path) => note(`+${path}`),
    value: (path, _, value) => note(`${path}=${JSON.stringify(value)}`),
    gap: (path) => note(`~${path}`),
    unsubscription: (path, _, reason) => note(`-${path} ${reason}`),
    error: (error) => note(`! ${error.message}`),
  });
  const until = async (event) => {
    while (!events.includes(event)) await new Promise((resolve) => waiting.push(resolve));
  };
  return { events, until };
}

function becomes(session, state) {
  return new Promise((resolve) => {
    const stop = session.on('state', (event) => {
      if (event.state !== state) return;
      stop();
      resolve(event);
    });
  });
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function until(condition) {
  while (!condition()) await turn();
}

const ops = (server, op) => server.received.filter((message) => message.op === op);

// Nothing missed, nothing twice.

/** A session that does a bit of everything. What came of it, and how many messages and requests that took. */
async function liveThrough(cutSending, cutReceiving) {
  const { server, session, states } = await start();
  let [sent, received] = [0, 0];
  server.cutSending = () => cutSending(sent++);
  server.cutReceiving = () => cutReceiving(received++);
  // What others do, each time that this session does something.
  let step = 0;
  server.answer = ({ op }) => {
    if (!['connect', 'processed', 'close'].includes(op)) server.put('x/others', 'int64', Buffer.from([0, 0, 0, 0, 0, 0, 0, (step += 1)]));
    return false;
  };
  const { events, until: told } = record((callbacks) => session.addStream('?x/', 'json', callbacks));
  const answers = [];
  const note = (name, promise) => promise.then((answer) => answers.push([name, answer]), (error) => answers.push([name, error.message]));
  await note('subscribe', session.subscribe('?x//'));
  await Promise.all([
    note('add', session.topics.add('x/mine', 'json')),
    note('again', session.topics.add('x/mine', 'json')),
    note('set', session.topics.set('x/mine', { a: 1 })),
    note('refused', session.topics.set('x/none', { a: 1 })),
  ]);
  const stream = session.topics.updateStream('x/stream', { specification: 'json' });
  for (let value = 0; value < 3; value += 1) await note(`stream ${value}`, stream.set({ text: 'the same text', value }));
  await Promise.all([1, 2, 3].map((value) => note(`set ${value}`, session.topics.set('x/mine', { a: value }))));
  await note('fetch', session.topics.fetch('?x//'));
  await note('remove', session.topics.remove('x/stream'));
  await told('-x/stream removed');
  await session.close();
  return { events, answers, states, counts: { sent, received }, handled: server.handled.map(({ op, id }) => `${op} ${id}`) };
}

const never = () => undefined;

test('a connection that is cut at any message is noticed by nobody', async () => {
  const uncut = await liveThrough(never, never);
  const { sent, received } = uncut.counts;
  assert.ok(sent > 30 && received > 12, `${sent} messages, ${received} requests`);
  const check = async (what, cutSending, cutReceiving) => {
    const { events, answers, handled, states } = await liveThrough(cutSending, cutReceiving);
    assert.deepEqual(events, uncut.events, what);
    assert.deepEqual(answers, uncut.answers, what);
    assert.deepEqual(handled, uncut.handled, what);
    assert.ok(states.includes('CONNECTED_ACTIVE true') && !states.slice(2).includes('CONNECTED_ACTIVE false'), `${what}: ${states}`);
  };
  for (const where of ['before', 'after']) {
    for (let at = 0; at < sent - 1; at += 1) await check(`${where} message ${at}`, (count) => (count === at ? where : undefined), never);
    for (let at = 0; at < received; at += 1) await check(`${where} request ${at}`, never, (count) => (count === at ? where : undefined));
  }
  // Time and again, in whatever way.
  await check('every 5th message', (count) => (count % 5 === 4 ? 'after' : undefined), (count) => (count % 3 === 2 ? 'before' : undefined));
});

test('what is asked for while there is no connection waits for the next', async () => {
  const { server, session } = await start();
  server.cut(server.last);
  await becomes(session, 'recovering');
  assert.equal(session.status, 'RECOVERING_RECONNECT');
  const answers = await Promise.all([session.topics.add('a', 'json'), session.topics.set('a', { x: 1 }), session.topics.fetch('a')]);
  assert.deepEqual(answers[2].results[0].value, { x: 1 });
  assert.equal(session.status, 'CONNECTED_ACTIVE');
  server.cut(server.last);
  await becomes(session, 'connected');
  await session.topics.remove('a');
  assert.deepEqual(server.handled.map(({ op }) => op), ['add', 'set', 'fetch', 'remove']);
});

test('what has waited goes before what is asked for when the session goes on', async () => {
  const { server, session } = await start();
  server.cut(server.last);
  await becomes(session, 'recovering');
  const first = session.topics.add('first', 'json');
  let second;
  const stop = session.on('state', () => (second = session.topics.add('second', 'json')));
  await first;
  await second;
  stop();
  assert.deepEqual(server.handled.map(({ path }) => path), ['first', 'second']);
});

test('what is asked for in vain is not sent later', async () => {
  const { server, session } = await start({}, { requestTimeoutMs: 20, reconnect: { initialDelayMs: 200 } });
  server.cut(server.last);
  await becomes(session, 'recovering');
  await assert.rejects(session.topics.add('a', 'json'), (error) => error instanceof tidewire.TimeoutError && /add within 20 ms; it was not sent/.test(error.message));
  await becomes(session, 'connected');
  await session.topics.add('b', 'json');
  assert.deepEqual(server.handled.map(({ path }) => path), ['b']);
});

test('requests are sent again as they were, and only those that the server does not know', async () => {
  const { server, session } = await start();
  await session.topics.add('known', 'json');
  server.cutReceiving = ({ path }) => (path === 'c' ? 'before' : undefined);
  const asked = Promise.all(['a', 'b', 'c', 'd'].map((path) => session.topics.add(path, 'json')));
  await becomes(session, 'recovering');
  server.cutReceiving = never;
  await asked;
  const added = ops(server, 'add').map(({ id, path }) => [id, path]);
  assert.deepEqual(added, [[2, 'known'], [3, 'a'], [4, 'b'], [5, 'c'], [5, 'c'], [6, 'd']]);
  assert.deepEqual(server.handled.map(({ path }) => path), ['known', 'a', 'b', 'c', 'd']);
  // CONNECT says what was processed, and asks for the same capabilities.
  const [first, second] = ops(server, 'connect');
  assert.deepEqual([first.resume_ms, second.token, second.processed, second.capabilities], [300_000, 'token-1', 3, first.capabilities]);
});

test('update streams, listeners and caches go on with the session', async () => {
  const { server, session } = await start();
  const notices = [];
  const listener = session.notifications.addListener({ onTopicNotification: (path, _, what) => notices.push(`${what} ${path}`) });
  await listener.select('?a/');
  const stream = session.topics.updateStream('a/s', { specification: 'string' });
  await stream.set('the quick brown fox');
  const { events } = record((callbacks) => session.addStream('a/s', 'string', callbacks));
  await session.subscribe('a/s');
  server.cut(server.last);
  await stream.set('the quick green fox');
  await session.topics.add('a/more', 'json');
  assert.equal(ops(server, 'stream_delta').length, 1);
  assert.deepEqual(events, ['+a/s', 'a/s="the quick brown fox"', 'a/s="the quick green fox"']);
  assert.deepEqual(notices, ['added a/s', 'added a/more']);
  assert.deepEqual([ops(server, 'subscribe').length, ops(server, 'listen').length], [1, 1]);
});

test('a server that hangs is given up, and the session goes on by another connection', async () => {
  const { server, session } = await start({ keepAliveMs: 40 });
  const [connection] = server.connections;
  // It hears nothing, and says nothing.
  server.answer = (_, { socket }) => socket === connection.first;
  connection.first = connection.socket;
  assert.equal((await becomes(session, 'recovering')).code, 4103);
  assert.equal((await becomes(session, 'connected')).resumed, true);
});

// What is said to the server.

test('what was processed is told at a quarter of what the server keeps, and else a second after the first that was not told', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const said = [];
    const resumption = new Resumption('token', 1_000, (messages) => said.push(messages));
    const check = (expected) => assert.deepEqual(said.splice(0), expected);
    resumption.note(100);
    mock.timers.tick(500);
    resumption.note(100);
    mock.timers.tick(499);
    check([]);
    mock.timers.tick(1);
    check([2]);
    mock.timers.tick(5_000);
    check([]);
    resumption.note(249);
    check([]);
    resumption.note(1);
    check([4]);
    mock.timers.tick(5_000);
    check([]);
    // By the next connection's CONNECT.
    resumption.note(1);
    resumption.pause();
    mock.timers.tick(5_000);
    check([]);
    assert.equal(resumption.processed, 5);
  } finally {
    mock.timers.reset();
  }
});

test('the server is told what was processed, and tells what it has received', async () => {
  const { server, session } = await start();
  server.put('a', 'binary', Buffer.alloc(10));
  await session.subscribe('a');
  const said = () => ops(server, 'processed').map(({ messages }) => messages);
  await until(() => said().length === 1);
  // RECEIVED is one message more, and the values are over 250 bytes.
  for (let value = 0; value < 3; value += 1) server.put('a', 'binary', Buffer.alloc(100, value));
  await until(() => said().length === 2);
  assert.deepEqual(said(), [3, 7]);
  await until(() => server.last.kept.length === 0);
});

test('a message counts when its callbacks have been called, and one that breaks the protocol does not', async () => {
  const { server, session, states } = await start();
  server.put('a', 'string', 'x');
  const { events } = record((callbacks) => session.addStream('a', 'string', callbacks));
  await session.subscribe('a');
  const lost = becomes(session, 'recovering');
  server.last.send(frame(0x91, varint(server.topics.get('a').number), Buffer.from('y')), Buffer.from([0x91, 9, 1]));
  assert.equal((await lost).code, 4100);
  await becomes(session, 'connected');
  // It would come again in the same session: that is over, and a new one begins.
  assert.equal(ops(server, 'close').length, 1);
  assert.deepEqual(states.slice(2), ['RECOVERING_RECONNECT', 'CONNECTED_ACTIVE false']);
  assert.deepEqual(events, ['+a', 'a="x"', 'a="y"', 'a="x"']);
});

test('a session may wish to stay for as long as it likes, or not at all', async () => {
  for (const [options, expected] of [
    [{}, 300_000],
    [{ resumeMs: 5_000 }, 5_000],
    [{ resumeMs: 0 }, undefined],
    [{ reconnect: false }, undefined],
  ]) {
    const { server } = await start({}, options);
    assert.equal(server.received[0].resume_ms, expected);
  }
  for (const resumeMs of [-1, 0.5, '5', Infinity]) {
    await assert.rejects(connect('ws://x', { resumeMs }), (error) => error instanceof TypeError && /expected whole milliseconds.*resumeMs/.test(error.message));
  }
});

// Gaps.

test('a stream is told of a gap, and then the newest value', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'old');
  const { events, until: told } = record((callbacks) => session.addStream('a', 'string', callbacks));
  await session.subscribe('a');
  server.cut(server.last);
  const number = varint(server.topics.get('a').number);
  server.last.send(frame(0x9a, number));
  server.put('a', 'string', 'new');
  await told('a="new"');
  assert.deepEqual(events, ['+a', 'a="old"', '~a', 'a="new"']);
});

// Sessions that are over.

/** The server has forgotten the session, as one that was started anew. */
async function loseSession(server, session) {
  const connected = becomes(session, 'connected');
  server.forgetSessions();
  return connected;
}

test('a session that is over is followed by a new one, which says so', async () => {
  const { server, session, states } = await start();
  server.put('x/a', 'string', 'same');
  server.put('x/b', 'string', 'old');
  const { events } = record((callbacks) => session.addStream('?.//', 'string', callbacks));
  const notices = [];
  const listener = session.notifications.addListener({ onTopicNotification: (path, _, what) => notices.push(`${what} ${path}`) });
  await listener.select('x/a');
  await session.subscribe('?x//');
  await session.subscribe('y', 'aside');
  await session.unsubscribe('x/hidden');
  const before = server.received.length;
  const connected = becomes(session, 'connected');
  server.forgetSessions();
  server.put('x/b', 'string', 'new');
  assert.equal((await connected).resumed, false);
  const asked = server.received.slice(before).map(({ op, selector, scope, token }) => [op, token ?? selector ?? '', scope ?? ''].join(' ').trim());
  assert.deepEqual(asked, ['connect token-1', 'connect', 'subscribe ?x//', 'unsubscribe x/hidden', 'subscribe y aside', 'listen x/a']);
  // Both by one connection.
  assert.equal(server.connections.length, 1);
  assert.deepEqual(events, ['+x/a', 'x/a="same"', '+x/b', 'x/b="old"', 'x/b="new"']);
  assert.deepEqual(notices, ['selected x/a', 'selected x/a']);
  assert.deepEqual(states, ['CONNECTING', 'CONNECTED_ACTIVE false', 'RECOVERING_RECONNECT', 'CONNECTED_ACTIVE false']);
  // The new one can be gone on with as well.
  server.cut(server.last);
  assert.equal((await becomes(session, 'connected')).resumed, true);
  await session.topics.set('x/a', 'later');
  assert.equal(events.at(-1), 'x/a="later"');
});

test('what was under way in a session that is over is told to be unknown, what was not sent goes on', async () => {
  const { server, session } = await start();
  const stream = session.topics.updateStream('s', { specification: 'json' });
  await stream.set(1);
  server.answer = ({ path }) => path === 'under way';
  const under = session.topics.add('under way', 'json');
  await until(() => server.handled.length === 2);
  server.forgetSessions();
  await becomes(session, 'recovering');
  const waiting = session.topics.add('waiting', 'json');
  const ofStream = assert.rejects(stream.set(2), (error) => error instanceof tidewire.ConnectionError && error.sent === false);
  await assert.rejects(under, (error) => {
    assert.ok(error instanceof tidewire.OutcomeUnknownError && error instanceof tidewire.ConnectionError);
    assert.equal(error.sent, true);
    assert.match(error.message, /whether add was carried out is not known/);
    return true;
  });
  assert.deepEqual(await waiting, { path: 'waiting', added: true });
  await ofStream;
  assert.equal(stream.valid, false);
  assert.deepEqual(server.handled.map(({ path }) => path), ['s', 'under way', 'waiting']);
});

test('selections that wait are made behind those of before', async () => {
  const { server, session } = await start();
  await session.subscribe('?a//');
  server.forgetSessions();
  await becomes(session, 'recovering');
  await Promise.all([session.unsubscribe('?a/b//'), session.subscribe('c')]);
  assert.deepEqual(ops(server, 'subscribe').map(({ selector }) => selector), ['?a//', '?a//', 'c']);
  await loseSession(server, session);
  assert.deepEqual(server.handled.slice(-3).map(({ op, selector }) => `${op} ${selector}`), ['subscribe ?a//', 'unsubscribe ?a/b//', 'subscribe c']);
});

test('a message that the server closes for is not sent again', async () => {
  for (const code of [1009, 4100]) {
    const { server, session } = await start();
    server.answer = ({ path }, { socket }) => path === 'fault' && (socket.close(code), true);
    const refused = assert.rejects(session.topics.add('fault', 'json'), tidewire.OutcomeUnknownError);
    assert.equal((await becomes(session, 'connected')).resumed, false);
    await refused;
    assert.equal(ops(server, 'add').length, 1);
  }
});

test('an update stream ends with its session, and says so', async () => {
  const { server, session } = await start();
  const stream = session.topics.updateStream('s', { specification: 'json' });
  await stream.set(1);
  await loseSession(server, session);
  await assert.rejects(stream.set(2), (error) => error instanceof tidewire.ConnectionError && /ended with the session/.test(error.message));
  const again = session.topics.updateStream('s', { specification: 'json' });
  await again.set(3);
});

test('a new session that loses its connection while it is furnished goes on, and is told once', async () => {
  const { server, session, states } = await start();
  for (const path of ['a', 'b', 'c', 'd']) {
    server.put(path, 'string', path);
    await session.subscribe(path);
  }
  const { events } = record((callbacks) => session.addStream('?.//', 'string', callbacks));
  let requests = 0;
  server.cutReceiving = () => ['before', undefined, 'after'][requests++];
  const waiting = becomes(session, 'recovering').then(() => session.topics.set('d', 'e'));
  assert.equal((await loseSession(server, session)).resumed, false);
  await waiting;
  assert.deepEqual(states.slice(2), ['RECOVERING_RECONNECT', 'CONNECTED_ACTIVE false']);
  assert.deepEqual(server.handled.slice(4).map(({ selector, path }) => selector ?? path), ['a', 'b', 'c', 'd', 'd']);
  assert.equal(ops(server, 'connect').filter(({ token }) => token === 'token-2').length, 2);
  assert.deepEqual(events, [...'abcd'].flatMap((path) => [`+${path}`, `${path}="${path}"`]).concat('d="e"'));
});

test('a new session that is over while it is furnished is followed by another', async () => {
  const { server, session, states } = await start();
  await session.subscribe('a');
  await session.subscribe('b');
  server.cutReceiving = ({ selector }) => {
    if (selector !== 'b') return undefined;
    server.cutReceiving = never;
    server.forgetSessions();
    return 'before';
  };
  await loseSession(server, session);
  assert.deepEqual(ops(server, 'subscribe').map(({ selector }) => selector), ['a', 'b', 'a', 'b', 'a', 'b']);
  assert.deepEqual(states.slice(2), ['RECOVERING_RECONNECT', 'CONNECTED_ACTIVE false']);
});

test('a new session that cannot be furnished yet is tried again, one at a time', async () => {
  const { server, session, states } = await start();
  await session.subscribe('a');
  let refusals = 2;
  server.answer = ({ op, id }, connection) => {
    if (op !== 'subscribe' || refusals === 0) return false;
    refusals -= 1;
    connection.send(errorFrame(id, 400, 'not now'));
    return true;
  };
  await loseSession(server, session);
  assert.deepEqual(ops(server, 'connect').map(({ token }) => token), [undefined, 'token-1', undefined, undefined, undefined]);
  assert.deepEqual([ops(server, 'close').length, server.connections.length], [2, 1]);
  assert.deepEqual(states.slice(2), ['RECOVERING_RECONNECT', 'CONNECTED_ACTIVE false']);
});

test('a server that counts otherwise is begun anew with', async () => {
  for (const spoil of [(connection) => (connection.requests = 7), (connection) => (connection.requests = 0)]) {
    const { server, session } = await start();
    await session.topics.add('a', 'json');
    spoil(server.last);
    server.cut(server.last);
    assert.equal((await becomes(session, 'connected')).resumed, false);
    await session.topics.add('b', 'json');
  }
});

test('a count that the server refuses begins a new session', async () => {
  const { server, session } = await start();
  server.answer = ({ op, token, id }, connection) => {
    if (op !== 'connect' || token === undefined) return false;
    connection.send(errorFrame(id, 108, 'not so many'));
    return true;
  };
  server.forgetSessions();
  assert.equal((await becomes(session, 'connected')).resumed, false);
});

test('a server that is stopping is asked again with the same token', async () => {
  const { server, session } = await start();
  await session.subscribe('a');
  const { port } = server;
  await server.stop();
  await becomes(session, 'recovering');
  await server.open(port);
  assert.equal((await becomes(session, 'connected')).resumed, true);
  assert.equal(ops(server, 'subscribe').length, 1);
});

test('a session that another connection has taken over does not fight for it', async () => {
  const { server, session, states } = await start();
  const under = session.topics.add('a', 'json');
  server.answer = ({ op }) => op === 'add';
  await until(() => server.handled.length === 1);
  server.last.socket.close(4105, 'another connection goes on with the session');
  const { status, code } = await session.closed;
  assert.deepEqual([status, code, session.state, session.status], ['CLOSED_BY_SERVER', 4105, 'closed', 'CLOSED_BY_SERVER']);
  await assert.rejects(under, tidewire.OutcomeUnknownError);
  assert.deepEqual(states, ['CONNECTING', 'CONNECTED_ACTIVE false', 'CLOSED_BY_SERVER']);
  assert.equal(ops(server, 'connect').length, 1);
});

test('a session that another has closed is not made anew', async () => {
  const { server, session, states } = await start();
  server.last.socket.close(4106, 'the trial is over');
  const { status, code, reason } = await session.closed;
  assert.deepEqual([status, code, reason], ['CLOSED_BY_SERVER', tidewire.CloseCode.CLOSED_BY_CONTROL, 'the trial is over']);
  assert.deepEqual(states, ['CONNECTING', 'CONNECTED_ACTIVE false', 'CLOSED_BY_SERVER']);
  assert.equal(ops(server, 'connect').length, 1);
});

test('the last state says who closed', async () => {
  const client = await start();
  await client.session.close();
  assert.equal(client.states.at(-1), 'CLOSED_BY_CLIENT');
  assert.equal(ops(client.server, 'close').length, 1);

  const failed = await start({}, { reconnect: { initialDelayMs: 1, attemptsMax: 2 } });
  const waiting = becomes(failed.session, 'recovering').then(() => failed.session.topics.add('a', 'json'));
  await failed.server.stop();
  await assert.rejects(waiting, (error) => error instanceof tidewire.ConnectionError && error.sent === false);
  assert.equal(failed.states.at(-1), 'CLOSED_FAILED');

  const closed = await start({}, { reconnect: false });
  closed.server.last.socket.close(4104, 'too slow');
  await closed.session.closed;
  assert.equal(closed.states.at(-1), 'CLOSED_BY_SERVER');
});

// Timers that are late.

test('a connection is not taken for dead because a timer was late', async () => {
  const { server, session, states } = await start({ keepAliveMs: 100 });
  const { port } = server;
  // The whole process stands still, as a page that sleeps does; what comes meanwhile waits in the socket.
  for (let nap = 0; nap < 3; nap += 1) {
    const end = performance.now() + 450;
    while (performance.now() < end);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  await session.topics.add('a', 'json');
  assert.equal(server.port, port);
  assert.deepEqual(states, ['CONNECTING', 'CONNECTED_ACTIVE false']);
});
