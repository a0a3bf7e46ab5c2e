// The golden vectors of the protocol, `sdk/protocol/vectors`, and its table of codes.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Writer } from '../bytes.js';
import { decodeMessage, readAnswer } from '../decode.js';
import { encodeFrame } from '../encode.js';
import { CloseCode, ProtocolError, REQUEST_ERRORS, requestError } from '../errors.js';
import { reasonName } from '../subscriptions.js';
import { decodeValue, encodeValue, textOf } from '../types.js';
import { decodeClientMessage, ClientFrameError } from './mock-codec.js';

const protocol = new URL('../../protocol/', import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(name, protocol), 'utf8'));
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const unhex = (text) => new Uint8Array(Buffer.from(text, 'hex'));

for (const vector of read('vectors/frames.json')) {
  test(`frames.json: ${vector.direction}: ${vector.name}`, () => {
    if (vector.error === undefined) checkFrames(vector);
    else checkMalformed(vector);
  });
}

function checkFrames(vector) {
  const expected = vector.messages ?? [vector.message];
  if (vector.direction === 'server') {
    assert.deepEqual(decodeServer(vector), expected.map(withShortNumbers));
    return;
  }
  assert.deepEqual(decodeClientMessage(unhex(vector.hex)).map(withHex), expected);
  // Fields of a later version are not written again.
  if (vector.name.includes('later version')) return;
  const writer = new Writer(1);
  for (const message of expected) encodeFrame(writer, asGiven(message));
  assert.equal(hex(writer.take()), vector.hex);
  if (vector.text?.op !== 'set' || vector.message.value === null) return;
  // What the text form says of the value, as this SDK writes it.
  const { type } = vector.message;
  const special = type === 'double' ? Number(vector.text.value) : vector.text.value;
  const value = type === 'binary' ? Buffer.from(special, 'base64') : type === 'int64' && !Number.isSafeInteger(special) ? undefined : special;
  if (value !== undefined) assert.equal(hex(encodeValue(type, value)), vector.message.value);
  assert.equal(hex(encodeValue(type, decodeValue(type, unhex(vector.message.value)))), vector.message.value);
}

function checkMalformed(vector) {
  if (vector.direction === 'server') {
    assert.throws(() => decodeServer(vector), ProtocolError);
    return;
  }
  assert.throws(
    () => decodeClientMessage(unhex(vector.hex)),
    (error) => {
      assert.ok(error instanceof ClientFrameError, error);
      assert.deepEqual(error.answer, vector.error);
      return true;
    },
  );
}

function decodeServer(vector) {
  const messages = [];
  decodeMessage(unhex(vector.hex), {
    value: (topic, bytes) => messages.push({ op: 'value', topic: jsonNumber(topic), value: hex(bytes) }),
    delta: (topic, form, delta) => messages.push({ op: `delta_${form}`, topic: jsonNumber(topic), delta: hex(delta) }),
    answer: (id, body) => {
      const answer = withHex(readAnswer({ ...vector, op: vector.answers }, body));
      answer.topics = answer.topics?.map(withHex);
      answer.events = answer.events?.map(withHex);
      messages.push({ op: 'ok', id, ...JSON.parse(JSON.stringify(answer)) });
    },
    event: (event) => messages.push(withHex('topic' in event ? { ...event, topic: jsonNumber(event.topic) } : event)),
  });
  return messages;
}

function jsonNumber(number) {
  return typeof number === 'bigint' ? String(number) : number;
}

/** A topic's number may stand as text in a vector, whether a number holds it or not. */
function withShortNumbers(message) {
  if (typeof message.topic !== 'string') return message;
  const number = Number(message.topic);
  return { ...message, topic: Number.isSafeInteger(number) ? number : message.topic };
}

/** The members that are bytes, in the form that the vectors have. */
function withHex(message) {
  const shown = { ...message };
  for (const name of ['value', 'delta', 'deflated']) if (shown[name] instanceof Uint8Array) shown[name] = hex(shown[name]);
  return shown;
}

/** A vector's message as `encodeFrame` takes it. */
function asGiven(message) {
  const given = { ...message };
  for (const name of ['value', 'delta']) if (typeof given[name] === 'string') given[name] = unhex(given[name]);
  for (const name of ['constraint', 'patch']) if (given[name] !== undefined) given[name] = JSON.stringify(given[name]);
  return given;
}

test('every error of codes.json has a class with its code and name', () => {
  const { errors } = read('codes.json');
  assert.deepEqual(
    REQUEST_ERRORS.map((type) => ({ code: type.code, name: type.codeName })),
    errors.map(({ code, name }) => ({ code, name })),
  );
  for (const { code, name } of errors) {
    const error = requestError(code, 'why', 3);
    const className = `${name.replace(/(^|_)(.)/g, (_, __, letter) => letter.toUpperCase())}Error`;
    assert.deepEqual([error.code, error.name, error.constructor.name, error.position], [code, className, className, 3]);
  }
});

test('every close code of codes.json has its name', () => {
  const named = Object.fromEntries(Object.entries(CloseCode).map(([name, code]) => [code, name.toLowerCase()]));
  for (const { code, name } of read('codes.json').closes) assert.equal(named[code], name);
});

test('every unsubscription reason of codes.json has its name', () => {
  for (const { code, name } of read('codes.json').unsubscription_reasons) assert.equal(reasonName(code), name);
  assert.equal(reasonName(200), 'unknown');
});

test('an error of a later version keeps its number', () => {
  const error = requestError(999, 'new');
  assert.deepEqual([error.code, error.name, error.message], [999, 'RequestError', 'new']);
});

test('bytes that are text are told from others', () => {
  const check = (bytes, expected) => assert.equal(textOf(new Uint8Array(bytes)), expected);
  check(Buffer.from('21.5'), '21.5');
  check(Buffer.from('{"on":true}'), '{"on":true}');
  check(Buffer.from('1 °C\n'), '1 °C\n');
  check([0xff, 0xfe], undefined);
  check([0x61, 0], undefined);
  check([], undefined);
});
