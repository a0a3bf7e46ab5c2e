// The topic model against a real server: properties, null, constraints, patches, streams, time series, scopes, listeners, views and fetches, where
// TIDEWIRE_URL names a server that this test may fill and empty under `sdk-model/`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tidewire from '../tidewire.js';

const { connect, TopicProperty, TopicType, updateConstraints } = tidewire;

const url = process.env.TIDEWIRE_URL;
const ROOT = `sdk-model/${process.pid}`;
const SERIES = {
  type: TopicType.TIME_SERIES,
  properties: { [TopicProperty.TIME_SERIES_EVENT_VALUE_TYPE]: 'double', [TopicProperty.TIME_SERIES_RETAINED_RANGE]: 'limit 100' },
};

async function withSessions(count, body) {
  const sessions = await Promise.all(Array.from({ length: count }, () => connect(url, { reconnect: false, requestTimeoutMs: 10_000 })));
  try {
    await body(...sessions);
  } finally {
    const { views, topics } = sessions[0];
    for (const { name } of await views.listViews()) if (name.startsWith(ROOT)) await views.removeView(name);
    await topics.remove(`?${ROOT}//`);
    await Promise.all(sessions.map((session) => session.close()));
  }
}

/** A list of events and a way to wait until there are so many. */
function recorder() {
  const events = [];
  let check = () => {};
  const note = (...event) => {
    events.push(event);
    check();
  };
  const until = (count) =>
    new Promise((resolve) => {
      check = () => events.length >= count && resolve(events);
      check();
    });
  return { events, note, until };
}

function recordStream(add) {
  const { events, note, until } = recorder();
  add({
    subscription: (path, specification) => note('subscription', path, specification),
    value: (path, _, value, oldValue) => note('value', path, value, oldValue),
    unsubscription: (path, _, reason) => note('unsubscription', path, reason),
    error: (error) => note('error', error),
  });
  return { events, until };
}

const values = (events) => events.filter(([kind]) => kind === 'value').map(([, , value]) => value);

test('the topic model of a real server', { skip: url === undefined && 'TIDEWIRE_URL is not set' }, async (t) => {
  const check = (name, count, body) => t.test(name, () => withSessions(count, body));

  await check('specifications are shown, and have to be the same', 1, async (session) => {
    const specification = { type: 'string', properties: { [TopicProperty.CONFLATION]: 'off', [TopicProperty.PERSISTENT]: 'false' } };
    const { until } = recordStream((callbacks) => session.addStream(`${ROOT}/a`, 'string', callbacks));
    assert.equal((await session.topics.add(`${ROOT}/a`, specification)).added, true);
    assert.equal((await session.topics.add(`${ROOT}/a`, specification)).added, false);
    await assert.rejects(session.topics.add(`${ROOT}/a`, 'string'), tidewire.TopicExistsError);
    await session.subscribe(`${ROOT}/a`);
    assert.deepEqual(await until(1), [['subscription', `${ROOT}/a`, specification]]);
    assert.deepEqual((await session.topics.fetchRequest().withProperties().fetch(`${ROOT}/a`)).results, [
      { path: `${ROOT}/a`, type: 'string', specification },
    ]);
    const wrong = { type: 'json', properties: { [TopicProperty.PRIORITY]: 'urgent' } };
    await assert.rejects(session.topics.add(`${ROOT}/b`, wrong), tidewire.InvalidPropertyError);
    await assert.rejects(session.topics.add(`${ROOT}/b`, 'time_series'), tidewire.InvalidPropertyError);
  });

  for (const [type, value] of [['string', ''], ['int64', 7], ['double', 0.5]]) {
    await check(`${type}: null is no value`, 2, async (writer, reader) => {
      const path = `${ROOT}/null`;
      await writer.topics.addAndSet(path, type, value);
      const { until } = recordStream((callbacks) => reader.addStream(path, 'json', callbacks));
      await reader.subscribe(path);
      await until(2);
      await writer.topics.set(path, null);
      assert.deepEqual((await until(3))[2], ['value', path, null, value]);
      assert.deepEqual((await reader.topics.fetch(path)).results, [{ path, type }]);
      await writer.topics.set(path, value);
      assert.deepEqual((await until(4))[3], ['value', path, value, null]);
    });
  }

  await check('null of a JSON topic is a value', 1, async ({ topics }) => {
    await topics.addAndSet(`${ROOT}/a`, 'json', null);
    assert.deepEqual((await topics.fetch(`${ROOT}/a`)).results, [{ path: `${ROOT}/a`, type: 'json', value: null }]);
  });

  await check('a topic that retains no value shows only what comes', 2, async (writer, reader) => {
    const path = `${ROOT}/passing`;
    await writer.topics.addAndSet(path, { type: 'json', properties: { [TopicProperty.DONT_RETAIN_VALUE]: 'true' } }, 1);
    const { until } = recordStream((callbacks) => reader.addStream(path, 'json', callbacks));
    await reader.subscribe(path);
    assert.deepEqual((await reader.topics.fetch(path)).results, [{ path, type: 'json' }]);
    await writer.topics.set(path, 2, 'json');
    assert.deepEqual((await until(2))[1], ['value', path, 2, undefined]);
  });

  await check('large values arrive, compressed or not', 2, async (writer, reader) => {
    const long = 'tide '.repeat(4_000);
    for (const compression of ['off', 'low', 'high']) {
      const path = `${ROOT}/long/${compression}`;
      await writer.topics.addAndSet(path, { type: 'string', properties: { [TopicProperty.COMPRESSION]: compression } }, long);
      const { until } = recordStream((callbacks) => reader.addStream(path, 'string', callbacks));
      await reader.subscribe(path);
      assert.deepEqual((await until(2))[1][2], long);
    }
  });

  await check('an update under a constraint happens if it holds', 1, async ({ topics }) => {
    const { noTopic, noValue, value, jsonValue } = updateConstraints();
    const path = `${ROOT}/a`;
    const refused = (promise) => assert.rejects(promise, tidewire.UnsatisfiedConstraintError);
    await refused(topics.set(path, 1, 'json', { constraint: value(1) }));
    assert.equal((await topics.add(path, 'json', { constraint: noTopic() })).added, true);
    await refused(topics.add(path, 'json', { constraint: noTopic() }));
    await topics.set(path, { a: 5, b: { c: 'x' } }, { constraint: noValue() });
    await refused(topics.set(path, 0, 'json', { constraint: noValue() }));
    await refused(topics.addAndSet(path, 'json', 0, { constraint: noTopic() }));
    await topics.set(path, { a: 6, b: { c: 'x' } }, { constraint: value({ a: 5, b: { c: 'x' } }) });
    await refused(topics.set(path, 0, 'json', { constraint: value({ b: { c: 'x' }, a: 6 }) }));
    const part = jsonValue().with('/a', 'ge', 6).with('/b/c', 'eq', 'x').without('/d');
    await topics.set(path, { a: 7, d: 1 }, { constraint: part });
    await refused(topics.set(path, 0, 'json', { constraint: part }));
    await topics.set(path, { a: 8 }, { constraint: part.or(jsonValue().with('/d', 1)) });
    await topics.set(path, { a: 9 }, { constraint: jsonValue().with('/a', 'gt', 7).and(jsonValue().with('/a', 'lt', 9)) });
    assert.deepEqual((await topics.fetch(path)).results[0].value, { a: 9 });
  });

  await check('constraints compare values of every type', 1, async ({ topics }) => {
    const { value } = updateConstraints();
    for (const [type, first, second] of [
      ['string', 'a', 'b'],
      ['int64', 9223372036854775807n, 5],
      ['double', 1.5, 2.5],
      ['binary', new Uint8Array([0, 255]), new Uint8Array([1])],
    ]) {
      const path = `${ROOT}/${type}`;
      await topics.addAndSet(path, type, first);
      await assert.rejects(topics.set(path, first, type, { constraint: value(second) }), tidewire.UnsatisfiedConstraintError);
      await topics.set(path, second, type, { constraint: value(first) });
      await topics.set(path, first, type, { constraint: value(second) });
    }
    await topics.set(`${ROOT}/int64`, 1, 'int64', { constraint: value('gt', 9223372036854775806n) });
  });

  await check('a JSON patch is applied whole, or not at all', 2, async (writer, reader) => {
    const path = `${ROOT}/a`;
    await writer.topics.addAndSet(path, 'json', { x: 1 });
    const { until } = recordStream((callbacks) => reader.addStream(path, 'json', callbacks));
    await reader.subscribe(path);
    await writer.topics.applyJsonPatch(path, [{ op: 'add', path: '/y', value: 5 }]);
    assert.deepEqual((await until(3))[2], ['value', path, { x: 1, y: 5 }, { x: 1 }]);
    const patch = [{ op: 'remove', path: '/x' }, { op: 'test', path: '/y', value: 6 }];
    await assert.rejects(writer.topics.applyJsonPatch(path, patch), (error) => error instanceof tidewire.FailedPatchError && error.operationIndex === 1);
    await assert.rejects(writer.topics.applyJsonPatch(path, '[{"op":"fly"}]'), tidewire.InvalidPatchError);
    assert.deepEqual((await reader.topics.fetch(path)).results[0].value, { x: 1, y: 5 });
    const constraint = updateConstraints().value({ x: 0 });
    await assert.rejects(writer.topics.applyJsonPatch(path, [{ op: 'remove', path: '/x' }], { constraint }), tidewire.UnsatisfiedConstraintError);
  });

  await check('a batch settles update by update', 1, async ({ topics }) => {
    const results = await topics.batch([
      { path: `${ROOT}/a`, specification: 'int64', value: 1 },
      { path: `${ROOT}/none`, value: 2, type: 'int64' },
      { path: `${ROOT}/a`, value: 3, type: 'int64' },
    ]);
    assert.deepEqual(results.map(({ status, value, reason }) => value?.added ?? reason?.name ?? status), [true, 'NoSuchTopicError', 'fulfilled']);
    assert.equal((await topics.fetch(`${ROOT}/a`)).results[0].value, 3);
  });

  await check('an update stream sends what changed', 2, async (writer, reader) => {
    const path = `${ROOT}/a`;
    const rows = Array.from({ length: 200 }, (_, index) => ({ index, price: index * 1.25 }));
    const stream = writer.topics.updateStream(path, { specification: 'json', constraint: updateConstraints().noTopic() });
    assert.deepEqual(await stream.set(rows), { added: true });
    const { until, events } = recordStream((callbacks) => reader.addStream(path, 'json', callbacks));
    await reader.subscribe(path);
    for (let step = 0; step < 10; step += 1) {
      rows[step * 13].price += 1;
      assert.deepEqual(await stream.set(rows), { added: false });
      await until(3 + step);
      assert.deepEqual(events.at(-1)[2], rows);
    }
    assert.deepEqual(stream.get(), rows);
    await stream.close();
    const late = writer.topics.updateStream(path, { specification: 'json', constraint: updateConstraints().noTopic() });
    await assert.rejects(late.validate(), tidewire.UnsatisfiedConstraintError);
  });

  await check('streams of every type set values', 1, async ({ topics }) => {
    for (const [type, first, second] of [
      ['string', 'héllo, world', 'héllo, moon'],
      ['int64', 1, 2n ** 62n],
      ['double', 1.5, -0.5],
      ['binary', new Uint8Array(50), new Uint8Array(49).fill(1)],
    ]) {
      const stream = topics.updateStream(`${ROOT}/${type}`, { specification: type });
      await Promise.all([stream.validate(), stream.set(first), stream.set(second), stream.set(first), stream.set(second)]);
      assert.deepEqual((await topics.fetch(`${ROOT}/${type}`)).results[0].value, second);
    }
  });

  await check('a stream ends when somebody else updates the topic, opens a stream on it or removes it', 2, async (one, other) => {
    const path = `${ROOT}/a`;
    const ends = [
      () => other.topics.set(path, 'theirs', 'string'),
      () => other.topics.updateStream(path, { type: 'string' }).validate(),
      () => other.topics.remove(path),
    ];
    for (const end of ends) {
      const stream = one.topics.updateStream(path, { specification: 'string' });
      await stream.set('mine');
      await end();
      const results = await Promise.allSettled([stream.set('mine again'), stream.set('and again')]);
      for (const { reason } of results) assert.ok(reason instanceof tidewire.InvalidStreamError, String(reason));
    }
  });

  await check('a recoverable stream is as good as a plain one where nothing fails', 1, async ({ topics }) => {
    const stream = topics.recoverableUpdateStream(`${ROOT}/a`, { specification: 'int64' });
    await Promise.all([stream.set(1), stream.set(2), stream.set(3)]);
    assert.equal(stream.isRecoverable(), false);
    assert.equal((await topics.fetch(`${ROOT}/a`)).results[0].value, 3);
  });

  await check('a time series is appended to, edited, subscribed to and queried', 2, async (writer, reader) => {
    const path = `${ROOT}/series`;
    await writer.topics.add(path, SERIES);
    const { events, until } = recordStream((callbacks) => reader.addTimeSeriesStream(path, 'double', callbacks));
    await reader.subscribe(path);
    for (let index = 0; index < 5; index += 1) {
      const timestamp = 1_735_689_600_000 + index * 1_000;
      assert.deepEqual(await writer.timeSeries.append(path, index, { timestamp }), { sequence: index, timestamp });
    }
    await assert.rejects(writer.timeSeries.append(path, 9, { timestamp: 1 }), tidewire.InvalidTimestampError);
    await writer.timeSeries.edit(path, 1, 1.5);
    await assert.rejects(writer.timeSeries.edit(path, 5, 2.5), tidewire.EventIsEditError);
    await assert.rejects(writer.timeSeries.edit(path, 50, 2.5), tidewire.NoSuchEventError);
    await writer.topics.set(path, 7, 'double');
    await until(8);
    assert.deepEqual(events[0].slice(0, 2), ['subscription', path]);
    assert.deepEqual(values(events).map(({ sequence, value, isEdit, originalSequence }) => [sequence, value, isEdit, originalSequence]), [
      [0, 0, false, undefined],
      [1, 1, false, undefined],
      [2, 2, false, undefined],
      [3, 3, false, undefined],
      [4, 4, false, undefined],
      [5, 1.5, true, 1],
      [6, 7, false, undefined],
    ]);
    const late = recordStream((callbacks) => writer.addTimeSeriesStream(path, 'json', callbacks));
    await writer.subscribe(path);
    await late.until(2);
    assert.equal(values(late.events)[0].value, 7);
    assert.deepEqual((await reader.topics.fetch(path)).results, [{ path, type: 'time_series', value: 7 }]);
    await checkQueries(reader.timeSeries, path);
  });

  async function checkQueries(timeSeries, path) {
    const query = timeSeries.rangeQuery();
    const check = async (request, expected, isComplete = true) => {
      const result = await request.selectFrom(path);
      assert.deepEqual([result.events.map(({ value }) => value), result.isComplete, result.type], [expected, isComplete, 'double']);
    };
    const at = (seconds) => new Date(1_735_689_600_000 + seconds * 1_000);
    await check(query, [0, 1.5, 2, 3, 4, 7]);
    await check(query.from(2).to(4), [2, 3, 4]);
    await check(query.from(at(2)).to(at(3)), [2, 3]);
    await check(query.from(0).next(2), [0, 1.5]);
    await check(query.from(3).previous(2), [2, 3]);
    await check(query.from(at(0)).nextMs(2_000), [0, 1.5, 2]);
    await check(query.limit(2), [4, 7], false);
    await check(query.forEdits(), [1.5]);
    await check(query.forEdits().latestEdits().from(2), []);
    await assert.rejects(query.selectFrom(`${ROOT}/none`), tidewire.NoSuchTopicError);
  }

  await check('streams append to a time series, and constraints see its latest value', 1, async ({ topics, timeSeries }) => {
    const path = `${ROOT}/series`;
    const stream = topics.updateStream(path, { specification: SERIES });
    assert.deepEqual(await stream.set(1), { added: true });
    await stream.set(2);
    await topics.set(path, 3, 'double', { constraint: updateConstraints().value('eq', 2) });
    const { events } = await timeSeries.rangeQuery().selectFrom(path);
    assert.deepEqual(events.map(({ sequence, value }) => [sequence, value]), [[0, 1], [1, 2], [2, 3]]);
  });

  await check('a topic stays subscribed as long as a scope selects it', 1, async (session) => {
    const path = `${ROOT}/a`;
    await session.topics.addAndSet(path, 'json', 1);
    const { events, until } = recordStream((callbacks) => session.addStream(path, 'json', callbacks));
    await session.subscribe(path, 'one');
    await session.subscribe(path, 'two');
    await session.unsubscribe(path, 'one');
    await session.topics.set(path, 2, 'json');
    await until(3);
    await session.unsubscribeAllScopes(`?${ROOT}//`);
    assert.deepEqual((await until(4))[3], ['unsubscription', path, 'requested']);
    assert.deepEqual(values(events), [1, 2]);
    await assert.rejects(session.subscribe(path, '$mine'), tidewire.InvalidScopeError);
  });

  await check('a listener is told of topics, and of those below', 2, async (writer, reader) => {
    const { events, note, until } = recorder();
    await writer.topics.add(`${ROOT}/a`, 'json');
    const listener = reader.notifications.addListener({
      onTopicNotification: (path, { type }, what) => note(what, path, type),
      onDescendantNotification: (path, what) => note('below', what, path),
    });
    await listener.select(`${ROOT}/a`);
    await until(1);
    await writer.topics.add(`${ROOT}/a/b`, 'string');
    await until(2);
    await writer.topics.remove(`?${ROOT}/a//`);
    await until(4);
    assert.deepEqual(events.slice(0, 2), [['selected', `${ROOT}/a`, 'json'], ['below', 'added', `${ROOT}/a/b`]]);
    assert.deepEqual(events.slice(2).sort(), [['below', 'removed', `${ROOT}/a/b`], ['removed', `${ROOT}/a`, 'json']]);
    await writer.topics.add(`${ROOT}/a`, 'json');
    await until(5);
    await listener.deselect(`${ROOT}/a`);
    assert.deepEqual((await until(6))[5], ['deselected', `${ROOT}/a`, 'json']);
    await listener.close();
  });

  await check('a topic event listener is told of the first subscriber and the last', 2, async (owner, reader) => {
    const path = `${ROOT}/a`;
    await owner.topics.add(path, 'json');
    const { note, until } = recorder();
    const callbacks = { onHasSubscribers: (topic) => note('some', topic), onNoSubscribers: (topic) => note('none', topic) };
    await owner.topics.addTopicEventListener(`?${ROOT}//`, callbacks);
    await reader.subscribe(path);
    await until(1);
    await reader.unsubscribe(path);
    assert.deepEqual(await until(2), [['some', path], ['none', path]]);
  });

  await check('a missing topic handler is told of selectors that match nothing', 2, async (owner, reader) => {
    const { note, until } = recorder();
    const handler = await owner.topics.addMissingTopicHandler(ROOT, { onMissingTopic: (missing) => note(missing) });
    await reader.subscribe(`${ROOT}/missing`);
    const [[{ selector, sessionId, sessionProperties }]] = await until(1);
    assert.deepEqual([selector.replace(/^>/, ''), sessionId], [`${ROOT}/missing`, reader.id]);
    assert.equal(sessionProperties.$SessionId, reader.id);
    await handler.close();
  });

  await check('a view makes topics of others, until it is removed', 2, async (writer, reader) => {
    const [name, source, made] = [`${ROOT} scalar`, `${ROOT}/v/source`, `${ROOT}/v/made`];
    const definition = `map ?${source}/ to ${made}/<scalar(/name)> as <value(/price)>`;
    await writer.topics.addAndSet(`${source}/1`, 'json', { name: 'gold', price: 7 });
    const { events, until } = recordStream((callbacks) => reader.addStream(`?${made}/`, 'json', callbacks));
    await reader.subscribe(`?${made}/`);
    assert.deepEqual(await writer.views.createView(name, definition), { created: true });
    assert.deepEqual((await until(2))[1], ['value', `${made}/gold`, 7, undefined]);
    await writer.topics.set(`${source}/1`, { name: 'gold', price: 8 }, 'json');
    assert.deepEqual((await until(3))[2], ['value', `${made}/gold`, 8, 7]);
    await assert.rejects(writer.topics.set(`${made}/gold`, 9, 'json'), tidewire.ReadOnlyTopicError);
    const view = await reader.views.getView(name);
    assert.deepEqual([view.definition, view.isDormant, view.sources, view.references, view.failures], [definition, false, 1, 1, 0]);
    assert.deepEqual((await reader.views.listViews()).filter((listed) => listed.name === name).map(({ place }) => place), [view.place]);
    assert.deepEqual(await writer.views.createView(name, `map ?${source}/ to ${made}/<scalar(/name)>`), { created: false });
    await writer.topics.set(`${source}/1`, { name: 'gold', price: 10 }, 'json');
    while (events.at(-1)[2]?.price !== 10) await until(events.length + 1);
    assert.equal(await writer.views.removeView(name), true);
    while (events.at(-1)[0] !== 'unsubscription') await until(events.length + 1);
    assert.deepEqual(events.at(-1), ['unsubscription', `${made}/gold`, 'removed']);
    assert.deepEqual([await writer.views.removeView(name), await writer.views.getView(name)], [false, null]);
  });

  await check('a view that cannot be is refused, with the place of the error', 1, async ({ views }) => {
    await assert.rejects(views.createView(`${ROOT} wrong`, `map ?x/ ot y`), (error) => {
      assert.ok(error instanceof tidewire.InvalidViewError, String(error));
      assert.equal(error.position, 8);
      return true;
    });
    await assert.rejects(views.createView(`${ROOT} circle`, `map ?${ROOT}/c// to ${ROOT}/c/<path(1)>`), tidewire.CyclicViewError);
    assert.equal(await views.getView(`${ROOT} wrong`), null);
  });

  await check('a fetch gives what it was asked for', 1, async ({ topics }) => {
    const of = (name) => `${ROOT}/f/${name}`;
    await topics.addAndSet(of('a'), 'string', 'é');
    await topics.addAndSet(of('a/1'), 'int64', 1);
    await topics.addAndSet(of('a/2'), 'int64', 2);
    await topics.addAndSet(of('a/3'), 'int64', 3);
    await topics.add(of('b'), 'json');
    await topics.addAndSet(of('c'), 'binary', new Uint8Array([1, 2]));
    await topics.addAndSet(of('s'), SERIES, 1.5);
    const request = topics.fetchRequest();
    const paths = async (wanted) => {
      const { results, hasMore } = await wanted.fetch(`?${ROOT}/f/`);
      return [results.map(({ path }) => path.slice(of('').length)), hasMore];
    };
    assert.deepEqual((await request.withValues().withSizes().fetch(`?${ROOT}/f/[as]`)).results, [
      { path: of('a'), type: 'string', value: 'é', size: 2 },
      { path: of('s'), type: 'time_series', value: 1.5, size: 8 },
    ]);
    assert.deepEqual(await paths(request), [['a', 'a/1', 'a/2', 'a/3', 'b', 'c', 's'], false]);
    assert.deepEqual(await paths(request.from(of('a/2')).to(of('b'))), [['a/2', 'a/3', 'b'], false]);
    assert.deepEqual(await paths(request.after(of('a/2')).before(of('c'))), [['a/3', 'b'], false]);
    assert.deepEqual(await paths(request.last(2)), [['c', 's'], true]);
    assert.deepEqual(await paths(request.topicTypes('int64', 'binary')), [['a/1', 'a/2', 'a/3', 'c'], false]);
    assert.deepEqual(await paths(request.withValues('binary')), [['c'], false]);
    const depth = of('a').split('/').length;
    assert.deepEqual(await paths(request.limitDeepBranches(depth, 2)), [['a', 'a/1', 'b', 'c', 's'], true]);
    const backwards = [];
    for await (const { path } of request.last(2).fetchAll(`?${ROOT}/f/`)) backwards.push(path);
    assert.deepEqual(backwards, ['a', 'a/1', 'a/2', 'a/3', 'b', 'c', 's'].map(of).reverse());
    const pieces = [];
    for await (const { path } of request.withValues().maximumResultBytes(100).fetchAll(`?${ROOT}/f/`)) pieces.push(path);
    assert.equal(pieces.length, 7);
  });
});
