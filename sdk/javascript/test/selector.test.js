// Selectors as streams match them.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { InvalidPathError, InvalidSelectorError } from '../errors.js';
import { anyOf, Selector } from '../selector.js';
import { Selections } from '../selections.js';
import { checkPath } from '../types.js';

const TREE = ['foo', 'bar', 'foo/bar', 'foo/baz', 'foo/bar/baz/bing'];

function check(text, expected, paths = TREE) {
  const selector = Selector.parse(text);
  assert.deepEqual(paths.filter((path) => selector.matches(path)), expected, text);
}

function checkRefused(text, position, message) {
  assert.throws(
    () => Selector.parse(text),
    (error) => {
      assert.ok(error instanceof InvalidSelectorError, `${text}: ${error}`);
      assert.equal(error.position, position, text);
      assert.match(error.message, message);
      return true;
    },
  );
}

test('a path selector selects exactly its path', () => {
  check('foo', ['foo']);
  check('>foo/bar', ['foo/bar']);
  check('>?a', ['?a'], ['?a', 'a']);
});

test('a split-path matches level by level', () => {
  check('?foo', ['foo']);
  check('?foo/.*', ['foo/bar', 'foo/baz']);
  check('?.*/ba[rz]', ['foo/bar', 'foo/baz']);
  check('?fo', []);
  check('?f.|b.r', ['bar']);
});

test('a slash means the descendants, two mean both', () => {
  check('?foo/', ['foo/bar', 'foo/baz', 'foo/bar/baz/bing']);
  check('?foo//', ['foo', 'foo/bar', 'foo/baz', 'foo/bar/baz/bing']);
  check('?foo/bar/', ['foo/bar/baz/bing']);
  check('?.*//', TREE);
  check('*foo/b..', ['foo/bar', 'foo/baz']);
  check('*f.o/', ['foo/bar', 'foo/baz', 'foo/bar/baz/bing']);
  check('*.*r//', ['bar', 'foo/bar', 'foo/bar/baz/bing']);
});

test('a set selects what any of its members does', () => {
  check('#foo////?foo/bar/', ['foo', 'foo/bar/baz/bing']);
  check('#?foo/bar//////bar', ['bar', 'foo/bar', 'foo/bar/baz/bing']);
  check('##foo////#>bar', ['foo', 'bar']);
  check(anyOf('foo', 'bar'), ['foo', 'bar']);
  check(anyOf('foo'), ['foo']);
});

test('a regex means what it does to the server', () => {
  check('?\\d+', ['12', '٣'], ['12', '٣', 'a']);
  check('?\\w+', ['é_1'], ['é_1', 'a-b']);
  check('?(?i)FOO', ['foo', 'Foo'], ['foo', 'Foo', 'fo']);
  check('?a.b', ['a\nb', 'a😀b'], ['a\nb', 'a😀b', 'ab']);
  check('?[[:digit:]x-]+', ['1x-'], ['1x-', 'y']);
  check('?a\\-b\\"', ['a-b"'], ['a-b"']);
  check('?(?P<n>a){,2}', ['a', 'aa'], ['a', 'aa', 'aaa']);
  check('?\\pL\\x{41}\\u0042', ['ЖAB'], ['ЖAB', '1AB']);
  check('?[]a]+', [']a'], [']a', 'b']);
  check('?a]}', ['a]}'], ['a]}', 'a']);
  check('?a|', ['a'], ['a', 'b']);
});

test('what does not parse is refused with its place', () => {
  checkRefused('', 0, /found nothing/);
  checkRefused('a//b', 2, /empty/);
  checkRefused('a/', 1, /'\?a\/\/'/);
  checkRefused('>', 1, /empty/);
  checkRefused('$a', 0, /'>\$a'/);
  checkRefused('?a//b', 3, /regex for the level/);
  checkRefused('?', 1, /regex for the level/);
  checkRefused('*', 1, /whole path/);
  checkRefused('*a///', 2, /two slashes/);
  checkRefused('?é/(?=a)', 4, /look-around/);
  checkRefused('?(a)\\1', 4, /back-reference/);
  checkRefused('?[a', 1, /without its/);
  checkRefused('?[a&&b]', 3, /within a class/);
  checkRefused('?a{', 2, /repetition/);
  checkRefused('?a*+', 1, /compile/);
  checkRefused('?\\Qa\\E', 1, /\\Q/);
  checkRefused('#a////', 6, /found nothing/);
  assert.throws(() => Selector.parse(3), TypeError);
});

test('a selector knows its branch', () => {
  assert.equal(Selector.parse('?foo/bar/.*/bing').prefix, 'foo/bar');
  assert.equal(Selector.parse('#?foo/bar//////foo/baz').prefix, 'foo');
  assert.equal(Selector.parse('*foo/.*').prefix, '');
});

function checkSelections(steps, expected) {
  const selections = new Selections();
  for (const step of steps) selections.add(step[0] === '+' ? 'subscribe' : 'unsubscribe', step.slice(1));
  assert.deepEqual(selections.sequence.map(({ op, selector }) => (op === 'subscribe' ? '+' : '-') + selector), expected);
}

test('selections stay in order and forget what later ones decide', () => {
  checkSelections(['+?a//', '+b', '-a/x'], ['+?a//', '+b', '-a/x']);
  checkSelections(['+?a//', '-b'], ['+?a//']);
  checkSelections(['+?a//', '-a/x', '+?a//'], ['-a/x', '+?a//'].slice(0));
  checkSelections(['+a', '-a'], []);
  checkSelections(['+?.*//', '+a', '-a'], ['+?.*//', '-a']);
  checkSelections(['+a', '+?b//', '-?.*//'], []);
  checkSelections(['+?a/b//', '-?a/c//', '-?a//'], ['+?a/b//', '-?a//']);
});

const read = (name) => JSON.parse(readFileSync(new URL(`../../protocol/vectors/${name}`, import.meta.url), 'utf8'));

for (const { text, prefix, matches, misses } of read('selectors.json').valid) {
  test(`selectors.json: ${text}`, () => {
    const selector = Selector.parse(text);
    for (const path of matches) assert.ok(selector.matches(path), `selects ${path}`);
    for (const path of misses) assert.ok(!selector.matches(path), `does not select ${path}`);
    // This side's prefix need not be the deepest, but has to hold what is selected.
    assert.ok(prefix === selector.prefix || selector.prefix === '' || prefix.startsWith(`${selector.prefix}/`), selector.prefix);
  });
}

for (const { text } of read('selectors.json').invalid) {
  test(`selectors.json, invalid: ${text.slice(0, 40)}`, () => assert.throws(() => Selector.parse(text), InvalidSelectorError));
}

test('paths.json', () => {
  const { valid, invalid, path_bytes_max: bytesMax } = read('paths.json');
  for (const path of valid) assert.equal(checkPath(path, bytesMax), path);
  for (const { text, error } of invalid) {
    // What is set aside for the server is for the server to say.
    if (error === 'reserved') checkPath(text, bytesMax);
    else assert.throws(() => checkPath(text, bytesMax), InvalidPathError, text);
  }
});
