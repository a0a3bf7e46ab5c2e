//! Fuzzing: whatever the bytes, a decoder or parser answers and keeps its promises.
//!
//! A target is a plain function over bytes that panics where a promise is broken; `targets.rs` has one for each parser of
//! paths, selectors and values, `model.rs` for the rest of the topic model, `wire.rs` for what a peer sends, `views.rs` for views, `shard.rs` for a
//! whole shard, which `operations.rs` makes requests for, `mqtt.rs` for one with clients of MQTT. Each runs here as a bounded campaign, the same for the same seed:
//!
//! ```text
//! TIDEWIRE_FUZZ_RUNS=1000000 TIDEWIRE_FUZZ_SEED=7 cargo test --no-default-features --test fuzz json
//! ```
//!
//! A new target is one line below: its function, and a corpus of inputs that reach deep into it.

mod campaign;
mod model;
mod mqtt;
mod operations;
mod shard;
mod targets;
mod views;
mod wire;

use campaign::{noise, run};

#[test]
fn path() {
    run(targets::path, &[b"a/b/c\na/bc", b"Tidewire/x", b"//a/", "\u{e9}/\u{1f30a}\n\u{e9}!".as_bytes()]);
}

#[test]
fn selector() {
    run(
        targets::selector,
        &[
            b"?foo/.*/[a-c]+//\nfoo/x/abc/d",
            b"#>a/b//////?b|c/(d)?/////*(?i)x.*\\d{2,3}\nb/",
            b"*a/(?:b|c)*/\\w\\pL$//\na/b/1x",
            b"?(?x)a\\Q*+b\\x2f\\1(?=a)[^/&&[a--b]]\na",
            b"a/b//\na/b",
        ],
    );
}

#[test]
fn json() {
    run(
        targets::json,
        &[
            br#"{"a b": [1, -0.5e+10, "\u00e9\ud83c\udf0a\\", true], "a": null}"#,
            "[[[{\"\":{}}]], \"\u{e9}\u{1f30a}\", 12345678901234567890123, 1e308]".as_bytes(),
            b" \"long enough to fill more than one block of sixty-four bytes \\\" \\\\\" ",
        ],
    );
}

#[test]
fn scalar_from_json() {
    run(
        targets::scalar_from_json,
        &[
            br#""a\u00e9\ud83c\udf0a\/\n""#,
            b"-9223372036854775808",
            b"1.7976931348623157e308",
            b"1.79769313486231587e308",
            b"\"-Infinity\"",
            b"\"//79/A==\"",
        ],
    );
}

#[test]
fn scalar() {
    run(targets::scalar, &[b"a\"\\\n\x01", b"\x7f\xf0\0\0\0\0\0\0", b"\x80\0\0\0\0\0\0\x01", b"\x3f\xb9\x99\x99\x99\x99\x99\x9a"]);
}

#[test]
fn native_request() {
    run(
        wire::native_request,
        &[
            b"\x01\x0b\x01\x01\x01\x03sim\x02\x01\x03\x02\x00\x03\x00",
            b"\x10\x07\x01\x03a/b\x01\x00\x11\x08\x02\x03a/b\x02hi",
            b"\x12\x09\x02\x03a/b\x02\x00hi\x12\x0d\x02\x03a/b\x02\x01\x01k\x01vhi",
            b"\x18\x07\x01\x04?a//\x00\x19\x07\x01\x04?a//\x00\x13\x06\x03\x04?a//",
            b"\x14\x09\x04\x04?a//\x00\x00\x01\x04\x00\x1a\x06\x14\x04?a//\x1c\x08\x15\x01\x01\x04?a//\x1d\x03\x18\x01\x00",
            b"\x15\x26\x0a\x03a/b\x01\x01\x03\x02\x08\0\0\0\0\0\0\0\x08\x03\x12{\"value\":{\"lt\":8}}\x15\x14\x0b\x01a\x01\x01\x01\x03\x02{}\x05\x08[{\"a\":1}]",
            b"\x14\x21\x10\x05?.*//\0\0\x07\x01\x01a\x02\x01b\x04\x01\x0a\x05\x01B\x06\x01\x01\x07\x01\x05\x08\x03\x80\x80\x04",
            b"\x20\x0e\x11\x01\x03a/b\x01\x01\x01\x02\x00\x04\x01\x00\x21\x04\x12\x01{}\x22\x06\x12\x01\x93\x0a\x10\x34\x23\x02\x13\x01",
            b"\x28\x08\x0d\x03t/s\x02\x01x\x29\x08\x0e\x03t/s\x02\x00y\x2a\x19\x0f\x03t/s\x01\x01\x01\x02\x04\x01\x05\x02\x09\x03\x05\x04\xe8\x07\x05\x01\x04\x01\x01",
            b"\x40\x0e\x01\x01n\x0amap a to b\x41\x03\x02\x01n\x42\x02\x03\x00\x43\x03\x04\x01n",
        ],
    );
}

#[test]
fn native_event() {
    run(
        wire::native_event,
        &[
            b"\x81\x0b\x01\x01\x01\x03sim\x04\x02\x80\x10\x02\x00",
            b"\x82\x0b\x01\x01\x01\x03a/b\x02\x03hi",
            b"\x83\x06\x01\xc8\x01\x02no\x98\x02\x07\x01",
            b"\x82\x0f\x0f\x00\x02\x01\xac\x02\x80\xf8\xa5\xf9\xc12\x00\x00\x00\x82\x10\x10\x00\x01\x03a/b\x02\x02x\x01\x01k\x01v\x02",
            b"\x82\x1c\x11\x01\x01\x01n\x0amap a to b\x01\x01\x02\x01\x07\x01\x05a: no",
            b"\x90\x07\x07\x03a/b\x02\x00\x91\x03\x07hi\x92\x03\x07\x03\x00\x93\x03\x07\x02\x00",
        ],
    );
}

#[test]
fn mqtt_head() {
    run(wire::mqtt_head, &[b"\x10\x7f", b"\x3b\x80\x01", b"\x82\xff\x07", b"\x32\x80\x80\x80\x01", b"\xf0\x00\xc0\x00"]);
}

#[test]
fn mqtt_connect() {
    run(
        wire::mqtt_connect,
        &[
            b"\0\x06MQIsdp\x03\xf6\0<\0\x01c\0\x01w\0\x02hi\0\x02me\0\x02pw",
            b"\0\x04MQTT\x04\x02\0<\0\0",
            b"\0\x04MQTT\x05\x02\0<\x1d\x11\0\0\0\x0a!\0\x05'\0\0\x10\0\x22\0\x03\x19\x01\x17\0\x15\0\x01m\x16\0\x02\0\x01\0\x01c",
            b"\0\x04MQTT\x05\xce\0<\x07&\0\x01k\0\x01v\0\x01c\x13\x18\0\0\0\x05\x01\x01\x02\0\0\0\x09\x08\0\x01r\x03\0\0\0\x01w\0\x02hi\0\x02me\0\x02pw",
        ],
    );
}

#[test]
fn mqtt_packets() {
    run(
        wire::mqtt_packets,
        &[
            b"\x020\x08\0\x03a/b\0hi2\x0c\0\x03a/b\0\x07\x02\x01\x01hi\xc0\0\xe0\0",
            b"\x02=$\0\x01a\x01\x02\x1c&\0\x01k\0\x01v\x02\0\0\0\x09\x09\0\x02\0\x01#\0\x04\x03\0\x01t\x08\0\x01rhi",
            b"\x02@\x02\0\x07P\x03\0\x07\x97b\x04\0\x07\x92\0p\x08\0\x07\0\x04\x1f\0\x01r",
            b"\x02\x82\x0f\0\x07\x02\x0b\x7f\0\x03a/#.\0\x01+\x11\xa2\x09\0\x08\0\0\x01a\0\x01b",
            b"\x02\xe0\x07\x04\x05\x11\0\0\0\x05\xf0\x0a\x18\x08\x15\0\x01m\x16\0\x01x",
            b"\x01:\x09\0\x03a/b\0\x07hi\x82\x06\0\x07\0\x01#\x02\xa2\x05\0\x08\0\x01a@\x02\0\x07",
            b"\0\x8a\x06\0\x07\0\x01#\xfdj\x02\0\x071\x05\0\x01ahi\x10\x0f\0\x06MQIsdp\x03\x02\0\0\0\x01c",
        ],
    );
}

#[test]
fn text_request() {
    run(
        wire::text_request,
        &[
            br#"{"op":"connect","id":1,"version":1,"client":"\u00e9"}"#,
            br#"{"op":"set","id":3,"path":"a/b","type":"json","value":{"x":[1,"]"]},"properties":{"a":"b"}}"#,
            br#"{"op":"fetch","id":6,"selector":"?a//","after":"","first":10,"values":true}"#,
            br#"[{"op":"update","id":1,"path":"a","patch":[]}, {"op":"query","path":"a","range":{"from":{"last_ms":5},"to":"end"}}, 7]"#,
            br#"{"op":"listen","id":21,"listener":1,"kind":"topics","selector":"?a//","stream":2,"types":["json"],"original":3}"#,
            br#"[{"op":"create_view","id":1,"name":"n","definition":"map ?a// to b"}, {"op":"list_views","after":7}, {"op":"get_view"}]"#,
            b"{\n\"op\": \"subscribe\",\n\"id\": \"x\", \"selector\": 7}",
        ],
    );
}

#[test]
fn http_head() {
    run(
        wire::http_head,
        &[
            b"GET /tidewire?x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: x, tidewire.1\r\n\r\nmore",
            b"GET /health HTTP/1.0\r\nA: b\r\n\r\n",
            b"GET /latency HTTP/1.0\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
            b"GET / HTTP/1.0\r\nAuthorization: Bearer mF_9.B5f-4.1JqM\r\n\r\n",
        ],
    );
}

#[test]
fn websocket_head() {
    run(
        wire::websocket_head,
        &[
            &[0x82, 0x83, 1, 2, 3, 4, 5, 6, 7],
            &[0x02, 0xfe, 0, 126, 1, 2, 3, 4],
            &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4],
            &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8],
        ],
    );
}

#[test]
fn delta() {
    run(
        wire::delta,
        &[
            b"the quick brown fox jumps over the lazy dog, 1 time.the quick brown fox jumps over the lazy dog, 22 times",
            b"{\"a\":[1,2,3,4,5,6,7,8,9],\"b\":\"long enough\"}{\"a\":[1,2,3,4,5,6,7,8,8],\"b\":\"long enough\"}",
            b"previous bytes\x08\x24ab\xf3\x01\x02\x05\x10\x01",
        ],
    );
}

#[test]
fn specification() {
    run(
        model::specification,
        &[
            b"json\nCONFLATION\nalways\nOWNER\n$Principal is \"a\\\"b\"\nREMOVAL\nwhen time after 5",
            b"time_series\nTIME_SERIES_EVENT_VALUE_TYPE\ndouble\nTIME_SERIES_RETAINED_RANGE\nlimit 5 last 10S\nCONFLATION\nunsubscribe",
            b"time_series\nTIME_SERIES_EVENT_VALUE_TYPE\nint64\nTIME_SERIES_SUBSCRIPTION_RANGE\nlast 2H\nPUBLISH_VALUES_ONLY\ntrue",
            b"string\nCOMPRESSION\ntrue\nPRIORITY\nhigh\nPERSISTENT\nfalse\nTIDY_ON_UNSUBSCRIBE\ntrue\nx\ny",
        ],
    );
}

#[test]
fn removal_policy() {
    run(
        model::removal_policy,
        &[
            b"when time after 1518780068388 or (no updates for 10m after 1h and local subscriptions < 5 for 10d) remove '?a/.*//'",
            b"when time after \"Tue, 3 Jun 2008 11:05:30 GMT\" and this session closes",
            b"WHEN no local session has \"$Principal is 'x' or not has y\" for 5s after 2d REMOVE \"#>a////?b//\"",
        ],
    );
}

#[test]
fn script_of_roles() {
    run(
        model::script_of_roles,
        &[
            b"set \"R\" permissions [VIEW_SESSION, MODIFY_SECURITY] # who watches\nset \"R\" default path permissions [SELECT_TOPIC, READ_TOPIC]",
            b"set \"R\" path \"a/b\" permissions []\nset \"S\" includes [\"R\"]\nisolate path \"a\"\ndeisolate path \"a\"",
            b"set roles for anonymous sessions [\"R\"]\nset roles for named sessions []\nlock role \"R\" to principal \"u\"",
            b"set \"R\" topic \"\\u00e9/\\\"\" permissions [EDIT_OWN_TIME_SERIES_EVENTS]\nremove \"R\" permissions for path \"a/b\"",
        ],
    );
}

#[test]
fn script_of_principals() {
    run(
        model::script_of_principals,
        &[
            b"add principal \"u\" \"pw\" [\"R1\", \"R2\"]\nassign roles \"u\" [\"R\"]\nset password \"u\" \"new\"\nverify password \"u\" \"new\"",
            b"add principal \"v\" hash \"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA\" []\nlock principal \"v\" to principal \"u\"",
            b"allow anonymous connections [\"CLIENT\"]\ndeny anonymous connections\nabstain anonymous connections # last",
            b"trust client proposed property \"F\" if value in [\"x\",\"y\"]\ntrust client proposed property \"F\" if value matches \"^re+$\"\nignore client proposed property \"F\"",
        ],
    );
}

#[test]
fn session_filter() {
    run(
        model::session_filter,
        &[
            b"$Principal is \"control\" and (not hasRoles [\"a\" \"b\"] or $Country eq 'DE')\ncontrol",
            b"a ne \"x\" or b matches 'x[0-9]+' and has c\nx12",
            b"all\n",
        ],
    );
}

#[test]
fn range_expression() {
    run(model::range_expression, &[b"limit 10", b"last 10S limit 5", b"LIMIT 1 last 250 MS", b"last 2H", b"limit 18446744073709551615"]);
}

#[test]
fn constraint() {
    run(
        model::constraint,
        &[
            br#"{"and":[{"value":{"gt":5}},{"value":{"le":7.5e0}},{"or":[{"value":{"ne":6}},{"no_value":true}]}]}
7"#,
            br#"{"json":[{"at":"/a/b","eq":5},{"at":"/c~1","is":{"x":1}},{"at":"/d","absent":true}]}
{"a":{"b":"5.0"},"c/":{"x":1}}"#,
            br#"{"value":{"is":"AAE=","type":"binary"}}
x"#,
            b"{\"no_topic\":true}",
        ],
    );
}

#[test]
fn json_patch() {
    run(
        model::json_patch,
        &[
            br#"{"a":[1,{"b":2}],"c":"d"}
[{"op":"add","path":"/a/1","value":[3]},{"op":"remove","path":"/c"},{"op":"test","path":"/a/0","value":1.0}]"#,
            br#"[[[1]],2]
[{"op":"move","from":"/0/0","path":"/-"},{"op":"copy","from":"","path":"/1"},{"op":"replace","path":"","value":{"x":null}}]"#,
            br#"{"a~b":{"c/d":1},"a":1,"a":2}
[{"op":"replace","path":"/a~0b/c~1d","value":"\u00e9"},{"op":"copy","from":"/a","path":"/a~0b/new"}]"#,
        ],
    );
}

#[test]
fn pointer() {
    run(
        model::pointer,
        &[
            b"/a/0/b\n{\"a\":[{\"b\":[1,2]}]}",
            b"/~0~1//\n{\"~/\":{\"\":{\"\":7}}}",
            "/\u{e9}/10\n{\"\\u00e9\":[0,1,2,3,4,5,6,7,8,9,\"x\"]}".as_bytes(),
            b"\n1",
        ],
    );
}

#[test]
fn series() {
    run(
        model::series,
        &[
            b"\x05\x00\x00\x03\0\0\0\0\0\x01\x00\x05\x00\x09\0\0\0\x00\x02\0\x00\0\0\0\x01\x03\x01\x01\x02\x03\x01\xff\x40",
            b"\x00\x07\x00\x03\0\0\0\0\0\x07\x00\x05\x00\x09\0\0\0\x0f\x02\0\x01\0\0\0\x01\x03\x03\x02\x22\x83\x41\x01\x02\xff",
            b"\x03\x03abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz",
        ],
    );
}

#[test]
fn segment() {
    run(
        model::segment,
        &[
            b"\x09\x00\x00\x01\x02\x03\x04\x07\x01\x02\x03\x04\x08\x01\x02\x03\x04\x03\x41\x02\x03\x04",
            b"\x0c\x01\x01\x01\x02\x03\x04\x02\x01\x02\x03\x04\x05\x01\x02\x03\x04",
            b"\x07\x80\x03\x01\x02\x03\x04\x04\x01\x02\x03\x04\x01\x01\x02\x03\x04",
        ],
    );
}

const VIEWS: [&[u8]; 9] = [
    b"map ?a// to x/<path(1)>/<scalar(/id)> as <value(/v)> type string\n{\"id\":\"p/q\",\"v\":1.50}\nnull",
    b"map a to x/<expand(/l,/id)>/<expand(/s)>/<path(0,1)> separator '-'\n{\"l\":[{\"id\":1,\"s\":{\"k\":[],\"\\u00e9\":2}},{\"id\":1}]}\n7",
    b"map a to x process { if '/a > 3 and not (/b eq \"c\" or /d matches \"[a-c]+\")' set(/e, calc '(/a + 1) * -2.5 / 3' format 'type=string,scale=2,round=half_even') elseif '/a = 1' continue else remove(/a) }\n{\"a\":4,\"b\":\"d\",\"d\":\"x\"}\n1",
    b"map a to x process { set(/n, empty_object); set(/n/m, /a); set(/l/-, 'text') ; remove(/a)} process { set(/q, /n/m) }\n{\"a\":[1],\"l\":[]}\n1",
    b"map a to x patch '[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"},{\"op\":\"test\",\"path\":\"/b\",\"value\":1}]'\n{\"a\":1}\n1",
    b"map a to x insert k/<scalar(/id)> key /name at /name default {\"a\":[1]} insert l/<path(2)> at /l/-\n{\"id\":\"i\",\"l\":[0]}\n{\"name\":{\"x\":1}}",
    b"map a to x/<scalar(/id, 0)>/<scalar(/id, 1)>/<scalar('', 2)> type int64\n\"12\"\n{\"id\":true}",
    b"map '#>a////?b//' from elsewhere to \"a b/<path(1)>\" throttle to 3 updates every 2 minutes delay by 4 hours preserve topics with properties 'CONFLATION':'off', 'PRIORITY':'high'\n1\n1",
    b"map *a.* to x/<path(1)> type time_series with properties 'TIME_SERIES_EVENT_VALUE_TYPE':'double'\n-1e3\n1",
];

#[test]
fn view_definition() {
    let texts = VIEWS.map(views::text_of);
    texts.into_iter().for_each(views::expect_view);
    run(views::definition, &texts);
}

#[test]
fn view_evaluation() {
    run(views::evaluation, &VIEWS);
}

/// Runs a target that makes something of any bytes.
fn run_noise(target: fn(&[u8])) {
    let corpus: Vec<Vec<u8>> = (1..10).map(|seed| noise(seed, 100 * seed as usize)).collect();
    run(target, &corpus.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

#[test]
fn forms() {
    run_noise(operations::forms);
}

#[test]
fn both_forms() {
    run_noise(shard::both_forms);
}

#[test]
fn mqtt_clients() {
    let scripts: Vec<Vec<u8>> = (1..40).map(mqtt::script).collect();
    let corpus: Vec<&[u8]> = scripts.iter().map(Vec::as_slice).collect();
    run(mqtt::clients, &corpus);
}

#[test]
fn shard() {
    let scripts: Vec<Vec<u8>> = (1..20).map(shard::script).collect();
    let mut corpus: Vec<&[u8]> = scripts.iter().map(Vec::as_slice).collect();
    corpus.extend([
        b"\x08\x00\x09\x18\x07\x01\x04?a//\x00\x08\x00\x0b\x12\x09\x02\x03a/b\x02\x00hi\x05\x00\x00\x08\x00\x08\x13\x06\x03\x04?a//",
        b"\x09\x00\x0b\x12\x09\x02\x03a/b\x02\x00hi\x09\x00\x0b\x14\x09\x04\x04?a//\x00\x00\x01\x04\x00\x00\x05\x00\x00\x03\x00\xff",
        b"\x08\x01\x2b{\"op\":\"subscribe\",\"id\":1,\"selector\":\"?a//\"}\x09\x00\x0a\x11\x08\x02\x03a/b\x02hi\x05\x01\x00\x02\x01\x00",
        b"\x06\x00\x00\x09\x02\x09\x18\x07\x01\x04?a//\x00\x09\x02\x02\x04\x00\x09\x00\x0b\x12\x09\x02\x03a/c\x02\x00hi\x05\x02\x00",
        b"\x00\x00\x00\x01\x02\x1cGET /health HTTP/1.1\r\nA: b\r\n\x01\x02\x02\r\n\x05\x02\x00",
        b"\x0b\x00\x08YW5uOnB3\x03\x00\x10\x0a\x00\x02\x00\x00\x05\x02\x00\x0b\x00\x03a.b\x0a\x00\x01\x00\x05\x03\x00",
    ] as [&[u8]; 6]);
    run(shard::shard, &corpus);
}
