// The topics the page knows, as a tree. No drawing and no network here.
//
// A node stands for one segment of a path; it holds a topic, children, or both. Structure changes
// are counted in `structure`, so that a view can tell whether its list of rows is still true.

const HISTORY_MAX = 120;
const SEGMENT_ORDER = new Intl.Collator('en', { numeric: true, sensitivity: 'variant' });

export class Model {
  constructor() {
    this.root = new Node('', null);
    this.topics = new Map();
    this.structure = 0;
    this.updates = 0;
  }

  add(path, type) {
    const known = this.topics.get(path);
    if (known && known.type === type) return known;
    if (known) this.remove(path);
    let node = this.root;
    for (const name of path.split('/')) {
      node.count += 1;
      node = node.child(name);
    }
    node.count += 1;
    node.topic = new Topic(path, type, node);
    this.topics.set(path, node.topic);
    this.structure += 1;
    return node.topic;
  }

  set(path, type, value, now) {
    this.add(path, type).set(value, now);
    this.updates += 1;
  }

  remove(path) {
    const topic = this.topics.get(path);
    if (!topic) return;
    this.topics.delete(path);
    this.structure += 1;
    topic.node.topic = null;
    for (let node = topic.node; node; node = node.parent) {
      node.count -= 1;
      if (node.count === 0 && node.parent) node.parent.drop(node);
    }
  }

  clear() {
    this.root = new Node('', null);
    this.topics.clear();
    this.structure += 1;
  }

  /** The node at a path, or undefined. */
  node(path) {
    let node = this.root;
    for (const name of path.split('/')) node = node?.children?.get(name);
    return node;
  }

  /** The value of the topic at a path, or undefined. */
  value(path) {
    return this.topics.get(path)?.value;
  }
}

class Node {
  constructor(name, parent) {
    this.name = name;
    this.parent = parent;
    this.depth = parent ? parent.depth + 1 : -1;
    this.path = parent?.parent ? `${parent.path}/${name}` : name;
    this.children = null;
    this.topic = null;
    this.open = false;
    /** How many topics stand here and below. */
    this.count = 0;
    this.inOrder = null;
  }

  child(name) {
    this.children ??= new Map();
    let child = this.children.get(name);
    if (!child) {
      child = new Node(name, this);
      this.children.set(name, child);
      this.inOrder = null;
    }
    return child;
  }

  drop(child) {
    // A node of the same name may have come since.
    if (this.children?.get(child.name) === child) this.children.delete(child.name);
    this.inOrder = null;
  }

  /** The children, in an order that puts 2 before 10. */
  sorted() {
    this.inOrder ??= [...(this.children?.values() ?? [])].sort((a, b) => SEGMENT_ORDER.compare(a.name, b.name));
    return this.inOrder;
  }

  get hasChildren() {
    return this.children !== null && this.children.size > 0;
  }
}

class Topic {
  constructor(path, type, node) {
    this.path = path;
    this.type = type;
    this.node = node;
    this.value = undefined;
    this.changes = 0;
    this.changedAt = 0;
    this.history = type === 'int64' || type === 'double' ? new History() : null;
  }

  set(value, now) {
    this.value = value;
    this.changes += 1;
    this.changedAt = now;
    this.history?.push(Number(value));
  }
}

/** The last numbers of a topic, oldest first. Grows as it is needed: most of many topics change seldom. */
export class History {
  constructor() {
    this.numbers = [];
    this.start = 0;
  }

  push(number) {
    if (!Number.isFinite(number)) return;
    if (this.numbers.length < HISTORY_MAX) {
      this.numbers.push(number);
    } else {
      this.numbers[this.start] = number;
      this.start = (this.start + 1) % HISTORY_MAX;
    }
  }

  get size() {
    return this.numbers.length;
  }

  at(index) {
    return this.numbers[(this.start + index) % this.numbers.length];
  }
}
