/**
 * Topic selectors: which topics somebody means.
 *
 * | first character | kind | what it selects |
 * |---|---|---|
 * | `>` | path | the topic at exactly that path; `>` may be left out where the path starts with none of `# ? > * $ % & <` |
 * | `?` | split-path | paths whose segments match, level by level, the regexes between the `/` |
 * | `*` | full-path | paths that one regex matches as a whole |
 * | `#` | set | whatever any of the selectors between `////` selects |
 *
 * A split-path or full-path that ends in `/` means the strict descendants of what it matches, in `//` both. The server reads the
 * selectors of subscriptions, removals and fetches; this module reads those of streams, by the same grammar.
 *
 * @module
 */

import { encodeUtf8 } from './bytes.js';
import { InvalidPathError, InvalidSelectorError } from './errors.js';
import { compilePattern, PatternError, plainText } from './pattern.js';
import { checkPath, checkText, show } from './types.js';

/** Between the members of a set. */
const SEPARATOR = '////';

/** @typedef {'matches' | 'descendants' | 'both'} Reach */
/** @typedef {(text: string) => boolean} Test */

/** A parsed selector. */
export class Selector {
  /**
   * @param {string} text
   * @param {string} prefix
   * @param {boolean} exact
   * @param {Test} matches
   */
  constructor(text, prefix, exact, matches) {
    this.text = text;
    /** The deepest literal branch that holds everything it can select; empty for the root. */
    this.prefix = prefix;
    /** Whether it selects the topic at `prefix` and no other. */
    this.exact = exact;
    this.#matches = matches;
  }

  /** @type {Test} */
  #matches;

  /**
   * @param {unknown} text
   * @returns {Selector}
   * @throws {TypeError | InvalidSelectorError}
   */
  static parse(text) {
    const whole = checkText(text, 'a topic selector');
    return whole.startsWith('#') ? parseSet(whole) : parseMember(whole, 0, whole.length);
  }

  /**
   * Whether it selects the topic at `path`.
   *
   * @param {string} path
   */
  matches(path) {
    return this.#matches(path);
  }

  /**
   * False where no path is selected by both.
   *
   * @param {Selector} other
   */
  mayOverlap(other) {
    if (this.exact) return other.matches(this.prefix);
    if (other.exact) return this.matches(other.prefix);
    return isWithin(this.prefix, other.prefix) || isWithin(other.prefix, this.prefix);
  }
}

/**
 * The selector of what any of these selects.
 *
 * @param {...string} selectors
 * @returns {string}
 */
export function anyOf(...selectors) {
  if (selectors.length === 0) throw new TypeError('expected at least one selector');
  if (selectors.length === 1) return selectors[0];
  return `#${selectors.join(SEPARATOR)}`;
}

/** @param {string} whole */
function parseSet(whole) {
  /** @type {Selector[]} */
  const members = [];
  let start = 0;
  for (;;) {
    // A set inside a set selects what its members do, so its `#` says nothing.
    while (whole[start] === '#') start += 1;
    const end = separatorIndex(whole, start);
    members.push(parseMember(whole, start, end ?? whole.length));
    if (end === undefined) break;
    start = end + SEPARATOR.length;
  }
  const prefix = members.map((member) => member.prefix).reduce(commonBranch);
  const exact = members.every((member) => member.exact && member.prefix === prefix);
  return new Selector(whole, prefix, exact, (path) => members.some((member) => member.matches(path)));
}

/**
 * Where the next separator is. A member may end in slashes of its own but never starts with one, so the separator is
 * the last four of a run.
 *
 * @param {string} whole
 * @param {number} start
 */
function separatorIndex(whole, start) {
  const run = whole.indexOf(SEPARATOR, start);
  if (run < 0) return undefined;
  let end = run;
  while (whole[end] === '/') end += 1;
  return end - SEPARATOR.length;
}

/**
 * @param {string} whole
 * @param {number} start
 * @param {number} end
 * @returns {Selector}
 */
function parseMember(whole, start, end) {
  switch (start < end ? whole[start] : undefined) {
    case undefined:
      throw refuse(whole, start, "expected a selector: '>' and a path, '?', '*' or '#', found nothing");
    case '>':
      return parsePath(whole, start + 1, end);
    case '?':
      return parseSplitPath(whole, start, end);
    case '*':
      return parseFullPath(whole, start, end);
    case '$':
    case '%':
    case '&':
    case '<': {
      const text = whole.slice(start, end);
      throw refuse(whole, start, `expected one of '>', '?', '*' or '#' (the path itself is selected by ${show(`>${text}`)})`);
    }
    default:
      return parsePath(whole, start, end);
  }
}

/**
 * @param {string} whole
 * @param {number} start
 * @param {number} end
 */
function parsePath(whole, start, end) {
  const path = whole.slice(start, end);
  try {
    checkPath(path, Infinity);
  } catch (error) {
    if (!(error instanceof InvalidPathError)) throw error;
    const hint = /^[^/].*\/$/s.test(path) ? `; a branch is selected by '?${path.replace(/\/+$/, '')}//'` : '';
    throw refuse(whole, start, `${error.message}${hint}`, error.position);
  }
  return new Selector(whole.slice(start, end), path, true, (other) => other === path);
}

/**
 * @param {string} whole
 * @param {number} start
 * @param {number} end
 */
function parseSplitPath(whole, start, end) {
  const { patternEnd, reach } = parseReach(whole, start, end);
  /** @type {Test[]} */
  const levels = [];
  /** @type {string[]} */
  const literals = [];
  let levelStart = start + 1;
  for (const level of whole.slice(levelStart, patternEnd).split('/')) {
    if (level === '') throw refuse(whole, levelStart, 'expected a regex for the level (at most two slashes may end the selector)');
    const { test, text } = parsePattern(whole, levelStart, level);
    if (text !== undefined && literals.length === levels.length) literals.push(text);
    levels.push(test);
    levelStart += level.length + 1;
  }
  const text = whole.slice(start, end);
  return new Selector(text, literals.join('/'), false, (path) => matchesSplit(levels, reach, path));
}

/**
 * @param {string} whole
 * @param {number} start
 * @param {number} end
 */
function parseFullPath(whole, start, end) {
  const { patternEnd, reach } = parseReach(whole, start, end);
  const source = whole.slice(start + 1, patternEnd);
  if (source === '') throw refuse(whole, start + 1, 'expected a regex for the whole path');
  if (source.endsWith('/')) throw refuse(whole, patternEnd - 1, "expected at most two slashes behind the regex, for no path ends in '/'");
  const { test, text } = parsePattern(whole, start + 1, source);
  return new Selector(whole.slice(start, end), text ?? '', false, (path) => matchesFull(test, reach, path));
}

/**
 * The end of the pattern, and what the slashes behind it mean.
 *
 * @param {string} whole
 * @param {number} start
 * @param {number} end
 * @returns {{ patternEnd: number, reach: Reach }}
 */
function parseReach(whole, start, end) {
  const text = whole.slice(start, end);
  if (text.endsWith('//')) return { patternEnd: end - 2, reach: 'both' };
  if (text.endsWith('/')) return { patternEnd: end - 1, reach: 'descendants' };
  return { patternEnd: end, reach: 'matches' };
}

/**
 * @param {string} whole
 * @param {number} start where `source` stands in it
 * @param {string} source
 * @returns {{ test: Test, text?: string }}
 */
function parsePattern(whole, start, source) {
  const text = plainText(source);
  if (text !== undefined) return { test: (other) => other === text, text };
  try {
    const regex = compilePattern(source);
    return { test: (other) => regex.test(other) };
  } catch (error) {
    if (error instanceof PatternError) throw refuse(whole, start + error.index, error.message);
    throw error;
  }
}

/**
 * @param {Test[]} levels
 * @param {Reach} reach
 * @param {string} path
 */
function matchesSplit(levels, reach, path) {
  const segments = path.split('/');
  const below = segments.length - levels.length;
  if (below < 0 || (reach === 'matches' && below > 0) || (reach === 'descendants' && below === 0)) return false;
  return levels.every((test, index) => test(segments[index]));
}

/**
 * @param {Test} test
 * @param {Reach} reach
 * @param {string} path
 */
function matchesFull(test, reach, path) {
  if (reach !== 'descendants' && test(path)) return true;
  if (reach === 'matches') return false;
  for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
    if (test(path.slice(0, end))) return true;
  }
  return false;
}

/**
 * Whether `path` is `branch` or lies under it.
 *
 * @param {string} path
 * @param {string} branch
 */
function isWithin(path, branch) {
  return branch === '' || path === branch || path.startsWith(`${branch}/`);
}

/**
 * @param {string} a
 * @param {string} b
 */
function commonBranch(a, b) {
  let common = a;
  while (!isWithin(b, common)) common = common.slice(0, Math.max(0, common.lastIndexOf('/')));
  return common;
}

/**
 * @param {string} whole
 * @param {number} index
 * @param {string} problem
 * @param {number} [bytesBehind]
 */
function refuse(whole, index, problem, bytesBehind = 0) {
  const position = encodeUtf8(whole.slice(0, index)).length + bytesBehind;
  return new InvalidSelectorError(`invalid selector ${show(whole)} at byte ${position}: ${problem}`, { position });
}
