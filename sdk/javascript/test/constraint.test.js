// Constraints: their JSON form, and what is refused when they are built.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidConstraintError, updateConstraints, UpdateConstraintOperator } from '../tidewire.js';

const { value, noValue, noTopic, jsonValue, locked } = updateConstraints();

function check(constraint, expected, type = 'json') {
  assert.equal(constraint.print(type), typeof expected === 'string' ? expected : JSON.stringify(expected));
}

function refused(build) {
  assert.throws(build, InvalidConstraintError, String(build));
}

test('a value is compared strictly unless an operator is given', () => {
  check(value('x'), { value: { is: 'x' } });
  check(value({ a: [1, null] }), { value: { is: { a: [1, null] } } });
  for (const operator of ['eq', 'ne', 'gt', 'ge', 'lt', 'le']) check(value(operator, 5), { value: { [operator]: 5 } });
  assert.deepEqual(Object.values(UpdateConstraintOperator), ['is', 'eq', 'ne', 'gt', 'ge', 'lt', 'le']);
});

test('a strict comparison names the type of the update, a lenient one does not', () => {
  check(value('x'), { value: { is: 'x', type: 'string' } }, 'string');
  check(value('eq', 5), { value: { eq: 5 } }, 'int64');
  check(value(5).or(noTopic()).and(value('ne', 6)), { and: [{ or: [{ value: { is: 5, type: 'double' } }, { no_topic: true }] }, { value: { ne: 6 } }] }, 'double');
});

test('operands that JSON lacks have the forms of the text form', () => {
  check(value(9223372036854775807n), '{"value":{"is":9223372036854775807,"type":"int64"}}', 'int64');
  check(value(-Infinity), { value: { is: '-Infinity', type: 'double' } }, 'double');
  check(value(new Uint8Array([0, 255, 128])), { value: { is: 'AP+A', type: 'binary' } });
});

test('a lock is named with its grant, and stands beside anything but another grant of it', () => {
  const lock = { name: 'a/"b"', number: 7 };
  check(locked(lock), { locked: lock });
  check(locked(lock).and(noTopic()), { and: [{ locked: lock }, { no_topic: true }] });
  check(noValue().and(locked(lock)).and(locked(lock)), { and: [{ no_value: true }, { locked: lock }, { locked: lock }] });
  check(jsonValue().with('/lock a', 1).and(locked({ name: 'a', number: 2 })), { and: [{ json: [{ at: '/lock a', is: 1 }] }, { locked: { name: 'a', number: 2 } }] });
});

test('conditions about the topic stand alone', () => {
  check(noValue(), { no_value: true });
  check(noTopic(), { no_topic: true });
});

test('conditions about a JSON value name places in it', () => {
  check(jsonValue(), { json: [] });
  const constraint = jsonValue().with('/a', 5).with('/b/0', 'ge', 1.5).without('/c~1d');
  check(constraint, { json: [{ at: '/a', is: 5 }, { at: '/b/0', ge: 1.5 }, { at: '/c~1d', absent: true }] });
});

test('and and or join, and are flat where they follow each other', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((text) => value('ne', text));
  const [first, second, third] = ['a', 'b', 'c'].map((text) => ({ value: { ne: text } }));
  check(a.and(b).and(c), { and: [first, second, third] });
  check(a.or(b).or(c), { or: [first, second, third] });
  check(a.or(b).and(c), { and: [{ or: [first, second] }, third] });
});

test('what plainly never holds is refused', () => {
  refused(() => noTopic().and(noValue()));
  refused(() => locked({ name: 'a', number: 1 }).and(locked({ name: 'a', number: 2 })));
  refused(() => noTopic().and(value(1)));
  refused(() => noValue().and(value(1)));
  refused(() => noValue().and(jsonValue().with('/a', 1)));
  refused(() => value('a').and(value('b')));
  refused(() => value('a').and(value('ne', 'a')));
  refused(() => value('gt', 5).and(value('lt', 5)));
  refused(() => value('ge', 5).and(value('lt', 5n)));
  refused(() => value('gt', 5).and(noValue().or(value(1))).and(value('eq', 5)));
  refused(() => value('eq', 'a').and(value('eq', 'b')));
  refused(() => value('eq', 'a').and(value('gt', 1)));
  refused(() => value('eq', 5).and(value('ge', 6)));
  refused(() => value('eq', '5e0').and(value('ne', 5)));
  refused(() => value({ x: 1 }).and(value('ne', 1)));
  refused(() => value(null).and(value('ne', null)));
  refused(() => value('eq', true).and(value('gt', 0)));
  refused(() => jsonValue().with('/a', 1).without('/a'));
  refused(() => jsonValue().with('/a', 1).and(jsonValue().with('/a', 'gt', 1)));
});

test('what may hold is not', () => {
  value('ge', 5).and(value('le', 5));
  value('gt', 5).and(value('ne', 6)).and(value('lt', 6));
  value('eq', '5').and(value('eq', 5));
  value('a').or(value('b')).and(value('a'));
  value({ x: 1 }).and(value('ne', null));
  value('eq', '12.0').and(value('eq', 12));
  value('eq', 'true').and(value('eq', true));
  value('eq', 5).and(value('eq', '5.0'));
  noTopic().or(noValue());
  jsonValue().with('/a', 1).with('/b', 2).without('/c');
  jsonValue().with('/a', 'ne', 1).and(jsonValue().with('/a', 'ne', 2));
});

test('operands that an operator cannot compare are wrong arguments, and so is what is no constraint', () => {
  for (const build of [
    () => value('gt', '5'),
    () => value('lt', NaN),
    () => value('eq', Infinity),
    () => jsonValue().with('/a', NaN),
    () => value('eq', { a: 1 }),
    () => value('like', 'a'),
    () => value(undefined),
    () => value(),
    () => jsonValue().with('/a'),
    () => jsonValue().with('/a', new Map().get),
    () => jsonValue().with(5, 5),
    () => value(1).and({ value: { is: 1 } }),
    () => value(1).or(),
    () => locked(),
    () => locked('a'),
    () => locked({ name: 'a' }),
  ]) {
    assert.throws(build, TypeError, String(build));
  }
  refused(() => jsonValue().with('a', 1));
  refused(() => jsonValue().without('/a~2'));
});
