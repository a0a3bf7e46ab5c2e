// What a session does with the topic model, against a mock server in this process: properties, null, constraints, streams, time series, scopes,
// listeners, fetches.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, frame, startMockServer, string, varint } from './mock-server.js';

const { connect, TopicProperty, TopicType, updateConstraints } = tidewire;
const SERIES = { type: TopicType.TIME_SERIES, properties: { [TopicProperty.TIME_SERIES_EVENT_VALUE_TYPE]: 'double' } };

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

async function start(serverOptions, sessionOptions = {}) {
  const server = await startMockServer(serverOptions);
  cleanups.push(() => server.stop());
  return { server, session: await open(server, sessionOptions) };
}

async function open(server, options = {}) {
  const reconnect = { initialDelayMs: 1, delayMaxMs: 5 };
  const session = await connect(server.url, { WebSocket, reconnect, closeTimeoutMs: 200, ...options });
  cleanups.push(() => session.close());
  return session;
}

/** A list of events and a way to wait until there are so many. */
function recorder() {
  const events = [];
  const waiting = [];
  const note = (...event) => {
    events.push(event);
    for (const check of waiting.splice(0)) check();
  };
  const until = async (count) => {
    while (events.length < count) await new Promise((resolve) => waiting.push(resolve));
    return events;
  };
  return { events, note, until };
}

function recordStream(add) {
  const { events, note, until } = recorder();
  add({
    subscription: (path, specification) => note('+', path, specification),
    value: (path, _, value, oldValue) => note('=', path, value, oldValue),
    unsubscription: (path, _, reason) => note('-', path, reason),
    error: (error) => note('!', error.message),
  });
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

/** Loses the connection and has it made anew. */
async function reconnect(server, session) {
  const connected = becomes(session, 'connected');
  server.last.socket.terminate();
  await connected;
}

const refusal = (op, code, times = 1) => {
  let left = times;
  return (message, connection) => {
    if (message.op !== op || left === 0) return false;
    left -= 1;
    connection.send(errorFrame(message.id, code, 'not now'));
    return true;
  };
};

const ops = (server, prefix) => server.received.filter(({ op }) => op.startsWith(prefix));

// Specifications and values.

test('properties are shown on subscription, and by a fetch that wants them', async () => {
  const { session } = await start();
  const specification = { type: 'json', properties: { [TopicProperty.CONFLATION]: 'off' } };
  const { events } = recordStream((callbacks) => session.addStream('a', 'json', callbacks));
  await session.topics.addAndSet('a', specification, 1);
  await session.subscribe('a');
  assert.deepEqual(events, [['+', 'a', specification], ['=', 'a', 1, undefined]]);
  assert.deepEqual((await session.topics.fetchRequest().withProperties().fetch('a')).results, [{ path: 'a', type: 'json', specification }]);
});

test('null sets no value, and streams are given null', async () => {
  const { session } = await start();
  for (const [type, value] of [['string', ''], ['int64', 1], ['double', 0.5]]) {
    await session.topics.addAndSet(type, type, value);
    const { events, until } = recordStream((callbacks) => session.addStream(type, 'json', callbacks));
    await session.subscribe(type);
    await session.topics.set(type, null);
    await session.topics.set(type, value);
    await until(4);
    assert.deepEqual(events.slice(1), [['=', type, value, undefined], ['=', type, null, value], ['=', type, value, null]]);
    await session.topics.set(type, value, { constraint: updateConstraints().value(value) });
    await session.topics.set(type, null, { constraint: updateConstraints().value(value) });
    await session.topics.set(type, value, { constraint: updateConstraints().noValue() });
    assert.equal((await session.topics.addAndSet(`${type}/new`, type, null)).added, true);
    assert.deepEqual((await session.topics.fetch(`${type}/new`)).results, [{ path: `${type}/new`, type }]);
  }
});

test('null of a JSON topic is a value', async () => {
  const { session } = await start();
  await session.topics.addAndSet('a', 'json', null);
  assert.deepEqual((await session.topics.fetch('a')).results, [{ path: 'a', type: 'json', value: null }]);
  await assert.rejects(session.topics.addAndSet('b', 'binary', null), TypeError);
});

test('a stream that is added later is not told of null, which is no value', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  await session.subscribe('a');
  await session.topics.set('a', null, 'string');
  const { events } = recordStream((callbacks) => session.addStream('a', 'string', callbacks));
  await session.topics.set('a', 'y', 'string');
  assert.deepEqual(events.map(([kind, , value, old]) => [kind, value, old]).slice(1), [['=', 'y', null]]);
});

test('deflated values are inflated, and bounded', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const { events, until } = recordStream((callbacks) => session.addStream('a', 'string', callbacks));
  await session.subscribe('a');
  const { number } = server.topics.get('a');
  const long = 'tide '.repeat(500);
  server.last.send(frame(0x99, varint(number), deflateRawSync(long)), frame(0x99, varint(999), [7]));
  await until(3);
  assert.deepEqual(events[2], ['=', 'a', long, 'x']);
  const lost = becomes(session, 'recovering');
  server.last.send(frame(0x99, varint(number), deflateRawSync('x'.repeat(40_000))));
  assert.equal((await lost).code, 4100);
});

test('a subscription that ends by back pressure says so', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const { until } = recordStream((callbacks) => session.addStream('a', 'string', callbacks));
  await session.subscribe('a');
  server.last.send(frame(0x98, varint(server.topics.get('a').number), 3));
  assert.deepEqual((await until(3))[2], ['-', 'a', 'back_pressure']);
});

// Updates.

test('an update under a constraint that does not hold is refused and changes nothing', async () => {
  const { server, session } = await start();
  const { noTopic, noValue, value } = updateConstraints();
  const { topics } = session;
  assert.deepEqual(await topics.addAndSet('a', 'json', { x: 1 }, { constraint: noTopic() }), { path: 'a', added: true });
  await assert.rejects(topics.addAndSet('a', 'json', 5, { constraint: noTopic() }), tidewire.UnsatisfiedConstraintError);
  await topics.set('a', { x: 2 }, { constraint: value({ x: 1 }) });
  await assert.rejects(topics.set('a', { x: 3 }, 'json', { constraint: value({ x: 1 }) }), (error) => error.code === 212);
  assert.equal(server.topics.get('a').value.toString(), '{"x":2}');
  assert.deepEqual(await topics.add('b', 'string', { constraint: noTopic() }), { path: 'b', added: true });
  await topics.set('b', 'mine', { constraint: noValue() });
  await assert.rejects(topics.set('b', 'mine', { constraint: noValue() }), tidewire.UnsatisfiedConstraintError);
  await assert.rejects(topics.set('a', 1, { constraint: { value: 1 } }), TypeError);
});

test('a patch that cannot be applied tells the index of its operation', async () => {
  const { server, session } = await start();
  await session.topics.addAndSet('a', 'json', {});
  await session.topics.applyJsonPatch('a', [{ op: 'add', path: '/y', value: 5 }], { constraint: updateConstraints().value({}) });
  await session.topics.applyJsonPatch('a', '[{"op":"remove","path":"/y"}]');
  assert.deepEqual(ops(server, 'update').map(({ patch }) => patch[0].op), ['add', 'remove']);
  const patch = [{ op: 'remove', path: '/y' }, { op: 'test', path: '', value: 1 }];
  await assert.rejects(session.topics.applyJsonPatch('a', patch), (error) => error instanceof tidewire.FailedPatchError && error.operationIndex === 1);
  await assert.rejects(session.topics.applyJsonPatch('a', { op: 'test' }), TypeError);
});

test('a batch is one message, and each update settles for itself', async () => {
  const { server, session } = await start();
  let messages = 0;
  server.last.socket.on('message', () => (messages += 1));
  const results = await session.topics.batch([
    { path: 'a', specification: 'int64', value: 1 },
    { path: 'a', value: 2, type: 'int64' },
    { path: 'none', value: 2, type: 'int64' },
    { path: 'b', specification: 'json' },
    { path: 'a', value: 'x', type: 'int64' },
    { path: 'a', value: 3, type: 'int64', constraint: updateConstraints().noTopic() },
    { path: 'b', patch: [] },
  ]);
  assert.equal(messages, 1);
  assert.deepEqual(results.map(({ status, value, reason }) => value?.added ?? reason?.name ?? status), [
    true,
    'fulfilled',
    'NoSuchTopicError',
    true,
    'TypeError',
    'UnsatisfiedConstraintError',
    'fulfilled',
  ]);
});

// Update streams.

test('an update stream opens with its first value and then sends what changed', async () => {
  const { server, session } = await start();
  const stream = session.topics.updateStream('a', { specification: 'json', constraint: updateConstraints().noTopic() });
  assert.equal(stream.get(), undefined);
  assert.equal(ops(server, 'stream').length, 0);
  const rows = Array.from({ length: 20 }, (_, index) => ({ index }));
  const first = stream.set(rows);
  const second = stream.set(rows.slice(0, 19));
  assert.deepEqual(await Promise.all([first, second]), [{ added: true }, { added: false }]);
  await stream.set(5);
  assert.equal(stream.get(), 5);
  assert.deepEqual(ops(server, 'stream').map(({ op }) => op), ['stream_open', 'stream_delta', 'stream_set']);
  assert.equal(server.topics.get('a').value.toString(), '5');
  await stream.close();
  assert.equal(stream.valid, false);
  await assert.rejects(stream.set(6), tidewire.InvalidStreamError);
  await stream.close();
});

test('a stream of a type that has no deltas, or where they are not wanted, sends whole values', async () => {
  const { server, session } = await start();
  const long = 'x'.repeat(100);
  for (const options of [
    { specification: 'string', suppressDeltas: true },
    { specification: { type: 'string', properties: { PUBLISH_VALUES_ONLY: 'true' } } },
    { specification: { type: 'string', properties: { DONT_RETAIN_VALUE: 'true' } } },
  ]) {
    const stream = session.topics.updateStream('a', options);
    await Promise.all([stream.set(long), stream.set(`${long}y`)]);
    await session.topics.remove('a');
  }
  const numbers = session.topics.updateStream('n', { specification: 'int64' });
  await Promise.all([numbers.set(1), numbers.set(2)]);
  assert.deepEqual(ops(server, 'stream_delta'), []);
});

test('a stream can be validated without a value', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const stream = session.topics.updateStream('a', { type: 'string', constraint: updateConstraints().noTopic() });
  await assert.rejects(stream.validate(), tidewire.UnsatisfiedConstraintError);
  await assert.rejects(stream.set('y'), tidewire.InvalidStreamError);
  const other = session.topics.updateStream('a', { type: 'string' });
  assert.deepEqual([await other.validate(), await other.validate()], [{ added: false }, { added: false }]);
  await other.set('y');
  assert.deepEqual(ops(server, 'stream').map(({ op }) => op), ['stream_open', 'stream_close', 'stream_open', 'stream_set']);
});

test('a stream ends when anybody else updates the topic, and what is under way fails', async () => {
  const { server, session } = await start();
  const stream = session.topics.updateStream('a', { specification: 'string' });
  await stream.set('mine');
  server.put('a', 'string', 'theirs');
  const results = await Promise.allSettled([stream.set('one'), stream.set('two')]);
  for (const { reason } of results) assert.ok(reason instanceof tidewire.InvalidStreamError);
  await assert.rejects(stream.set('three'), tidewire.InvalidStreamError);
  assert.equal(server.topics.get('a').value.toString(), 'theirs');
  assert.equal(stream.valid, false);
});

test('a stream ends with its connection', async () => {
  const { server, session } = await start();
  const stream = session.topics.updateStream('a', { specification: 'string' });
  await stream.set('x');
  await reconnect(server, session);
  await assert.rejects(stream.set('y'), (error) => error instanceof tidewire.ConnectionError && !error.sent);
  assert.equal(ops(server, 'stream').length, 1);
});

test('what a stream cannot send fails before it is sent, and the stream goes on', async () => {
  const { session } = await start();
  const stream = session.topics.updateStream('a', { specification: 'int64' });
  await assert.rejects(stream.set('x'), TypeError);
  await assert.rejects(stream.set(null), TypeError);
  await stream.set(1);
  assert.throws(() => session.topics.updateStream('unknown'), TypeError);
  assert.throws(() => session.topics.updateStream('a', { specification: 'time_series' }), TypeError);
  await session.topics.add('known', 'int64');
  await session.topics.updateStream('known').set(2);
});

test('a recoverable stream sends again what was not acknowledged', async () => {
  const { server, session } = await start();
  const constraint = updateConstraints().noTopic();
  const stream = session.topics.recoverableUpdateStream('a', { specification: 'string', constraint, retry: { intervalMs: 1, attempts: 5 } });
  await stream.set('one');
  assert.equal(stream.isRecoverable(), false);
  server.answer = (message, connection) => {
    const refused = refusal('stream_set', 410)(message, connection);
    if (refused) server.topics.get('a').stream = undefined;
    server.answer = () => false;
    return refused;
  };
  const results = await Promise.allSettled([stream.set('two'), stream.set('six')]);
  assert.deepEqual(results.map(({ status }) => status), ['rejected', 'rejected']);
  assert.equal(stream.isRecoverable(), true);
  await assert.rejects(stream.set('ten'));
  server.answer = refusal('stream_open', 400, 2);
  const recovered = stream.recover();
  const later = stream.set('last');
  await recovered;
  await later;
  assert.equal(stream.get(), 'last');
  assert.equal(server.topics.get('a').value.toString(), 'last');
  assert.deepEqual(ops(server, 'stream_open').slice(-1).map(({ value, constraint: given }) => [value.toString(), given]), [['two', undefined]]);
  assert.deepEqual(ops(server, 'stream_set').slice(-3).map(({ value }) => value.toString()), ['six', 'ten', 'last']);
});

test('a recoverable stream survives its connection', async () => {
  const { server, session } = await start();
  const stream = session.topics.recoverableUpdateStream('a', { specification: 'string', retry: { intervalMs: 1, attempts: 1000 } });
  await stream.set('one');
  const lost = becomes(session, 'recovering');
  server.answer = ({ op }) => op === 'stream_set';
  const under = stream.set('two');
  setTimeout(() => server.last.socket.terminate());
  await assert.rejects(under, tidewire.ConnectionError);
  await lost;
  server.answer = () => false;
  await stream.recover();
  assert.equal(server.topics.get('a').value.toString(), 'two');
});

test('a failure that does not pass is no matter for recovery', async () => {
  const { server, session } = await start();
  const stream = session.topics.recoverableUpdateStream('a', { specification: 'string', retry: { intervalMs: 1 } });
  await stream.recover();
  await stream.set('one');
  server.put('a', 'string', 'theirs');
  await assert.rejects(stream.set('two'), tidewire.InvalidStreamError);
  assert.equal(stream.isRecoverable(), false);
  await assert.rejects(stream.recover(), tidewire.InvalidStreamError);
  assert.throws(() => session.topics.recoverableUpdateStream('a', { retry: { attempts: 0 } }), TypeError);
});

test('recovery gives up after as many attempts as wanted, and can be tried again', async () => {
  const { server, session } = await start({ answer: refusal('stream_open', 410, 3) });
  const stream = session.topics.recoverableUpdateStream('a', { specification: 'string', retry: { intervalMs: 1, attempts: 2 } });
  await assert.rejects(stream.set('one'), tidewire.StorageUnavailableError);
  await assert.rejects(stream.recover(), tidewire.StorageUnavailableError);
  assert.equal(stream.isRecoverable(), true);
  await stream.recover();
  assert.equal(server.topics.get('a').value.toString(), 'one');
});

// Time series.

test('a time series stream is given events, and edits as such', async () => {
  const { session } = await start();
  await session.topics.add('s', SERIES);
  const { events, until } = recordStream((callbacks) => session.addTimeSeriesStream('s', 'double', callbacks));
  const plain = recordStream((callbacks) => session.addStream('?.*//', 'json', callbacks));
  const wrong = recordStream((callbacks) => session.addTimeSeriesStream('s', 'string', callbacks));
  await session.subscribe('s');
  assert.deepEqual(await session.timeSeries.append('s', 1.5), { sequence: 0, timestamp: 1_000 });
  await session.timeSeries.append('s', 2, { timestamp: new Date(5_000) });
  await session.timeSeries.edit('s', 0, 1.25);
  await session.topics.set('s', 3);
  await until(5);
  const first = { sequence: 0, timestamp: 1_000, author: 'mock', value: 1.5, isEdit: false };
  const second = { ...first, sequence: 1, timestamp: 5_000, value: 2 };
  assert.deepEqual(events.slice(0, 3), [['+', 's', SERIES], ['=', 's', first, undefined], ['=', 's', second, first]]);
  assert.deepEqual(events[3][2], { ...first, sequence: 2, timestamp: 1_002, value: 1.25, isEdit: true, originalSequence: 0 });
  assert.equal(events[4][2].value, 3);
  assert.deepEqual([plain.events, wrong.events], [[], []]);
  const late = recordStream((callbacks) => session.addTimeSeriesStream('s', 'json', callbacks));
  assert.deepEqual((await late.until(2))[1], ['=', 's', events[4][2], undefined]);
});

test('an edit of what is no original is refused', async () => {
  const { session } = await start();
  await session.topics.addAndSet('s', SERIES, 1);
  await session.timeSeries.edit('s', 0, 2);
  await assert.rejects(session.timeSeries.edit('s', 1, 3), tidewire.EventIsEditError);
  await assert.rejects(session.timeSeries.edit('s', 9, 3), tidewire.NoSuchEventError);
  for (const attempt of [
    () => session.timeSeries.append('s', null),
    () => session.timeSeries.append('unknown', 1),
    () => session.timeSeries.append('s', 1, { timestamp: -1 }),
    () => session.timeSeries.append('s', 1, { timestamp: new Date(NaN) }),
    () => session.timeSeries.append('s', 1, { type: 'time_series' }),
    () => session.timeSeries.edit('s', 0.5, 1),
    () => session.topics.addAndSet('t', 'time_series', 1),
  ]) {
    await assert.rejects(attempt, TypeError, String(attempt));
  }
});

test('a query says what its steps say', async () => {
  const { server, session } = await start();
  await session.topics.addAndSet('s', SERIES, 1);
  const all = session.timeSeries.rangeQuery();
  const check = async (query, expected) => {
    await query.selectFrom('s');
    const { op, id, path, ...said } = server.received.at(-1);
    assert.deepEqual([op, path, said], ['query', 's', expected]);
  };
  await check(all, {});
  await check(all.fromLast(10).nextMs(60_000).limit(5), { range: { from: { last_events: 10 }, to: { next_ms: 60_000 } }, limit: 5 });
  await check(all.from(new Date(7)).to(9), { range: { from: { instant: 7 }, to: { sequence: 9 } } });
  await check(all.from(3).to(new Date(9)), { range: { from: { sequence: 3 }, to: { instant: 9 } } });
  await check(all.fromLastMs(9).untilLast(1), { range: { from: { last_ms: 9 }, to: { until_last_events: 1 } } });
  await check(all.from(3).untilLastMs(1), { range: { from: { sequence: 3 }, to: { until_last_ms: 1 } } });
  await check(all.from(3).previous(2), { range: { from: { sequence: 3 }, to: { previous_events: 2 } } });
  await check(all.from(3).previousMs(2), { range: { from: { sequence: 3 }, to: { previous_ms: 2 } } });
  await check(all.from(3).next(2).fromStart().toEnd(), {});
  await check(all.forEdits(), { kind: 'all_edits' });
  await check(all.forEdits().latestEdits().from(3).editRange().fromLast(1), {
    kind: 'latest_edits',
    range: { from: { sequence: 3 } },
    edit_range: { from: { last_events: 1 } },
  });
  await check(all.forEdits().allEdits().from(3).forValues().editRange().to(4), { edit_range: { to: { sequence: 4 } } });
  for (const build of [() => all.latestEdits(), () => all.limit(0), () => all.fromLast(-1), () => all.from('a'), () => all.as('time_series')]) {
    assert.throws(build, TypeError, String(build));
  }
});

test('a query gives events, their type, and whether they are all', async () => {
  const { session } = await start();
  await session.topics.addAndSet('s', SERIES, 1);
  await session.timeSeries.append('s', 2);
  await session.timeSeries.edit('s', 0, 3);
  const result = await session.timeSeries.rangeQuery().limit(2).as('double').selectFrom('s');
  assert.deepEqual(result, {
    events: [
      { sequence: 1, timestamp: 1_001, author: 'mock', value: 2, isEdit: false },
      { sequence: 2, timestamp: 1_002, author: 'mock', value: 3, isEdit: true, originalSequence: 0 },
    ],
    isComplete: false,
    type: 'double',
  });
  assert.equal((await session.timeSeries.rangeQuery().forEdits().selectFrom('s')).isComplete, true);
  await assert.rejects(session.timeSeries.rangeQuery().as('json').selectFrom('s'), TypeError);
});

test('a new connection brings only events that are new', async () => {
  const { server, session } = await start();
  await session.topics.addAndSet('s', SERIES, 1);
  const { events, until } = recordStream((callbacks) => session.addTimeSeriesStream('s', 'double', callbacks));
  await session.subscribe('s');
  await reconnect(server, session);
  await session.timeSeries.append('s', 2, { type: 'double' });
  await until(3);
  assert.deepEqual(events.map(([kind, , value]) => [kind, value.value]), [['+', undefined], ['=', 1], ['=', 2]]);
  // A series that was made anew starts at 0 again.
  const topic = server.topics.get('s');
  topic.events = [{ ...topic.events[0], timestamp: 9_000, value: Buffer.alloc(8) }];
  await reconnect(server, session);
  assert.deepEqual([events.length, events[3][2].sequence, events[3][2].value], [4, 0, 0]);
});

/** Events come while the session has no connection. Settles when it has one again. */
async function missEvents(server, session, count) {
  const back = becomes(session, 'connected');
  await server.stop();
  for (let value = 0; value < count; value += 1) server.put('s', 'time_series', double(100 + value));
  await server.restart();
  await back;
}

const double = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
};

/** The sequences of events, and errors. */
const sequencesOf = (events) => events.filter(([kind]) => kind !== '+').map(([kind, what, event]) => (kind === '=' ? event.sequence : what));

for (const [what, properties] of [['', {}], [' that sends no first events', { PUBLISH_VALUES_ONLY: 'true' }]]) {
  test(`the events that came while there was no connection are asked for, of a series${what}`, async () => {
    const { server, session } = await start({ queryEventsMax: 2 });
    await session.topics.addAndSet('s', { ...SERIES, properties: { ...SERIES.properties, ...properties } }, 1);
    const { events, until } = recordStream((callbacks) => session.addTimeSeriesStream('s', 'double', callbacks));
    await session.subscribe('s');
    await session.timeSeries.append('s', 2, { type: 'double' });
    await missEvents(server, session, 5);
    await session.timeSeries.append('s', 3, { type: 'double' });
    const seen = properties.PUBLISH_VALUES_ONLY ? [1, 2, 3, 4, 5, 6, 7] : [0, 1, 2, 3, 4, 5, 6, 7];
    await until(seen.length + 1);
    assert.deepEqual(sequencesOf(events), seen);
    assert.deepEqual(events.at(-2)[2].value, 104);
  });
}

test('edits that came while there was no connection are told as such', async () => {
  const { server, session } = await start();
  await session.topics.addAndSet('s', SERIES, 1);
  const { events } = recordStream((callbacks) => session.addTimeSeriesStream('s', 'double', callbacks));
  await session.subscribe('s');
  const edit = { sequence: 1, timestamp: 1_001, original: 0, author: 'mock', value: double(2) };
  server.topics.get('s').events.push(edit);
  await missEvents(server, session, 2);
  const told = events.slice(1).map(([, , { sequence, value, isEdit }]) => [sequence, value, isEdit]);
  assert.deepEqual(told, [[0, 1, false], [1, 2, true], [2, 100, false], [3, 101, false]]);
});

test('events that are not kept any more are told as missed', async () => {
  const { server, session } = await start();
  await session.topics.addAndSet('s', SERIES, 1);
  const { events } = recordStream((callbacks) => session.addTimeSeriesStream('s', 'double', callbacks));
  await session.subscribe('s');
  server.topics.get('s').kept = 4;
  await missEvents(server, session, 6);
  const missed = 'events 1 to 3 of s came while there was no connection, and cannot be had any more';
  assert.deepEqual(sequencesOf(events), [0, missed, 4, 5, 6]);
});

for (const [what, kept, told] of [
  ['asked for', 0, [0, 1, 2, 3, 4]],
  ['told as missed where they are not kept', 3, [0, 'events 1 to 2 of s came while there was no connection, and cannot be had any more', 3, 4]],
]) {
  test(`the events in a gap are ${what}`, async () => {
    const { server, session } = await start();
    await session.topics.addAndSet('s', SERIES, 1);
    const { events, until } = recordStream((callbacks) => session.addTimeSeriesStream('s', 'double', callbacks));
    await session.subscribe('s');
    const topic = server.topics.get('s');
    for (let sequence = 1; sequence < 4; sequence += 1) topic.events.push({ sequence, timestamp: 1_000 + sequence, author: 'mock', value: double(sequence) });
    topic.kept = kept;
    const gap = frame(0x9a, varint(topic.number));
    server.last.send(gap, gap);
    server.put('s', 'time_series', double(4));
    await until(told.length + 1);
    assert.deepEqual(sequencesOf(events), told);
  });
}

test('events of a series that may not be asked for are told as missed', async () => {
  const { server, session } = await start({ answer: refusal('query', 202) });
  await session.topics.addAndSet('s', SERIES, 1);
  const { events } = recordStream((callbacks) => session.addTimeSeriesStream('s', 'double', callbacks));
  await session.subscribe('s');
  await missEvents(server, session, 2);
  const missed = 'events 1 to 1 of s came while there was no connection, and cannot be had any more';
  assert.deepEqual(sequencesOf(events), [0, missed, 2]);
});

test('a slow reader of a time series is given every event', async () => {
  const { session } = await start();
  await session.topics.add('s', SERIES);
  const stream = session.addTimeSeriesStream('s', 'double');
  const iterator = stream[Symbol.asyncIterator]();
  await session.subscribe('s');
  for (const value of [1, 2, 3]) await session.timeSeries.append('s', value);
  const values = [];
  for (let count = 0; count < 3; count += 1) values.push((await iterator.next()).value.value.value);
  assert.deepEqual(values, [1, 2, 3]);
});

// Scopes.

test('a topic stays subscribed as long as a scope selects it, also on a new connection', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const { events } = recordStream((callbacks) => session.addStream('a', 'string', callbacks));
  await session.subscribe('a', 'one');
  await session.subscribe('?.//', 'two');
  await session.unsubscribe('a', 'one');
  assert.deepEqual(events.map(([kind]) => kind), ['+', '=']);
  await session.subscribe('b');
  server.received.length = 0;
  await reconnect(server, session);
  const made = server.received.filter(({ selector }) => selector !== undefined);
  assert.deepEqual(made.map(({ op, selector, scope }) => `${op} ${selector} ${scope}`), ['subscribe ?.// two', 'subscribe b ']);
  await session.unsubscribeAllScopes('?.*//');
  assert.deepEqual(events.at(-1), ['-', 'a', 'requested']);
  server.received.length = 0;
  await reconnect(server, session);
  assert.deepEqual(server.received.map(({ op }) => op), ['connect']);
  await assert.rejects(session.subscribe('a', 5), TypeError);
});

// Listeners.

test('a listener is told of topics and of those below, and the same again on a new connection', async () => {
  const { server, session } = await start();
  const { events, note, until } = recorder();
  server.put('a/there', 'string', 'x');
  const listener = session.notifications.addListener({
    onTopicNotification: (path, { type }, what) => note(what, path, type),
    onDescendantNotification: (path, what) => note('below', what, path),
    onClose: () => note('close'),
  });
  await listener.select('?a/');
  await session.topics.add('a/new', 'json');
  await session.topics.add('a/new/below', SERIES);
  await session.topics.remove('a/there');
  assert.deepEqual(events.splice(0), [
    ['selected', 'a/there', 'string'],
    ['added', 'a/new', 'json'],
    ['added', 'a/new/below', 'time_series'],
    ['below', 'added', 'a/new/below'],
    ['removed', 'a/there', 'string'],
  ]);
  await listener.select('b');
  await listener.deselect('b');
  await reconnect(server, session);
  await until(3);
  assert.deepEqual(events.splice(0).map(([what]) => what), ['selected', 'selected', 'below']);
  await listener.close();
  await session.topics.add('a/unseen', 'json');
  assert.deepEqual([events, listener.closed, server.last.listeners.size], [[['close']], true, 0]);
  await assert.rejects(listener.select('a'), tidewire.ConnectionError);
});

test('a listener that the server refuses later is told', async () => {
  const { server, session } = await start();
  const { note, until } = recorder();
  const listener = session.notifications.addListener({ onError: (error) => note(error.name) });
  await listener.select('a');
  server.answer = refusal('listen', 301);
  await reconnect(server, session);
  assert.deepEqual(await until(1), [['ListenerLimitError']]);
});

test('a topic event listener is told of the first subscriber and the last', async () => {
  const { server, session } = await start();
  const { note, until } = recorder();
  const callbacks = { onHasSubscribers: (path) => note('some', path), onNoSubscribers: (path) => note('none', path) };
  const listener = await session.topics.addTopicEventListener('?a//', callbacks);
  const { kind, listener: number } = ops(server, 'listen')[0];
  server.last.send(frame(0xa2, varint(number), string('a/b'), 1), frame(0xa2, varint(number), string('a/b'), 0), frame(0xa2, varint(99), string('a'), 1));
  assert.deepEqual([kind, await until(2)], ['subscribers', [['some', 'a/b'], ['none', 'a/b']]]);
  await listener.close();
});

test('a missing topic handler is told whose selector it was', async () => {
  const { server, session } = await start();
  const { note, until } = recorder();
  await session.topics.addMissingTopicHandler('a/b', { onMissingTopic: (missing) => note(missing) });
  const { kind, listener, selector } = ops(server, 'listen')[0];
  assert.deepEqual([kind, selector], ['missing', 'a/b']);
  const properties = [varint(1), string('$Principal'), string('ann')];
  server.last.send(frame(0xa3, varint(listener), string('>a/b/c'), string('S-2'), ...properties));
  assert.deepEqual(await until(1), [[{ selector: '>a/b/c', sessionId: 'S-2', sessionProperties: { $Principal: 'ann' } }]]);
  server.answer = refusal('listen', 301);
  await assert.rejects(session.topics.addMissingTopicHandler('x', {}), tidewire.ListenerLimitError);
});

test('a callback of a listener that throws stops nobody', async () => {
  const { session } = await start();
  const errors = [];
  const listener = session.notifications.addListener({
    onTopicNotification: () => {
      throw new Error('mine');
    },
    onError: (error) => errors.push(error.message),
  });
  await listener.select('a');
  await session.topics.add('a', 'json');
  await session.close();
  assert.deepEqual([errors, listener.closed], [['mine'], true]);
  assert.throws(() => session.notifications.addListener({ onTopicNotification: 5 }), TypeError);
});

// Fetches.

test('a fetch request says what its steps say, and does not change', async () => {
  const { server, session } = await start();
  const plain = session.topics.fetchRequest();
  const check = async (request, expected) => {
    await request.fetch('?.*//');
    const { op, id, selector, ...said } = server.received.at(-1);
    assert.deepEqual([op, selector, said], ['fetch', '?.*//', { after: '', first: 0, values: false, ...expected }]);
  };
  await check(plain.from('a').to('b').last(10), { from: 'a', to: 'b', last: 10 });
  await check(plain.from('a').after('b').to('c').before('d').last(1).first(5), { after: 'b', before: 'd', first: 5 });
  await check(plain.topicTypes('time_series', 'json', 'json'), { types: ['json', 'time_series'] });
  await check(plain.withProperties().withSizes(), { with_properties: true, sizes: true });
  await check(plain.withValues(), { values: true, with_properties: true });
  await check(plain.withValues('json'), { values: true, with_properties: true, types: ['json', 'string', 'int64', 'double'] });
  await check(plain.withValues('double').topicTypes('double', 'time_series', 'string'), { values: true, with_properties: true, types: ['double', 'time_series'] });
  await check(plain.limitDeepBranches(2, 5).maximumResultBytes(1000), { depth: 2, depth_limit: 5, bytes_max: 1000 });
  await check(plain, {});
  for (const build of [
    () => plain.first(-1),
    () => plain.last(0),
    () => plain.limitDeepBranches(0, 1),
    () => plain.topicTypes(),
    () => plain.topicTypes('text'),
    () => plain.withValues('time_series'),
    () => plain.from(5),
  ]) {
    assert.throws(build, TypeError, String(build));
  }
  await assert.rejects(plain.topicTypes('binary').withValues('json').fetch('a'), TypeError);
  await assert.rejects(session.topics.fetch('a', { from: 'a', after: 'b' }), TypeError);
});

test('a fetch gives what it was asked for, of a time series the latest value', async () => {
  const { session } = await start();
  await session.topics.addAndSet('a', 'string', 'é');
  await session.topics.add('b', 'json');
  await session.topics.addAndSet('s', SERIES, 1.5);
  assert.deepEqual((await session.topics.fetchRequest().withValues().withSizes().fetch('?.*')).results, [
    { path: 'a', type: 'string', value: 'é', size: 2 },
    { path: 'b', type: 'json' },
    { path: 's', type: 'time_series', value: 1.5, size: 8 },
  ]);
});

test('pages follow each other in both directions', async () => {
  const { server, session } = await start({ pageMax: 3 });
  const paths = Array.from({ length: 8 }, (_, index) => `p/${index}`);
  for (const path of paths) server.put(path, 'json', '1');
  const all = async (request) => {
    const found = [];
    for await (const { path } of request.fetchAll('?p/')) found.push(path);
    return found;
  };
  const request = session.topics.fetchRequest();
  assert.deepEqual(await all(request.from('p/2')), paths.slice(2));
  assert.deepEqual(await all(request.last(2).to('p/6').from('p/1')), paths.slice(1, 7).reverse());
});

test('the limit of deep branches holds over pages', async () => {
  const { server, session } = await start({ pageMax: 2 });
  for (const path of ['a/1', 'a/2', 'a/3', 'a/4', 'a/5', 'b/1', 'c/1', 'c/2', 'c/3', 'c/4', 'd']) server.put(path, 'json', '1');
  const found = [];
  for await (const { path } of session.topics.fetchRequest().limitDeepBranches(1, 3).fetchAll('?.*//')) found.push(path);
  assert.deepEqual(found, ['a/1', 'a/2', 'a/3', 'b/1', 'c/1', 'c/2', 'c/3', 'd']);
  // What is left of a full branch is not asked for.
  assert.ok(ops(server, 'fetch').length < 7);
  assert.ok(ops(server, 'fetch').some(({ after }) => after === 'a/\u{10FFFF}'));
});
