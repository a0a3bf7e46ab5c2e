#!/usr/bin/env python3
"""Records the sequences of benches/data from this machine and this repository.

Usage: scripts/record-sequences.py [directory] [build directory]

Each file is gzip of JSON lines, one line a version: an array whose items are text, or
[offset, length] for bytes taken from the version before. All values are ASCII, so characters
are bytes. Process names outside a fixed list and all addresses but loopback are left out.
"""
import difflib, gzip, json, os, re, socket, sys, time

VERSIONS = 40
NAMES_KEPT = re.compile(r"^(k\w+|rcu\w*|cargo|rustc|bash|sh|cc|ld|python3|node|java|go|ps|sleep|migration|cpuhp|mm_\w+|oom_\w+|watchdogd|jbd2)\b")


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def number(text):
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def memory():
    rows = (line.split() for line in read("/proc/meminfo").splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows}


def counters():
    return {k: int(v) for k, v in (line.split() for line in read("/proc/vmstat").splitlines())}


def tick():
    cpu = [int(x) for x in read("/proc/stat").split("\n", 1)[0].split()[1:]]
    busy, idle = cpu[0] + cpu[2], cpu[3]
    return {"name": "host.cpu", "time": int(time.time() * 1000), "busy": busy, "idle": idle,
            "share": round(busy / (busy + idle), 4), "switches": int(re.search(r"ctxt (\d+)", read("/proc/stat"))[1]), "running": int(read("/proc/loadavg").split()[3].split("/")[0])}


def interrupts():
    lines = read("/proc/interrupts").splitlines()
    cpus = lines[0].split()
    rows = []
    for line in lines[1:]:
        cells = line.split()
        counts = [int(c) for c in cells[1:1 + len(cpus)] if c.isdigit()]
        rows.append({"line": cells[0].rstrip(":"), "counts": counts, "device": " ".join(cells[1 + len(counts):])})
    return {"time_ms": int(time.time() * 1000), "cpus": cpus, "rows": rows}


def slabs():
    lines = read("/proc/slabinfo").splitlines()
    columns = re.findall(r"<(\w+)>", lines[1])
    return [dict(zip(["name"] + columns, map(number, [w for w in line.split() if w != ":"]))) for line in lines[2:]]


def name_of(comm):
    return comm if NAMES_KEPT.match(comm) else "process"


def processes(wide):
    rows = []
    for pid in sorted((int(p) for p in os.listdir("/proc") if p.isdigit())):
        stat = read(f"/proc/{pid}/stat")
        if ")" not in stat:
            continue
        comm, cells = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
        row = {"pid": pid, "name": name_of(comm), "state": cells[0], "parent": int(cells[1]), "minor_faults": int(cells[7]),
               "major_faults": int(cells[9]), "user_ticks": int(cells[11]), "system_ticks": int(cells[12]), "priority": int(cells[15]),
               "nice": int(cells[16]), "threads": int(cells[17]), "started": int(cells[19]), "virtual_bytes": int(cells[20]),
               "resident_pages": int(cells[21]), "cpu": int(cells[36]), "policy": int(cells[38])}
        status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
        for key in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"):
            row[key] = number(status.get(key, "0").strip())
        row["scheduler"] = [number(c) for c in read(f"/proc/{pid}/schedstat").split()]
        if wide:
            sched = dict(line.split(":") for line in read(f"/proc/{pid}/sched").splitlines() if line.count(":") == 1 and "(" not in line)
            row["sched"] = {k.strip(): v.strip() for k, v in sched.items()}
            row["io"] = {k: int(v) for k, v in (line.split(": ") for line in read(f"/proc/{pid}/io").splitlines())}
            row["status"] = {k: v.strip() for k, v in status.items() if k.startswith(("Vm", "Sig", "Shd", "Cap", "FD", "Rss", "Cpus_allowed", "Mems_allowed_list", "Threads"))}
        rows.append(row)
    return {"time_ms": int(time.time() * 1000), "processes": rows}


def sockets():
    rows = []
    for line in read("/proc/net/tcp").splitlines()[1:]:
        c = line.split()
        if not (c[1].startswith("0100007F") and c[2].startswith(("0100007F", "00000000"))):
            continue
        tx, rx = c[4].split(":")
        rows.append({"local": "127.0.0.1:%d" % int(c[1][9:], 16), "remote": "127.0.0.1:%d" % int(c[2][9:], 16), "state": int(c[3], 16),
                     "send_queue": int(tx, 16), "receive_queue": int(rx, 16), "timer": c[5], "retransmits": int(c[6], 16), "inode": int(c[9])})
    return rows


def build(directory):
    deps = os.path.join(directory, "debug", "deps")
    rows = []
    for name in sorted(os.listdir(deps)) if os.path.isdir(deps) else []:
        try:
            s = os.stat(os.path.join(deps, name))
            rows.append({"file": name, "bytes": s.st_size, "modified": round(s.st_mtime, 3)})
        except FileNotFoundError:
            pass
    return {"time": round(time.time(), 3), "files": len(rows), "bytes": sum(r["bytes"] for r in rows), "artifacts": rows}


def latencies(work):
    """A percentile table in the form of an HDR report: time to open, use and close a loopback connection."""
    rows, ordered = [], sorted(work)
    for p in (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100):
        i = min(len(ordered) - 1, int(len(ordered) * p / 100))
        rows.append({"percentile": p, "latency_us": round(ordered[i] * 1e6, 1), "count": i + 1})
    return {"unit": "us", "total": len(ordered), "mean": round(sum(ordered) / len(ordered) * 1e6, 3), "max": round(ordered[-1] * 1e6, 3), "table": rows}


def rates(before, now, seconds):
    """About 1 KB of doubles: rates of the kernel's counters that move most."""
    keys = ("pgfault", "pgalloc_normal", "pgfree", "pgactivate", "pgpgin", "pgpgout", "numa_hit", "numa_local", "pgreuse", "unevictable_pgs_culled",
            "workingset_nodes", "pglazyfree", "thp_fault_alloc", "pgmajfault", "nr_dirtied", "nr_written", "pgalloc_dma32", "drop_slab")
    return {"host": "recorder", "time": round(time.time(), 3), "interval": round(seconds, 6),
            "rates": [{"metric": k, "per_second": round((now.get(k, 0) - before.get(k, 0)) / seconds, 4), "total": now.get(k, 0)} for k in keys]}


def board(text, versions):
    """A whiteboard on which the protocol's text is typed, a few words an edit, at three places in turn."""
    sections = [s for s in re.split(r"\n(?=##+ )", text.encode("ascii", "ignore").decode()) if len(s) > 300][:9]
    cards = [{"id": i, "x": 40 + i % 3 * 320, "y": 40 + i // 3 * 200, "color": "#ffd866", "text": s} for i, s in enumerate(sections)]
    held = {i: cards[i]["text"].split(" ") for i in (1, 3, 5)}
    shown = {i: len(w) // 4 for i, w in held.items()}
    for version in range(versions):
        i = (1, 3, 5)[version // 4 % 3]
        shown[i] += 1 + version % 3
        if version % 10 == 9:
            cards[i]["x"] += 17
        for k in held:
            cards[k]["text"] = " ".join(held[k][:shown[k]])
        yield compact({"board": "protocol", "revision": version, "cards": cards})


def prose(text, versions):
    """A document kept as one string, edited at one place: words replaced, inserted and taken out."""
    words = text.encode("ascii", "ignore").decode().split(" ")
    for version in range(versions):
        at = len(words) * (3 + version % 5) // 9 + version
        if version % 3 == 0:
            words[at:at] = words[at + 40:at + 43]
        elif version % 3 == 1:
            del words[at:at + 2]
        else:
            words[at] = words[at + 11].upper()
        yield " ".join(words)


def log(directory, versions):
    """The last 60 finished artifacts of the running build, newest last, as lines of text."""
    b = build(directory)["artifacts"]
    b.sort(key=lambda r: r["modified"])
    return "".join("%s %10d %s\n" % (time.strftime("%H:%M:%S", time.gmtime(r["modified"])), r["bytes"], r["file"]) for r in b[-60:])


def difference(old, new):
    """The items of one line: matched by tokens, long runs only."""
    split = lambda s: re.findall(r'[^,{}\n]*[,{}\n]?', s)[:-1]
    a, b = split(old), split(new)
    starts = [0]
    for t in a:
        starts.append(starts[-1] + len(t))
    items, text = [], ""
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal" and starts[i2] - starts[i1] > 12:
            items += ([text] if text else []) + [[starts[i1], starts[i2] - starts[i1]]]
            text = ""
        else:
            text += "".join(b[j1:j2])
    return items + ([text] if text else [])


def write(directory, name, values):
    lines, old = [], ""
    for value in values:
        items = difference(old, value)
        assert "".join(i if isinstance(i, str) else old[i[0]:i[0] + i[1]] for i in items) == value
        lines.append(compact(items))
        old = value
    with gzip.GzipFile(os.path.join(directory, name + ".jsonl.gz"), "wb", 9, mtime=0) as file:
        file.write("\n".join(lines).encode() + b"\n")
    sizes = [len(v) for v in values]
    print(f"{name}: {len(values)} versions of {min(sizes)}..{max(sizes)} bytes", flush=True)


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else "benches/data"
    target = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("CARGO_TARGET_DIR", "target")
    text = read("sdk/protocol/README.md").replace("\n", "\n")
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept, work = [], []
    recorded = {name: [] for name in ("tick", "memory", "rates", "latency", "interrupts", "counters", "sockets", "log", "slabs", "processes", "processes-wide", "build")}
    before, at = counters(), time.monotonic()
    for version in range(VERSIONS):
        for _ in range(25):
            start = time.perf_counter()
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            client.sendall(b"x" * 100)
            peer.recv(50 if len(kept) % 4 == 0 else 100)
            work.append(time.perf_counter() - start)
            kept.append((client, peer))
        for pair in kept[:-20]:
            for end in pair:
                end.close()
        del kept[:-20]
        now, then = counters(), time.monotonic()
        recorded["rates"].append(compact(rates(before, now, then - at)))
        before, at = now, then
        recorded["counters"].append(compact(now))
        recorded["tick"].append(compact(tick()))
        recorded["memory"].append(compact(memory()))
        recorded["latency"].append(compact(latencies(work)))
        recorded["interrupts"].append(compact(interrupts()))
        recorded["sockets"].append(compact(sockets()[:45]))
        recorded["log"].append(log(target, version))
        recorded["slabs"].append(compact(slabs()))
        recorded["processes"].append(compact(processes(False)))
        recorded["processes-wide"].append(compact(processes(True)))
        recorded["build"].append(compact(build(target)))
        time.sleep(0.8)
    recorded["board"] = list(board(text, VERSIONS))
    recorded["prose"] = list(prose(text, VERSIONS))
    for name, values in recorded.items():
        write(directory, name, values)


if __name__ == "__main__":
    main()
