// Deltas: by hand, and the golden vectors where they are.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { applyDelta, makeDelta } from '../delta.js';
import { ProtocolError } from '../errors.js';

const PREVIOUS = 'the quick brown fox';

function check(form, delta, expected, lengthMax = 1000) {
  const apply = () => Buffer.from(applyDelta(form, Buffer.from(PREVIOUS), Buffer.from(delta), lengthMax)).toString();
  if (expected instanceof RegExp) assert.throws(apply, (error) => error instanceof ProtocolError && expected.test(error.message));
  else assert.equal(apply(), expected);
}

const bytes = (text) => [...Buffer.from(text)];

test('a deflated value may repeat the one before', () => {
  const next = 'the quick green fox';
  check('deflate', deflateRawSync(next, { dictionary: Buffer.from(PREVIOUS) }), next);
  check('deflate', deflateRawSync(next, { dictionary: Buffer.from(PREVIOUS) }), /more bytes/, 18);
  check('deflate', [7], /DEFLATE/);
});

test('a copy program without steps leaves the first bytes', () => {
  check('copy', [3 << 1], 'the');
  check('copy', [0], '');
  check('copy', [19 << 1], PREVIOUS);
  check('copy', [20 << 1], /copied first/);
});

test('a step inserts, moves and copies', () => {
  check('copy', [10 << 1, 0x50, ...bytes('green')], 'the quick green fox');
  check('copy', [4 << 1, 0x84, 12], 'the brow');
  check('copy', [4 << 1, 0xb4, 11, ...bytes('big')], 'the bighe q');
});

test('counts above those of the token follow it', () => {
  check('copy', [0, 0x70, 2, ...bytes('123456789')], '123456789 brown fox');
  check('copy', [0, 0x0f, 1], 'the quick brown ');
});

test('a program may be deflated', () => {
  check('copy', [(10 << 1) | 1, ...deflateRawSync(Buffer.from([0x50, ...bytes('green')]))], 'the quick green fox');
  check('copy', [1, 7], /DEFLATE/);
});

test('what overruns is refused', () => {
  check('copy', [], /ends early/);
  check('copy', [0, 0x51], /ends early/);
  check('copy', [0, 0x0f, 5], /over the end/);
  check('copy', [19 << 1, 0x01], /over the end/);
  check('copy', [19 << 1, 0x11, 120], /outside/);
  check('copy', [0, 0x81, 1], /outside/);
  check('copy', [0, 0x8f, 0x80], /ends early/);
  check('copy', [0, 0x0f, 0x80, 0x80, 0x80, 0x80, 0x10], /32 bits/);
  check('copy', [19 << 1, 0x80, 37], PREVIOUS + PREVIOUS);
  check('copy', [19 << 1, 0x80, 37, 0x80, 37, 0x80, 37], /more bytes/, 60);
});

/** What is made is shorter than the value, and applies. */
function checkMade(previous, next, expected) {
  const delta = makeDelta(Buffer.from(previous), Buffer.from(next));
  assert.equal(delta && Buffer.from(delta).toString('hex'), expected);
  if (delta !== undefined) assert.equal(Buffer.from(applyDelta('copy', Buffer.from(previous), delta, 1000)).toString(), next);
}

test('a delta that is made holds what is new between the ends that stay', () => {
  checkMade(PREVIOUS, PREVIOUS, '26');
  checkMade(PREVIOUS, 'the quick green fox', `1440${Buffer.from('gree').toString('hex')}`);
  checkMade(PREVIOUS, 'the quick', '12');
  checkMade(PREVIOUS, 'the quick fox', '14800c');
  checkMade(PREVIOUS, `x ${PREVIOUS}`, `00a003${Buffer.from('x ').toString('hex')}`);
  checkMade(PREVIOUS, 'the quick and green fox', `14f00107${Buffer.from('and gree').toString('hex')}`);
});

test('no delta is made that is as long as the value', () => {
  checkMade(PREVIOUS, '', undefined);
  checkMade(PREVIOUS, 'a', undefined);
  checkMade('', 'abc', undefined);
  checkMade('abc', 'xyz', undefined);
});

test('whatever is made applies', () => {
  const texts = [''];
  for (let index = 0; texts[index].length < 5; index += 1) texts.push(`${texts[index]}a`, `${texts[index]}b`);
  let made = 0;
  for (const previous of texts) {
    for (const end of texts) {
      // Long enough for a delta to be worth it.
      const [before, next] = [`${previous}--------${previous}`, `${previous}--------${end}`].map((text) => Buffer.from(text));
      const delta = makeDelta(before, next);
      if (delta === undefined) continue;
      made += 1;
      assert.ok(delta.length < next.length && next.equals(applyDelta('copy', before, delta, next.length)));
    }
  }
  assert.ok(made > texts.length, `${made}`);
});

const file = new URL('../../protocol/vectors/delta.json', import.meta.url);
const vectors = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { vectors: [], refused: [] };
const joined = (parts) => Buffer.from(parts.map(({ text, repeat = 1 }) => text.repeat(repeat)).join(''));
const unbase64 = (text) => Buffer.from(text, 'base64');

for (const { name, form, previous, next, delta } of vectors.vectors) {
  test(`delta.json: ${name}`, () => {
    const expected = joined(next);
    assert.ok(expected.equals(applyDelta(form, joined(previous), unbase64(delta), expected.length)));
  });
}

for (const { name, form, previous, delta } of vectors.refused) {
  test(`delta.json, refused: ${name}`, () => {
    assert.throws(() => applyDelta(form, joined(previous), unbase64(delta), 1000), ProtocolError);
  });
}
