/**
 * Constraints: conditions under which the server carries out an update, checked together with it.
 *
 * They are built here and evaluated by the server alone. What is plainly wrong is refused when it is built: an operand that its operator
 * cannot compare, a malformed JSON pointer, and conditions joined by `and` that can never hold together.
 *
 * @module
 */

import { InvalidConstraintError } from './errors.js';
import { checkLock } from './locks.js';
import { checkText, show } from './types.js';

/**
 * How a value is compared. `IS` is strict: the same bytes, and of the type of the update's value. `EQ` and `NE` are lenient: they compare what
 * values mean, so that 12, 12.0 and '12' equal the number 12. The others are for numbers.
 */
export const UpdateConstraintOperator = Object.freeze({
  /** @type {'is'} */ IS: 'is',
  /** @type {'eq'} */ EQ: 'eq',
  /** @type {'ne'} */ NE: 'ne',
  /** @type {'gt'} */ GT: 'gt',
  /** @type {'ge'} */ GE: 'ge',
  /** @type {'lt'} */ LT: 'lt',
  /** @type {'le'} */ LE: 'le',
});

/** @typedef {'is' | 'eq' | 'ne' | 'gt' | 'ge' | 'lt' | 'le'} Operator */

/**
 * One condition. `place` is what it is about: the topic, its value, the JSON pointer in its value, or a lock.
 *
 * @typedef {object} Condition
 * @property {string} place
 * @property {'no_topic' | 'no_value' | 'absent' | 'locked' | Operator} test
 * @property {unknown} [operand]
 */

/** @typedef {(type: DataTypeName) => string} Print gives the JSON form for an update whose value is of the type */
/** @typedef {import('./types.js').DataTypeName} DataTypeName */

const OPERATORS = Object.values(UpdateConstraintOperator);
/** What orders numbers. */
const ORDERING = new Set(['gt', 'ge', 'lt', 'le']);

const TOPIC = 'topic';
const VALUE = 'value';

/**
 * Where constraints begin.
 *
 * @example
 * const free = updateConstraints().noValue().or(updateConstraints().value('free'));
 */
export function updateConstraints() {
  return CONSTRAINTS;
}

const CONSTRAINTS = Object.freeze({
  /**
   * The topic has a value, and it compares so with `operand`; `value(operand)` is `value('is', operand)`.
   *
   * @param {[operand: unknown] | [operator: Operator, operand: unknown]} comparison
   */
  value(...comparison) {
    const [operator, operand] = checkComparison(comparison, isValueOperand);
    const comparing = `"${operator}":${jsonText(operand)}`;
    /** @type {Print} */
    const print = (type) => {
      const typed = isBytes(operand) ? 'binary' : type;
      return operator === 'is' && typed !== 'json' ? `{"value":{${comparing},"type":"${typed}"}}` : `{"value":{${comparing}}}`;
    };
    return new UpdateConstraint(print, [{ place: VALUE, test: operator, operand }]);
  },
  /** The topic is there and has no value. */
  noValue: () => new UpdateConstraint(() => '{"no_value":true}', [{ place: TOPIC, test: 'no_value' }]),
  /** There is no topic; good only for what adds one. */
  noTopic: () => new UpdateConstraint(() => '{"no_topic":true}', [{ place: TOPIC, test: 'no_topic' }]),
  /**
   * This session still holds the lock, by the same grant.
   *
   * @param {{ readonly name: string, readonly number: number }} lock of `session.locks`
   */
  locked(lock) {
    const { name, number } = checkLock(lock);
    const text = `{"locked":${JSON.stringify({ name, number })}}`;
    return new UpdateConstraint(() => text, [{ place: `lock ${name}`, test: 'locked', operand: number }]);
  },
  /** The topic has a JSON value, of which `with` and `without` say more. */
  jsonValue: () => new JsonConstraint([]),
});

/** A condition for an update; made by `updateConstraints()`. */
export class UpdateConstraint {
  /**
   * @internal
   * @param {Print} print
   * @param {readonly Condition[]} conditions those that all have to hold, as far as they are known
   * @param {readonly Print[]} [parts] the members, of one made by `and`
   */
  constructor(print, conditions, parts = [print]) {
    refuseContradictions(conditions);
    /** @internal */
    this.print = print;
    /** @internal */
    this.conditions = conditions;
    /** @internal */
    this.parts = parts;
  }

  /**
   * Both have to hold.
   *
   * @param {UpdateConstraint} other
   * @throws {InvalidConstraintError} where they plainly never do
   */
  and(other) {
    const parts = [...this.parts, ...checkConstraint(other).parts];
    return new UpdateConstraint((type) => `{"and":[${parts.map((print) => print(type))}]}`, [...this.conditions, ...other.conditions], parts);
  }

  /**
   * One of them has to hold.
   *
   * @param {UpdateConstraint} other
   * @returns {UpdateConstraint}
   */
  or(other) {
    return anyOf([...alternativesOf(this), ...alternativesOf(checkConstraint(other))]);
  }
}

/** What a topic's JSON value has to be; made by `updateConstraints().jsonValue()`. */
export class JsonConstraint extends UpdateConstraint {
  #conditions;

  /**
   * @internal
   * @param {readonly Condition[]} conditions
   */
  constructor(conditions) {
    super(() => `{"json":[${conditions.map(jsonCondition)}]}`, conditions);
    this.#conditions = conditions;
  }

  /**
   * What the pointer points at is there and compares so; `with(pointer, operand)` is `with(pointer, 'is', operand)`.
   *
   * @param {string} pointer a JSON pointer (RFC 6901); empty for the whole value
   * @param {[operand: unknown] | [operator: Operator, operand: unknown]} comparison
   */
  with(pointer, ...comparison) {
    const [operator, operand] = checkComparison(comparison, isJsonOperand);
    return new JsonConstraint([...this.#conditions, { place: checkPointer(pointer), test: operator, operand }]);
  }

  /**
   * There is nothing where the pointer points.
   *
   * @param {string} pointer
   */
  without(pointer) {
    return new JsonConstraint([...this.#conditions, { place: checkPointer(pointer), test: 'absent' }]);
  }
}

/** One made by `or`. */
class AnyConstraint extends UpdateConstraint {
  /** @param {readonly UpdateConstraint[]} alternatives */
  constructor(alternatives) {
    // Which of the conditions hold is not known, so nothing can contradict them plainly.
    super((type) => `{"or":[${alternatives.map(({ print }) => print(type))}]}`, []);
    this.alternatives = alternatives;
  }
}

/**
 * @param {readonly UpdateConstraint[]} alternatives
 * @returns {UpdateConstraint}
 */
function anyOf(alternatives) {
  return new AnyConstraint(alternatives);
}

/** @param {UpdateConstraint} constraint */
function alternativesOf(constraint) {
  return constraint instanceof AnyConstraint ? constraint.alternatives : [constraint];
}

/**
 * @param {unknown} constraint
 * @returns {UpdateConstraint}
 * @throws {TypeError}
 */
export function checkConstraint(constraint) {
  if (constraint instanceof UpdateConstraint) return constraint;
  throw new TypeError(`expected a constraint made by updateConstraints(), found ${show(constraint)}`);
}

/** @param {Condition} condition */
function jsonCondition({ place, test, operand }) {
  const comparison = test === 'absent' ? '"absent":true' : `"${test}":${jsonText(operand)}`;
  return `{"at":${JSON.stringify(place)},${comparison}}`;
}

/**
 * @param {readonly unknown[]} comparison an operand, or an operator and an operand
 * @param {(operand: unknown) => boolean} isOperand
 * @returns {[Operator, unknown]}
 */
function checkComparison(comparison, isOperand) {
  const [operator, operand] = comparison.length === 1 ? ['is', comparison[0]] : comparison;
  if (!OPERATORS.includes(/** @type {Operator} */ (operator))) {
    throw new TypeError(`expected an operator, one of ${OPERATORS.join(', ')}, found ${show(operator)}`);
  }
  const isFit = operator === 'is' ? isOperand : ORDERING.has(/** @type {string} */ (operator)) ? isNumber : isScalar;
  if (!isFit(operand)) throw new TypeError(`expected what '${operator}' can compare, found ${show(operand)}`);
  return [/** @type {Operator} */ (operator), operand];
}

/** @param {unknown} operand */
function isNumber(operand) {
  return typeof operand === 'bigint' || Number.isFinite(operand);
}

/** @param {unknown} operand */
function isScalar(operand) {
  return operand === null || typeof operand === 'string' || typeof operand === 'boolean' || isNumber(operand);
}

/** @param {unknown} operand */
function isJsonOperand(operand) {
  return isScalar(operand) || (typeof operand === 'object' && JSON.stringify(operand) !== undefined);
}

/** @param {unknown} operand */
function isBytes(operand) {
  return ArrayBuffer.isView(operand) || operand instanceof ArrayBuffer;
}

/** @param {unknown} operand */
function isValueOperand(operand) {
  return typeof operand === 'number' || isBytes(operand) || isJsonOperand(operand);
}

/** @param {unknown} pointer */
function checkPointer(pointer) {
  const text = checkText(pointer, 'a JSON pointer');
  if (/^(\/([^~]|~[01])*)?$/su.test(text)) return text;
  throw new InvalidConstraintError(`expected a JSON pointer, such as '/a/0', found ${show(text)}`);
}

/**
 * An operand as the text form has values: bytes as base64, and what JSON has no number for as text.
 *
 * @param {unknown} operand
 * @returns {string}
 */
function jsonText(operand) {
  if (typeof operand === 'bigint') return String(operand);
  if (typeof operand === 'number' && !Number.isFinite(operand)) return `"${operand}"`;
  if (operand instanceof ArrayBuffer) return base64(new Uint8Array(operand));
  if (ArrayBuffer.isView(operand)) return base64(new Uint8Array(operand.buffer, operand.byteOffset, operand.byteLength));
  return JSON.stringify(operand);
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return JSON.stringify(btoa(text));
}

/** @param {readonly Condition[]} conditions */
function refuseContradictions(conditions) {
  for (const [index, condition] of conditions.entries()) {
    for (const earlier of conditions.slice(0, index)) {
      if (!contradict(earlier, condition)) continue;
      throw new InvalidConstraintError(`${phrase(earlier)} and ${phrase(condition)} never hold together`);
    }
  }
}

/** @param {Condition} condition */
function phrase({ place, test, operand }) {
  if (test === 'locked') return `'${place} by grant ${operand}'`;
  const what = test === 'no_topic' || test === 'no_value' || test === 'absent' ? test.replace('_', ' ') : `${test} ${show(operand)}`;
  return place === TOPIC ? `'${what}'` : `'${place === VALUE ? VALUE : place || 'the whole value'} ${what}'`;
}

/**
 * Whether two conditions plainly never hold together.
 *
 * @param {Condition} a
 * @param {Condition} b
 */
function contradict(a, b) {
  if (a.test === 'locked' || b.test === 'locked') return a.place === b.place && a.operand !== b.operand;
  // No topic has no value either, but `no value` wants the topic.
  if (a.place === TOPIC || b.place === TOPIC) return a.test !== b.test;
  if (a.place !== b.place) return false;
  if (a.test === 'absent' || b.test === 'absent') return a.test !== b.test;
  if (a.test === 'is') return !passes(a.operand, b);
  if (b.test === 'is') return !passes(b.operand, a);
  if (a.test === 'eq') return !passes(a.operand, b);
  if (b.test === 'eq') return !passes(b.operand, a);
  return isBelow(a, b) || isBelow(b, a);
}

/**
 * Whether a value passes a comparison, or may do so.
 *
 * @param {unknown} value
 * @param {Condition} condition
 */
function passes(value, { test, operand }) {
  if (test === 'is') return jsonText(value) === jsonText(operand);
  if (operand === null) return (test === 'eq') === (value === null);
  if (value === null || typeof value === 'object') return false;
  if (isNumber(operand)) return passesNumber(value, test, /** @type {number} */ (operand));
  // How a number is written is the server's to know.
  return typeof value === 'number' || typeof value === 'bigint' || (test === 'eq') === (String(value) === String(operand));
}

/**
 * @param {unknown} value
 * @param {string} test
 * @param {number} operand
 */
function passesNumber(value, test, operand) {
  if (typeof value === 'string' && !/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(value)) return false;
  // A number does not hold so many digits exactly.
  if (typeof value === 'string' && value.length > 15) return true;
  if (typeof value === 'boolean') return false;
  const number = typeof value === 'string' ? Number(value) : /** @type {number} */ (value);
  if (test === 'eq') return number == operand;
  if (test === 'ne') return number != operand;
  return test === 'gt' ? number > operand : test === 'ge' ? number >= operand : test === 'lt' ? number < operand : number <= operand;
}

/**
 * Whether every number that `low` allows is less than every one that `high` does.
 *
 * @param {Condition} low
 * @param {Condition} high
 */
function isBelow(low, high) {
  const isBound = (low.test === 'lt' || low.test === 'le') && (high.test === 'gt' || high.test === 'ge');
  const top = /** @type {number} */ (low.operand);
  const bottom = /** @type {number} */ (high.operand);
  return isBound && (top < bottom || (top == bottom && (low.test === 'lt' || high.test === 'gt')));
}
